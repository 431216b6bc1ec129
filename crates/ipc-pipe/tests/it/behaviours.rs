//! Behaviours 15 to 29 of CPython's `multiprocessing` connections (27 is in `signals.rs`), each under its number.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_core::frame::{FrameKind, Header};
use ipc_pipe::{Duplex, Receiver, RecvError, Sender, duplex, pipe};
use ipc_process::Process;
use ipc_testkit::data::{pattern, text};
use ipc_testkit::processes::{alone, assert_killed, die};
use ipc_testkit::watchdog;

use crate::tools::{SOME_TIME, Shared};

fn echo(mut rx: Receiver<String>, mut tx: Sender<String>) {
    while let Ok(message) = rx.recv() {
        tx.send(&message).unwrap();
    }
}

fn echo_duplex(mut end: Duplex<String, String>) {
    while let Ok(message) = end.recv() {
        end.send(&message).unwrap();
    }
}

fn echo_bytes(mut end: Duplex<(), ()>) {
    while let Ok(bytes) = end.recv_bytes() {
        end.send_bytes(&bytes).unwrap();
    }
}

const SIZES: [usize; 4] = [0, 1, 1000, 16 << 20];

#[test]
fn b15_echo_of_empty_small_and_16_mib_messages() {
    let _watchdog = watchdog("b15");
    let (mut tx, theirs) = pipe::<String>().unwrap();
    let (their_tx, mut rx) = pipe::<String>().unwrap();
    let over_pipes = Process::spawn(echo, (theirs, their_tx)).unwrap();
    let (mut ours, theirs) = duplex::<String, String>().unwrap();
    let over_duplex = Process::spawn(echo_duplex, (theirs,)).unwrap();
    for size in SIZES {
        let message = text(size);
        tx.send(&message).unwrap();
        assert!(rx.recv().unwrap() == message, "{size} over pipes");
        ours.send(&message).unwrap();
        assert!(ours.recv().unwrap() == message, "{size} over a duplex");
    }
    drop((tx, ours));
    over_pipes.join().unwrap();
    over_duplex.join().unwrap();
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn b15_echo_of_empty_small_and_16_mib_bytes() {
    let _watchdog = watchdog("b15 bytes");
    let (mut ours, theirs) = duplex::<(), ()>().unwrap();
    let child = Process::spawn(echo_bytes, (theirs,)).unwrap();
    for size in SIZES {
        let bytes = pattern(size);
        ours.send_bytes(&bytes).unwrap();
        assert!(ours.recv_bytes().unwrap() == bytes, "{size}");
    }
    drop(ours);
    child.join().unwrap();
}

#[test]
fn b17_too_small_a_buffer_is_an_error_that_carries_the_whole_message() {
    let (mut tx, mut rx) = pipe::<()>().unwrap();
    for size in [27, 300_000] {
        let bytes = pattern(size);
        let sender = std::thread::spawn({
            let bytes = bytes.clone();
            move || {
                tx.send_bytes(&bytes).unwrap();
                tx.send_bytes(b"next").unwrap();
                tx
            }
        });
        let mut buf = [9; 26];
        match rx.recv_bytes_into(&mut buf) {
            Err(RecvError::TooSmall { message, capacity: 26 }) => assert!(message == bytes),
            other => panic!("{other:?}"),
        }
        assert_eq!(buf, [9; 26], "untouched");
        assert_eq!(rx.recv_bytes_into(&mut buf).unwrap(), 4, "the stream goes on behind it");
        assert_eq!(&buf[..4], b"next");
        tx = sender.join().unwrap();
    }
}

#[test]
fn b18_receiving_into_a_place_leaves_the_rest_untouched() {
    let (mut tx, mut rx) = pipe::<()>().unwrap();
    let mut buf = vec![0xEE; 300_000];
    for (at, size) in [(0, 0), (3, 10), (100, 4096), (7, 250_000)] {
        buf.fill(0xEE);
        let bytes = pattern(size);
        let sender = std::thread::spawn({
            let bytes = bytes.clone();
            move || {
                tx.send_bytes(&bytes).unwrap();
                tx
            }
        });
        assert_eq!(rx.recv_bytes_into(&mut buf[at..]).unwrap(), size);
        assert!(buf[at..at + size] == bytes, "{size} at {at}");
        assert!(buf[..at].iter().chain(&buf[at + size..]).all(|byte| *byte == 0xEE), "{size} at {at}");
        tx = sender.join().unwrap();
    }
}

#[test]
fn b19_poll_with_zero_is_immediate_and_with_a_time_waits_for_it() {
    let _watchdog = watchdog("b19");
    let (mut tx, mut rx) = pipe::<u8>().unwrap();
    assert!(!rx.poll(Duration::ZERO).unwrap());
    let start = Instant::now();
    assert!(!rx.poll(SOME_TIME).unwrap());
    assert!(start.elapsed() >= SOME_TIME);
    tx.send(&1).unwrap();
    assert!(rx.poll(Duration::ZERO).unwrap());
    // The watchdog would not wait for this one.
    assert!(rx.poll(Duration::MAX).unwrap());
    rx.recv().unwrap();
    drop(tx);
    assert!(rx.poll(Duration::MAX).unwrap(), "the end of the stream is news, too");
}

#[test]
fn b20_polls_consume_nothing() {
    let (mut tx, mut rx) = pipe::<u8>().unwrap();
    tx.send(&1).unwrap();
    tx.send(&2).unwrap();
    drop(tx);
    for _ in 0..10 {
        assert!(rx.poll(Duration::ZERO).unwrap());
    }
    assert_eq!(rx.recv().unwrap(), 1);
    assert!(rx.poll(Duration::ZERO).unwrap());
    assert_eq!(rx.recv().unwrap(), 2);
    assert!(rx.poll(Duration::MAX).unwrap());
    for _ in 0..3 {
        assert!(rx.poll(Duration::ZERO).unwrap());
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    }
}

#[test]
fn b20_polls_do_not_swallow_a_cut_off_message() {
    let (mut tx, mut rx) = pipe::<u8>().unwrap();
    let header = Header::new(FrameKind::Message, 5, 0, 5).unwrap().to_bytes();
    tx.raw().write_all(&header).unwrap();
    assert!(!rx.poll(Duration::ZERO).unwrap(), "a header is no message");
    drop(tx);
    assert!(rx.poll(Duration::MAX).unwrap());
    for _ in 0..3 {
        assert!(rx.poll(Duration::ZERO).unwrap());
    }
    assert!(matches!(rx.recv(), Err(RecvError::Truncated { missing: 5 })));
}

#[test]
fn b21_an_empty_message_is_seen_by_poll_and_received_as_empty() {
    let (mut tx, mut rx) = pipe::<()>().unwrap();
    tx.send(&()).unwrap();
    tx.send_bytes(b"").unwrap();
    tx.send_bytes(b"").unwrap();
    assert!(rx.poll(Duration::ZERO).unwrap());
    rx.recv().unwrap();
    assert!(rx.poll(Duration::ZERO).unwrap());
    assert_eq!(rx.recv_bytes().unwrap(), b"");
    assert!(rx.poll(Duration::ZERO).unwrap());
    assert_eq!(rx.recv_bytes_into(&mut []).unwrap(), 0);
    assert!(!rx.poll(Duration::ZERO).unwrap());
}

/// Sizes around everything that could be a boundary inside.
fn sizes() -> impl Iterator<Item = usize> {
    (0..40).chain([4087, 4088, 4089, 8183, 8184, 8185, 65_527, 65_528, 65_529, 200_000, 3, 0, 1])
}

#[test]
fn b22_consecutive_messages_never_merge() {
    let _watchdog = watchdog("b22");
    fn send_all_sizes(mut tx: Sender<String>) {
        for size in sizes() {
            tx.send(&text(size)).unwrap();
            tx.send_bytes(&pattern(size)).unwrap();
        }
    }
    let (tx, mut rx) = pipe::<String>().unwrap();
    let child = Process::spawn(send_all_sizes, (tx,)).unwrap();
    for size in sizes() {
        assert!(rx.recv().unwrap() == text(size), "{size}");
        assert!(rx.recv_bytes().unwrap() == pattern(size), "{size}");
    }
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    child.join().unwrap();
}

fn send_and_leave(mut tx: Sender<u32>, cut: bool) {
    tx.send(&1).unwrap();
    if cut {
        let header = Header::new(FrameKind::Message, 100, 0, 100).unwrap().to_bytes();
        tx.raw().write_all(&header).unwrap();
        tx.raw().write_all(&[0; 40]).unwrap();
    }
    die()
}

#[test]
fn b24_a_closed_peer_and_a_cut_off_message_are_different_errors() {
    let _watchdog = watchdog("b24");
    for cut in [false, true] {
        let (tx, mut rx) = pipe::<u32>().unwrap();
        let child = Process::spawn(send_and_leave, (tx, cut)).unwrap();
        assert_eq!(rx.recv().unwrap(), 1);
        if cut {
            assert!(matches!(rx.recv(), Err(RecvError::Truncated { missing: 60 })));
        }
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)), "{cut}");
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)), "it stays so");
        assert_killed(child);
    }
}

