//! What all objects in shared memory are made of: a place in a memory file, and the board of those who share it.
//!
//! A building block for crates that put more into shared memory; programs use the objects themselves.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Weak};

use ipc_core::handle::{Bundle, Kind};
use ipc_os::futex::{self, Futex};
use ipc_os::map::Mapping;
pub use ipc_os::map::{OutOfBounds, Word32, Word64};
use ipc_os::{fd, memfd, threads};
use parking_lot::Mutex;
use serde::de::{Deserializer, Error as _};
use serde::ser::{Error as _, Serializer};

use crate::arena::{self, UNIT};
use crate::board::{self, Board};
use crate::error::{OpenError, Owner};
pub use crate::id::Id;
use crate::memory::{File, object_bytes, role_bytes};
use crate::named;
pub use crate::named::{Opening, Typed};
pub use crate::pace::Pace;
use crate::raw::World;
use crate::raw::latch;
pub use crate::raw::latch::{LatchGuard, Latched};
use crate::thread::{self, Me};
use crate::wait::Slumber;
pub use crate::wait::{Nap, Rest, Spin};

/// The version of what a handle says when it travels.
const VERSION: u8 = 1;

/// Live words that a long sleep watches beside its own.
const WATCHED_MAX: usize = 100;

/// A place in shared memory that this process holds, with all that its words need: cheap to clone, and the same from all
/// threads.
#[derive(Debug, Clone)]
pub struct Object(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: Arc<File>,
    board: Arc<Board>,
    at: Range<usize>,
    /// For those who wait until a holder lets go, and for those who wait until something is said: the one wait tells
    /// nothing about how long the other will be.
    turn_spin: Spin,
    news_spin: Spin,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.file.release(object_bytes(&self.at))
            && let Some(arena) = self.file.arena()
        {
            arena.give_back(self.at.clone());
        }
    }
}

impl Object {
    fn of(file: Arc<File>, board: Arc<Board>, at: Range<usize>) -> Self {
        Object(Arc::new(Inner { file, board, at, turn_spin: Spin::new(), news_spin: Spin::new() }))
    }

    /// A new anonymous one of `len` zero bytes: small ones share a memory file.
    ///
    /// # Errors
    /// [`OpenError::NoSpace`], [`OpenError::Io`].
    pub fn new(len: usize) -> Result<Self, OpenError> {
        let board = Board::of_this_process()?;
        let (file, at) = arena::allocate(len)?;
        Ok(Object::of(file, board, at))
    }

