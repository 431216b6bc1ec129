#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

mod array;
mod error;
mod mutex;
mod plain;
pub mod ring;
mod rwlock;
mod segment;
mod turn;
mod typed;
mod value;
mod view;

pub use array::{Array, ArrayGuard, OutOfRange};
pub use error::SegmentError;
pub use mutex::{Mutex, MutexGuard};
pub use plain::Plain;
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use segment::{Options, Segment};
pub use value::{Bits, Number, Value, ValueGuard};
pub use view::{View, ViewMut};

pub use zerocopy;

pub use ipc_sync::{LockError, OpenError, Owner, reclaim};
