//! Memory for messages that do not fit into their slots: pages, taken and given back in one piece.
//!
//! Who has pages is written in a *place*: an owner, and which pages. A message that is queued has its pages in its slot
//! instead. What is free follows from both, and the bitmap is only where to look first: it is written so that a death
//! leaves bits set that nobody stands behind, never the other way round. Those are found again when pages run out
//! ([`Store::sweep`]), by looking at all slots and all places.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use std::time::Duration;

use ipc_sync::object::{Id, LatchGuard, Latched, Nap, Object, Word32, Word64};

use crate::layout::{Layout, PAGE, STORE};
use crate::raw::place;

/// Owner of a place: who writes a message into the pages, reads one out of them, or has them on loan.
const OWNER: usize = 0;
const FIRST: usize = 8;
const COUNT: usize = 12;

/// How long who has pages to free waits for the latch, which is held for an instant. If somebody was stopped with it, or
/// has scribbled over it, the pages stay taken as long as this process lives.
const FREE_WITHIN: Duration = Duration::from_secs(10);

/// Pages that stay with the queue when it is idle: 4 MiB.
const KEPT: usize = 1024;

#[derive(Debug)]
pub(crate) struct Store {
    object: Object,
    layout: Layout,
    latch: Word64,
    /// So many pages are there, and need not be reserved.
    there: Word32,
    frees: Word32,
    /// Somebody died with a latch: bits may stand for nothing.
    dirty: Word32,
}

/// Pages that this process has, in a place that says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    place: usize,
    pub(crate) pages: Pages,
}

/// Pages one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

impl Pages {
    /// As they stand in a slot or a place.
    pub(crate) fn word(self) -> u64 {
        u64::from(self.first) | u64::from(self.count) << 32
    }

    /// What somebody has put there, if there are such pages.
    pub(crate) fn read(word: u64, layout: &Layout) -> Option<Self> {
        let pages = Pages { first: word as u32, count: (word >> 32) as u32 };
        let end = pages.first as usize + pages.count as usize;
        (pages.count != 0 && end <= layout.pages).then_some(pages)
    }

    pub(crate) fn for_len(len: usize) -> usize {
        len.div_ceil(PAGE).max(1)
    }

    /// Where in the object they begin.
    pub(crate) fn at(self, layout: &Layout) -> usize {
        layout.store_at + self.first as usize * PAGE
    }

    pub(crate) fn len(self) -> usize {
        self.count as usize * PAGE
    }
}

/// Why no pages were had.
#[derive(Debug)]
pub(crate) enum NoPages {
    /// All are in use.
    Full,
    /// The time was over before the latch was free.
    TimedOut,
    Io(io::Error),
}

impl From<Latched> for NoPages {
    fn from(latched: Latched) -> Self {
        match latched {
            Latched::TimedOut => NoPages::TimedOut,
            Latched::Abandoned => NoPages::Io(io::Error::other("nobody is left who could let it go")),
            Latched::Io(error) => NoPages::Io(error),
        }
    }
}

impl Store {
    pub(crate) fn of(object: &Object, layout: Layout) -> io::Result<Self> {
        Ok(Store {
            object: object.clone(),
            layout,
            latch: object.word64(STORE)?,
            there: object.word32(STORE + 8)?,
            frees: object.word32(STORE + 12)?,
            dirty: object.word32(STORE + 16)?,
        })
    }

