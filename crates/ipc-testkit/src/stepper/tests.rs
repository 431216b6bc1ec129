//! The stepper held against operations whose every intermediate state is known.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use ipc_os::map::{Access, Mapping};
use ipc_os::memfd;
use ipc_pipe::{Receiver, Sender};

use super::*;
use crate::watchdog;

fn quick(kill_points: KillPoints) -> Stepper {
    Stepper { kill_points, ..Stepper::default() }
}

fn step(scenario: &impl Steps, kill_points: KillPoints) -> Report {
    let report = scenario.step(&quick(kill_points), &mut |_| ());
    println!("{report:#?}");
    report
}

/// Memory that is shared, and a path by which another process can open it.
fn shared(len: usize) -> Result<(OwnedFd, String), BoxError> {
    let fd = memfd::shared("stepper", len)?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
    Ok((fd, path))
}

fn open(path: &str) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

fn words(fd: &OwnedFd) -> Result<(u64, u64), BoxError> {
    let map = Mapping::new(fd, 16, Access::Read)?;
    Ok((map.u64(0)?.load(SeqCst), map.u64(8)?.load(SeqCst)))
}

/// Two words, written by two system calls.
fn write_both(path: String) {
    let file = open(&path);
    operation(|| {
        file.write_all_at(&1_u64.to_ne_bytes(), 0).unwrap();
        file.write_all_at(&1_u64.to_ne_bytes(), 8).unwrap();
    });
}

/// Two words, written by two instructions.
fn store_both(path: String) {
    let map = Mapping::new(open(&path), 16, Access::ReadWrite).unwrap();
    operation(|| {
        map.u64(0).unwrap().fetch_add(1, SeqCst);
        map.u64(8).unwrap().store(1, Relaxed);
    });
}

type Seen = Rc<RefCell<BTreeSet<(u64, u64)>>>;

fn two_words(seen: &Seen) -> impl Fn(&mut OwnedFd, Outcome<()>) -> Result<(), BoxError> + 'static {
    let seen = Rc::clone(seen);
    move |fd, outcome| {
        let words = words(fd)?;
        seen.borrow_mut().insert(words);
        match (words, outcome) {
            ((1, 1), _) | ((0 | 1, 0), Outcome::Killed) => Ok(()),
            (words, outcome) => Err(format!("{words:?} after {outcome:?}").into()),
        }
    }
}

#[test]
fn every_state_between_two_writes_is_seen() {
    let _watchdog = watchdog("every_state_between_two_writes_is_seen");
    let seen = Seen::default();
    let scenario = Scenario::new("write both", || shared(16), write_both, two_words(&seen));
    let report = step(&scenario, KillPoints::All);
    assert!(report.is_success());
    assert_eq!(*seen.borrow(), BTreeSet::from([(0, 0), (1, 0), (1, 1)]));
    assert_eq!((report.chosen, report.completed), (report.moments, 1));
    assert_eq!((report.kills, report.strayed), (report.moments, 0));
    assert!(report.moments > report.instructions, "entries of system calls are moments too");
}

#[test]
fn every_state_between_two_stores_is_seen_even_by_a_small_sample() {
    let _watchdog = watchdog("every_state_between_two_stores_is_seen_even_by_a_small_sample");
    let seen = Seen::default();
    let scenario = Scenario::new("store both", || shared(16), store_both, two_words(&seen));
    let report = step(&scenario, KillPoints::Sample(8));
    assert!(report.is_success());
    assert_eq!(*seen.borrow(), BTreeSet::from([(0, 0), (1, 0), (1, 1)]));
    assert_eq!((report.chosen, report.kills, report.completed), (8, 8, 1));
}

#[test]
fn an_oracle_that_is_wrong_fails_where_it_is_wrong() {
    let _watchdog = watchdog("an_oracle_that_is_wrong_fails_where_it_is_wrong");
    let oracle = |fd: &mut OwnedFd, _| match words(fd)? {
        (0, 0) | (1, 1) => Ok(()),
        torn => Err(format!("torn: {torn:?}").into()),
    };
    let report = step(&Scenario::new("atomic?", || shared(16), store_both, oracle), KillPoints::All);
    assert!(
        !report.failures.is_empty()
            && report.failures.iter().all(|failure| failure.message == "torn: (1, 0)")
    );
    let places: Vec<&str> = report.failures.iter().map(|failure| failure.place.as_str()).collect();
    assert!(places.iter().any(|place| place.contains("store_both")), "{places:?}");

    let panics = |_: &mut OwnedFd, _| panic!("an assertion");
    let report = step(&Scenario::new("panics", || shared(16), store_both, panics), KillPoints::All);
    assert!(report.failures[0].message.contains("an assertion"), "{report:?}");
    assert_eq!(report.kills, 0, "the first run had failed already");
}

