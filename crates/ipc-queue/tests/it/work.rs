//! Work queues.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ipc_pipe::pipe;
use ipc_process::Process;
use ipc_queue::work::{JoinError, Receiver, Sender};
use ipc_queue::{Options, RecvError, work};
use ipc_testkit::processes::{done, kill, park, ready, started};
use ipc_testkit::{SHORT, watchdog};

const TIME: Duration = Duration::from_millis(50);

#[test]
fn b46_join_returns_after_the_last_acknowledgement() {
    let _watchdog = watchdog("b46_join_returns_after_the_last_acknowledgement");
    let (tx, rx) = work::<u32>(10).unwrap();
    tx.join().unwrap();
    for n in 0..3 {
        tx.send(&n).unwrap();
    }
    assert!(matches!(tx.join_timeout(TIME), Err(JoinError::Timeout)));
    let jobs: Vec<_> = (0..3).map(|_| rx.recv().unwrap()).collect();
    assert!(matches!(tx.join_timeout(TIME), Err(JoinError::Timeout)), "they are out, and not done");
    let waiter = {
        let tx = tx.clone();
        std::thread::spawn(move || tx.join())
    };
    for (n, job) in jobs.into_iter().enumerate() {
        std::thread::sleep(SHORT / 3);
        assert_eq!(job.ack().unwrap(), n as u32);
    }
    waiter.join().unwrap().unwrap();

    tx.send(&1).unwrap();
    drop(rx);
    assert!(matches!(tx.join(), Err(JoinError::Disconnected)));
}

#[test]
fn what_is_given_back_comes_again_first() {
    let _watchdog = watchdog("what_is_given_back_comes_again_first");
    for text in ["short".to_owned(), "long".repeat(5_000)] {
        let (tx, rx) = Options::new(10).attempts(3).work().unwrap();
        tx.send(&text).unwrap();
        tx.send(&"other".to_owned()).unwrap();
        let mut ids = HashSet::new();
        for attempt in 1..=3 {
            let job = rx.recv().unwrap();
            assert_eq!((&*job, job.attempts()), (&text, attempt));
            ids.insert(job.id());
            job.nack();
        }
        assert_eq!(ids.len(), 1);
        // It was delivered often enough: the other one is next.
        assert!(matches!(rx.try_recv_aside(), Err(RecvError::Empty)), "nobody has looked yet");
        let other = rx.recv().unwrap();
        assert_eq!(other.ack().unwrap(), "other");
        assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
        tx.join().unwrap();
        // And whoever looks after what was put aside can have it worked on once more.
        let aside = rx.try_recv_aside().unwrap();
        assert_eq!((&*aside, aside.attempts(), ids.contains(&aside.id())), (&text, 4, true));
        aside.ack().unwrap();
        assert!(matches!(rx.try_recv_aside(), Err(RecvError::Empty)));
        drop(tx);
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    }
}

/// A number that cannot be decoded if it is 13.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "u32")]
struct Lucky(u32);

impl TryFrom<u32> for Lucky {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        if number == 13 { Err("unlucky".to_owned()) } else { Ok(Lucky(number)) }
    }
}

#[test]
fn what_cannot_be_decoded_is_put_aside_and_can_be_looked_at() {
    let (tx, rx) = work::<Lucky>(4).unwrap();
    tx.send_all([Lucky(12), Lucky(13), Lucky(14)]).unwrap();
    assert_eq!(rx.recv().unwrap().ack().unwrap().0, 12);
    assert!(matches!(rx.recv(), Err(RecvError::Decode(_))));
    assert_eq!(rx.recv().unwrap().ack().unwrap().0, 14);
    tx.join_timeout(SHORT).unwrap();

    assert!(matches!(rx.try_recv_aside(), Err(RecvError::Decode(_))));
    let aside = rx.try_recv_aside_bytes().unwrap();
    assert_eq!((&aside[..], aside.id()), (&[13][..], 1));
    aside.ack().unwrap();
    assert!(matches!(rx.try_recv_aside_bytes(), Err(RecvError::Empty)));
}

fn take_and_die(rx: Receiver<Vec<u8>>, mut up: ipc_pipe::Sender<u32>) {
    let _job = rx.recv().unwrap();
    ready(&mut up);
    park();
}

#[test]
fn the_message_of_a_killed_worker_comes_again() {
    let _watchdog = watchdog("the_message_of_a_killed_worker_comes_again");
    for len in [10, 50_000] {
        let (tx, rx) = work(10).unwrap();
        tx.send(&vec![7; len]).unwrap();
        let worker = started(take_and_die, rx.clone());
        assert!(matches!(rx.try_recv(), Err(RecvError::Empty)), "it has it");
        drop(tx);
        // Nobody sends any more, but this may come yet.
        let waiter = std::thread::spawn(move || {
            let job = rx.recv().unwrap();
            let seen = (job.len(), job.attempts());
            job.ack().unwrap();
            (seen, rx.recv().is_err())
        });
        std::thread::sleep(SHORT);
        kill(worker);
        assert_eq!(waiter.join().unwrap(), ((len, 2), true));
    }
}

