//! The flag that others wait for.

use std::time::{Duration, Instant};

use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_sync::{Event, WaitError};
use ipc_testkit::processes::{done, ready, started};
use ipc_testkit::{PATIENCE, SHORT, watchdog};

use crate::tools::Scratch;

#[test]
fn it_is_set_until_it_is_cleared() {
    let event = Event::new().unwrap();
    assert!(!event.is_set() && !event.clear());
    let start = Instant::now();
    assert!(matches!(event.wait_timeout(SHORT), Err(WaitError::Timeout)));
    assert!(start.elapsed() >= SHORT);
    assert!(matches!(event.wait_timeout(Duration::ZERO), Err(WaitError::Timeout)));
    event.set();
    event.set();
    event.wait().unwrap();
    event.wait_timeout(Duration::ZERO).unwrap();
    assert!(event.is_set() && event.clear() && !event.clear());
    assert!(matches!(event.wait_timeout(Duration::ZERO), Err(WaitError::Timeout)));
}

#[test]
fn all_who_wait_are_woken() {
    let _watchdog = watchdog("all_who_wait_are_woken");
    let event = Event::new().unwrap();
    let wait = |event: Event, mut up: Sender<u32>| {
        ready(&mut up);
        event.wait().unwrap();
    };
    let sleepers: Vec<_> = (0..4).map(|_| started(wait, event.clone())).collect();
    std::thread::sleep(SHORT);
    event.set();
    sleepers.into_iter().for_each(|sleeper| done(sleeper));
}

#[test]
fn set_and_cleared_at_once_is_not_missed() {
    let _watchdog = watchdog("set_and_cleared_at_once_is_not_missed");
    let event = Event::new().unwrap();
    let theirs = event.clone();
    let (tx, rx) = std::sync::mpsc::channel();
    let sleeper = std::thread::spawn(move || {
        tx.send(()).unwrap();
        theirs.wait_timeout(PATIENCE)
    });
    rx.recv().unwrap();
    // It waits by now; if it came too late for one, the next one is for it.
    while !sleeper.is_finished() {
        std::thread::sleep(SHORT);
        event.set();
        event.clear();
    }
    sleeper.join().unwrap().unwrap();
    assert!(!event.is_set());
}

#[test]
fn two_answer_each_other() {
    let _watchdog = watchdog("two_answer_each_other");
    fn answer(ping: Event, pong: Event, scratch: Scratch, turns: u64) {
        for turn in 1..=turns {
            ping.wait().unwrap();
            ping.clear();
            // What was written before the event was set is there.
            assert_eq!(scratch.get(0), turn);
            scratch.put(8, turn);
            pong.set();
        }
    }
    let (ping, pong, scratch) = (Event::new().unwrap(), Event::new().unwrap(), Scratch::new());
    let turns = 500;
    let other = Process::spawn(answer, (ping.clone(), pong.clone(), scratch.clone(), turns)).unwrap();
    for turn in 1..=turns {
        scratch.put(0, turn);
        ping.set();
        pong.wait_timeout(PATIENCE).unwrap();
        pong.clear();
        assert_eq!(scratch.get(8), turn);
    }
    done(other);
}