#[test]
fn a_process_that_sleeps_is_killed_there_and_survivors_wake_it() {
    let _watchdog = watchdog("a_process_that_sleeps_is_killed_there_and_survivors_wake_it");
    let prepare = || {
        let (mut sender, receiver) = ipc_pipe::pipe::<u32>()?;
        sender.send(&4)?;
        Ok(((sender, false), receiver))
    };
    let receive = |mut receiver: Receiver<u32>| {
        // The first message makes the buffer, which takes a hundred thousands of instructions without optimisation.
        assert_eq!(receiver.recv().unwrap(), 4);
        operation(|| receiver.recv()).ok()
    };
    let seen = Rc::new(RefCell::new(BTreeSet::new()));
    let noted = Rc::clone(&seen);
    let oracle = move |(_, sent): &mut (Sender<u32>, bool), outcome: Outcome<Option<u32>>| {
        noted.borrow_mut().insert((*sent, outcome == Outcome::Killed));
        match (sent, outcome) {
            (true, Outcome::Completed(Some(5))) | (_, Outcome::Killed) => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    };
    let scenario = Scenario::new("sleeps", prepare, receive, oracle).while_blocked(|(sender, sent), turn| {
        assert_eq!(turn, 0);
        sender.send(&5).unwrap();
        *sent = true;
    });
    let report = step(&scenario, KillPoints::Sample(200));
    assert!(report.is_success());
    assert_eq!(report.strayed, 0);
    assert!(report.blocked > 1, "{report:?}");
    assert_eq!(*seen.borrow(), BTreeSet::from([(false, true), (true, true), (true, false)]));
}

#[test]
fn loops_are_landed_in() {
    let _watchdog = watchdog("loops_are_landed_in");
    // Counts in shared memory; the oracle sees whether the process was really taken as far as was said.
    let count = |path: String| {
        let map = Mapping::new(open(&path), 16, Access::ReadWrite).unwrap();
        operation(|| {
            for _ in 0..300 {
                map.u64(0).unwrap().fetch_add(1, SeqCst);
            }
        });
    };
    let counts = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&counts);
    let oracle = move |fd: &mut OwnedFd, _: Outcome<()>| {
        noted.borrow_mut().push(words(fd)?.0);
        Ok(())
    };
    let report = step(&Scenario::new("counts", || shared(16), count, oracle), KillPoints::Sample(60));
    assert!(report.is_success());
    assert_eq!((report.kills, report.strayed), (60, 0));
    let counts = counts.borrow();
    // The first run is completed; in each pass of the sample they rise from there.
    let falls = counts.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!(falls <= 4 && counts[0] == 300 && counts.contains(&0), "{counts:?}");
    assert!(counts[1..].iter().collect::<BTreeSet<_>>().len() > 30, "{counts:?}");
}

#[test]
fn a_breakpoint_behind_the_end_is_no_place_to_be_killed_at() {
    let _watchdog = watchdog("a_breakpoint_behind_the_end_is_no_place_to_be_killed_at");
    #[inline(never)]
    fn work(map: &Mapping) {
        for round in 0..4 {
            std::hint::black_box(map.u64(0).unwrap().load(SeqCst) + round);
        }
    }
    let first = std::cell::Cell::new(true);
    let prepare = move || {
        let (fd, path) = shared(16)?;
        Ok((fd, (path, first.replace(false))))
    };
    let process = |(path, first): (String, bool)| {
        let map = Mapping::new(open(&path), 16, Access::ReadWrite).unwrap();
        operation(|| {
            if first {
                work(&map)
            }
        });
        map.u64(8).unwrap().store(1, SeqCst);
        work(&map);
    };
    let oracle = |fd: &mut OwnedFd, outcome| match (words(fd)?.1, outcome) {
        (0, Outcome::Killed) | (1, Outcome::Completed(())) => Ok(()),
        other => Err(format!("{other:?}").into()),
    };
    let report = step(&Scenario::new("ends early", prepare, process, oracle), KillPoints::Sample(40));
    assert!(report.is_success() && report.completed > 10, "{report:?}");
}

