//! What SIGKILL does to queues.

use std::collections::HashSet;
use std::time::Duration;

use ipc_process::Process;
use ipc_queue::{Options, Receiver, RecvError, SendError, Sender, bounded};
use ipc_testkit::processes::{kill, park, ready, started};
use ipc_testkit::{SHORT, watchdog};

fn hold_sender(tx: Sender<u32>, mut up: ipc_pipe::Sender<u32>) {
    tx.send(&1).unwrap();
    ready(&mut up);
    park()
}

#[test]
fn receivers_are_told_of_the_last_senders_death() {
    let _watchdog = watchdog("receivers_are_told_of_the_last_senders_death");
    let (tx, rx) = bounded::<u32>(4).unwrap();
    let holder = started(hold_sender, tx.clone());
    drop(tx);
    assert_eq!(rx.recv().unwrap(), 1);
    assert!(matches!(rx.recv_timeout(SHORT), Err(RecvError::Timeout)), "it lives");
    let sleeper = std::thread::spawn(move || rx.recv());
    std::thread::sleep(SHORT);
    kill(holder);
    assert!(matches!(sleeper.join().unwrap(), Err(RecvError::Disconnected)));
}

fn hold_receiver(rx: Receiver<u32>, mut up: ipc_pipe::Sender<u32>) {
    rx.recv().unwrap();
    ready(&mut up);
    park()
}

#[test]
fn senders_are_told_of_the_last_receivers_death() {
    let _watchdog = watchdog("senders_are_told_of_the_last_receivers_death");
    let (tx, rx) = bounded::<u32>(4).unwrap();
    tx.send(&0).unwrap();
    let holder = started(hold_receiver, rx.clone());
    drop(rx);
    (0..4).for_each(|n| tx.send(&n).unwrap());
    assert!(matches!(tx.try_send(&5), Err(SendError::Full)), "it lives");
    let sleeper = std::thread::spawn(move || (tx.send(&5), tx.send(&6)));
    std::thread::sleep(SHORT);
    kill(holder);
    let told = sleeper.join().unwrap();
    assert!(matches!(told, (Err(SendError::Disconnected), Err(SendError::Disconnected))), "{told:?}");

    // Also one that need not wait, before long.
    let (tx, rx) = bounded::<u32>(4_000).unwrap();
    tx.send(&0).unwrap();
    let holder = started(hold_receiver, rx.clone());
    drop(rx);
    kill(holder);
    let sent = (0..2_000).take_while(|n| tx.send(n).is_ok()).count();
    assert!(sent <= 128, "{sent} were sent to nobody");
}

fn send_for_ever(tx: Sender<(u64, Vec<u8>)>, me: u64) {
    for n in 0.. {
        // Short ones and long ones.
        let len = if n % 3 == 0 { 20_000 } else { 20 };
        tx.send(&(me << 32 | n, vec![n as u8; len])).unwrap();
    }
}

fn receive_for_ever(rx: Receiver<(u64, Vec<u8>)>, tx: Sender<u64>) {
    for (id, bytes) in &rx {
        assert!(bytes.iter().all(|byte| *byte == id as u8), "a torn message");
        tx.send(&id).unwrap();
    }
}

/// Senders and receivers are killed at any time: nothing is torn, nothing comes twice, each sender's order is kept by
/// each receiver, and the memory of the dead comes back.
#[test]
fn whoever_is_killed_the_others_go_on() {
    let _watchdog = watchdog("whoever_is_killed_the_others_go_on");
    let (tx, rx) = Options::new(16).bytes(256 << 10).bounded().unwrap();
    let (seen_tx, seen_rx) = bounded::<u64>(64).unwrap();
    let send = |me: u64| Process::spawn(send_for_ever, (tx.clone(), me)).unwrap();
    let receive = || Process::spawn(receive_for_ever, (rx.clone(), seen_tx.clone())).unwrap();
    let mut senders = vec![send(0), send(1)];
    let mut receivers = vec![receive(), receive()];
    let mut seen = HashSet::new();
    let collect = |count: usize, seen: &mut HashSet<u64>| {
        for _ in 0..count {
            let id = seen_rx.recv_timeout(Duration::from_secs(20)).unwrap();
            assert!(seen.insert(id), "{id:x} came twice");
        }
    };
    for round in 2..40 {
        collect(100 + 7 * round, &mut seen);
        if round % 2 == 0 {
            kill(senders.swap_remove(round % senders.len()));
            senders.push(send(round as u64));
        } else {
            kill(receivers.swap_remove(round % receivers.len()));
            receivers.push(receive());
        }
    }
    senders.into_iter().for_each(kill);
    receivers.into_iter().for_each(kill);
    while rx.try_recv().is_ok() {}
    // All pages are there again.
    tx.send_bytes(&vec![0; 256 << 10]).unwrap();
    assert_eq!(rx.recv_bytes().unwrap().len(), 256 << 10);
}
