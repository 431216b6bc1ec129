//! The directory that named files lie in, and the steps that change what is there.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, FileType, Mode as FileMode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::{NameError, REMOVAL, USERS};
use crate::ofd::{self, Mode};

/// How many entries each `create` and `open` looks at. Each one costs about five microseconds.
const SWEPT: usize = 4;

/// An open directory of this user's own.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    /// Files without a name can be made there.
    pub(super) has_unnamed: bool,
}

/// What is under a name.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing, or no more: what nobody used has been removed.
    Nothing,
    /// A file that is used.
    Used(OwnedFd),
    /// A file that somebody is removing just now: look again.
    Going,
}

impl Directory {
    /// That of this user.
    pub(super) fn of_user() -> Result<Self, NameError> {
        Self::within(&super::base())
    }

    /// That of this user in `base`, which is made if it is not there.
    pub(super) fn within(base: &Path) -> Result<Self, NameError> {
        let path = base.join(format!("ipc-{}", rustix::process::geteuid().as_raw()));
        if !path.is_absolute() {
            return Err(NameError::NoDirectory { path, source: io::ErrorKind::InvalidInput.into() });
        }
        match Self::reopen(&path) {
            Err(NameError::NoDirectory { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
        match rustix::fs::mkdir(&path, FileMode::RWXU) {
            // Somebody else was quicker.
            Ok(()) | Err(Errno::EXIST) => Self::reopen(&path),
            Err(error) => Err(NameError::NoDirectory { path, source: error.into() }),
        }
    }

    /// The directory of that path, if it is this user's alone.
    pub(super) fn reopen(path: &Path) -> Result<Self, NameError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let wrong_owner = || NameError::WrongOwner { path: path.to_owned() };
        let fd = rustix::fs::open(path, flags, FileMode::empty()).map_err(|error| match error {
            // A link, or no directory; one of somebody else's that we may not enter.
            Errno::LOOP | Errno::NOTDIR | Errno::ACCESS => wrong_owner(),
            error => NameError::NoDirectory { path: path.to_owned(), source: error.into() },
        })?;
        let stat = rustix::fs::fstat(&fd).map_err(io::Error::from)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            return Err(wrong_owner());
        }
        Ok(Directory { fd, path: path.to_owned(), has_unnamed: true })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is under the name. `join`: a file that is used is returned locked for reading, through the description that
    /// is returned; its caller is a user from then on.
    pub(super) fn find(&self, name: &str, join: bool) -> Result<Found, NameError> {
        let Some(file) = self.open_file(name)? else { return Ok(Found::Nothing) };
        if ofd::try_lock(&file, USERS, Mode::Write)? {
            // Nobody uses it, and nobody can begin to while this lock is held.
            let removed = self.unlink(name, &file)?;
            return Ok(if removed == Some(true) { Found::Nothing } else { Found::Going });
        }
        // Who does not want to be a user must not look like one either, not for a moment: another process would take a
        // file for used that nobody uses. So it only asks.
        let is_used = if join {
            ofd::try_lock(&file, USERS, Mode::Read)?
        } else {
            !ofd::is_held_elsewhere(&file, USERS, Mode::Read)?
        };
        // Whoever was in the way of the first lock may have been somebody who removed it, before the second one. From now on
        // it is removed on purpose only.
        Ok(if is_used && self.means(name, &file)? { Found::Used(file) } else { Found::Going })
    }

    /// Removes the file if nobody uses it; whether it has.
    fn bury(&self, name: &str) -> Result<bool, NameError> {
        let Some(file) = self.open_file(name)? else { return Ok(false) };
        Ok(ofd::try_lock(&file, USERS, Mode::Write)? && self.unlink(name, &file)? == Some(true))
    }

    /// Takes the name away from a file, if it still means that: whether it did, or `None` if somebody else is at it. The
    /// description must be the caller's alone.
    pub(super) fn unlink(&self, name: &str, file: &OwnedFd) -> Result<Option<bool>, NameError> {
        if !ofd::try_lock(file, REMOVAL, Mode::Write)? {
            return Ok(None);
        }
        // While the byte is locked nobody else unlinks this file, so a name that means it now means it until the call.
        let removed = match self.means(name, file) {
            Ok(true) => match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
                Ok(()) => Ok(Some(true)),
                // The directory itself is being removed by somebody.
                Err(Errno::NOENT) => Ok(Some(false)),
                Err(error) => Err(NameError::Io(error.into())),
            },
            Ok(false) => Ok(Some(false)),
            Err(error) => Err(error),
        };
        ofd::unlock(file, REMOVAL)?;
        removed
    }

    /// Whether the name means this very file.
    fn means(&self, name: &str, file: &OwnedFd) -> Result<bool, NameError> {
        let stat = match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(NameError::Io(error.into())),
        };
        // The number of the inode is not given to another file while this one is open.
        Ok((stat.st_dev, stat.st_ino) == crate::fd::identity(file)?)
    }

