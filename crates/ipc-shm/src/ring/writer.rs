//! The end that frames go into.
//!
//! | state | what a write does |
//! |---|---|
//! | nothing is left | a frame that fits the ring goes in whole or not at all. A longer one goes in in pieces; if that would wait too long after the first, the rest is kept (`Begun`) |
//! | a rest is left | it goes first; if that would wait too long, nothing of the new frame has gone (`Full`, `Timeout`) |

mod batch;
mod pieces;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use ipc_core::frame::FrameError;
use ipc_core::{Limits, SendAllError, SendError};
use ipc_sync::object::Role;

use super::bell::{self, Outcome};
use super::closer::Closer;
use super::end::{End, Side};
use super::place::{self, HEADER, Pages, Place};
use super::seen::Reserved;
use super::until::Until;
use batch::Batch;
use pieces::Rest;

/// The kind of padding, which users cannot write.
pub(super) const PADDING: u32 = u32::MAX;

/// How far before the frame at hand lines are brought here.
const AHEAD: u64 = 256;

/// The end of a [ring](super::ring()) that frames go into; [there](super) is what is promised.
pub struct RingWriter {
    end: Arc<End>,
    place: Place,
    /// All that was written. What is in the shared word is for the reader.
    tail: u64,
    /// All that was read, as far as this end has seen.
    head: u64,
    pages: Pages,
    frame_len_max: usize,
    /// What is left of a long frame that has begun.
    rest: Option<Box<Rest>>,
}

impl RingWriter {
    pub(super) fn new(place: Place) -> io::Result<Self> {
        let pages = Pages::of_new(&place);
        let end = End::new(Side::Writer, place, None)?;
        Ok(RingWriter::over(end, 0, pages, Vec::new()))
    }

    /// One that arrived, with what was left of a frame.
    pub(super) fn received(role: Role, place: Place, tail: u64, rest: Vec<u8>) -> io::Result<Self> {
        let pages = Pages::from(tail, &place);
        Ok(RingWriter::over(End::new(Side::Writer, place, Some(role))?, tail, pages, rest))
    }

    fn over(end: Arc<End>, tail: u64, pages: Pages, rest: Vec<u8>) -> Self {
        let place = end.place().clone();
        // Whatever the reader has read: it is looked up when there seems to be no room.
        let head = tail.saturating_sub(place.capacity());
        let rest = (!rest.is_empty()).then(|| Box::new(Rest { bytes: rest, at: 0 }));
        let frame_len_max = Limits::default().frame_len_max;
        RingWriter { end, place, tail, head, pages, frame_len_max, rest }
    }

    /// Writes a frame of any kind but `u32::MAX`, waiting for room.
    ///
    /// # Errors
    /// [`SendError::Disconnected`] when nobody can read any more; [`SendError::Frame`] for a frame longer than the limit
    /// (nothing was written, and the next one can be); [`SendError::Moved`]; [`SendError::Abandoned`] when the one thread
    /// that has both ends would wait for itself; [`SendError::Io`], of the kind `StorageFull` where there is no memory for
    /// more of the ring, `InvalidInput` for the kind `u32::MAX`, `InvalidData` when somebody has written over the ring.
    #[inline]
    pub fn write(&mut self, kind: u32, payload: &[u8]) -> Result<(), SendError> {
        self.put(kind, &[payload], Until::Forever)
    }

    /// Writes a frame if there is room for it now. A frame that is longer than the ring begins if there is any room.
    ///
    /// # Errors
    /// [`SendError::Full`] when nothing of it was written; [`SendError::Begun`] when some was: the rest is kept and goes
    /// first, with the next write or [`flush`](Self::flush), so do not write it again. Else as of [`write`](Self::write).
    ///
    /// ```
    /// use ipc_core::SendError;
    /// let (mut writer, mut reader) = ipc_shm::ring::ring(4096)?;
    /// while writer.try_write(0, &[1; 100]).is_ok() {}
    /// assert!(matches!(writer.try_write(0, &[1; 100]), Err(SendError::Full)));
    /// reader.read(&mut Vec::new())?;
    /// writer.try_write(0, &[1; 100])?;
    /// # Ok::<(), ipc_core::Error>(())
    /// ```
    #[inline]
    pub fn try_write(&mut self, kind: u32, payload: &[u8]) -> Result<(), SendError> {
        self.put(kind, &[payload], Until::Now)
    }

