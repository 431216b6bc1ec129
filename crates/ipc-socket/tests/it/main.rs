//! The tests of this crate, in one binary; a process that a test spawns is this binary again.

mod address;
mod bind;
mod connection;
mod examples;
mod interpreters;
mod pickle;
mod python;
mod python_auth;
mod shm;
