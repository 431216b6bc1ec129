//! Channels from one process to another: `spsc()`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use ipc_core::{Classify, DecodeError, EncodeError, ErrorKind, FrameError, Limits};
use ipc_pipe::duplex;
use ipc_process::Process;
use ipc_queue::spsc::{Receiver, Sender};
use ipc_queue::{OpenError, RecvError, SendError, spsc, wait};
use ipc_testkit::data::{pattern, text};
use ipc_testkit::messages::moved_for;
use ipc_testkit::processes::{alone, done, kill, park, ready, started};
use ipc_testkit::{PATIENCE, SHORT, watchdog};
use serde::{Deserialize, Serialize};

const RING: usize = 4096;

#[test]
fn ends_may_be_used_by_any_thread() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Sender<std::cell::Cell<u32>>>();
    is_send_and_sync::<Receiver<std::cell::Cell<u32>>>();
}

#[test]
fn a_ring_is_as_large_as_asked_for_or_larger() {
    for (bytes, capacity) in [(0, 4096), (4097, 8192), (1 << 20, 1 << 20)] {
        let (tx, rx) = spsc::<u32>(bytes).unwrap();
        assert_eq!((tx.capacity(), rx.capacity()), (capacity, capacity));
    }
    assert!(matches!(spsc::<u32>((1 << 30) + 1), Err(OpenError::InvalidInput(_))));
}

