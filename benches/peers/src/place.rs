//! Where threads run, and what time it is there.

use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::Error;

/// Keeps the calling thread, and what it starts, on `core`.
pub(crate) fn pin(core: usize) -> Result<(), Error> {
    let mut set = CpuSet::new();
    set.set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|error| format!("cannot run on core {core}: {error}"))?;
    Ok(())
}

/// The time on a clock that all processes share, so that one can tell another when it was done.
pub(crate) fn now() -> Result<Duration, Error> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}