    /// As [`new`](Self::new), filled by `init` before anybody else can see it.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn new_with(len: usize, init: impl FnOnce(&Fresh<'_>) -> io::Result<()>) -> Result<Self, OpenError> {
        let object = Object::new(len)?;
        init(&Fresh { map: object.map(), at: object.0.at.clone() })?;
        Ok(object)
    }

    /// As [`new_with`](Self::new_with), in a memory file of its own, of which only the first `reserved` bytes are there at
    /// once: what is behind is to be [`reserve`](Self::reserve)d before it is touched.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn new_sparse(
        len: usize,
        reserved: usize,
        init: impl FnOnce(&Fresh<'_>) -> io::Result<()>,
    ) -> Result<Self, OpenError> {
        let board = Board::of_this_process()?;
        let (file, at) = arena::allocate_alone(len, reserved.min(len))?;
        let object = Object::of(file, board, at);
        init(&Fresh { map: object.map(), at: object.0.at.clone() })?;
        Ok(object)
    }

    /// Takes the pages of a range now, so that a machine without memory for them says so here, and not at the first touch.
    ///
    /// # Errors
    /// `StorageFull`; [`OutOfBounds`] as an error of the system.
    pub fn reserve(&self, offset: usize, len: usize) -> io::Result<()> {
        let start = self.inside(offset, len)?;
        self.0.file.reserve(start..start + len)
    }

    /// Gives the pages of a range back to the system: whole pages, that no object shares. They are zero from then on, and
    /// to be reserved again.
    ///
    /// # Errors
    /// [`OutOfBounds`] as an error of the system; what the system reports.
    pub fn give_back(&self, offset: usize, len: usize) -> io::Result<()> {
        let start = self.inside(offset, len)?;
        self.0.file.give_back(start..start + len)
    }

    /// One with a name. `init` fills it before anybody else can see it, if it is made.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn named(
        opening: Opening,
        name: &str,
        typed: &Typed<'_>,
        init: impl FnOnce(&Fresh<'_>) -> io::Result<()>,
    ) -> Result<Self, OpenError> {
        let (file, len) =
            named::file(opening, name, typed, |map, at| init(&Fresh { map, at: at..at + typed.len }))?;
        let neutral = Arc::new(file.neutral()?);
        let file = File::named(file, named::OBJECT + len)?;
        let board = known_board(file.identity(), || Board::new(neutral, named::BOARD))?;
        let at = named::OBJECT..named::OBJECT + len;
        file.hold(object_bytes(&at))?;
        Ok(Object::of(file, board, at))
    }

    /// How many bytes it has: at least what was asked for.
    pub fn len(&self) -> usize {
        self.0.at.len()
    }

    /// Whether it has none: never.
    pub fn is_empty(&self) -> bool {
        self.0.at.is_empty()
    }

    /// Whether both are the same place.
    pub fn is(&self, other: &Object) -> bool {
        Arc::ptr_eq(&self.0.file, &other.0.file) && self.0.at == other.0.at
    }

    fn map(&self) -> &Arc<Mapping> {
        self.0.file.map()
    }

    fn inside(&self, offset: usize, len: usize) -> Result<usize, OutOfBounds> {
        let end = offset.checked_add(len).ok_or(OutOfBounds)?;
        if end > self.len() { Err(OutOfBounds) } else { Ok(self.0.at.start + offset) }
    }

    /// The word of 64 bits at an offset.
    ///
    /// # Errors
    /// [`OutOfBounds`], also for a misaligned one.
    pub fn word64(&self, offset: usize) -> Result<Word64, OutOfBounds> {
        self.map().word64(self.inside(offset, 8)?)
    }

    /// As [`word64`](Self::word64) for 32 bits.
    ///
    /// # Errors
    /// [`OutOfBounds`], also for a misaligned one.
    pub fn word32(&self, offset: usize) -> Result<Word32, OutOfBounds> {
        self.map().word32(self.inside(offset, 4)?)
    }

    /// The word of 32 bits at an offset.
    ///
    /// # Errors
    /// [`OutOfBounds`], also for a misaligned one.
    pub fn u32(&self, offset: usize) -> Result<&AtomicU32, OutOfBounds> {
        self.map().u32(self.inside(offset, 4)?)
    }

    /// As [`u32`](Self::u32) for 64 bits.
    ///
    /// # Errors
    /// [`OutOfBounds`], also for a misaligned one.
    pub fn u64(&self, offset: usize) -> Result<&AtomicU64, OutOfBounds> {
        self.map().u64(self.inside(offset, 8)?)
    }

    /// Copies bytes out, which may change meanwhile.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), OutOfBounds> {
        self.map().read(self.inside(offset, bytes.len())?, bytes)
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfBounds> {
        self.map().write(self.inside(offset, bytes.len())?, bytes)
    }

    /// Has the cache line there brought here, to be read soon: a hint.
    #[inline]
    pub fn prefetch(&self, offset: usize) {
        if let Ok(at) = self.inside(offset, 1) {
            self.map().prefetch(at);
        }
    }

    /// Has the cache line at an offset brought here, to be written soon: a hint.
    #[inline]
    pub fn prefetch_for_write(&self, offset: usize) {
        if let Ok(at) = self.inside(offset, 1) {
            self.map().prefetch_for_write(at);
        }
    }

    #[inline]
    pub(crate) fn me(&self) -> io::Result<Me> {
        thread::me(&self.0.board)
    }

    /// Asked after something was read or written: whether that was the object. One without a name always is; the file of
    /// one with a name may have been cut short, and then this process goes on in zeros of its own.
    ///
    /// # Errors
    /// It was not, and never will be again in this process.
    #[inline]
    pub fn check(&self) -> io::Result<()> {
        self.0.file.check()
    }

    pub(crate) fn board(&self) -> &Board {
        &self.0.board
    }

    pub(crate) fn owner(&self, id: Id) -> Owner {
        Owner::new(self.0.board.pid_of(id))
    }

    /// Whether no other process, no message and no other thread of this process has the object: nobody could change
    /// anything about it. In doubt somebody could.
    pub(crate) fn is_alone(&self) -> bool {
        // A child that was forked holds it through a copy of this process's own description, which looks the same.
        !board::has_forked()
            && self.0.file.is_held_by_others(object_bytes(&self.0.at)).is_ok_and(|held| !held)
            && threads::count().is_ok_and(|count| count == 1)
    }

    /// Sleeps as long as the word is what is expected, at most until the next tick; and watches the owners that the wait
    /// is for: their threads' deaths, or their processes' if it is those that own something.
    pub(crate) fn rest(&self, word: (Futex<'_>, u32), owners: &[Id], nap: &mut Nap) -> io::Result<Rest> {
        let board = &self.0.board;
        let mut watched = Vec::with_capacity(1);
        for owner in owners.iter().take(WATCHED_MAX) {
            let live = if owner.is_thread() { board.watch(*owner) } else { board.watch_process(owner.k()) };
            match live {
                Some(live) => watched.push(live),
                // Its threads are dead or have never been here: its end cannot be far, or is not announced.
                None if !owner.is_thread() && board.is_dying(owner.k()) => nap.hurry(),
                None => {}
            }
            // Judged after it is watched, not before: its seat may have been taken by another meanwhile, and the word be
            // that one's.
            if board.dead(*owner) {
                return Ok(Rest::Woken);
            }
        }
        if nap.ticks() > 0 {
            // Somebody who was woken and then killed is noticed by those who sleep on.
            watched.extend(board.watch_all(WATCHED_MAX - watched.len()));
        }
        let mut words: Vec<_> = watched.iter().map(|(live, now)| ((*live).into(), *now)).collect();
        words.push(word);
        let slumber = nap.sleep(&words);
        // The kernel does not sleep on what is not there, and reports what it then found; so does the handler here.
        self.check()?;
        let slumber = slumber?;
        for (live, _) in watched {
            board::pass_on(live, live.load(Relaxed));
        }
        match slumber {
            Slumber::Woken => return Ok(Rest::Woken),
            Slumber::TimedOut => return Ok(Rest::TimedOut),
            Slumber::Tick => {}
        }
        let mut any = false;
        for owner in owners {
            any |= board.patrol(*owner)?;
        }
        Ok(if !any && self.is_alone() { Rest::Abandoned } else { Rest::Woken })
    }

    /// This process as an owner: who is dead when the kernel says that its address space is gone.
    ///
    /// # Errors
    /// The board is full; what the system reports.
    #[inline]
    pub fn my_process(&self) -> io::Result<Id> {
        self.0.board.my_process()
    }

    /// Gives this thread a word on the board, as it has one that has taken anything: when this process is killed, who
    /// [sleeps](Self::sleep) with it as an owner is woken at once, and not at a tick. For objects that are used without
    /// a latch. The kernel marks one word of a thread: that of the object of another board that it uses next, from then
    /// on.
    ///
    /// # Errors
    /// The board is full; what the system reports.
    #[inline]
    pub fn announce(&self) -> io::Result<()> {
        self.me().map(|_registered| ())
    }

    /// Whether an owner, read from a word of this object before, is dead, as far as somebody has noted it: no system
    /// call. Never of one that lives.
    pub fn is_dead(&self, owner: Id) -> bool {
        self.0.board.dead(owner)
    }

    /// As [`is_dead`](Self::is_dead), and asks the kernel.
    ///
    /// # Errors
    /// What the system reports.
    pub fn is_gone(&self, owner: Id) -> io::Result<bool> {
        Ok(self.is_dead(owner) || self.0.board.patrol(owner)?)
    }

    /// Takes a word of this object as a latch: a lock for an instant, in which no code of users runs. It passes silently
    /// from one that died with it; then `repair` runs first, which may be cut off itself, and repeated.
    ///
    /// # Errors
    /// [`Latched`]; nothing is held then.
    #[inline]
    pub fn latch<'a>(
        &'a self,
        word: &'a AtomicU64,
        nap: impl FnOnce() -> Nap,
        repair: impl FnOnce(),
    ) -> Result<LatchGuard<'a>, Latched> {
        latch::latch(word, self, nap, repair)
    }

    /// Sleeps as long as the word of this object is what is expected, at most until the next tick, or until one of the
    /// owners dies: then look again.
    ///
    /// # Errors
    /// What the system reports; the object's file was cut short.
    pub fn sleep(&self, word: &AtomicU32, expected: u32, owners: &[Id], nap: &mut Nap) -> io::Result<Rest> {
        self.rest((word.into(), expected), owners, nap)
    }

    /// Wakes up to `count` of those who sleep on the word.
    pub fn wake(word: &AtomicU32, count: u32) {
        futex::wake(word.into(), count);
    }

    /// Spins as long as it pays at this object, until what is waited for has been said. Whether it has.
    #[inline]
    pub fn spin_for_news(&self, done: impl FnMut() -> bool) -> bool {
        self.0.news_spin.spin(done)
    }

    /// As [`spin_for_news`](Self::spin_for_news), until whoever holds what is here has let go.
    #[inline]
    pub(crate) fn spin_for_turn(&self, done: impl FnMut() -> bool) -> bool {
        self.0.turn_spin.spin(done)
    }

    /// Puts it into the message that this thread is encoding, which then holds it until it is decoded or gone.
    ///
    /// # Errors
    /// The serializer's; outside of a message; when the system has no descriptors left.
    pub fn serialize<S: Serializer>(
        &self,
        kind: Kind,
        fingerprint: u64,
        metadata: Vec<u8>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        self.serialize_as(None, kind, fingerprint, metadata, serializer)
    }

    fn serialize_as<S: Serializer>(
        &self,
        role: Option<u8>,
        kind: Kind,
        fingerprint: u64,
        metadata: Vec<u8>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut bundle = Bundle::default();
        bundle.version = VERSION;
        bundle.fingerprint = fingerprint;
        bundle.offset = self.0.at.start as u64;
        bundle.length = self.0.at.len() as u64;
        bundle.metadata = metadata;
        let role = role.map(|number| role_bytes(&self.0.at, number));
        for bytes in role.into_iter().chain([object_bytes(&self.0.at)]) {
            let Some(held) = self.0.file.in_flight(bytes) else { break };
            let held = held.map_err(|error| {
                S::Error::custom(format_args!("a {} handle cannot be sent: {error}", kind.name()))
            })?;
            // The same one for all.
            bundle.descriptors = vec![held];
            // One with a name has its board in the same file.
            if !self.is_named() {
                bundle.descriptors.push(Arc::clone(self.0.board.descriptor()));
            }
        }
        bundle.serialize(kind, serializer)
    }

    /// Takes it out of the message that this thread is decoding, and holds it. Also what the kind has put beside it:
    /// the fingerprint and the metadata, which are the sender's word.
    ///
    /// # Errors
    /// The deserializer's; what came is not an object in a memory file that keeps its length, with a board.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        kind: Kind,
        len_min: usize,
        deserializer: D,
    ) -> Result<(Self, u64, Vec<u8>), D::Error> {
        Object::deserialize_with(kind, len_min, deserializer, Ok)
    }

    /// `then` runs while the message still holds what is in it.
    fn deserialize_with<'de, D: Deserializer<'de>, R>(
        kind: Kind,
        len_min: usize,
        deserializer: D,
        then: impl FnOnce(Self) -> io::Result<R>,
    ) -> Result<(R, u64, Vec<u8>), D::Error> {
        let bundle = Bundle::deserialize(kind, false, deserializer)?;
        let broken =
            |what: &str| D::Error::custom(format_args!("a {} handle is broken: {what}", kind.name()));
        if bundle.version != VERSION {
            return Err(broken("it is of another version of this crate"));
        }
        let (file, board) = match &bundle.descriptors[..] {
            [file, board] => (file, Some(board)),
            [file] => (file, None),
            _ => return Err(broken("not one or two descriptors")),
        };
        let (Ok(start), Ok(len)) = (usize::try_from(bundle.offset), usize::try_from(bundle.length)) else {
            return Err(broken("a place that no memory has"));
        };
        if len < len_min || !start.is_multiple_of(UNIT) {
            return Err(broken("its place is too small, or not aligned"));
        }
        let received = Self::received(file, board, start, len).and_then(then);
        let received = received.map_err(|error| broken(&error.to_string()))?;
        Ok((received, bundle.fingerprint, bundle.metadata))
    }

    fn received(file: &OwnedFd, board: Option<&Arc<OwnedFd>>, start: usize, len: usize) -> io::Result<Self> {
        let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let at = start..start.checked_add(len).ok_or_else(|| wrong("a place that no memory has"))?;
        let outside = || wrong("its place is outside of the memory file");
        let (file, board) = if let Some(board) = board {
            let file_len = memfd::fixed_len(file)
                .and_then(|len| usize::try_from(len).ok())
                .ok_or_else(|| wrong("its memory file could be cut short"))?;
            if at.end > file_len {
                return Err(outside());
            }
            let identity = fd::identity(board)?;
            let board = known_board(identity, || Board::received(Arc::clone(board)))?;
            (File::of(file, file_len)?, board)
        } else {
            let (.., len) = named::read_header(file, fd::len(file)?)
                .map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))?;
            if at != (named::OBJECT..named::OBJECT + len) {
                return Err(outside());
            }
            let neutral = Arc::new(fd::reopen(file)?);
            let file = File::named_received(file, at.end)?;
            let board = known_board(file.identity(), || Board::new(neutral, named::BOARD))?;
            (file, board)
        };
        file.hold(object_bytes(&at))?;
        Ok(Object::of(file, board, at))
    }

    /// Whether it has a name, or had one when it was made.
    pub fn is_named(&self) -> bool {
        self.0.board.is_in_the_file_of_its_object()
    }
}

