//! Peers that are killed, with SIGKILL, at the worst moments.

use std::io::Write;
use std::time::Duration;

use ipc_core::frame::{FrameKind, Header};
use ipc_pipe::{Duplex, Receiver, RecvError, SendError, Sender, duplex, pipe};
use ipc_process::Process;
use ipc_testkit::data::text;
use ipc_testkit::processes::{assert_killed, die};
use ipc_testkit::watchdog;

/// Sends a whole message, and then so many bytes of a frame of 100,008.
fn begin_and_die(tx: &mut Sender<String>, bytes: usize) {
    tx.send(&"whole".to_owned()).unwrap();
    let mut frame = Header::new(FrameKind::Bytes, 100_000, 0, 100_000).unwrap().to_bytes().to_vec();
    frame.resize(100_008, 5);
    tx.raw().write_all(&frame[..bytes]).unwrap();
    die()
}

fn begin_over_a_pipe_and_die(mut tx: Sender<String>, bytes: usize) {
    begin_and_die(&mut tx, bytes)
}

/// How many bytes of the frame went out, and how many are missing, as far as can be known.
const CUTS: [(usize, usize); 6] = [(1, 7), (7, 1), (8, 100_000), (9, 99_999), (40_000, 60_008), (100_007, 1)];

#[test]
fn a_writer_killed_in_mid_message_over_a_pipe() {
    let _watchdog = watchdog("cut, pipe");
    for (bytes, missing) in CUTS {
        let (tx, mut rx) = pipe::<String>().unwrap();
        let child = Process::spawn(begin_over_a_pipe_and_die, (tx, bytes)).unwrap();
        assert_eq!(rx.recv().unwrap(), "whole");
        match rx.recv() {
            Err(RecvError::Truncated { missing: m }) => assert_eq!(m, missing, "after {bytes}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
        assert_killed(child);
    }
}

#[test]
fn a_writer_killed_in_mid_message_over_a_duplex() {
    let _watchdog = watchdog("cut, duplex");
    fn child(mut end: Duplex<String, String>, bytes: usize) {
        begin_and_die(end.both().0, bytes)
    }
    // With and without something unread at the writer, which makes the end of the stream a reset.
    for ((bytes, missing), unread) in CUTS.into_iter().zip([false, true].into_iter().cycle()) {
        let (mut ours, theirs) = duplex::<String, String>().unwrap();
        if unread {
            ours.send(&"never read".to_owned()).unwrap();
        }
        let child = Process::spawn(child, (theirs, bytes)).unwrap();
        assert_eq!(ours.recv().unwrap(), "whole");
        match ours.recv() {
            Err(RecvError::Truncated { missing: m }) => assert_eq!(m, missing, "after {bytes}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(ours.recv(), Err(RecvError::Disconnected)));
        assert!(matches!(ours.send(&text(1)), Err(SendError::Disconnected)));
        assert_killed(child);
    }
}

#[test]
fn a_writer_killed_while_bytes_are_received_to_their_place() {
    let _watchdog = watchdog("cut, into");
    for (bytes, missing) in CUTS {
        let (tx, mut rx) = pipe::<String>().unwrap();
        let child = Process::spawn(begin_over_a_pipe_and_die, (tx, bytes)).unwrap();
        assert_eq!(rx.recv().unwrap(), "whole");
        let mut buf = vec![0xEE; 200_000];
        match rx.recv_bytes_into(&mut buf) {
            Err(RecvError::Truncated { missing: m }) => assert_eq!(m, missing, "after {bytes}"),
            other => panic!("{other:?}"),
        }
        assert!(buf[100_000..].iter().all(|byte| *byte == 0xEE));
        assert!(matches!(rx.recv_bytes_into(&mut buf), Err(RecvError::Disconnected)));
        assert_killed(child);
    }
}

#[test]
fn a_reader_killed_between_messages() {
    let _watchdog = watchdog("killed reader");
    fn take(mut rx: Receiver<u32>, count: u32) {
        (0..count).for_each(|n| assert_eq!(rx.recv().unwrap(), n));
        die()
    }
    for count in [0, 1, 100] {
        let (mut tx, rx) = pipe::<u32>().unwrap();
        let child = Process::spawn(take, (rx, count)).unwrap();
        let mut sent = 0;
        let error = loop {
            match tx.send(&sent) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, SendError::Disconnected), "{error}");
        assert!(sent >= count);
        assert!(matches!(tx.send(&0), Err(SendError::Disconnected)));
        assert_killed(child);
    }
}

#[test]
fn a_reader_killed_while_a_long_message_waits_for_it() {
    let _watchdog = watchdog("killed reader, long message");
    fn take_some(mut end: Duplex<(), String>) {
        // A part of the long message only.
        assert!(matches!(end.recv_timeout(Duration::from_millis(50)), Err(RecvError::Timeout)));
        die()
    }
    fn take_some_of_pipe(mut rx: Receiver<String>) {
        assert!(matches!(rx.recv_timeout(Duration::from_millis(50)), Err(RecvError::Timeout)));
        die()
    }
    // The message is never whole: it ends with bytes that are not sent.
    let frame = || {
        let mut frame = Header::new(FrameKind::Message, 60 << 20, 0, 64 << 20).unwrap().to_bytes().to_vec();
        frame.resize(50 << 20, 5);
        frame
    };
    let (mut tx, theirs) = duplex::<String, ()>().unwrap();
    let child = Process::spawn(take_some, (theirs,)).unwrap();
    assert_eq!(
        tx.both().0.raw().write_all(&frame()).and_then(|()| wait_for_the_end(&mut tx)).unwrap_err().kind(),
        std::io::ErrorKind::BrokenPipe
    );
    assert!(matches!(tx.send(&text(1)), Err(SendError::Disconnected)));
    assert_killed(child);

    let (mut tx, rx) = pipe::<String>().unwrap();
    let child = Process::spawn(take_some_of_pipe, (rx,)).unwrap();
    let mut written = tx.raw().write_all(&frame());
    while written.is_ok() {
        written = tx.raw().write_all(&[5]);
    }
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    assert!(matches!(tx.send(&text(1)), Err(SendError::Disconnected)));
    assert_killed(child);
}

fn wait_for_the_end(tx: &mut Duplex<String, ()>) -> std::io::Result<()> {
    loop {
        tx.both().0.raw().write_all(&[5])?;
    }
}

#[test]
fn a_blocked_send_ends_when_its_reader_is_killed() {
    let _watchdog = watchdog("blocked send");
    fn ask_and_sleep(mut asks: Sender<()>, rx: Receiver<String>) {
        asks.send(&()).unwrap();
        std::thread::sleep(Duration::from_secs(1000));
        drop(rx);
    }
    let (asks, mut asked) = pipe::<()>().unwrap();
    let (mut tx, rx) = pipe::<String>().unwrap();
    let child = Process::spawn(ask_and_sleep, (asks, rx)).unwrap();
    asked.recv().unwrap();
    let sender = std::thread::spawn(move || {
        let sent = tx.send(&text(1 << 20));
        (sent, tx.send(&text(1)))
    });
    // Most likely it waits by now; if not, it fails all the same.
    std::thread::sleep(Duration::from_millis(50));
    child.kill().unwrap();
    let (sent, next) = sender.join().unwrap();
    assert!(matches!(sent, Err(SendError::Disconnected)), "{sent:?}");
    assert!(matches!(next, Err(SendError::Disconnected)));
    assert_killed(child);
}

#[test]
fn a_blocked_receive_ends_when_its_writer_is_killed() {
    let _watchdog = watchdog("blocked receive");
    fn sleep(tx: Sender<u8>, end: Duplex<u8, u8>) {
        std::thread::sleep(Duration::from_secs(1000));
        drop((tx, end));
    }
    let (tx, mut rx) = pipe::<u8>().unwrap();
    let (mut ours, theirs) = duplex::<u8, u8>().unwrap();
    let child = Process::spawn(sleep, (tx, theirs)).unwrap();
    let receivers = [
        std::thread::spawn(move || matches!(rx.recv(), Err(RecvError::Disconnected))),
        std::thread::spawn(move || matches!(ours.recv(), Err(RecvError::Disconnected))),
    ];
    std::thread::sleep(Duration::from_millis(50));
    child.kill().unwrap();
    for receiver in receivers {
        assert!(receiver.join().unwrap());
    }
    assert_killed(child);
}

#[test]
fn what_was_sent_before_the_death_can_be_received() {
    let _watchdog = watchdog("sent before death");
    fn send_and_die(mut end: Duplex<u32, u32>) {
        (0..100).for_each(|n| end.send(&n).unwrap());
        die()
    }
    let (mut ours, theirs) = duplex::<u32, u32>().unwrap();
    ours.send(&1).unwrap();
    let child = Process::spawn(send_and_die, (theirs,)).unwrap();
    assert_killed(child);
    assert!(ours.iter().eq(0..100), "though it had something unread itself");
    assert!(matches!(ours.recv(), Err(RecvError::Disconnected)));
}
