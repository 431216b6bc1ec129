//! How processes end, and how that is told.

use std::time::{Duration, Instant};

use ipc_pipe::{Receiver, Sender, pipe};
use ipc_process::{
    Exit, JoinError, NeverStarted, PidFd, Process, SpawnError, Waitable, active_children, wait,
};
use ipc_testkit::{LONG, eventually, is_running, open_descriptors, process_state, watchdog, zombies};

use crate::waiting;

fn signalled(number: i32) -> Exit {
    Exit::Signal { number, core_dumped: false }
}

#[test]
fn b01_exit_codes() {
    let _watchdog = watchdog("b01_exit_codes");
    let returned = Process::spawn(|| 5u8, ()).unwrap();
    assert!(returned.sentinel().wait_ended(Some(LONG)).unwrap());
    assert_eq!(returned.exit().unwrap(), Some(Exit::Code(0)));
    assert_eq!(returned.join().unwrap(), 5);
    for code in [0, 1, 7, 101, 255] {
        let exits = |code: i32| -> u8 { std::process::exit(code) };
        match Process::spawn(exits, (code,)).unwrap().join() {
            Err(JoinError::Exited { code: told }) => assert_eq!(told, code),
            other => panic!("{code}: {other:?}"),
        }
    }
    for number in [9, 15] {
        let (mut process, _gate) = waiting();
        assert_eq!(process.exit().unwrap(), None);
        if number == 9 { process.kill() } else { process.terminate() }.unwrap();
        match process.join_timeout(LONG) {
            Err(JoinError::Killed { signal, core_dumped: false }) => assert_eq!(signal, number),
            other => panic!("{other:?}"),
        }
        assert_eq!(process.exit().unwrap(), Some(signalled(number)));
        // Once it has ended, neither does anything.
        process.terminate().unwrap();
        process.kill().unwrap();
    }
}

#[test]
fn b02_join_with_no_time_returns_at_once() {
    let _watchdog = watchdog("b02_join_with_no_time_returns_at_once");
    let (mut process, gate) = waiting();
    assert!(matches!(process.join_timeout(Duration::ZERO), Err(JoinError::Running)));
    assert!(matches!(process.try_join(), Err(JoinError::Running)));
    assert!(process.is_alive());
    let start = Instant::now();
    assert!(matches!(process.join_timeout(Duration::from_millis(30)), Err(JoinError::Running)));
    assert!(start.elapsed() >= Duration::from_millis(30));
    drop(gate);
    process.join_timeout(Duration::MAX).unwrap();
    assert!(!process.is_alive());
}

#[test]
fn b03_what_was_not_started_is_no_process() {
    let _watchdog = watchdog("b03_what_was_not_started_is_no_process");
    let alone = || {
        let before = open_descriptors();
        let failed = Process::builder().executable("/no/such/program").spawn(|| (), ());
        assert!(matches!(failed, Err(SpawnError::Program { .. })), "{failed:?}");
        assert_eq!(active_children(), []);
        // The descriptor of this process itself is opened once and kept.
        assert_eq!(open_descriptors(), before + 1);
        assert_eq!(zombies(), 0);
    };
    Process::spawn(alone, ()).unwrap().join().unwrap();
}

/// Returns at once, but ends only when the gate opens: a destructor stands between.
fn returns_before_it_ends(mut running: Sender<()>, gate: Receiver<()>) -> Vec<u8> {
    struct AtExit(Receiver<()>);
    impl Drop for AtExit {
        fn drop(&mut self) {
            let _ = self.0.recv();
        }
    }
    thread_local! {
        static AT_EXIT: std::cell::RefCell<Option<AtExit>> = const { std::cell::RefCell::new(None) };
    }
    AT_EXIT.set(Some(AtExit(gate)));
    running.send(&()).unwrap();
    vec![3; 1 << 20]
}

