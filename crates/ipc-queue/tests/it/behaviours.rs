//! What CPython's tests ask of queues, and what else a queue does while nobody dies.

use std::time::{Duration, Instant};

use ipc_core::{Classify, EncodeError, ErrorKind};
use ipc_process::Process;
use ipc_queue::{Options, Receiver, RecvError, SendError, Sender, bounded};
use ipc_testkit::processes::{alone, done, ready, started};
use ipc_testkit::{SHORT, watchdog};
use serde::{Deserialize, Serialize};

const TIME: Duration = Duration::from_millis(50);

#[test]
fn b40_a_full_queue_says_so_at_once_or_in_time() {
    let _watchdog = watchdog("b40_a_full_queue_says_so_at_once_or_in_time");
    let (tx, rx) = bounded(2).unwrap();
    tx.send(&1).unwrap();
    tx.send(&2).unwrap();
    assert!(matches!(tx.try_send(&3), Err(SendError::Full)));
    let start = Instant::now();
    let error = tx.send_timeout(&3, TIME).unwrap_err();
    assert!(matches!(error, SendError::Timeout) && start.elapsed() >= TIME, "{error:?}");
    assert_eq!(rx.recv().unwrap(), 1);
    tx.try_send(&3).unwrap();
    assert_eq!([rx.recv().unwrap(), rx.recv().unwrap()], [2, 3]);
}

#[test]
fn b41_an_empty_queue_says_so_at_once_or_in_time() {
    let _watchdog = watchdog("b41_an_empty_queue_says_so_at_once_or_in_time");
    let (tx, rx) = bounded::<u32>(2).unwrap();
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
    let start = Instant::now();
    let error = rx.recv_timeout(TIME).unwrap_err();
    assert!(matches!(error, RecvError::Timeout) && start.elapsed() >= TIME, "{error:?}");
    tx.send(&7).unwrap();
    assert_eq!(rx.recv_timeout(Duration::ZERO).unwrap(), 7);
    assert!(matches!(rx.recv_timeout(Duration::ZERO), Err(RecvError::Empty)));
}

#[test]
fn b43_the_length_follows() {
    for capacity in [1, 3, 64] {
        let (tx, rx) = bounded(capacity).unwrap();
        assert_eq!((tx.capacity(), rx.capacity(), rx.len(), rx.is_empty()), (capacity, capacity, 0, true));
        for round in 0..5 {
            for n in 0..capacity {
                assert_eq!(tx.len(), n);
                tx.send(&round).unwrap();
            }
            assert!(!rx.is_empty() && !tx.is_empty());
            for n in (0..capacity).rev() {
                assert_eq!(rx.recv().unwrap(), round);
                assert_eq!(rx.len(), n);
            }
        }
    }
}

fn send_from(tx: Sender<(u32, u32)>, me: u32, count: u32) {
    for n in 0..count {
        tx.send(&(me, n)).unwrap();
    }
}

#[test]
fn b44_each_writer_keeps_its_order_also_one_that_comes_later() {
    let _watchdog = watchdog("b44_each_writer_keeps_its_order_also_one_that_comes_later");
    for capacity in [1, 2, 7, 256] {
        let (tx, rx) = bounded(capacity).unwrap();
        tx.send(&(0, 0)).unwrap();
        let writers: Vec<_> =
            (1..4).map(|me| Process::spawn(send_from, (tx.clone(), me, 5_000)).unwrap()).collect();
        drop(tx);
        assert_eq!(rx.recv().unwrap(), (0, 0));
        let mut next = [0; 4];
        for (writer, n) in &rx {
            assert_eq!(n, next[writer as usize], "writer {writer}");
            next[writer as usize] += 1;
        }
        assert_eq!(next, [0, 5_000, 5_000, 5_000]);
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
        writers.into_iter().for_each(done);
    }
}

#[derive(Debug, PartialEq, Deserialize)]
struct Stubborn(bool);

impl Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 { self.0.serialize(serializer) } else { Err(serde::ser::Error::custom("not me")) }
    }
}

#[test]
fn b45_what_cannot_be_serialised_leaves_the_queue_as_it_was() {
    let (tx, rx) = bounded(1).unwrap();
    let error = tx.send(&Stubborn(false)).unwrap_err();
    assert!(
        matches!(&error, SendError::Encode(EncodeError::Custom(what)) if what.contains("not me")),
        "{error:?}"
    );
    assert_eq!(tx.len(), 0);
    tx.try_send(&Stubborn(true)).unwrap();
    assert_eq!(rx.recv().unwrap(), Stubborn(true));

    // A handle cannot go through memory: the error says what could carry it.
    let (tx, _rx) = bounded(1).unwrap();
    let (pipe, _end) = ipc_pipe::pipe::<u32>().unwrap();
    let error = tx.send(&pipe).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("duplex pipe"), "{error}");
    assert!(tx.is_empty());
}

#[test]
fn b47_after_a_side_is_gone() {
    let _watchdog = watchdog("b47_after_a_side_is_gone");
    let (tx, rx) = bounded(4).unwrap();
    let another = tx.clone();
    tx.send(&1).unwrap();
    drop(tx);
    another.send(&2).unwrap();
    drop(another);
    assert_eq!([rx.recv().unwrap(), rx.recv().unwrap()], [1, 2]);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    assert!(matches!(rx.try_recv(), Err(RecvError::Disconnected)));
    assert!(matches!(rx.recv_timeout(TIME), Err(RecvError::Disconnected)));

    let (tx, rx) = bounded(4).unwrap();
    drop(rx);
    assert!(matches!(tx.send(&1), Err(SendError::Disconnected)));
    assert!(matches!(tx.try_send(&1), Err(SendError::Disconnected)));
}

