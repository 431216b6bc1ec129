//! A peer that writes over what it shares: others get errors or wrong values, and go on.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use ipc_core::{Classify, ErrorKind};
use ipc_queue::{Receiver, Sender, work};
use ipc_testkit::data::Numbers;
use ipc_testkit::processes::{done, ready, started};
use ipc_testkit::watchdog;

/// Where the object begins in the file of a name, and how much of it is more than messages.
const OBJECT: u64 = 532_480;
const HEAD: u64 = 64 << 10;

fn file(kind: &str, name: &str) -> File {
    let base = std::env::var_os("IPC_RUNTIME_DIR").map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from);
    let user = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    let path = base.join(format!("ipc-{user}")).join(format!("{kind}.{name}"));
    File::options().read(true).write(true).open(path).unwrap()
}

/// Anything but what cannot come of scribbled memory.
fn either<T, E: Classify + std::fmt::Debug>(result: Result<T, E>) {
    if let Err(error) = result {
        let expected = [
            ErrorKind::Timeout,
            ErrorKind::Full,
            ErrorKind::Empty,
            ErrorKind::Decode,
            ErrorKind::Limit,
            ErrorKind::Disconnected,
            ErrorKind::Abandoned,
            ErrorKind::Io,
        ];
        assert!(expected.contains(&error.kind()), "{error:?}");
    }
}

const SOON: Duration = Duration::from_millis(1);

type Queue = (Sender<Vec<u8>>, Receiver<Vec<u8>>);
type Work = (work::Sender<Vec<u8>>, work::Receiver<Vec<u8>>);

fn use_it((tx, rx): Queue, mut up: ipc_pipe::Sender<u32>) {
    ready(&mut up);
    use_queue(&tx, &rx, 300);
}

fn use_queue(tx: &Sender<Vec<u8>>, rx: &Receiver<Vec<u8>>, rounds: u32) {
    for n in 0..rounds {
        let bytes = vec![7; if n % 3 == 0 { 9_000 } else { 30 }];
        either(tx.try_send(&bytes));
        either(rx.try_recv());
        either(tx.send_timeout(&bytes, SOON));
        either(rx.recv_timeout(SOON));
        either(tx.try_send_bytes(&bytes));
        either(rx.try_recv_bytes());
        assert!(tx.len() <= tx.capacity() && format!("{tx:?}{rx:?}").contains("capacity"));
    }
}

fn use_work((tx, rx): Work, mut up: ipc_pipe::Sender<u32>) {
    ready(&mut up);
    for n in 0..200 {
        let bytes = vec![7; if n % 3 == 0 { 9_000 } else { 30 }];
        either(tx.try_send(&bytes));
        match rx.recv_timeout(SOON) {
            Ok(job) if n % 2 == 0 => _ = job.ack(),
            Ok(job) => job.nack(),
            Err(error) => either::<(), _>(Err(error)),
        }
        either(rx.try_recv_aside().map(drop));
        either(tx.join_timeout(SOON));
    }
}

/// Interesting values for interesting places: near what is there, near the ends, and anything.
fn scribble(file: &File, numbers: &mut Numbers) {
    let at = OBJECT + numbers.any() % if numbers.any().is_multiple_of(4) { 8 * HEAD } else { HEAD } / 8 * 8;
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).unwrap();
    let now = u64::from_ne_bytes(word);
    let new = match numbers.any() % 8 {
        0 => 0,
        1 => u64::MAX,
        2 => now.wrapping_add(1),
        3 => now.wrapping_sub(1),
        4 => now ^ 1 << (numbers.any() % 64),
        5 => numbers.any() % 4096,
        6 => now.rotate_left(32),
        _ => numbers.any(),
    };
    // A latch that names a living process is waited for, as it may be: it is not worth the time here.
    file.write_all_at(&new.to_ne_bytes(), at).unwrap();
}

#[test]
fn a_queue_whose_words_are_scribbled_over() {
    let _watchdog = watchdog("a_queue_whose_words_are_scribbled_over");
    for seed in 1..=6 {
        let name = format!("test-scribbled-{}-{seed}", std::process::id());
        let mut numbers = Numbers(seed);
        let tx = Sender::<Vec<u8>>::create(&name, 16).unwrap();
        let rx = Receiver::<Vec<u8>>::open(&name).unwrap();
        let users: Vec<_> = (0..2).map(|_| started(use_it, (tx.clone(), rx.clone()))).collect();
        let file = file("queue", &name);
        for _ in 0..4_000 {
            scribble(&file, &mut numbers);
            if numbers.any().is_multiple_of(8) {
                std::thread::yield_now();
            }
        }
        users.into_iter().for_each(done);
    }
}

#[test]
fn a_work_queue_whose_words_are_scribbled_over() {
    let _watchdog = watchdog("a_work_queue_whose_words_are_scribbled_over");
    for seed in 11..=16 {
        let name = format!("test-scribbled-{}-{seed}", std::process::id());
        let mut numbers = Numbers(seed);
        let tx = work::Sender::<Vec<u8>>::create(&name, 16).unwrap();
        let rx = work::Receiver::<Vec<u8>>::open(&name).unwrap();
        let users: Vec<_> = (0..2).map(|_| started(use_work, (tx.clone(), rx.clone()))).collect();
        let file = file("work-queue", &name);
        for _ in 0..4_000 {
            scribble(&file, &mut numbers);
        }
        users.into_iter().for_each(done);
    }
}

#[test]
fn random_memory_is_no_queue_or_one_that_errs() {
    let _watchdog = watchdog("random_memory_is_no_queue_or_one_that_errs");
    let mut opened = 0;
    for seed in 21..=60 {
        let name = format!("test-random-{}-{seed}", std::process::id());
        let mut numbers = Numbers(seed);
        let tx = Sender::<Vec<u8>>::create(&name, 16).unwrap();
        let file = file("queue", &name);
        // All of it, the header too in half of them.
        let start = if seed % 2 == 0 { 32 } else { 8 };
        let bytes: Vec<u8> = (start..32 << 10).map(|_| numbers.any() as u8).collect();
        file.write_all_at(&bytes, OBJECT + start).unwrap();
        match Receiver::<Vec<u8>>::open(&name) {
            Ok(rx) => {
                opened += 1;
                use_queue(&tx, &rx, 3);
            }
            Err(error) => assert!(
                error.to_string().contains("cannot") || error.to_string().contains("queue"),
                "{error}"
            ),
        }
    }
    assert!(opened >= 20);
}
