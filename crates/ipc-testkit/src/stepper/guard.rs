//! Nothing takes for ever: a thread that kills a process, or ends this one, when its time is over.

use std::sync::Arc;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long this process may need to see that its child was killed.
const GRACE: Duration = Duration::from_secs(5);

/// A watchdog over one thing at a time.
pub(super) struct Guard {
    shared: Arc<Shared>,
    patience: Duration,
}

struct Shared {
    watched: Mutex<Watched>,
    changed: Condvar,
}

#[derive(Default)]
struct Watched {
    /// What is being done, and until when.
    what: Option<(String, Instant)>,
    /// The process to kill then. Not reaped: the number is its own.
    child: Option<Pid>,
    has_killed: bool,
    over: bool,
}

impl Guard {
    /// A guard who lets everything take `patience`.
    pub(super) fn new(patience: Duration) -> Guard {
        let shared = Arc::new(Shared { watched: Mutex::default(), changed: Condvar::new() });
        let watching = Arc::clone(&shared);
        std::thread::spawn(move || watching.watch());
        Guard { shared, patience }
    }

    /// From now on it is `what` that must not take too long.
    pub(super) fn watch(&self, what: impl Into<String>) {
        self.set(Some((what.into(), Instant::now() + self.patience)), None);
    }

    /// As [`Guard::watch`], of a process: at the end of the patience that is killed.
    pub(super) fn watch_child(&self, what: impl Into<String>, child: Pid) {
        self.shared.lock().has_killed = false;
        self.set(Some((what.into(), Instant::now() + self.patience)), Some(child));
    }

    /// Whether the process that was watched last had to be killed.
    pub(super) fn has_killed(&self) -> bool {
        self.shared.lock().has_killed
    }

    fn set(&self, what: Option<(String, Instant)>, child: Option<Pid>) {
        let mut watched = self.shared.lock();
        (watched.what, watched.child) = (what, child);
        self.shared.changed.notify_one();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        let mut watched = self.lock();
        while !watched.over {
            let left =
                watched.what.as_ref().map(|(_, until)| until.saturating_duration_since(Instant::now()));
            match left {
                None => watched = self.changed.wait(watched).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    let Watched { what: Some((what, until)), child, has_killed, .. } = &mut *watched else {
                        continue;
                    };
                    let Some(child) = child.take() else {
                        eprintln!("stepper: {what} has not ended in time");
                        std::process::abort();
                    };
                    *until = Instant::now() + GRACE;
                    *has_killed = true;
                    // It fails only if the process has ended by itself by now.
                    let _ = kill(child, Signal::SIGKILL);
                }
                Some(left) => {
                    let waited = self.changed.wait_timeout(watched, left);
                    watched = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}
