//! Messages larger than the pipe, limits, capacity, time-outs of receives, receiving to the exact place, threads.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipc_core::frame::{FrameError, FrameKind, Header};
use ipc_core::{Classify, DecodeError, ErrorKind, Limits};
use ipc_pipe::{Duplex, Receiver, RecvError, SendError, Sender, duplex, pipe};
use ipc_process::Process;
use ipc_testkit::data::{pattern, text};
use ipc_testkit::processes::alone;
use ipc_testkit::{PATIENCE, watchdog};

use crate::tools::SOME_TIME;

#[test]
fn messages_pass_whatever_the_size_of_the_pipe() {
    let _watchdog = watchdog("larger than the pipe");
    fn produce(mut tx: Sender<String>) {
        for size in [1, 4096, 5000, 100_000, 3 << 20] {
            tx.send(&text(size)).unwrap();
            tx.send_bytes(&pattern(size)).unwrap();
        }
    }
    for capacity in [4096, 1 << 20] {
        let (mut tx, mut rx) = pipe::<String>().unwrap();
        assert_eq!(tx.set_capacity(capacity).unwrap(), capacity);
        assert_eq!(tx.capacity().unwrap(), capacity);
        let child = Process::spawn(produce, (tx,)).unwrap();
        for size in [1, 4096, 5000, 100_000, 3 << 20] {
            assert!(rx.recv().unwrap() == text(size));
            assert!(rx.recv_bytes().unwrap() == pattern(size));
        }
        child.join().unwrap();
    }
}

#[test]
fn a_capacity_below_what_is_in_the_pipe_is_refused() {
    let (mut tx, mut rx) = pipe::<()>().unwrap();
    tx.send_bytes(&[1; 30_000]).unwrap();
    assert_eq!(tx.set_capacity(4096).unwrap_err().kind(), std::io::ErrorKind::ResourceBusy);
    assert_eq!(rx.recv_bytes().unwrap().len(), 30_000);
}

#[test]
fn the_frame_limit_is_exact_at_the_sender() {
    let (mut tx, mut rx) = pipe::<String>().unwrap();
    tx.set_limits(Limits::new().frame_len_max(1000));
    // Two bytes of an encoded string of this size are its length.
    tx.send(&text(998)).unwrap();
    let error = tx.send(&text(999)).unwrap_err();
    assert!(matches!(error, SendError::Encode(_) | SendError::Frame(_)) && error.kind() == ErrorKind::Limit);
    tx.send_bytes(&pattern(1000)).unwrap();
    let error = tx.send_bytes(&pattern(1001)).unwrap_err();
    assert!(matches!(error, SendError::Frame(FrameError::TooLong { len: 1001, limit: 1000 })), "{error}");
    assert!(error.to_string().contains("frame_len_max"));
    drop(tx);
    assert_eq!(rx.recv().unwrap().len(), 998);
    assert_eq!(rx.recv_bytes().unwrap().len(), 1000);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)), "nothing of those that were refused");
}

#[test]
fn the_frame_limit_is_exact_at_the_receiver() {
    let (mut tx, mut rx) = pipe::<String>().unwrap();
    rx.set_limits(Limits::new().frame_len_max(1000));
    tx.send_bytes(&pattern(1000)).unwrap();
    tx.send_bytes(&pattern(1001)).unwrap();
    tx.send(&text(1)).unwrap();
    assert_eq!(rx.recv_bytes().unwrap().len(), 1000);
    for _ in 0..2 {
        // Nothing after it can be had either: it was not let in.
        let error = rx.recv_bytes().unwrap_err();
        assert!(matches!(error, RecvError::Frame(FrameError::TooLong { len: 1001, limit: 1000 })), "{error}");
    }
    assert!(matches!(rx.recv(), Err(RecvError::Frame(_))));
}

#[test]
fn the_default_frame_limit_is_reached() {
    let _watchdog = watchdog("64 MiB");
    let limit = Limits::default().frame_len_max;
    let (mut tx, mut rx) = pipe::<()>().unwrap();
    let sender = std::thread::spawn(move || {
        tx.send_bytes(&vec![7; limit]).unwrap();
        assert!(matches!(tx.send_bytes(&vec![7; limit + 1]), Err(SendError::Frame(_))));
        tx.send_bytes(b"end").unwrap();
    });
    let mut buf = vec![0; limit];
    assert_eq!(rx.recv_bytes_into(&mut buf).unwrap(), limit);
    assert!(buf.iter().all(|byte| *byte == 7));
    assert_eq!(rx.recv_bytes().unwrap(), b"end");
    sender.join().unwrap();
}