fn echo(rx: Receiver<u64>, tx: Sender<u64>) {
    for n in &rx {
        tx.send(&(n + 1)).unwrap();
    }
}

#[test]
fn two_processes_answer_each_other_awake_and_asleep() {
    let _watchdog = watchdog("two_processes_answer_each_other_awake_and_asleep");
    let (tx, theirs) = bounded(4).unwrap();
    let (back, rx) = bounded(4).unwrap();
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

fn add_up(rx: Receiver<u64>) -> (u64, u64) {
    rx.iter().fold((0, 0), |(count, sum), n| (count + 1, sum + n))
}

fn send_range(tx: Sender<u64>, from: u64, to: u64) {
    tx.send_all(from..to).unwrap();
}

#[test]
fn every_message_goes_to_one_of_many() {
    let _watchdog = watchdog("every_message_goes_to_one_of_many");
    for capacity in [1, 10, 1_000] {
        let (tx, rx) = bounded(capacity).unwrap();
        let readers: Vec<_> = (0..3).map(|_| Process::spawn(add_up, (rx.clone(),)).unwrap()).collect();
        let writers: Vec<_> = (0..3)
            .map(|me| Process::spawn(send_range, (tx.clone(), me * 10_000, (me + 1) * 10_000)).unwrap())
            .collect();
        drop((tx, rx));
        writers.into_iter().for_each(done);
        let (count, sum) = readers.into_iter().map(done).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        assert_eq!((count, sum), (30_000, (0..30_000).sum()));
    }
}

fn take_one(rx: Receiver<u32>, mut up: ipc_pipe::Sender<u32>) -> u32 {
    ready(&mut up);
    rx.recv().unwrap()
}

#[test]
fn all_who_sleep_get_theirs() {
    let _watchdog = watchdog("all_who_sleep_get_theirs");
    let (tx, rx) = bounded(10).unwrap();
    let sleepers: Vec<_> = (0..4).map(|_| started(take_one, rx.clone())).collect();
    std::thread::sleep(SHORT);
    // As fast as it goes: a ring for each, of which some find those awake that were rung for before.
    (0..4).for_each(|n| tx.send(&n).unwrap());
    let mut got: Vec<u32> = sleepers.into_iter().map(done).collect();
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2, 3]);
}

#[test]
fn threads_share_a_handle() {
    let _watchdog = watchdog("threads_share_a_handle");
    let (tx, rx) = bounded::<u64>(16).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let tx = &tx;
            scope.spawn(move || (0..5_000).for_each(|n| tx.send(&n).unwrap()));
        }
        let readers: Vec<_> =
            (0..2).map(|_| scope.spawn(|| (0..7_500).map(|_| rx.recv().unwrap()).sum::<u64>())).collect();
        let sum: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert_eq!(sum, 3 * (0..5_000).sum::<u64>());
    });
}

#[test]
fn who_is_alone_with_both_sides_is_not_left_waiting() {
    alone(alone_with_both_sides);
}

fn alone_with_both_sides() {
    let (tx, rx) = bounded::<u32>(1).unwrap();
    assert!(matches!(rx.recv(), Err(RecvError::Abandoned)));
    tx.send(&1).unwrap();
    assert!(matches!(tx.send(&2), Err(SendError::Abandoned)));
    assert_eq!(rx.recv().unwrap(), 1);
}

#[test]
fn what_makes_no_queue() {
    for capacity in [0, (1 << 24) + 1] {
        let error = bounded::<u32>(capacity).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert!(Options::new(1).bytes(usize::MAX).bounded::<u32>().is_err());
}

fn send_mixed(tx: Sender<Vec<u32>>) {
    tx.send_all((0..5_000_u32).map(|n| vec![n; if n % 50 == 7 { 2_000 } else { n as usize % 9 }])).unwrap();
}

#[test]
fn many_at_once() {
    let _watchdog = watchdog("many_at_once");
    for capacity in [1, 5, 500] {
        let (tx, rx) = bounded(capacity).unwrap();
        let sender = Process::spawn(send_mixed, (tx.clone(),)).unwrap();
        drop(tx);
        let mut all = Vec::new();
        let error = loop {
            let before = all.len();
            match rx.recv_many(70, &mut all) {
                Ok(count) => assert!(count == all.len() - before && (1..=70).contains(&count)),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, RecvError::Disconnected), "{error:?}");
        assert_eq!(all.len(), 5_000);
        for (n, numbers) in (0_u32..).zip(all) {
            let len = if n % 50 == 7 { 2_000 } else { n as usize % 9 };
            assert!(numbers.len() == len && numbers.iter().all(|number| *number == n), "message {n}");
        }
        done(sender);
    }

    // What cannot be encoded ends it, and what was before it has gone.
    let (tx, rx) = bounded::<Stubborn>(100).unwrap();
    let messages = [Stubborn(true), Stubborn(true), Stubborn(false), Stubborn(true)];
    let error = tx.send_all(&messages).unwrap_err();
    assert_eq!((error.sent, error.kind(), tx.len()), (2, ErrorKind::Encode, 2));
    let mut got = Vec::new();
    assert_eq!(rx.recv_many(0, &mut got).unwrap(), 0);
    assert_eq!(rx.recv_many(1, &mut got).unwrap(), 1);
    assert_eq!(rx.recv_many(9, &mut got).unwrap(), 1);
}
