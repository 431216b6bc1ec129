//! What is stepped: the objects, the operation, the survivors and the oracle.

use std::error::Error;

use ipc_process::WorkerFn;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Stepper;
use super::report::{Progress, Report};

/// Any error, as scenarios return it; `"text".into()` makes one.
pub type BoxError = Box<dyn Error>;

/// How a run ended, for the oracle.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<R> {
    /// The process was killed within the operation; it is dead and reaped.
    Killed,
    /// The operation was completed, and the process ended with this result.
    Completed(R),
}

type Prepare<S, A> = Box<dyn Fn() -> Result<(S, A), BoxError>>;
type WhileBlocked<S> = Box<dyn Fn(&mut S, usize)>;
type Oracle<S, R> = Box<dyn Fn(&mut S, Outcome<R>) -> Result<(), BoxError>>;
type Finally = Box<dyn Fn(&Report) -> Result<(), BoxError>>;

/// An operation in its surroundings: see the [module](super).
///
/// `S` is what the survivor keeps, `A` what the stepped process is given, `R` its result. The survivor is the process
/// that steps; it may start more in `prepare` and keep them in `S`.
pub struct Scenario<F, S, A, R> {
    pub(super) name: String,
    pub(super) prepare: Prepare<S, A>,
    pub(super) process: F,
    pub(super) while_blocked: WhileBlocked<S>,
    pub(super) oracle: Oracle<S, R>,
    pub(super) finally: Finally,
}

impl<F, S, A, R> Scenario<F, S, A, R>
where
    F: WorkerFn<(A,), Out = R>,
{
    /// A scenario of these parts:
    ///
    /// - `prepare` is called for each run, and makes the objects;
    /// - `process` runs in the process that is stepped, with what it was given (any serde type, handles included), and
    ///   calls [`operation`](super::operation()) once; it captures nothing;
    /// - `oracle` is called when that process has ended. An error, and a panic, is a failure.
    pub fn new(
        name: impl Into<String>,
        prepare: impl Fn() -> Result<(S, A), BoxError> + 'static,
        process: F,
        oracle: impl Fn(&mut S, Outcome<R>) -> Result<(), BoxError> + 'static,
    ) -> Self {
        Scenario {
            name: name.into(),
            prepare: Box::new(prepare),
            process,
            while_blocked: Box::new(|_, _| ()),
            oracle: Box::new(oracle),
            finally: Box::new(|_| Ok(())),
        }
    }

    /// What the survivor does when the process sleeps in a system call of the operation. It is called again (with 1,
    /// 2, …) as long as the process goes on sleeping. It must not wait for the process.
    pub fn while_blocked(mut self, f: impl Fn(&mut S, usize) + 'static) -> Self {
        self.while_blocked = Box::new(f);
        self
    }

    /// What has to hold after all runs.
    pub fn finally(mut self, f: impl Fn(&Report) -> Result<(), BoxError> + 'static) -> Self {
        self.finally = Box::new(f);
        self
    }
}

/// A scenario of whatever types.
pub trait Steps {
    /// Its name.
    fn name(&self) -> &str;

    /// Runs it, killing the process at each of the chosen moments, and tells of the progress.
    fn step(&self, stepper: &Stepper, progress: &mut dyn FnMut(Progress)) -> Report;
}

impl<F, S, A, R> Steps for Scenario<F, S, A, R>
where
    F: WorkerFn<(A,), Out = R>,
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn step(&self, stepper: &Stepper, progress: &mut dyn FnMut(Progress)) -> Report {
        #[cfg(target_arch = "x86_64")]
        return super::run::step(self, stepper, progress);
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (stepper, progress);
            Report::impossible(&self.name, "stepping needs Linux on x86-64")
        }
    }
}
