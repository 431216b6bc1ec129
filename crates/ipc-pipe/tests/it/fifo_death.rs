//! FIFOs whose ends are killed.

use std::path::PathBuf;
use std::time::Duration;

use ipc_pipe::{Fifo, Receiver, RecvError, SendError, Sender, pipe};
use ipc_process::Process;
use ipc_testkit::data::text;
use ipc_testkit::processes::{assert_killed, die};
use ipc_testkit::watchdog;
use tempfile::TempDir;

fn fifo<T>() -> (TempDir, Fifo<T>) {
    let dir = tempfile::tempdir().unwrap();
    let fifo = Fifo::create(dir.path().join("fifo")).unwrap();
    (dir, fifo)
}

fn send_and_die(path: PathBuf, count: u32) {
    let mut tx = Fifo::<String>::open(path).unwrap().sender().unwrap();
    for n in 0..count {
        tx.send(&n.to_string()).unwrap();
    }
    die()
}

#[test]
fn a_killed_writer_that_was_the_last_one() {
    let _watchdog = watchdog("last writer killed");
    let (_dir, fifo) = fifo::<String>();
    let mut rx = fifo.receiver().unwrap();
    for count in [0, 1, 50] {
        let child = Process::spawn(send_and_die, (fifo.path().to_owned(), count)).unwrap();
        for n in 0..count {
            assert_eq!(rx.recv().unwrap(), n.to_string());
        }
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)), "after {count}");
        assert_killed(child);
        rx.reopen().unwrap();
    }
}

