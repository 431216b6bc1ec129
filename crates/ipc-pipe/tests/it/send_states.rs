//! What a `try_send` or `send_timeout` leaves behind: nothing, or a rest that goes first.

use std::io::Read;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_core::handle;
use ipc_core::{Classify, ErrorKind};
use ipc_os::socket::{self, Mode};
use ipc_pipe::{Duplex, Receiver, RecvError, SendError, Sender, duplex, pipe};
use ipc_testkit::data::text;
use ipc_testkit::processes::alone;
use ipc_testkit::watchdog;

use crate::tools::{SOME_TIME, Shared};

/// A pipe of one page that is exactly full with one message.
fn full() -> (Sender<String>, Receiver<String>) {
    let (mut tx, rx) = pipe::<String>().unwrap();
    let capacity = tx.set_capacity(4096).unwrap();
    assert_eq!(capacity, 4096);
    tx.send_bytes(&vec![1; capacity - 8]).unwrap();
    (tx, rx)
}

#[test]
fn full_means_that_nothing_was_sent() {
    let _watchdog = watchdog("full");
    let (mut tx, mut rx) = full();
    for _ in 0..3 {
        let error = tx.try_send(&"not sent".to_owned()).unwrap_err();
        assert!(matches!(error, SendError::Full), "{error}");
        assert_eq!(error.kind(), ErrorKind::Full);
        assert!(!tx.has_begun());
    }
    let start = Instant::now();
    let error = tx.send_timeout(&"not sent".to_owned(), SOME_TIME).unwrap_err();
    assert!(matches!(error, SendError::Timeout), "{error}");
    assert!(start.elapsed() >= SOME_TIME && !tx.has_begun());

    assert_eq!(rx.recv_bytes().unwrap().len(), 4088);
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
    tx.try_send(&"sent".to_owned()).unwrap();
    assert_eq!(rx.recv().unwrap(), "sent");
}

#[test]
fn send_timeout_sends_when_room_comes_in_time() {
    let _watchdog = watchdog("room in time");
    let (mut tx, mut rx) = full();
    let sender = std::thread::spawn(move || tx.send_timeout(&"in time".to_owned(), Duration::from_secs(50)));
    std::thread::sleep(SOME_TIME);
    rx.recv_bytes().unwrap();
    assert_eq!(rx.recv().unwrap(), "in time");
    sender.join().unwrap().unwrap();
}

/// What a carrier does with a message that it cannot take as a whole.
fn begun_keeps_the_rest(mut tx: Sender<String>, mut rx: Receiver<String>, timed: bool) {
    let long = text(3 << 20);
    let sent = if timed { tx.send_timeout(&long, SOME_TIME) } else { tx.try_send(&long) };
    let Err(SendError::Begun { left }) = sent else { panic!("{sent:?}") };
    assert!(left > 0 && left < long.len() && tx.has_begun());

    // Nothing of another message goes before the rest.
    assert!(matches!(tx.try_send(&"lost".to_owned()), Err(SendError::Full)));
    assert!(matches!(tx.send_timeout(&"lost".to_owned(), SOME_TIME), Err(SendError::Timeout)));
    assert!(tx.has_begun());
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)), "it is not here whole");

    // The rest goes first, with the next send or a flush.
    let receiver = std::thread::spawn(move || {
        let received: Vec<String> = rx.iter().collect();
        (received, rx.recv())
    });
    if timed {
        tx.flush().unwrap();
        assert!(!tx.has_begun());
    }
    tx.send(&"next".to_owned()).unwrap();
    assert!(!tx.has_begun());
    drop(tx);
    let (received, end) = receiver.join().unwrap();
    assert!(received == [long, "next".to_owned()]);
    assert!(matches!(end, Err(RecvError::Disconnected)));
}

#[test]
fn begun_keeps_the_rest_over_a_pipe() {
    let _watchdog = watchdog("begun, pipe");
    for timed in [false, true] {
        let (tx, rx) = pipe().unwrap();
        begun_keeps_the_rest(tx, rx, timed);
    }
}

#[test]
fn begun_keeps_the_rest_over_a_duplex() {
    let _watchdog = watchdog("begun, duplex");
    for timed in [false, true] {
        let (a, b) = duplex::<String, String>().unwrap();
        let (tx, _keep) = a.split().unwrap();
        let (_keep, rx) = b.split().unwrap();
        begun_keeps_the_rest(tx, rx, timed);
    }
}

