//! Memory files, and who holds which object in them.
//!
//! The kernel keeps the count: a process has one open file description for each memory file, its *role*, and a read lock
//! there over the bytes of each object that it holds. A message holds what is in flight in it through a description of
//! its own. So the count is exact over copies, fork, exec and SIGKILL, and nothing in the memory itself has to be
//! repaired. See `docs/shm-layout.md`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};

use ipc_core::handle;
use ipc_os::map::{Access, Mapping};
use ipc_os::names::{NamedFile, USERS};
use ipc_os::ofd::{self, Mode};
use ipc_os::sigbus::Guarded;
use ipc_os::{fd, memfd};
use parking_lot::Mutex;

use crate::arena::Arena;

/// Where in a file, far beyond its end, the bytes are that stand for its objects'.
const OBJECT_LOCKS: u64 = 1 << 41;
/// And those that stand for the roles of those who have them: up to 64 an object, as no two begin within 64 bytes.
const ROLE_LOCKS: u64 = 1 << 43;

/// Bytes beyond the end of a file, which the kernel knows the holders of.
pub(crate) type Bytes = Range<u64>;

/// The bytes that who has an object holds.
pub(crate) fn object_bytes(at: &Range<usize>) -> Bytes {
    OBJECT_LOCKS + at.start as u64..OBJECT_LOCKS + at.end as u64
}

/// The byte that who has a role of an object holds beside.
pub(crate) fn role_bytes(at: &Range<usize>, number: u8) -> Bytes {
    let byte = ROLE_LOCKS + at.start as u64 + u64::from(number % 64);
    byte..byte + 1
}

/// A memory file that this process has mapped.
#[derive(Debug)]
pub(crate) struct File {
    identity: (u64, u64),
    map: Arc<Mapping>,
    /// A file with a name may be cut short.
    guard: Option<Guarded>,
    role: Mutex<Role>,
    /// The arena of this process that the file is, if it is one.
    arena: OnceLock<Weak<Arena>>,
    /// What takes the name away with the last user; dropped after `role`, which is a copy of its description.
    _named: Option<NamedFile>,
}

#[derive(Debug)]
struct Role {
    fd: OwnedFd,
    /// The file has a name, and who has it is one of its users.
    named: bool,
    /// The process that the description is of: a forked child makes one of its own.
    process: u32,
    /// How often this process holds the bytes from an offset on, and where they end.
    held: HashMap<u64, (usize, u64)>,
}

/// All that are mapped, by device and inode: two handles of one file share the mapping and the description.
static FILES: Mutex<Option<Known>> = Mutex::new(None);
type Known = HashMap<(u64, u64), Weak<File>>;

impl File {
    /// A new memory file of that length, all zero; none of its pages are taken yet.
    pub(crate) fn new(name: &str, len: usize) -> io::Result<Arc<File>> {
        File::of(memfd::shared(name, len)?, len)
    }

    /// The file behind a descriptor of which it is known that its length is fixed. The descriptor is one without
    /// locks, or of somebody else: the file is opened again.
    pub(crate) fn of(fd: impl AsFd, len: usize) -> io::Result<Arc<File>> {
        File::known_or(fd::identity(&fd)?, || {
            let role = Role::new(fd::reopen(&fd)?, false);
            File::map_of(&fd, len, role, None)
        })
    }

    /// A file that this process has opened by name.
    pub(crate) fn named(file: NamedFile, len: usize) -> io::Result<Arc<File>> {
        File::known_or(file.identity(), || {
            let role = Role::new(file.role().try_clone_to_owned()?, true);
            let neutral = file.neutral()?;
            File::map_of(neutral, len, role, Some(file))
        })
    }

    /// A file with a name that came with a handle: whoever sent it is a user of it, and so is this process from now on.
    pub(crate) fn named_received(fd: impl AsFd, len: usize) -> io::Result<Arc<File>> {
        File::known_or(fd::identity(&fd)?, || {
            let role = Role::new(fd::reopen(&fd)?, true);
            if !ofd::try_lock(&role.fd, USERS, Mode::Read)? {
                return Err(io::Error::new(io::ErrorKind::NotFound, "its name is just being removed"));
            }
            File::map_of(&fd, len, role, None)
        })
    }

    fn map_of(fd: impl AsFd, len: usize, role: Role, named: Option<NamedFile>) -> io::Result<File> {
        let identity = fd::identity(&fd)?;
        // Mapped through a description that has no locks: a mapping keeps them.
        let neutral = fd::reopen(&fd)?;
        let map = Arc::new(Mapping::new(neutral, len, Access::ReadWrite)?);
        let guard = if role.named { Some(Guarded::new(Arc::clone(&map))?) } else { None };
        Ok(File { identity, map, guard, role: Mutex::new(role), arena: OnceLock::new(), _named: named })
    }

    fn known_or(identity: (u64, u64), make: impl FnOnce() -> io::Result<File>) -> io::Result<Arc<File>> {
        crate::board::guard_forks();
        let mut files = FILES.lock();
        let files = files.get_or_insert_default();
        if let Some(known) = files.get(&identity).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let file = Arc::new(make()?);
        files.retain(|_, file| file.strong_count() != 0);
        files.insert(identity, Arc::downgrade(&file));
        Ok(file)
    }

    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Whoever gives a place back here gives it to that arena.
    pub(crate) fn set_arena(&self, arena: Weak<Arena>) {
        // A file is made for one arena.
        let _only_once = self.arena.set(arena);
    }

