//! Streams that no sender of this crate would write: typed errors, no panic, nothing left open.

use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};

use ipc_core::frame::{FrameError, FrameKind, Header};
use ipc_core::{Classify, ErrorKind};
use ipc_os::socket::{self, Mode};
use ipc_pipe::{Duplex, Receiver, RecvError, duplex, pipe};
use ipc_testkit::data::Numbers;
use ipc_testkit::processes::alone;
use ipc_testkit::{open_descriptors, watchdog};

use crate::tools::Shared;

type Message = Vec<(String, Option<Shared>, u64)>;

/// Receives until the stream ends or is of no use: how many calls failed.
fn receive_all(mut end: Duplex<(), Message>) -> usize {
    let mut failed = 0;
    for call in 0.. {
        let error = match call % 3 {
            0 => end.recv().err(),
            1 => end.recv_bytes().err(),
            _ => end.recv_bytes_into(&mut [0; 100]).err(),
        };
        let Some(error) = error else { continue };
        failed += 1;
        assert!(!error.to_string().is_empty());
        match error.kind() {
            ErrorKind::Disconnected => break,
            // The wrong call for it: the next one is another.
            ErrorKind::Decode if matches!(error, RecvError::WrongKind { .. }) => {}
            ErrorKind::Decode if !matches!(error, RecvError::Frame(_)) => {}
            ErrorKind::Limit if matches!(error, RecvError::TooSmall { .. } | RecvError::Decode(_)) => {}
            ErrorKind::Truncated => {}
            ErrorKind::Decode | ErrorKind::Limit => break,
            kind => panic!("{kind:?}: {error}"),
        }
    }
    failed
}

fn send_in_pieces(to: impl AsFd, bytes: &[u8], numbers: &mut Numbers) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(rest.len().min(1 + numbers.any() as usize % 500));
        socket::send(to.as_fd(), piece, Mode::Wait).unwrap();
        rest = tail;
    }
}

#[test]
fn random_bytes_are_errors() {
    let _watchdog = watchdog("random bytes");
    for seed in 1..=200 {
        let mut numbers = Numbers(seed);
        let (sender, end) = duplex::<Message, ()>().unwrap();
        let len = numbers.any() as usize % 3000;
        let bytes = numbers.bytes(len);
        send_in_pieces(&sender, &bytes, &mut numbers);
        drop(sender);
        assert!(receive_all(end) >= 1, "seed {seed}");
    }
}

#[test]
fn random_frames_with_random_descriptors_are_errors_and_leave_nothing_open() {
    let _watchdog = watchdog("random frames");
    alone(|| {
        let null = std::fs::File::open("/dev/null").unwrap();
        let before = open_descriptors();
        for seed in 1..=200 {
            let mut numbers = Numbers(seed);
            let (sender, end) = duplex::<Message, ()>().unwrap();
            for _ in 0..10 {
                let len = numbers.any() as usize % 200;
                let kind =
                    if numbers.any().is_multiple_of(3) { FrameKind::Bytes } else { FrameKind::Message };
                let announced = if numbers.any().is_multiple_of(2) { numbers.any() as usize % 4 } else { 0 };
                let mut frame = Header::new(kind, len, announced, 1000).unwrap().to_bytes().to_vec();
                frame.extend(numbers.bytes(len).iter().map(|byte| byte % 8));
                let fds = vec![null.as_fd(); numbers.any() as usize % 4];
                let cut = if numbers.any().is_multiple_of(10) { frame.len() / 2 } else { frame.len() };
                socket::send_with(sender.as_fd(), &[IoSlice::new(&frame[..cut.max(1)])], &fds, Mode::Wait)
                    .unwrap();
            }
            drop(sender);
            assert!(receive_all(end) >= 1, "seed {seed}");
            assert_eq!(open_descriptors(), before, "seed {seed}");
        }
    });
}

#[test]
fn a_header_that_promises_too_much_is_refused_before_anything_is_allocated() {
    let (mut tx, mut rx) = pipe::<String>().unwrap();
    let header = Header::new(FrameKind::Message, u32::MAX as usize, 0, usize::MAX).unwrap().to_bytes();
    tx.raw().write_all(&header).unwrap();
    for _ in 0..2 {
        let error = rx.recv().unwrap_err();
        assert!(matches!(error, RecvError::Frame(FrameError::TooLong { len: 0xFFFF_FFFF, .. })), "{error}");
        assert_eq!(error.kind(), ErrorKind::Limit);
    }
    // As far as the limit a header is believed, but nothing is set aside for it.
    let (mut tx, mut rx) = pipe::<String>().unwrap();
    let header = Header::new(FrameKind::Message, 64 << 20, 0, usize::MAX).unwrap().to_bytes();
    tx.raw().write_all(&header).unwrap();
    let before = resident();
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
    drop(tx);
    assert!(matches!(rx.recv(), Err(RecvError::Truncated { missing }) if missing == 64 << 20));
    assert!(resident() < before + (32 << 20), "other tests run beside this one, but none takes so much");
}