#[test]
fn a_killed_writer_among_others_that_live() {
    let _watchdog = watchdog("one of several writers killed");
    fn send_for_ever(path: PathBuf, mut ready: Sender<()>) {
        let mut tx = Fifo::<String>::open(path).unwrap().sender().unwrap();
        ready.send(&()).unwrap();
        loop {
            tx.send(&text(1000)).unwrap();
        }
    }
    let (_dir, fifo) = fifo::<String>();
    let mut rx = fifo.receiver().unwrap();
    let mut ours = fifo.sender().unwrap();
    let mut victims = Vec::new();
    for _ in 0..4 {
        let (ready, mut is_ready) = pipe::<()>().unwrap();
        victims.push(Process::spawn(send_for_ever, (fifo.path().to_owned(), ready)).unwrap());
        is_ready.recv().unwrap();
    }
    let mut received = 0;
    while let Some(victim) = victims.pop() {
        // Some of its messages have passed; it dies in the midst of others.
        for _ in 0..300 {
            assert!(rx.recv().unwrap() == text(1000));
            received += 1;
        }
        victim.kill().unwrap();
        assert_killed(victim);
    }
    // Nothing of a torn message is left: whole ones to the last, and then ours.
    while rx.try_recv().map(|message| assert!(message == text(1000))).is_ok() {}
    assert!(received >= 1200);
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
    ours.send(&"alive".to_owned()).unwrap();
    assert_eq!(rx.recv().unwrap(), "alive");
    drop(ours);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

/// Begins a message of a megabyte, of which some chunks go out, and is killed.
fn begin_and_die(path: PathBuf) {
    let mut tx = Fifo::<String>::open(path).unwrap().exclusive_sender().unwrap();
    tx.send(&"whole".to_owned()).unwrap();
    let sent = tx.try_send(&text(1 << 20));
    assert!(matches!(sent, Err(SendError::Begun { .. })), "{sent:?}");
    die()
}

#[test]
fn an_exclusive_writer_killed_in_mid_message_is_told_and_another_one_works() {
    let _watchdog = watchdog("exclusive writer killed");
    let (_dir, fifo) = fifo::<String>();
    let mut rx = fifo.receiver().unwrap();
    let child = Process::spawn(begin_and_die, (fifo.path().to_owned(),)).unwrap();
    // A reader at work could make room for all of it.
    assert_killed(child);
    assert_eq!(rx.recv().unwrap(), "whole");
    assert!(matches!(rx.recv(), Err(RecvError::Truncated { .. })));
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    // The lock died with it.
    let mut tx = fifo.exclusive_sender().unwrap();
    let sender = std::thread::spawn(move || tx.send(&text(1 << 20)).unwrap());
    assert!(rx.recv().unwrap() == text(1 << 20));
    sender.join().unwrap();
}

#[test]
fn another_writer_that_comes_before_the_death_was_noticed_does_not_hide_it() {
    let _watchdog = watchdog("exclusive writer killed, another one came");
    for exclusive in [true, false] {
        let (_dir, fifo) = fifo::<String>();
        let mut rx = fifo.receiver().unwrap();
        let child = Process::spawn(begin_and_die, (fifo.path().to_owned(),)).unwrap();
        assert_killed(child);
        assert_eq!(rx.recv().unwrap(), "whole");
        // Dead, and not noticed: the FIFO is full of its chunks.
        let path = fifo.path().to_owned();
        let (mut ready, mut is_ready) = pipe::<()>().unwrap();
        let sender = std::thread::spawn(move || {
            let fifo = Fifo::<String>::open(path).unwrap();
            let mut tx = if exclusive { fifo.exclusive_sender() } else { fifo.sender() }.unwrap();
            ready.send(&()).unwrap();
            tx.send(&"after".to_owned()).unwrap();
        });
        is_ready.recv().unwrap();
        assert!(matches!(rx.recv(), Err(RecvError::Truncated { .. })), "exclusive: {exclusive}");
        assert_eq!(rx.recv().unwrap(), "after");
        sender.join().unwrap();
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    }
}

#[test]
fn a_writer_whose_reader_is_killed() {
    let _watchdog = watchdog("fifo reader killed");
    fn take_one(path: PathBuf, mut ready: Sender<()>) {
        let mut rx = Fifo::<String>::open(path).unwrap().receiver().unwrap();
        ready.send(&()).unwrap();
        rx.recv().unwrap();
        die()
    }
    for exclusive in [false, true] {
        let (_dir, fifo) = fifo::<String>();
        let (ready, mut is_ready) = pipe::<()>().unwrap();
        let child = Process::spawn(take_one, (fifo.path().to_owned(), ready)).unwrap();
        is_ready.recv().unwrap();
        let mut tx = if exclusive { fifo.exclusive_sender() } else { fifo.sender() }.unwrap();
        let message = text(if exclusive { 1 << 20 } else { 1000 });
        let error = loop {
            if let Err(error) = tx.send(&message) {
                break error;
            }
        };
        assert!(matches!(error, SendError::Disconnected), "{error}");
        assert!(matches!(tx.try_send(&message), Err(SendError::Disconnected)));
        assert_killed(child);
        // Another reader goes on with whole messages.
        let mut rx = fifo.receiver().unwrap();
        let sender = std::thread::spawn(move || tx.send(&"for the next reader".to_owned()).unwrap());
        loop {
            match rx.recv() {
                Ok(message) if message == "for the next reader" => break,
                Ok(_) | Err(RecvError::Truncated { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        sender.join().unwrap();
    }
}

#[test]
fn a_killed_exclusive_writer_leaves_the_fifo_free() {
    let _watchdog = watchdog("lock of the dead");
    fn hold(path: PathBuf, mut ready: Sender<()>, mut hold: Receiver<()>) {
        let _tx = Fifo::<String>::open(path).unwrap().exclusive_sender().unwrap();
        ready.send(&()).unwrap();
        assert!(hold.recv().is_err());
    }
    let (_dir, fifo) = fifo::<String>();
    let _rx = fifo.receiver().unwrap();
    let (ready, mut is_ready) = pipe::<()>().unwrap();
    let (_held, hold_rx) = pipe::<()>().unwrap();
    let child = Process::spawn(hold, (fifo.path().to_owned(), ready, hold_rx)).unwrap();
    is_ready.recv().unwrap();
    assert!(matches!(fifo.sender(), Err(ipc_pipe::fifo::FifoError::InUse { .. })));
    child.kill().unwrap();
    assert_killed(child);
    fifo.sender_timeout(Duration::from_secs(50)).unwrap();
}