fn square(jobs: Receiver<u64>, results: ipc_queue::Sender<(u64, u64)>) -> u32 {
    let mut count = 0;
    for job in &jobs {
        results.send(&(*job, *job * *job)).unwrap();
        job.ack().unwrap();
        count += 1;
    }
    count
}

#[test]
fn three_workers_and_ten_tasks() {
    let _watchdog = watchdog("three_workers_and_ten_tasks");
    let (tx, jobs) = work(4).unwrap();
    let (results, rx) = ipc_queue::bounded(4).unwrap();
    let workers: Vec<_> =
        (0..3).map(|_| Process::spawn(square, (jobs.clone(), results.clone())).unwrap()).collect();
    drop((jobs, results));
    let sender = std::thread::spawn(move || {
        tx.send_all(0..10).unwrap();
        tx.join().unwrap();
    });
    let mut squares: Vec<_> = rx.iter().collect();
    squares.sort_unstable();
    assert_eq!(squares, (0..10).map(|n| (n, n * n)).collect::<Vec<_>>());
    sender.join().unwrap();
    assert_eq!(workers.into_iter().map(done).sum::<u32>(), 10);
}

fn work_for_ever(jobs: Receiver<(u64, Vec<u8>)>, results: ipc_queue::Sender<(u64, u32, u64)>) {
    for job in &jobs {
        assert!(job.1.iter().all(|byte| *byte == job.0 as u8), "a torn message");
        results.send(&(job.0, job.attempts(), job.id())).unwrap();
        job.ack().unwrap();
    }
}

/// Workers are killed at any time: every job is done, and done twice only with more than one attempt to show.
#[test]
fn nothing_is_lost_whoever_is_killed() {
    let _watchdog = watchdog("nothing_is_lost_whoever_is_killed");
    const JOBS: u64 = 6_000;
    let (tx, jobs) = Options::new(16).bytes(256 << 10).work().unwrap();
    let (results, rx) = ipc_queue::bounded(1_000).unwrap();
    let start = || Process::spawn(work_for_ever, (jobs.clone(), results.clone())).unwrap();
    let mut workers = vec![start(), start()];
    let sender = std::thread::spawn(move || {
        for n in 0..JOBS {
            let len = if n % 3 == 0 { 20_000 } else { 20 };
            tx.send(&(n, vec![n as u8; len])).unwrap();
        }
        tx.join().unwrap();
    });
    let mut seen: HashMap<u64, (u32, u64)> = HashMap::new();
    let mut kills = 0;
    let mut received = 0_u32;
    while seen.len() < JOBS as usize {
        let (job, attempts, id) = rx.recv_timeout(Duration::from_secs(20)).unwrap();
        if let Some((before, same)) = seen.insert(job, (attempts, id)) {
            assert!(attempts > before && id == same, "{job} came twice: {before} and {attempts}");
        }
        received += 1;
        if received.is_multiple_of(200) && kills < 25 {
            let victim = workers.swap_remove(kills % workers.len());
            kill(victim);
            kills += 1;
            workers.push(start());
        }
    }
    sender.join().unwrap();
    assert!(kills >= 25);
    drop((jobs, results));
    workers.into_iter().for_each(done);
}

fn take_named(name: String) -> Vec<u32> {
    let rx = Receiver::<u32>::open(&name).unwrap();
    rx.iter().map(|job| job.ack().unwrap()).collect()
}

#[test]
fn work_queues_have_names_and_travel() {
    let _watchdog = watchdog("work_queues_have_names_and_travel");
    let name = format!("test-work-{}", std::process::id());
    let tx = Sender::<u32>::create(&name, 8).unwrap();
    assert!(ipc_queue::Receiver::<u32>::open(&name).is_err(), "a name of another kind");
    let worker = Process::spawn(take_named, (name,)).unwrap();
    tx.send_all(0..100).unwrap();
    tx.join().unwrap();
    drop(tx);
    assert_eq!(done(worker), (0..100).collect::<Vec<_>>());
}

fn hold_many(rx: Receiver<u32>, mut up: ipc_pipe::Sender<u32>) -> usize {
    let jobs: Vec<_> = (0..64).map(|_| rx.recv().unwrap()).collect();
    let more = rx.recv_timeout(TIME);
    assert!(matches!(more, Err(RecvError::Timeout)), "no more can be out at once: {more:?}");
    ready(&mut up);
    let mut count = 0;
    for job in jobs.into_iter().chain(rx.iter()) {
        job.ack().unwrap();
        count += 1;
    }
    count
}

#[test]
fn as_many_can_be_out_as_there_are_leases() {
    let _watchdog = watchdog("as_many_can_be_out_as_there_are_leases");
    let (tx, rx) = work(64).unwrap();
    let (up, mut is_ready) = pipe().unwrap();
    let worker = Process::spawn(hold_many, (rx.clone(), up)).unwrap();
    drop(rx);
    tx.send_all(0..100).unwrap();
    is_ready.recv().unwrap();
    drop(tx);
    assert_eq!(done(worker), 100);
}
