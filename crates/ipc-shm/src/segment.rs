//! Bytes that processes share.

mod access;
mod make;
mod travel;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ipc_os::map::{Access, Mapping};
use ipc_os::names::posix;
use ipc_os::sigbus::Guarded;

use crate::SegmentError;

pub use make::Options;

/// A segment of bytes that processes share.
///
/// - **Anonymous** ([`new`](Self::new)): a memory file without a name, sealed so that nobody can change its length. It goes to
///   other processes in messages and as an argument of a process, and is gone with the last of them, however
///   they end.
/// - **Named** ([`create`](Self::create), [`open`](Self::open)): raw bytes at a POSIX name, which programs in other languages
///   open as well. The name and the memory stay until [`unlink`](Self::unlink): nobody counts its users.
///
/// Nothing is kept in the memory but what is written there: no header, no lock. Accesses by several processes at the
/// same time are copies that may mix; who needs more puts a lock beside it, or uses atomic words ([`ViewMut::atomic`]).
///
/// Clones are the same mapping. `Send` and `Sync`; a forked child has it, too.
///
/// ```
/// use ipc_shm::Segment;
/// let segment = Segment::new(1 << 20)?;
/// segment.write(4096, b"hello")?;
/// let mut bytes = [0; 5];
/// segment.clone().read_into(4096, &mut bytes)?;
/// assert_eq!(&bytes, b"hello");
/// assert_eq!(segment.get::<u32>(0)?, 0, "new memory is zero");
/// # Ok::<(), ipc_shm::SegmentError>(())
/// ```
///
/// [`ViewMut::atomic`]: crate::ViewMut::atomic
#[derive(Debug, Clone)]
pub struct Segment {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    memory: Memory,
    /// What travels. The memory is mapped through it: nothing is counted by this description.
    fd: Arc<OwnedFd>,
    name: Option<String>,
    /// The process that takes the name away when it drops this.
    unlinked_by: Option<u32>,
}

#[derive(Debug)]
enum Memory {
    /// Its length is sealed: no access can fault.
    Sealed(Mapping),
    /// Somebody could cut it short.
    Guarded(Guarded),
}

impl Segment {
    /// An anonymous segment of `len` bytes, all zero. Its pages are taken as they are touched, unless
    /// [`prefault`](Options::prefault) says otherwise.
    ///
    /// # Errors
    /// [`NoLength`](SegmentError::NoLength), [`NoSpace`](SegmentError::NoSpace), or [`Io`](SegmentError::Io): no
    /// descriptor left, usually.
    pub fn new(len: usize) -> Result<Self, SegmentError> {
        Self::options().anonymous(len)
    }

    /// Makes a named segment of `len` bytes, all zero and with memory behind all of them, for this user alone (mode
    /// 0600). Nobody finds it before it is ready.
    ///
    /// # Errors
    /// [`AlreadyExists`](SegmentError::AlreadyExists), [`BadName`](SegmentError::BadName),
    /// [`NoLength`](SegmentError::NoLength), [`NoSpace`](SegmentError::NoSpace), or [`Io`](SegmentError::Io).
    pub fn create(name: &str, len: usize) -> Result<Self, SegmentError> {
        Self::options().create(name, len)
    }

    /// Opens a named segment, of whatever length it is. The name may begin with a slash.
    ///
    /// # Errors
    /// [`NotFound`](SegmentError::NotFound), [`BadName`](SegmentError::BadName),
    /// [`PermissionDenied`](SegmentError::PermissionDenied), [`Io`](SegmentError::Io); and
    /// [`Unfinished`](SegmentError::Unfinished), if a quarter of a second has not given it a length: other programs
    /// make the name first.
    pub fn open(name: &str) -> Result<Self, SegmentError> {
        Self::options().open(name)
    }