    pub(crate) fn latched(&self, nap: impl FnOnce() -> Nap) -> Result<LatchGuard<'_>, Latched> {
        self.object.latch(&self.latch, nap, || self.set_dirty())
    }

    /// Somebody died where it may have left pages to nobody.
    pub(crate) fn set_dirty(&self) {
        self.dirty.store(1, Relaxed);
    }

    /// How often pages were freed: another number, and there may be some.
    pub(crate) fn frees(&self) -> u32 {
        place::counted(&*self.frees)
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        self.object.u64(at).expect("the layout was checked when the handle was made")
    }

    fn owner(&self, place: usize) -> &AtomicU64 {
        self.word(self.layout.place(place) + OWNER)
    }

    fn held(&self, place: usize) -> &AtomicU64 {
        const { assert!(COUNT == FIRST + 4 && FIRST.is_multiple_of(8)) };
        self.word(self.layout.place(place) + FIRST)
    }

    /// Pages for a message of that length, for this process. `Full` also if there may be more after a sweep.
    pub(crate) fn take(&self, len: usize, nap: impl FnOnce() -> Nap) -> Result<Held, NoPages> {
        let count = Pages::for_len(len);
        let latched = self.latched(nap)?;
        let Some(first) = self.find(count) else { return Err(NoPages::Full) };
        let pages = Pages { first: first as u32, count: count as u32 };
        let end = first + count;
        let there = self.there.load(Relaxed) as usize;
        if end > there {
            // Some more at once, if there are so many.
            let until = end.next_multiple_of(64).min(self.layout.pages);
            let at = self.layout.store_at + there * PAGE;
            self.object.reserve(at, (until - there) * PAGE).map_err(NoPages::Io)?;
            self.there.store(until as u32, Relaxed);
        }
        let place = self.claim().map_err(NoPages::Io)?.ok_or(NoPages::Full)?;
        // The bits before the place: killed in between, they stand for nothing, and a sweep finds them.
        self.mark(pages, true);
        place::name(self.held(place), pages.word());
        drop(latched);
        Ok(Held { place, pages })
    }

    /// A place of one's own, that names no pages so far.
    fn claim(&self) -> io::Result<Option<usize>> {
        let me = self.object.my_process()?;
        Ok((0..self.layout.places).find(|place| place::claim(self.owner(*place), me.word())))
    }

    /// Pages that a slot names become this process's: with the receivers' latch, before the slot is free.
    pub(crate) fn adopt(&self, pages: Pages) -> io::Result<Option<Held>> {
        let Some(place) = self.claim()? else { return Ok(None) };
        // A sweep finds them here if it does not find the slot full any more.
        place::name(self.held(place), pages.word());
        Ok(Some(Held { place, pages }))
    }

    /// Pages that a lease names: `forget` makes it name none, in one step with their being free for a sweep.
    pub(crate) fn free_pages(&self, pages: Pages, forget: impl FnOnce()) -> Result<(), Latched> {
        let latched = self.latched(|| Nap::within(FREE_WITHIN))?;
        self.mark(pages, false);
        forget();
        place::count(&*self.frees);
        drop(latched);
        Ok(())
    }

    /// They are a slot's now, with the senders' latch, or nobody's, with the store's: a sweep never finds here what is
    /// another's by then.
    pub(crate) fn let_go(&self, held: Held) {
        place::let_go(self.owner(held.place), self.held(held.place), &*self.frees);
    }

    /// Nobody needs them any more.
    pub(crate) fn free(&self, held: Held) -> Result<(), Latched> {
        let latched = self.latched(|| Nap::within(FREE_WITHIN))?;
        // Says that there are some, too: who looks for them waits for the latch.
        self.let_go(held);
        self.mark(held.pages, false);
        drop(latched);
        Ok(())
    }

    /// With the latch: the first pages of that number which are free. What is in use is skipped word by word.
    fn find(&self, count: usize) -> Option<usize> {
        let mut run = 0;
        for index in 0..self.layout.pages.div_ceil(64) {
            let used = self.word(Layout::bitmap_word(index)).load(Relaxed);
            if used == u64::MAX {
                run = 0;
                continue;
            }
            let mut at = 0;
            while at < 64 {
                let rest = used >> at;
                let free = (rest.trailing_zeros() as usize).min(64 - at);
                run += free;
                at += free;
                if run >= count {
                    let first = index * 64 + at - run;
                    // The last word has bits of pages that are not there.
                    return (first + count <= self.layout.pages).then_some(first);
                }
                if at < 64 {
                    run = 0;
                    at += ((used >> at).trailing_ones() as usize).min(64 - at);
                }
            }
        }
        None
    }

    /// With the latch: whether they are in use.
    fn mark(&self, pages: Pages, used: bool) {
        let (mut page, end) = (pages.first as usize, pages.first as usize + pages.count as usize);
        while page < end {
            let count = (64 - page % 64).min(end - page);
            let bits = (u64::MAX >> (64 - count)) << (page % 64);
            let word = self.word(Layout::bitmap_word(page / 64));
            let now = word.load(Relaxed);
            word.store(if used { now | bits } else { now & !bits }, Relaxed);
            page += count;
        }
    }

    /// Whether somebody died who may have left pages to nobody.
    pub(crate) fn wants_sweep(&self) -> io::Result<bool> {
        if self.dirty.load(Relaxed) != 0 {
            return Ok(true);
        }
        for place in 0..self.layout.places {
            // Relaxed: who answers for the owner fences.
            if let Some(owner) = Id::of(self.owner(place).load(Relaxed))
                && self.object.is_gone(owner)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// With all latches: takes what the dead had, and finds out what is in use. `queued` are the pages of the slots.
    pub(crate) fn sweep(&self, queued: impl Iterator<Item = Pages>) -> io::Result<()> {
        let mut used = vec![0_u64; self.layout.pages.div_ceil(64)];
        let mut mark = |pages: Pages| {
            for page in pages.first as usize..pages.first as usize + pages.count as usize {
                used[page / 64] |= 1 << (page % 64);
            }
        };
        queued.for_each(&mut mark);
        for place in 0..self.layout.places {
            // Relaxed: with the latches of all who claim places, name pages in them, or let them go.
            let word = self.owner(place).load(Relaxed);
            let Some(owner) = Id::of(word) else { continue };
            if self.object.is_gone(owner)? {
                place::bury(self.owner(place), self.held(place), word);
            } else if let Some(pages) = Pages::read(self.held(place).load(Relaxed), &self.layout) {
                mark(pages);
            }
        }
        for (index, bits) in used.into_iter().enumerate() {
            self.word(Layout::bitmap_word(index)).store(bits, Relaxed);
        }
        self.dirty.store(0, Relaxed);
        place::count(&*self.frees);
        Ok(())
    }

    /// When the queue is idle: gives back what a burst took.
    pub(crate) fn trim(&self) -> io::Result<()> {
        let there = self.there.load(Relaxed) as usize;
        if there <= KEPT {
            return Ok(());
        }
        let Ok(latched) = self.latched(Nap::none) else { return Ok(()) };
        let there = (self.there.load(Relaxed) as usize).min(self.layout.pages);
        let words = 0..self.layout.pages.div_ceil(64);
        let top = words.rev().find(|index| self.word(Layout::bitmap_word(*index)).load(Relaxed) != 0);
        let keep = top.map_or(0, |top| (top + 1) * 64).max(KEPT);
        if keep < there {
            // Before they are gone: who takes them reserves them again.
            self.there.store(keep as u32, Relaxed);
            self.object.give_back(self.layout.store_at + keep * PAGE, (there - keep) * PAGE)?;
        }
        drop(latched);
        Ok(())
    }
}
