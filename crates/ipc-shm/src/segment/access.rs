//! Bytes and values in and out of a segment.

use ipc_os::map::OutOfBounds;
use zerocopy::IntoBytes;

use super::Segment;
use crate::view::{View, ViewMut};
use crate::{Plain, SegmentError};

/// How many bytes are set at a time.
const STAGE: usize = 4096;

impl Segment {
    /// Copies bytes out.
    ///
    /// # Errors
    /// [`OutOfBounds`](SegmentError::OutOfBounds), and nothing is copied; or [`Truncated`](SegmentError::Truncated), and
    /// what was copied is worth nothing.
    #[inline]
    pub fn read_into(&self, offset: usize, bytes: &mut [u8]) -> Result<(), SegmentError> {
        let len = bytes.len();
        self.map().read(offset, bytes).map_err(|OutOfBounds| self.outside(offset, len))?;
        self.check()
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// [`OutOfBounds`](SegmentError::OutOfBounds) or [`ReadOnly`](SegmentError::ReadOnly), and nothing is copied; or
    /// [`Truncated`](SegmentError::Truncated), and others may see none of it.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), SegmentError> {
        self.map().write(offset, bytes).map_err(|OutOfBounds| self.not_written(offset, bytes.len()))?;
        self.check()
    }

    /// Sets `len` bytes to one value.
    ///
    /// # Errors
    /// As of [`write`](Self::write).
    pub fn fill(&self, offset: usize, len: usize, byte: u8) -> Result<(), SegmentError> {
        if self.is_read_only() || offset.checked_add(len).is_none_or(|end| end > self.len()) {
            return Err(self.not_written(offset, len));
        }
        let stage = [byte; STAGE];
        (0..len).step_by(STAGE).try_for_each(|at| self.write(offset + at, &stage[..STAGE.min(len - at)]))
    }

    /// The value at a place: a private copy, which another process cannot change any more. The place need not be aligned.
    ///
    /// # Errors
    /// As of [`read_into`](Self::read_into).
    #[inline]
    pub fn get<T: Plain>(&self, offset: usize) -> Result<T, SegmentError> {
        let mut value = T::new_zeroed();
        self.read_into(offset, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Puts a value at a place, which need not be aligned.
    ///
    /// # Errors
    /// As of [`write`](Self::write).
    #[inline]
    pub fn set<T: Plain>(&self, offset: usize, value: &T) -> Result<(), SegmentError> {
        self.write(offset, value.as_bytes())
    }

    /// Copies values out. The place need not be aligned.
    ///
    /// # Errors
    /// As of [`read_into`](Self::read_into).
    #[inline]
    pub fn read_slice<T: Plain>(&self, offset: usize, values: &mut [T]) -> Result<(), SegmentError> {
        self.read_into(offset, values.as_mut_bytes())
    }

    /// Copies values in. The place need not be aligned.
    ///
    /// # Errors
    /// As of [`write`](Self::write).
    #[inline]
    pub fn write_slice<T: Plain>(&self, offset: usize, values: &[T]) -> Result<(), SegmentError> {
        self.write(offset, values.as_bytes())
    }

    /// A view of `count` values from a place on, which must be aligned for them.
    ///
    /// # Errors
    /// [`OutOfBounds`](SegmentError::OutOfBounds).
    pub fn view<T: Plain>(&self, offset: usize, count: usize) -> Result<View<'_, T>, SegmentError> {
        View::new(self, offset, count)
    }

    /// A view of `count` values from a place on, which must be aligned for them, through which they can be changed.
    /// There may be any number of them: this memory is shared in any case.
    ///
    /// # Errors
    /// [`OutOfBounds`](SegmentError::OutOfBounds) or [`ReadOnly`](SegmentError::ReadOnly).
    pub fn view_mut<T: Plain>(&self, offset: usize, count: usize) -> Result<ViewMut<'_, T>, SegmentError> {
        if self.is_read_only() {
            return Err(SegmentError::ReadOnly);
        }
        Ok(ViewMut::new(View::new(self, offset, count)?))
    }

    #[cold]
    pub(crate) fn outside(&self, offset: usize, len: usize) -> SegmentError {
        SegmentError::OutOfBounds { offset, len, within: self.len() }
    }

    #[cold]
    fn not_written(&self, offset: usize, len: usize) -> SegmentError {
        if self.is_read_only() { SegmentError::ReadOnly } else { self.outside(offset, len) }
    }
}