    fn open_file(&self, name: &str) -> Result<Option<OwnedFd>, NameError> {
        // Opening something that is no file must have no effect and must not wait.
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let wrong_owner = || NameError::WrongOwner { path: self.path.join(name) };
        let file = match rustix::fs::openat(&self.fd, name, flags, FileMode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::ACCESS) => return Err(wrong_owner()),
            Err(error) => return Err(NameError::Io(error.into())),
        };
        let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !is_file || stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(wrong_owner());
        }
        Ok(Some(file))
    }

    /// Looks at a few entries, and removes those that nobody uses. What goes wrong is for the next one to find.
    pub(super) fn sweep(&self) {
        /// Where the last look of this process ended. Which directory that was in does not matter: any position is valid.
        static POSITION: AtomicU64 = AtomicU64::new(0);
        let position = POSITION.load(Ordering::Relaxed);
        let Ok((mut names, mut next)) = self.some_names(position) else { return };
        if names.is_empty() && position != 0 {
            // That was the end.
            let Ok(first) = self.some_names(0) else { return };
            (names, next) = first;
        }
        POSITION.store(next, Ordering::Relaxed);
        if names.is_empty() {
            return;
        }
        // A process that lives for one `open` always begins at the front: so that all entries come to be looked at, it
        // is left to chance which.
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
        let first = nanos as usize % names.len();
        names.rotate_left(first);
        // As long as there is something to remove, it goes on.
        let mut left = SWEPT;
        for name in &names {
            match self.bury(name) {
                Ok(true) => {}
                _ if left == 1 => break,
                _ => left -= 1,
            }
        }
    }

    /// Removes all that nobody uses; how many those were.
    pub(super) fn reclaim(&self) -> io::Result<usize> {
        let mut removed = 0;
        let mut position = 0;
        loop {
            let (names, next) = self.some_names(position)?;
            removed += names.iter().filter(|name| matches!(self.bury(name), Ok(true))).count();
            if next == 0 {
                return Ok(removed);
            }
            position = next;
        }
    }

    /// The names of one page of entries from a position on, and where the next page begins; 0 behind the last one.
    fn some_names(&self, position: u64) -> io::Result<(Vec<String>, u64)> {
        // A description of its own: the position belongs to one.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, FileMode::empty())?;
        if position != 0 && rustix::fs::seek(&fd, SeekFrom::Start(position)).is_err() {
            return Ok((Vec::new(), 0));
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut entries = RawDir::new(&fd, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let next = entry.next_entry_cookie();
            let may_be_file = matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown);
            if may_be_file && let Ok(name) = entry.file_name().to_str() {
                names.push(name.to_owned());
            }
            if entries.is_buffer_empty() {
                return Ok((names, next));
            }
        }
        Ok((names, 0))
    }

    /// A file of `len` bytes, filled and with its first user, but without its name.
    pub(super) fn prepare(
        &self,
        len: u64,
        init: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> Result<Scratch<'_>, NameError> {
        if len == 0 {
            return Err(NameError::Io(io::ErrorKind::InvalidInput.into()));
        }
        let scratch = self.scratch()?;
        let no_space = |error: io::Error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                NameError::NoSpace { len, source: error }
            }
            _ => NameError::Io(error),
        };
        // Through a description that is not the role: what `init` maps must not look like a user.
        let neutral = crate::fd::reopen(&scratch.role)?;
        rustix::fs::ftruncate(&neutral, len).map_err(io::Error::from)?;
        init(neutral.as_fd()).map_err(no_space)?;
        Ok(scratch)
    }

    /// An empty file that is locked by its first user and has no name, or none that anybody looks for.
    fn scratch(&self) -> Result<Scratch<'_>, NameError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = FileMode::RUSR | FileMode::WUSR;
        if self.has_unnamed {
            match rustix::fs::openat(&self.fd, ".", flags | OFlags::TMPFILE, mode) {
                Ok(role) => {
                    // Nobody else can know of it.
                    ofd::try_lock(&role, USERS, Mode::Read)?;
                    return Ok(Scratch { directory: self, role, temporary: None });
                }
                // A file system, or a kernel, without such files.
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {}
                Err(error) => return Err(NameError::Io(error.into())),
            }
        }
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut patience = super::Patience::new("a new file");
        loop {
            let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            // No kind begins with a dot.
            let temporary = format!(".new.{}.{count}.{nanos}", std::process::id());
            match rustix::fs::openat(&self.fd, &temporary, flags | OFlags::CREATE | OFlags::EXCL, mode) {
                Ok(role) => {
                    // A sweep may have come between.
                    if ofd::try_lock(&role, USERS, Mode::Read)? && self.means(&temporary, &role)? {
                        return Ok(Scratch { directory: self, role, temporary: Some(temporary) });
                    }
                }
                // The process of that number may be in another container.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(NameError::Io(error.into())),
            }
            patience.wait()?;
        }
    }
}

/// A file on its way to a name.
#[derive(Debug)]
pub(super) struct Scratch<'d> {
    directory: &'d Directory,
    role: OwnedFd,
    /// Its private name, where the file system has no files without one.
    temporary: Option<String>,
}

impl Scratch<'_> {
    /// Gives it its name, and returns its role; or `self` again, if the name is taken.
    pub(super) fn publish(self, name: &str) -> Result<Result<OwnedFd, Self>, NameError> {
        let to = &self.directory.fd;
        let linked = match &self.temporary {
            Some(temporary) => rustix::fs::linkat(to, temporary, to, name, AtFlags::empty()),
            None => {
                let unnamed = format!("/proc/self/fd/{}", self.role.as_raw_fd());
                rustix::fs::linkat(CWD, unnamed, to, name, AtFlags::SYMLINK_FOLLOW)
            }
        };
        match linked {
            Ok(()) => {
                self.forget_temporary();
                Ok(Ok(self.role))
            }
            Err(Errno::EXIST) => Ok(Err(self)),
            Err(Errno::NOSPC) => Err(NameError::NoSpace { len: 0, source: Errno::NOSPC.into() }),
            Err(error) => Err(NameError::Io(error.into())),
        }
    }

    /// Its private name is its own as long as the role is locked, so there is nothing to look at first. One that is left
    /// goes with the last user of the file.
    fn forget_temporary(&self) {
        if let Some(temporary) = &self.temporary {
            let _left_to_the_sweep = rustix::fs::unlinkat(&self.directory.fd, temporary, AtFlags::empty());
        }
    }
}
