//! Panics in a worker, as its parent is told of them.
//!
//! | panic | what happens to the process | who tells |
//! |---|---|---|
//! | of the function, unwinding | [`of_payload`] catches it; exit code 101 | the worker, with what the hook noted |
//! | caught by somebody | nothing | nobody |
//! | of another thread, unwinding | nothing, unless somebody joins it and panics in turn | nobody |
//! | of any thread, that cannot unwind (`extern "C"`, a second one while unwinding, `panic = "abort"`) | SIGABRT | the hook, at once |
//!
//! A function that sets a hook of its own takes ours away: its panics are still told, without place and backtrace, but
//! for those that abort.

use std::any::Any;
use std::backtrace::Backtrace;
use std::collections::VecDeque;
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::ThreadId;

use parking_lot::Mutex;

use crate::error::{Location, PanicReport};
use crate::worker;

/// A panic, as the hook saw it.
struct Noted {
    thread: ThreadId,
    thread_name: String,
    message: String,
    location: Option<Location>,
    /// Its addresses are not looked up before somebody wants to know: most panics are caught.
    backtrace: Backtrace,
}

/// The last panics, of all threads: the one that ends the worker may have come from another thread.
static NOTED: Mutex<VecDeque<Noted>> = Mutex::new(VecDeque::new());

const NOTED_MAX: usize = 8;

/// Longer messages and backtraces are cut.
const MESSAGE_MAX: usize = 8 << 10;
const BACKTRACE_MAX: usize = 16 << 10;

/// The thread that runs the worker's function.
static WORKER_THREAD: OnceLock<ThreadId> = OnceLock::new();

/// From here on panics are noted, before the hook that was set until now is called.
pub(crate) fn report() {
    let _ = WORKER_THREAD.set(std::thread::current().id());
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        note(info);
        previous(info);
    }));
}

/// The report of the panic that unwound to the end of the worker's function.
pub(crate) fn of_payload(payload: &(dyn Any + Send)) -> PanicReport {
    let message = message_of(payload);
    // Not simply the last one: this may be an earlier one or another thread's, resumed; or no hook has seen it.
    let noted = NOTED.lock();
    match noted.iter().rev().find(|noted| noted.message == message) {
        Some(noted) => noted.report(),
        None => PanicReport::new(message, None, String::new(), String::new()),
    }
}

fn note(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let noted = Noted {
        thread: thread.id(),
        // Before `main` the main thread has no name yet.
        thread_name: match thread.name() {
            Some(name) => name.to_owned(),
            None if WORKER_THREAD.get() == Some(&thread.id()) => "main".to_owned(),
            None => String::new(),
        },
        message: message_of(info.payload()),
        location: info.location().map(|at| Location {
            file: at.file().into(),
            line: at.line(),
            column: at.column(),
        }),
        backtrace: Backtrace::force_capture(),
    };
    let aborts = cfg!(panic = "abort") || !can_unwind(info);
    let report = {
        let mut last = NOTED.lock();
        if last.len() == NOTED_MAX {
            last.pop_front();
        }
        last.push_back(noted);
        aborts.then(|| fatal(&last)).flatten()
    };
    static TOLD: AtomicBool = AtomicBool::new(false);
    if let Some(report) = report
        && !TOLD.swap(true, Relaxed)
    {
        worker::tell_panic(report);
    }
}

/// Whether unwinding follows; if not, an abort. The standard library knows it, but shows it in its debug form only. If
/// that changes, such an end is told as the SIGABRT that it is; a test would see it.
fn can_unwind(info: &PanicHookInfo<'_>) -> bool {
    let text = format!("{info:?}");
    !text.rsplit_once("can_unwind: ").is_some_and(|(_, value)| value.starts_with("false"))
}

/// The report of the panic that has just been noted last and ends the process. The standard library's own panics that
/// say no more than that there was one where none may be are told as the one that they speak of.
fn fatal(noted: &VecDeque<Noted>) -> Option<PanicReport> {
    let last = noted.back()?;
    let mut before = noted.iter().rev().skip(1).filter(|earlier| earlier.thread == last.thread);
    Some(match last.message.as_str() {
        "panic in a function that cannot unwind" => before.next().unwrap_or(last).report(),
        "panic in a destructor during cleanup" => match (before.next(), before.next()) {
            (Some(second), Some(first)) => {
                let mut report = first.report();
                report.message += &format!("; while unwinding, a second panic: {}", second.message);
                report
            }
            _ => last.report(),
        },
        _ => last.report(),
    })
}

impl Noted {
    fn report(&self) -> PanicReport {
        PanicReport::new(
            self.message.clone(),
            self.location.clone(),
            self.thread_name.clone(),
            cut(self.backtrace.to_string(), BACKTRACE_MAX),
        )
    }
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (_, Some(message)) => message.clone(),
        _ => "(a panic without a message)".to_owned(),
    };
    cut(message, MESSAGE_MAX)
}

fn cut(mut text: String, len_max: usize) -> String {
    let mut len = text.len().min(len_max);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    text.truncate(len);
    text
}
