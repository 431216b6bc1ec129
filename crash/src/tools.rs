//! What all families use: how long survivors had to wait, what they were told, and whether anything is left behind.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ipc_process::WorkerFn;
use ipc_sync::LockError;
use ipc_testkit::stepper::{BoxError, Outcome, Report, Scenario};
use serde::{Deserialize, Serialize};

/// Survivors go on, and are told, within this time. They look after each other every 100 ms at the latest; the rest is for
/// a machine that has other things to do.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// In how many milliseconds somebody who can go on by itself has a good chance to have done so, for oracles that cannot
/// know whether it can. Nothing is wrong if it has not.
pub(crate) const A_WHILE: Duration = Duration::from_millis(60);

/// The longest that a survivor had to wait, in microseconds.
static WORST: AtomicU64 = AtomicU64::new(0);

pub(crate) fn worst() -> Duration {
    Duration::from_micros(WORST.load(Relaxed))
}

/// What a survivor does after the death, on the clock.
pub(crate) fn timed<T>(f: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = f();
    waited(start.elapsed());
    result
}

/// So long a survivor had to wait.
pub(crate) fn waited(time: Duration) {
    WORST.fetch_max(time.as_micros() as u64, Relaxed);
}

/// A scenario that also looks for what is left behind from run to run.
pub(crate) fn scenario<F, S, A, R>(
    name: &str,
    prepare: impl Fn() -> Result<(S, A), BoxError> + 'static,
    process: F,
    oracle: impl Fn(&mut S, Outcome<R>) -> Result<(), BoxError> + 'static,
) -> Scenario<F, S, A, R>
where
    F: WorkerFn<(A,), Out = R>,
{
    let leaks = Leaks::default();
    let prepare = move || {
        leaks.check()?;
        prepare()
    };
    Scenario::new(name, prepare, process, oracle)
}

/// An object twice: for the survivor, and for the process that is stepped.
pub(crate) fn both<T: Clone>(object: T) -> (T, T) {
    (object.clone(), object)
}

/// Any error of an oracle.
pub(crate) fn wrong<T>(what: impl Into<String>) -> Result<T, BoxError> {
    Err(what.into().into())
}

/// An error, unless it holds.
pub(crate) fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), BoxError> {
    if holds { Ok(()) } else { Err(otherwise().into()) }
}

/// Descriptors and shared pages of this process, which must not become more from run to run.
#[derive(Default)]
struct Leaks {
    runs: Cell<u32>,
    first: Cell<Option<(usize, u64)>>,
}

/// From here on everything that is made once has been made.
const WARM: u32 = 4;
/// Pages are taken in pieces of this size: one more may be needed, and never another one.
const PIECE: u64 = 64 * 1024;
/// What has been used may just be closing, and a worker that failed is replaced.
pub(crate) const FEW: usize = 6;

/// What was seen where no error can be returned.
static LEAKED: Mutex<Option<String>> = Mutex::new(None);

/// The next run fails because of that.
pub(crate) fn leaked(what: String) {
    *LEAKED.lock().expect("nobody panics with it") = Some(what);
}

impl Leaks {
    fn check(&self) -> Result<(), BoxError> {
        if let Some(what) = LEAKED.lock().expect("nobody panics with it").take() {
            return wrong(what);
        }
        self.runs.set(self.runs.get() + 1);
        if self.runs.get() < WARM || !(self.runs.get().is_multiple_of(16) || self.first.get().is_none()) {
            return Ok(());
        }
        let now = (descriptors(std::process::id())?, arenas()?);
        let Some(first) = self.first.get() else {
            self.first.set(Some(now));
            return Ok(());
        };
        must(now.0 <= first.0 + FEW, || format!("{} descriptors, which were {} at first", now.0, first.0))?;
        must(now.1 <= first.1 + PIECE, || {
            format!("{} bytes of memory for objects, which were {} at first", now.1, first.1)
        })
    }
}

/// How many descriptors a process has.
pub(crate) fn descriptors(pid: u32) -> Result<usize, BoxError> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// How many bytes of memory the arenas of this process take.
fn arenas() -> Result<u64, BoxError> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        let is_arena = fs::read_link(&path).is_ok_and(|to| to.to_string_lossy().contains("ipc-arena"));
        if is_arena && let Ok(metadata) = fs::metadata(&path) {
            found.insert((metadata.ino(), metadata.blocks() * 512));
        }
    }
    Ok(found.iter().map(|(_, bytes)| bytes).sum())
}

/// What came of taking a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    Fine,
    Died(Option<u32>),
    GivenUp(Option<u32>),
    Other(String),
}

impl Told {
    pub(crate) fn of<G>(result: &Result<G, LockError>) -> Told {
        match result {
            Ok(_) => Told::Fine,
            Err(LockError::OwnerDied { owner }) => Told::Died(owner.pid()),
            Err(LockError::GivenUp { owner }) => Told::GivenUp(owner.pid()),
            Err(other) => Told::Other(format!("{other:?}")),
        }
    }
}

/// What oracles have come across: a scenario in which one of the cases never came up has not tested it.
#[derive(Clone, Default)]
pub(crate) struct Seen(Rc<RefCell<BTreeSet<&'static str>>>);

impl Seen {
    pub(crate) fn note(&self, what: &'static str) {
        self.0.borrow_mut().insert(what);
    }

    /// For [`Scenario::finally`].
    pub(crate) fn all(
        &self,
        wanted: &'static [&'static str],
    ) -> impl Fn(&Report) -> Result<(), BoxError> + 'static {
        let seen = self.clone();
        move |report| {
            let missing: Vec<_> = wanted.iter().filter(|what| !seen.0.borrow().contains(**what)).collect();
            // In a small sample it may be chance.
            let is_small = report.chosen < 200 && report.chosen < report.moments;
            must(is_small || missing.is_empty(), || format!("it never came to: {missing:?}"))
        }
    }
}

/// Whether it was killed.
pub(crate) fn is_killed<R>(outcome: &Outcome<R>) -> bool {
    matches!(outcome, Outcome::Killed)
}