#[test]
fn filling_a_buffer_of_ones_own_is_few_moments() {
    let _watchdog = watchdog("filling_a_buffer_of_ones_own_is_few_moments");
    let fill = |byte: u8| operation(|| vec![byte; 1 << 20].last().copied());
    let oracle = |_: &mut (), outcome| match outcome {
        Outcome::Killed | Outcome::Completed(Some(7)) => Ok(()),
        other => Err(format!("{other:?}").into()),
    };
    let report = step(&Scenario::new("fill", || Ok(((), 7)), fill, oracle), KillPoints::Sample(20));
    assert!(report.is_success());
    assert_eq!((report.kills, report.strayed), (20, 0));
    assert!(report.instructions < 100_000, "a step a byte: {}", report.instructions);
}

#[test]
fn a_process_that_ends_otherwise_is_a_failure() {
    let _watchdog = watchdog("a_process_that_ends_otherwise_is_a_failure");
    let oracle = |_: &mut (), _: Outcome<()>| Ok(());
    let panics = Scenario::new("panics", || Ok(((), ())), |_: ()| operation(|| panic!("on purpose")), oracle);
    let report = step(&panics, KillPoints::Sample(3));
    assert!(report.failures[0].message.contains("on purpose"), "{report:?}");

    let has_none = Scenario::new("has none", || Ok(((), ())), |_: ()| (), oracle);
    let report = step(&has_none, KillPoints::Sample(3));
    assert!(report.failures[0].message.contains("no operation"), "{report:?}");
}

#[test]
fn other_threads_of_the_process_run_and_do_not_meet_breakpoints() {
    let _watchdog = watchdog("other_threads_of_the_process_run_and_do_not_meet_breakpoints");
    let process = |path: String| {
        let map = Mapping::new(open(&path), 16, Access::ReadWrite).unwrap();
        // It is busy for a while, with code that the operation uses as well.
        std::thread::spawn(|| {
            let start = std::time::Instant::now();
            while start.elapsed() < Duration::from_millis(5) {
                std::hint::black_box(format!("{start:?}"));
            }
            std::thread::sleep(Duration::from_secs(600));
        });
        operation(|| {
            let text: Vec<String> = (0..5).map(|i| format!("{i}")).collect();
            map.u64(0).unwrap().store(text.len() as u64, SeqCst);
        });
    };
    let oracle = |fd: &mut OwnedFd, outcome| match (words(fd)?.0, outcome) {
        (5, _) | (0, Outcome::Killed) => Ok(()),
        other => Err(format!("{other:?}").into()),
    };
    let report = step(&Scenario::new("threads", || shared(16), process, oracle), KillPoints::Sample(100));
    assert!(report.is_success());
    assert_eq!(report.kills, 100);
}

#[test]
fn a_survivor_that_panics_is_a_failure() {
    let _watchdog = watchdog("a_survivor_that_panics_is_a_failure");
    let sleep = |_: ()| operation(|| std::thread::sleep(Duration::from_secs(600)));
    let scenario = Scenario::new("a turn", || Ok(((), ())), sleep, |_, _| Ok(()));
    let report = step(&scenario.while_blocked(|_, _| panic!("not today")), KillPoints::Sample(3));
    assert!(report.failures[0].message.contains("not today"), "{report:?}");
}

#[test]
fn a_process_that_sleeps_for_ever_is_a_failure() {
    let _watchdog = watchdog("a_process_that_sleeps_for_ever_is_a_failure");
    let sleep = |_: ()| operation(|| std::thread::sleep(Duration::from_secs(600)));
    let scenario = Scenario::new("for ever", || Ok(((), ())), sleep, |_, _| Ok(()));
    let stepper = Stepper { patience: Duration::from_millis(300), ..Stepper::default() };
    let report = scenario.step(&stepper, &mut |_| ());
    assert!(report.failures[0].message.contains("not ended in time"), "{report:?}");
    assert!(report.blocked > 10);
}

#[test]
fn outside_of_a_stepper_an_operation_is_a_call() {
    assert_eq!(operation(|| 5), 5);
}
