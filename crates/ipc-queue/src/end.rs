//! One side of a queue, as a process has it: its role, which the kernel counts, and how it waits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ipc_os::Readiness;
use ipc_sync::object::{Id, Latched, Nap, Object, Pace, Rest, Role};

use crate::bell::Bell;

use crate::queue::{Queue, Side};

/// One side. It is given back when the last handle of this process's is dropped, or however the process ends.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) queue: Arc<Queue>,
    side: Side,
    /// `None` only while it is dropped.
    role: Option<Role>,
    pace: Pace,
    /// Calls that have not asked the kernel since one that has.
    unasked: AtomicU32,
}

/// So many calls go by without a system call each.
const ASK_AFTER: u32 = 15;

/// How a wait went.
#[derive(Debug)]
pub(crate) enum Waited {
    /// There may be something now.
    Look,
    TimedOut,
    /// Nobody is left on the other side.
    Disconnected,
    /// Nobody else has the queue at all, and this process has both sides and one thread.
    Abandoned,
}

impl End {
    pub(crate) fn new(queue: Arc<Queue>, side: Side) -> io::Result<Self> {
        let role = queue.object.role(side.role())?;
        Ok(End::with(queue, side, role))
    }

    pub(crate) fn with(queue: Arc<Queue>, side: Side, role: Role) -> Self {
        // So that who sleeps is told at once when this process is killed, even if it never sends or receives anything.
        let _known_at_a_tick_without = queue.object.announce();
        queue.ever(side).store(1, Relaxed);
        queue.bell(side.other()).set_gone(false);
        End { queue, side, role: Some(role), pace: Pace::default(), unasked: AtomicU32::new(0) }
    }

    pub(crate) fn role(&self) -> &Role {
        self.role.as_ref().expect("it is taken out only as this is dropped")
    }

    pub(crate) fn object(&self) -> &Object {
        &self.queue.object
    }

    /// Whether there was somebody on the other side, and nobody is left: asked of the kernel.
    pub(crate) fn is_disconnected(&self) -> io::Result<bool> {
        let other = self.side.other();
        Ok(self.queue.ever(other).load(Relaxed) != 0 && !self.object().has_role(other.role())?)
    }

    /// As [`is_disconnected`](Self::is_disconnected), if somebody has said so: next to nothing otherwise.
    #[inline]
    pub(crate) fn was_left(&self) -> io::Result<bool> {
        if self.queue.bell(self.side).is_gone() { self.is_left() } else { Ok(false) }
    }

    #[cold]
    fn is_left(&self) -> io::Result<bool> {
        let is_left = self.is_disconnected()?;
        if !is_left {
            // Somebody came as the last one went. Should that one go just now, it is noticed a little later.
            self.queue.bell(self.side).set_gone(false);
        }
        Ok(is_left)
    }

    /// Whether to ask the kernel who is gone, though there is something to do anyway: now and then.
    pub(crate) fn is_to_ask(&self) -> bool {
        let unasked = self.unasked.load(Relaxed);
        self.unasked.store(if unasked < ASK_AFTER { unasked + 1 } else { 0 }, Relaxed);
        unasked == ASK_AFTER
    }

    /// Waits until `ready`, or until there is something to be told. `many` says whether there is more to do than one thing.
    pub(crate) fn wait(
        &self,
        wait: &mut Wait,
        ready: impl Fn() -> bool,
        many: impl Fn() -> bool,
    ) -> io::Result<Waited> {
        self.wait_for(self.queue.bell(self.side), wait, ready, many, &[])
    }

    /// As [`wait`](Self::wait) at a bell, also until one of the owners dies, from whom something may come too.
    pub(crate) fn wait_for(
        &self,
        bell: &Bell,
        wait: &mut Wait,
        ready: impl Fn() -> bool,
        many: impl Fn() -> bool,
        owners: &[Id],
    ) -> io::Result<Waited> {
        if !wait.has_spun {
            wait.has_spun = true;
            if self.pace.is_due() {
                Pace::stay_away();
                self.pace.has_paid(many());
            }
            if !wait.is_over() && self.object().spin_for_news(&ready) {
                return Ok(Waited::Look);
            }
        }
        if wait.is_over() {
            return Ok(Waited::TimedOut);
        }
        let armed = bell.arm();
        if ready() {
            return Ok(Waited::Look);
        }
        if owners.is_empty() && self.is_disconnected()? {
            // Asked first, and looked at once more then: the last one may have done something before it went.
            return Ok(if ready() { Waited::Look } else { Waited::Disconnected });
        }
        if self.side == Side::Receiver && wait.nap().ticks() == 1 {
            // Nothing has come for a while.
            self.queue.store.trim()?;
        }
        // The thread that took this end may be gone, or have used other objects since.
        let _known_at_a_tick_without = self.object().announce();
        wait.has_slept = true;
        match bell.sleep(self.object(), armed, owners, wait.nap())? {
            Rest::Abandoned => self.alone(ready),
            // Whether there is something now is asked before the time is called over.
            Rest::Woken | Rest::TimedOut => Ok(Waited::Look),
        }
    }

