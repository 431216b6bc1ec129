//! A part of a segment, as so many values of a type.
//!
//! Other processes may write there at any time, so there is no reference to the values: they are copied in and out, or
//! are atomic words. References are there for those who know that nobody interferes, and are `unsafe`.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::{Plain, Segment, SegmentError};

/// So many values of a type in a segment. It borrows the segment, and can be copied.
///
/// ```
/// use ipc_shm::Segment;
/// let segment = Segment::new(4096)?;
/// let samples = segment.view_mut::<f64>(64, 100)?;
/// samples.set(7, &0.5)?;
/// samples.subview(50..60)?.copy_from(&[1.5; 10])?;
/// let mut copy = [0.0; 100];
/// segment.view::<f64>(64, 100)?.copy_to(&mut copy)?;
/// assert_eq!((copy[7], copy[50], copy[60]), (0.5, 1.5, 0.0));
/// # Ok::<(), ipc_shm::SegmentError>(())
/// ```
pub struct View<'a, T> {
    segment: &'a Segment,
    offset: usize,
    count: usize,
    values: PhantomData<T>,
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for View<'_, T> {}

impl<T> fmt::Debug for View<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("offset", &self.offset).field("len", &self.count).finish_non_exhaustive()
    }
}

impl<'a, T: Plain> View<'a, T> {
    pub(crate) fn new(segment: &'a Segment, offset: usize, count: usize) -> Result<Self, SegmentError> {
        let len = count.saturating_mul(size_of::<T>());
        let is_within = offset.checked_add(len).is_some_and(|end| end <= segment.len());
        // A mapping begins at a page, and no type is aligned to more.
        const { assert!(align_of::<T>() <= 4096, "aligned to more than a page") };
        if !is_within || !offset.is_multiple_of(align_of::<T>()) {
            return Err(segment.outside(offset, len));
        }
        Ok(View { segment, offset, count, values: PhantomData })
    }

    /// How many values there are.
    pub fn len(self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// A copy of one value.
    ///
    /// # Errors
    /// As of [`Segment::get`].
    #[inline]
    pub fn get(self, index: usize) -> Result<T, SegmentError> {
        self.segment.get(self.place(index, 1)?)
    }

    /// Copies all values out, into as many.
    ///
    /// # Errors
    /// As of [`Segment::read_slice`]; [`OutOfBounds`](SegmentError::OutOfBounds) if `values` has another length.
    pub fn copy_to(self, values: &mut [T]) -> Result<(), SegmentError> {
        self.same_len(values.len())?;
        self.segment.read_slice(self.offset, values)
    }

    /// A view of some of the values.
    ///
    /// # Errors
    /// [`OutOfBounds`](SegmentError::OutOfBounds).
    pub fn subview(self, range: Range<usize>) -> Result<Self, SegmentError> {
        let count = range.end.checked_sub(range.start).ok_or_else(|| self.outside(range.start, 0))?;
        Ok(View { offset: self.place(range.start, count)?, count, ..self })
    }

    /// The values themselves.
    ///
    /// # Safety
    /// As long as the slice is there, and however the compiler moves what is done with it:
    /// - No process and no thread writes to these bytes, not through an atomic word either. That is for the *other*
    ///   processes to keep, so all of them must be trusted, or unable to write.
    /// - Nobody cuts the segment short: what lies there would change to zeros. With an anonymous segment nobody can.
    pub unsafe fn as_slice(self) -> &'a [T] {
        // SAFETY: within the mapping, which the segment keeps for longer than 'a; aligned, as was checked when the view was
        // made, of a base that is aligned to a page.
        let first = unsafe { self.segment.map().as_ptr().add(self.offset) }.cast::<T>();
        // SAFETY: so many values are within the mapping, as was checked; any bytes are a value, and that they
        // stay as they are the caller promises.
        unsafe { std::slice::from_raw_parts(first, self.count) }
    }

    fn place(self, index: usize, count: usize) -> Result<usize, SegmentError> {
        match index.checked_add(count) {
            Some(end) if end <= self.count => Ok(self.offset + index * size_of::<T>()),
            _ => Err(self.outside(index, count)),
        }
    }

    fn same_len(self, count: usize) -> Result<(), SegmentError> {
        if count == self.count { Ok(()) } else { Err(self.outside(0, count)) }
    }

    /// In bytes from the view's beginning.
    #[cold]
    fn outside(self, index: usize, count: usize) -> SegmentError {
        let bytes = |count: usize| count.saturating_mul(size_of::<T>());
        SegmentError::OutOfBounds { offset: bytes(index), len: bytes(count), within: bytes(self.count) }
    }
}

/// A [`View`] through which the values can be changed: by copies, or as atomic words. Others may do the same, here and in
/// other processes: it is no exclusive access.
pub struct ViewMut<'a, T> {
    view: View<'a, T>,
}

