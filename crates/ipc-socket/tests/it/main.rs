//! The tests of this crate, in one binary; a process that a test spawns is this binary again.

mod address;
mod bind;
