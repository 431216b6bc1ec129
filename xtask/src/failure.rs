//! Why a task failed, in words for the person who ran it.

use std::{fmt, io};

/// What every task returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// The reason a task ended early; its text is all that is shown.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure described by `text`.
    pub(crate) fn new(text: impl Into<String>) -> Failure {
        Failure(text.into())
    }

    /// For `map_err`: an I/O error together with what was being done.
    pub(crate) fn io(doing: impl fmt::Display) -> impl FnOnce(io::Error) -> Failure {
        move |source| Failure(format!("{doing}: {source}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