#[test]
fn what_does_not_decode_is_gone_and_the_next_is_not() {
    let (mut tx, mut rx) = pipe::<u64>().unwrap();
    // A number that goes on, and does not.
    tx.raw().write_all(&Header::new(FrameKind::Message, 1, 0, 9).unwrap().to_bytes()).unwrap();
    tx.raw().write_all(&[0x80]).unwrap();
    tx.send(&5).unwrap();
    let error = rx.recv().unwrap_err();
    assert!(matches!(error, RecvError::Decode(DecodeError::UnexpectedEnd)), "{error:?}");
    assert_eq!(rx.recv().unwrap(), 5);
}

#[test]
fn try_recv_and_recv_timeout_tell_nothing_from_something() {
    let _watchdog = watchdog("recv_timeout");
    let (mut tx, mut rx) = pipe::<String>().unwrap();
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
    let start = Instant::now();
    assert!(matches!(rx.recv_timeout(SOME_TIME), Err(RecvError::Timeout)));
    assert!(start.elapsed() >= SOME_TIME);
    assert!(matches!(rx.recv_timeout(Duration::ZERO), Err(RecvError::Timeout)));
    let message = Header::new(FrameKind::Message, 4, 0, 9).unwrap().to_bytes();
    tx.raw().write_all(&message).unwrap();
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
    tx.raw().write_all(b"\x03ab").unwrap();
    assert!(matches!(rx.recv_timeout(SOME_TIME), Err(RecvError::Timeout)));
    tx.raw().write_all(b"c").unwrap();
    assert_eq!(rx.try_recv().unwrap(), "abc", "nothing was lost of it");
    tx.send(&"next".to_owned()).unwrap();
    assert_eq!(rx.recv_timeout(Duration::MAX).unwrap(), "next");
    drop(tx);
    assert!(matches!(rx.recv_timeout(Duration::MAX), Err(RecvError::Disconnected)));
    assert!(matches!(rx.try_recv(), Err(RecvError::Disconnected)));
}

#[test]
fn recv_bytes_into_timeout_loses_nothing() {
    let _watchdog = watchdog("recv_bytes_into_timeout");
    let (mut tx, mut rx) = pipe::<()>().unwrap();
    let mut buf = [0xEE; 8];
    let start = Instant::now();
    assert!(matches!(rx.recv_bytes_into_timeout(&mut buf, SOME_TIME), Err(RecvError::Timeout)));
    assert!(start.elapsed() >= SOME_TIME);
    tx.raw().write_all(&Header::new(FrameKind::Bytes, 4, 0, 9).unwrap().to_bytes()).unwrap();
    tx.raw().write_all(b"ab").unwrap();
    assert!(matches!(rx.recv_bytes_into_timeout(&mut buf, SOME_TIME), Err(RecvError::Timeout)));
    assert_eq!(buf, [0xEE; 8]);
    tx.raw().write_all(b"cd").unwrap();
    assert_eq!(rx.recv_bytes_into_timeout(&mut buf, SOME_TIME).unwrap(), 4);
    assert_eq!(&buf, b"abcd\xEE\xEE\xEE\xEE");
}

#[test]
fn recv_bytes_into_takes_what_is_behind_it_for_the_next() {
    // The long message is read past the read-ahead, up to its end and not beyond.
    let _watchdog = watchdog("recv_bytes_into, order");
    let (mut tx, mut rx) = pipe::<u8>().unwrap();
    let sender = std::thread::spawn(move || {
        for round in 0..20 {
            tx.send(&round).unwrap();
            tx.send_bytes(&pattern(200_000 + usize::from(round))).unwrap();
            tx.send(&(round + 100)).unwrap();
        }
    });
    let mut buf = vec![0; 300_000];
    for round in 0..20 {
        assert_eq!(rx.recv().unwrap(), round);
        let len = rx.recv_bytes_into(&mut buf).unwrap();
        assert!(buf[..len] == pattern(200_000 + usize::from(round)));
        assert_eq!(rx.recv().unwrap(), round + 100);
    }
    sender.join().unwrap();
}

