//! Messages that were delivered and are not done: who has them, and what becomes of them if it dies.
//!
//! A message moves from its slot into a *lease*, with the receivers' latch, and stays there until it is acknowledged. A
//! lease is made before the slot is free, and names the message by its number: who finds a lease of the message that is
//! still in the slot at `head` knows that its owner died in between, and makes it anew. So a message is never in both, and
//! never in neither. From then on only the owner touches the lease, until the kernel says that it is gone.
//!
//! | state | |
//! |---|---|
//! | free | |
//! | out | with its owner, or to be delivered again if that is gone |
//! | again | given back, to be delivered again |
//! | aside | delivered too often |
//! | done | acknowledged; its pages are being freed |

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use ipc_sync::object::{Id, Latched, Object, Word32};

use crate::layout::{INLINE, Layout, RECEIVERS};
use crate::queue::scribbled;
use crate::raw::lease::{self as raw, AGAIN, ASIDE, DONE, FREE, OUT};
use crate::store::{Pages, Store};

const OWNER: usize = 0;
const STATE: usize = 8;
const ATTEMPTS: usize = 12;
const ID: usize = 16;
const KIND: usize = 24;
const PAGES: usize = 32;
const BODY: usize = 40;

const _: () = assert!(BODY + INLINE <= crate::layout::LEASE);

#[derive(Debug)]
pub(crate) struct Leases {
    object: Object,
    layout: Layout,
    /// None from here on was ever used. Written with the receivers' latch.
    high: Word32,
}

/// What a message is, as it moves from a slot into a lease.
pub(crate) struct Leased<'a> {
    pub(crate) id: u64,
    /// Length and kind, as in the slot.
    pub(crate) word: u64,
    pub(crate) pages: Option<Pages>,
    pub(crate) body: &'a [u8],
}

/// What there is to be delivered from among the leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Again, this one.
    Again(usize),
    /// Nothing, but something was put aside.
    Aside,
    Nothing,
}

impl Leases {
    pub(crate) fn of(object: &Object, layout: Layout) -> io::Result<Self> {
        Ok(Leases { object: object.clone(), layout, high: object.word32(RECEIVERS + 16)? })
    }

    fn u64(&self, index: usize, offset: usize) -> &AtomicU64 {
        self.object
            .u64(self.layout.lease(index) + offset)
            .expect("the layout was checked when the handle was made")
    }

    fn u32(&self, index: usize, offset: usize) -> &AtomicU32 {
        self.object
            .u32(self.layout.lease(index) + offset)
            .expect("the layout was checked when the handle was made")
    }

    fn used(&self) -> std::ops::Range<usize> {
        0..(self.high.load(Relaxed) as usize).min(self.layout.leases)
    }

    fn state(&self, index: usize) -> u32 {
        raw::load(self.u32(index, STATE))
    }

    fn set_state(&self, index: usize, state: u32) {
        raw::set(self.u32(index, STATE), state);
    }

    pub(crate) fn id(&self, index: usize) -> u64 {
        self.u64(index, ID).load(Relaxed)
    }

    pub(crate) fn attempts(&self, index: usize) -> u32 {
        self.u32(index, ATTEMPTS).load(Relaxed)
    }

    fn owner(&self, index: usize) -> Option<Id> {
        raw::owner(self.u64(index, OWNER))
    }

    /// With the receivers' latch: a lease of this process for the message that is at `head`, before its slot is free.
    /// `None` if all are in use.
    pub(crate) fn lease(&self, message: &Leased<'_>) -> io::Result<Option<usize>> {
        let me = self.object.my_process()?;
        let mut free = None;
        let mut half = None;
        for index in self.used() {
            match self.state(index) {
                FREE => free = free.or(Some(index)),
                _ if self.id(index) == message.id => half = Some(index),
                _ => {}
            }
        }
        let next = self.used().end;
        let Some(index) = half.or(free).or((next < self.layout.leases).then_some(next)) else {
            return Ok(None);
        };
        if index == next {
            self.high.store(index as u32 + 1, Relaxed);
        }
        raw::make(self.u32(index, STATE), self.u64(index, OWNER), me.word(), || {
            self.u64(index, ID).store(message.id, Relaxed);
            self.u32(index, ATTEMPTS).store(1, Relaxed);
            self.u64(index, KIND).store(message.word, Relaxed);
            self.u64(index, PAGES).store(message.pages.map_or(0, Pages::word), Relaxed);
            Ok(self.object.write(self.layout.lease(index) + BODY, message.body)?)
        })?;
        Ok(Some(index))
    }

    /// With the receivers' latch: what is to be delivered again, and becomes this process's. `head` is the number of the
    /// message that is still in its slot: a lease of that one is none. `sure` asks the kernel who is gone.
    pub(crate) fn take_due(&self, head: Option<u64>, sure: bool) -> io::Result<Due> {
        let mut due = Due::Nothing;
        for index in self.used() {
            if !self.is_due(index, sure)? || Some(self.id(index)) == head {
                continue;
            }
            let attempts = self.attempts(index);
            if self.layout.attempts != 0 && attempts >= self.layout.attempts {
                self.set_state(index, ASIDE);
                due = Due::Aside;
                continue;
            }
            self.again(index, attempts)?;
            return Ok(Due::Again(index));
        }
        Ok(due)
    }

