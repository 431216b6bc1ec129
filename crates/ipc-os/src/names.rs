//! Objects that unrelated processes find by a name, and that are gone with their last user, however it ends.
//!
//! A named object is a file `KIND.NAME` in a directory of the user's own: `ipc-UID` (mode 0700) in `/dev/shm`, or in
//! the directory that the environment variable `IPC_RUNTIME_DIR` names (for tests, and for containers without
//! `/dev/shm`; it should be a `tmpfs`, and one where others cannot rename what is ours, as in any directory with the
//! sticky bit). Processes meet if they have the same user and the same directory.
//!
//! # Who uses it
//! Each user holds a read lock on one byte of the file, the *users byte*, through an open file description of its own
//! ([`ofd`]). The kernel counts them: a lock ends with the description, at SIGKILL as at a clean end. So there is nothing to
//! keep up, and whoever can lock the byte for writing knows that nobody uses the object any more.
//!
//! | step | how | killed in between |
//! |---|---|---|
//! | create | a file without a name is sized, filled and locked, then linked under the name | it never had a name |
//! | open | lock for reading, then see that the name still means this file | the lock is gone |
//! | last user ends | its own [`NamedFile`] removes the file; if it could not, the next `create` or `open` of any name does | the next one does |
//! | remove, sweep | lock the *removal byte* for writing, see that the name still means this file, unlink | as if nothing had happened |
//!
//! A name is unlinked only under the removal byte of the file that it means, so nobody ever removes what somebody else has
//! just made in its place. A file that nobody uses counts as not there: it is never opened, only removed.
//!
//! ```
//! # let directory = tempfile::tempdir()?;
//! # // SAFETY: a doctest is a process with one thread.
//! # unsafe { std::env::set_var("IPC_RUNTIME_DIR", directory.path()) };
//! use ipc_os::names;
//! let made = names::create("demo", "greeting", 4096, |file| {
//!     rustix::io::pwrite(file, b"hello", 0)?;
//!     Ok(())
//! })?;
//! let opened = names::open("demo", "greeting")?;
//! assert_eq!(opened.identity(), made.identity());
//! drop((made, opened));
//! assert!(matches!(names::open("demo", "greeting"), Err(names::NameError::NotFound { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod directory;
mod error;
pub mod posix;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::ofd::{self, Mode};
use directory::{Directory, Found, Scratch};

pub use error::NameError;

/// The byte that each user of a named file holds a read lock on.
pub const USERS: Range<u64> = 1 << 42..(1 << 42) + 1;

/// The byte that whoever unlinks a name holds a write lock on.
const REMOVAL: Range<u64> = (1 << 42) + 1..(1 << 42) + 2;

/// The longest name, in bytes.
pub const NAME_LEN_MAX: usize = 200;

/// How long an operation goes on that somebody else's removal is in the way of.
const PATIENCE: Duration = Duration::from_secs(2);

/// A user of a named file. The name goes with the last one.
///
/// It holds the *role* description, whose lock says that there is a user: children inherit it with `fork`, and it may be
/// sent to others, who are users then. Memory is mapped through [`neutral`](NamedFile::neutral): a mapping keeps the
/// description alive that it was made through, and would go on saying so.
#[derive(Debug)]
pub struct NamedFile {
    /// `None` only while it is dropped.
    role: Option<OwnedFd>,
    directory: PathBuf,
    file_name: String,
    identity: (u64, u64),
    len: u64,
}

impl NamedFile {
    fn new(role: OwnedFd, directory: &Directory, file_name: &str) -> Result<Self, NameError> {
        let stat = rustix::fs::fstat(&role).map_err(io::Error::from)?;
        Ok(NamedFile {
            role: Some(role),
            directory: directory.path().to_owned(),
            file_name: file_name.to_owned(),
            identity: (stat.st_dev, stat.st_ino),
            len: u64::try_from(stat.st_size).unwrap_or(0),
        })
    }

