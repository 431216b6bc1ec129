//! The queue itself, of messages that are bytes: a ring of slots between two latches.
//!
//! A sender writes into the slot at `tail` with the senders' latch, and a receiver takes from the slot at `head` with the
//! receivers'; the two sides meet in the slot's state alone. It says which lap of the ring the slot is in, and whether it
//! is full: one store of it commits a message, and one takes it out. `tail` and `head` follow from the states: whoever
//! finds one that was left behind by a death moves it on. So whatever is killed where, nothing is to be repaired but the
//! store of long messages.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU32, AtomicU64};

use ipc_sync::object::{LatchGuard, Latched, Nap, Object, Word32, Word64};

use crate::bell::Bell;
use crate::layout::{CHUNK, DONE, EVER, FREED, INLINE, ITEMS, Layout, RECEIVERS, ROOM, SENDERS, SLOT};
use crate::lease::{Due, Leased, Leases};
use crate::raw::slots::{self, Position, STATES};
use crate::store::{Held, NoPages, Pages, Store};

/// Which side one is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Sender,
    Receiver,
}

impl Side {
    /// The number of its role.
    pub(crate) fn role(self) -> u8 {
        match self {
            Side::Sender => 0,
            Side::Receiver => 1,
        }
    }

    pub(crate) fn other(self) -> Side {
        match self {
            Side::Sender => Side::Receiver,
            Side::Receiver => Side::Sender,
        }
    }
}

/// How the bytes of a message are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// By the codec.
    Encoded,
    /// As they are.
    Plain,
}

const ENCODED: u32 = 0;
const PLAIN: u32 = 1;
/// The message is in the store.
const STORED: u32 = 2;

/// What a look for a message came to.
#[derive(Debug)]
pub(crate) enum Taken {
    /// So many bytes were put where the caller wanted them.
    Here(usize),
    Stored(Held, usize),
    /// A stored message for which there was no place: copied with the latch in hand.
    Copied(Vec<u8>),
    Empty,
    /// The next message is of the other form: it stays.
    Other,
}

/// What a look for a message to be worked on came to.
#[derive(Debug)]
pub(crate) enum Delivered {
    Lease(usize),
    Empty,
    /// There is one, but all leases are in use.
    TooMany,
}

/// What is to be put in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Put<'a> {
    /// At most [`INLINE`] bytes.
    Here(&'a [u8]),
    /// Bytes that were written into pages before.
    Stored(Held, usize),
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) object: Object,
    pub(crate) layout: Layout,
    pub(crate) store: Store,
    pub(crate) leases: Leases,
    senders: Word64,
    tail: Word64,
    there: Word32,
    receivers: Word64,
    head: Word64,
    /// What receivers sleep on.
    pub(crate) items: Bell,
    /// What senders sleep on.
    pub(crate) room: Bell,
    /// What those sleep on who wait until all is done.
    pub(crate) done: Bell,
    /// What those sleep on who wait for pages, and not for a slot: what helps the one need not help the other.
    pub(crate) freed: Bell,
}

/// How many slots ahead one looks, to be told that something comes in a stream.
const AHEAD: usize = 4;

pub(crate) fn scribbled() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the queue's words were scribbled over")
}

impl Queue {
    pub(crate) fn of(object: Object) -> io::Result<Arc<Self>> {
        let layout = Layout::read(&object)?;
        Ok(Arc::new(Queue {
            store: Store::of(&object, layout)?,
            leases: Leases::of(&object, layout)?,
            done: Bell::of(&object, DONE)?,
            freed: Bell::of(&object, FREED)?,
            senders: object.word64(SENDERS)?,
            tail: object.word64(SENDERS + 8)?,
            there: object.word32(SENDERS + 16)?,
            receivers: object.word64(RECEIVERS)?,
            head: object.word64(RECEIVERS + 8)?,
            items: Bell::of(&object, ITEMS)?,
            room: Bell::of(&object, ROOM)?,
            object,
            layout,
        }))
    }

    /// Whether anybody has ever been there on a side.
    pub(crate) fn ever(&self, side: Side) -> &AtomicU32 {
        self.object.u32(EVER + 4 * usize::from(side.role())).expect("the layout was checked")
    }

    /// What those on a side sleep on.
    pub(crate) fn bell(&self, side: Side) -> &Bell {
        match side {
            Side::Sender => &self.room,
            Side::Receiver => &self.items,
        }
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        self.object.u64(at).expect("the layout was checked when the handle was made")
    }

    #[inline]
    fn state(&self, position: Position) -> &AtomicU64 {
        self.word(self.layout.slot(position.index()))
    }

    /// A position as it stands somewhere, if there is such a slot.
    #[inline]
    fn position(&self, word: &AtomicU64) -> io::Result<Position> {
        // Relaxed: as a guess.
        slots::position(word, Relaxed, self.layout.capacity)
    }

