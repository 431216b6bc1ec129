#![doc = include_str!("../README.md")]

mod arena;
mod barrier;
mod board;
mod condition;
mod error;
mod event;
mod handle;
mod id;
mod lock;
mod memory;
mod named;
pub mod object;
mod pace;
mod raw;
mod reentrant;
mod rwlock;
mod semaphore;
mod thread;
mod wait;

pub use barrier::{Barrier, BarrierError};
pub use condition::Condition;
pub use error::{LockError, OpenError, Owner, WaitError};
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use named::{reclaim, remove};
pub use reentrant::{ReentrantGuard, ReentrantLock};
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use semaphore::{BoundedSemaphore, Overflow, Permit, Semaphore};

/// Choices for new objects.
pub mod options {
    pub use crate::lock::Options as LockOptions;
}
