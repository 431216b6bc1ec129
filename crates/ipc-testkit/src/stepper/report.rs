//! What came of a scenario.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far a scenario has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Runs done.
    pub done: usize,
    /// Runs in all; 0 while the instructions are being counted.
    pub of: usize,
}

/// A run after which something was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// At which moment the process was to be killed; `None` if it was to complete the operation.
    pub at: Option<usize>,
    /// Where that is in the program.
    pub place: String,
    /// What the oracle said, or what else went wrong.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "killed at moment {at}, {}: {}", self.place, self.message),
            None => write!(f, "not killed: {}", self.message),
        }
    }
}

/// What came of stepping one scenario.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The scenario's.
    pub name: String,
    /// How many instructions the operation has, as counted in the first run.
    pub instructions: usize,
    /// How many moments it has: instructions, entries and exits of system calls, and sleeps in them.
    pub moments: usize,
    /// How many of these touch shared memory or are of a system call.
    pub visible: usize,
    /// At how many of them the process was to be killed.
    pub chosen: usize,
    /// At how many it was killed.
    pub kills: usize,
    /// How many runs completed the operation: the first, and those that came to its end before the chosen moment.
    pub completed: usize,
    /// How many kills were at another instruction than the chosen one, because the run had taken another way.
    pub strayed: usize,
    /// How often the survivors got their turn.
    pub blocked: usize,
    /// How many single steps were made, in all runs.
    pub steps: usize,
    /// What was wrong.
    pub failures: Vec<Failure>,
    /// Not all of the chosen moments were come to: too many failures, or the time was over.
    pub is_cut_short: bool,
    /// How long it took.
    pub seconds: f64,
    /// How long the counting run took.
    pub counting_seconds: f64,
}

impl Report {
    /// The report of a scenario that could not be run.
    pub fn impossible(name: &str, why: impl fmt::Display) -> Report {
        let failure = Failure { at: None, place: String::new(), message: why.to_string() };
        Report { name: name.to_owned(), failures: vec![failure], ..Report::default() }
    }

    /// Whether nothing was wrong.
    pub fn is_success(&self) -> bool {
        self.failures.is_empty()
    }
}
