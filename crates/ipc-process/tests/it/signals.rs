//! Signals, and what else tests need unsafe code for.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ipc_pipe::{Sender, pipe};
use ipc_process::{JoinError, Process};
use ipc_testkit::{LONG, eventually, watchdog, zombies};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::waiting;

static COUNT: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: i32) {
    COUNT.fetch_add(1, Relaxed);
}

fn on(signal: Signal, handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the only handler in these tests adds to an atomic.
    unsafe { sigaction(signal, &action) }.unwrap();
}

#[test]
fn b27_signals_are_invisible_to_join() {
    let _watchdog = watchdog("b27_signals_are_invisible_to_join");
    let alone = || {
        // Without SA_RESTART: what is not restarted by hand fails.
        on(Signal::SIGUSR1, SigHandler::Handler(count));
        let (mut process, gate) = waiting();
        let joining = nix::sys::pthread::pthread_self();
        let disturber = std::thread::spawn(move || {
            for _ in 0..40 {
                nix::sys::pthread::pthread_kill(joining, Signal::SIGUSR1).unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
            drop(gate);
        });
        let start = Instant::now();
        assert!(matches!(process.join_timeout(Duration::from_millis(50)), Err(JoinError::Running)));
        assert!(start.elapsed() >= Duration::from_millis(50));
        process.join().unwrap();
        disturber.join().unwrap();
        // Two that are pending at once are one.
        assert!((10..=40).contains(&COUNT.load(Relaxed)), "{}", COUNT.load(Relaxed));
    };
    Process::spawn(alone, ()).unwrap().join().unwrap();
}

#[test]
fn spawning_survives_signals() {
    let _watchdog = watchdog("spawning_survives_signals");
    let alone = || {
        on(Signal::SIGUSR1, SigHandler::Handler(count));
        let spawning = nix::sys::pthread::pthread_self();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let disturber = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_micros(100)).is_err() {
                nix::sys::pthread::pthread_kill(spawning, Signal::SIGUSR1).unwrap();
            }
        });
        for n in 0..30u32 {
            assert_eq!(Process::spawn(|n: u32| n, (n,)).unwrap().join().unwrap(), n);
        }
        stop.send(()).unwrap();
        disturber.join().unwrap();
        assert!(COUNT.load(Relaxed) > 0);
    };
    Process::spawn(alone, ()).unwrap().join().unwrap();
}

#[test]
fn a_worker_can_wait_for_its_signals() {
    let _watchdog = watchdog("a_worker_can_wait_for_its_signals");
    // The usual way: blocked in the one thread that there is, taken with sigwait. No other thread of the process, of
    // ours say, may have the signal unblocked, or it would be killed.
    let waits = |mut running: Sender<()>| {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.thread_block().unwrap();
        running.send(&()).unwrap();
        set.wait().unwrap() as i32
    };
    let (running, mut has_begun) = pipe().unwrap();
    let process = Process::spawn(waits, (running,)).unwrap();
    has_begun.recv().unwrap();
    process.terminate().unwrap();
    assert_eq!(process.join().unwrap(), Signal::SIGTERM as i32);
}

#[test]
fn where_sigchld_is_ignored_results_come_all_the_same() {
    let _watchdog = watchdog("where_sigchld_is_ignored_results_come_all_the_same");
    let alone = || {
        on(Signal::SIGCHLD, SigHandler::SigIgn);
        // Often enough for one that has ended before its parent could open it.
        for n in 0..100u8 {
            assert_eq!(Process::spawn(|n: u8| n, (n,)).unwrap().join().unwrap(), n);
        }
        let report = crate::panicked(Process::spawn(|| -> () { panic!("told") }, ()).unwrap().join());
        assert_eq!(report.message, "told");
        let (mut process, _gate) = waiting();
        assert!(matches!(process.try_join(), Err(JoinError::Running)));
        process.kill().unwrap();
        assert!(process.sentinel().wait_ended(Some(LONG)).unwrap());
        process.terminate().unwrap();
        assert!(!process.is_alive());
        // How it ended is known to nobody.
        assert!(matches!(process.join(), Err(JoinError::StatusTaken)));
        drop(Process::spawn(|| (), ()).unwrap());
        eventually("the dropped one is gone", || ipc_process::active_children().is_empty());
        assert_eq!(zombies(), 0);
    };
    Process::spawn(alone, ()).unwrap().join().unwrap();
}

#[test]
fn the_environment_may_change_while_processes_start() {
    let _watchdog = watchdog("the_environment_may_change_while_processes_start");
    let alone = || {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let changing = std::thread::spawn(move || {
            let mut n = 0u64;
            while stopped.try_recv().is_err() {
                n += 1;
                // SAFETY: all that reads the environment in this process goes through the standard library, which
                // locks it.
                unsafe { std::env::set_var(format!("CHANGING_{}", n % 50), "x".repeat((n % 300) as usize)) };
            }
            n
        });
        for _ in 0..30 {
            let seen =
                Process::builder().env("FIXED", "1").spawn(|| std::env::var("FIXED").ok(), ()).unwrap();
            assert_eq!(seen.join().unwrap().as_deref(), Some("1"));
        }
        stop.send(()).unwrap();
        assert!(changing.join().unwrap() > 100);
        // It is not this crate that changes it: not for a child, and not in one.
        assert!(std::env::var("FIXED").is_err());
    };
    Process::spawn(alone, ()).unwrap().join().unwrap();
}