    /// The description that says that there is a user, open for reading and writing. Bytes below 2^42 may be locked
    /// through it for other ends.
    ///
    /// # Panics
    /// Never: it is there until `self` is dropped.
    pub fn role(&self) -> BorrowedFd<'_> {
        self.role.as_ref().expect("there until it is dropped").as_fd()
    }

    /// Another description of the same file, which says nothing: for mappings.
    ///
    /// # Errors
    /// As of [`fd::reopen`](crate::fd::reopen).
    pub fn neutral(&self) -> io::Result<OwnedFd> {
        crate::fd::reopen(self.role())
    }

    /// Device and inode: what tells it from a later one of the same name.
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// How many bytes the file had when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it had none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.file_name)
    }

    /// Takes the name away, on purpose, if it still means this file; whether it did. All who use it keep it; the name is
    /// free for a new one at once.
    ///
    /// # Errors
    /// [`NameError::Busy`] if another process was stopped in the middle of removing it; [`NameError::Io`].
    pub fn remove(&self) -> Result<bool, NameError> {
        let directory = Directory::reopen(&self.directory)?;
        // A description of its own: two threads must not share the lock on the removal byte.
        let file = self.neutral()?;
        let mut patience = Patience::new(&self.file_name);
        loop {
            match directory.unlink(&self.file_name, &file)? {
                Some(removed) => return Ok(removed),
                None => patience.wait()?,
            }
        }
    }
}

impl Drop for NamedFile {
    fn drop(&mut self) {
        // Another description asks whether there are users, after the role has gone: copies of the role, in children or
        // in messages, share its lock, and would not be seen through it. Of several who end at the same time the last
        // one to ask finds nobody. What fails here is left to the next sweep.
        let Ok(probe) = self.neutral() else { return };
        drop(self.role.take());
        if let Ok(true) = ofd::try_lock(&probe, USERS, Mode::Write)
            && let Ok(directory) = Directory::reopen(&self.directory)
        {
            let _left_to_the_sweep = directory.unlink(&self.file_name, &probe);
        }
    }
}

/// Makes a named file of `len` zero bytes, and its first user. Nobody can open it before `init` has filled it, through a
/// description that it may map: it is not the role. There is no memory behind the bytes yet: `init` takes what it needs
/// ([`memfd::reserve`](crate::memfd::reserve)), so that a full file system is an error and not a signal later.
///
/// # Errors
/// [`NameError::AlreadyExists`] if somebody uses that name; `init` has not run then, unless another process was quicker
/// at the very end. An error of `init`, as [`NameError::Io`]. Else as the variants of [`NameError`] say.
pub fn create(
    kind: &str,
    name: &str,
    len: u64,
    init: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
) -> Result<NamedFile, NameError> {
    create_in(&Directory::of_user()?, &file_name(kind, name)?, len, init)
}

/// Opens a named file, and becomes a user of it.
///
/// # Errors
/// [`NameError::NotFound`] if nobody uses that name; a file that its users have left behind is removed. Else as the
/// variants of [`NameError`] say.
pub fn open(kind: &str, name: &str) -> Result<NamedFile, NameError> {
    open_in(&Directory::of_user()?, &file_name(kind, name)?)
}

/// Opens a named file, or makes it; whether it was made. `len` and `init` count only if it is. Of several processes
/// that do this at once, one makes it, and all get the same.
///
/// # Errors
/// As of [`create`] and [`open`].
pub fn open_or_create(
    kind: &str,
    name: &str,
    len: u64,
    init: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
) -> Result<(NamedFile, bool), NameError> {
    open_or_create_in(&Directory::of_user()?, &file_name(kind, name)?, len, init)
}

/// Takes a name away on purpose. All who use the file keep it; the name is free for a new one at once.
///
/// # Errors
/// [`NameError::NotFound`] if nobody uses that name. Else as the variants of [`NameError`] say.
pub fn remove(kind: &str, name: &str) -> Result<(), NameError> {
    remove_in(&Directory::of_user()?, &file_name(kind, name)?)
}

/// Removes all that nobody uses any more; how many those were. Only who has stopped to make and open named objects needs
/// it: each [`create`] and [`open`] looks at a few entries of the directory.
///
/// # Errors
/// [`NameError::NoDirectory`], [`NameError::WrongOwner`], or [`NameError::Io`] if the directory cannot be read.
pub fn reclaim() -> Result<usize, NameError> {
    Ok(Directory::of_user()?.reclaim()?)
}

fn create_in(
    directory: &Directory,
    name: &str,
    len: u64,
    init: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
) -> Result<NamedFile, NameError> {
    let mut made = Making::new(directory, len, init);
    let mut patience = Patience::new(name);
    directory.sweep();
    loop {
        match directory.find(name, false)? {
            Found::Used(_) => return Err(NameError::AlreadyExists { name: name.to_owned() }),
            Found::Nothing => {
                if let Some(file) = made.publish(name)? {
                    return Ok(file);
                }
            }
            Found::Going => {}
        }
        patience.wait()?;
    }
}

