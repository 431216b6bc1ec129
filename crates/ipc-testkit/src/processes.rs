//! Processes of tests: started, waited for and killed. They are workers of `ipc-process`.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use ipc_pipe::{Sender, pipe};
use ipc_process::{JoinError, NeverStarted, PidFd, Process, WorkerFn};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::PATIENCE;
use crate::data::Numbers;

/// Runs a test in a process of its own, which has one thread: for forks, for waits that nobody could end, for what
/// belongs to a whole process (descriptors, signals, the umask), and for ends that must be closed as soon as they are
/// dropped. In a process that starts others, as tests do from many threads, the kernel's copy of the descriptors for
/// the new one keeps them open until it has begun its program.
///
/// [`crate::alone`] has the process begin with the test harness instead.
///
/// # Panics
/// If the test does.
#[track_caller]
pub fn alone<F: WorkerFn<(), Out = ()>>(test: F) {
    done(Process::spawn(test, ()).expect("a process can be started"));
}

/// Starts a process with something, and waits until it says that it is [`ready`].
///
/// # Panics
/// If it does not within [`PATIENCE`].
#[track_caller]
pub fn started<T, F>(function: F, with: T) -> Process<F::Out>
where
    T: Serialize + DeserializeOwned,
    F: WorkerFn<(T, Sender<u32>)>,
    F::Out: Serialize + DeserializeOwned,
{
    let (up, mut said) = pipe().expect("a pipe can be made");
    let process = Process::spawn(function, (with, up)).expect("a process can be started");
    match said.recv_timeout(PATIENCE) {
        Ok(pid) => assert_eq!(pid, process.id()),
        Err(error) => panic!("{error}: {:?}", process.join().err()),
    }
    process
}

/// Says that this process is as far as the test wants it.
///
/// # Panics
/// If the test is gone.
pub fn ready(up: &mut Sender<u32>) {
    up.send(&std::process::id()).expect("the test waits for it");
}

/// Stays as it is until it is killed. It returns nothing, and not `!`, for the sake of closures that end with it.
pub fn park() {
    loop {
        std::thread::park();
    }
}

/// Ends this process with SIGKILL. As for what it returns, see [`park`].
///
/// # Panics
/// If it cannot.
pub fn die() {
    PidFd::of_self().and_then(|me| me.signal(9)).expect("a process may signal itself");
    unreachable!("SIGKILL is delivered before the call returns")
}

/// What the process has returned.
///
/// # Panics
/// If it has ended otherwise, or not within [`PATIENCE`].
#[track_caller]
pub fn done<R: Serialize + DeserializeOwned>(mut process: Process<R>) -> R {
    match process.join_timeout(PATIENCE) {
        Ok(result) => result,
        Err(error) => panic!("{error}: {error:?}"),
    }
}

/// Kills the process, and waits until it has ended.
///
/// # Panics
/// If it ends otherwise.
#[track_caller]
pub fn kill<R: Serialize + DeserializeOwned + Debug>(process: Process<R>) {
    process.kill().expect("a child may be killed");
    let joined = process.join();
    // It may have been killed before it came to its function.
    let is_killed = matches!(
        joined,
        Err(JoinError::Killed { signal: 9, .. } | JoinError::NeverStarted(NeverStarted::Killed(9)))
    );
    assert!(is_killed, "{joined:?}");
}

/// Waits until the process has ended, in its function, by SIGKILL.
///
/// # Panics
/// If it ends otherwise.
#[track_caller]
pub fn assert_killed<R: Serialize + DeserializeOwned + Debug>(process: Process<R>) {
    let joined = process.join();
    assert!(matches!(joined, Err(JoinError::Killed { signal: 9, .. })), "{joined:?}");
}

/// For that time, keeps `count` workers going and kills one of them again and again at some random time. `start` starts
/// one, with a seed; `between` is called after each death. Then `stop` tells them to end, and they are waited for.
///
/// # Panics
/// If a worker does, or does not end within [`PATIENCE`].
#[track_caller]
pub fn soak(
    time: Duration,
    count: usize,
    mut start: impl FnMut(u64) -> Process<()>,
    mut between: impl FnMut(),
    stop: impl FnOnce(),
) {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut workers: Vec<_> = (0..count).map(|_| start(numbers.any())).collect();
    let begin = Instant::now();
    let mut deaths = 0;
    while begin.elapsed() < time {
        std::thread::sleep(Duration::from_micros(500 + numbers.below(12_000)));
        let victim = workers.swap_remove(numbers.below(count as u64) as usize);
        kill(victim);
        deaths += 1;
        between();
        workers.push(start(numbers.any()));
    }
    stop();
    for mut worker in workers {
        // A worker may be waiting for one that was killed: `between` is what helps it.
        let until = Instant::now() + PATIENCE;
        loop {
            match worker.join_timeout(Duration::from_millis(20)) {
                Ok(()) => break,
                Err(JoinError::Running) if Instant::now() < until => between(),
                Err(error) => panic!("{error}: {error:?}"),
            }
        }
    }
    eprintln!("{deaths} deaths");
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use ipc_pipe::Receiver;

    use super::*;
    use crate::watchdog;

    /// Whether it panics.
    fn fails(test: impl FnOnce()) -> bool {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(test)).is_err()
    }

    #[test]
    fn ends_of_processes_are_told_apart() {
        let _watchdog = watchdog("ends_of_processes_are_told_apart");
        let returns = |n: u32| n + 1;
        let dies = || die();
        assert_eq!(done(Process::spawn(returns, (1,)).unwrap()), 2);
        assert_killed(Process::spawn(dies, ()).unwrap());
        assert!(fails(|| assert_killed(Process::spawn(returns, (1,)).unwrap())));
        assert!(fails(|| done(Process::spawn(dies, ()).unwrap())));
        alone(|| ());
        assert!(fails(|| alone(|| panic!("on purpose"))));
    }

    #[test]
    fn who_is_ready_stays_until_it_is_killed() {
        let _watchdog = watchdog("who_is_ready_stays_until_it_is_killed");
        let stays = |what: String, mut up: Sender<u32>| {
            assert_eq!(what, "with this");
            ready(&mut up);
            park();
        };
        let process = started(stays, "with this".to_owned());
        assert!(process.is_alive());
        kill(process);
        assert!(fails(|| drop(started(stays, "with that".to_owned()))), "it is never ready");
        let ended = Process::spawn(|| (), ()).unwrap();
        assert!(ended.sentinel().wait_ended(Some(PATIENCE)).unwrap());
        assert!(fails(|| kill(ended)), "it has returned");
    }

    #[test]
    fn a_soak_kills_and_ends() {
        let _watchdog = watchdog("a_soak_kills_and_ends");
        let (ends, mut deaths, mut seeds) = (RefCell::default(), 0, Vec::new());
        let wait = |mut rx: Receiver<()>| assert!(rx.recv().is_err());
        let start = |seed| {
            seeds.push(seed);
            let (tx, rx) = pipe().unwrap();
            let all: &RefCell<Vec<Sender<()>>> = &ends;
            all.borrow_mut().push(tx);
            Process::spawn(wait, (rx,)).unwrap()
        };
        soak(Duration::from_millis(100), 2, start, || deaths += 1, || ends.borrow_mut().clear());
        assert!(deaths >= 1);
        let count = seeds.len();
        seeds.sort_unstable();
        seeds.dedup();
        assert!(count >= 3 && seeds.len() == count);
    }
}
