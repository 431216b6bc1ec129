//! Signals: those that interrupt every call, and SIGPIPE.
//!
//! Each test runs in a process of its own, since dispositions belong to processes. What `ipc_os`'s `sigpipe` module
//! documents: a thread that first writes while SIGPIPE is ignored blocks the signal in its own mask; one that first
//! writes while it is at its default, or handled, leaves disposition and mask alone.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ipc_pipe::{Duplex, Fifo, Receiver, RecvError, SendError, Sender, duplex, pipe, wait};
use ipc_process::{JoinError, Process};
use ipc_testkit::data::text;
use ipc_testkit::processes::alone;
use ipc_testkit::watchdog;
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static CAUGHT: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_signal: i32) {
    CAUGHT.fetch_add(1, Relaxed);
}

/// Handles a signal without `SA_RESTART`: it interrupts whatever the thread waits in.
fn set(signal: Signal, handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handlers in this file touch nothing but an atomic, which is safe at any moment.
    unsafe { sigaction(signal, &action) }.unwrap();
}

/// Sends a signal to one thread, again and again, until told to stop.
fn storm(target: Pthread, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        pthread_kill(target, Signal::SIGUSR1).unwrap();
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Runs `f` while signals rain on this thread; some have come while it ran.
fn in_a_storm(f: impl FnOnce()) {
    set(Signal::SIGUSR1, SigHandler::Handler(count));
    let stop = AtomicBool::new(false);
    let target = pthread_self();
    CAUGHT.store(0, Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| storm(target, &stop));
        f();
        stop.store(true, Relaxed);
    });
    assert!(CAUGHT.load(Relaxed) > 10, "{CAUGHT:?}");
}

fn echo(mut end: Duplex<String, String>) {
    while let Ok(message) = end.recv() {
        end.send(&message).unwrap();
    }
}

fn echo_over_pipes(mut rx: Receiver<String>, mut tx: Sender<String>) {
    while let Ok(message) = rx.recv() {
        tx.send(&message).unwrap();
    }
}

#[test]
fn b27_signals_are_invisible_to_send_and_recv() {
    let _watchdog = watchdog("b27 send and recv");
    alone(|| {
        let (mut ours, theirs) = duplex::<String, String>().unwrap();
        let over_duplex = Process::spawn(echo, (theirs,)).unwrap();
        let (mut tx, their_rx) = pipe::<String>().unwrap();
        let (their_tx, mut rx) = pipe::<String>().unwrap();
        let over_pipes = Process::spawn(echo_over_pipes, (their_rx, their_tx)).unwrap();
        in_a_storm(|| {
            for n in 0..500 {
                let message = text(n);
                ours.send(&message).unwrap();
                assert_eq!(ours.recv().unwrap(), message);
                tx.send(&message).unwrap();
                assert_eq!(rx.recv().unwrap(), message);
            }
            let message = text(2 << 20);
            for _ in 0..3 {
                ours.send(&message).unwrap();
                assert!(ours.recv().unwrap() == message);
                tx.send_timeout(&message, Duration::from_secs(50)).unwrap();
                assert!(rx.recv_timeout(Duration::from_secs(50)).unwrap() == message);
            }
        });
        drop((ours, tx));
        over_duplex.join().unwrap();
        over_pipes.join().unwrap();
    });
}

#[test]
fn b27_signals_are_invisible_to_bytes_batches_raw_access_and_handles() {
    let _watchdog = watchdog("b27 bytes");
    alone(|| {
        fn consume(mut rx: Receiver<u32>) -> u64 {
            let mut buf = vec![0; 3 << 20];
            let len = rx.recv_bytes_into(&mut buf).unwrap();
            let mut raw = [0; 1000];
            rx.raw().read_exact(&mut raw).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            len as u64 + rx.iter().map(u64::from).sum::<u64>()
        }
        let (mut tx, rx) = pipe::<u32>().unwrap();
        let child = Process::spawn(consume, (rx,)).unwrap();
        in_a_storm(|| {
            tx.send_bytes(&vec![1; 3 << 20]).unwrap();
            tx.raw().write_all(&[2; 1000]).unwrap();
            tx.send_all(0..100_000).unwrap();
            let (mut through, mut out) = duplex::<Receiver<u32>, ()>().unwrap();
            for n in 0..300 {
                let (mut inner, rx) = pipe::<u32>().unwrap();
                inner.send(&n).unwrap();
                through.send(&rx).unwrap();
                assert_eq!(out.recv().unwrap().recv().unwrap(), n);
            }
        });
        drop(tx);
        assert_eq!(child.join().unwrap(), (3 << 20) + 4_999_950_000);
    });
}