#[test]
fn b25_the_parents_copy_of_a_childs_end_needs_no_closing() {
    let _watchdog = watchdog("b25");
    type Ends = (Receiver<String>, Sender<String>);
    fn echo_over(mut from: Duplex<(), Ends>) {
        let (rx, tx) = from.recv().unwrap();
        echo(rx, tx);
    }
    // Arguments of a spawn are its own; what is sent by reference can be kept or dropped, at any time.
    for keep in [false, true] {
        let (mut tx, theirs) = pipe::<String>().unwrap();
        let (their_tx, mut rx) = pipe::<String>().unwrap();
        let (mut through, from) = duplex::<Ends, ()>().unwrap();
        let child = Process::spawn(echo_over, (from,)).unwrap();
        let ends = (theirs, their_tx);
        through.send(&ends).unwrap();
        let kept = keep.then_some(ends);
        tx.send(&"over there".to_owned()).unwrap();
        assert_eq!(rx.recv().unwrap(), "over there");
        drop(tx);
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)), "kept: {}", kept.is_some());
        child.join().unwrap();
    }
}

#[test]
fn b26_polling_never_eats_part_of_a_message() {
    let _watchdog = watchdog("b26");
    fn poll_until_all_came(mut rx: Receiver<String>, mut asks: Sender<()>) -> (u32, Vec<String>) {
        let (mut polls, mut messages) = (0, Vec::new());
        loop {
            asks.send(&()).unwrap();
            polls += 1;
            if rx.poll(Duration::from_millis(1)).unwrap() {
                match rx.try_recv() {
                    Ok(message) => messages.push(message),
                    Err(RecvError::Disconnected) => return (polls, messages),
                    Err(error) => panic!("{error}"),
                }
            } else {
                assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
            }
        }
    }
    let (mut tx, theirs) = pipe::<String>().unwrap();
    let (asks, mut asked) = pipe::<()>().unwrap();
    let child = Process::spawn(poll_until_all_came, (theirs, asks)).unwrap();
    // Two messages, in pieces: one for each poll.
    let mut stream = Vec::new();
    for message in [text(40), text(20)] {
        let payload_len = message.len() + 1;
        stream.extend(Header::new(FrameKind::Message, payload_len, 0, 100).unwrap().to_bytes());
        stream.push(message.len() as u8);
        stream.extend(message.as_bytes());
    }
    for piece in stream.chunks(7) {
        asked.recv().unwrap();
        tx.raw().write_all(piece).unwrap();
    }
    drop(tx);
    while asked.recv().is_ok() {}
    let (polls, messages) = child.join().unwrap();
    assert_eq!(messages, [text(40), text(20)]);
    assert!(polls as usize > stream.len() / 7, "{polls}");
}