    pub(crate) fn arena(&self) -> Option<Arc<Arena>> {
        self.arena.get().and_then(Weak::upgrade)
    }

    pub(crate) fn map(&self) -> &Arc<Mapping> {
        &self.map
    }

    /// Asked after something was read or written: whether that was in the file, and not in zeros of this process's own,
    /// as somebody has cut a file with a name short.
    #[inline]
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.guard.as_ref().is_some_and(Guarded::is_poisoned) { Err(cut_short()) } else { Ok(()) }
    }

    /// This process holds the bytes once more. Somebody else holds them too, at least in flight; or has taken the place
    /// of the object meanwhile, which is an error.
    pub(crate) fn hold(&self, at: Bytes) -> io::Result<()> {
        let mut role = self.role()?;
        let role = &mut *role;
        match role.held.entry(at.start) {
            Entry::Occupied(held) if held.get().1 != at.end => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the object has another length"));
            }
            Entry::Occupied(mut held) => held.get_mut().0 += 1,
            Entry::Vacant(place) => {
                if !ofd::try_lock(&role.fd, at.clone(), Mode::Read)? {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "there is no such object any more",
                    ));
                }
                place.insert((1, at.end));
            }
        }
        Ok(())
    }

    /// Takes a place that nobody holds, for an object that this process then holds. Whether nobody does.
    pub(crate) fn occupy(&self, at: Bytes) -> io::Result<bool> {
        let mut role = self.role()?;
        if role.held.contains_key(&at.start) || !ofd::try_lock(&role.fd, at.clone(), Mode::Write)? {
            return Ok(false);
        }
        // From the one to the other in one step.
        ofd::try_lock(&role.fd, at.clone(), Mode::Read)?;
        role.held.insert(at.start, (1, at.end));
        Ok(true)
    }

    /// This process holds the bytes once less. Whether it does not any more.
    pub(crate) fn release(&self, at: Bytes) -> bool {
        let mut role = self.role.lock();
        let Entry::Occupied(mut held) = role.held.entry(at.start) else { return false };
        held.get_mut().0 -= 1;
        if held.get().0 != 0 {
            return false;
        }
        held.remove();
        // A forked child that never made a description of its own holds nothing by itself.
        if role.process == std::process::id() {
            // It cannot fail for a range that was locked; if it did, the place would stay taken until the process ends.
            let _ignored = ofd::unlock(&role.fd, at);
        }
        true
    }

    /// Whether somebody else holds them: another process, or a message.
    pub(crate) fn is_held_by_others(&self, at: Bytes) -> io::Result<bool> {
        ofd::is_held_elsewhere(&self.role()?.fd, at, Mode::Write)
    }

    /// Whether anybody does: this process or another, or a message.
    pub(crate) fn is_held(&self, at: Bytes) -> io::Result<bool> {
        let role = self.role()?;
        Ok(role.held.contains_key(&at.start) || ofd::is_held_elsewhere(&role.fd, at, Mode::Write)?)
    }

    /// A descriptor that holds the bytes as long as the message at hand is in flight. `None` if there is no message.
    pub(crate) fn in_flight(&self, at: Bytes) -> Option<io::Result<Arc<OwnedFd>>> {
        let made = handle::shared(self.identity, || self.role()?.another())?;
        Some(made.and_then(|fd| {
            if ofd::try_lock(&*fd, at, Mode::Read)? {
                return Ok(fd);
            }
            Err(io::Error::new(io::ErrorKind::InvalidData, "the object's place has been taken by somebody"))
        }))
    }

    /// Takes the pages of that range now.
    pub(crate) fn reserve(&self, at: Range<usize>) -> io::Result<()> {
        memfd::reserve(&self.role()?.fd, at.start as u64, at.len() as u64)
    }

    /// Gives the pages of that range back, which are zero afterwards.
    pub(crate) fn give_back(&self, at: Range<usize>) -> io::Result<()> {
        memfd::give_back(&self.role()?.fd, at.start as u64, at.len() as u64)
    }

    /// The role, of this process and not of one that has forked it.
    fn role(&self) -> io::Result<parking_lot::MutexGuard<'_, Role>> {
        let mut role = self.role.lock();
        if role.process != std::process::id() {
            let own = role.another()?;
            for (start, (_, end)) in &role.held {
                ofd::try_lock(&own, *start..*end, Mode::Read)?;
            }
            role.fd = own;
            role.process = std::process::id();
        }
        Ok(role)
    }
}

impl Role {
    fn new(fd: OwnedFd, named: bool) -> Self {
        Role { fd, named, process: std::process::id(), held: HashMap::new() }
    }

    /// Another description of the file, a user of its name if it has one.
    fn another(&self) -> io::Result<OwnedFd> {
        let fd = fd::reopen(&self.fd)?;
        if self.named {
            // Together with this one: nobody can be removing it.
            ofd::try_lock(&fd, USERS, Mode::Read)?;
        }
        Ok(fd)
    }
}

#[cold]
fn cut_short() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "somebody has cut the file of this object short, or its memory was full: drop all handles of it, and create it anew",
    )
}