/// The memory that this process has touched, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn too_many_announced_handles_are_refused() {
    let (mut tx, mut rx) = duplex::<u8, u8>().unwrap();
    let mut header = Header::new(FrameKind::Message, 1, 0, 9).unwrap().to_bytes();
    header[4..6].copy_from_slice(&4097_u16.to_le_bytes());
    tx.both().0.raw().write_all(&header).unwrap();
    let error = rx.recv().unwrap_err();
    assert!(matches!(error, RecvError::Frame(FrameError::TooManyHandles(4097))), "{error}");
}

#[test]
fn handles_that_were_announced_and_not_sent_are_an_error_of_that_message() {
    alone(|| {
        let before = open_descriptors();
        let (mut tx, mut rx) = duplex::<u8, u8>().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut frame = Header::new(FrameKind::Message, 1, 3, 9).unwrap().to_bytes().to_vec();
        frame.push(1);
        socket::send_with(tx.as_fd(), &[IoSlice::new(&frame)], &[null.as_fd()], Mode::Wait).unwrap();
        drop(null);
        let error = rx.recv().unwrap_err();
        assert!(matches!(error, RecvError::MissingHandles { announced: 3, arrived: 1 }), "{error}");
        tx.send(&2).unwrap();
        assert_eq!(rx.recv().unwrap(), 2);
        assert_eq!(open_descriptors(), before + 2);
    });
}

#[test]
fn thousands_of_descriptors_that_nobody_announced_do_not_pile_up() {
    let _watchdog = watchdog("thousands of descriptors");
    alone(|| {
        let (mut tx, mut rx) = duplex::<u32, u32>().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let fds = [null.as_fd(); socket::DESCRIPTORS_MAX];
        let before = open_descriptors();
        // A frame that goes on and on, with 253 descriptors at each byte: 25,300 of them.
        let header = Header::new(FrameKind::Bytes, 100, 0, 100).unwrap().to_bytes();
        tx.both().0.raw().write_all(&header).unwrap();
        let mut most = 0;
        for _ in 0..100 {
            socket::send_with(tx.as_fd(), &[IoSlice::new(b"x")], &fds, Mode::Wait).unwrap();
            assert!(matches!(rx.try_recv(), Err(RecvError::Empty | RecvError::WrongKind { .. })));
            most = most.max(open_descriptors() - before);
        }
        assert!(most <= 2 * socket::DESCRIPTORS_MAX, "{most}");
        assert_eq!(rx.recv_bytes().unwrap(), [b'x'; 100]);
        assert_eq!(open_descriptors(), before);
        // The same beside a message that is received to its place.
        tx.both().0.raw().write_all(&header).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..100 {
                    socket::send_with(tx.as_fd(), &[IoSlice::new(b"y")], &fds, Mode::Wait).unwrap();
                }
            });
            let mut buf = [0; 100];
            assert_eq!(rx.recv_bytes_into(&mut buf).unwrap(), 100);
            assert_eq!(buf, [b'y'; 100]);
        });
        assert_eq!(open_descriptors(), before);
        tx.send(&5).unwrap();
        assert_eq!(rx.recv().unwrap(), 5);
    });
}

#[test]
fn descriptors_of_another_message_do_not_stand_in_for_missing_ones() {
    let (mut tx, mut rx) = duplex::<Receiver<u8>, ()>().unwrap();
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    // A stray descriptor beside bytes, and then an honest message: all of the first is gone before the second.
    let frame = Header::new(FrameKind::Bytes, 0, 0, 0).unwrap().to_bytes();
    socket::send_with(tx.as_fd(), &[IoSlice::new(&frame)], &[null.as_fd()], Mode::Wait).unwrap();
    assert_eq!(rx.recv_bytes().unwrap(), b"");
    let (mut to_it, end) = pipe::<u8>().unwrap();
    tx.send(&end).unwrap();
    to_it.send(&4).unwrap();
    assert_eq!(rx.recv().unwrap().recv().unwrap(), 4);
}