impl<T> Clone for ViewMut<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ViewMut<'_, T> {}

impl<T> fmt::Debug for ViewMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.fmt(f)
    }
}

/// All that a view for reading can do.
impl<'a, T> Deref for ViewMut<'a, T> {
    type Target = View<'a, T>;
    fn deref(&self) -> &View<'a, T> {
        &self.view
    }
}

impl<'a, T: Plain> ViewMut<'a, T> {
    /// Of a segment that may be written.
    pub(crate) fn new(view: View<'a, T>) -> Self {
        ViewMut { view }
    }

    /// Sets one value.
    ///
    /// # Errors
    /// As of [`Segment::write`].
    #[inline]
    pub fn set(self, index: usize, value: &T) -> Result<(), SegmentError> {
        self.view.segment.set(self.view.place(index, 1)?, value)
    }

    /// Copies all values in, from as many.
    ///
    /// # Errors
    /// As of [`Segment::write`]; [`OutOfBounds`](SegmentError::OutOfBounds) if `values` has another length.
    pub fn copy_from(self, values: &[T]) -> Result<(), SegmentError> {
        self.view.same_len(values.len())?;
        self.view.segment.write_slice(self.view.offset, values)
    }

    /// A view of some of the values.
    ///
    /// # Errors
    /// [`OutOfBounds`](SegmentError::OutOfBounds).
    pub fn subview(self, range: Range<usize>) -> Result<Self, SegmentError> {
        Ok(ViewMut { view: self.view.subview(range)? })
    }

    /// The values themselves, to be changed.
    ///
    /// # Safety
    /// As of [`View::as_slice`]; and as long as the slice is there, no process and no thread so much as *reads* these
    /// bytes in another way: not through another slice, a copy or an atomic word.
    pub unsafe fn as_mut_slice(self) -> &'a mut [T] {
        // SAFETY: within the mapping, which the segment keeps for longer than 'a, and which is writable; aligned.
        let first = unsafe { self.view.segment.map().as_ptr().add(self.view.offset) }.cast::<T>();
        // SAFETY: so many values are within the mapping; any bytes are a value; that they are nobody
        // else's the caller promises.
        unsafe { std::slice::from_raw_parts_mut(first, self.view.count) }
    }
}

impl View<'_, u64> {
    /// Reads one word at once: all of it as one process has written it at once.
    ///
    /// # Errors
    /// [`OutOfBounds`](SegmentError::OutOfBounds) or [`Truncated`](SegmentError::Truncated).
    ///
    /// # Panics
    /// As of [`AtomicU64::load`], with an order that is none for reading.
    #[inline]
    pub fn load(self, index: usize, order: Ordering) -> Result<u64, SegmentError> {
        let place = self.place(index, 1)?;
        let word = self.segment.map().u64(place).map_err(|_| self.outside(index, 1))?.load(order);
        self.segment.check()?;
        Ok(word)
    }
}

impl View<'_, u32> {
    /// Reads one word at once: all of it as one process has written it at once.
    ///
    /// # Errors
    /// [`OutOfBounds`](SegmentError::OutOfBounds) or [`Truncated`](SegmentError::Truncated).
    ///
    /// # Panics
    /// As of [`AtomicU32::load`], with an order that is none for reading.
    #[inline]
    pub fn load(self, index: usize, order: Ordering) -> Result<u32, SegmentError> {
        let place = self.place(index, 1)?;
        let word = self.segment.map().u32(place).map_err(|_| self.outside(index, 1))?.load(order);
        self.segment.check()?;
        Ok(word)
    }
}

impl<'a> ViewMut<'a, u64> {
    /// One word, for atomic operations of all kinds. In a named segment, what it gives may be nothing but zeros once
    /// somebody has cut that short: [`Segment::check`], afterwards.
    ///
    /// # Errors
    /// [`OutOfBounds`](SegmentError::OutOfBounds).
    #[inline]
    pub fn atomic(self, index: usize) -> Result<&'a AtomicU64, SegmentError> {
        let place = self.view.place(index, 1)?;
        self.view.segment.map().u64(place).map_err(|_| self.view.outside(index, 1))
    }
}

impl<'a> ViewMut<'a, u32> {
    /// One word, for atomic operations of all kinds. In a named segment, what it gives may be nothing but zeros once
    /// somebody has cut that short: [`Segment::check`], afterwards.
    ///
    /// # Errors
    /// [`OutOfBounds`](SegmentError::OutOfBounds).
    #[inline]
    pub fn atomic(self, index: usize) -> Result<&'a AtomicU32, SegmentError> {
        let place = self.view.place(index, 1)?;
        self.view.segment.map().u32(place).map_err(|_| self.view.outside(index, 1))
    }
}