fn open_in(directory: &Directory, name: &str) -> Result<NamedFile, NameError> {
    let mut patience = Patience::new(name);
    directory.sweep();
    loop {
        match directory.find(name, true)? {
            Found::Used(role) => return NamedFile::new(role, directory, name),
            Found::Nothing => return Err(NameError::NotFound { name: name.to_owned() }),
            Found::Going => patience.wait()?,
        }
    }
}

fn open_or_create_in(
    directory: &Directory,
    name: &str,
    len: u64,
    init: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
) -> Result<(NamedFile, bool), NameError> {
    let mut made = Making::new(directory, len, init);
    let mut patience = Patience::new(name);
    directory.sweep();
    loop {
        match directory.find(name, true)? {
            Found::Used(role) => return Ok((NamedFile::new(role, directory, name)?, false)),
            Found::Nothing => {
                if let Some(file) = made.publish(name)? {
                    return Ok((file, true));
                }
            }
            Found::Going => {}
        }
        patience.wait()?;
    }
}

fn remove_in(directory: &Directory, name: &str) -> Result<(), NameError> {
    let mut patience = Patience::new(name);
    loop {
        match directory.find(name, false)? {
            // Not one of its users, but a description of the same file, as unlinking wants it.
            Found::Used(file) => {
                if directory.unlink(name, &file)? == Some(true) {
                    return Ok(());
                }
            }
            Found::Nothing => return Err(NameError::NotFound { name: name.to_owned() }),
            Found::Going => {}
        }
        patience.wait()?;
    }
}

/// A file that is made at most once, however often its name is tried.
struct Making<'d, F> {
    directory: &'d Directory,
    len: u64,
    init: Option<F>,
    scratch: Option<Scratch<'d>>,
}

impl<'d, F: FnOnce(BorrowedFd<'_>) -> io::Result<()>> Making<'d, F> {
    fn new(directory: &'d Directory, len: u64, init: F) -> Self {
        Making { directory, len, init: Some(init), scratch: None }
    }

    /// Gives the file its name; `None` if that is taken now.
    fn publish(&mut self, name: &str) -> Result<Option<NamedFile>, NameError> {
        if let Some(init) = self.init.take() {
            self.scratch = Some(self.directory.prepare(self.len, init)?);
        }
        match self.scratch.take() {
            Some(scratch) => match scratch.publish(name)? {
                Ok(role) => Ok(Some(NamedFile::new(role, self.directory, name)?)),
                Err(scratch) => {
                    self.scratch = Some(scratch);
                    Ok(None)
                }
            },
            None => Ok(None),
        }
    }
}

/// Bounds what is tried again: what is in the way lasts for microseconds, unless its process is stopped.
struct Patience<'n> {
    name: &'n str,
    rounds: u32,
    start: Instant,
}

impl<'n> Patience<'n> {
    fn new(name: &'n str) -> Self {
        Patience { name, rounds: 0, start: Instant::now() }
    }

    fn wait(&mut self) -> Result<(), NameError> {
        if self.start.elapsed() > PATIENCE {
            return Err(NameError::Busy { name: self.name.to_owned() });
        }
        self.rounds += 1;
        match self.rounds {
            ..8 => std::thread::yield_now(),
            rounds => std::thread::sleep(Duration::from_micros(50 * u64::from(rounds.min(100)))),
        }
        Ok(())
    }
}

/// `KIND.NAME`, checked. A kind has no dot, so that no two of them make the same file name.
fn file_name(kind: &str, name: &str) -> Result<String, NameError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let kind_is_good = (1..=32).contains(&kind.len()) && kind.bytes().all(plain);
    let name_is_good = (1..=NAME_LEN_MAX).contains(&name.len())
        && name.bytes().all(|byte| plain(byte) || byte == b'.')
        && !name.starts_with('.');
    if kind_is_good && name_is_good {
        Ok(format!("{kind}.{name}"))
    } else {
        Err(NameError::BadName { name: if kind_is_good { name } else { kind }.to_owned() })
    }
}

/// The directory that `ipc-UID` is in.
fn base() -> PathBuf {
    // SAFETY: asks for a number that the kernel gave this process.
    let is_privileged = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    // Whoever starts a program with privileges of its own does not decide where that makes its files.
    let set = std::env::var_os("IPC_RUNTIME_DIR").filter(|set| !is_privileged && !set.is_empty());
    set.map_or_else(|| Path::new("/dev/shm").to_owned(), PathBuf::from)
}
