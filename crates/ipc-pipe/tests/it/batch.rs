//! `send_all` and the batch.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ipc_core::{Classify, ErrorKind, Limits};
use ipc_pipe::{Receiver, RecvError, SendError, duplex, pipe};
use ipc_process::Process;
use ipc_testkit::data::text;
use ipc_testkit::processes::{assert_killed, die};
use ipc_testkit::watchdog;

use crate::tools::Moody;

#[test]
fn send_all_arrives_in_order_in_another_process() {
    let _watchdog = watchdog("send_all");
    fn check(rx: Receiver<(u32, String)>) -> u32 {
        let mut expected = 0;
        for (n, message) in rx {
            assert_eq!((n, message.len()), (expected, n as usize % 50));
            expected += 1;
        }
        expected
    }
    let (mut tx, rx) = pipe::<(u32, String)>().unwrap();
    let child = Process::spawn(check, (rx,)).unwrap();
    let sent = tx.send_all((0..50_000).map(|n| (n, text(n as usize % 50)))).unwrap();
    assert_eq!(sent, 50_000);
    assert_eq!(tx.send_all(std::iter::empty::<(u32, String)>()).unwrap(), 0);
    drop(tx);
    assert_eq!(child.join().unwrap(), 50_000);
}

#[test]
fn a_batch_goes_out_when_full_at_flush_and_when_dropped() {
    let (mut tx, mut rx) = pipe::<String>().unwrap();
    let mut batch = tx.batch().unwrap();
    batch.send(&"one".to_owned()).unwrap();
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)), "it is held back");
    batch.flush().unwrap();
    assert_eq!(rx.try_recv().unwrap(), "one");

    batch.send(&"two".to_owned()).unwrap();
    batch.send(&text(40_000)).unwrap();
    assert_eq!(rx.try_recv().unwrap(), "two", "32 KiB have come together");
    assert_eq!(rx.try_recv().unwrap(), text(40_000));

    batch.send(&"three".to_owned()).unwrap();
    drop(batch);
    assert_eq!(rx.try_recv().unwrap(), "three");
    tx.send(&"four".to_owned()).unwrap();
    assert_eq!(rx.recv().unwrap(), "four");
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
}

#[test]
fn a_batch_puts_a_rest_out_first() {
    let _watchdog = watchdog("batch behind a rest");
    let (mut tx, mut rx) = pipe::<String>().unwrap();
    assert!(matches!(tx.try_send(&text(200_000)), Err(SendError::Begun { .. })));
    let receiver = std::thread::spawn(move || rx.iter().map(|message| message.len()).collect::<Vec<_>>());
    tx.send_all([text(1), text(2)]).unwrap();
    drop(tx);
    assert_eq!(receiver.join().unwrap(), [200_000, 1, 2]);
}

#[test]
fn a_message_that_cannot_be_encoded_stops_send_all_behind_those_before_it() {
    let (mut tx, mut rx) = pipe::<(u8, Moody)>().unwrap();
    let messages = [(0, Moody::Fine), (1, Moody::Fine), (2, Moody::Refuses), (3, Moody::Fine)];
    let error = tx.send_all(messages).unwrap_err();
    assert_eq!((error.sent, error.kind()), (2, ErrorKind::Encode));
    assert!(matches!(error.source, SendError::Encode(_)));
    tx.send(&(4, Moody::Fine)).unwrap();
    drop(tx);
    let received: Vec<u8> = rx.iter().map(|(n, _)| n).collect();
    assert_eq!(received, [0, 1, 4]);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn a_message_that_cannot_be_encoded_leaves_the_batch_as_it_was() {
    let (mut tx, rx) = pipe::<(u8, Moody)>().unwrap();
    let mut batch = tx.batch().unwrap();
    batch.send(&(0, Moody::Fine)).unwrap();
    assert!(matches!(batch.send(&(1, Moody::Refuses)), Err(SendError::Encode(_))));
    batch.send(&(2, Moody::Fine)).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| batch.send(&(3, Moody::Panics))));
    assert!(panicked.is_err());
    batch.send(&(4, Moody::Fine)).unwrap();
    drop(batch);
    // Dropped while it unwinds, it sends what it holds, and no more.
    let panicked = catch_unwind(AssertUnwindSafe(|| tx.send_all([(5, Moody::Fine), (6, Moody::Panics)])));
    assert!(panicked.is_err());
    tx.send(&(7, Moody::Fine)).unwrap();
    drop(tx);
    let received: Vec<u8> = rx.into_iter().map(|(n, _)| n).collect();
    assert_eq!(received, [0, 2, 4, 5, 7]);
}

#[test]
fn a_message_beyond_the_limit_stops_a_batch_without_harm() {
    let (mut tx, rx) = pipe::<String>().unwrap();
    tx.set_limits(Limits::new().frame_len_max(100));
    let error = tx.send_all([text(10), text(98), text(100), text(1)]).unwrap_err();
    assert_eq!((error.sent, error.kind()), (2, ErrorKind::Limit));
    drop(tx);
    let received: Vec<usize> = rx.into_iter().map(|message| message.len()).collect();
    assert_eq!(received, [10, 98]);
}

#[test]
fn handles_in_a_batch_keep_their_place() {
    let (mut a, mut b) = duplex::<(u8, Option<Receiver<u8>>), ()>().unwrap();
    let (mut tx, rx) = pipe::<u8>().unwrap();
    tx.send(&9).unwrap();
    let messages = [(0, None), (1, None), (2, Some(rx)), (3, None)];
    assert_eq!(a.both().0.send_all(messages).unwrap(), 4);
    for expected in 0..4 {
        let (n, rx) = b.recv().unwrap();
        assert_eq!(n, expected);
        assert_eq!(rx.map(|mut rx| rx.recv().unwrap()), (n == 2).then_some(9));
    }
}

#[test]
fn a_batch_whose_reader_was_killed_is_disconnected() {
    let _watchdog = watchdog("batch, killed reader");
    fn take_one(mut rx: Receiver<u64>) {
        rx.recv().unwrap();
        die()
    }
    let (mut tx, rx) = pipe::<u64>().unwrap();
    let child = Process::spawn(take_one, (rx,)).unwrap();
    let error = tx.send_all(0..u64::MAX).unwrap_err();
    assert!(matches!(error.source, SendError::Disconnected));
    assert!(error.sent > 0);
    assert_killed(child);
}
