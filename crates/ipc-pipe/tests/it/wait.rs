//! One wait over a mix of everything.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ipc_core::frame::{FrameKind, Header};
use ipc_pipe::{Duplex, Fifo, Receiver, RecvError, SendError, Waitable, duplex, pipe, wait};
use ipc_process::Process;
use ipc_testkit::processes::{alone, die};
use ipc_testkit::{LONG, watchdog};

use crate::tools::SOME_TIME;

fn sleep_until(mut rx: Receiver<u8>) -> u8 {
    rx.recv().unwrap()
}

#[test]
fn b30_pipes_sockets_fifos_and_sentinels_mix() {
    let _watchdog = watchdog("b30");
    let dir = tempfile::tempdir().unwrap();
    let fifo = Fifo::<u8>::create(dir.path().join("fifo")).unwrap();
    let mut fifo_rx = fifo.receiver().unwrap();
    let (mut tx, mut rx) = pipe::<u8>().unwrap();
    let (mut ours, mut theirs) = duplex::<u8, u8>().unwrap();
    let (mut socket, other) = UnixStream::pair().unwrap();
    let (mut wake, child_rx) = pipe::<u8>().unwrap();
    let child = Process::spawn(sleep_until, (child_rx,)).unwrap();
    let (mut halves, half) = duplex::<u8, u8>().unwrap();
    let (_half, mut half) = half.split().unwrap();

    let look = |rx: &Receiver<u8>, theirs: &Duplex<u8, u8>, fifo: &dyn Waitable, half: &Receiver<u8>| {
        wait(&[rx, theirs, &other, child.sentinel(), fifo, half], Some(Duration::ZERO)).unwrap()
    };
    assert_eq!(look(&rx, &theirs, &fifo_rx, &half), [0_usize; 0]);
    tx.send(&1).unwrap();
    assert_eq!(look(&rx, &theirs, &fifo_rx, &half), [0]);
    rx.recv().unwrap();
    ours.send(&2).unwrap();
    assert_eq!(look(&rx, &theirs, &fifo_rx, &half), [1]);
    theirs.recv().unwrap();
    socket.write_all(b"x").unwrap();
    assert_eq!(look(&rx, &theirs, &fifo_rx, &half), [2]);
    let mut fifo_tx = fifo.sender().unwrap();
    fifo_tx.send(&3).unwrap();
    assert_eq!(look(&rx, &theirs, &fifo_rx, &half), [2, 4]);
    fifo_rx.recv().unwrap();
    assert_eq!(look(&rx, &theirs, &fifo_rx, &half), [2]);
    halves.send(&1).unwrap();
    assert_eq!(look(&rx, &theirs, &fifo_rx, &half), [2, 5]);
    half.recv().unwrap();
    wake.send(&7).unwrap();
    assert_eq!(wait(&[&rx, child.sentinel()], Some(LONG)).unwrap(), [1], "the child has ended");
    assert_eq!(child.join().unwrap(), 7);
}

#[test]
fn b31_a_time_out_gives_an_empty_list_and_zero_only_looks() {
    let _watchdog = watchdog("b31");
    let (_tx, rx) = pipe::<u8>().unwrap();
    let start = Instant::now();
    assert_eq!(wait(&[&rx], Some(SOME_TIME)).unwrap(), [0_usize; 0]);
    assert!(start.elapsed() >= SOME_TIME);
    // The watchdog is the upper bound.
    for _ in 0..1000 {
        assert_eq!(wait(&[&rx], Some(Duration::ZERO)).unwrap(), [0_usize; 0]);
    }
    assert_eq!(wait(&[], Some(Duration::ZERO)).unwrap(), [0_usize; 0]);
}