fn echo(mut rx: Receiver<u64>, mut tx: Sender<u64>) {
    for n in &mut rx {
        tx.send(&(n + 1)).unwrap();
    }
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn two_processes_answer_each_other_awake_and_asleep() {
    let _watchdog = watchdog("two_processes_answer_each_other_awake_and_asleep");
    let (mut tx, theirs) = spsc(RING).unwrap();
    let (back, mut rx) = spsc(RING).unwrap();
    let peer = Process::spawn(echo, (theirs, back)).unwrap();
    for n in 0..20_000 {
        if n % 4_000 == 0 {
            std::thread::sleep(SHORT);
        }
        tx.send(&n).unwrap();
        assert_eq!(rx.recv().unwrap(), n + 1);
    }
    drop(tx);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    done(peer);
}

/// Messages and bytes of several lengths by all ways.
fn send_mixed(mut tx: Sender<(u32, String)>, count: u32) {
    for n in 0..count {
        let len = n as usize % 97;
        match n % 5 {
            0 => tx.send_bytes(&pattern(len)).unwrap(),
            1 => tx.send_timeout(&(n, text(len)), PATIENCE).unwrap(),
            2 => while let Err(SendError::Full) = tx.try_send(&(n, text(len))) {},
            3 => assert_eq!(tx.send_all([(n, text(len))]).unwrap(), 1),
            _ => tx.send(&(n, text(len))).unwrap(),
        }
    }
}

#[test]
fn all_comes_in_order() {
    let _watchdog = watchdog("all_comes_in_order");
    for ring in [RING, 64 << 10] {
        let (tx, mut rx) = spsc(ring).unwrap();
        let sender = Process::spawn(send_mixed, (tx, 50_000)).unwrap();
        for n in 0..50_000 {
            let len = n as usize % 97;
            if n % 5 == 0 {
                assert_eq!(rx.recv_bytes().unwrap(), pattern(len));
            } else {
                assert_eq!(rx.recv().unwrap(), (n, text(len)));
            }
        }
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
        done(sender);
    }
}

fn give_back(mut rx: Receiver<String>, mut tx: Sender<String>) {
    while let Ok(bytes) = rx.recv_bytes() {
        tx.send_bytes(&bytes).unwrap();
    }
}

#[test]
fn bytes_of_all_lengths() {
    let _watchdog = watchdog("bytes_of_all_lengths");
    let (mut tx, theirs) = spsc::<String>(256 << 10).unwrap();
    let (back, mut rx) = spsc::<String>(RING).unwrap();
    let peer = Process::spawn(give_back, (theirs, back)).unwrap();
    let lens = (0..300).chain(4070..4110).chain([65_536, 262_135, 262_136, 262_137, (1 << 20) + 1]);
    let mut buf = vec![0; 64 << 20];
    for len in lens.chain([64 << 20]) {
        let bytes = pattern(len);
        tx.send_bytes(&bytes).unwrap();
        if len % 2 == 0 {
            assert_eq!(rx.recv_bytes_into(&mut buf).unwrap(), len);
            assert!(buf[..len] == bytes, "of {len} bytes");
        } else {
            assert!(rx.recv_bytes_timeout(PATIENCE).unwrap() == bytes, "of {len} bytes");
        }
    }
    drop(tx);
    done(peer);
}

fn answer_all(mut rx: Receiver<String>, mut tx: Sender<String>) {
    while let Ok(text) = rx.recv() {
        tx.send(&text).unwrap();
    }
}

#[test]
fn messages_of_all_lengths() {
    let _watchdog = watchdog("messages_of_all_lengths");
    let (mut tx, theirs) = spsc(RING).unwrap();
    let (back, mut rx) = spsc(4 << 20).unwrap();
    let peer = Process::spawn(answer_all, (theirs, back)).unwrap();
    let lens = (0..300).chain(4070..4110).chain([65_536, (1 << 20) - 3, 1 << 20, 3 << 20, 5 << 20, 1]);
    for len in lens {
        tx.send(&text(len)).unwrap();
        assert!(rx.recv().unwrap() == text(len), "of {len} bytes");
    }
    drop(tx);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    done(peer);
    let (mut tx, mut rx) = spsc::<()>(RING).unwrap();
    tx.send(&()).unwrap();
    rx.recv().unwrap();
}

#[test]
fn full_says_so_at_once_or_in_time() {
    let _watchdog = watchdog("full_says_so_at_once_or_in_time");
    let (mut tx, mut rx) = spsc::<u64>(RING).unwrap();
    let fits = (0..).take_while(|n| tx.try_send(n).is_ok()).count() as u64;
    assert_eq!(fits, 4096 / 16);
    assert!(matches!(tx.try_send_bytes(b"x"), Err(SendError::Full)));
    assert!(matches!(tx.send_timeout(&0, Duration::ZERO), Err(SendError::Full)));
    let start = Instant::now();
    let error = tx.send_timeout(&0, SHORT).unwrap_err();
    assert!(matches!(error, SendError::Timeout) && start.elapsed() >= SHORT, "{error:?}");
    assert!(matches!(tx.send_bytes_timeout(b"x", SHORT), Err(SendError::Timeout)));
    assert!(!tx.has_begun());
    assert_eq!(rx.recv().unwrap(), 0);
    tx.try_send(&fits).unwrap();
    let thread = std::thread::spawn(move || tx.send(&(fits + 1)));
    std::thread::sleep(SHORT);
    assert!((1..fits + 2).all(|n| rx.recv().unwrap() == n));
    thread.join().unwrap().unwrap();
}

#[test]
fn empty_says_so_at_once_or_in_time() {
    let _watchdog = watchdog("empty_says_so_at_once_or_in_time");
    let (mut tx, mut rx) = spsc::<u64>(RING).unwrap();
    let mut numbers = Vec::new();
    for _ in 0..2 {
        assert!(rx.is_empty() && !rx.poll(Duration::ZERO).unwrap());
        assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
        assert!(matches!(rx.recv_timeout(Duration::ZERO), Err(RecvError::Empty)));
        assert!(matches!(rx.try_recv_bytes(), Err(RecvError::Empty)));
        let start = Instant::now();
        let error = rx.recv_timeout(SHORT).unwrap_err();
        assert!(matches!(error, RecvError::Timeout) && start.elapsed() >= SHORT, "{error:?}");
        assert!(matches!(rx.recv_bytes_timeout(SHORT), Err(RecvError::Timeout)));
        assert!(matches!(rx.recv_bytes_into_timeout(&mut [], SHORT), Err(RecvError::Timeout)));
        assert!(!rx.poll(SHORT).unwrap());
        assert_eq!(rx.recv_many(0, &mut numbers).unwrap(), 0);
        tx.send(&7).unwrap();
        assert!(!rx.is_empty() && rx.poll(Duration::ZERO).unwrap());
        assert_eq!(rx.recv_timeout(Duration::ZERO).unwrap(), 7);
    }
}

#[test]
fn the_other_kind_stays() {
    let (mut tx, mut rx) = spsc::<u32>(RING).unwrap();
    let mut numbers = Vec::new();
    for len in [3, 10_000] {
        let thread = std::thread::spawn(move || {
            tx.send_bytes(&pattern(len)).unwrap();
            tx.send(&5).unwrap();
            tx
        });
        for _ in 0..2 {
            let error = rx.recv().unwrap_err();
            assert!(matches!(error, RecvError::WrongKind { receive: "recv_bytes", .. }), "{error:?}");
            assert!(matches!(rx.recv_many(9, &mut numbers), Err(RecvError::WrongKind { .. })));
        }
        assert!(rx.recv_bytes().unwrap() == pattern(len));
        for _ in 0..2 {
            let error = rx.recv_bytes().unwrap_err();
            assert!(matches!(error, RecvError::WrongKind { receive: "recv", .. }), "{error:?}");
            assert!(matches!(rx.recv_bytes_into(&mut [0; 9]), Err(RecvError::WrongKind { .. })));
        }
        assert_eq!(rx.recv().unwrap(), 5);
        tx = thread.join().unwrap();
    }
}

#[test]
fn a_buffer_that_is_too_small_loses_nothing() {
    let (mut tx, mut rx) = spsc::<u32>(RING).unwrap();
    for len in [50, 4088, 4089, 20_000] {
        let thread = std::thread::spawn(move || {
            tx.send_bytes(&pattern(len)).unwrap();
            tx
        });
        match rx.recv_bytes_into(&mut [0; 10]) {
            Err(RecvError::TooSmall { message, capacity: 10 }) => assert!(message == pattern(len)),
            other => panic!("{other:?}"),
        }
        tx = thread.join().unwrap();
    }
    let mut buf = [9; 5];
    tx.send_bytes(b"abc").unwrap();
    assert_eq!(rx.recv_bytes_into(&mut buf).unwrap(), 3);
    assert_eq!(&buf, b"abc\t\t", "what is behind them stays");
}

/// Numbers, some of which do not go or do not arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Picky(u32);

const NOT_SENT: u32 = 13;
const NOT_RECEIVED: u32 = 26;
const PANICS: u32 = 39;
const PANICS_HERE: u32 = 52;

impl Serialize for Picky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            NOT_SENT => Err(serde::ser::Error::custom("not me")),
            PANICS => panic!("on purpose"),
            n => n.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            NOT_RECEIVED => Err(serde::de::Error::custom("not here")),
            PANICS_HERE => panic!("on purpose"),
            n => Ok(Picky(n)),
        }
    }
}