impl Object {
    /// Takes a role of those who have the object: up to 64 of them, which mean what the users of the object agree on ("may
    /// send").
    ///
    /// # Errors
    /// What the system reports.
    pub fn role(&self, number: u8) -> io::Result<Role> {
        self.0.file.hold(role_bytes(&self.0.at, number))?;
        Ok(Role { object: self.clone(), number })
    }

    /// Whether anybody has that role: this process, another one, or a message that holds it. The kernel counts, so that
    /// the answer is right whoever was killed when; a system call.
    ///
    /// # Errors
    /// What the system reports.
    pub fn has_role(&self, number: u8) -> io::Result<bool> {
        self.0.file.is_held(role_bytes(&self.0.at, number))
    }
}

/// A role of those who have an object, until it is dropped, or this process ends in any way.
///
/// It travels, and the message has the role too, until it is received or gone.
#[derive(Debug)]
pub struct Role {
    object: Object,
    number: u8,
}

impl Role {
    /// What it is a role of.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// Puts it into the message that this thread is encoding: see [`Object::serialize`].
    ///
    /// # Errors
    /// The same.
    pub fn serialize<S: Serializer>(
        &self,
        kind: Kind,
        fingerprint: u64,
        metadata: Vec<u8>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        self.object.serialize_as(Some(self.number), kind, fingerprint, metadata, serializer)
    }

