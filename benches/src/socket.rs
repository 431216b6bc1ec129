//! Connections beside raw sockets, cache lines and CPython.

mod connects;
mod cpython;
mod idle;
mod messages;

use crate::harness::{Bench, Error};
use crate::place::{pinned, placements};

/// What both ends know, where they have to prove it.
const KEY: &str = "the key of the measurements";

pub(crate) fn run(bench: &mut Bench) -> Result<(), Error> {
    for placement in placements() {
        let run = || -> Result<(), Error> {
            messages::run(bench, placement)?;
            connects::run(bench, placement)?;
            cpython::run(bench, placement)
        };
        pinned(placement.ours, run)??;
    }
    idle::run(bench)
}