#[test]
fn what_cannot_be_serialised_is_not_sent() {
    let (mut tx, mut rx) = spsc(RING).unwrap();
    let error = tx.send(&Picky(NOT_SENT)).unwrap_err();
    assert!(
        matches!(&error, SendError::Encode(EncodeError::Custom(what)) if what.contains("not me")),
        "{error:?}"
    );
    assert!(catch_unwind(AssertUnwindSafe(|| tx.send(&Picky(PANICS)))).is_err());
    assert!(rx.is_empty());
    let error = tx.send_all([1, 2, NOT_SENT, 3].map(Picky)).unwrap_err();
    assert!(error.sent == 2 && matches!(error.source, SendError::Encode(_)), "{error:?}");
    assert!(catch_unwind(AssertUnwindSafe(|| tx.send_all([4, PANICS].map(Picky)))).is_err());
    tx.send_all([Picky(5), Picky(6)].iter()).unwrap();
    for n in [1, 2, 4, 5, 6] {
        assert_eq!(rx.try_recv().unwrap(), Picky(n));
    }

    // A handle cannot go through memory: the error says what could carry it.
    let (mut tx, rx) = spsc(RING).unwrap();
    let (pipe, mut end) = ipc_pipe::pipe::<u32>().unwrap();
    let error = tx.send(&pipe).unwrap_err();
    assert!(matches!(error, SendError::Handles { count: 1, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("a duplex pipe or a Unix socket"), "{error}");
    let error = tx.send_all([&pipe]).unwrap_err();
    assert!(error.sent == 0 && matches!(error.source, SendError::Handles { .. }), "{error:?}");
    assert!(rx.is_empty());
    // It did not move.
    { pipe }.send(&1).unwrap();
    assert_eq!(end.recv().unwrap(), 1);
}

#[test]
fn what_cannot_be_decoded_is_gone_and_nothing_else() {
    let (mut tx, mut rx) = spsc(RING).unwrap();
    tx.send_all([1, NOT_RECEIVED, 2].map(Picky)).unwrap();
    assert_eq!(rx.recv().unwrap(), Picky(1));
    let error = rx.recv().unwrap_err();
    assert!(
        matches!(&error, RecvError::Decode(DecodeError::Invalid(what)) if what.contains("not here")),
        "{error:?}"
    );
    assert_eq!(rx.recv().unwrap(), Picky(2));

    tx.send_all([3, 4, NOT_RECEIVED, NOT_RECEIVED, 5].map(Picky)).unwrap();
    tx.send_bytes(b"x").unwrap();
    let mut numbers = Vec::new();
    assert!(matches!(rx.recv_many(10, &mut numbers), Err(RecvError::Decode(_))));
    assert_eq!(numbers, [3, 4].map(Picky), "those before it are there");
    assert!(matches!(rx.recv_many(10, &mut numbers), Err(RecvError::Decode(_))));
    assert_eq!(rx.recv_many(10, &mut numbers).unwrap(), 1);
    assert!(matches!(rx.recv_many(10, &mut numbers), Err(RecvError::WrongKind { .. })));
    assert_eq!(numbers, [3, 4, 5].map(Picky));
    assert_eq!(rx.recv_bytes().unwrap(), b"x");
}

/// A panic in the middle of many costs the message that it is about: the room of all before it is there, and what comes
/// after it as well.
#[test]
fn many_that_end_in_a_panic() {
    let (mut tx, mut rx) = spsc(RING).unwrap();
    tx.send_all([1, 2, PANICS_HERE, 4].map(Picky)).unwrap();
    let mut left = 4;
    while tx.try_send(&Picky(5)).is_ok() {
        left += 1;
    }
    let mut numbers = Vec::new();
    assert!(catch_unwind(AssertUnwindSafe(|| rx.recv_many(10, &mut numbers))).is_err());
    assert_eq!(numbers, [1, 2].map(Picky));
    (0..3).for_each(|_| tx.try_send(&Picky(6)).unwrap());
    assert!(matches!(tx.try_send(&Picky(6)), Err(SendError::Full)));
    numbers.clear();
    assert_eq!(rx.recv_many(usize::MAX, &mut numbers).unwrap(), left);
    assert!(numbers[..2] == [4, 5].map(Picky) && numbers[left - 4..] == [5, 6, 6, 6].map(Picky));
}

#[test]
fn limits_are_kept_on_both_sides() {
    let limits = Limits::new().frame_len_max(1_000);
    let (mut tx, mut rx) = spsc::<String>(RING).unwrap();
    tx.set_limits(limits);
    let error = tx.send_bytes(&pattern(1_001)).unwrap_err();
    assert!(matches!(error, SendError::Frame(FrameError::TooLong { len: 1_001, limit: 1_000 })), "{error:?}");
    assert_eq!(tx.send(&text(1_001)).unwrap_err().kind(), ErrorKind::Limit);
    let error = tx.send_all([text(1), text(1_001)]).unwrap_err();
    assert_eq!((error.sent, error.kind()), (1, ErrorKind::Limit));
    tx.send_bytes(&pattern(1_000)).unwrap();
    assert_eq!(rx.recv().unwrap(), text(1));
    assert_eq!(rx.recv_bytes().unwrap(), pattern(1_000));

    tx.set_limits(Limits::new());
    rx.set_limits(limits);
    tx.send(&text(2_000)).unwrap();
    for _ in 0..2 {
        let error = rx.recv().unwrap_err();
        assert!(matches!(error, RecvError::Frame(FrameError::TooLong { limit: 1_000, .. })), "{error:?}");
    }
    rx.set_limits(Limits::new());
    assert_eq!(rx.recv().unwrap(), text(2_000));
}

fn send_range(mut tx: Sender<u64>, to: u64) {
    assert_eq!(tx.send_all(0..to).unwrap() as u64, to);
}

#[test]
fn many_at_once() {
    let _watchdog = watchdog("many_at_once");
    for ring in [RING, 1 << 20] {
        for max in [1, 7, usize::MAX] {
            let (tx, mut rx) = spsc(ring).unwrap();
            let sender = Process::spawn(send_range, (tx, 100_000)).unwrap();
            let mut numbers = Vec::new();
            loop {
                let before = numbers.len();
                match rx.recv_many(max, &mut numbers) {
                    Ok(count) => assert!((1..=max).contains(&count) && numbers.len() == before + count),
                    Err(RecvError::Disconnected) => break,
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert!(numbers.into_iter().eq(0..100_000));
            done(sender);
        }
    }
    // Also those that are kept in memory of their own, and those longer than the ring.
    let (mut tx, mut rx) = spsc::<String>(RING).unwrap();
    let lens = [5, 2 << 20, 6, 7, 5_000, 4_090, 8];
    let thread = std::thread::spawn(move || tx.send_all(lens.map(text)));
    let mut texts = Vec::new();
    while rx.recv_many(3, &mut texts).is_ok() {}
    assert!(texts == lens.map(text));
    assert_eq!(thread.join().unwrap().unwrap(), lens.len());
}

#[test]
fn iteration_ends_with_the_sender() {
    let _watchdog = watchdog("iteration_ends_with_the_sender");
    let (mut tx, mut rx) = spsc(RING).unwrap();
    tx.send_all(0..10).unwrap();
    assert!(rx.iter().take(3).eq(0..3));
    drop(tx);
    let mut seen = Vec::new();
    for n in &mut rx {
        seen.push(n);
    }
    assert!(seen.into_iter().eq(3..10));
    assert_eq!(rx.into_iter().next(), None);
}

#[test]
fn after_an_end_is_dropped() {
    let _watchdog = watchdog("after_an_end_is_dropped");
    let (mut tx, mut rx) = spsc(RING).unwrap();
    tx.send(&1).unwrap();
    drop(tx);
    assert!(rx.poll(Duration::ZERO).unwrap());
    assert_eq!(rx.recv().unwrap(), 1);
    assert!(rx.is_empty() && rx.poll(Duration::ZERO).unwrap());
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    assert!(matches!(rx.try_recv(), Err(RecvError::Disconnected)));
    assert!(matches!(rx.recv_timeout(SHORT), Err(RecvError::Disconnected)));
    assert!(matches!(rx.recv_bytes_timeout(Duration::ZERO), Err(RecvError::Disconnected)));

    let (mut tx, rx) = spsc(RING).unwrap();
    drop(rx);
    assert!(matches!(tx.send(&1), Err(SendError::Disconnected)));
    assert!(matches!(tx.try_send(&1), Err(SendError::Disconnected)));
    assert!(matches!(tx.send_all(0..100).unwrap_err().source, SendError::Disconnected));
}

fn hold_sender(mut tx: Sender<u32>, mut up: ipc_pipe::Sender<u32>) {
    tx.send_all(0..10).unwrap();
    ready(&mut up);
    park()
}

#[test]
fn a_receiver_is_told_of_the_senders_death_when_all_is_taken() {
    let _watchdog = watchdog("a_receiver_is_told_of_the_senders_death_when_all_is_taken");
    let (tx, mut rx) = spsc(RING).unwrap();
    let holder = started(hold_sender, tx);
    assert_eq!(rx.recv().unwrap(), 0);
    kill(holder);
    assert!(rx.iter().eq(1..10));
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));

    // Also one that sleeps.
    let (tx, mut rx) = spsc(RING).unwrap();
    let holder = started(hold_sender, tx);
    assert!(rx.iter().take(10).eq(0..10));
    assert!(matches!(rx.recv_timeout(SHORT), Err(RecvError::Timeout)), "it lives");
    let sleeper = std::thread::spawn(move || rx.recv());
    std::thread::sleep(SHORT);
    kill(holder);
    assert!(matches!(sleeper.join().unwrap(), Err(RecvError::Disconnected)));
}

fn begin_long(mut tx: Sender<String>, mut up: ipc_pipe::Sender<u32>) {
    tx.send(&"short".to_owned()).unwrap();
    assert!(matches!(tx.try_send(&text(50_000)), Err(SendError::Begun { .. })));
    assert!(tx.has_begun());
    ready(&mut up);
    park()
}

#[test]
fn a_message_without_its_end_is_told_once() {
    let _watchdog = watchdog("a_message_without_its_end_is_told_once");
    let (tx, mut rx) = spsc(RING).unwrap();
    let holder = started(begin_long, tx);
    assert_eq!(rx.recv().unwrap(), "short");
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
    kill(holder);
    let told = rx.recv();
    assert!(matches!(told, Err(RecvError::Truncated { missing: 1..50_000 })), "{told:?}");
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

fn hold_receiver(mut rx: Receiver<u64>, mut up: ipc_pipe::Sender<u32>) {
    rx.recv().unwrap();
    ready(&mut up);
    park()
}

#[test]
fn a_sender_is_told_of_the_receivers_death() {
    let _watchdog = watchdog("a_sender_is_told_of_the_receivers_death");
    let (mut tx, rx) = spsc(RING).unwrap();
    tx.send(&0).unwrap();
    let holder = started(hold_receiver, rx);
    while tx.try_send(&1).is_ok() {}
    assert!(matches!(tx.send_timeout(&5, SHORT), Err(SendError::Timeout)), "it lives");
    let sleeper = std::thread::spawn(move || (tx.send(&5), tx.try_send(&6)));
    std::thread::sleep(SHORT);
    kill(holder);
    let told = sleeper.join().unwrap();
    assert!(matches!(told, (Err(SendError::Disconnected), Err(SendError::Disconnected))), "{told:?}");
}

fn send_for_ever(mut tx: Sender<(u64, Vec<u8>)>, mut up: ipc_pipe::Sender<u32>) {
    ready(&mut up);
    for n in 0.. {
        // Short ones and some that are longer than the ring.
        let len = if n % 7 == 0 { 5_000 } else { n as usize % 100 };
        tx.send(&(n, vec![n as u8; len])).unwrap();
    }
}

#[test]
fn a_sender_that_is_killed_at_any_time() {
    let _watchdog = watchdog("a_sender_that_is_killed_at_any_time");
    for round in 0..20 {
        let (tx, mut rx) = spsc(RING).unwrap();
        let sender = started(send_for_ever, tx);
        let thread = std::thread::spawn(move || {
            for next in 0.. {
                match rx.recv() {
                    Ok((n, bytes)) => assert!(n == next && bytes.iter().all(|byte| *byte == n as u8)),
                    Err(RecvError::Disconnected | RecvError::Truncated { .. }) => return,
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
        std::thread::sleep(Duration::from_micros(round * 977 % 10_000));
        kill(sender);
        thread.join().unwrap();
    }
}

fn send_on(mut tx: Sender<String>, from: usize, to: usize) -> Sender<String> {
    (from..to).for_each(|n| tx.send(&text(n)).unwrap());
    tx
}

fn receive_on(mut rx: Receiver<String>, from: usize, to: usize) -> Receiver<String> {
    (from..to).for_each(|n| assert_eq!(rx.recv().unwrap(), text(n)));
    rx
}

/// Both ends go from process to process while messages are in the ring.
#[test]
fn both_ends_go_on_elsewhere() {
    let _watchdog = watchdog("both_ends_go_on_elsewhere");
    let (mut tx, mut rx) = spsc(RING).unwrap();
    for round in 0..5 {
        let (from, to) = (round * 200, round * 200 + 200);
        let sends = Process::spawn(send_on, (tx, from, to)).unwrap();
        let receives = Process::spawn(receive_on, (rx, from, to)).unwrap();
        (tx, rx) = (done(sends), done(receives));
    }
    tx.send(&"here".to_owned()).unwrap();
    assert_eq!(rx.recv().unwrap(), "here");
}

#[test]
fn an_end_that_moved_is_no_more() {
    let _watchdog = watchdog("an_end_that_moved_is_no_more");
    type Ends = (Sender<String>, Receiver<String>);
    let (mut there, mut here) = duplex::<Ends, Ends>().unwrap();
    let (mut tx, mut rx) = spsc::<String>(RING).unwrap();
    tx.send(&"before".to_owned()).unwrap();
    // What has begun goes along.
    assert!(matches!(tx.try_send(&text(9_000)), Err(SendError::Begun { .. })));
    let ends = (tx, rx);
    there.send(&ends).unwrap();
    (tx, rx) = ends;
    assert!(matches!(tx.send(&String::new()), Err(SendError::Moved)));
    assert!(matches!(tx.send_bytes(b"x"), Err(SendError::Moved)));
    assert!(matches!(tx.send_all([String::new()]).unwrap_err().source, SendError::Moved));
    assert!(matches!(tx.flush(), Err(SendError::Moved)));
    assert!(matches!(rx.recv(), Err(RecvError::Moved)));
    assert!(matches!(rx.try_recv_bytes(), Err(RecvError::Moved)));
    assert!(matches!(rx.poll(Duration::ZERO), Err(RecvError::Moved)));
    assert!(there.send(&(tx, rx)).unwrap_err().to_string().contains("encoded"));

    let (mut tx, mut rx) = here.recv().unwrap();
    assert!(tx.has_begun());
    let thread = std::thread::spawn(move || {
        tx.flush().unwrap();
        tx.send(&"after".to_owned()).unwrap();
    });
    assert!(rx.iter().eq(["before".to_owned(), text(9_000), "after".to_owned()]));
    thread.join().unwrap();
}

fn send_late(mut tx: Sender<u64>) {
    std::thread::sleep(SHORT);
    tx.send(&7).unwrap();
}

#[test]
fn a_receiver_is_waited_for_beside_other_things() {
    let _watchdog = watchdog("a_receiver_is_waited_for_beside_other_things");
    let ((tx, mut rx), (_quiet, other)) = (spsc::<u64>(RING).unwrap(), spsc::<u64>(RING).unwrap());
    let process = Process::spawn(send_late, (tx,)).unwrap();
    assert_eq!(wait(&[&other, &rx], Some(PATIENCE)).unwrap(), [1]);
    assert_eq!(rx.try_recv().unwrap(), 7);
    process.join().unwrap();
    assert_eq!(wait(&[&other, &rx], Some(PATIENCE)).unwrap(), [1]);
    assert!(matches!(rx.try_recv(), Err(RecvError::Disconnected)));
}

#[test]
fn an_end_in_a_message_is_gone_with_it() {
    let _watchdog = watchdog("an_end_in_a_message_is_gone_with_it");
    let (tx, mut rx) = spsc::<u32>(RING).unwrap();
    let (mut one, other) = duplex::<Sender<u32>, ()>().unwrap();
    one.send(&tx).unwrap();
    drop(tx);
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)), "the sender is on its way");
    drop((one, other));
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn the_structure_of_messages_is_checked() {
    let _watchdog = watchdog("the_structure_of_messages_is_checked");
    let (tx, mut rx) = spsc::<(u32, String)>(RING).unwrap();
    let error = moved_for::<_, Sender<(String, u32)>>(&tx).unwrap_err().to_string();
    drop(tx);
    assert!(error.contains("(u32, str)") && error.contains("(str, u32)"), "{error}");
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)), "it went with the message");
}

#[test]
fn who_is_alone_with_both_ends_is_not_left_waiting() {
    alone(alone_with_both_ends);
}

fn alone_with_both_ends() {
    let (mut tx, mut rx) = spsc::<u32>(RING).unwrap();
    assert!(matches!(rx.recv(), Err(RecvError::Abandoned)));
    while tx.try_send(&1).is_ok() {}
    assert!(matches!(tx.send(&2), Err(SendError::Abandoned)));
    assert_eq!(rx.recv().unwrap(), 1);
}