    /// Takes it out of the message that this thread is decoding: see [`Object::deserialize`].
    ///
    /// # Errors
    /// The same.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        kind: Kind,
        number: u8,
        len_min: usize,
        deserializer: D,
    ) -> Result<(Self, u64, Vec<u8>), D::Error> {
        Object::deserialize_with(kind, len_min, deserializer, |object| object.role(number))
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.object.0.file.release(role_bytes(&self.object.0.at, self.number));
    }
}

/// The board in the file of that device and inode: this process has one of each.
fn known_board(identity: (u64, u64), make: impl FnOnce() -> io::Result<Board>) -> io::Result<Arc<Board>> {
    type Known = Vec<((u64, u64), Weak<Board>)>;
    static BOARDS: Mutex<Known> = Mutex::new(Vec::new());
    if let Some(own) = Board::made_by_this_process()
        && fd::identity(&**own.descriptor())? == identity
    {
        return Ok(own);
    }
    let mut boards = BOARDS.lock();
    boards.retain(|(_, board)| board.strong_count() != 0);
    let known = boards.iter().find(|(of, _)| *of == identity).and_then(|(_, board)| board.upgrade());
    if let Some(board) = known {
        return Ok(board);
    }
    let board = Arc::new(make()?);
    boards.push((identity, Arc::downgrade(&board)));
    Ok(board)
}