    /// As [`open`](Self::open), for reading alone, as others may have allowed it.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub fn open_read_only(name: &str) -> Result<Self, SegmentError> {
        Self::options().open_read_only(name)
    }

    /// Opens a named segment, of whatever length it is, or makes one of `len` bytes. Of several processes that do this at
    /// once, one makes it.
    ///
    /// # Errors
    /// As of [`open`](Self::open) and [`create`](Self::create), but `NotFound` and `AlreadyExists`.
    pub fn open_or_create(name: &str, len: usize) -> Result<Self, SegmentError> {
        Self::options().open_or_create(name, len)
    }

    /// More than the usual ways to make or open a segment.
    pub fn options() -> Options {
        Options::default()
    }

    /// Takes a name away, as `shm_unlink(3)`, whoever has made it. All who have the segment keep it; the memory goes with
    /// the last of them.
    ///
    /// # Errors
    /// [`NotFound`](SegmentError::NotFound), [`BadName`](SegmentError::BadName), or
    /// [`PermissionDenied`](SegmentError::PermissionDenied).
    pub fn unlink_name(name: &str) -> Result<(), SegmentError> {
        posix::unlink(name).map_err(|error| SegmentError::of_name(error, name, 0))
    }

    /// Takes this segment's name away, if it still means this segment.
    ///
    /// # Errors
    /// [`NoName`](SegmentError::NoName) for an anonymous one, [`NotFound`](SegmentError::NotFound) if the name was taken
    /// away before or means another segment now, or [`PermissionDenied`](SegmentError::PermissionDenied).
    pub fn unlink(&self) -> Result<(), SegmentError> {
        self.inner.unlink()
    }

    /// How many bytes it has. More may have been added at its end since it was opened.
    pub fn len(&self) -> usize {
        self.inner.map().len()
    }

    /// Whether it has none: never.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its name, without the slash; `None` for an anonymous one.
    pub fn name(&self) -> Option<&str> {
        self.inner.name.as_deref()
    }

    /// Whether this handle may only read.
    pub fn is_read_only(&self) -> bool {
        self.inner.map().access() == Access::Read
    }

    /// Another handle of the same memory that may only read: a mapping and a descriptor of its own, both without
    /// the right to write. It stays so when it travels. This process must be allowed to open the memory again, and
    /// `/proc` must be mounted.
    ///
    /// What a peer who has it can do: not write by mistake; and not write at all, if it belongs to another user, since the
    /// memory file is this user's alone (0600). A process of the same user may open it again for writing, as it may also
    /// write into this process's own memory.
    ///
    /// # Errors
    /// [`PermissionDenied`](SegmentError::PermissionDenied) or [`Io`](SegmentError::Io).
    pub fn read_only(&self) -> Result<Self, SegmentError> {
        make::read_only(self)
    }

    /// Whether the memory has been there in every access so far.
    ///
    /// All that reads or writes here asks it already. Whoever uses atomic words or slices of a view asks it
    /// afterwards.
    ///
    /// # Errors
    /// [`Truncated`](SegmentError::Truncated), and so for ever.
    #[inline]
    pub fn check(&self) -> Result<(), SegmentError> {
        match &self.inner.memory {
            Memory::Guarded(map) if map.is_poisoned() => Err(SegmentError::Truncated),
            _ => Ok(()),
        }
    }

    /// The mapping.
    #[inline]
    pub(crate) fn map(&self) -> &Mapping {
        self.inner.map()
    }
}

/// The memory file, for `mmap(2)` by other means. Its length must not be changed.
impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.fd.as_fd()
    }
}

impl Inner {
    #[inline]
    fn map(&self) -> &Mapping {
        match &self.memory {
            Memory::Sealed(map) => map,
            Memory::Guarded(map) => map,
        }
    }

    fn unlink(&self) -> Result<(), SegmentError> {
        let name = self.name.as_deref().ok_or(SegmentError::NoName)?;
        let of_name = |error| SegmentError::of_name(error, name, 0);
        if !posix::means(name, &*self.fd).map_err(of_name)? {
            return Err(SegmentError::NotFound { name: name.to_owned() });
        }
        posix::unlink(name).map_err(of_name)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A forked child has not made it.
        if self.unlinked_by == Some(std::process::id()) {
            let _gone_before = self.unlink();
        }
    }
}
