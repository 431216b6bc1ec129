//! How long a call may wait.

use std::time::{Duration, Instant};

use ipc_sync::object::Nap;

#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    Forever,
    Now,
    At(Instant),
}

impl Until {
    /// A time too far ahead for the clock is for ever.
    pub(super) fn after(timeout: Duration) -> Self {
        if timeout.is_zero() {
            return Until::Now;
        }
        Instant::now().checked_add(timeout).map_or(Until::Forever, Until::At)
    }

    /// One wait of a call that may wait several times.
    pub(super) fn nap(self) -> Nap {
        match self {
            Until::Forever => Nap::forever(),
            Until::Now => Nap::none(),
            Until::At(at) => Nap::within(at.saturating_duration_since(Instant::now())),
        }
    }
}
