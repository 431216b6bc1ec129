//! Queues with names.

use ipc_process::Process;
use ipc_queue::{OpenError, Receiver, RecvError, Sender};
use ipc_testkit::processes::done;
use ipc_testkit::{SHORT, watchdog};

fn name(of: &str) -> String {
    format!("test-{of}-{}", std::process::id())
}

fn produce(name: String) {
    let tx = Sender::<u64>::open_or_create(&name, 8).unwrap();
    tx.send_all(0..1_000).unwrap();
}

fn consume(name: String) -> u64 {
    let rx = Receiver::<u64>::open_or_create(&name, 8).unwrap();
    rx.iter().sum()
}

#[test]
fn those_who_know_the_name_meet() {
    let _watchdog = watchdog("those_who_know_the_name_meet");
    let name = name("meet");
    // Either may come first.
    for producer_first in [true, false] {
        let (producer, consumer) = if producer_first {
            let producer = Process::spawn(produce, (name.clone(),)).unwrap();
            std::thread::sleep(SHORT);
            (producer, Process::spawn(consume, (name.clone(),)).unwrap())
        } else {
            let consumer = Process::spawn(consume, (name.clone(),)).unwrap();
            std::thread::sleep(SHORT);
            (Process::spawn(produce, (name.clone(),)).unwrap(), consumer)
        };
        done(producer);
        assert_eq!(done(consumer), (0..1_000).sum());
        assert!(matches!(Sender::<u64>::open(&name), Err(OpenError::NotFound { .. })));
    }
}

#[test]
fn names_are_checked() {
    let name = name("checked");
    let tx = Sender::<(u32, String)>::create(&name, 3).unwrap();
    assert!(matches!(Receiver::<(u32, String)>::create(&name, 3), Err(OpenError::AlreadyExists { .. })));
    let error = Receiver::<(u32, u64)>::open(&name).unwrap_err();
    assert!(matches!(&error, OpenError::Mismatch { what, .. } if what.contains("str")), "{error:?}");
    let rx = Receiver::<(u32, String)>::open(&name).unwrap();
    assert_eq!(rx.capacity(), 3);
    tx.send(&(1, "x".repeat(10_000))).unwrap();
    drop(tx);
    assert_eq!(rx.recv().unwrap().1.len(), 10_000);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    // Somebody new may come.
    let tx = Sender::<(u32, String)>::open(&name).unwrap();
    tx.send(&(2, String::new())).unwrap();
    assert_eq!(rx.recv().unwrap().0, 2);
    Sender::<()>::remove(&name).unwrap();
    assert!(matches!(Sender::<(u32, String)>::open(&name), Err(OpenError::NotFound { .. })));
}