#[test]
fn b32_a_wait_returns_all_that_are_ready() {
    let _watchdog = watchdog("b32");
    alone(|| {
        let mut pipes: Vec<_> = (0..100).map(|_| pipe::<u32>().unwrap()).collect();
        for (n, (tx, rx)) in pipes.iter_mut().enumerate() {
            match n % 4 {
                // In the kernel.
                1 => tx.send(&1).unwrap(),
                // Read ahead in this process, and nothing left in the kernel.
                2 => {
                    tx.send_all([1, 2]).unwrap();
                    assert_eq!(rx.recv().unwrap(), 1);
                }
                // Its writer gone.
                3 => {
                    let (gone, _) = pipe::<u32>().unwrap();
                    *tx = gone;
                }
                _ => {}
            }
        }
        let sources: Vec<&dyn Waitable> = pipes.iter().map(|(_, rx)| rx as &dyn Waitable).collect();
        let expected: Vec<usize> = (0..100).filter(|n| n % 4 != 0).collect();
        for timeout in [None, Some(LONG), Some(Duration::ZERO)] {
            assert_eq!(wait(&sources, timeout).unwrap(), expected, "nothing was consumed");
        }
    });
}

#[test]
fn what_is_ready_stays_so_until_it_is_taken() {
    let (mut tx, mut rx) = pipe::<u32>().unwrap();
    tx.send_all([1, 2, 3]).unwrap();
    drop(tx);
    for expected in 1..=3 {
        assert_eq!(wait(&[&rx], None).unwrap(), [0]);
        assert_eq!(rx.recv().unwrap(), expected);
    }
    for _ in 0..3 {
        assert_eq!(wait(&[&rx], None).unwrap(), [0], "the end is ready as well");
        assert!(matches!(rx.try_recv(), Err(RecvError::Disconnected)));
    }
}

#[test]
fn half_a_message_that_was_read_is_not_ready() {
    let (mut tx, mut rx) = pipe::<u32>().unwrap();
    tx.raw().write_all(&Header::new(FrameKind::Message, 1, 0, 9).unwrap().to_bytes()).unwrap();
    assert_eq!(wait(&[&rx], None).unwrap(), [0], "something has come");
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
    assert_eq!(wait(&[&rx], Some(Duration::ZERO)).unwrap(), [0_usize; 0]);
    tx.raw().write_all(&[5]).unwrap();
    assert_eq!(wait(&[&rx], None).unwrap(), [0]);
    assert_eq!(rx.try_recv().unwrap(), 5);
}

#[test]
fn channels_can_be_waited_for_while_another_thread_receives() {
    use ipc_core::channel::{Channel, Frame};
    let _watchdog = watchdog("waiting for a channel");
    let (a, b) = duplex::<(), ()>().unwrap();
    let (a, b) = (a.into_channel(), b.into_channel());
    assert_eq!(wait(&[&b], Some(Duration::ZERO)).unwrap(), [0_usize; 0]);
    for _ in 0..2 {
        a.send_frame(FrameKind::Bytes, &[b"x"], &[], None).unwrap();
    }
    let mut frame = Frame::default();
    for _ in 0..2 {
        assert_eq!(wait(&[&b], Some(LONG)).unwrap(), [0], "in the kernel, then in the read-ahead");
        b.recv_frame(&mut frame, None).unwrap();
    }
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| b.recv_frame(&mut Frame::default(), None));
        assert_eq!(wait(&[&b], Some(SOME_TIME)).unwrap(), [0_usize; 0]);
        a.send_frame(FrameKind::Bytes, &[b"y"], &[], None).unwrap();
        receiver.join().unwrap().unwrap();
    });
}

#[test]
fn deaths_wake_a_wait() {
    let _watchdog = watchdog("deaths wake");
    fn wait_and_die(mut go: Receiver<u8>, end: Duplex<u8, u8>) {
        go.recv().unwrap();
        drop(go);
        let _end = end;
        die()
    }
    let (mut go, theirs) = pipe::<u8>().unwrap();
    let (mut ours, end) = duplex::<u8, u8>().unwrap();
    let child = Process::spawn(wait_and_die, (theirs, end)).unwrap();
    let waiting = std::thread::spawn(move || {
        let ready = wait(&[&ours], None).unwrap();
        (ready, ours.try_recv().unwrap_err(), ours.send(&1).unwrap_err())
    });
    go.send(&1).unwrap();
    assert_eq!(wait(&[child.sentinel()], Some(LONG)).unwrap(), [0]);
    let (ready, received, sent) = waiting.join().unwrap();
    assert_eq!(ready, [0]);
    assert!(matches!(received, RecvError::Disconnected) && matches!(sent, SendError::Disconnected));
}