#[test]
fn b04_the_sentinel_is_ready_only_at_exit() {
    let _watchdog = watchdog("b04_the_sentinel_is_ready_only_at_exit");
    let (running, mut has_begun) = pipe().unwrap();
    let (open, gate) = pipe().unwrap();
    let mut process = Process::spawn(returns_before_it_ends, (running, gate)).unwrap();
    let look = |process: &Process<Vec<u8>>, time| wait(&[process.sentinel()], Some(time)).unwrap();
    has_begun.recv().unwrap();
    // The result is there, or soon will be; the process is not at its end.
    assert_eq!(look(&process, Duration::from_millis(50)), [0; 0]);
    assert!(process.is_alive());
    assert!(matches!(process.try_join(), Err(JoinError::Running)));
    drop(open);
    // A result that nobody has fetched keeps no process from its end, however large it is.
    assert_eq!(look(&process, LONG), [0]);
    assert!(process.sentinel().has_ended().unwrap());
    assert_eq!(process.try_join().unwrap().len(), 1 << 20);
    assert_eq!(look(&process, Duration::ZERO), [0], "it stays ready");
}

#[test]
fn b05_dropping_neither_kills_nor_waits() {
    let _watchdog = watchdog("b05_dropping_neither_kills_nor_waits");
    let alone = || {
        let descriptors = open_descriptors();
        let (process, gate) = waiting();
        let id = process.id();
        let sentinel = PidFd::open(id).unwrap();
        drop(process);
        assert!(is_running(id));
        drop(gate);
        assert!(sentinel.wait_ended(Some(LONG)).unwrap());
        assert_eq!(process_state(id), Some('Z'), "not reaped yet");
        assert_eq!(active_children(), []);
        assert_eq!(process_state(id), None, "it was reaped");
        drop(sentinel);
        // The other way to be reaped: a later spawn.
        let (process, gate) = waiting();
        let id = process.id();
        let sentinel = PidFd::open(id).unwrap();
        drop((process, gate));
        assert!(sentinel.wait_ended(Some(LONG)).unwrap());
        assert_eq!(process_state(id), Some('Z'), "not reaped yet");
        Process::spawn(|| (), ()).unwrap().join().unwrap();
        assert_eq!(process_state(id), None, "it was reaped");
        assert_eq!(zombies(), 0);
        drop(sentinel);
        // The descriptor of this process itself is opened once and kept.
        assert_eq!(open_descriptors(), descriptors + 1);
    };
    Process::spawn(alone, ()).unwrap().join().unwrap();
}

#[test]
fn b06_active_children_lists_started_and_drops_reaped() {
    let _watchdog = watchdog("b06_active_children_lists_started_and_drops_reaped");
    let alone = || {
        assert_eq!(active_children(), []);
        let (first, first_gate) = waiting();
        let (second, second_gate) = waiting();
        let ids = || active_children().iter().map(|child| child.id).collect::<Vec<_>>();
        assert_eq!(ids(), [first.id(), second.id()]);
        assert!(active_children().iter().all(|child| child.name == "wait_at"));
        drop(first_gate);
        assert!(first.sentinel().wait_ended(Some(LONG)).unwrap());
        assert_eq!(ids(), [second.id()], "ended, though not joined");
        first.join().unwrap();
        drop(second);
        assert_eq!(ids().len(), 1, "dropped, but running");
        drop(second_gate);
        eventually("the second has ended", || ids().is_empty());
    };
    Process::spawn(alone, ()).unwrap().join().unwrap();
}

#[test]
fn b30_sentinels_mix_with_pipes() {
    let _watchdog = watchdog("b30_sentinels_mix_with_pipes");
    let (first, first_gate) = waiting();
    let (second, _second_gate) = waiting();
    let (mut tx, rx) = pipe::<u8>().unwrap();
    let sources: [&dyn Waitable; 3] = [second.sentinel(), &rx, first.sentinel()];
    assert_eq!(wait(&sources, Some(Duration::ZERO)).unwrap(), [0; 0]);
    tx.send(&1).unwrap();
    assert_eq!(wait(&sources, None).unwrap(), [1]);
    drop(first_gate);
    assert!(first.sentinel().wait_ended(Some(LONG)).unwrap());
    assert_eq!(wait(&sources, None).unwrap(), [1, 2]);
    second.kill().unwrap();
    assert!(second.sentinel().wait_ended(Some(LONG)).unwrap());
    assert_eq!(wait(&sources, None).unwrap(), [0, 1, 2]);
}

