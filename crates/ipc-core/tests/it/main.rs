//! The tests of this crate, in one binary.

mod budget;
mod channel;
mod codec;
mod fingerprint;
mod handle;
mod value;
mod wire;