    #[inline]
    pub(crate) fn latch_senders(&self, nap: impl FnOnce() -> Nap) -> Result<LatchGuard<'_>, Latched> {
        self.object.latch(&self.senders, nap, || self.store.set_dirty())
    }

    #[inline]
    pub(crate) fn latch_receivers(&self, nap: impl FnOnce() -> Nap) -> Result<LatchGuard<'_>, Latched> {
        self.object.latch(&self.receivers, nap, || self.store.set_dirty())
    }

    /// With the senders' latch: puts a message in, if there is room for it. Nobody is told yet.
    #[inline]
    pub(crate) fn put(&self, form: Form, message: Put<'_>) -> io::Result<Option<Position>> {
        let capacity = self.layout.capacity;
        let Some((at, state)) = slots::room(&*self.tail, capacity, |at| self.state(at))? else {
            return Ok(None);
        };
        self.fill(at, form, message)?;
        slots::commit(&*self.tail, capacity, at, state);
        self.object.prefetch_for_write(self.layout.slot(at.ahead(AHEAD, capacity).index()));
        if let Put::Stored(held, _) = message {
            self.store.let_go(held);
        }
        Ok(Some(at))
    }

    #[inline]
    fn fill(&self, tail: Position, form: Form, message: Put<'_>) -> io::Result<()> {
        let at = self.layout.slot(tail.index());
        let end = (tail.index() + 1) * SLOT;
        if end > self.there.load(Relaxed) as usize * SLOT {
            self.reserve(end)?;
        }
        let form = match form {
            Form::Encoded => ENCODED,
            Form::Plain => PLAIN,
        };
        let (len, kind) = match message {
            Put::Here(bytes) => {
                self.object.write(at + 16, bytes)?;
                (bytes.len(), form)
            }
            Put::Stored(held, len) => {
                self.word(at + 16).store(held.pages.word(), Relaxed);
                (len, form | STORED)
            }
        };
        self.word(at + 8).store(len as u64 | u64::from(kind) << 32, Relaxed);
        Ok(())
    }

    /// With the senders' latch: takes the memory of slots up to that byte.
    #[cold]
    fn reserve(&self, end: usize) -> io::Result<()> {
        let until = end.next_multiple_of(CHUNK).min(self.layout.capacity * SLOT);
        let from = (self.there.load(Relaxed) as usize * SLOT).min(until);
        self.object.reserve(self.layout.slots_at + from, until - from)?;
        self.there.store((until / SLOT) as u32, Relaxed);
        Ok(())
    }

    /// With the receivers' latch: takes the next message out, if there is one, and it is of that form; a short one goes to
    /// `here`. Nobody is told yet.
    #[inline]
    pub(crate) fn take(&self, form: Form, here: &mut [u8; INLINE]) -> io::Result<Taken> {
        let capacity = self.layout.capacity;
        let (head, state, is_full) = slots::first(&*self.head, capacity, |at| self.state(at))?;
        if !is_full {
            return Ok(Taken::Empty);
        }
        let taken = self.read(head, form, here)?;
        if !matches!(taken, Taken::Other) {
            slots::done_with(&*self.head, capacity, head, state);
        }
        Ok(taken)
    }

    /// With the receivers' latch: a message to be worked on, first of those that are due again. `sure` asks the kernel who
    /// is gone.
    pub(crate) fn deliver(&self, sure: bool) -> io::Result<Delivered> {
        let capacity = self.layout.capacity;
        let (head, state, is_full) = slots::first(&*self.head, capacity, |at| self.state(at))?;
        match self.leases.take_due(is_full.then_some(head.0), sure)? {
            Due::Again(lease) => return Ok(Delivered::Lease(lease)),
            // That was all that somebody waits for, perhaps.
            Due::Aside => self.done.ring(),
            Due::Nothing => {}
        }
        if !is_full {
            return Ok(Delivered::Empty);
        }
        let at = self.layout.slot(head.index());
        let word = self.word(at + 8).load(Relaxed);
        let (len, kind) = (word as u32 as usize, (word >> 32) as u32);
        let mut here = [0; INLINE];
        let message = if kind & STORED == 0 {
            let here = here.get_mut(..len).ok_or_else(scribbled)?;
            self.object.read(at + 16, here)?;
            Leased { id: head.0, word, pages: None, body: here }
        } else {
            let pages = Pages::read(self.word(at + 16).load(Relaxed), &self.layout).ok_or_else(scribbled)?;
            Leased { id: head.0, word, pages: Some(pages), body: &[] }
        };
        let mut lease = self.leases.lease(&message)?;
        if lease.is_none() && self.leases.bury(|| self.store.set_dirty())? {
            lease = self.leases.lease(&message)?;
        }
        let Some(lease) = lease else { return Ok(Delivered::TooMany) };
        slots::done_with(&*self.head, capacity, head, state);
        Ok(Delivered::Lease(lease))
    }

    #[inline]
    fn read(&self, head: Position, wanted: Form, here: &mut [u8; INLINE]) -> io::Result<Taken> {
        let at = self.layout.slot(head.index());
        let word = self.word(at + 8).load(Relaxed);
        let (len, kind) = (word as u32 as usize, (word >> 32) as u32);
        let form = if kind & PLAIN == 0 { Form::Encoded } else { Form::Plain };
        if form != wanted {
            return Ok(Taken::Other);
        }
        if kind & STORED == 0 {
            let here = here.get_mut(..len).ok_or_else(scribbled)?;
            self.object.read(at + 16, here)?;
            return Ok(Taken::Here(len));
        }
        self.adopt(at, len)
    }

    fn adopt(&self, at: usize, len: usize) -> io::Result<Taken> {
        let pages = Pages::read(self.word(at + 16).load(Relaxed), &self.layout).ok_or_else(scribbled)?;
        if len > pages.len() {
            return Err(scribbled());
        }
        if let Some(held) = self.store.adopt(pages)? {
            return Ok(Taken::Stored(held, len));
        }
        let mut bytes = vec![0; len];
        self.object.read(pages.at(&self.layout), &mut bytes)?;
        // The pages are nobody's from here on: a sweep finds them.
        self.store.set_dirty();
        Ok(Taken::Copied(bytes))
    }

    /// Whether there is a message, as far as one look tells. If there is none, the leases of those that were taken out are
    /// there to be seen.
    #[inline]
    pub(crate) fn has_message(&self) -> bool {
        slots::has_message(&*self.head, self.layout.capacity, |at| self.state(at))
    }

    /// Whether there are several.
    pub(crate) fn has_messages(&self) -> bool {
        let capacity = self.layout.capacity;
        self.position(&self.head).is_ok_and(|head| {
            let head = head.ahead(AHEAD, capacity);
            capacity > 2 * AHEAD && self.state(head).load(Relaxed) == head.full()
        })
    }

    /// Whether there is room for several.
    pub(crate) fn has_much_room(&self) -> bool {
        let capacity = self.layout.capacity;
        self.position(&self.tail).is_ok_and(|tail| {
            let tail = tail.ahead(AHEAD, capacity);
            capacity > 2 * AHEAD && self.state(tail).load(Relaxed) == tail.free()
        })
    }

    /// Whether there is a slot for a message, as far as one look tells.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        slots::has_room(&*self.tail, self.layout.capacity, |at| self.state(at))
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        let capacity = self.layout.capacity;
        let (Ok(head), Ok(tail)) = (self.position(&self.head), self.position(&self.tail)) else { return 0 };
        let laps = tail.lap().wrapping_sub(head.lap()) & (STATES >> 1);
        // Both move on while this looks.
        match laps {
            0 => tail.index().saturating_sub(head.index()),
            1 => (capacity + tail.index()).saturating_sub(head.index()).min(capacity),
            // `tail` was left behind by a death, and `head` is ahead of it.
            laps if laps > STATES >> 2 => 0,
            _ => capacity,
        }
    }

    /// Pages for a message of that length, with a sweep if there are none and somebody has died.
    pub(crate) fn pages(&self, len: usize, nap: impl Fn() -> Nap) -> Result<Held, NoPages> {
        match self.store.take(len, &nap) {
            Err(NoPages::Full) if self.wants_sweep().map_err(NoPages::Io)? => {
                self.sweep(&nap)?;
                self.store.take(len, &nap)
            }
            done => done,
        }
    }

    fn wants_sweep(&self) -> io::Result<bool> {
        Ok(self.store.wants_sweep()? || self.leases.wants_sweep()?)
    }

    /// Finds out anew what is in use in the store.
    fn sweep(&self, nap: impl Fn() -> Nap) -> Result<(), NoPages> {
        let _senders = self.latch_senders(&nap)?;
        let _receivers = self.latch_receivers(&nap)?;
        let _store = self.store.latched(&nap)?;
        let full = |index: usize| {
            let at = self.layout.slot(index);
            let is_full = self.word(at).load(Acquire) & 1 != 0;
            let is_stored = (self.word(at + 8).load(Relaxed) >> 32) as u32 & STORED != 0;
            let pages = || Pages::read(self.word(at + 16).load(Relaxed), &self.layout);
            if is_full && is_stored { pages() } else { None }
        };
        let there = (self.there.load(Relaxed) as usize).min(self.layout.capacity);
        let leased = self.leases.sweep().map_err(NoPages::Io)?;
        self.store.sweep((0..there).filter_map(full).chain(leased)).map_err(NoPages::Io)
    }
}
