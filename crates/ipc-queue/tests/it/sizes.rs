//! Messages of all lengths, and what they take of the machine.

use ipc_core::{Classify, ErrorKind, FrameError, Limits};
use ipc_process::Process;
use ipc_queue::{Options, Receiver, RecvError, SendError, Sender, bounded};
use ipc_testkit::data::pattern;
use ipc_testkit::processes::{alone, done};
use ipc_testkit::{eventually, watchdog};

fn give_back(rx: Receiver<Vec<u8>>, tx: Sender<Vec<u8>>) {
    while let Ok(bytes) = rx.recv_bytes() {
        tx.send_bytes(&bytes).unwrap();
    }
}

#[test]
fn bytes_of_all_lengths() {
    let _watchdog = watchdog("bytes_of_all_lengths");
    let (tx, theirs) = bounded::<Vec<u8>>(8).unwrap();
    let (back, rx) = bounded::<Vec<u8>>(8).unwrap();
    let peer = Process::spawn(give_back, (theirs, back)).unwrap();
    let lens = (0..300).chain([4095, 4096, 4097, 65_536, (1 << 20) + 1, 64 << 20]);
    let mut buf = vec![0; 64 << 20];
    for len in lens {
        let bytes = pattern(len);
        tx.send_bytes(&bytes).unwrap();
        assert_eq!(rx.recv_bytes_into(&mut buf).unwrap(), len);
        assert!(buf[..len] == bytes, "of {len} bytes");
    }
    drop(tx);
    done(peer);
}

#[test]
fn messages_of_all_lengths() {
    let _watchdog = watchdog("messages_of_all_lengths");
    let (tx, rx) = bounded::<Vec<u8>>(8).unwrap();
    for len in (0..300).chain([5_000, 1 << 20]) {
        tx.send(&pattern(len)).unwrap();
        tx.send(&Vec::new()).unwrap();
        assert!(rx.recv().unwrap() == pattern(len));
        assert_eq!(rx.recv().unwrap(), []);
    }
    let (tx, rx) = bounded::<()>(1).unwrap();
    tx.send(&()).unwrap();
    rx.recv().unwrap();
}

#[test]
fn what_is_too_long_is_an_error_at_the_sender() {
    let (mut tx, rx) = Options::new(8).bytes(64 << 10).bounded::<Vec<u8>>().unwrap();
    let error = tx.send_bytes(&pattern((64 << 10) + 1)).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { len: 65_537, capacity: 65_536 }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Limit);
    tx.send_bytes(&pattern(64 << 10)).unwrap();
    assert!(matches!(tx.try_send_bytes(&pattern(200)), Err(SendError::Full)), "the bytes are used up");
    tx.try_send_bytes(&pattern(112)).unwrap();
    assert!(rx.recv_bytes().unwrap() == pattern(64 << 10));
    assert!(rx.recv_bytes().unwrap() == pattern(112));
    tx.set_limits(Limits::new().frame_len_max(1_000));
    let error = tx.send_bytes(&pattern(1_001)).unwrap_err();
    assert!(matches!(error, SendError::Frame(FrameError::TooLong { len: 1_001, limit: 1_000 })), "{error:?}");
    assert_eq!(tx.send(&pattern(1_001)).unwrap_err().kind(), ErrorKind::Limit);
    assert!(tx.is_empty());
}

#[test]
fn a_buffer_that_is_too_small_loses_nothing() {
    let (tx, rx) = bounded::<u32>(8).unwrap();
    for len in [50, 5_000] {
        tx.send_bytes(&pattern(len)).unwrap();
        match rx.recv_bytes_into(&mut [0; 10]) {
            Err(RecvError::TooSmall { message, capacity: 10 }) => assert!(message == pattern(len)),
            other => panic!("{other:?}"),
        }
    }
    // Nor does asking for the other form.
    tx.send_bytes(b"x").unwrap();
    tx.send(&5).unwrap();
    assert!(matches!(rx.recv(), Err(RecvError::WrongKind { receive: "recv_bytes", .. })));
    assert_eq!(rx.recv_bytes().unwrap(), b"x");
    assert!(matches!(rx.recv_bytes(), Err(RecvError::WrongKind { receive: "recv", .. })));
    assert_eq!(rx.recv().unwrap(), 5);
}

#[test]
fn bytes_are_a_budget_beside_the_number() {
    let _watchdog = watchdog("bytes_are_a_budget_beside_the_number");
    let (tx, rx) = Options::new(1_000).bytes(40 << 10).bounded::<Vec<u8>>().unwrap();
    let reader = std::thread::spawn(move || {
        let mut lens = Vec::new();
        while let Ok(bytes) = rx.recv_bytes() {
            assert!(bytes == pattern(bytes.len()));
            lens.push(bytes.len());
        }
        lens
    });
    let lens: Vec<usize> = (0..2_000).map(|n| n * 37 % 20_000).collect();
    for len in &lens {
        tx.send_bytes(&pattern(*len)).unwrap();
    }
    drop(tx);
    assert_eq!(reader.join().unwrap(), lens);
}

/// How many bytes this process has of memory files.
fn shared_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[test]
fn a_burst_leaves_no_memory_behind() {
    alone(burst);
}

fn burst() {
    let before = shared_memory();
    let (tx, rx) = bounded::<Vec<u8>>(1_000).unwrap();
    let idle = shared_memory() - before;
    assert!(idle < 256 << 10, "a queue that is not used takes {idle} bytes");
    for _ in 0..60 {
        tx.send_bytes(&vec![1; 1 << 20]).unwrap();
    }
    assert!(shared_memory() - before >= 60 << 20);
    for _ in 0..60 {
        rx.recv_bytes().unwrap();
    }
    let waiter = std::thread::spawn(move || rx.recv_bytes());
    eventually("the memory is given back", || shared_memory() - before < 6 << 20);
    tx.send_bytes(&pattern(30 << 20)).unwrap();
    assert!(waiter.join().unwrap().unwrap() == pattern(30 << 20));
}