    /// Nobody else has the queue.
    #[cold]
    fn alone(&self, ready: impl Fn() -> bool) -> io::Result<Waited> {
        let is_over = self.is_disconnected()?;
        // The last one may have done something before it went.
        if ready() {
            return Ok(Waited::Look);
        }
        // One with a name may be opened by somebody yet.
        let was_anybody = self.queue.ever(self.side.other()).load(Relaxed) != 0;
        Ok(match (is_over, was_anybody) {
            (true, _) => Waited::Disconnected,
            (false, true) => Waited::Abandoned,
            (false, false) => Waited::Look,
        })
    }

    /// For a wait for several things: that there is something, or nobody on the other side; or else where to sleep.
    pub(crate) fn readiness(&self, ready: impl Fn() -> bool) -> Readiness<'_> {
        // In doubt it is ready: the call that follows tells.
        if ready() || self.is_disconnected().unwrap_or(true) {
            return Readiness::Now;
        }
        let bell = self.queue.bell(self.side);
        let armed = bell.arm();
        if ready() { Readiness::Now } else { Readiness::Word(bell.word(), armed) }
    }

    /// After a wait that has slept: the next one is not forgotten.
    #[inline]
    pub(crate) fn settle(&self, wait: &Wait, more: impl FnOnce() -> bool) {
        self.settle_at(self.queue.bell(self.side), wait, more);
    }

    /// As [`settle`](Self::settle), at a bell.
    #[inline]
    pub(crate) fn settle_at(&self, bell: &Bell, wait: &Wait, more: impl FnOnce() -> bool) {
        if wait.has_slept {
            bell.settle(more);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.role = None;
        // In doubt nobody is left: those who are told ask the kernel.
        if !self.object().has_role(self.side.role()).unwrap_or(false) {
            let bell = self.queue.bell(self.side.other());
            bell.set_gone(true);
            bell.ring_all();
        }
    }
}

/// A call that may wait. Small, and next to nothing to make: most calls do not wait.
#[derive(Debug)]
pub(crate) struct Wait {
    until: Until,
    /// From the first sleep on.
    nap: Option<Nap>,
    has_spun: bool,
    has_slept: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Forever,
    At(Instant),
    Now,
}

/// How long a call that must not wait waits for a latch, whose owner may have been put off its core.
const PATIENCE: Duration = Duration::from_secs(1);

impl Wait {
    #[inline]
    pub(crate) fn forever() -> Self {
        Wait { until: Until::Forever, nap: None, has_spun: false, has_slept: false }
    }

    #[inline]
    pub(crate) fn none() -> Self {
        Wait { until: Until::Now, nap: None, has_spun: true, has_slept: false }
    }

    /// A time beyond what the clock can say is for ever.
    pub(crate) fn within(time: Duration) -> Self {
        if time.is_zero() {
            return Wait::none();
        }
        let until = Instant::now().checked_add(time).map_or(Until::Forever, Until::At);
        Wait { until, nap: None, has_spun: false, has_slept: false }
    }

    pub(crate) fn is_at_once(&self) -> bool {
        self.until == Until::Now
    }

    fn is_over(&self) -> bool {
        match self.until {
            Until::Forever => false,
            Until::At(deadline) => deadline <= Instant::now(),
            Until::Now => true,
        }
    }

    pub(crate) fn nap(&mut self) -> &mut Nap {
        self.nap.get_or_insert_with(|| match self.until {
            Until::Forever => Nap::forever(),
            Until::At(deadline) => Nap::within(deadline.saturating_duration_since(Instant::now())),
            Until::Now => Nap::none(),
        })
    }

    /// For a latch: they are held for an instant, so that who may not wait for anything else waits for them.
    pub(crate) fn latch_nap(&self) -> Nap {
        match self.until {
            Until::Forever => Nap::forever(),
            Until::At(deadline) => {
                Nap::within(deadline.saturating_duration_since(Instant::now()).saturating_add(PATIENCE))
            }
            Until::Now => Nap::within(PATIENCE),
        }
    }
}

/// What a latch says that was not had, as an error of the system; `None` if its time was over.
pub(crate) fn unlatched(latched: Latched) -> Option<io::Error> {
    match latched {
        Latched::TimedOut => None,
        Latched::Abandoned => Some(io::Error::other("the queue's latch was left by nobody")),
        Latched::Io(error) => Some(error),
    }
}
