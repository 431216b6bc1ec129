//! What several files of these tests use.

use std::fmt::Debug;
use std::time::Duration;

use ipc_pipe::{Sender, pipe};
use ipc_process::{JoinError, NeverStarted, Process, WorkerFn};
use ipc_testkit::PATIENCE;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A time after which somebody who waits has a good chance to be asleep. No test needs it to be true.
pub(crate) const SHORT: Duration = Duration::from_millis(30);

/// The process has returned.
#[track_caller]
pub(crate) fn done<R: Serialize + DeserializeOwned>(mut process: Process<R>) -> R {
    match process.join_timeout(PATIENCE) {
        Ok(result) => result,
        Err(error) => panic!("{error}: {error:?}"),
    }
}

/// Kills the process, and waits until it has ended.
#[track_caller]
pub(crate) fn kill<R: Serialize + DeserializeOwned + Debug>(process: Process<R>) {
    process.kill().unwrap();
    let joined = process.join();
    // It may have been killed before it came to its function.
    let is_killed = matches!(
        joined,
        Err(JoinError::Killed { signal: 9, .. } | JoinError::NeverStarted(NeverStarted::Killed(9)))
    );
    assert!(is_killed, "{joined:?}");
}

/// Stays as it is until it is killed.
pub(crate) fn park() -> ! {
    loop {
        std::thread::park();
    }
}

/// Starts a process with something, and waits until it says that it is as far as the test wants it.
#[track_caller]
pub(crate) fn started<T, F>(function: F, handle: T) -> Process<F::Out>
where
    T: Serialize + DeserializeOwned,
    F: WorkerFn<(T, Sender<()>)>,
    F::Out: Serialize + DeserializeOwned,
{
    let (tx, mut rx) = pipe().unwrap();
    let process = Process::spawn(function, (handle, tx)).unwrap();
    rx.recv().unwrap();
    process
}
