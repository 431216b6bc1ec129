//! The first things that must work.
use ipc_pipe::{Receiver, Sender, duplex, pipe};
use ipc_process::{JoinError, Process};
use std::time::Duration;

fn add(x: u32, y: u32) -> u32 {
    x + y
}
fn echo(mut rx: Receiver<Vec<u8>>, mut tx: Sender<Vec<u8>>) -> u64 {
    let mut n = 0;
    while let Ok(m) = rx.recv() {
        n += m.len() as u64;
        tx.send(&m).unwrap();
    }
    n
}
fn boom(x: u32) -> u32 {
    panic!("boom {x}")
}
#[test]
fn spawn_join() {
    assert_eq!(Process::spawn(add, (5, 3)).unwrap().join().unwrap(), 8);
    assert_eq!(Process::spawn(|x: String| x + "!", ("a".to_owned(),)).unwrap().join().unwrap(), "a!");
}
#[test]
fn pipes_through() {
    let (mut tx, rx) = pipe::<Vec<u8>>().unwrap();
    let (tx2, mut rx2) = pipe::<Vec<u8>>().unwrap();
    let p = Process::spawn(echo, (rx, tx2)).unwrap();
    for n in [0, 1, 100, 1 << 20] {
        let m = vec![7; n];
        tx.send(&m).unwrap();
        assert_eq!(rx2.recv().unwrap(), m);
    }
    drop(tx);
    assert_eq!(p.join().unwrap(), 101 + (1 << 20));
}
#[test]
fn panics() {
    match Process::spawn(boom, (3,)).unwrap().join() {
        Err(JoinError::Panicked(report)) => {
            assert_eq!(report.message, "boom 3");
            assert!(report.location.unwrap().file.ends_with("smoke.rs"));
            assert!(report.backtrace.contains("boom"), "{}", report.backtrace);
        }
        other => panic!("{other:?}"),
    }
    let mut p = Process::spawn(|| std::thread::sleep(Duration::from_secs(100)), ()).unwrap();
    assert!(matches!(p.try_join(), Err(JoinError::Running)));
    p.kill().unwrap();
    assert!(matches!(p.join(), Err(JoinError::Killed { signal: 9, .. })));
    let (a, mut b) = duplex::<(), Receiver<u32>>().unwrap();
    let p =
        Process::spawn(|mut a: ipc_pipe::Duplex<(), Receiver<u32>>| a.recv().unwrap().recv().unwrap(), (a,))
            .unwrap();
    let (mut tx, rx) = pipe().unwrap();
    tx.send(&77).unwrap();
    b.send(&rx).unwrap();
    assert_eq!(p.join().unwrap(), 77);
    let big = Process::spawn(|n: usize| vec![1u8; n], (1 << 20,)).unwrap();
    assert_eq!(big.join().unwrap().len(), 1 << 20);
}
