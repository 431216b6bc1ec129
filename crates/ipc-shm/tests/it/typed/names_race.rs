//! Objects with names, when many make, open and drop them at once, and are killed.

use std::time::{Duration, Instant};

use ipc_process::Process;
use ipc_shm::{Array, Value};
use ipc_sync::{Event, Lock, OpenError};
use ipc_testkit::data::Numbers;
use ipc_testkit::processes::{done, kill};
use ipc_testkit::watchdog;

use super::tools::*;

/// Larger than a page, so that it takes a moment to fill.
type Token = [u64; 1000];

/// Nobody else ever makes this one.
fn token(numbers: &mut Numbers) -> Token {
    [u64::from(std::process::id()) << 40 | numbers.any() >> 24; 1000]
}

fn is_whole(token: &Token) -> bool {
    token.iter().all(|word| *word == token[0])
}

/// Makes, opens and drops one name, and looks each time whether it still means what this process has.
fn contend(start: Event, seed: u64, time: Duration) -> [u32; 4] {
    let mut numbers = Numbers(seed | 1);
    let mut counts = [0; 4];
    start.wait().unwrap();
    let until = Instant::now() + time;
    while Instant::now() < until {
        let mine = token(&mut numbers);
        let (opened, way) = match numbers.below(3) {
            0 => (Value::create("contended", mine), 0),
            1 => (Value::open("contended"), 1),
            _ => (Value::open_or_create("contended", mine), 2),
        };
        let value = match opened {
            Ok(value) => value,
            Err(OpenError::AlreadyExists { .. }) if way == 0 => continue,
            Err(OpenError::NotFound { .. }) if way == 1 => continue,
            Err(other) => panic!("{way}: {other:?}"),
        };
        counts[way] += 1;
        let first = value.get();
        assert!(is_whole(&first));
        if way == 0 {
            assert_eq!(first[0], mine[0], "what this process has made is another's");
        }
        counts[3] += u32::from(first[0] == mine[0]);
        for _ in 0..numbers.below(4) {
            // As long as this process has it, the name means it.
            match Value::<Token>::open("contended") {
                Ok(again) => assert_eq!(again.get()[0], first[0], "another was made in its place"),
                Err(other) => panic!("somebody took its name away: {other:?}"),
            }
            match Value::create("contended", mine) {
                Err(OpenError::AlreadyExists { .. }) => {}
                other => panic!("made in the place of one that is used: {other:?}"),
            }
            let either = Value::open_or_create("contended", mine).unwrap();
            assert_eq!(either.get()[0], first[0]);
        }
        if numbers.below(8) == 0 {
            std::thread::sleep(Duration::from_micros(numbers.below(1500)));
        }
    }
    counts
}

#[test]
fn twenty_processes_agree_on_one_object() {
    let _watchdog = watchdog("twenty_processes_agree_on_one_object");
    private("typed::names_race::twenty_processes_agree_on_one_object", |directory| {
        // Of twenty somebody nearly always has it; of three often nobody, and they meet at the beginning and at the end.
        for count in [20, 3] {
            let start = Event::new().unwrap();
            let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
            let time = Duration::from_millis(900);
            let workers: Vec<_> = (0..count)
                .map(|_| Process::spawn(contend, (start.clone(), numbers.any(), time)).unwrap())
                .collect();
            start.set();
            let mut all = [0; 4];
            for worker in workers {
                for (sum, count) in all.iter_mut().zip(done(worker)) {
                    *sum += count;
                }
            }
            println!("created {}, opened {}, either {}; made {}", all[0], all[1], all[2], all[3]);
            assert!(all[3] > 0 && all[1] + all[2] > 0);
            assert!(matches!(Value::<Token>::open("contended"), Err(OpenError::NotFound { .. })));
            assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0, "the last user has taken it away");
        }
    });
}

/// Makes and opens names until it is killed.
fn churn(seed: u64) {
    let mut numbers = Numbers(seed | 1);
    let mut held = Vec::new();
    loop {
        let name = format!("name-{}", numbers.below(6));
        let mine = token(&mut numbers);
        let opened = match numbers.below(3) {
            0 => Value::create(&name, mine),
            1 => Value::<Token>::open(&name),
            _ => Value::open_or_create(&name, mine),
        };
        match opened {
            Ok(value) => {
                assert!(is_whole(&value.get()), "half made");
                held.push(value);
            }
            Err(OpenError::AlreadyExists { .. } | OpenError::NotFound { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
        if held.len() > 3 {
            held.swap_remove(numbers.below(4) as usize);
        }
    }
}

#[test]
fn the_killed_leave_no_names() {
    let _watchdog = watchdog("the_killed_leave_no_names");
    private("typed::names_race::the_killed_leave_no_names", |directory| {
        let count = || std::fs::read_dir(directory).map_or(0, Iterator::count);
        let mut numbers = Numbers(0x1234_5678_9abc_def1);
        let start = Instant::now();
        let (mut rounds, mut left) = (0, 0);
        while start.elapsed() < Duration::from_millis(1500) {
            let workers: Vec<_> = (0..3).map(|_| Process::spawn(churn, (numbers.any(),)).unwrap()).collect();
            std::thread::sleep(Duration::from_micros(3000 + numbers.below(12_000)));
            workers.into_iter().for_each(kill);
            left += count();
            rounds += 1;
            match rounds % 3 {
                0 => {
                    // What is left counts as not there.
                    for n in 0..6 {
                        let name = format!("name-{n}");
                        assert!(matches!(Value::<Token>::open(&name), Err(OpenError::NotFound { .. })));
                    }
                }
                1 => {
                    ipc_sync::reclaim().unwrap();
                }
                // Another name does it, of another kind too: a few are looked at each time.
                _ => {
                    for _ in 0..3 {
                        drop(Lock::create("other").unwrap());
                    }
                }
            }
            assert_eq!(count(), 0, "round {rounds}");
        }
        println!("{rounds} rounds, {left} names left by the killed");
        assert!(left > 0, "nobody was killed with a name");
    });
}

/// Makes one large object with a name again and again.
fn make_large(go: Array<u64>) {
    let mut turn = 0_u64;
    while goes_on(&go) {
        turn += 1;
        match Value::create("large", [turn; 20_000]) {
            Ok(_) | Err(OpenError::AlreadyExists { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn nobody_opens_what_is_half_made() {
    let _watchdog = watchdog("nobody_opens_what_is_half_made");
    private("typed::names_race::nobody_opens_what_is_half_made", |directory| {
        let go = Array::new(1).unwrap();
        let maker = Process::spawn(make_large, (go.clone(),)).unwrap();
        let (mut found, mut missed) = (0, 0);
        let start = Instant::now();
        while found < 40 && start.elapsed() < Duration::from_secs(10) {
            match Value::<[u64; 20_000]>::open("large") {
                Ok(value) => {
                    let now = value.get();
                    assert!(now[0] > 0 && now.iter().all(|word| *word == now[0]));
                    found += 1;
                    drop(value);
                }
                Err(OpenError::NotFound { .. }) => missed += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        go.set(0, 1).unwrap();
        println!("found {found}, missed {missed}");
        assert!(found > 0);
        done(maker);
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0);
    });
}
