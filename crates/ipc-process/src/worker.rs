//! The worker's side: from the start of the program to the end of the function.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use ipc_os::pidfd::PidFd;
use ipc_os::socket::Mode;
use ipc_os::{Readiness, Waitable};

use crate::bootstrap::{self, MARKER, Report, Start, VERSION};
use crate::error::{NeverStarted, PanicReport, SpawnError};
use crate::function::{self, Called};
use crate::panics;

/// `init` has been called: a worker of this program will find its way.
static INITIALISED: AtomicBool = AtomicBool::new(false);

/// What a worker knows of itself.
struct Worker {
    socket: OwnedFd,
    name: String,
    parent: Parent,
}

static WORKER: OnceLock<Worker> = OnceLock::new();

/// Begins the program: call it first in `main`.
///
/// In a process that [`Process::spawn`](crate::Process::spawn) has started it runs the function there and does not
/// return; in every other process it does nothing. What stands before it in `main` runs in workers too.
///
/// With the feature `test` it is called before `main`, which makes test and bench binaries work.
///
/// Does nothing in a set-user-ID program, which must not believe what it inherits.
pub fn init() {
    INITIALISED.store(true, Relaxed);
    if let Some(socket) = bootstrap::inherited(MARKER) {
        run(socket);
    }
}

/// Spawning makes sense only where a worker would find its way.
pub(crate) fn check_may_spawn() -> Result<(), SpawnError> {
    #[cfg(feature = "test")]
    before_main::keep();
    if INITIALISED.load(Relaxed) { Ok(()) } else { Err(SpawnError::NotInitialised) }
}

/// For test and bench binaries, whose `main` belongs to the harness.
#[cfg(feature = "test")]
mod before_main {
    /// The loader calls what stands in this section before `main` (System V ABI, "Initialization and Termination
    /// Functions"); the standard library's own entry, which keeps the arguments, has a priority and comes first.
    #[used]
    #[unsafe(link_section = ".init_array")]
    static BEFORE_MAIN: extern "C" fn() = before_main;

    extern "C" fn before_main() {
        // A panic must not leave a C function; a worker that cannot begin ends, and its parent is told.
        if std::panic::catch_unwind(super::init).is_err() {
            std::process::abort();
        }
    }

    /// Makes the linker keep this module's object file.
    pub(super) fn keep() {
        std::hint::black_box(&BEFORE_MAIN);
    }
}

/// The whole life of a worker.
fn run(socket: OwnedFd) -> ! {
    let code = match work(socket) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ipc-process: a worker could not talk to its parent: {error}");
            1
        }
    };
    std::process::exit(code)
}

fn work(socket: OwnedFd) -> io::Result<i32> {
    // Before `main` the standard library has not done these yet.
    #[cfg(feature = "test")]
    {
        ipc_os::ignore_sigpipe();
        ipc_os::fd::open_missing_standard_streams()?;
    }
    // Nothing there: the parent died while starting us, and nobody is interested.
    let Some(mut received) = bootstrap::receive::<Start>(socket.as_fd(), Mode::Wait)? else { return Ok(1) };
    let start = received.head;
    let refuse = |why: NeverStarted| -> io::Result<i32> {
        bootstrap::send(socket.as_fd(), &Report::NotStarted(why), &[], &[])?;
        Ok(1)
    };
    if start.version != VERSION || start.image != ipc_os::image::identity() {
        return refuse(NeverStarted::AnotherImage);
    }
    let Some(parent) = received.descriptors.pop_front().map(PidFd::from_descriptor) else {
        return refuse(NeverStarted::Failed("the parent's descriptor is missing".into()));
    };
    // SAFETY: the offset was taken in a process whose image has our image's identity.
    let trampoline = match unsafe { function::at_offset(start.function) } {
        Ok(trampoline) => trampoline,
        Err(error) => return refuse(NeverStarted::Failed(error.to_string())),
    };
    ipc_os::image::set_thread_name(&start.name);
    let parent = Parent { id: start.parent_id, pidfd: parent };
    let worker = Worker { socket, name: start.name, parent };
    let worker = WORKER.get_or_init(|| worker);
    match bootstrap::send(worker.socket.as_fd(), &Report::Started, &[], &[]) {
        Err(error) if !(start.outlives_parent && is_parent_gone(&error)) => return Err(error),
        _ => {}
    }
    if !start.outlives_parent
        && let Err(error) = end_with(&worker.parent)
    {
        let why = NeverStarted::Failed(format!("no thread to watch the parent: {error}"));
        bootstrap::send(worker.socket.as_fd(), &Report::NotStarted(why), &[], &[])?;
        return Ok(1);
    }
    panics::report();

    let descriptors = received.descriptors.into();
    let called = panic::catch_unwind(|| trampoline(&received.payload, descriptors, &bootstrap::codec()));
    let (code, report) = match called {
        Ok(Called::Returned(payload, handles)) => {
            let descriptors: Vec<_> = handles.descriptors().iter().map(|fd| fd.as_fd()).collect();
            match bootstrap::send(worker.socket.as_fd(), &Report::Returned, &payload, &descriptors) {
                Ok(()) => return Ok(0),
                Err(error) if is_parent_gone(&error) => return Ok(0),
                // Too many descriptors in flight, no memory: nothing of it has gone.
                Err(error) => (1, Report::ResultNotEncoded(error.to_string())),
            }
        }
        Ok(Called::BadArguments(error)) => {
            let why = NeverStarted::Failed(format!("the arguments could not be decoded: {error}"));
            (1, Report::NotStarted(why))
        }
        Ok(Called::BadResult(error)) => (1, Report::ResultNotEncoded(error.to_string())),
        Err(payload) => (101, Report::Panicked(panics::of_payload(&*payload))),
    };
    match bootstrap::send(worker.socket.as_fd(), &report, &[], &[]) {
        Err(error) if !is_parent_gone(&error) => Err(error),
        _ => Ok(code),
    }
}