#[test]
fn a_result_is_given_once() {
    let _watchdog = watchdog("a_result_is_given_once");
    let mut process = Process::spawn(|| 1u8, ()).unwrap();
    assert_eq!(process.join_timeout(LONG).unwrap(), 1);
    assert!(matches!(process.try_join(), Err(JoinError::AlreadyJoined)));
    assert!(matches!(process.join_timeout(LONG), Err(JoinError::AlreadyJoined)));
    assert_eq!(process.exit().unwrap(), Some(Exit::Code(0)));
    assert!(matches!(process.join(), Err(JoinError::AlreadyJoined)));
}

#[test]
fn a_signal_of_its_own_is_told() {
    let _watchdog = watchdog("a_signal_of_its_own_is_told");
    match Process::spawn(|| -> () { std::process::abort() }, ()).unwrap().join() {
        Err(JoinError::Killed { signal: 6, .. }) => {}
        other => panic!("{other:?}"),
    }
    let faults = || nix::sys::signal::raise(nix::sys::signal::Signal::SIGSEGV).unwrap();
    let error = Process::spawn(faults, ()).unwrap().join().unwrap_err();
    assert!(matches!(error, JoinError::Killed { signal: 11, .. }), "{error:?}");
    assert!(error.to_string().contains("SIGSEGV"), "{error}");
}

#[test]
fn exit_from_another_thread_is_an_exit() {
    let _watchdog = watchdog("exit_from_another_thread_is_an_exit");
    let exits = || {
        std::thread::spawn(|| std::process::exit(9));
        loop {
            std::thread::park();
        }
    };
    let process: Process<()> = Process::spawn(exits, ()).unwrap();
    assert!(matches!(process.join(), Err(JoinError::Exited { code: 9 })));
}

#[test]
fn an_error_that_is_returned_is_a_result() {
    let _watchdog = watchdog("an_error_that_is_returned_is_a_result");
    let fails = |n: u32| -> Result<u32, String> { Err(format!("not {n}")) };
    let result = Process::spawn(fails, (3,)).unwrap().join().unwrap();
    assert_eq!(result, Err("not 3".to_owned()));
}

#[test]
fn a_child_is_killed_while_it_starts() {
    let _watchdog = watchdog("a_child_is_killed_while_it_starts");
    // From before the first instruction of the program to after its function's end.
    let mut kinds = [0; 3];
    for step in 0..120 {
        let mut process = Process::spawn(|| 7u8, ()).unwrap();
        std::thread::sleep(Duration::from_micros(step * 20));
        process.kill().unwrap();
        let kind = match process.join_timeout(LONG) {
            Err(JoinError::NeverStarted(NeverStarted::Killed(9))) => 0,
            Err(JoinError::Killed { signal: 9, core_dumped: false }) => 1,
            Ok(7) => 2,
            other => panic!("after {step} steps: {other:?}"),
        };
        assert!(process.exit().unwrap().is_some() && !is_running(process.id()));
        kinds[kind] += 1;
    }
    assert!(kinds[0] > 0, "the first ones were killed before they could start: {kinds:?}");
}

#[test]
fn many_threads_use_one_process() {
    let _watchdog = watchdog("many_threads_use_one_process");
    let (process, gate) = waiting();
    std::thread::scope(|scope| {
        let waiting: Vec<_> =
            (0..4).map(|_| scope.spawn(|| process.sentinel().wait_ended(Some(LONG)).unwrap())).collect();
        for _ in 0..4 {
            scope.spawn(|| assert!(process.is_alive() || process.exit().unwrap().is_some()));
        }
        drop(gate);
        assert!(waiting.into_iter().all(|thread| thread.join().unwrap()));
    });
    process.join().unwrap();
}
