//! Where a ring lies, and its pages.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use ipc_os::map::{OutOfBounds, Word32, Word64};
use ipc_os::memfd;
use ipc_sync::OpenError;
use ipc_sync::object::Object;

use super::{CAPACITY_MAX, CAPACITY_MIN};

const MAGIC: u64 = u64::from_le_bytes(*b"ipc-ring");
const VERSION: u32 = 1;

/// Far enough apart for words that different processes store.
const LINE: usize = 128;
const AT_MAGIC: usize = 0;
const AT_VERSION: usize = 8;
const AT_CAPACITY: usize = 16;
const AT_TAIL: usize = LINE;
const AT_HEAD: usize = 2 * LINE;
/// Behind its count, the process that has the end.
const TO_ID: usize = 8;
const AT_READER_BELL: usize = 3 * LINE;
const AT_WRITER_BELL: usize = 4 * LINE;
const DATA: usize = 4096;

/// A header is this long, and frames begin at multiples of it.
pub(super) const HEADER: u64 = 8;
/// Pages are taken so many bytes at a time.
const CHUNK: u64 = 256 << 10;

const _: () = assert!(AT_CAPACITY + 8 <= AT_TAIL && AT_WRITER_BELL + LINE <= DATA);
const _: () = assert!(AT_TAIL.is_multiple_of(LINE) && AT_HEAD - AT_TAIL == LINE && TO_ID + 8 <= LINE);
const _: () =
    assert!(CAPACITY_MIN.is_power_of_two() && CAPACITY_MAX.is_power_of_two() && CHUNK.is_power_of_two());
// A frame's length fits its header, also that of padding.
const _: () = assert!(CAPACITY_MAX < u32::MAX as usize && usize::BITS == 64);

/// The words and the data of a ring: one of an end, which knows which words are its own.
#[derive(Debug, Clone)]
pub(super) struct Place {
    object: Object,
    pub(super) tail: Word64,
    pub(super) head: Word64,
    pub(super) reader_bell: Word32,
    pub(super) writer_bell: Word32,
    capacity: u64,
}

impl Place {
    /// That of a new ring; its first chunk is there.
    pub(super) fn new(capacity: usize) -> Result<Self, OpenError> {
        let first = capacity.min(CHUNK as usize);
        let object = Object::new_sparse(DATA + capacity, DATA + first, |fresh| {
            fresh.set_u64(AT_MAGIC, MAGIC)?;
            fresh.set_u32(AT_VERSION, VERSION)?;
            fresh.set_u64(AT_CAPACITY, capacity as u64)?;
            Ok(())
        })?;
        Ok(Place::of(object)?)
    }

    /// What an object must have at least to be one.
    pub(super) const LEN_MIN: usize = DATA + CAPACITY_MIN;

    /// That in an object which somebody else may have made.
    pub(super) fn of(object: Object) -> io::Result<Self> {
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        if object.u64(AT_MAGIC)?.load(Relaxed) != MAGIC {
            return Err(wrong("it is no ring".to_owned()));
        }
        let version = object.u32(AT_VERSION)?.load(Relaxed);
        if version != VERSION {
            return Err(wrong(format!("it is a ring of version {version}, not {VERSION}")));
        }
        // Read once: from here on it is this process's own number.
        let capacity = object.u64(AT_CAPACITY)?.load(Relaxed);
        let fits = usize::try_from(capacity).is_ok_and(|capacity| {
            capacity.is_power_of_two()
                && (CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity)
                && object.len() >= DATA + capacity
        });
        if !fits {
            return Err(wrong(format!("a ring of {capacity} bytes in an object of {}", object.len())));
        }
        let (tail, head) = (object.word64(AT_TAIL)?, object.word64(AT_HEAD)?);
        let (reader_bell, writer_bell) = (object.word32(AT_READER_BELL)?, object.word32(AT_WRITER_BELL)?);
        Ok(Place { object, tail, head, reader_bell, writer_bell, capacity })
    }

    pub(super) fn object(&self) -> &Object {
        &self.object
    }

    #[inline]
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The words with the processes that have the ends: the writer's, the reader's.
    pub(super) fn ids(&self) -> Result<(&AtomicU64, &AtomicU64), OutOfBounds> {
        Ok((self.object.u64(AT_TAIL + TO_ID)?, self.object.u64(AT_HEAD + TO_ID)?))
    }

