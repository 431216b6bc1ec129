//! The tests of this crate, in one binary; a process that a test spawns is this binary again.

mod address;
mod behaviours;
mod bind;
mod carriers;
mod connection;
mod corners;
mod deaths;
mod examples;
mod hostile;
mod interpreters;
mod pickle;
mod python;
mod python_auth;
mod server;
mod shm;
mod signals;
mod travel;
