//! Who is there: the table of the processes that share objects, and how a death is known.
//!
//! Layout and rules: `docs/shm-layout.md`. In short: a process holds the lock of one byte of the board for as long as
//! its address space exists, so a byte that is free proves a death; and each thread has a word there that the kernel
//! marks when it dies, which is quick.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};

use ipc_os::futex;
use ipc_os::map::Mapping;
use ipc_os::ofd::{self, Mode};
use ipc_os::robust::{OWNER_DIED, WAITERS};
use ipc_os::sigbus::Guarded;
use ipc_os::wiped::{self, Block};
use ipc_os::{fd, memfd};
use parking_lot::{Mutex, MutexGuard};

use crate::id::{EPOCH_MASK, Id, SEATS, WHOLE_PROCESS};
use crate::raw::seat;

/// "ipcboard", as it stands in memory.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"ipcboard");
pub(crate) const VERSION: u32 = 1;

const HEADER: usize = 4096;
const SEAT: usize = 512;
const EPOCH: usize = 0;
const GONE: usize = 8;
const PIDS: usize = 16;
const PIDS_KEPT: u64 = 8;
const LIVE: usize = 64;
const LIVE_STRIDE: usize = 8;
/// How many threads of a process have a word of their own.
pub(crate) const THREADS: u32 = 56;
/// How many bytes a board takes.
pub(crate) const LEN: usize = HEADER + SEATS * SEAT;
/// Where in the file, far beyond its end, the bytes are that stand for the seats.
const SEAT_LOCKS: u64 = 1 << 40;

const _: () = assert!(LEN == 528_384 && PIDS + 4 * PIDS_KEPT as usize <= LIVE);
const _: () = assert!(LIVE + THREADS as usize * LIVE_STRIDE == SEAT && THREADS < WHOLE_PROCESS);

/// The mapping that keeps this process's seat.
struct Seats {
    map: Arc<Mapping>,
    /// A file with a name may be cut short.
    _guard: Option<Guarded>,
}

impl Seats {
    fn new(map: Mapping, named: bool) -> io::Result<Self> {
        let map = Arc::new(map);
        let guard = if named { Some(Guarded::new(Arc::clone(&map))?) } else { None };
        Ok(Seats { map, _guard: guard })
    }
}

/// Words of [`Board::process`]. The first two are those of a thread's block, for threads that go with their process.
const MY_ID: usize = crate::thread::ID;
const MY_SEATS: usize = 2;
const MY_THREADS: usize = 3;
const _: () = assert!(crate::thread::HELD == 1);

/// A board, as this process sees it.
#[derive(Debug)]
pub(crate) struct Board {
    /// Never used twice in a process.
    pub(crate) serial: u64,
    /// A description without locks: what the kernel is asked through, and what travels.
    fd: Arc<OwnedFd>,
    /// Where in its file it begins.
    base: usize,
    /// Wiped by fork: the Id of this process as a whole (0: not attached), the address of the mapping that holds its
    /// byte, and which threads' words are taken.
    process: &'static Block,
}

/// The board for all that this process makes, from the first object on.
static OWN: OnceLock<Arc<Board>> = OnceLock::new();

/// Held while a process attaches, and while it forks: a fork in between would leave the child a copy of the
/// description that stands for its parent's life.
static ATTACHING: Mutex<()> = Mutex::new(());

impl Board {
    /// The board of this process, for all that it makes.
    pub(crate) fn of_this_process() -> io::Result<Arc<Board>> {
        if let Some(board) = Board::made_by_this_process() {
            return Ok(board);
        }
        let fd = memfd::shared("ipc-board", LEN)?;
        format(&Mapping::new(&fd, LEN, ipc_os::map::Access::ReadWrite)?, 0)?;
        let board = Arc::new(Board::new(Arc::new(fd), 0)?);
        // Another thread may have been quicker.
        Ok(Arc::clone(OWN.get_or_init(|| board)))
    }

    /// As [`of_this_process`](Self::of_this_process), if there is one already.
    pub(crate) fn made_by_this_process() -> Option<Arc<Board>> {
        OWN.get().map(Arc::clone)
    }

