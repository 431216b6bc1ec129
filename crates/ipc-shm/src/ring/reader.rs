//! The end that frames come out of.

mod batch;
mod long;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

use ipc_core::frame::FrameError;
use ipc_core::{Limits, RecvError};
use ipc_os::{Readiness, Waitable};
use ipc_sync::object::{Pace, Role};

use super::bell::{self, Outcome};
use super::closer::Closer;
use super::end::{End, Side};
use super::place::{self, HEADER, Pages, Place};
use super::seen::Frame;
use super::until::Until;
use super::writer::{PADDING, is_next, written_over};
pub use batch::Batch;
pub(super) use long::Long;

/// The end of a [ring](super::ring()) that frames come out of; [there](super) is what is promised.
pub struct RingReader {
    end: Arc<End>,
    place: Place,
    /// All that was read. What is in the shared word is for the writer, and may be behind.
    head: u64,
    shown: u64,
    /// All that was written, as far as this end has seen.
    tail: u64,
    pages: Pages,
    pace: Pace,
    frame_len_max: usize,
    /// A frame that is longer than the ring, and has begun to arrive.
    long: Option<Box<Long>>,
    /// What `read_each` lends out.
    scratch: Vec<u8>,
    /// It was closed here, and has looked once more since.
    is_final: bool,
}

/// A scratch buffer that one frame has made longer than this is given back.
const KEEP_MAX: usize = 1 << 20;

impl RingReader {
    pub(super) fn new(place: Place) -> io::Result<Self> {
        let pages = Pages::of_new(&place);
        Ok(RingReader::over(End::new(Side::Reader, place, None)?, 0, pages, None))
    }

    /// One that arrived, with what it had of a long frame.
    pub(super) fn received(role: Role, place: Place, head: u64, long: Option<Long>) -> io::Result<Self> {
        let pages = Pages::from(head, &place);
        Ok(RingReader::over(End::new(Side::Reader, place, Some(role))?, head, pages, long))
    }

    fn over(end: Arc<End>, head: u64, pages: Pages, long: Option<Long>) -> Self {
        let place = end.place().clone();
        let frame_len_max = Limits::default().frame_len_max;
        let long = long.map(Box::new);
        RingReader {
            end,
            place,
            head,
            shown: head,
            tail: head,
            pages,
            pace: Pace::default(),
            frame_len_max,
            long,
            scratch: Vec::new(),
            is_final: false,
        }
    }

    /// Reads the next frame, waiting for it: `into` is replaced by its payload. Its kind.
    ///
    /// With an error `into` is as it was. Pass the same one again, and its memory is used again.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] when all frames were read and nobody can write any more; [`RecvError::Truncated`] when
    /// the writer went in the middle of a frame; [`RecvError::Frame`] for a frame beyond the limits (it stays: no further
    /// one can be had without [higher ones](Self::set_limits)), or what is no frame; [`RecvError::Moved`];
    /// [`RecvError::Abandoned`] when the one thread that has both ends would wait for itself; [`RecvError::Io`], of the
    /// kind `InvalidData` when somebody has written over the ring.
    #[inline]
    pub fn read(&mut self, into: &mut Vec<u8>) -> Result<u32, RecvError> {
        self.take(into, Until::Forever)
    }

    /// Reads the next frame if it is here.
    ///
    /// # Errors
    /// [`RecvError::Empty`] when no whole frame is here. Else as of [`read`](Self::read).
    #[inline]
    pub fn try_read(&mut self, into: &mut Vec<u8>) -> Result<u32, RecvError> {
        self.take(into, Until::Now)
    }

    /// Reads the next frame, waiting no longer than `timeout`.
    ///
    /// # Errors
    /// [`RecvError::Timeout`] when no whole frame was here in time; what has come of one stays. Else as of
    /// [`read`](Self::read).
    pub fn read_timeout(&mut self, into: &mut Vec<u8>, timeout: Duration) -> Result<u32, RecvError> {
        self.take(into, Until::after(timeout))
    }

    /// Waits for a frame, and has `f` look at it and at those that are here already, `max` at most: each with its kind, in
    /// a buffer that is used again for the next unless `f` takes it. How many there were.
    ///
    /// Their places are given back together, a quarter of the ring at a time; also if `f` panics, those of all that it was
    /// called for.
    ///
    /// # Errors
    /// As of [`read`](Self::read), if there is no frame before it.
    pub fn read_each(&mut self, max: usize, f: impl FnMut(u32, &mut Vec<u8>)) -> Result<usize, RecvError> {
        self.take_each(max, f, Until::Forever)
    }

