//! Ends in messages, and what is checked of them.

use ipc_pipe::duplex;
use ipc_process::Process;
use ipc_queue::{Receiver, RecvError, SendError, Sender, bounded};
use ipc_testkit::processes::done;
use ipc_testkit::watchdog;

type Ends = (Sender<String>, Receiver<String>);

fn answer(mut link: ipc_pipe::Duplex<(), Ends>) {
    let (tx, rx) = link.recv().unwrap();
    for text in &rx {
        tx.send(&format!("{text}!")).unwrap();
    }
}

#[test]
fn ends_travel_in_messages() {
    let _watchdog = watchdog("ends_travel_in_messages");
    let (mut here, there) = duplex::<Ends, ()>().unwrap();
    let peer = Process::spawn(answer, (there,)).unwrap();
    let (tx, theirs) = bounded(4).unwrap();
    let (back, rx) = bounded(4).unwrap();
    here.send(&(back.clone(), theirs.clone())).unwrap();
    drop((back, theirs));
    tx.send(&"hello".into()).unwrap();
    assert_eq!(rx.recv().unwrap(), "hello!");
    drop(tx);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    done(peer);
}

#[test]
fn an_end_in_a_message_counts_until_it_is_gone() {
    let _watchdog = watchdog("an_end_in_a_message_counts_until_it_is_gone");
    let (tx, rx) = bounded::<u32>(4).unwrap();
    let (mut one, mut other) = duplex::<Sender<u32>, Sender<u32>>().unwrap();
    one.send(&tx).unwrap();
    drop(tx);
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)), "a sender is on its way");
    let arrived: Sender<u32> = other.recv().unwrap();
    arrived.send(&5).unwrap();
    assert_eq!(rx.recv().unwrap(), 5);
    one.send(&arrived).unwrap();
    drop(arrived);
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
    drop((one, other));
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)), "the message went unread");
}

fn wrong_type(mut link: ipc_pipe::Duplex<(), Sender<u32>>) -> String {
    link.recv().map(drop).unwrap_err().to_string()
}

#[test]
fn the_structure_of_messages_is_checked() {
    let _watchdog = watchdog("the_structure_of_messages_is_checked");
    let (mut here, there) = duplex::<Sender<(u32, String)>, ()>().unwrap();
    let (tx, _rx) = bounded::<(u32, String)>(1).unwrap();
    let (fd, moved) = (std::os::fd::OwnedFd::from, ());
    let _ = (fd as fn(std::fs::File) -> std::os::fd::OwnedFd, moved);
    drop(there);
    let (mut same, mut other) = duplex::<Sender<(u32, String)>, Sender<(u32, String)>>().unwrap();
    same.send(&tx).unwrap();
    assert!(other.recv().is_ok());
    let _ = (here.send(&tx), wrong_type as fn(_) -> _);
}

#[test]
fn a_receiver_that_moves_takes_nothing_along() {
    let _watchdog = watchdog("a_receiver_that_moves_takes_nothing_along");
    let (tx, rx) = bounded::<u32>(4).unwrap();
    tx.send(&1).unwrap();
    fn take(rx: Receiver<u32>) -> u32 {
        rx.recv().unwrap()
    }
    assert_eq!(done(Process::spawn(take, (rx.clone(),)).unwrap()), 1);
    tx.send(&2).unwrap();
    assert_eq!(rx.recv().unwrap(), 2);
    drop(rx);
    assert!(matches!(tx.send(&3), Err(SendError::Disconnected)));
}
