//! A small explicit-state model checker, for protocols over shared words.
//!
//! A [`Model`] says what its states are and which steps lead from one to the next. [`explore`] visits every state that
//! can be reached, breadth first, so that the trace of a violation is one of the shortest. It finds
//!
//! - states that [`Model::check`] refuses, and steps that a model calls [wrong](Steps::wrong);
//! - strands: states that are no acceptable end, and in which nobody can be relied upon to take a step;
//! - states from which no end can be reached any more, by steps that somebody can be relied upon to take. In a finite
//!   graph this is progress under strong fairness: livelocks are found, waiting in turns is not held against anybody.
//!
//! States are kept whole and compared whole: what is reported as visited was. There is a limit on their number, and to
//! reach it is a failure, never a quiet end.
//!
//! # Examples
//! Two processes that raise a counter by a load and a store lose an update:
//! ```
//! use ipc_testkit::model::{Model, Steps, explore};
//!
//! struct Counter;
//!
//! impl Model for Counter {
//!     type State = (u8, [Option<u8>; 2], u8); // the counter, what each has loaded, how many have finished
//!
//!     fn initial(&self) -> Vec<Self::State> {
//!         vec![(0, [None; 2], 0)]
//!     }
//!
//!     fn steps(&self, state: &Self::State, out: &mut Steps<Self::State>) {
//!         let &(counter, loaded, done) = state;
//!         for i in 0..2 {
//!             let mut next = loaded;
//!             match loaded[i] {
//!                 None => {
//!                     next[i] = Some(counter);
//!                     out.go(i, "loads", (counter, next, done));
//!                 }
//!                 Some(100) => {}
//!                 Some(seen) => {
//!                     next[i] = Some(100);
//!                     out.go(i, "stores", (seen + 1, next, done + 1));
//!                 }
//!             }
//!         }
//!     }
//!
//!     fn check(&self, &(counter, _, done): &Self::State) -> Result<(), String> {
//!         if done == 2 && counter != 2 { Err("an update is lost".to_owned()) } else { Ok(()) }
//!     }
//!
//!     fn is_end(&self, state: &Self::State) -> bool {
//!         state.2 == 2
//!     }
//! }
//!
//! let violation = explore(&Counter, 1000).unwrap_err();
//! let labels: Vec<_> = violation.trace.iter().map(|(step, _)| step.what).collect();
//! assert_eq!(labels, ["loads", "loads", "stores", "stores"]);
//! ```

mod search;
mod table;

#[cfg(test)]
mod tests;

use std::fmt::{self, Debug, Display, Formatter};
use std::hash::Hash;

pub use search::explore;

/// A protocol: its states, and the steps between them.
pub trait Model {
    /// All that the future depends on. Small values are visited fast.
    type State: Clone + Eq + Hash + Debug;

    /// Where it begins.
    fn initial(&self) -> Vec<Self::State>;

    /// Gives all steps that can be taken from this state to `out`.
    fn steps(&self, state: &Self::State, out: &mut Steps<Self::State>);

    /// What has to hold in every state.
    ///
    /// # Errors
    /// What is wrong with this state.
    fn check(&self, state: &Self::State) -> Result<(), String>;

    /// Whether all is well if nothing happens from here on.
    fn is_end(&self, state: &Self::State) -> bool;

    /// One state of all those that differ only in who is who: visited in the place of all of them. Traces are told
    /// with everybody under one name all the same.
    fn canonical(&self, state: Self::State) -> Self::State {
        state
    }
}

/// Who did what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// The number of the actor.
    pub actor: usize,
    /// What it did.
    pub what: &'static str,
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.actor, self.what)
    }
}

/// Where a step leads.
enum To<S> {
    /// To a state, and somebody takes it sooner or later.
    Sure(S),
    /// To a state, but nobody may rely upon it.
    Unsure(S),
    /// Out of what is allowed.
    Wrong(String),
}

/// Takes the steps of a state.
pub struct Steps<S> {
    list: Vec<(Step, To<S>)>,
    sure: bool,
}

impl<S> Debug for Steps<S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list.iter().map(|(step, _)| step)).finish()
    }
}

impl<S> Steps<S> {
    fn new() -> Self {
        Self { list: Vec::new(), sure: false }
    }

    /// A step that is taken sooner or later.
    pub fn go(&mut self, actor: usize, what: &'static str, next: S) {
        self.sure = true;
        self.list.push((Step { actor, what }, To::Sure(next)));
    }

    /// A step that may be taken, but upon which no progress may depend: a kill, a time-out, a choice of the user.
    pub fn may(&mut self, actor: usize, what: &'static str, next: S) {
        self.list.push((Step { actor, what }, To::Unsure(next)));
    }

    /// A step that must not be possible.
    pub fn wrong(&mut self, actor: usize, what: &'static str, why: impl Into<String>) {
        self.sure = true;
        self.list.push((Step { actor, what }, To::Wrong(why.into())));
    }

    /// Whether nobody has a step to [take](Self::go) so far: all sleep, or have ended.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        !self.sure
    }
}

/// What was visited, when all was well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// How many different states can be reached.
    pub states: usize,
    /// How many steps lead from all of them.
    pub steps: usize,
    /// How many of the states are acceptable ends.
    pub ends: usize,
    /// How many steps the farthest state is away.
    pub depth: usize,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A state or a step is not allowed.
    Unsafe(String),
    /// Nobody is sure to take a step, and it is no end.
    Stranded,
    /// No end can be reached from here.
    Endless,
    /// There are more states than this.
    TooMany(usize),
}

/// A [`Fault`], and how it comes about.
#[derive(Clone, Debug)]
pub struct Violation<S> {
    /// What was found.
    pub fault: Fault,
    /// The state that all began in.
    pub initial: S,
    /// The steps to it with the states that they lead to; the state of a step that is itself wrong is the one it
    /// begins in. No shorter way leads there.
    pub trace: Vec<(Step, S)>,
    /// How many states had been found until then.
    pub states: usize,
}

impl<S: Debug> Display for Violation<S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Fault::Unsafe(why) => write!(f, "not allowed: {why}")?,
            Fault::Stranded => write!(f, "stranded: nobody is sure to take a step, and this is no end")?,
            Fault::Endless => write!(f, "endless: no end can be reached any more")?,
            Fault::TooMany(max) => return write!(f, "more than {max} states: nothing is proven"),
        }
        writeln!(f, ", after {} steps ({} states)", self.trace.len(), self.states)?;
        if f.alternate() {
            writeln!(f, "     {:?}", self.initial)?;
        }
        for (number, (step, state)) in self.trace.iter().enumerate() {
            writeln!(f, "{:>3}. {step}", number + 1)?;
            if f.alternate() {
                writeln!(f, "     {state:?}")?;
            }
        }
        writeln!(f, "{:?}", self.trace.last().map_or(&self.initial, |(_, state)| state))
    }
}

impl<S: Debug> std::error::Error for Violation<S> {}
