//! One end of a ring: its role, whose it is, and how it waits for the other.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32};
use std::sync::{Arc, Mutex, PoisonError};

use ipc_core::handle;
use ipc_sync::object::{Id, Nap, Object, Rest, Role};

use super::bell::{self, GONE, World};
use super::place::Place;

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Side {
    Writer = 0,
    Reader = 1,
}

impl Side {
    pub(super) fn number(self) -> u8 {
        self as u8
    }

    fn other(self) -> Self {
        match self {
            Side::Writer => Side::Reader,
            Side::Reader => Side::Writer,
        }
    }

    fn bell(self, place: &Place) -> &AtomicU32 {
        match self {
            Side::Writer => &place.writer_bell,
            Side::Reader => &place.reader_bell,
        }
    }
}

const HERE: u8 = 0;
const MOVED: u8 = 1;
const CLOSED: u8 = 2;

/// Shared with the commit of the message that moves the end away.
#[derive(Debug)]
pub(super) struct End {
    side: Side,
    place: Place,
    /// Given back when the end goes, and when it has moved.
    role: Mutex<Option<Role>>,
    /// `HERE`; `MOVED` by the commit of the message that took it away: Relaxed, as who uses an end has it by `&mut`, and the
    /// commit runs before the send that it belongs to returns; `CLOSED` from any thread, which then rouses who waits.
    state: AtomicU8,
    /// It stands in a message that has not gone.
    is_packed: AtomicBool,
}

impl End {
    /// Takes an end, with the role that came with it or a new one.
    pub(super) fn new(side: Side, place: Place, role: Option<Role>) -> io::Result<Arc<Self>> {
        let role = match role {
            Some(role) => role,
            None => place.object().role(side.number())?,
        };
        // So that the death of this process is known at once. Without a seat on the board it is known at a tick.
        let object = place.object();
        if let Ok(me) = object.announce().and_then(|()| object.my_process()) {
            let (writer, reader) = place.ids()?;
            let word = if side == Side::Writer { writer } else { reader };
            word.store(me.word(), Relaxed);
        }
        let role = Mutex::new(Some(role));
        Ok(Arc::new(End { side, place, role, state: AtomicU8::new(HERE), is_packed: AtomicBool::new(false) }))
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    #[inline]
    pub(super) fn is_moved(&self) -> bool {
        self.state.load(Relaxed) == MOVED
    }

    /// Whether it can be used.
    #[inline]
    pub(super) fn is_here(&self) -> bool {
        self.state.load(Relaxed) == HERE
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.state.load(Relaxed) == CLOSED
    }

    /// From any thread: nobody is at the other end any more as far as this one is concerned, nor the other way round.
    pub(super) fn close(&self) {
        if self.state.compare_exchange(HERE, CLOSED, Relaxed, Relaxed).is_ok() {
            self.leave();
            let bell = self.side.bell(&self.place);
            if bell::rouse(bell) {
                Object::wake(bell, 1);
            }
        }
    }

    /// For a wait for several things: where to sleep, or `None` if there is something.
    pub(super) fn arm(&self, is_news: impl Fn(u64) -> bool) -> Option<(&AtomicU32, u32)> {
        let (bell, count) = match self.side {
            Side::Writer => (&*self.place.writer_bell, &*self.place.head),
            Side::Reader => (&*self.place.reader_bell, &*self.place.tail),
        };
        let word = bell::arm(count, bell, is_news)?;
        // Once it is marked: who goes wakes this from here on. In doubt there is something: the call that follows tells.
        (self.is_here() && self.sees_peer().unwrap_or(false)).then_some((bell, word))
    }

    /// Runs `f` on the role, if this process has it.
    pub(super) fn with_role<R>(&self, f: impl FnOnce(&Role) -> R) -> Option<R> {
        self.role.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(f)
    }

    /// Wakes the other if it sleeps, and says whether it seems to be gone.
    #[cold]
    pub(super) fn tell(&self, word: u32) -> bool {
        let bell = self.side.other().bell(&self.place);
        if bell::ring(bell) {
            Object::wake(bell, 1);
        }
        word & GONE != 0
    }

    /// It stands in the message at hand: once that has gone, it counts as moved.
    pub(super) fn pack(self: &Arc<Self>) -> Result<(), &'static str> {
        if self.is_moved() {
            return Err("this end was moved to another process");
        }
        // Relaxed: whoever serialises an end twice at once has an error in either order.
        if self.is_packed.swap(true, Relaxed) {
            return Err("an end of a ring has a single owner, and stands in a message already");
        }
        /// Taken out again when the message does not go.
        struct Packed(Arc<End>);
        impl Drop for Packed {
            fn drop(&mut self) {
                self.0.is_packed.store(false, Relaxed);
            }
        }
        let packed = Packed(Arc::clone(self));
        handle::on_commit(move || packed.0.retire());
        Ok(())
    }

    /// It lives in another process from now on, or in the message, which has the role too.
    fn retire(&self) {
        self.state.store(MOVED, Relaxed);
        drop(self.role.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// The end is dropped: the role first, then the bells.
    pub(super) fn leave(&self) {
        let Some(role) = self.role.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        drop(role);
        self.side.bell(&self.place).fetch_or(GONE, Relaxed);
        self.tell(0);
    }

    pub(super) fn sees_peer(&self) -> io::Result<bool> {
        if self.is_closed() {
            return Ok(false);
        }
        self.place.object().has_role(self.side.other().number())
    }
}

impl World<AtomicU32> for End {
    #[inline]
    fn spin(&self, done: impl FnMut() -> bool) -> bool {
        self.place.object().spin_for_news(done)
    }

    fn is_peer_there(&self) -> io::Result<bool> {
        self.sees_peer()
    }

    fn sleep(&self, bell: &AtomicU32, expected: u32, nap: &mut Nap) -> io::Result<Rest> {
        let object = self.place.object();
        // The thread that took this end may be gone, or have used other objects since.
        let _known_at_a_tick_without = object.announce();
        let (writer, reader) = self.place.ids()?;
        let word = if self.side == Side::Writer { reader } else { writer };
        // One that is dead while somebody has the end has sent it on: nothing tells of its new owner until that writes
        // itself down. It is watched no longer, or nobody would sleep.
        let owner = Id::of(word.load(Relaxed)).map(Id::process).filter(|id| !object.is_dead(*id));
        object.sleep(bell, expected, owner.as_slice(), nap)
    }
}
