//! A process that runs a function.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use ipc_core::handle;
use ipc_os::pidfd::{Exit, PidFd};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bootstrap::{self, Report};
use crate::builder::Builder;
use crate::children::{self, Child};
use crate::error::{JoinError, SpawnError, ended_before_start};
use crate::function::WorkerFn;

/// A process that runs a function of this program, whose result is an `R`.
///
/// - *Result*: [`join`](Process::join) gives it, or tells how else the process ended. Of any size, with handles in
///   it; it waits in the kernel until it is fetched, so it does not matter what one waits for first.
/// - *Dropping* a `Process` neither kills nor waits for it; once ended it is reaped by a later spawn or
///   [`active_children`](crate::active_children).
/// - *Death of the parent*: the process is killed, however the parent ended, unless [`Builder::outlives_parent`].
/// - *Descriptors*: it inherits the standard streams, and the handles in its arguments, and nothing else.
/// - *Threads*: `Send` and `Sync`; may be started from any thread, many at once. The thread that starts it may end.
/// - *Fork*: a forked child cannot wait for its parent's children.
pub struct Process<R> {
    child: Arc<Child>,
    result: PhantomData<fn() -> R>,
    /// A program that reports nothing: its exit status is all there is.
    silent: bool,
}

impl<R> Process<R> {
    pub(crate) fn new(child: Arc<Child>) -> Self {
        Process { child, result: PhantomData, silent: false }
    }

    pub(crate) fn of_program(child: Arc<Child>) -> Self {
        Process { child, result: PhantomData, silent: true }
    }

    /// Its process number. Another process may get it once this one was joined.
    pub fn id(&self) -> u32 {
        self.child.pid
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.child.name
    }

    /// What is ready, in the sense of [`wait`](crate::wait), exactly when the process has ended.
    pub fn sentinel(&self) -> &PidFd {
        &self.child.pidfd
    }

    /// Whether it is running.
    pub fn is_alive(&self) -> bool {
        matches!(self.child.exit(), Ok(None))
    }

    /// How it ended, as the system knows it; `None` while it runs. A function that returned is exit code 0, one that
    /// panicked is 101 (or SIGABRT, with `panic = "abort"`).
    ///
    /// # Errors
    /// `ECHILD` when another part of the program has taken the status.
    pub fn exit(&self) -> io::Result<Option<Exit>> {
        self.child.exit()
    }

    /// Asks it to end, with SIGTERM. Nothing happens if it has ended.
    ///
    /// # Errors
    /// What the system reports.
    pub fn terminate(&self) -> io::Result<()> {
        self.child.signal(15)
    }

    /// Ends it at once, with SIGKILL. Nothing happens if it has ended.
    ///
    /// # Errors
    /// What the system reports.
    pub fn kill(&self) -> io::Result<()> {
        self.child.signal(9)
    }
}

impl Process<()> {
    /// What a new process gets besides its function: name, environment, directory, standard streams.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # ipc_process::init();
    /// let p = ipc_process::Process::builder()
    ///     .name("greeter")
    ///     .env("GREETING", "hello")
    ///     .spawn(|| std::env::var("GREETING").ok(), ())?;
    /// assert_eq!(p.join()?.as_deref(), Some("hello"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<R: Serialize + DeserializeOwned> Process<R> {
    /// Starts a process that calls `function` with `args`, a tuple of up to eight.
    ///
    /// The function is a `fn` item (generic ones included) or a closure that captures nothing; arguments and result
    /// are anything that serde knows, with handles inside. Handles with a single owner are moved into the process.
    /// The program's `main` must begin with [`init`](crate::init).
    ///
    /// # Errors
    /// [`SpawnError::NotInitialised`], [`SpawnError::Arguments`] when they cannot be encoded, [`SpawnError::Program`]
    /// and [`SpawnError::Io`] when the system cannot start it. What goes wrong in the new process before the function
    /// is called is told by [`Process::join`].
    ///
    /// ```
    /// use ipc_process::Process;
    /// fn add(x: u32, y: u32) -> u32 { x + y }
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     ipc_process::init();
    ///     let p = Process::spawn(add, (5, 3))?;
    ///     assert_eq!(p.join()?, 8);
    ///     Ok(())
    /// }
    /// ```
    pub fn spawn<F, A>(function: F, args: A) -> Result<Process<R>, SpawnError>
    where
        F: WorkerFn<A, Out = R>,
        A: Serialize + DeserializeOwned,
    {
        Builder::default().spawn(function, args)
    }
}

impl<R: DeserializeOwned> Process<R> {
    /// Waits for the process to end, and gives the function's result.
    ///
    /// # Errors
    /// How else it ended: each variant of [`JoinError`] but [`JoinError::Running`].
    pub fn join(mut self) -> Result<R, JoinError> {
        self.finish(None)
    }

    /// Waits for the process to end, no longer than `timeout`, and gives the function's result.
    ///
    /// # Errors
    /// [`JoinError::Running`] when it has not ended in time; else as [`Process::join`]. The result is given once:
    /// [`JoinError::AlreadyJoined`] after that.
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<R, JoinError> {
        self.finish(Some(timeout))
    }

    /// Gives the function's result if the process has ended.
    ///
    /// # Errors
    /// As [`Process::join_timeout`].
    pub fn try_join(&mut self) -> Result<R, JoinError> {
        self.finish(Some(Duration::ZERO))
    }

    fn finish(&mut self, timeout: Option<Duration>) -> Result<R, JoinError> {
        const ECHILD: i32 = 10;
        let exit = match self.child.wait(timeout) {
            Ok(Some(exit)) => Some(exit),
            Ok(None) => return Err(JoinError::Running),
            // What it said before it ended can be had all the same.
            Err(error) if error.raw_os_error() == Some(ECHILD) => None,
            Err(error) => return Err(error.into()),
        };
        children::remove(&self.child);
        let reports = self.child.reports()?.ok_or(JoinError::AlreadyJoined)?;
        if self.silent {
            return match exit.ok_or(JoinError::StatusTaken)? {
                // Nothing comes back: the only type that this is used with is (), which has no bytes.
                Exit::Code(0) => Ok(bootstrap::codec().decode(&[])?),
                exit => Err(ended(exit)),
            };
        }
        let mut started = false;
        for received in reports {
            match received.head {
                Report::Started => started = true,
                Report::NotStarted(why) => return Err(JoinError::NeverStarted(why)),
                Report::ResultNotEncoded(why) => return Err(JoinError::ResultNotEncoded(why)),
                Report::Panicked(report) => return Err(JoinError::Panicked(Box::new(report))),
                Report::Returned => {
                    let decode = || bootstrap::codec().decode(&received.payload);
                    return Ok(handle::incoming(received.descriptors, decode)?);
                }
            }
        }
        match exit.ok_or(JoinError::StatusTaken)? {
            exit if started => Err(ended(exit)),
            exit => Err(JoinError::NeverStarted(ended_before_start(exit))),
        }
    }
}

fn ended(exit: Exit) -> JoinError {
    match exit {
        Exit::Code(code) => JoinError::Exited { code },
        Exit::Signal { number, core_dumped } => JoinError::Killed { signal: number, core_dumped },
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("id", &self.id()).field("name", &self.name()).finish_non_exhaustive()
    }
}
