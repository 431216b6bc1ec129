//! Raw bytes beside messages.

use std::io::{self, Read, Write};

use ipc_core::frame::{FrameKind, Header};
use ipc_pipe::{RecvError, SendError, duplex, pipe};
use ipc_testkit::data::{pattern, text};
use ipc_testkit::processes::alone;
use ipc_testkit::watchdog;

#[test]
fn raw_reads_begin_with_what_was_read_ahead() {
    let (mut tx, mut rx) = pipe::<u8>().unwrap();
    // One read takes both messages and the raw bytes behind them.
    tx.send_all([1, 2]).unwrap();
    tx.raw().write_all(b"plain bytes").unwrap();
    assert_eq!(rx.recv().unwrap(), 1);
    assert_eq!(rx.recv().unwrap(), 2);
    let mut buf = [0; 5];
    rx.raw().read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"plain");
    let mut buf = [0; 6];
    rx.raw().read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b" bytes");
    // Frames again, in the middle of a read, too.
    tx.raw().write_all(b"x").unwrap();
    tx.send(&3).unwrap();
    rx.raw().read_exact(&mut buf[..1]).unwrap();
    assert_eq!(rx.recv().unwrap(), 3);
    drop(tx);
    assert_eq!(rx.raw().read(&mut buf).unwrap(), 0);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn raw_writes_make_a_frame_like_any_other() {
    let _watchdog = watchdog("raw frames");
    let (mut tx, mut rx) = pipe::<()>().unwrap();
    let bytes = pattern(300_000);
    let header = Header::new(FrameKind::Bytes, bytes.len(), 0, 1 << 20).unwrap().to_bytes();
    let sender = std::thread::spawn({
        let bytes = bytes.clone();
        move || {
            tx.raw().write_all(&header).unwrap();
            for piece in bytes.chunks(777) {
                tx.raw().write_all(piece).unwrap();
            }
        }
    });
    let mut buf = vec![0; bytes.len() + 1];
    assert_eq!(rx.recv_bytes_into(&mut buf).unwrap(), bytes.len());
    assert!(buf[..bytes.len()] == bytes);
    sender.join().unwrap();
}

#[test]
fn the_rest_of_a_message_goes_before_raw_bytes() {
    let _watchdog = watchdog("raw behind a rest");
    let (mut tx, mut rx) = pipe::<String>().unwrap();
    assert!(matches!(tx.try_send(&text(100_000)), Err(SendError::Begun { .. })));
    let sender = std::thread::spawn(move || tx.raw().write_all(b"raw").unwrap());
    assert!(rx.recv().unwrap() == text(100_000));
    let mut raw = String::new();
    rx.raw().read_to_string(&mut raw).unwrap();
    assert_eq!(raw, "raw");
    sender.join().unwrap();
}

#[test]
fn raw_writes_tell_of_a_reader_that_is_gone() {
    alone(|| {
        let (mut tx, rx) = pipe::<String>().unwrap();
        drop(rx);
        assert_eq!(tx.raw().write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let (mut a, b) = duplex::<u8, u8>().unwrap();
        drop(b);
        assert_eq!(a.both().0.raw().write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(a.both().1.raw().read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn bytes_and_messages_stay_apart() {
    let (mut tx, mut rx) = pipe::<u8>().unwrap();
    tx.send(&1).unwrap();
    tx.send_bytes(b"two").unwrap();
    let wrong = rx.recv_bytes().unwrap_err();
    assert!(matches!(wrong, RecvError::WrongKind { sent: "send", receive: "recv" }), "{wrong}");
    assert!(matches!(rx.recv_bytes_into(&mut [0; 9]), Err(RecvError::WrongKind { .. })));
    assert_eq!(rx.recv().unwrap(), 1, "it stayed");
    assert!(matches!(rx.recv(), Err(RecvError::WrongKind { sent: "send_bytes", .. })));
    assert!(matches!(rx.try_recv(), Err(RecvError::WrongKind { .. })));
    assert_eq!(rx.recv_bytes().unwrap(), b"two");
}