#[test]
fn b28_descriptor_numbers_above_256_travel() {
    let _watchdog = watchdog("b28");
    alone(|| {
        // Everything below 300 is taken.
        let filler: Vec<OwnedFd> =
            (0..300).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect();
        let (mut ours, mut theirs) = duplex::<Receiver<u32>, u8>().unwrap();
        let (mut tx, rx) = pipe::<u32>().unwrap();
        assert!(rx.as_fd().as_raw_fd() > 256 && ours.as_fd().as_raw_fd() > 256);
        tx.send(&7).unwrap();
        ours.send(&rx).unwrap();
        let mut rx = theirs.recv().unwrap();
        assert!(rx.as_fd().as_raw_fd() > 256);
        assert_eq!(rx.recv().unwrap(), 7);
        // To another process, too.
        let child = Process::spawn(|mut rx: Receiver<u32>| rx.recv().unwrap(), (rx,)).unwrap();
        tx.send(&8).unwrap();
        assert_eq!(child.join().unwrap(), 8);
        drop(filler);
    });
}

#[test]
fn b28_a_missing_descriptor_is_an_error() {
    let (mut tx, mut rx) = duplex::<Shared, Shared>().unwrap();
    let header = Header::new(FrameKind::Message, 3, 2, 100).unwrap().to_bytes();
    tx.both().0.raw().write_all(&header).unwrap();
    tx.both().0.raw().write_all(&[1, 2, 3]).unwrap();
    assert!(matches!(rx.recv(), Err(RecvError::MissingHandles { announced: 2, arrived: 0 })));
    tx.send(&Shared::null()).unwrap();
    rx.recv().unwrap();
}

#[test]
fn b29_ends_and_sockets_travel_through_a_duplex() {
    let _watchdog = watchdog("b29");
    type Ends = (Sender<String>, Receiver<String>, Duplex<u8, u16>, Shared);
    fn use_them(mut from: Duplex<(), Ends>) {
        let (mut tx, mut rx, mut duplex, socket) = from.recv().unwrap();
        tx.send(&rx.recv().unwrap()).unwrap();
        let asked = duplex.recv().unwrap();
        duplex.send(&u8::try_from(asked + 1).unwrap()).unwrap();
        let mut socket = UnixStream::from(Arc::into_inner(socket.0).unwrap());
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        socket.write_all(&[byte[0] * 2]).unwrap();
    }
    let (mut through, theirs) = duplex::<Ends, ()>().unwrap();
    let child = Process::spawn(use_them, (theirs,)).unwrap();

    let (tx, mut back) = pipe().unwrap();
    let (mut there, rx) = pipe().unwrap();
    let (mut asking, answering) = duplex::<u16, u8>().unwrap();
    let (mut socket, theirs) = UnixStream::pair().unwrap();
    through.send(&(tx, rx, answering, Shared(Arc::new(theirs.into())))).unwrap();
    there.send(&"to and fro".to_owned()).unwrap();
    assert_eq!(back.recv().unwrap(), "to and fro");
    asking.send(&4).unwrap();
    assert_eq!(asking.recv().unwrap(), 5);
    socket.write_all(&[21]).unwrap();
    let mut byte = [0];
    socket.read_exact(&mut byte).unwrap();
    assert_eq!(byte, [42]);
    child.join().unwrap();
}
