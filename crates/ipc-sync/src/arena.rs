//! Places for small objects in memory files that they share: hundreds of them cost one descriptor and a few pages.
//!
//! A process puts what it makes into its own arenas. Which places are free is written nowhere: a place can be taken when
//! no description holds it, which the kernel decides. The lists here are only where to look first.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::memory::{File, object_bytes};

/// Places are this large, or that times a power of two; objects never share a cache line.
pub(crate) const UNIT: usize = 64;
/// What is larger has a memory file of its own.
const OBJECT_MAX: usize = 32 * 1024;
const ARENA: usize = 1024 * 1024;
/// How many pages are taken at once as the arena fills.
const CHUNK: usize = 64 * 1024;
/// Places that others held when they were given back: how many are looked at again for each object that is made.
const LOOKS: usize = 8;

static ZEROS: [u8; OBJECT_MAX] = [0; OBJECT_MAX];

/// The arena that new objects go to.
static ARENAS: Mutex<Option<Arc<Arena>>> = Mutex::new(None);

#[derive(Debug)]
pub(crate) struct Arena {
    file: Arc<File>,
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    /// From here on nothing was ever used.
    fresh: usize,
    /// Up to here the pages are taken.
    reserved: usize,
    /// Places that nobody held when they were given back.
    free: Vec<Range<usize>>,
    /// Places that others held then.
    lent: VecDeque<Range<usize>>,
}

/// Where an object is.
pub(crate) type Place = (Arc<File>, Range<usize>);

/// A place of at least `len` zero bytes, which this process holds.
pub(crate) fn allocate(len: usize) -> io::Result<Place> {
    if len > OBJECT_MAX {
        return allocate_alone(len, len);
    }
    let len = len.max(UNIT).next_power_of_two();
    let mut current = ARENAS.lock();
    if let Some(arena) = &*current
        && let Some(at) = arena.take(len)?
    {
        return Ok((Arc::clone(&arena.file), at));
    }
    // The old one lives as long as an object in it.
    let arena = Arc::new(Arena { file: File::new("ipc-arena", ARENA)?, lists: Mutex::default() });
    let at = arena.take(len)?.ok_or(io::ErrorKind::OutOfMemory)?;
    arena.file.set_arena(Arc::downgrade(&arena));
    let place = (Arc::clone(&arena.file), at);
    *current = Some(arena);
    Ok(place)
}

/// A memory file for one object, of which only the first `reserved` bytes are there at once.
pub(crate) fn allocate_alone(len: usize, reserved: usize) -> io::Result<Place> {
    if reserved as u64 > ipc_os::memfd::room()? {
        // The kernel would give what it has, and then end processes.
        return Err(io::ErrorKind::StorageFull.into());
    }
    let file = File::new("ipc-object", len)?;
    file.reserve(0..reserved)?;
    file.occupy(object_bytes(&(0..len)))?;
    Ok((file, 0..len))
}

impl Arena {
    fn take(&self, len: usize) -> io::Result<Option<Range<usize>>> {
        let mut lists = self.lists.lock();
        for _ in 0..LOOKS.min(lists.lent.len()) {
            let Some(at) = lists.lent.pop_front() else { break };
            if self.file.is_held_by_others(object_bytes(&at))? {
                lists.lent.push_back(at);
            } else {
                lists.free.push(at);
            }
        }
        while let Some(index) = lists.free.iter().rposition(|at| at.len() == len) {
            let at = lists.free.swap_remove(index);
            if self.file.occupy(object_bytes(&at))? {
                let wiped = self.file.map().write(at.start, &ZEROS[..at.len()]);
                return wiped.map(|()| Some(at)).map_err(io::Error::from);
            }
            lists.lent.push_back(at);
        }
        let at = lists.fresh..lists.fresh + len;
        if at.end > ARENA {
            return Ok(None);
        }
        if at.end > lists.reserved {
            let until = at.end.next_multiple_of(CHUNK).min(ARENA);
            self.file.reserve(lists.reserved..until)?;
            lists.reserved = until;
        }
        lists.fresh = at.end;
        if !self.file.occupy(object_bytes(&at))? {
            return Err(io::Error::other("somebody locks places of this process's memory file"));
        }
        Ok(Some(at))
    }

    /// This process does not hold the place any more.
    pub(crate) fn give_back(&self, at: Range<usize>) {
        let held = self.file.is_held_by_others(object_bytes(&at)).unwrap_or(true);
        let mut lists = self.lists.lock();
        if held {
            lists.lent.push_back(at);
        } else {
            lists.free.push(at);
        }
    }
}