#[test]
fn b27_signals_do_not_shorten_waits() {
    let _watchdog = watchdog("b27 waits");
    alone(|| {
        const TIME: Duration = Duration::from_millis(200);
        let (mut tx, mut rx) = pipe::<String>().unwrap();
        let (mut end, _peer) = duplex::<u8, u8>().unwrap();
        in_a_storm(|| {
            let start = Instant::now();
            assert!(matches!(rx.recv_timeout(TIME), Err(RecvError::Timeout)));
            assert!(start.elapsed() >= TIME);
            let start = Instant::now();
            assert!(matches!(end.recv_timeout(TIME), Err(RecvError::Timeout)));
            assert!(start.elapsed() >= TIME);
            let start = Instant::now();
            assert!(!rx.poll(TIME).unwrap());
            assert!(start.elapsed() >= TIME);
            let start = Instant::now();
            assert_eq!(wait(&[&rx], Some(TIME)).unwrap(), [0_usize; 0]);
            assert!(start.elapsed() >= TIME);
            let start = Instant::now();
            assert!(matches!(tx.send_timeout(&text(1 << 20), TIME), Err(SendError::Begun { .. })));
            assert!(start.elapsed() >= TIME);
        });
    });
}

#[test]
fn b27_signals_are_invisible_to_join_spawn_and_fifos() {
    let _watchdog = watchdog("b27 join");
    alone(|| {
        in_a_storm(|| {
            let children: Vec<_> = (0..5)
                .map(|n| {
                    let sleep = |n: u64| {
                        std::thread::sleep(Duration::from_millis(20 * n));
                        n
                    };
                    Process::spawn(sleep, (n,)).unwrap()
                })
                .collect();
            for (n, child) in (0..).zip(children) {
                assert_eq!(child.join().unwrap(), n);
            }
            let dir = tempfile::tempdir().unwrap();
            let fifo = Fifo::<String>::create(dir.path().join("fifo")).unwrap();
            let mut rx = fifo.receiver().unwrap();
            let path = fifo.path().to_owned();
            let child = Process::spawn(
                |path: std::path::PathBuf| {
                    let mut tx = Fifo::<String>::open(path).unwrap().exclusive_sender().unwrap();
                    std::thread::sleep(Duration::from_millis(50));
                    tx.send(&text(1 << 20)).unwrap();
                },
                (path,),
            )
            .unwrap();
            assert!(rx.recv().unwrap() == text(1 << 20));
            assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
            child.join().unwrap();
        });
    });
}

/// Whether SIGPIPE is (pending, blocked) for this thread; pending for the process counts as well.
fn sigpipe_is() -> (bool, bool) {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let has = |name: &str| {
        let set = status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        u64::from_str_radix(set, 16).unwrap() & (1 << (Signal::SIGPIPE as u32 - 1)) != 0
    };
    (has("SigPnd:") || has("ShdPnd:"), has("SigBlk:"))
}

