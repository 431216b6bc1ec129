//! Where what is in the memory of a queue.
//!
//! ```text
//!     0  magic "ipcqueue" u64 | version u32 | capacity u32 | pages u32 | places u32 | leases u32 | attempts u32
//!    64  whether there has ever been a sender u32, a receiver u32
//!   128  senders:    latch u64 | tail u64 | slots whose pages are there u32
//!   256  receivers:  latch u64 | head u64 | leases that were ever used u32
//!   384  news of messages, which receivers sleep on:  bell u32 | the senders are gone u32
//!   512  news of room, which senders sleep on:        bell u32 | the receivers are gone u32
//!   640  store:      latch u64 | pages that are there u32 | how often some were freed u32 | dirty u32
//!   768  news of what is done, for `join`:            bell u32
//!   896  news of freed pages, which senders sleep on: bell u32
//!  1024  bitmap of the store's pages in use, a bit each
//!        places, 64 bytes each: owner u64 | first page u32 | pages u32
//!        leases, 192 bytes each: owner u64 | state u32 | attempts u32 | id u64 | length u32 | kind u32
//!                                | first page u32 | pages u32 | 112 bytes: the message
//!  4096k slots, 128 bytes each: state u64 | length u32 | kind u32 | 112 bytes: the message, or first page u32 | pages u32
//!        store: pages of 4 KiB
//! ```
//!
//! Numbers are in the machine's order: memory does not leave the machine. What two sides touch lies 128 bytes apart, as
//! neighbouring cache lines are fetched together.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use ipc_sync::OpenError;
use ipc_sync::object::{Fresh, Object};

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"ipcqueue");
pub(crate) const VERSION: u32 = 1;

pub(crate) const EVER: usize = 64;
pub(crate) const SENDERS: usize = 128;
pub(crate) const RECEIVERS: usize = 256;
pub(crate) const ITEMS: usize = 384;
pub(crate) const ROOM: usize = 512;
pub(crate) const STORE: usize = 640;
pub(crate) const DONE: usize = 768;
pub(crate) const FREED: usize = 896;
const BITMAP: usize = 1024;

pub(crate) const PAGE: usize = 4096;
pub(crate) const SLOT: usize = 128;
pub(crate) const PLACE: usize = 64;
pub(crate) const LEASE: usize = 192;
/// How long a message may be that goes into its slot.
pub(crate) const INLINE: usize = SLOT - 16;
/// How many bytes of slots are taken at once as they are used for the first time.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Positions have 24 bits for the slot.
pub(crate) const CAPACITY_MAX: usize = 1 << 24;
/// 64 GiB.
const PAGES_MAX: usize = 1 << 24;
/// What one process alone can keep of others, in loans and messages on their way.
const PLACES_MIN: usize = 64;
const PLACES_MAX: usize = 1024;

const _: () = assert!(FREED + 128 <= BITMAP && SLOT.is_multiple_of(64) && CHUNK.is_multiple_of(SLOT));

/// The shape of a queue: this process's own copy, which nobody can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) capacity: usize,
    pub(crate) pages: usize,
    pub(crate) places: usize,
    /// Messages that can be out at the same time; none but in a work queue.
    pub(crate) leases: usize,
    /// After how many deliveries a message is put aside; 0: never.
    pub(crate) attempts: u32,
    pub(crate) places_at: usize,
    pub(crate) leases_at: usize,
    pub(crate) slots_at: usize,
    pub(crate) store_at: usize,
    pub(crate) len: usize,
}

impl Layout {
    /// For that many messages, and that many bytes of those that do not fit into their slots.
    pub(crate) fn new(capacity: usize, bytes: usize) -> Result<Self, OpenError> {
        if capacity == 0 || capacity > CAPACITY_MAX {
            return Err(OpenError::InvalidInput(format!("a queue holds 1 to {CAPACITY_MAX} messages")));
        }
        let pages = bytes.div_ceil(PAGE);
        if pages > PAGES_MAX {
            return Err(OpenError::InvalidInput("a queue holds 64 GiB at most".into()));
        }
        Ok(Layout::of(capacity, pages, capacity.clamp(PLACES_MIN, PLACES_MAX), 0, 0))
    }

    /// The same of a work queue.
    pub(crate) fn with_leases(self, attempts: u32) -> Self {
        Layout::of(self.capacity, self.pages, self.places, self.places, attempts)
    }

    fn of(capacity: usize, pages: usize, places: usize, leases: usize, attempts: u32) -> Self {
        let places_at = (BITMAP + pages.div_ceil(64) * 8).next_multiple_of(128);
        let leases_at = places_at + places * PLACE;
        let slots_at = (leases_at + leases * LEASE).next_multiple_of(PAGE);
        let store_at = (slots_at + capacity * SLOT).next_multiple_of(PAGE);
        let len = store_at + pages * PAGE;
        Layout { capacity, pages, places, leases, attempts, places_at, leases_at, slots_at, store_at, len }
    }

    /// The bytes that are there from the beginning.
    pub(crate) fn reserved(&self) -> usize {
        self.slots_at
    }

    pub(crate) fn write(&self, fresh: &Fresh<'_>) -> io::Result<()> {
        fresh.set_u64(0, MAGIC)?;
        fresh.set_u32(8, VERSION)?;
        fresh.set_u32(12, self.capacity as u32)?;
        fresh.set_u32(16, self.pages as u32)?;
        fresh.set_u32(20, self.places as u32)?;
        fresh.set_u32(24, self.leases as u32)?;
        Ok(fresh.set_u32(28, self.attempts)?)
    }

    /// The shape that an object says it has, if it can be.
    pub(crate) fn read(object: &Object) -> io::Result<Self> {
        let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if object.u64(0)?.load(Relaxed) != MAGIC {
            return wrong("there is no queue".into());
        }
        let version = object.u32(8)?.load(Relaxed);
        if version != VERSION {
            return wrong(format!("a queue of version {version}, and this program reads version {VERSION}"));
        }
        let number = |at: usize| object.u32(at).map(|word| word.load(Relaxed) as usize);
        let (capacity, pages, places, leases) = (number(12)?, number(16)?, number(20)?, number(24)?);
        let is_possible = (1..=CAPACITY_MAX).contains(&capacity)
            && pages <= PAGES_MAX
            && (PLACES_MIN..=PLACES_MAX).contains(&places)
            && (leases == 0 || leases == places);
        if !is_possible {
            return wrong("a queue whose header was scribbled over".into());
        }
        let layout = Layout::of(capacity, pages, places, leases, number(28)? as u32);
        if layout.len > object.len() {
            return wrong("a queue that is longer than its memory".into());
        }
        Ok(layout)
    }

    /// Where 64 pages of the bitmap are.
    pub(crate) fn bitmap_word(index: usize) -> usize {
        BITMAP + index * 8
    }

    pub(crate) fn slot(&self, index: usize) -> usize {
        self.slots_at + index * SLOT
    }

    pub(crate) fn lease(&self, index: usize) -> usize {
        self.leases_at + index * LEASE
    }

    pub(crate) fn place(&self, index: usize) -> usize {
        self.places_at + index * PLACE
    }
}