#[test]
fn recv_bytes_into_leaves_the_handles_of_the_next_message_alone() {
    let (mut a, mut b) = duplex::<Receiver<u8>, ()>().unwrap();
    let (mut tx, rx) = pipe::<u8>().unwrap();
    tx.send(&3).unwrap();
    a.send_bytes(b"first").unwrap();
    a.send_bytes(b"").unwrap();
    a.send(&rx).unwrap();
    let mut buf = [0; 5];
    assert_eq!(b.recv_bytes_into(&mut buf).unwrap(), 5);
    assert_eq!(b.recv_bytes_into(&mut buf).unwrap(), 0);
    assert_eq!(b.recv().unwrap().recv().unwrap(), 3);
}

#[test]
fn threads_share_ends_behind_locks() {
    let _watchdog = watchdog("threads");
    let (tx, rx) = pipe::<(u32, u32)>().unwrap();
    let (tx, rx) = (Arc::new(Mutex::new(tx)), Arc::new(Mutex::new(rx)));
    let senders: Vec<_> = (0..4)
        .map(|thread| {
            let tx = Arc::clone(&tx);
            std::thread::spawn(move || {
                for n in 0..2000 {
                    tx.lock().unwrap().send(&(thread, n)).unwrap();
                }
            })
        })
        .collect();
    drop(tx);
    let receivers: Vec<_> = (0..3)
        .map(|_| {
            let rx = Arc::clone(&rx);
            std::thread::spawn(move || {
                let mut mine = Vec::new();
                while let Ok(message) = { rx.lock().unwrap().recv() } {
                    mine.push(message);
                }
                mine
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let mut all = Vec::new();
    for receiver in receivers {
        let mine = receiver.join().unwrap();
        for thread in 0..4 {
            let numbers: Vec<u32> = mine.iter().filter(|(of, _)| *of == thread).map(|(_, n)| *n).collect();
            assert!(numbers.is_sorted(), "each thread sees the order of each");
        }
        all.extend(mine);
    }
    all.sort_unstable();
    assert!(all.into_iter().eq((0..4).flat_map(|thread| (0..2000).map(move |n| (thread, n)))));
}

#[test]
fn both_directions_at_once() {
    let _watchdog = watchdog("both directions");
    fn echo_while_receiving(mut end: Duplex<String, String>) {
        let (tx, rx) = end.both();
        std::thread::scope(|scope| {
            let (pass, passed) = std::sync::mpsc::channel();
            scope.spawn(move || rx.iter().for_each(|message| pass.send(message).unwrap()));
            passed.into_iter().for_each(|message| tx.send(&message).unwrap());
        });
    }
    let (ours, theirs) = duplex::<String, String>().unwrap();
    let child = Process::spawn(echo_while_receiving, (theirs,)).unwrap();
    let (mut tx, mut rx) = ours.split().unwrap();
    let sender = std::thread::spawn(move || (0..200).for_each(|n| tx.send(&text(n * 500)).unwrap()));
    for n in 0..200 {
        assert!(rx.recv().unwrap() == text(n * 500));
    }
    sender.join().unwrap();
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)), "the dropped half has closed its direction");
    child.join().unwrap();
}

#[test]
fn a_half_that_is_dropped_closes_its_direction_only() {
    let (a, mut b) = duplex::<u8, u16>().unwrap();
    let (mut tx, rx) = a.split().unwrap();
    drop(rx);
    assert!(matches!(b.send(&1), Err(SendError::Disconnected)));
    tx.send(&2).unwrap();
    assert_eq!(b.recv().unwrap(), 2);
    drop(tx);
    assert!(matches!(b.recv(), Err(RecvError::Disconnected)));

    let (a, mut b) = duplex::<u8, u16>().unwrap();
    let (mut tx, mut rx) = a.split().unwrap();
    tx.send(&1).unwrap();
    drop(tx);
    assert_eq!(b.recv().unwrap(), 1);
    assert!(matches!(b.recv(), Err(RecvError::Disconnected)));
    b.send(&2).unwrap();
    assert_eq!(rx.recv().unwrap(), 2);
    drop(b);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn halves_work_in_two_processes() {
    let _watchdog = watchdog("halves in two processes");
    fn produce(mut tx: Sender<u32>) {
        tx.send_all(0..1000).unwrap();
    }
    fn sum(mut rx: Receiver<u32>) -> u32 {
        rx.iter().sum()
    }
    let (a, mut b) = duplex::<u32, u32>().unwrap();
    let (tx, rx) = a.split().unwrap();
    let producer = Process::spawn(produce, (tx,)).unwrap();
    let summer = Process::spawn(sum, (rx,)).unwrap();
    assert!(b.iter().eq(0..1000), "and then the end: the half in that process was dropped");
    producer.join().unwrap();
    for n in [1, 2, 3] {
        b.send(&n).unwrap();
    }
    drop(b);
    assert_eq!(summer.join().unwrap(), 6);
}

#[test]
fn two_siblings_hold_the_two_ends() {
    let _watchdog = watchdog("siblings");
    fn produce(mut tx: Sender<u32>) {
        tx.send_all(1..=1000).unwrap();
    }
    fn sum(rx: Receiver<u32>) -> u32 {
        rx.into_iter().sum()
    }
    let (tx, rx) = pipe().unwrap();
    let consumer = Process::spawn(sum, (rx,)).unwrap();
    let producer = Process::spawn(produce, (tx,)).unwrap();
    assert_eq!(consumer.join().unwrap(), 500_500);
    producer.join().unwrap();
}

#[test]
fn kinds_of_errors() {
    alone(|| {
        let (tx, mut rx) = pipe::<u8>().unwrap();
        assert_eq!(rx.try_recv().unwrap_err().kind(), ErrorKind::Empty);
        assert_eq!(rx.recv_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::Timeout);
        drop(tx);
        assert_eq!(rx.recv().unwrap_err().kind(), ErrorKind::Disconnected);
        let (mut tx, rx) = pipe::<u8>().unwrap();
        drop(rx);
        assert_eq!(tx.send(&1).unwrap_err().kind(), ErrorKind::Disconnected);
    });
}

#[test]
fn bytes_have_forms_that_do_not_wait() {
    let _watchdog = watchdog("stream, bytes without waiting");
    let (mut tx, mut rx) = pipe::<u8>().unwrap();
    let short = Duration::from_millis(20);
    assert!(matches!(rx.try_recv_bytes(), Err(RecvError::Empty)));
    let start = Instant::now();
    assert!(matches!(rx.recv_bytes_timeout(short), Err(RecvError::Timeout)));
    assert!(start.elapsed() >= short);
    tx.try_send_bytes(b"one").unwrap();
    tx.send_bytes_timeout(b"", short).unwrap();
    assert_eq!(rx.try_recv_bytes().unwrap(), b"one");
    assert_eq!(rx.recv_bytes_timeout(PATIENCE).unwrap(), b"");

    let mut sent = 0;
    while tx.try_send_bytes(&[7; 1000]).is_ok() {
        sent += 1;
    }
    assert!(sent > 1);
    assert!(!tx.has_begun(), "a frame of up to PIPE_BUF bytes goes whole or not at all");
    assert!(matches!(tx.send_bytes_timeout(&[8; 1000], short), Err(SendError::Timeout)));
    for _ in 0..sent {
        assert_eq!(rx.recv_bytes().unwrap(), [7; 1000]);
    }
    assert!(matches!(rx.try_recv_bytes(), Err(RecvError::Empty)));

    let long = pattern(1 << 20);
    assert!(matches!(tx.try_send_bytes(&long), Err(SendError::Begun { .. })));
    assert!(matches!(tx.flush_timeout(short), Err(SendError::Begun { .. })));
    std::thread::scope(|scope| {
        scope.spawn(|| tx.flush_timeout(PATIENCE).unwrap());
        assert!(rx.recv_bytes_timeout(PATIENCE).unwrap() == long);
    });

    let dir = tempfile::tempdir().unwrap();
    let fifo = ipc_pipe::Fifo::<u8>::create(dir.path().join("bytes")).unwrap();
    let mut rx = fifo.receiver().unwrap();
    let mut tx = fifo.sender().unwrap();
    assert!(matches!(rx.recv_bytes_timeout(short), Err(RecvError::Timeout)));
    tx.send_bytes_timeout(b"two", PATIENCE).unwrap();
    assert_eq!(rx.recv_bytes_timeout(PATIENCE).unwrap(), b"two");
}