/// Every way to write, each to an end that nobody reads from.
fn write_to_nobody_in_every_way() {
    let gone =
        |sent: Result<(), SendError>| assert!(matches!(sent, Err(SendError::Disconnected)), "{sent:?}");
    let deserted = || pipe::<String>().unwrap().0;
    let mut tx = deserted();
    for _ in 0..2 {
        gone(tx.send(&text(1)));
        gone(tx.send(&text(200_000)));
        gone(tx.send_bytes(b"x"));
        gone(tx.send_bytes(&[1; 200_000]));
        gone(tx.try_send(&text(1)));
        gone(tx.send_timeout(&text(1), Duration::from_millis(10)));
        gone(tx.send_all([text(1), text(2)]).map(drop).map_err(|error| error.source));
        assert_eq!(tx.raw().write(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    }
    let mut batch = tx.batch().unwrap();
    batch.send(&text(1)).unwrap();
    drop(batch);

    let (mut begun, rx) = pipe::<String>().unwrap();
    assert!(matches!(begun.try_send(&text(200_000)), Err(SendError::Begun { .. })));
    drop(rx);
    gone(begun.flush());

    let (mut end, peer) = duplex::<String, ()>().unwrap();
    drop(peer);
    gone(end.send(&text(1)));
    gone(end.send_bytes(&[1; 200_000]));
    gone(end.try_send(&text(1)));
    let (mut end, peer) = duplex::<Receiver<u8>, ()>().unwrap();
    drop(peer);
    gone(end.send(&pipe().unwrap().1));

    let dir = tempfile::tempdir().unwrap();
    let fifo = Fifo::<String>::create(dir.path().join("fifo")).unwrap();
    let rx = fifo.receiver().unwrap();
    let mut shared = fifo.sender().unwrap();
    drop(rx);
    gone(shared.send(&text(1)));
    gone(shared.try_send(&text(1)));
    drop(shared);
    let rx = fifo.receiver().unwrap();
    let mut exclusive = fifo.exclusive_sender().unwrap();
    drop(rx);
    gone(exclusive.send(&text(200_000)));
}

/// Like [`write_to_nobody_in_every_way`], where SIGPIPE is then to be blocked or not, and nothing to be pending.
fn write_to_nobody(blocked: bool) {
    write_to_nobody_in_every_way();
    assert_eq!(sigpipe_is(), (false, blocked), "(pending, blocked)");
}

#[test]
fn sigpipe_ignored_never_kills() {
    let _watchdog = watchdog("SIGPIPE ignored");
    alone(|| {
        assert_eq!(sigpipe_is(), (false, false));
        write_to_nobody(true);
        // Each thread decides by itself; a new one has the mask of the one that started it.
        std::thread::spawn(|| write_to_nobody(true)).join().unwrap();
        // Nothing is delivered later either.
        SigSet::from(Signal::SIGPIPE).thread_unblock().unwrap();
        assert_eq!(sigpipe_is(), (false, false));
        write_to_nobody_in_every_way();
    });
}

#[test]
fn sigpipe_at_its_default_before_the_first_write_never_kills() {
    let _watchdog = watchdog("SIGPIPE default before");
    alone(|| {
        set(Signal::SIGPIPE, SigHandler::SigDfl);
        write_to_nobody(false);
        std::thread::spawn(|| write_to_nobody(false)).join().unwrap();
        // The same where the program has blocked it: it stays so, and nothing pends.
        SigSet::from(Signal::SIGPIPE).thread_block().unwrap();
        write_to_nobody(true);
        SigSet::from(Signal::SIGPIPE).thread_unblock().unwrap();
    });
}

#[test]
fn sigpipe_at_its_default_after_the_first_write_never_kills() {
    let _watchdog = watchdog("SIGPIPE default after");
    alone(|| {
        let (mut tx, mut rx) = pipe::<u8>().unwrap();
        tx.send(&1).unwrap();
        assert_eq!(rx.recv().unwrap(), 1);
        set(Signal::SIGPIPE, SigHandler::SigDfl);
        drop(rx);
        assert!(matches!(tx.send(&2), Err(SendError::Disconnected)));
        write_to_nobody(true);
        // Now a thread that has not written: it has inherited the mask, and finds the default.
        std::thread::spawn(|| write_to_nobody(true)).join().unwrap();
        // Nothing pends that would kill once the signal is let through.
        SigSet::from(Signal::SIGPIPE).thread_unblock().unwrap();
    });
}

#[test]
fn a_handler_for_sigpipe_is_not_called() {
    let _watchdog = watchdog("SIGPIPE handled");
    alone(|| {
        set(Signal::SIGPIPE, SigHandler::Handler(count));
        CAUGHT.store(0, Relaxed);
        write_to_nobody(false);
        assert_eq!(CAUGHT.load(Relaxed), 0);
    });
}

#[test]
fn sigpipe_still_kills_for_the_programs_other_files() {
    let _watchdog = watchdog("SIGPIPE of others");
    fn write_elsewhere() {
        set(Signal::SIGPIPE, SigHandler::SigDfl);
        write_to_nobody(false);
        let (reader, mut writer) = std::io::pipe().unwrap();
        drop(reader);
        let written = writer.write_all(b"like `prog | head`");
        unreachable!("{written:?}");
    }
    let joined = Process::spawn(write_elsewhere, ()).unwrap().join();
    assert!(matches!(joined, Err(JoinError::Killed { signal: 13, .. })), "{joined:?}");
}

#[test]
fn a_child_of_a_thread_that_blocks_sigpipe_does_not_inherit_that() {
    let _watchdog = watchdog("SIGPIPE of children");
    alone(|| {
        write_to_nobody(true);
        let child = Process::spawn(sigpipe_is, ()).unwrap();
        assert_eq!(child.join().unwrap(), (false, false));
    });
}
