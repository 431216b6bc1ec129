//! The children of this process: their state, and the list of them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_os::pidfd::{Exit, PidFd};
use ipc_os::socket::Mode;
use ipc_os::spawn::Spawned;
use parking_lot::Mutex;

use crate::bootstrap::{self, Received, Report};

const ESRCH: i32 = 3;

/// A child process, shared by its [`Process`](crate::Process) and the list of children.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: u32,
    pub(crate) pidfd: PidFd,
    pub(crate) name: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How it ended, once that is known. The number must not be used any more then.
    exit: Option<Exit>,
    /// Our end of the sockets, until what it said was read.
    socket: Option<OwnedFd>,
}

impl Child {
    pub(crate) fn new(spawned: Spawned, name: String, socket: Option<OwnedFd>) -> Self {
        let state = Mutex::new(State { exit: None, socket });
        Child { pid: spawned.pid, pidfd: spawned.pidfd, name, state }
    }

    /// How it ended; `None` while it runs.
    pub(crate) fn exit(&self) -> io::Result<Option<Exit>> {
        let mut state = self.state.lock();
        if state.exit.is_none() {
            state.exit = self.pidfd.reap()?;
        }
        Ok(state.exit)
    }

    /// Waits for its end; `None` if that does not come in time.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<Option<Exit>> {
        if let Some(exit) = self.state.lock().exit {
            return Ok(Some(exit));
        }
        // Without the lock: others may ask and wait at the same time.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if !self.pidfd.wait_ended(timeout)? {
            return Ok(None);
        }
        loop {
            let exit = self.exit()?;
            if exit.is_some() || deadline.is_some_and(|at| at <= Instant::now()) {
                return Ok(exit);
            }
            // It has ended, but a debugger takes the status first.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends a signal, unless it has ended.
    pub(crate) fn signal(&self, number: i32) -> io::Result<()> {
        let state = self.state.lock();
        if state.exit.is_some() {
            return Ok(());
        }
        match self.pidfd.signal(number) {
            // It has ended, and somebody else has taken the status.
            Err(error) if error.raw_os_error() == Some(ESRCH) => Ok(()),
            other => other,
        }
    }

    /// All that it said, once it has ended. `None` if that was read before.
    pub(crate) fn reports(&self) -> io::Result<Option<Vec<Received<Report>>>> {
        let Some(socket) = self.state.lock().socket.take() else { return Ok(None) };
        let mut reports = Vec::new();
        while let Some(received) = bootstrap::receive(socket.as_fd(), Mode::Try)? {
            reports.push(received);
        }
        Ok(Some(reports))
    }
}

/// All children that have not been reaped.
static CHILDREN: Mutex<Vec<Arc<Child>>> = Mutex::new(Vec::new());

pub(crate) fn add(child: &Arc<Child>) {
    CHILDREN.lock().push(Arc::clone(child));
}

/// Takes a child off the list, once its exit status was taken.
pub(crate) fn remove(child: &Arc<Child>) {
    // Not by number: that may be another child's by now.
    CHILDREN.lock().retain(|listed| !Arc::ptr_eq(listed, child));
}

/// Reaps the children that have ended and whose `Process` was dropped: nobody else will.
pub(crate) fn reap_forgotten() {
    CHILDREN.lock().retain(|child| {
        let forgotten = Arc::strong_count(child) == 1;
        // An error means that somebody else took the status: it is gone all the same.
        !(forgotten && matches!(child.exit(), Ok(Some(_)) | Err(_)))
    });
}

/// A child process that is running.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChildInfo {
    /// Its process number.
    pub id: u32,
    /// Its name.
    pub name: String,
}

/// The processes that were started here and are running. Reaps those that have ended and whose
/// [`Process`](crate::Process) was dropped, as each spawn does.
///
/// ```
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     ipc_process::init();
///     let p = ipc_process::Process::builder().name("idle").spawn(|| std::thread::park(), ())?;
///     assert_eq!(ipc_process::active_children()[0].name, "idle");
///     p.kill()?;
///     assert!(p.join().is_err());
///     assert!(ipc_process::active_children().is_empty());
///     Ok(())
/// }
/// ```
pub fn active_children() -> Vec<ChildInfo> {
    reap_forgotten();
    CHILDREN
        .lock()
        .iter()
        .filter(|child| matches!(child.exit(), Ok(None)))
        .map(|child| ChildInfo { id: child.pid, name: child.name.clone() })
        .collect()
}