/// Nobody is interested any more: no error in a worker that outlives its parent.
fn is_parent_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Tells the parent of a panic that is about to end this process.
pub(crate) fn tell_panic(report: PanicReport) {
    if let Some(worker) = WORKER.get() {
        let _ = bootstrap::send(worker.socket.as_fd(), &Report::Panicked(report), &[], &[]);
    }
}

/// A thread that ends this process when the parent has ended. It waits for the parent process itself: neither for the
/// thread that started us, nor for an end-of-file that a stray copy of a descriptor could hold back. It takes no
/// signals: those are for the function's threads.
pub(crate) fn end_with(parent: &'static Parent) -> io::Result<()> {
    let watch = || {
        let _internal = ipc_os::threads::internal();
        // An error here would be a wait that cannot be: without it this process could outlive its parent.
        let _ = parent.pidfd.wait_ended(None);
        ipc_os::pidfd::kill_self()
    };
    let thread = std::thread::Builder::new().name("ipc-parent".into()).stack_size(64 << 10);
    ipc_os::signals::with_all_blocked(|| thread.spawn(watch))??;
    Ok(())
}

/// This process, as [`current`] knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Current {
    /// Its process number.
    pub id: u32,
    /// Its name: what it was given, or `main` for a process that was not spawned by this crate.
    pub name: String,
    /// It was spawned by this crate and runs a worker function.
    pub is_worker: bool,
}

/// This process: number, name, and whether it is a worker.
pub fn current() -> Current {
    let worker = WORKER.get();
    let name = worker.map_or("main", |worker| &worker.name).to_owned();
    Current { id: std::process::id(), name, is_worker: worker.is_some() }
}

/// The process that started this one.
#[derive(Debug)]
pub struct Parent {
    pub(crate) id: u32,
    pub(crate) pidfd: PidFd,
}

impl Parent {
    /// Its process number, as it was when it started this process.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether it is running.
    pub fn is_alive(&self) -> bool {
        !self.pidfd.has_ended().unwrap_or(false)
    }

    /// Waits for its end, no longer than `timeout` (`None`: for ever); whether it came.
    ///
    /// # Errors
    /// What the system reports.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        self.pidfd.wait_ended(timeout)
    }
}

impl Waitable for Parent {
    fn readiness(&self) -> Readiness<'_> {
        self.pidfd.readiness()
    }
}

/// The process that spawned this worker; `None` in a process that is no worker.
///
/// By default a worker ends with its parent. One that [outlives it](crate::Builder::outlives_parent) can learn of its
/// end here, also in a [`wait`](crate::wait) with others.
pub fn parent() -> Option<&'static Parent> {
    WORKER.get().map(|worker| &worker.parent).or_else(|| crate::handover::giver())
}