    /// The board at `base` in the file, whose header has been checked and whose length is fixed.
    pub(crate) fn new(fd: Arc<OwnedFd>, base: usize) -> io::Result<Board> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = SERIAL.fetch_add(1, Relaxed);
        Ok(Board { serial, fd, base, process: wiped::allocate()? })
    }

    /// The board that came with a handle, if it is one.
    pub(crate) fn received(fd: Arc<OwnedFd>) -> io::Result<Board> {
        let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        if memfd::fixed_len(&*fd) != Some(LEN as u64) {
            return Err(wrong("not a board: not a sealed memory file of its length"));
        }
        let mut header = [0; 12];
        fd::read_exact_at(&fd, &mut header, 0)?;
        check_header(&header)?;
        Board::new(fd, 0)
    }

    /// Whether it lies with an object in one file.
    pub(crate) fn is_in_the_file_of_its_object(&self) -> bool {
        self.base != 0
    }

    /// The block of the process as a whole.
    pub(crate) fn block(&self) -> &'static Block {
        self.process
    }

    pub(crate) fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// This process's Id, attached if it was not.
    pub(crate) fn my_process(&self) -> io::Result<Id> {
        // Acquire: with the Release of MY_ID in `attach`, of another thread: who has the Id sees its seat.
        if let Some(id) = Id::of(self.process.words[MY_ID].load(Acquire)) {
            return Ok(id);
        }
        self.attach()
    }

    /// Whether that is this process: not one that has forked it.
    pub(crate) fn is_this_process(&self, id: Id) -> bool {
        self.process.words[MY_ID].load(Relaxed) == id.word()
    }

    /// The seats. Attaches this process if it was not.
    #[inline]
    fn seats(&self) -> io::Result<&Mapping> {
        // Acquire, both: with the Release of MY_SEATS in `attach`, of another thread.
        let mut address = self.process.words[MY_SEATS].load(Acquire);
        if address == 0 {
            self.attach()?;
            address = self.process.words[MY_SEATS].load(Acquire);
        }
        // SAFETY: `attach` has put there the address of what is dropped with `self`, in this process: a forked child finds
        // zero.
        let seats = unsafe { &*std::ptr::with_exposed_provenance::<Seats>(address as usize) };
        Ok(&seats.map)
    }

    #[cold]
    fn attach(&self) -> io::Result<Id> {
        guard_forks();
        let _one = ATTACHING.lock();
        if let Some(id) = Id::of(self.process.words[MY_ID].load(Relaxed)) {
            return Ok(id);
        }
        let alive = fd::reopen(&*self.fd)?;
        let k = (1..SEATS)
            .find_map(|k| match ofd::try_lock(&alive, seat_lock(k), Mode::Write) {
                Ok(false) => None,
                Ok(true) => Some(Ok(k)),
                Err(error) => Some(Err(error)),
            })
            .unwrap_or_else(|| {
                Err(io::Error::other("a board has places for 1,023 processes, and all are taken"))
            })?;
        let seats = Mapping::new_reserved(&alive, self.base + LEN)?;
        seats.do_not_fork()?;
        // From here on the lock lives as long as the mapping, and so as long as this address space.
        drop(alive);

        let seat = self.seat(k);
        // No memory for it is an error here, and not a signal at the first touch.
        // The next one, too: whoever looks for the last seat reads it.
        let reserved = (2 * SEAT).min(self.base + LEN - seat);
        memfd::reserve(&*self.fd, seat as u64, reserved as u64)?;
        let epoch = seats.u64(seat + EPOCH)?;
        // Acquire: with the Release of the one who sat here before, further down.
        let old = epoch.load(Acquire) & EPOCH_MASK;
        // Whoever was here before is gone: this process holds the byte. Release: with the Acquire of `gone` in
        // `seat::is_over`.
        seats.u64(seat + GONE)?.fetch_max(old, AcqRel);
        for j in 0..THREADS {
            let live = seats.u32(self.live(k, j))?;
            // Release: with the fence in `seat::is_over`: who would watch this word for one who sat here before, and
            // finds 0 (`watch_word`), sees that it is gone.
            if live.swap(0, AcqRel) & WAITERS != 0 {
                futex::wake_all(live.into());
            }
        }
        let new = (old + 1) & EPOCH_MASK;
        let pid = seats.u32(seat + PIDS + 4 * (new % PIDS_KEPT) as usize)?;
        // Release: with the Acquire in `pid_of`, which reads the epoch after it.
        pid.store(std::process::id(), Release);
        // Release: with the Acquire in `gone_in`: whoever reads the new epoch reads what was prepared for it.
        epoch.store(new, Release);

        let id = Id::new(k, WHOLE_PROCESS, new);
        let seats = Seats::new(seats, self.is_in_the_file_of_its_object())?;
        let seats = Box::into_raw(Box::new(seats)).expose_provenance() as u64;
        // Release, both: with the Acquire in `seats` and `my_process`, of other threads.
        self.process.words[MY_SEATS].store(seats, Release);
        self.process.words[MY_ID].store(id.word(), Release);
        Ok(id)
    }

    fn seat(&self, k: usize) -> usize {
        self.base + HEADER + k * SEAT
    }

    fn live(&self, k: usize, j: u32) -> usize {
        self.seat(k) + LIVE + j as usize * LIVE_STRIDE
    }

    /// A word for a thread of this process: which one, and where it is. None if all are taken.
    pub(crate) fn take_thread(&self) -> io::Result<Option<(u32, &AtomicU32)>> {
        let me = self.my_process()?;
        let taken = &self.process.words[MY_THREADS];
        let mut bits = taken.load(Relaxed);
        loop {
            let j = bits.trailing_ones();
            if j >= THREADS {
                return Ok(None);
            }
            // Acquire: with the Release of who gave it back.
            match taken.compare_exchange_weak(bits, bits | 1 << j, Acquire, Relaxed) {
                Ok(_) => return Ok(Some((j, self.seats()?.u32(self.live(me.k(), j))?))),
                Err(now) => bits = now,
            }
        }
    }

    pub(crate) fn give_thread_back(&self, j: u32) {
        // Release: with the Acquire in `take_thread`: what was done with the word comes before.
        self.process.words[MY_THREADS].fetch_and(!(1 << j), Release);
    }

    /// Whether that owner, read from a word before, is dead.
    pub(crate) fn dead(&self, id: Id) -> bool {
        let Ok(seats) = self.seats() else { return false };
        if self.gone_in(seats, id) {
            return true;
        }
        if id.j() >= THREADS {
            return false;
        }
        let Ok(live) = seats.u32(self.live(id.k(), id.j())) else { return false };
        // Acquire: with the Release of a thread that says itself that it is dead (`Registered::drop` in `thread.rs`).
        // The kernel's mark comes after all that the thread did, too.
        let word = live.load(Acquire);
        pass_on(live, word);
        word & OWNER_DIED != 0
    }

    fn gone_in(&self, seats: &Mapping, id: Id) -> bool {
        let seat = self.seat(id.k());
        let (Ok(epoch), Ok(gone)) = (seats.u64(seat + EPOCH), seats.u64(seat + GONE)) else { return false };
        seat::is_over(epoch, gone, id)
    }

    /// Looks after an owner that is believed to be alive: asks the kernel, and if its process is gone writes that
    /// down and wakes all who watch it. Whether it is gone.
    pub(crate) fn patrol(&self, id: Id) -> io::Result<bool> {
        let seats = self.seats()?;
        if self.gone_in(seats, id) {
            return Ok(true);
        }
        if !self.is_free(id.k())? {
            return Ok(false);
        }
        // Its own epoch, never the current one: somebody may sit there again by now. Release: with the Acquire of
        // `gone` in `seat::is_over`: what the dead one did, as it came with the kernel's answer.
        seats.u64(self.seat(id.k()) + GONE)?.fetch_max(id.epoch(), AcqRel);
        for j in 0..THREADS {
            let live = seats.u32(self.live(id.k(), j))?;
            if live.load(Relaxed) & WAITERS != 0 {
                futex::wake_all(live.into());
            }
        }
        Ok(true)
    }

    /// Whether nobody sits in seat k, as the kernel knows it.
    fn is_free(&self, k: usize) -> io::Result<bool> {
        let me = self.my_process()?.k();
        if k == me {
            return Ok(false);
        }
        // The answer is believed only from where this process is seen: the descriptor could have been closed by
        // somebody who closes all, and its number be another file by now.
        Ok(ofd::is_held_elsewhere(&*self.fd, seat_lock(me), Mode::Write)?
            && !ofd::is_held_elsewhere(&*self.fd, seat_lock(k), Mode::Write)?)
    }

    /// The live word of an owner and what it is now, with the mark that somebody watches it: for a sleep that its
    /// death is to end. `None` if there is nothing to watch; also if it has just died.
    pub(crate) fn watch(&self, id: Id) -> Option<Watched<'_>> {
        if id.j() >= THREADS {
            return None;
        }
        self.watch_word(self.seats().ok()?.u32(self.live(id.k(), id.j())).ok()?)
    }

    fn watch_word<'a>(&self, live: &'a AtomicU32) -> Option<Watched<'a>> {
        let mut word = live.load(Relaxed);
        loop {
            if word == 0 || word & OWNER_DIED != 0 {
                return None;
            }
            if word & WAITERS != 0 {
                return Some((live, word));
            }
            // Relaxed: the kernel compares it again before anybody sleeps.
            match live.compare_exchange_weak(word, word | WAITERS, Relaxed, Relaxed) {
                Ok(_) => return Some((live, word | WAITERS)),
                Err(now) => word = now,
            }
        }
    }

    /// One live word of each process that is here, but of this one: for a sleep that any death should make look
    /// again. At most `max`.
    pub(crate) fn watch_all(&self, max: usize) -> Vec<Watched<'_>> {
        let (Ok(seats), Ok(me)) = (self.seats(), self.my_process()) else { return Vec::new() };
        let mut words = Vec::new();
        for k in (1..SEATS).filter(|k| *k != me.k()) {
            let seat = self.seat(k);
            let (Ok(epoch), Ok(gone)) = (seats.u64(seat + EPOCH), seats.u64(seat + GONE)) else { break };
            match epoch.load(Relaxed) & EPOCH_MASK {
                // Seats are taken from the first on: behind one that never was, there is none.
                0 => break,
                epoch if gone.load(Relaxed) >= epoch => continue,
                _ => words.extend(self.watch_process(k)),
            }
            if words.len() >= max {
                break;
            }
        }
        words
    }

    /// A live word of the process in seat k.
    pub(crate) fn watch_process(&self, k: usize) -> Option<Watched<'_>> {
        let seats = self.seats().ok()?;
        (0..THREADS).find_map(|j| self.watch_word(seats.u32(self.live(k, j)).ok()?))
    }

    /// Whether a thread of the process in seat k died holding its word: the whole process may be about to end.
    pub(crate) fn is_dying(&self, k: usize) -> bool {
        let Ok(seats) = self.seats() else { return false };
        (0..THREADS)
            .any(|j| seats.u32(self.live(k, j)).is_ok_and(|live| live.load(Relaxed) & OWNER_DIED != 0))
    }

    /// The process id of that incarnation, as it knows itself. `None` when the seat has seen too many since.
    pub(crate) fn pid_of(&self, id: Id) -> Option<u32> {
        let seats = self.seats().ok()?;
        let seat = self.seat(id.k());
        // Acquire: with the Release in `attach`: who reads the entry of a later one sees how far the epoch has come.
        let pid = seats.u32(seat + PIDS + 4 * (id.epoch() % PIDS_KEPT) as usize).ok()?.load(Acquire);
        let epoch = seats.u64(seat + EPOCH).ok()?.load(Acquire) & EPOCH_MASK;
        // The entry of epoch + 8 is written before that epoch begins.
        let age = epoch.checked_sub(id.epoch())?;
        (age < PIDS_KEPT - 1 && pid != 0).then_some(pid)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let seats = self.process.words[MY_SEATS].load(Relaxed);
        if seats != 0 {
            let seats = std::ptr::with_exposed_provenance_mut::<Seats>(seats as usize);
            // SAFETY: `attach` of this process has made it from a box, and nobody else has `self`. Live words that a
            // thread's pending pointer is still at stay at reserved addresses.
            drop(unsafe { Box::from_raw(seats) });
        }
        wiped::release(self.process);
    }
}