    /// With the receivers' latch: one that was put aside becomes this process's.
    pub(crate) fn take_aside(&self) -> io::Result<Due> {
        for index in self.used() {
            if self.state(index) == ASIDE {
                self.again(index, self.attempts(index))?;
                return Ok(Due::Again(index));
            }
        }
        Ok(Due::Nothing)
    }

    fn again(&self, index: usize, attempts: u32) -> io::Result<()> {
        let me = self.object.my_process()?;
        self.u32(index, ATTEMPTS).store(attempts.saturating_add(1), Relaxed);
        raw::give_to(self.u32(index, STATE), self.u64(index, OWNER), me.word());
        Ok(())
    }

    fn is_due(&self, index: usize, sure: bool) -> io::Result<bool> {
        raw::is_due(self.u32(index, STATE), self.u64(index, OWNER), |owner| {
            if sure { self.object.is_gone(owner) } else { Ok(self.object.is_dead(owner)) }
        })
    }

    /// Whether something is due, as far as one look tells.
    pub(crate) fn any_due(&self) -> bool {
        self.used().any(|index| self.is_due(index, false).unwrap_or(false))
    }

    /// Whether there are messages that others have, or that are due.
    pub(crate) fn may_come(&self) -> io::Result<bool> {
        let me = self.object.my_process()?;
        Ok(self.used().any(|index| raw::may_come(self.u32(index, STATE), self.u64(index, OWNER), me)))
    }

    /// The other processes that have messages.
    pub(crate) fn others(&self) -> io::Result<Vec<Id>> {
        let me = self.object.my_process()?;
        let mut others: Vec<Id> = Vec::new();
        for index in self.used() {
            if self.state(index) == OUT
                && let Some(owner) = self.owner(index)
                && owner != me
                && !others.contains(&owner)
            {
                others.push(owner);
            }
        }
        Ok(others)
    }

    /// Whether there are messages that are not done, and everybody who has one and is not known to be dead.
    pub(crate) fn unfinished(&self) -> (bool, Vec<Id>) {
        let (mut any, mut owners) = (false, Vec::new());
        for index in self.used() {
            let state = self.state(index);
            any |= matches!(state, OUT | AGAIN);
            if state == OUT
                && let Some(owner) = self.owner(index)
                && !self.object.is_dead(owner)
                && !owners.contains(&owner)
            {
                owners.push(owner);
            }
        }
        (any, owners)
    }

    /// The message of a lease of this process's: its length and kind, as they were in the slot, and its bytes.
    pub(crate) fn read(&self, index: usize, bytes: &mut Vec<u8>) -> io::Result<u64> {
        let word = self.u64(index, KIND).load(Relaxed);
        let len = word as u32 as usize;
        match self.u64(index, PAGES).load(Relaxed) {
            0 if len <= INLINE => {
                bytes.resize(len, 0);
                self.object.read(self.layout.lease(index) + BODY, bytes)?;
            }
            0 => return Err(scribbled()),
            pages => {
                let pages = Pages::read(pages, &self.layout).ok_or_else(scribbled)?;
                if len > pages.len() {
                    return Err(scribbled());
                }
                bytes.resize(len, 0);
                self.object.read(pages.at(&self.layout), bytes)?;
            }
        }
        Ok(word)
    }

    /// The owner is through with it.
    pub(crate) fn ack(&self, index: usize, store: &Store) -> Result<(), Latched> {
        let pages = Pages::read(self.u64(index, PAGES).load(Relaxed), &self.layout);
        let free = |pages| move || store.free_pages(pages, || self.u64(index, PAGES).store(0, Relaxed));
        raw::ack(self.u32(index, STATE), pages.map(free))
    }

    /// The owner gives it back.
    pub(crate) fn nack(&self, index: usize) {
        self.set_state(index, AGAIN);
    }

    /// The owner cannot read it: nobody else could.
    pub(crate) fn put_aside(&self, index: usize) {
        self.set_state(index, ASIDE);
    }

    /// With all latches: the pages of what is not done; and what a dead one had just done becomes free.
    pub(crate) fn sweep(&self) -> io::Result<Vec<Pages>> {
        // This is the sweep.
        self.bury(|| ())?;
        let mut in_use = Vec::new();
        for index in self.used() {
            if self.state(index) != FREE {
                in_use.extend(Pages::read(self.u64(index, PAGES).load(Relaxed), &self.layout));
            }
        }
        Ok(in_use)
    }

    /// Whether it was acknowledged by one that died before it was free.
    fn is_done_by_the_dead(&self, index: usize) -> io::Result<bool> {
        Ok(self.state(index) == DONE
            && match self.owner(index) {
                Some(owner) => self.object.is_gone(owner)?,
                None => true,
            })
    }

    /// With the receivers' latch, when all are in use: those that the dead were just through with are free. Their pages
    /// are nobody's then, for a sweep to find, which `dirty` is to say before. Whether there were any.
    pub(crate) fn bury(&self, dirty: impl Fn()) -> io::Result<bool> {
        let mut any = false;
        for index in self.used() {
            if self.is_done_by_the_dead(index)? {
                dirty();
                self.u64(index, PAGES).store(0, Relaxed);
                self.set_state(index, FREE);
                any = true;
            }
        }
        Ok(any)
    }

    /// Whether a dead one has pages that it was just about to free.
    pub(crate) fn wants_sweep(&self) -> io::Result<bool> {
        for index in self.used() {
            if self.is_done_by_the_dead(index)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
