//! Memory that processes share, and how to touch it without trusting them.
//!
//! No reference to plain data is ever formed over a [`Mapping`]: there are atomic words, and copies in and out. The
//! copies are made by code that the compiler cannot look into, so it can neither read a byte twice where the source
//! reads it once, nor assume that it stays. Whoever reads what another process may write at the same time gets some
//! mixture of bytes, and decides what to make of them.

use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

/// How addresses are kept that nothing is mapped at.
const RESERVE: MapFlags = MapFlags::PRIVATE.union(MapFlags::NORESERVE);

/// What a mapping may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading alone. Words must not be changed: the kernel would end the process.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// A shared mapping of a whole file (`MAP_SHARED`), unmapped when it is dropped. It may be used from all threads.
///
/// The file must keep its length as long as it is mapped: sealed, or with [`sigbus::Guarded`](crate::sigbus) around
/// it.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    access: Access,
    /// Its addresses are never used for anything else but such mappings.
    reserved: bool,
}

/// Address ranges of reserved mappings that were dropped: inaccessible, to be used again.
static RESERVED: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

// SAFETY: the memory belongs to no thread; it is only touched by atomic words and by copies that may race, which are made
// outside of the language's memory model.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// A place outside of the mapping, or a misaligned one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfBounds;

impl std::fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a place outside of the shared memory, or not aligned")
    }
}

impl std::error::Error for OutOfBounds {}

impl From<OutOfBounds> for io::Error {
    fn from(error: OutOfBounds) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

impl Mapping {
    /// Maps the first `len` bytes of a file, which must have as many. The mapping keeps the open file description
    /// alive, and with it the locks that were taken through it.
    ///
    /// # Errors
    /// `InvalidInput` for no bytes, else what `mmap(2)` reports.
    pub fn new(fd: impl AsFd, len: usize, access: Access) -> io::Result<Self> {
        let protection = match access {
            Access::Read => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe { mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, fd, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Mapping { base, len, access, reserved: false })
    }

    /// As [`new`](Self::new) for reading and writing, at addresses where nothing but such mappings will ever be, even
    /// after it is dropped: for words that somebody may keep the address of, as the kernel does that of
    /// [`robust::Pending`](crate::robust::Pending). A dropped one costs its addresses until the next one of its
    /// length, and no memory.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn new_reserved(fd: impl AsFd, len: usize) -> io::Result<Self> {
        let mut kept = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.iter().position(|(_, of)| *of == len).map(|index| kept.swap_remove(index).0);
        drop(kept);
        let base = match known {
            Some(base) => std::ptr::with_exposed_provenance_mut(base),
            // SAFETY: a new mapping, at an address that the kernel chooses.
            None => unsafe { mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::empty(), RESERVE) }?,
        };
        // SAFETY: replaces a range that belongs to nobody but this function.
        let mapped = unsafe {
            mmap(base, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::FIXED, fd, 0)
        };
        let reserved = Mapping {
            base: NonNull::new(base.cast()).ok_or(io::ErrorKind::InvalidInput)?,
            len,
            access: Access::ReadWrite,
            reserved: true,
        };
        // With an error, dropping it gives the range back.
        mapped?;
        Ok(reserved)
    }

    /// How many bytes are mapped.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none are: never.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it may be used for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Where it begins. What lies there may change at any time: to be passed to system calls, and read through by
    /// nothing but raw copies.
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// A forked child is not to have it.
    ///
    /// # Errors
    /// What `madvise(2)` reports.
    pub fn do_not_fork(&self) -> io::Result<()> {
        // SAFETY: the whole of a mapping that is ours; a child that touches it ends, which is said.
        unsafe { madvise(self.base.as_ptr().cast(), self.len, Advice::LinuxDontFork) }?;
        Ok(())
    }

    /// Makes all pages present now, so that no first touch pays for it later.
    ///
    /// # Errors
    /// What `madvise(2)` reports; before Linux 5.14 it has no such advice, and each page is touched instead.
    pub fn prefault(&self) -> io::Result<()> {
        let advice = match self.access {
            Access::Read => libc::MADV_POPULATE_READ,
            Access::ReadWrite => libc::MADV_POPULATE_WRITE,
        };
        // SAFETY: the whole of a mapping that is ours; the advice changes no content.
        let done = unsafe { libc::madvise(self.base.as_ptr().cast(), self.len, advice) };
        if done == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
        let mut byte = [0];
        (0..self.len).step_by(4096).try_for_each(|at| self.read(at, &mut byte))?;
        Ok(())
    }