    /// As [`read_each`](Self::read_each), without waiting.
    ///
    /// # Errors
    /// [`RecvError::Empty`] when no whole frame is here. Else the same.
    pub fn try_read_each(
        &mut self,
        max: usize,
        f: impl FnMut(u32, &mut Vec<u8>),
    ) -> Result<usize, RecvError> {
        self.take_each(max, f, Until::Now)
    }

    /// To read several frames one by one, and give their places back together: as [`read_each`](Self::read_each), for
    /// who looks at a frame before it is taken, or stops before the last one.
    ///
    /// ```
    /// let (mut writer, mut reader) = ipc_shm::ring::ring(4096)?;
    /// writer.write_many([(1, b"one"), (1, b"two"), (2, b"end")])?;
    /// let mut batch = reader.batch();
    /// let mut bytes = batch.peek()?.take();
    /// while let Some(frame) = batch.peek_here()? {
    ///     if frame.kind() == 2 {
    ///         break;
    ///     }
    ///     bytes.extend(frame.take());
    /// }
    /// drop(batch);
    /// assert_eq!(bytes, b"onetwo");
    /// assert_eq!(reader.read(&mut bytes)?, 2);
    /// # Ok::<(), ipc_core::Error>(())
    /// ```
    #[inline]
    pub fn batch(&mut self) -> Batch<'_> {
        Batch { reader: self }
    }

    /// The next frame where it lies, waiting for it; it stays until it is released. One that is longer than the ring is
    /// collected in memory of this process first.
    ///
    /// # Errors
    /// As of [`read`](Self::read).
    pub fn peek(&mut self) -> Result<Frame<'_>, RecvError> {
        let (kind, len) = self.front_until(Until::Forever)?;
        Ok(Frame::new(self, kind, len, false))
    }

    /// As [`peek`](Self::peek), if it is here.
    ///
    /// # Errors
    /// [`RecvError::Empty`] when no whole frame is here. Else the same.
    ///
    /// ```
    /// let (mut writer, mut reader) = ipc_shm::ring::ring(4096)?;
    /// writer.write(1, b"head and tail")?;
    /// let frame = reader.try_peek()?;
    /// let mut word = [0; 4];
    /// frame.read(9, &mut word)?;
    /// assert_eq!((frame.kind(), frame.len(), &word), (1, 13, b"tail"));
    /// frame.release();
    /// assert!(reader.try_peek().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_peek(&mut self) -> Result<Frame<'_>, RecvError> {
        let (kind, len) = self.front_until(Until::Now)?;
        Ok(Frame::new(self, kind, len, false))
    }

    /// Whether a read would not wait, after at most `timeout`: a frame is here whole, or the end of all. Takes nothing
    /// away, however often it is called.
    ///
    /// # Errors
    /// [`RecvError::Moved`], [`RecvError::Abandoned`], [`RecvError::Io`].
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        match self.find(Until::after(timeout)) {
            Err(RecvError::Empty | RecvError::Timeout) => Ok(false),
            Err(error @ (RecvError::Moved | RecvError::Abandoned | RecvError::Io(_))) => Err(error),
            // The next read tells of it.
            _ => Ok(true),
        }
    }

    /// Whether something is here that was not read yet: no system call, and no word about the end. It may be a part of a
    /// long frame, so that a [`try_read`](Self::try_read) may still find it [`Empty`](RecvError::Empty); then there is
    /// nothing here any more.
    pub fn is_ready(&self) -> bool {
        // Acquire: with the Release of `publish` at the writer's end, as in `look`.
        self.long.as_ref().is_some_and(|long| long.missing() == 0)
            || self.place.tail.load(Acquire) != self.head
            || self.tail != self.head
    }

    /// Sets the limits that protect this process from what is read.
    pub fn set_limits(&mut self, limits: Limits) {
        self.frame_len_max = limits.frame_len_max;
    }

    /// How many bytes the ring holds.
    pub fn capacity(&self) -> usize {
        self.place.capacity() as usize
    }

    /// To close this end from another thread.
    pub fn closer(&self) -> Closer {
        Closer::new(&self.end)
    }

    /// Whether nobody can write any more: a system call. There may be frames all the same.
    pub fn is_disconnected(&self) -> bool {
        // An error of the system comes up in what is done next.
        !self.end.is_moved() && self.end.sees_peer().is_ok_and(|sees| !sees)
    }

    #[inline]
    fn take(&mut self, into: &mut Vec<u8>, until: Until) -> Result<u32, RecvError> {
        let (kind, len) = self.front_until(until)?;
        self.take_front(len, into);
        self.show();
        Ok(kind)
    }

    fn take_each(
        &mut self,
        max: usize,
        mut f: impl FnMut(u32, &mut Vec<u8>),
        until: Until,
    ) -> Result<usize, RecvError> {
        if max == 0 {
            return Ok(0);
        }
        let mut front = self.front_until(until)?;
        let mut buffer = std::mem::take(&mut self.scratch);
        let batch = self.batch();
        let mut count = 0;
        loop {
            let (kind, len) = front;
            batch.reader.take_front(len, &mut buffer);
            f(kind, &mut buffer);
            count += 1;
            batch.reader.has_read(true);
            if count == max {
                break;
            }
            match batch.reader.front() {
                Ok(Some(next)) => front = next,
                // The next call finds the error again.
                Ok(None) | Err(_) => break,
            }
        }
        if buffer.capacity() <= KEEP_MAX {
            batch.reader.scratch = buffer;
        }
        Ok(count)
    }

    /// The kind and the length of the next frame.
    #[inline]
    fn front_until(&mut self, until: Until) -> Result<(u32, usize), RecvError> {
        if self.tail == self.head && matches!(until, Until::Forever) {
            self.gather()?;
        }
        if let Some(front) = self.front()? {
            return Ok(front);
        }
        self.find(until).inspect_err(|error| {
            // Told once.
            if matches!(error, RecvError::Truncated { .. }) {
                self.long = None;
            }
        })
    }

    /// All that was seen is read: looks for more, and lets it gather where that pays.
    fn gather(&mut self) -> Result<(), RecvError> {
        if self.long.is_some() || self.end.is_moved() {
            return Ok(());
        }
        self.look()?;
        if self.has_several() || !self.pace.is_due() {
            return Ok(());
        }
        Pace::stay_away();
        self.look()?;
        let several = self.has_several();
        self.pace.has_paid(several);
        Ok(())
    }

    /// Whether more than one frame is here.
    fn has_several(&self) -> bool {
        let here = self.tail - self.head;
        here > HEADER && here > place::space(place::parse(self.place.header(self.head)).1)
    }

    /// Waits for the next frame. Nothing is taken away, whatever it finds.
    #[cold]
    fn find(&mut self, until: Until) -> Result<(u32, usize), RecvError> {
        loop {
            if let Some(front) = self.front()? {
                return Ok(front);
            }
            self.wait(until)?;
        }
    }

    /// The next frame, if it is here whole. Pieces of a long one are collected.
    #[inline]
    fn front(&mut self) -> Result<Option<(u32, usize)>, RecvError> {
        if self.end.is_moved() {
            return Err(RecvError::Moved);
        }
        loop {
            if self.long.is_some() {
                return self.collect();
            }
            if self.tail == self.head && !self.look()? {
                return Ok(None);
            }
            // Read once; from here on it is this process's own.
            let header = self.place.header(self.head);
            let (kind, len) = place::parse(header);
            let (space, here) = (place::space(len), self.tail - self.head);
            if kind != PADDING && len as usize <= self.frame_len_max && space <= here {
                return Ok(Some((kind, len as usize)));
            }
            self.unusual(header, kind, len, here)?;
        }
    }

    /// Padding, a long frame, or none. When it returns, the head has moved on, or a long frame has begun: padding ends
    /// where the data does and begins nowhere near, so it cannot come twice.
    #[cold]
    fn unusual(&mut self, header: u64, kind: u32, len: u32, here: u64) -> Result<(), RecvError> {
        let space = place::space(len);
        let broken = RecvError::Frame(FrameError::NotAFrame(header.to_ne_bytes()));
        if kind == PADDING {
            let to_end = self.place.to_end(self.head);
            if space != to_end || to_end == self.place.capacity() || space > here {
                return Err(broken);
            }
            self.head += space;
            self.show();
            return Ok(());
        }
        if len as usize > self.frame_len_max {
            return Err(RecvError::Frame(FrameError::TooLong { len: len.into(), limit: self.frame_len_max }));
        }
        if space <= self.place.capacity() {
            // It would have come whole.
            return Err(broken);
        }
        self.long = Some(Box::new(Long { kind, len: len as usize, bytes: Vec::new() }));
        self.head += HEADER;
        Ok(())
    }

    /// Sees how far the writer is. Whether there is something that was not seen before.
    #[inline]
    fn look(&mut self) -> Result<bool, RecvError> {
        // Acquire: with the Release of `publish` at the writer's end: what it has written up to there is here.
        let tail = self.place.tail.load(Acquire);
        if tail == self.tail {
            return Ok(false);
        }
        if self.end.is_closed() && std::mem::replace(&mut self.is_final, true) {
            // A writer that does not mind goes on for ever.
            return Ok(false);
        }
        if !is_next(self.tail, tail, self.shown + self.place.capacity()) {
            return Err(RecvError::Io(written_over()));
        }
        if !self.pages.are_there(tail) {
            self.pages.take(tail, &self.place).map_err(RecvError::Io)?;
        }
        self.tail = tail;
        Ok(true)
    }

    /// Waits until the writer has gone on.
    fn wait(&mut self, until: Until) -> Result<(), RecvError> {
        // The writer may be waiting for just that. The word is asked, which tells of a leaked batch of an earlier owner
        // too. Relaxed: only this end stores it.
        if self.place.head.load(Relaxed) != self.head {
            self.show();
        }
        if self.is_final {
            return Err(self.gone());
        }
        let seen = self.tail;
        let outcome = bell::wait(
            &*self.place.tail,
            &*self.place.reader_bell,
            &*self.end,
            |tail| {
                // The line of the next frame comes beside that of the count, and not after it: 8 % of a dialogue.
                self.place.prefetch(seen);
                tail != seen
            },
            &mut until.nap(),
        );
        match outcome.map_err(RecvError::Io)? {
            Outcome::News => Ok(()),
            Outcome::TimedOut if matches!(until, Until::Now) => Err(RecvError::Empty),
            Outcome::TimedOut => Err(RecvError::Timeout),
            Outcome::Abandoned => Err(RecvError::Abandoned),
            Outcome::Gone => Err(self.gone()),
        }
    }

    #[cold]
    fn gone(&self) -> RecvError {
        match &self.long {
            Some(long) => RecvError::Truncated { missing: long.missing() },
            None => RecvError::Disconnected,
        }
    }

    /// Shows how far this end is, and wakes the writer if it sleeps.
    #[inline]
    fn show(&mut self) {
        self.shown = self.head;
        let word = bell::publish(&*self.place.head, self.head, &*self.place.writer_bell);
        if word & bell::ASLEEP != 0 {
            self.end.tell(word);
        }
    }

    /// Whether frames were read that it does not show.
    #[inline]
    fn is_behind(&self) -> bool {
        self.shown != self.head
    }

    /// A frame was read: shows that, in a batch only if it is much by now. The writer is to be at one part while this is
    /// at the next.
    #[inline]
    fn has_read(&mut self, in_batch: bool) {
        if !in_batch || self.head - self.shown >= self.place.capacity() / 4 {
            self.show();
        }
    }

    /// Takes the frame at the front. It is not shown yet.
    #[inline]
    fn take_front(&mut self, len: usize, into: &mut Vec<u8>) {
        if let Some(long) = self.long.take() {
            *into = long.bytes;
            return;
        }
        // What is in it is written over: only what is longer needs zeros.
        into.resize(len, 0);
        self.place.copy_out(self.head + HEADER, into);
        self.head += place::space(len as u32);
    }

    /// Copies bytes of the frame at the front, which has so many.
    #[inline]
    pub(super) fn copy_front(&self, offset: usize, bytes: &mut [u8]) {
        match &self.long {
            Some(long) => bytes.copy_from_slice(&long.bytes[offset..offset + bytes.len()]),
            None => self.place.copy_out(self.head + HEADER + offset as u64, bytes),
        }
    }

    /// Lets the frame at the front go.
    #[inline]
    pub(super) fn release_front(&mut self, len: usize, in_batch: bool) {
        if self.long.take().is_none() {
            self.head += place::space(len as u32);
            self.has_read(in_batch);
        }
    }

    /// As [`release_front`](Self::release_front), with what is in it.
    pub(super) fn take_out(&mut self, len: usize, in_batch: bool) -> Vec<u8> {
        // It is written over, and comes from the system as zeros if it is long. What is collected comes as it is.
        let mut bytes = if self.long.is_some() { Vec::new() } else { vec![0; len] };
        self.take_front(len, &mut bytes);
        self.has_read(in_batch);
        bytes
    }

    /// What travels: the end, all that was read, and what is here of a long frame.
    pub(super) fn state(&self) -> (&Arc<End>, u64, Option<&Long>) {
        (&self.end, self.head, self.long.as_deref())
    }
}

/// Ready when there is something to read, or nobody is left who could write.
impl Waitable for RingReader {
    fn readiness(&self) -> Readiness<'_> {
        // One that shows less than it has read is ready for a call that shows it: the writer may wait for that. Relaxed: only
        // this end stores it.
        if self.is_ready() || self.place.head.load(Relaxed) != self.head {
            return Readiness::Now;
        }
        match self.end.arm(|tail| tail != self.head) {
            Some((bell, word)) => Readiness::Word(bell, word),
            None => Readiness::Now,
        }
    }
}

impl Drop for RingReader {
    fn drop(&mut self) {
        self.end.leave();
    }
}

impl fmt::Debug for RingReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingReader")
            .field("capacity", &self.capacity())
            .field("read", &self.head)
            .field("moved", &self.end.is_moved())
            .finish_non_exhaustive()
    }
}