/// A live word that a sleep watches, and what it was.
pub(crate) type Watched<'a> = (&'a AtomicU32, u32);

/// The kernel wakes one of those who watch a word that it marks: whoever sees the mark wakes the others, also if it
/// was woken by something else.
pub(crate) fn pass_on(live: &AtomicU32, word: u32) {
    if word & OWNER_DIED != 0 && word & WAITERS != 0 {
        live.fetch_and(!WAITERS, Relaxed);
        futex::wake_all(live.into());
    }
}

/// Writes the header of a new board, which nobody else has yet.
pub(crate) fn format(memory: &Mapping, base: usize) -> io::Result<()> {
    memory.u64(base)?.store(MAGIC.to_le(), Relaxed);
    memory.u32(base + 8)?.store(VERSION.to_le(), Relaxed);
    memory.u32(base + 12)?.store(SEATS as u32, Relaxed);
    Ok(())
}

/// Whether these are the first bytes of a board of this version.
pub(crate) fn check_header(header: &[u8; 12]) -> io::Result<()> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let (magic, version) = header.split_at(8);
    if magic != MAGIC.to_le_bytes() {
        return Err(wrong("not a board: no magic".into()));
    }
    if version != VERSION.to_le_bytes() {
        return Err(wrong(format!("a board of another version ({version:?}), this one reads {VERSION}")));
    }
    Ok(())
}

fn seat_lock(k: usize) -> std::ops::Range<u64> {
    let byte = SEAT_LOCKS + k as u64;
    byte..byte + 1
}

/// Whether this process has ever forked: children may hold objects through its own descriptions.
pub(crate) fn has_forked() -> bool {
    FORKED.load(Relaxed) != 0
}

static FORKED: AtomicU32 = AtomicU32::new(0);

/// Has forks wait for whoever is attaching, and be remembered: before there is anything that a child could share.
pub(crate) fn guard_forks() {
    thread_local! {
        static HELD: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) };
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        ipc_os::fork::at_fork(
            || HELD.set(Some(ATTACHING.lock())),
            || {
                FORKED.store(1, Relaxed);
                HELD.set(None);
            },
            // The thread that is left is the copy of the one that has locked it.
            || HELD.set(None),
        );
    });
}
