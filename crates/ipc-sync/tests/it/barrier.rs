//! The meeting point.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use ipc_core::{Classify, ErrorKind};
use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_sync::{Barrier, BarrierError, Event};
use ipc_testkit::processes::{done, ready, started};
use ipc_testkit::{PATIENCE, SHORT, eventually, watchdog};

use crate::tools::Scratch;

pub(crate) fn is_broken(result: &Result<u32, BarrierError>) -> bool {
    matches!(result, Err(BarrierError::Broken))
}

/// Waits at the barrier: whether that ended with a broken one.
fn wait(barrier: Barrier, mut up: Sender<u32>) -> bool {
    ready(&mut up);
    is_broken(&barrier.wait())
}

/// Processes that wait.
fn waiting(barrier: &Barrier, count: u32) -> Vec<Process<bool>> {
    let processes = (0..count).map(|_| started(wait, barrier.clone())).collect();
    eventually("they wait", || barrier.waiting() == count);
    processes
}

#[test]
fn all_meet_and_each_has_a_number() {
    let _watchdog = watchdog("all_meet_and_each_has_a_number");
    fn meet(barrier: Barrier, scratch: Scratch) -> Vec<u32> {
        (0..300)
            .map(|turn| {
                // Everybody has come to this turn, and nobody has begun the next one.
                scratch.add(0);
                let number = barrier.wait().unwrap();
                let came = scratch.get(0);
                assert!((3 * (turn + 1)..=3 * (turn + 2)).contains(&came), "{came} in turn {turn}");
                number
            })
            .collect()
    }
    let (barrier, scratch) = (Barrier::new(3).unwrap(), Scratch::new());
    let processes: Vec<_> =
        (0..3).map(|_| Process::spawn(meet, (barrier.clone(), scratch.clone())).unwrap()).collect();
    let numbers: Vec<_> = processes.into_iter().map(done).collect();
    for turn in 0..300 {
        let mut of_turn: Vec<_> = numbers.iter().map(|of| of[turn]).collect();
        of_turn.sort_unstable();
        assert_eq!(of_turn, [0, 1, 2], "turn {turn}");
    }
    assert_eq!((barrier.waiting(), barrier.parties(), barrier.is_broken()), (0, 3, false));
}

#[test]
fn the_action_runs_once_and_before_anybody_goes_on() {
    let _watchdog = watchdog("the_action_runs_once_and_before_anybody_goes_on");
    fn meet(barrier: Barrier, scratch: Scratch) {
        for turn in 1..=100 {
            barrier
                .wait_timeout_and(PATIENCE, || {
                    std::thread::sleep(Duration::from_micros(200));
                    scratch.add(0);
                })
                .unwrap();
            assert_eq!(scratch.get(0), turn);
            // So that nobody's next turn comes before this one is looked at.
            barrier.wait().unwrap();
        }
    }
    let (barrier, scratch) = (Barrier::new(3).unwrap(), Scratch::new());
    let processes: Vec<_> =
        (0..3).map(|_| Process::spawn(meet, (barrier.clone(), scratch.clone())).unwrap()).collect();
    processes.into_iter().for_each(|process| done(process));
    assert_eq!(scratch.get(0), 100);
}

#[test]
fn a_time_out_breaks_it_for_all_until_it_is_reset() {
    let _watchdog = watchdog("a_time_out_breaks_it_for_all_until_it_is_reset");
    let barrier = Barrier::new(4).unwrap();
    let processes = waiting(&barrier, 2);
    let start = Instant::now();
    let error = barrier.wait_timeout(SHORT).unwrap_err();
    assert!(matches!(error, BarrierError::Timeout) && error.kind() == ErrorKind::Timeout);
    assert!(start.elapsed() >= SHORT);
    assert!(processes.into_iter().all(done));
    assert!(barrier.is_broken() && is_broken(&barrier.wait()) && is_broken(&barrier.wait_timeout(PATIENCE)));
    assert_eq!(barrier.waiting(), 0, "nobody waits at a broken one");
    barrier.reset().unwrap();
    assert!(!barrier.is_broken());
    let processes = waiting(&barrier, 3);
    assert_eq!(barrier.wait().unwrap(), 3);
    assert!(!processes.into_iter().any(done));
}

#[test]
fn abort_and_reset_end_the_waits() {
    let _watchdog = watchdog("abort_and_reset_end_the_waits");
    let barrier = Barrier::new(3).unwrap();
    let processes = waiting(&barrier, 2);
    barrier.abort().unwrap();
    assert!(processes.into_iter().all(done));
    assert!(barrier.is_broken());
    barrier.reset().unwrap();
    let processes = waiting(&barrier, 2);
    barrier.reset().unwrap();
    assert!(processes.into_iter().all(done), "a reset while they wait");
    assert!(!barrier.is_broken(), "but it is of use");
    let processes = waiting(&barrier, 2);
    assert_eq!(barrier.wait().unwrap(), 2);
    assert!(!processes.into_iter().any(done));
}

#[test]
fn a_panic_in_the_action_breaks_it() {
    let _watchdog = watchdog("a_panic_in_the_action_breaks_it");
    let barrier = Barrier::new(2).unwrap();
    let processes = waiting(&barrier, 1);
    let panicked = catch_unwind(AssertUnwindSafe(|| barrier.wait_and(|| panic!("on purpose"))));
    assert!(panicked.is_err() && barrier.is_broken());
    assert!(processes.into_iter().all(done));
}

#[test]
fn who_comes_too_late_for_one_is_of_the_next() {
    let _watchdog = watchdog("who_comes_too_late_for_one_is_of_the_next");
    // Three use a barrier of two: while two of them meet and their action runs, the third comes.
    let (barrier, inside) = (Barrier::new(2).unwrap(), Event::new().unwrap());
    let first = waiting(&barrier, 1);
    let last = Process::spawn(
        |barrier: Barrier, inside: Event| {
            barrier
                .wait_and(|| {
                    inside.set();
                    std::thread::sleep(4 * SHORT);
                })
                .unwrap()
        },
        (barrier.clone(), inside.clone()),
    )
    .unwrap();
    inside.wait_timeout(PATIENCE).unwrap();
    let late = std::thread::spawn({
        let barrier = barrier.clone();
        move || barrier.wait_timeout(PATIENCE)
    });
    assert_eq!(done(last), 1);
    assert!(!first.into_iter().any(done));
    eventually("the late one waits", || barrier.waiting() == 1);
    assert_eq!(barrier.wait_timeout(PATIENCE).unwrap(), 1);
    assert_eq!(late.join().unwrap().unwrap(), 0);
}

#[test]
fn a_barrier_has_parties() {
    for parties in [0, 4097] {
        assert_eq!(Barrier::new(parties).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let one = Barrier::new(1).unwrap();
    assert_eq!(one.wait_timeout(Duration::ZERO).unwrap(), 0);
    assert!(matches!(Barrier::new(4096).unwrap().wait_timeout(Duration::ZERO), Err(BarrierError::Timeout)));
}
