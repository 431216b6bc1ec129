//! The tests of this crate, in one binary.

mod budget;
mod codec;
mod fingerprint;
mod value;
mod wire;
