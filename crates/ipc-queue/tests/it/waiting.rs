//! Waiting for several things at once.

use std::time::{Duration, Instant};

use ipc_process::Process;
use ipc_queue::{Sender, Waitable, bounded, wait, work};
use ipc_testkit::processes::{done, kill, park, ready, started};
use ipc_testkit::{LONG, SHORT, watchdog};

fn send_soon(tx: Sender<u32>) {
    std::thread::sleep(SHORT);
    tx.send(&7).unwrap();
}

#[test]
fn several_queues() {
    let _watchdog = watchdog("several_queues");
    let (tx, rx) = bounded::<u32>(4).unwrap();
    let (other_tx, other) = bounded::<u32>(4).unwrap();
    assert_eq!(wait(&[&rx, &other], Some(Duration::ZERO)).unwrap(), [0; 0]);
    let start = Instant::now();
    assert_eq!(wait(&[&rx, &other], Some(SHORT)).unwrap(), [0; 0]);
    assert!(start.elapsed() >= SHORT);
    let process = Process::spawn(send_soon, (other_tx.clone(),)).unwrap();
    assert_eq!(wait(&[&rx, &other], Some(LONG)).unwrap(), [1]);
    tx.send(&1).unwrap();
    assert_eq!(wait(&[&rx, &other], None).unwrap(), [0, 1]);
    assert_eq!((rx.recv().unwrap(), other.recv().unwrap()), (1, 7));
    done(process);
    drop(other_tx);
    assert_eq!(wait(&[&rx, &other], Some(LONG)).unwrap(), [1], "nobody can send any more");
}

fn park_with(_tx: Sender<u32>, mut up: ipc_pipe::Sender<u32>) {
    ready(&mut up);
    park()
}

#[test]
fn queues_descriptors_and_children() {
    let _watchdog = watchdog("queues_descriptors_and_children");
    let (tx, rx) = bounded::<u32>(4).unwrap();
    let (mut pipe_tx, mut pipe_rx) = ipc_pipe::pipe::<u32>().unwrap();
    let child = Process::spawn(send_soon, (tx.clone(),)).unwrap();
    let first = wait(&[&pipe_rx, &rx], Some(LONG)).unwrap();
    assert_eq!((first, rx.recv().unwrap()), (vec![1], 7));
    {
        let sources: [&dyn Waitable; 3] = [&rx, &pipe_rx, child.sentinel()];
        assert_eq!(wait(&sources, Some(LONG)).unwrap(), [2], "the child ends");
    }
    done(child);
    let sender = std::thread::spawn(move || {
        std::thread::sleep(SHORT);
        pipe_tx.send(&5).unwrap();
    });
    assert_eq!(wait(&[&rx, &pipe_rx], Some(LONG)).unwrap(), [1]);
    assert_eq!(pipe_rx.recv().unwrap(), 5);
    sender.join().unwrap();
    // Somebody who is killed wakes nobody, and is noticed all the same.
    let holder = started(park_with, tx);
    let killer = std::thread::spawn(move || {
        std::thread::sleep(SHORT);
        kill(holder);
    });
    let (quiet, _kept) = ipc_pipe::pipe::<u32>().unwrap();
    drop(quiet);
    let (_kept, quiet) = ipc_pipe::pipe::<u32>().unwrap();
    assert_eq!(wait(&[&quiet, &rx], Some(LONG)).unwrap(), [1]);
    killer.join().unwrap();
}

#[test]
fn work_too() {
    let _watchdog = watchdog("work_too");
    let (tx, rx) = work::<u32>(4).unwrap();
    tx.send(&1).unwrap();
    assert_eq!(wait(&[&rx], Some(LONG)).unwrap(), [0]);
    let job = rx.recv().unwrap();
    assert_eq!(wait(&[&rx], Some(SHORT)).unwrap(), [0; 0]);
    job.nack();
    assert_eq!(wait(&[&rx], Some(LONG)).unwrap(), [0]);
    assert_eq!(rx.recv().unwrap().attempts(), 2);
}
