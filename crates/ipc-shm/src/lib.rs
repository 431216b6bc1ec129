#![doc = include_str!("../README.md")]

mod array;
mod mutex;
mod plain;
mod rwlock;
mod typed;
mod value;

pub use array::{Array, ArrayGuard, OutOfRange};
pub use mutex::{Mutex, MutexGuard};
pub use plain::Plain;
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use value::{Bits, Number, Value, ValueGuard};
