//! placeholder, being written
#![forbid(unsafe_code)]
pub mod error;
pub use error::{Classify, Error, ErrorKind};
