#![doc = include_str!("../README.md")]

mod arena;
mod board;
mod error;
mod id;
mod lock;
mod memory;
pub mod object;
mod raw;
mod thread;
mod wait;

pub use error::{LockError, OpenError, Owner};
pub use lock::{Lock, LockGuard};

/// Choices for new objects.
pub mod options {
    pub use crate::lock::Options as LockOptions;
}