    /// Writes a frame, waiting for room no longer than `timeout`.
    ///
    /// # Errors
    /// [`SendError::Timeout`] when nothing of it was written, [`SendError::Begun`] when some was (see
    /// [`try_write`](Self::try_write)). Else as of [`write`](Self::write).
    pub fn write_timeout(&mut self, kind: u32, payload: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.put(kind, &[payload], Until::after(timeout))
    }

    /// As [`write`](Self::write), a frame whose payload is all parts, one behind the other.
    ///
    /// # Errors
    /// The same.
    pub fn write_parts(&mut self, kind: u32, parts: &[&[u8]]) -> Result<(), SendError> {
        self.put(kind, parts, Until::Forever)
    }

    /// Writes all frames of an iterator, many with one store and one look whether the reader sleeps. The reader may see
    /// them only when this has returned, or has to wait. How many there were.
    ///
    /// # Errors
    /// That of the first frame that was not written, as of [`write`](Self::write), and how many were before it.
    ///
    /// ```
    /// let (mut writer, mut reader) = ipc_shm::ring::ring(4096)?;
    /// assert_eq!(writer.write_many((0..3_u32).map(|n| (n, n.to_le_bytes())))?, 3);
    /// let mut sum = 0;
    /// reader.read_each(usize::MAX, |kind, frame| sum += kind + frame.len() as u32)?;
    /// assert_eq!(sum, 3 + 3 * 4);
    /// # Ok::<(), ipc_core::Error>(())
    /// ```
    pub fn write_many<B: AsRef<[u8]>>(
        &mut self,
        frames: impl IntoIterator<Item = (u32, B)>,
    ) -> Result<usize, SendAllError> {
        let mut batch = Batch::new(self);
        let mut sent = 0;
        for (kind, payload) in frames {
            batch.put(kind, payload.as_ref()).map_err(|source| SendAllError { sent, source })?;
            sent += 1;
        }
        batch.show().map_err(|source| SendAllError { sent, source })?;
        Ok(sent)
    }

