//! CPython at the other end: the protocol of `multiprocessing.connection`, without I/O.
//!
//! - messages are laid out as [`ipc_core::frame::Layout::Lengths`] says,
//! - [`auth`]: how the two ends show each other that they know the same key,
//! - [`pickle`]: what Python's `send` writes and its `recv` reads,
//! - [`Object`]: the values in pickles, and [`to_object`] and [`from_object`] between them and types of Rust.
//!
//! Nothing here is encrypted, nor protected against changes under way: it is meant for processes of one machine, or
//! for a network that nobody else is on. [`auth`] says what its protocol does not protect against.

pub mod auth;
mod bigint;
mod object;
pub mod pickle;

pub use bigint::BigInt;
pub use object::{Object, ObjectError, from_object, to_object};
