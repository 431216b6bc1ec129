//! Kills a real process at every instruction of an operation, and lets the survivors say whether all is well.
//!
//! A [`Scenario`] makes its objects anew for each run, starts a process that performs one [`operation`] on them, and
//! has an oracle that looks at what is left. The stepper counts the instructions of the operation in a first run that
//! it lets end. Then it starts the process again and again, takes it to the k-th *moment* of the operation and kills it
//! there with SIGKILL; the process is dead and reaped when the oracle is asked.
//!
//! A moment is: the begin; after each instruction; for a system call, its entry (nothing of it has happened), asleep in
//! it if it sleeps, and its exit. The operation's own thread is stepped; other threads of the process run freely.
//!
//! - *Which moments*: [`KillPoints::All`], or a sample that prefers what others can see. Between two accesses to shared
//!   memory and two system calls a process changes nothing that anybody else could see, so that a sample with the
//!   moments before and after each of these leaves little to the rest.
//! - *An operation that sleeps* gives the survivors their turn: [`Scenario::while_blocked`].
//! - *Getting there* is not by stepping from the start: a breakpoint lies at an instruction shortly before the moment
//!   that the first run came by seldom, the best of all once. Without address space randomisation and on one core the
//!   runs are alike; a run that took another way is counted as strayed, and killed wherever it got to.
//! - *Hangs* are failures: of the process (it is killed), and of the scenario's functions (this process is aborted, with
//!   a message).
//! - *Other threads* of the process may be there if they sleep: they are waited for before the operation begins. What
//!   wakes or starts in the middle of it could run into a breakpoint, which would end the process by SIGTRAP.
//!
//! Linux on x86-64 alone: elsewhere every report says that nothing could be done.
//!
//! ```
//! use ipc_testkit::stepper::{KillPoints, Outcome, Scenario, Stepper, Steps, operation};
//! # ipc_process::init();
//! let say = Scenario::new(
//!     "say",
//!     || {
//!         let (sender, receiver) = ipc_pipe::pipe::<u32>()?;
//!         Ok((receiver, sender)) // what the survivor keeps, what the process is given
//!     },
//!     |mut sender: ipc_pipe::Sender<u32>| operation(|| sender.send(&7)).is_ok(),
//!     |receiver, outcome| match (receiver.recv(), outcome) {
//!         (Ok(7), _) | (Err(ipc_pipe::RecvError::Disconnected), Outcome::Killed) => Ok(()),
//!         (received, outcome) => Err(format!("{received:?} after {outcome:?}").into()),
//!     },
//! );
//! let report = say.step(&Stepper { kill_points: KillPoints::Sample(20), ..Stepper::default() }, &mut |_| ());
//! assert!(report.is_success(), "{report:?}");
//! ```
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

mod choice;
mod guard;
mod insn;
mod landing;
mod operation;
mod place;
mod report;
#[cfg(target_arch = "x86_64")]
mod run;
mod scenario;
mod symbols;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
mod trace;
#[cfg(target_arch = "x86_64")]
mod tracee;
#[cfg(target_arch = "x86_64")]
mod walk;

use std::time::Duration;

pub use operation::operation;
pub use report::{Failure, Progress, Report};
pub use scenario::{BoxError, Outcome, Scenario, Steps};

/// At which moments of an operation a process is killed, a run each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillPoints {
    /// At every one.
    All,
    /// At up to so many: system calls and accesses to shared memory first, the rest evenly. Always the same ones.
    Sample(usize),
}

/// How scenarios are stepped.
#[derive(Debug, Clone)]
pub struct Stepper {
    /// Where to kill.
    pub kill_points: KillPoints,
    /// How long a process sleeps before it counts as blocked, and the survivors get their turn.
    pub blocked_after: Duration,
    /// How long one run, and one call of a scenario's functions, may take.
    pub patience: Duration,
    /// How long all runs of one scenario may take together, but for the first 24, without which it would show nothing; what
    /// is left then is not run, and the report says so. What [`Scenario::finally`] says is not asked for then.
    pub budget: Option<Duration>,
    /// After so many failures a scenario is given up.
    pub failures_max: usize,
}

impl Default for Stepper {
    fn default() -> Self {
        Stepper {
            kill_points: KillPoints::All,
            blocked_after: Duration::from_millis(2),
            patience: Duration::from_secs(20),
            budget: None,
            failures_max: 5,
        }
    }
}