/// An object that nobody else can see yet.
#[derive(Debug)]
pub struct Fresh<'a> {
    map: &'a Mapping,
    at: Range<usize>,
}

impl Fresh<'_> {
    fn inside(&self, offset: usize, len: usize) -> Result<usize, OutOfBounds> {
        let end = offset.checked_add(len).ok_or(OutOfBounds)?;
        if end > self.at.len() { Err(OutOfBounds) } else { Ok(self.at.start + offset) }
    }

    /// Writes the word of 32 bits at an offset.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn set_u32(&self, offset: usize, value: u32) -> Result<(), OutOfBounds> {
        self.map.u32(self.inside(offset, 4)?)?.store(value, Relaxed);
        Ok(())
    }

    /// Writes the word of 64 bits at an offset.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn set_u64(&self, offset: usize, value: u64) -> Result<(), OutOfBounds> {
        self.map.u64(self.inside(offset, 8)?)?.store(value, Relaxed);
        Ok(())
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfBounds> {
        self.map.write(self.inside(offset, bytes.len())?, bytes)
    }
}

impl World<AtomicU64> for Object {
    fn dead(&self, id: Id) -> bool {
        self.0.board.dead(id)
    }

    fn is_gone(&self, id: Id) -> bool {
        self.0.board.patrol(id).unwrap_or(false)
    }

    #[inline]
    fn spin(&self, done: impl FnMut() -> bool) -> bool {
        self.spin_for_turn(done)
    }

    fn sleep(&self, word: &AtomicU64, expected: u64, owner: Id, nap: &mut Nap) -> io::Result<Rest> {
        self.rest((word.into(), expected as u32), &[owner], nap)
    }

    fn pid(&self, id: Id) -> u32 {
        self.0.board.pid_of(id).unwrap_or(0)
    }

    fn wake(&self, word: &AtomicU64, count: u32) {
        futex::wake(word.into(), count);
    }
}
