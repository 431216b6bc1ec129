//! Why the tour ends without a result.

use std::error::Error;
use std::fmt::Display;
use std::path::Path;

/// What to tell the user.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// For `map_err`: says what was being done, and why it did not work.
    pub(crate) fn when<E: Error>(doing: impl Display) -> impl FnOnce(E) -> Failure {
        move |error| Failure(format!("{doing}: {}", with_causes(&error)))
    }

    /// For `map_err`: names the file.
    pub(crate) fn at<E: Error>(path: &Path) -> impl FnOnce(E) -> Failure {
        Failure::when(path.display())
    }
}

/// The error's text and those of the errors below it.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
