//! Handles in arguments and results.

use ipc_pipe::{Duplex, Receiver, RecvError, Sender, duplex, pipe};
use ipc_process::{JoinError, Process};
use ipc_testkit::{open_descriptors, watchdog};

use crate::raise_descriptor_limit;

fn numbers_into(mut tx: Sender<u32>, count: u32) {
    (0..count).for_each(|n| tx.send(&n).unwrap());
}

#[test]
fn b14_a_child_passes_a_received_end_on() {
    let _watchdog = watchdog("b14_a_child_passes_a_received_end_on");
    let (tx, rx) = pipe::<u32>().unwrap();
    let passes_on = |tx: Sender<u32>| {
        Process::spawn(|tx: Sender<u32>| numbers_into(tx, 100), (tx,)).unwrap().join().unwrap()
    };
    let process = Process::spawn(passes_on, (tx,)).unwrap();
    assert!(rx.into_iter().eq(0..100), "and the end of it is seen: no copy was left behind");
    process.join().unwrap();
}

#[test]
fn b25_the_parent_has_no_copy_left() {
    let _watchdog = watchdog("b25_the_parent_has_no_copy_left");
    // Dropped right after the spawn, by the spawn: the child still gets it, and its end is the last one.
    for _ in 0..20 {
        let (tx, rx) = pipe::<u32>().unwrap();
        let process = Process::spawn(numbers_into, (tx, 3)).unwrap();
        assert!(rx.into_iter().eq(0..3));
        process.join().unwrap();
    }
}

#[test]
fn a_handle_in_the_result_works_here() {
    let _watchdog = watchdog("a_handle_in_the_result_works_here");
    let makes = || {
        let (mut tx, rx) = pipe::<String>().unwrap();
        tx.send(&"from a process that has ended".to_owned()).unwrap();
        (rx, 5u8)
    };
    let (mut rx, five): (Receiver<String>, u8) = Process::spawn(makes, ()).unwrap().join().unwrap();
    assert_eq!(five, 5);
    assert_eq!(rx.recv().unwrap(), "from a process that has ended");
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn handles_go_along_with_a_large_payload() {
    let _watchdog = watchdog("handles_go_along_with_a_large_payload");
    let (tx, mut rx) = pipe::<usize>().unwrap();
    let echo = |bytes: Vec<u8>, mut tx: Sender<usize>| {
        tx.send(&bytes.len()).unwrap();
        (bytes, tx)
    };
    let (bytes, mut tx) = Process::spawn(echo, (vec![1; 300_000], tx)).unwrap().join().unwrap();
    tx.send(&bytes.len()).unwrap();
    drop(tx);
    assert_eq!([rx.recv().unwrap(), rx.recv().unwrap()], [300_000; 2]);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn duplex_ends_move_into_a_running_child() {
    let _watchdog = watchdog("duplex_ends_move_into_a_running_child");
    let (theirs, mut ours) = duplex::<u32, Receiver<u32>>().unwrap();
    let sums = |mut end: Duplex<u32, Receiver<u32>>| {
        while let Ok(numbers) = end.recv() {
            end.send(&numbers.into_iter().sum()).unwrap();
        }
    };
    let process = Process::spawn(sums, (theirs,)).unwrap();
    for count in [0, 1, 10] {
        let (tx, rx) = pipe().unwrap();
        ours.send(&rx).unwrap();
        numbers_into(tx, count);
        assert_eq!(ours.recv().unwrap(), (0..count).sum());
    }
    drop(ours);
    process.join().unwrap();
}

/// Sends each sender its place in the list, and gives all of them back.
fn number_them(mut all: Vec<Sender<u32>>) -> Vec<Sender<u32>> {
    for (place, tx) in (0..).zip(&mut all) {
        tx.send(&place).unwrap();
    }
    all
}

/// So many handles there and back, in a process that may have many descriptors.
fn there_and_back(count: usize) {
    let before = open_descriptors();
    let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| pipe::<u32>().unwrap()).unzip();
    let mut back = Process::spawn(number_them, (senders,)).unwrap().join().unwrap();
    assert_eq!(back.len(), count);
    for (place, (tx, rx)) in (0..).zip(back.iter_mut().zip(&mut receivers)) {
        tx.send(&(place + 1)).unwrap();
        assert_eq!([rx.recv().unwrap(), rx.recv().unwrap()], [place, place + 1]);
    }
    drop(back);
    assert!(receivers.iter_mut().all(|rx| matches!(rx.recv(), Err(RecvError::Disconnected))));
    drop(receivers);
    // The descriptor of this process itself is opened once and kept.
    assert!(open_descriptors() <= before + 1, "{} and {before} descriptors", open_descriptors());
}

#[test]
fn more_handles_than_one_packet_carries() {
    let _watchdog = watchdog("more_handles_than_one_packet_carries");
    let alone = || {
        if !raise_descriptor_limit(2000) {
            println!("skipped in part: not allowed 2,000 descriptors");
        }
        // With the parent's own descriptor beside them, 252 are what fits.
        [0, 1, 251, 252, 253, 254, 300].into_iter().for_each(there_and_back);
    };
    Process::spawn(alone, ()).unwrap().join().unwrap();
}

#[test]
fn as_many_handles_as_a_message_may_have() {
    let _watchdog = watchdog("as_many_handles_as_a_message_may_have");
    let alone = || {
        let allowed = raise_descriptor_limit(14_000);
        if allowed {
            there_and_back(ipc_core::handle::HANDLES_MAX);
        }
        allowed
    };
    if !Process::spawn(alone, ()).unwrap().join().unwrap() {
        println!("skipped: not allowed 14,000 descriptors");
    }
}

#[test]
fn a_result_with_more_handles_than_there_is_room_for_is_an_error() {
    let _watchdog = watchdog("a_result_with_more_handles_than_there_is_room_for_is_an_error");
    let alone = || {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let makes = || (0..100).map(|_| pipe::<u8>().unwrap().1).collect::<Vec<_>>();
        let process = Process::spawn(makes, ()).unwrap();
        assert!(process.sentinel().wait_ended(None).unwrap());
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 50, hard).unwrap();
        let before = open_descriptors();
        let error = process.join().unwrap_err();
        assert!(
            matches!(&error, JoinError::Io(cause) if cause.to_string().contains("ulimit -n")),
            "{error:?}"
        );
        // Sentinel and socket are gone with it, and so are those that were received.
        assert_eq!(open_descriptors(), before - 2);
    };
    Process::spawn(alone, ()).unwrap().join().unwrap();
}

#[test]
fn handles_of_a_spawn_that_failed_are_closed() {
    let _watchdog = watchdog("handles_of_a_spawn_that_failed_are_closed");
    let (tx, mut rx) = pipe::<u32>().unwrap();
    let failed = Process::builder().executable("/no/such/program").spawn(numbers_into, (tx, 1));
    assert!(failed.is_err());
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    // Nor does a child that never started keep them.
    let (tx, mut rx) = pipe::<u32>().unwrap();
    let refused = Process::builder().executable("/bin/true").spawn(numbers_into, (tx, 1)).unwrap();
    refused.join().unwrap_err();
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}