#[test]
fn a_rest_that_never_goes_is_a_cut_off_message() {
    let (mut tx, mut rx) = pipe::<String>().unwrap();
    let Err(SendError::Begun { left }) = tx.try_send(&text(1 << 20)) else { panic!() };
    drop(tx);
    let Err(RecvError::Truncated { missing }) = rx.recv() else { panic!() };
    assert_eq!(missing, left);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn a_rest_that_nobody_wants_is_disconnected() {
    alone(|| {
        let (mut tx, rx) = pipe::<String>().unwrap();
        assert!(matches!(tx.try_send(&text(1 << 20)), Err(SendError::Begun { .. })));
        drop(rx);
        assert!(matches!(tx.flush(), Err(SendError::Disconnected)));
        assert!(matches!(tx.send(&text(1)), Err(SendError::Disconnected)));
    });
}

#[test]
fn try_send_without_a_reader_is_disconnected() {
    alone(|| {
        let (mut tx, rx) = pipe::<u8>().unwrap();
        drop(rx);
        assert!(matches!(tx.try_send(&1), Err(SendError::Disconnected)));
        assert!(matches!(tx.send_timeout(&1, SOME_TIME), Err(SendError::Disconnected)));
        let (mut a, b) = duplex::<u8, u8>().unwrap();
        drop(b);
        assert!(matches!(a.try_send(&1), Err(SendError::Disconnected)));
    });
}

type Ends = Vec<Receiver<u32>>;

/// Fills a socket, and makes room again for one system call's worth: a message that takes several begins.
fn room_for_one_call<A, B>(tx: &mut Duplex<A, B>, rx: &mut Duplex<B, A>) -> usize {
    let mut frames = 0;
    // What a `send_bytes(b"")` sends, without waiting: the eight bytes of an empty frame.
    let empty = ipc_core::frame::Header::new(ipc_core::frame::FrameKind::Bytes, 0, 0, 0).unwrap().to_bytes();
    loop {
        match socket::send(tx.as_fd(), &empty, Mode::Try) {
            Ok(count) => assert_eq!(count, empty.len()),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                break;
            }
        }
        frames += 1;
    }
    let mut one = [0; 8];
    rx.both().1.raw().read_exact(&mut one).unwrap();
    assert_eq!(one, empty);
    frames - 1
}

#[test]
fn a_message_of_more_than_253_handles_that_has_begun_arrives_with_all_of_them() {
    let _watchdog = watchdog("begun, many handles");
    alone(|| {
        let (mut tx, mut rx) = duplex::<Ends, ()>().unwrap();
        let mut writers = Vec::new();
        let mut ends = Vec::new();
        for n in 0..600 {
            let (mut writer, end) = pipe::<u32>().unwrap();
            writer.send(&n).unwrap();
            writers.push(writer);
            ends.push(end);
        }
        let fillers = room_for_one_call(&mut tx, &mut rx);
        let sent = tx.try_send(&ends);
        assert!(matches!(sent, Err(SendError::Begun { .. })), "{sent:?}");
        // They have moved, those that have not gone out included.
        for end in &mut ends {
            assert!(matches!(end.try_recv(), Err(RecvError::Moved)));
        }
        assert!(matches!(tx.try_send(&Vec::new()), Err(SendError::Full)), "nothing of the next one");

        for _ in 0..fillers {
            assert_eq!(rx.recv_bytes().unwrap(), b"");
        }
        assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
        tx.flush().unwrap();
        let arrived = rx.recv().unwrap();
        assert_eq!(arrived.len(), 600);
        for (n, mut end) in (0..).zip(arrived) {
            assert_eq!(end.recv().unwrap(), n);
        }
        // Nobody reads from any of the pipes now, though the moved values are still here.
        for writer in &mut writers {
            assert!(matches!(writer.send(&1), Err(SendError::Disconnected)));
        }
        assert_eq!(ends.len(), 600);
    });
}

#[test]
fn a_message_of_handles_that_is_full_has_moved_none() {
    let _watchdog = watchdog("full, handles");
    alone(|| {
        let (mut tx, mut rx) = duplex::<Ends, ()>().unwrap();
        let fillers = room_for_one_call(&mut tx, &mut rx);
        tx.send_bytes(b"").unwrap();
        let (mut writer, end) = pipe::<u32>().unwrap();
        let mut ends = vec![end];
        assert!(matches!(tx.try_send(&ends), Err(SendError::Full)));
        assert!(matches!(tx.send_timeout(&ends, SOME_TIME), Err(SendError::Timeout)));
        writer.send(&5).unwrap();
        assert_eq!(ends[0].recv().unwrap(), 5, "still ours");
        for _ in 0..=fillers {
            rx.recv_bytes().unwrap();
        }
        tx.try_send(&ends).unwrap();
        writer.send(&6).unwrap();
        assert_eq!(rx.recv().unwrap()[0].recv().unwrap(), 6);
        assert!(matches!(ends[0].recv(), Err(RecvError::Moved)));
    });
}

#[test]
fn more_handles_than_a_message_may_have_are_refused() {
    let (mut tx, mut rx) = duplex::<Vec<Shared>, ()>().unwrap();
    let one = Shared::null();
    let same = |count| -> Vec<Shared> { (0..count).map(|_| Shared(Arc::clone(&one.0))).collect() };
    // The same descriptor many times travels once.
    tx.send(&same(handle::HANDLES_MAX + 1)).unwrap();
    let arrived = rx.recv().unwrap();
    assert_eq!(arrived.len(), handle::HANDLES_MAX + 1);
    assert!(arrived.iter().all(|shared| Arc::ptr_eq(&shared.0, &arrived[0].0)));

    let different: Vec<Shared> = (0..=handle::HANDLES_MAX).map(|_| Shared::null()).collect();
    let error = tx.send(&different).unwrap_err();
    assert!(matches!(&error, SendError::Encode(why) if why.to_string().contains("4096")), "{error:?}");
    tx.send(&same(1)).unwrap();
    assert_eq!(rx.recv().unwrap().len(), 1);
}
