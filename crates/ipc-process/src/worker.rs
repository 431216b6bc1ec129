//! The worker's side: from the start of the program to the end of the function.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread::ThreadId;
use std::time::Duration;

use ipc_os::pidfd::PidFd;
use ipc_os::socket::Mode;
use ipc_os::{Readiness, Waitable};
use parking_lot::Mutex;

use crate::bootstrap::{self, MARKER, Report, Start, VERSION};
use crate::error::{Location, NeverStarted, PanicReport, SpawnError};
use crate::function::{self, Called};

/// `init` has been called: a worker of this program will find its way.
static INITIALISED: AtomicBool = AtomicBool::new(false);

/// What a worker knows of itself.
struct Worker {
    socket: OwnedFd,
    name: String,
    parent: Parent,
    thread: ThreadId,
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
    // Before `main` the standard library has not done this yet.
    #[cfg(feature = "test")]
    ipc_os::ignore_sigpipe();
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
    let worker = Worker { socket, name: start.name, parent, thread: std::thread::current().id() };
    let worker = WORKER.get_or_init(|| worker);
    bootstrap::send(worker.socket.as_fd(), &Report::Started, &[], &[])?;
    if !start.outlives_parent
        && let Err(error) = end_with(&worker.parent)
    {
        let why = NeverStarted::Failed(format!("no thread to watch the parent: {error}"));
        bootstrap::send(worker.socket.as_fd(), &Report::NotStarted(why), &[], &[])?;
        return Ok(1);
    }
    report_panics();

    let descriptors = received.descriptors.into();
    let called = panic::catch_unwind(|| trampoline(&received.payload, descriptors, &bootstrap::codec()));
    let socket = worker.socket.as_fd();
    match called {
        Ok(Called::Returned(payload, handles)) => {
            let descriptors: Vec<_> = handles.descriptors().iter().map(|fd| fd.as_fd()).collect();
            bootstrap::send(socket, &Report::Returned, &payload, &descriptors)?;
            Ok(0)
        }
        Ok(Called::BadArguments(error)) => {
            let why = NeverStarted::Failed(format!("the arguments could not be decoded: {error}"));
            bootstrap::send(socket, &Report::NotStarted(why), &[], &[])?;
            Ok(1)
        }
        Ok(Called::BadResult(error)) => {
            bootstrap::send(socket, &Report::ResultNotEncoded(error.to_string()), &[], &[])?;
            Ok(1)
        }
        Err(payload) => {
            // The hook has the report, unless the function put a hook of its own in its place.
            let report = LAST_PANIC.lock().take().unwrap_or_else(|| {
                PanicReport::new(message_of(&*payload), None, String::new(), String::new())
            });
            bootstrap::send(socket, &Report::Panicked(report), &[], &[])?;
            Ok(101)
        }
    }
}

/// A thread that ends this process when the parent has ended. It waits for the parent process itself: neither for the
/// thread that started us, nor for an end-of-file that a stray copy of a descriptor could hold back.
pub(crate) fn end_with(parent: &'static Parent) -> io::Result<()> {
    let watch = || {
        // An error here would be a wait that cannot be: without it this process could outlive its parent.
        let _ = parent.pidfd.wait_ended(None);
        let _ = PidFd::of_self().map(|me| me.signal(9));
        std::process::abort();
    };
    std::thread::Builder::new().name("ipc-parent".into()).stack_size(64 << 10).spawn(watch)?;
    Ok(())
}

/// The last panic of the worker's thread that was not told yet.
static LAST_PANIC: Mutex<Option<PanicReport>> = Mutex::new(None);

/// Reports are told from within the hook where the process is about to abort, no more than this many: they wait in the
/// socket, and must leave room for the result.
const TOLD_AT_ONCE_MAX: u32 = 3;

/// Longer backtraces and messages are cut.
const TEXT_MAX: usize = 8 << 10;

fn report_panics() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        note_panic(info);
        previous(info);
    }));
}

/// With `panic = "abort"` any panic ends the process, at once. Otherwise one of the worker's thread unwinds to
/// [`work`], which tells it; but a second one before that (in a destructor, or out of an `extern "C"` function) aborts,
/// so that one is told at once. If the first was caught after all, the parent sees from the exit status that the
/// report means nothing.
fn note_panic(info: &PanicHookInfo<'_>) {
    thread_local! {
        static IN_HOOK: Cell<bool> = const { Cell::new(false) };
    }
    static TOLD: AtomicU32 = AtomicU32::new(0);
    let Some(worker) = WORKER.get() else { return };
    let aborts = cfg!(panic = "abort");
    let thread = std::thread::current();
    if (!aborts && thread.id() != worker.thread) || IN_HOOK.replace(true) {
        return;
    }
    let report = PanicReport::new(
        message_of(info.payload()),
        info.location().map(|at| Location { file: at.file().into(), line: at.line(), column: at.column() }),
        // Before `main` the main thread has no name yet.
        thread.name().unwrap_or(if thread.id() == worker.thread { "main" } else { "" }).to_owned(),
        cut(std::backtrace::Backtrace::force_capture().to_string()),
    );
    // Not a lock that waits: another panic may be at work.
    let earlier = LAST_PANIC.try_lock().and_then(|mut last| last.replace(report.clone()));
    if (aborts || earlier.is_some()) && TOLD.fetch_add(1, Relaxed) < TOLD_AT_ONCE_MAX {
        let _ = bootstrap::send(worker.socket.as_fd(), &Report::Panicked(report), &[], &[]);
    }
    IN_HOOK.set(false);
}

fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (_, Some(message)) => message.clone(),
        _ => "(a panic without a message)".to_owned(),
    };
    cut(message)
}

fn cut(mut text: String) -> String {
    let mut len = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    text.truncate(len);
    text
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
