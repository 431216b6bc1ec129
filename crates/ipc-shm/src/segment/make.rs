//! How segments are made and opened.

use std::fs::{File, Permissions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_os::map::{Access, Mapping};
use ipc_os::memfd;
use ipc_os::names::{NameError, posix};
use ipc_os::sigbus::Guarded;

use super::{Inner, Memory, Segment};
use crate::SegmentError;

/// How long a name without a length is waited for: other programs make the name first.
const PATIENCE: Duration = Duration::from_millis(250);

/// What more there is to say when a segment is made or opened.
///
/// ```
/// use ipc_shm::Segment;
/// let name = format!("options-{}", std::process::id());
/// let segment = Segment::options().prefault(true).unlink_on_drop(true).create(&name, 4096)?;
/// assert_eq!(segment.name(), Some(&*name));
/// drop(segment);
/// assert!(Segment::open(&name).is_err());
/// # Ok::<(), ipc_shm::SegmentError>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is made before one of the last four calls"]
pub struct Options {
    prefault: bool,
    unlink_on_drop: bool,
}

impl Options {
    /// Makes all pages present at once, in this process, instead of at their first touch. Costs about half a
    /// millisecond for each megabyte of new memory; what is read or written later then never waits for a page.
    pub fn prefault(mut self, on: bool) -> Self {
        self.prefault = on;
        self
    }

    /// Takes the name of a named segment away when this process drops the last clone of this handle, if the name then
    /// still means it. For a process that is killed nobody does: that is what anonymous segments are for.
    pub fn unlink_on_drop(mut self, on: bool) -> Self {
        self.unlink_on_drop = on;
        self
    }

    /// [`Segment::new`].
    ///
    /// # Errors
    /// As of [`Segment::new`].
    pub fn anonymous(&self, len: usize) -> Result<Segment, SegmentError> {
        if len == 0 {
            return Err(SegmentError::NoLength);
        }
        let of_io = |error| SegmentError::of_io(error, len);
        let file = File::from(memfd::shared("ipc-segment", len).map_err(of_io)?);
        // Anybody may open a memory file again that he has a descriptor of, as its mode allows: 0777, if nothing is done.
        file.set_permissions(Permissions::from_mode(0o600))?;
        let map = Mapping::new(&file, len, Access::ReadWrite).map_err(of_io)?;
        self.finish(Memory::Sealed(map), file.into(), None)
    }

    /// [`Segment::create`].
    ///
    /// # Errors
    /// As of [`Segment::create`].
    pub fn create(&self, name: &str, len: usize) -> Result<Segment, SegmentError> {
        if len == 0 {
            return Err(SegmentError::NoLength);
        }
        let file =
            posix::create(name, len as u64).map_err(|error| SegmentError::of_name(error, name, len))?;
        let memory = guarded(&file, len, Access::ReadWrite);
        // What nobody would know of must not stay.
        let memory = memory.inspect_err(|_| {
            let _left_behind = posix::unlink(name);
        })?;
        self.finish(memory, file, Some(name))
    }

    /// [`Segment::open`].
    ///
    /// # Errors
    /// As of [`Segment::open`].
    pub fn open(&self, name: &str) -> Result<Segment, SegmentError> {
        self.open_for(name, Access::ReadWrite)
    }

    /// [`Segment::open_read_only`].
    ///
    /// # Errors
    /// As of [`Segment::open`].
    pub fn open_read_only(&self, name: &str) -> Result<Segment, SegmentError> {
        self.open_for(name, Access::Read)
    }

    /// [`Segment::open_or_create`].
    ///
    /// # Errors
    /// As of [`Segment::open_or_create`].
    pub fn open_or_create(&self, name: &str, len: usize) -> Result<Segment, SegmentError> {
        // Whoever makes and unlinks it in a loop does not keep this one from going on for ever.
        let start = Instant::now();
        loop {
            let again = match self.open(name) {
                Err(SegmentError::NotFound { .. }) => match self.create(name, len) {
                    Err(again @ SegmentError::AlreadyExists { .. }) => again,
                    done => return done,
                },
                done => return done,
            };
            if start.elapsed() > PATIENCE {
                return Err(again);
            }
        }
    }

    fn open_for(&self, name: &str, access: Access) -> Result<Segment, SegmentError> {
        let start = Instant::now();
        loop {
            let file = posix::open(name, access == Access::ReadWrite).map_err(|error| match error {
                // No regular file, or a link.
                NameError::WrongOwner { .. } => SegmentError::BadName { name: name.to_owned() },
                error => SegmentError::of_name(error, name, 0),
            })?;
            let len = len_of(&file)?;
            if len > 0 {
                return self.finish(guarded(&file, len, access)?, file, Some(name));
            }
            if start.elapsed() > PATIENCE {
                return Err(SegmentError::Unfinished { name: name.to_owned() });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn finish(&self, memory: Memory, file: OwnedFd, name: Option<&str>) -> Result<Segment, SegmentError> {
        let name = name.map(|name| name.strip_prefix('/').unwrap_or(name).to_owned());
        let unlinked_by = (self.unlink_on_drop && name.is_some()).then(std::process::id);
        let segment = Segment { inner: Arc::new(Inner { memory, fd: Arc::new(file), name, unlinked_by }) };
        if self.prefault {
            let map = segment.map();
            map.prefault().map_err(|error| SegmentError::of_io(error, map.len()))?;
            segment.check()?;
        }
        Ok(segment)
    }
}

/// See [`Segment::read_only`].
pub(super) fn read_only(segment: &Segment) -> Result<Segment, SegmentError> {
    let len = segment.len();
    let of_io = |error| SegmentError::of_io(error, len);
    // A description that cannot write, whatever is done with it.
    let again = File::open(format!("/proc/self/fd/{}", segment.as_fd().as_raw_fd())).map_err(of_io)?;
    let memory = match &segment.inner.memory {
        Memory::Sealed(_) => Memory::Sealed(Mapping::new(&again, len, Access::Read).map_err(of_io)?),
        Memory::Guarded(_) => guarded(&again, len, Access::Read)?,
    };
    let inner =
        Inner { memory, fd: Arc::new(again.into()), name: segment.inner.name.clone(), unlinked_by: None };
    Ok(Segment { inner: Arc::new(inner) })
}

/// Maps what somebody could cut short.
pub(super) fn guarded(file: impl AsFd, len: usize, access: Access) -> Result<Memory, SegmentError> {
    let map = Mapping::new(file, len, access).map_err(|error| SegmentError::of_io(error, len))?;
    Ok(Memory::Guarded(Guarded::new(map)?))
}

/// How long a file is now.
pub(super) fn len_of(file: impl AsFd) -> Result<usize, SegmentError> {
    let len = ipc_os::fd::len(file)?;
    usize::try_from(len).map_err(|_| SegmentError::Io(std::io::ErrorKind::FileTooLarge.into()))
}
