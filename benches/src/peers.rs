//! Other crates beside us, measured by the program of `benches/peers`.

use std::cell::RefCell;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::driven::Driven;
use crate::harness::{Error, Subject};
use crate::place::Placement;

/// A program that has all of the other crates.
pub(crate) struct Peers(Driven);

impl Peers {
    /// Starts it: its first process sends and runs where ours does, its second one receives.
    pub(crate) fn start(program: &Path, placement: Placement) -> Result<Self, Error> {
        let mut command = Command::new(program);
        command.arg("--cores").arg(format!("{},{}", placement.ours, placement.theirs));
        // A group of its own: interrupted from the terminal, it removes its files when its input ends.
        command.process_group(0);
        Ok(Peers(Driven::start("the program of benches/peers", &mut command)?))
    }

    /// So many operations of that crate; the README of `benches/peers` has the names.
    pub(crate) fn block(&mut self, peer: &str, operation: &str, count: u64) -> Result<Duration, Error> {
        self.0.block(format_args!("{peer} {operation} {count}"))
    }
}

/// A subject of another crate, if they are measured.
pub(crate) fn peer<'a>(
    peers: Option<&'a RefCell<Peers>>,
    name: &'static str,
    peer: &'static str,
    operation: &'static str,
) -> Option<Subject<'a>> {
    let peers = peers?;
    Some(Subject::new(name, move |count| peers.borrow_mut().block(peer, operation, count)))
}