    /// How many bytes there are until the data ends.
    #[inline]
    pub(super) fn to_end(&self, at: u64) -> u64 {
        self.capacity - (at & (self.capacity - 1))
    }

    #[inline]
    fn offset(&self, at: u64) -> usize {
        DATA + (at & (self.capacity - 1)) as usize
    }

    /// The header that is at a count, a multiple of 8. What it says is the writer's word.
    #[inline]
    pub(super) fn header(&self, at: u64) -> u64 {
        // The place was checked when the handle was made: an object keeps its length.
        self.object.u64(self.offset(at)).map_or(0, |word| word.load(Relaxed))
    }

    #[inline]
    pub(super) fn set_header(&self, at: u64, header: u64) {
        if let Ok(word) = self.object.u64(self.offset(at)) {
            // Relaxed: the store of the tail that commits it comes later.
            word.store(header, Relaxed);
        }
    }

    /// Has the line at a count brought here, which is to be read soon.
    #[inline]
    pub(super) fn prefetch(&self, at: u64) {
        self.object.prefetch(self.offset(at));
    }

    /// Has the line at a count brought here, which is to be written soon: the reader has it.
    #[inline]
    pub(super) fn prefetch_for_write(&self, at: u64) {
        self.object.prefetch_for_write(self.offset(at));
    }

    /// Copies bytes in, of which there are no more than the capacity.
    #[inline]
    pub(super) fn copy_in(&self, at: u64, bytes: &[u8]) {
        let to_end = self.to_end(at) as usize;
        let _checked = if bytes.len() <= to_end {
            self.object.write(self.offset(at), bytes)
        } else {
            let (first, second) = bytes.split_at(to_end);
            self.object.write(self.offset(at), first).and_then(|()| self.object.write(DATA, second))
        };
    }

    /// Copies bytes out, of which there are no more than the capacity.
    #[inline]
    pub(super) fn copy_out(&self, at: u64, bytes: &mut [u8]) {
        let to_end = self.to_end(at) as usize;
        let _checked = if bytes.len() <= to_end {
            self.object.read(self.offset(at), bytes)
        } else {
            let (first, second) = bytes.split_at_mut(to_end);
            self.object.read(self.offset(at), first).and_then(|()| self.object.read(DATA, second))
        };
    }
}

/// Makes a header.
#[inline]
pub(super) fn header(kind: u32, len: u32) -> u64 {
    u64::from(len) | u64::from(kind) << 32
}

/// The kind and the length that a header says.
#[inline]
pub(super) fn parse(header: u64) -> (u32, u32) {
    ((header >> 32) as u32, header as u32)
}

/// How much a frame takes.
#[inline]
pub(super) fn space(len: u32) -> u64 {
    HEADER + u64::from(len).next_multiple_of(8)
}

/// Up to which count this process knows that there are pages. Both ends take them: a writer that did not must not have
/// the reader end by a signal.
#[derive(Debug)]
pub(super) struct Pages {
    until: u64,
    /// From that count on there are all.
    all_at: u64,
}

impl Pages {
    /// Of a ring that this process has just made.
    pub(super) fn of_new(place: &Place) -> Self {
        Pages { until: CHUNK.min(place.capacity), all_at: place.capacity }.settled()
    }

    /// Of one that came from elsewhere, and is to be used from that count on.
    pub(super) fn from(at: u64, place: &Place) -> Self {
        let until = at & !(CHUNK.min(place.capacity) - 1);
        Pages { until, all_at: until + place.capacity }
    }

    #[inline]
    pub(super) fn are_there(&self, until: u64) -> bool {
        until <= self.until
    }

    /// Takes those up to that count.
    #[cold]
    pub(super) fn take(&mut self, until: u64, place: &Place) -> io::Result<()> {
        while !self.are_there(until) {
            let len = CHUNK.min(place.capacity);
            // The kernel would give what it has, and then end processes.
            if len > memfd::room()? {
                return Err(io::ErrorKind::StorageFull.into());
            }
            place.object.reserve(place.offset(self.until), len as usize)?;
            self.until += len;
            *self = Pages { ..*self }.settled();
        }
        Ok(())
    }

    fn settled(self) -> Self {
        if self.until >= self.all_at { Pages { until: u64::MAX, ..self } } else { self }
    }
}