    fn at(&self, offset: usize, len: usize, align: usize) -> Result<NonNull<u8>, OutOfBounds> {
        let end = offset.checked_add(len).ok_or(OutOfBounds)?;
        // The base is aligned to a page.
        if end > self.len || !offset.is_multiple_of(align) {
            return Err(OutOfBounds);
        }
        // SAFETY: `offset` is within the mapping, or one behind it.
        Ok(unsafe { self.base.add(offset) })
    }

    /// The word of 32 bits at a byte offset.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    #[inline]
    pub fn u32(&self, offset: usize) -> Result<&AtomicU32, OutOfBounds> {
        let word = self.at(offset, 4, 4)?;
        // SAFETY: aligned, within the mapping, which lives as long as `self`; every process uses it atomically.
        Ok(unsafe { word.cast::<AtomicU32>().as_ref() })
    }

    /// The word of 64 bits at a byte offset.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    #[inline]
    pub fn u64(&self, offset: usize) -> Result<&AtomicU64, OutOfBounds> {
        let word = self.at(offset, 8, 8)?;
        // SAFETY: as for 32 bits.
        Ok(unsafe { word.cast::<AtomicU64>().as_ref() })
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// [`OutOfBounds`], and nothing is copied.
    #[inline]
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), OutOfBounds> {
        let from = self.at(offset, bytes.len(), 1)?;
        // SAFETY: both ranges are valid for their length; a private buffer does not overlap a shared mapping.
        unsafe { copy(from.as_ptr(), bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// [`OutOfBounds`], also for a mapping that may only be read, and nothing is copied.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let to = self.at(offset, bytes.len(), 1)?;
        if self.access != Access::ReadWrite {
            return Err(OutOfBounds);
        }
        // SAFETY: as for reading, and the mapping is writable.
        unsafe { copy(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Has the cache line there brought here, to be read soon: a hint.
    #[inline]
    pub fn prefetch(&self, offset: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Ok(at) = self.at(offset, 1, 1) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch has no effect on memory, and the address is inside of the mapping.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.as_ptr().cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }

    /// Has the cache line there brought here, to be written soon: a hint, which takes it away from others.
    #[inline]
    pub fn prefetch_for_write(&self, offset: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Ok(at) = self.at(offset, 1, 1) {
            use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            // SAFETY: as for reading.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(at.as_ptr().cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = offset;
    }

    /// A word of 64 bits that keeps the mapping alive, for paths where a check at each use would be felt.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn word64(self: &Arc<Self>, offset: usize) -> Result<Word64, OutOfBounds> {
        let word = NonNull::from(self.u64(offset)?);
        Ok(Word { word, _mapping: Arc::clone(self) })
    }

    /// As [`word64`](Self::word64) for 32 bits.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn word32(self: &Arc<Self>, offset: usize) -> Result<Word32, OutOfBounds> {
        let word = NonNull::from(self.u32(offset)?);
        Ok(Word { word, _mapping: Arc::clone(self) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.reserved {
            // SAFETY: the whole of a mapping that is ours is replaced by nothing, in one step: no other thread's
            // mapping can get in between.
            let _ignored = unsafe {
                mmap_anonymous(
                    self.base.as_ptr().cast(),
                    self.len,
                    ProtFlags::empty(),
                    RESERVE | MapFlags::FIXED,
                )
            };
            let mut kept = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
            return kept.push((self.base.as_ptr().expose_provenance(), self.len));
        }
        // SAFETY: the whole of a mapping that is ours; every reference into it borrows from `self` or keeps it alive.
        let _cannot_fail = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// An atomic word in a [`Mapping`] that lives as long as this does.
#[derive(Debug)]
pub struct Word<A> {
    word: NonNull<A>,
    _mapping: Arc<Mapping>,
}

/// A word of 32 bits that keeps its mapping.
pub type Word32 = Word<AtomicU32>;
/// A word of 64 bits that keeps its mapping.
pub type Word64 = Word<AtomicU64>;

// SAFETY: an atomic in memory that belongs to no thread.
unsafe impl<A: Sync> Send for Word<A> {}
// SAFETY: as above.
unsafe impl<A: Sync> Sync for Word<A> {}

impl<A> Clone for Word<A> {
    fn clone(&self) -> Self {
        Word { word: self.word, _mapping: Arc::clone(&self._mapping) }
    }
}

impl<A> Deref for Word<A> {
    type Target = A;
    #[inline]
    fn deref(&self) -> &A {
        // SAFETY: it was a valid reference when this was made, and the mapping is kept.
        unsafe { self.word.as_ref() }
    }
}

/// So many bytes are copied with a call at most. For more than a core's own cache holds, the C library changes to a way
/// of copying that is made for memory that nobody else has; in pieces, a mebibyte goes 10 to 17 % faster to another core.
const PIECE: usize = 64 * 1024;

/// `memcpy` as a call into the dark: the compiler does not know what it calls, and so neither merges, repeats nor
/// leaves out accesses to memory that somebody else may be writing.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes, and they do not overlap.
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    type Copy = unsafe extern "C" fn(*mut libc::c_void, *const libc::c_void, usize) -> *mut libc::c_void;
    let copy: Copy = std::hint::black_box(libc::memcpy as Copy);
    let mut done = 0;
    while len - done > PIECE {
        // SAFETY: as the caller promises: the piece is a part of both.
        unsafe { copy(to.wrapping_add(done).cast(), from.wrapping_add(done).cast(), PIECE) };
        done += PIECE;
    }
    // SAFETY: as the caller promises.
    unsafe { copy(to.wrapping_add(done).cast(), from.wrapping_add(done).cast(), len - done) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memfd;
    use std::sync::atomic::Ordering;

    fn two() -> (Arc<Mapping>, Arc<Mapping>) {
        let fd = memfd::shared("t", 8192).unwrap();
        let map = || Arc::new(Mapping::new(&fd, 8192, Access::ReadWrite).unwrap());
        (map(), map())
    }

    #[test]
    fn two_mappings_of_a_file_are_the_same_memory() {
        let (a, b) = two();
        a.write(8191, b"x").unwrap();
        let mut byte = [0];
        b.read(8191, &mut byte).unwrap();
        assert_eq!(byte, *b"x");
        a.u64(16).unwrap().store(0x1_0000_0002, Ordering::Relaxed);
        assert_eq!(b.u32(16).unwrap().load(Ordering::Relaxed), 2);
        let word = b.word64(16).unwrap();
        drop(b);
        assert_eq!(word.fetch_add(1, Ordering::Relaxed), 0x1_0000_0002);
    }

    #[test]
    fn reserved_addresses_are_used_again() {
        let fd = memfd::shared("t", 12_288).unwrap();
        let first = Mapping::new_reserved(&fd, 12_288).unwrap();
        let address = first.as_ptr();
        first.write(0, b"x").unwrap();
        drop(first);
        let other = Mapping::new(&fd, 12_288, Access::Read).unwrap();
        assert_ne!(other.as_ptr(), address);
        let second = Mapping::new_reserved(&fd, 12_288).unwrap();
        assert_eq!(second.as_ptr(), address);
        let mut byte = [0];
        second.read(0, &mut byte).unwrap();
        assert_eq!(byte, *b"x");
        assert!(Mapping::new_reserved(std::fs::File::open("/dev/null").unwrap(), 12_288).is_err());
    }

    #[test]
    fn nothing_outside_is_touched() {
        let (a, _) = two();
        assert!(a.u32(8189).is_err() && a.u32(8192).is_err() && a.u32(2).is_err() && a.u32(8188).is_ok());
        assert!(a.u64(8188).is_err() && a.u64(4).is_err() && a.u64(usize::MAX - 7).is_err());
        assert!(a.read(8190, &mut [0; 3]).is_err() && a.write(usize::MAX, &[1, 2]).is_err());
        assert!(a.read(8192, &mut []).is_ok());
    }

    #[test]
    fn what_is_only_readable_is_not_written() {
        let fd = memfd::shared("t", 4096).unwrap();
        let map = Mapping::new(&fd, 4096, Access::Read).unwrap();
        assert_eq!(map.write(0, b"x"), Err(OutOfBounds));
        map.prefault().unwrap();
        assert!(Mapping::new(&fd, 0, Access::Read).is_err());
    }
}