    /// A place in the ring for a frame of `len` bytes, to be written there directly; waits for room. The frame exists
    /// once it is [committed](Reserved::commit).
    ///
    /// # Errors
    /// [`SendError::TooLarge`] for one that the ring does not hold at once; else as of [`write`](Self::write).
    pub fn reserve(&mut self, len: usize) -> Result<Reserved<'_>, SendError> {
        self.reserve_until(len, Until::Forever)
    }

    /// As [`reserve`](Self::reserve), if there is room now.
    ///
    /// # Errors
    /// [`SendError::Full`]; else the same.
    ///
    /// ```
    /// let (mut writer, mut reader) = ipc_shm::ring::ring(4096)?;
    /// let mut place = writer.try_reserve(6)?;
    /// place.write(3, b"def")?;
    /// place.write(0, b"abc")?;
    /// place.commit(1)?;
    /// let mut frame = Vec::new();
    /// reader.read(&mut frame)?;
    /// assert_eq!(frame, b"abcdef");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_reserve(&mut self, len: usize) -> Result<Reserved<'_>, SendError> {
        self.reserve_until(len, Until::Now)
    }

    /// As [`reserve`](Self::reserve), waiting for room no longer than `timeout`.
    ///
    /// # Errors
    /// [`SendError::Timeout`]; else the same.
    pub fn reserve_timeout(&mut self, len: usize, timeout: Duration) -> Result<Reserved<'_>, SendError> {
        self.reserve_until(len, Until::after(timeout))
    }

    /// Writes the rest of a frame that has begun, waiting for room.
    ///
    /// # Errors
    /// As of [`write`](Self::write).
    pub fn flush(&mut self) -> Result<(), SendError> {
        self.flush_until(Until::Forever)
    }

    /// As [`flush`](Self::flush), waiting for room no longer than `timeout`; zero does not wait.
    ///
    /// # Errors
    /// [`SendError::Begun`] when some of it is still left; else the same.
    pub fn flush_timeout(&mut self, timeout: Duration) -> Result<(), SendError> {
        self.flush_until(Until::after(timeout))
    }

    /// Whether the rest of a frame is kept here, to go first.
    pub fn has_begun(&self) -> bool {
        self.rest.is_some()
    }

    /// Sets the limits for what is written: a longer frame is refused here rather than by the reader.
    pub fn set_limits(&mut self, limits: Limits) {
        self.frame_len_max = limits.frame_len_max;
    }

    /// How many bytes the ring holds: of each frame its length rounded up to 8, and 8 more.
    pub fn capacity(&self) -> usize {
        self.place.capacity() as usize
    }

    /// To close this end from another thread.
    pub fn closer(&self) -> Closer {
        Closer::new(&self.end)
    }

    /// Whether nobody can read any more: a system call.
    pub fn is_disconnected(&self) -> bool {
        // An error of the system comes up in what is done next.
        !self.end.is_moved() && self.end.sees_peer().is_ok_and(|sees| !sees)
    }

    #[inline]
    fn put(&mut self, kind: u32, parts: &[&[u8]], until: Until) -> Result<(), SendError> {
        let space = self.check(kind, parts.iter().map(|part| part.len()).sum())?;
        if self.fits_now(space) {
            self.fill(kind, parts, space);
            return self.publish();
        }
        self.put_slowly(kind, parts, space, until)
    }

    /// What the frame takes.
    #[inline]
    fn check(&self, kind: u32, len: usize) -> Result<u64, SendError> {
        match u32::try_from(len) {
            Ok(short) if len <= self.frame_len_max && kind != PADDING => Ok(place::space(short)),
            _ => Err(self.refused(kind, len)),
        }
    }

    #[cold]
    fn refused(&self, kind: u32, len: usize) -> SendError {
        if kind == PADDING {
            let what = "the kind u32::MAX is the ring's own";
            return SendError::Io(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let limit = self.frame_len_max.min(u32::MAX as usize);
        SendError::Frame(FrameError::TooLong { len: len as u64, limit })
    }

    /// Whether so much can be written without looking at anything but this end's own memory, and the head.
    #[inline]
    fn fits_now(&mut self, space: u64) -> bool {
        self.rest.is_none()
            && self.end.is_here()
            && self.pages.are_there(self.tail + space)
            && (self.room() >= space || matches!(self.look(), Ok(())) && self.room() >= space)
    }

    #[inline]
    fn room(&self) -> u64 {
        self.place.capacity() - (self.tail - self.head)
    }

    /// Sees how far the reader is.
    fn look(&mut self) -> Result<(), SendError> {
        // Acquire: with the Release of `publish` at the reader's end: it has read what is overwritten now.
        let head = self.place.head.load(Acquire);
        if !is_next(self.head, head, self.tail) {
            return Err(SendError::Io(written_over()));
        }
        self.head = head;
        Ok(())
    }

    /// Copies a frame in, for which there is room. It is not shown yet.
    #[inline]
    fn fill(&mut self, kind: u32, parts: &[&[u8]], space: u64) {
        let mut at = self.tail + HEADER;
        for part in parts {
            self.place.copy_in(at, part);
            at += part.len() as u64;
        }
        let len = at - self.tail - HEADER;
        self.place.set_header(self.tail, place::header(kind, len as u32));
        self.tail += space;
        // Lines of the frames to come, while the fence of `publish` waits for those of this one.
        self.place.prefetch_for_write(self.tail + AHEAD);
        self.place.prefetch_for_write(self.tail + AHEAD + 64);
    }

    /// Shows what was written, and wakes the reader if it sleeps.
    #[inline]
    pub(super) fn publish(&mut self) -> Result<(), SendError> {
        let word = bell::publish(&*self.place.tail, self.tail, &*self.place.reader_bell);
        if word == 0 { Ok(()) } else { self.tell(word) }
    }

    #[cold]
    fn tell(&self, word: u32) -> Result<(), SendError> {
        // What the bell says is the reader's word, or somebody's who scribbles: the kernel decides.
        if self.end.tell(word) && self.is_disconnected() { Err(SendError::Disconnected) } else { Ok(()) }
    }

    #[cold]
    fn put_slowly(&mut self, kind: u32, parts: &[&[u8]], space: u64, until: Until) -> Result<(), SendError> {
        self.make_way(until)?;
        if space > self.place.capacity() {
            return self.put_in_pieces(kind, parts, until);
        }
        if !self.wait(space, until)? {
            return Err(nothing_went(until));
        }
        self.pages.take(self.tail + space, &self.place).map_err(SendError::Io)?;
        self.fill(kind, parts, space);
        self.publish()
    }

    /// Waits for room. Whether there is some in time.
    fn wait(&mut self, space: u64, until: Until) -> Result<bool, SendError> {
        if self.room() >= space {
            return Ok(true);
        }
        self.look()?;
        if self.room() >= space {
            return Ok(true);
        }
        let (tail, seen, capacity) = (self.tail, self.head, self.place.capacity());
        let outcome = bell::wait(
            &*self.place.head,
            &*self.place.writer_bell,
            &*self.end,
            // What cannot be is news too: `look` says so.
            |head| !is_next(seen, head, tail) || capacity - (tail - head) >= space,
            &mut until.nap(),
        );
        match outcome.map_err(SendError::Io)? {
            Outcome::News => self.look().map(|()| true),
            Outcome::TimedOut => self.look().map(|()| false),
            Outcome::Gone => Err(SendError::Disconnected),
            Outcome::Abandoned => Err(SendError::Abandoned),
        }
    }

    fn reserve_until(&mut self, len: usize, until: Until) -> Result<Reserved<'_>, SendError> {
        let space = self.check(0, len)?;
        let capacity = self.place.capacity();
        if space > capacity {
            return Err(SendError::TooLarge { len, capacity: (capacity - HEADER) as usize });
        }
        self.make_way(until)?;
        let to_end = self.place.to_end(self.tail);
        if space > to_end {
            // It begins where the data does. Padding leads there, a frame that nobody gets to see.
            self.make_room(to_end, until)?;
            self.place.set_header(self.tail, place::header(PADDING, (to_end - HEADER) as u32));
            self.tail += to_end;
            self.publish()?;
        }
        self.make_room(space, until)?;
        Ok(Reserved::new(self, len))
    }

    fn make_room(&mut self, space: u64, until: Until) -> Result<(), SendError> {
        if !self.wait(space, until)? {
            return Err(nothing_went(until));
        }
        self.pages.take(self.tail + space, &self.place).map_err(SendError::Io)
    }

    /// Writes into the frame that there is room for.
    pub(super) fn fill_reserved(&self, offset: usize, bytes: &[u8]) {
        self.place.copy_in(self.tail + HEADER + offset as u64, bytes);
    }

    /// Commits it.
    pub(super) fn commit_reserved(&mut self, kind: u32, len: usize) -> Result<(), SendError> {
        let space = self.check(kind, len)?;
        // No longer than the capacity, which fits.
        self.place.set_header(self.tail, place::header(kind, len as u32));
        self.tail += space;
        self.publish()
    }

    /// What travels: the end, all that was written, and what is left of a frame.
    pub(super) fn state(&self) -> (&Arc<End>, u64, &[u8]) {
        (&self.end, self.tail, self.rest.as_ref().map_or(&[], |rest| &rest.bytes[rest.at..]))
    }
}

/// Whether a count that the other says can follow the one that it said before; `end` is as far as it can come.
#[inline]
pub(super) fn is_next(before: u64, now: u64, end: u64) -> bool {
    before <= now && now <= end && now.is_multiple_of(8)
}

#[cold]
pub(super) fn written_over() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "somebody has written over the counts of the ring")
}

fn nothing_went(until: Until) -> SendError {
    if matches!(until, Until::Now) { SendError::Full } else { SendError::Timeout }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        self.end.leave();
    }
}

impl fmt::Debug for RingWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingWriter")
            .field("capacity", &self.capacity())
            .field("written", &self.tail)
            .field("moved", &self.end.is_moved())
            .finish_non_exhaustive()
    }
}
