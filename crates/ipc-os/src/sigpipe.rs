//! Writing into a pipe without the risk of SIGPIPE, at no cost for the usual program.
//!
//! `write(2)` to a pipe without readers raises SIGPIPE in the calling thread. Sockets have `MSG_NOSIGNAL`; pipes
//! have `RWF_NOSIGNAL` since Linux 6.18, but `pwritev2(2)` costs a quarter more than `write(2)` for small
//! messages. So each thread decides once, at its first write, by what the signal's disposition is then:
//!
//! | disposition | what the thread does | why |
//! |---|---|---|
//! | ignored (every Rust program, unless it changes that) | blocks SIGPIPE in its own mask, once; plain `write` | a later change of the disposition cannot kill it either; with the signal ignored, blocking it changes nothing that anyone can see |
//! | default, or a handler | each write is `pwritev2` with `RWF_NOSIGNAL`; before 6.18 each write blocks the signal, writes, and takes back what it raised | the program wants SIGPIPE for its other files (`prog \| head`), and keeps it |

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::io::{Errno, ReadWriteFlags};

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Undecided,
    Plain,
    Careful,
}

thread_local! {
    static WAY: Cell<Way> = const { Cell::new(Way::Undecided) };
}

/// `RWF_NOSIGNAL`, which neither rustix nor libc name yet (include/uapi/linux/fs.h, Linux 6.18).
const RWF_NOSIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);
/// The kernel has said that it does not know `RWF_NOSIGNAL`.
static NOSIGNAL_MISSING: AtomicBool = AtomicBool::new(false);

/// Writes like `write(2)`: no SIGPIPE (a pipe without readers is `BrokenPipe`), no EINTR.
#[inline]
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    if WAY.get() == Way::Plain {
        loop {
            match rustix::io::write(fd, bytes) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => continue,
                Err(Errno::PIPE) => return Err(broken(true)),
                Err(error) => return Err(error.into()),
            }
        }
    }
    write_with(fd, &[IoSlice::new(bytes)], ReadWriteFlags::empty())
}

/// Writes like `writev(2)`, with the same two promises.
pub(crate) fn write_vectored(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    write_with(fd, parts, ReadWriteFlags::empty())
}

/// Writes what goes in at once, `WouldBlock` if nothing does, without touching `O_NONBLOCK`; `Unsupported` where
/// the kernel has no `RWF_NOWAIT` for this kind of file.
pub(crate) fn write_nowait(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    write_with(fd, parts, ReadWriteFlags::NOWAIT)
}

fn write_with(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>], flags: ReadWriteFlags) -> io::Result<usize> {
    match decide() {
        Way::Plain => retrying(|| raw_write(fd, parts, flags)).map_err(|e| map_broken(e, true)),
        _ => careful_write(fd, parts, flags),
    }
}

fn raw_write(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>], flags: ReadWriteFlags) -> rustix::io::Result<usize> {
    if flags.is_empty() {
        rustix::io::writev(fd, parts)
    } else {
        // An offset of -1 means "no offset": a pipe has none.
        rustix::io::pwritev2(fd, parts, u64::MAX, flags)
    }
}

fn careful_write(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>], flags: ReadWriteFlags) -> io::Result<usize> {
    if !NOSIGNAL_MISSING.load(Relaxed) {
        match retrying(|| rustix::io::pwritev2(fd, parts, u64::MAX, flags | RWF_NOSIGNAL)) {
            // EOPNOTSUPP may speak of either flag; without a second one it can only be this one.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {}
            other => return other.map_err(|e| map_broken(e, false)),
        }
        if flags.is_empty() {
            NOSIGNAL_MISSING.store(true, Relaxed);
        }
    }
    masked_write(fd, parts, flags)
}

/// Writes with SIGPIPE blocked for so long, and takes back the one that it raised: for kernels without
/// `RWF_NOSIGNAL`. One that was pending before, which somebody else has blocked and not looked at yet, is left there.
fn masked_write(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>], flags: ReadWriteFlags) -> io::Result<usize> {
    let _blocked = Blocked::new()?;
    let pending_before = is_pending();
    retrying(|| raw_write(fd, parts, flags)).map_err(|e| map_broken(e, !pending_before))
}

fn is_pending() -> bool {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the call writes the whole set, or fails.
    if unsafe { libc::sigpending(set.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: it has succeeded, and the number is a signal's.
    unsafe { libc::sigismember(set.as_ptr(), libc::SIGPIPE) == 1 }
}

/// SIGPIPE blocked in this thread until this is dropped.
struct Blocked(SigSet);

impl Blocked {
    fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGPIPE);
        Ok(Blocked(set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // Setting a mask that the kernel itself has returned does not fail.
        let _ = self.0.thread_set_mask();
    }
}

#[cold]
fn broken(take_signal: bool) -> io::Error {
    if take_signal {
        take_pending();
    }
    io::Error::from(Errno::PIPE)
}

fn map_broken(error: Errno, take_signal: bool) -> io::Error {
    if error == Errno::PIPE { broken(take_signal) } else { error.into() }
}

/// Takes a SIGPIPE back that is pending for this thread, where it is blocked: a blocked signal stays pending
/// even when it is ignored, and would be delivered once somebody unblocks it.
fn take_pending() {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut set = SigSet::empty();
    set.add(Signal::SIGPIPE);
    // SAFETY: the set and the time-out are valid for the call, and a null siginfo is allowed.
    let _ = unsafe { libc::sigtimedwait(set.as_ref(), std::ptr::null_mut(), &now) };
}

#[inline]
fn retrying<T>(mut f: impl FnMut() -> rustix::io::Result<T>) -> Result<T, Errno> {
    loop {
        match f() {
            Err(Errno::INTR) => continue,
            other => return other,
        }
    }
}

fn decide() -> Way {
    let way = WAY.get();
    if way != Way::Undecided {
        return way;
    }
    let way = if ignored() && block_here() { Way::Plain } else { Way::Careful };
    WAY.set(way);
    way
}

fn ignored() -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null new action only asks; the old one is written to `action`.
    let asked = unsafe { libc::sigaction(libc::SIGPIPE, std::ptr::null(), action.as_mut_ptr()) };
    if asked != 0 {
        return false;
    }
    // SAFETY: the call above succeeded, so it has written the whole structure.
    let action = unsafe { action.assume_init() };
    action.sa_sigaction == libc::SIG_IGN
}

/// Ignores SIGPIPE in this process, as the standard library does before `main`: for code that runs before that.
pub fn ignore_sigpipe() {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

fn block_here() -> bool {
    let mut set = SigSet::empty();
    set.add(Signal::SIGPIPE);
    set.thread_block().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    // The kernels that CI runs on have RWF_NOSIGNAL, so the other way is called by its name.
    #[test]
    fn without_nosignal_sigpipe_does_not_kill_either() {
        let (reader, writer) = crate::pipe::pipe().unwrap();
        drop(reader);
        let write = || masked_write(writer.as_fd(), &[IoSlice::new(b"x")], ReadWriteFlags::empty());
        // SAFETY: the default is no handler. Other tests' threads decide for themselves how they write, and none of
        // these ways is killed by it.
        let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        // Processes that other tests are starting have copies of the reader until their exec.
        ipc_testkit::eventually("the reader is gone", || write().is_err());
        assert_eq!(write().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(!is_pending(), "what it raised was taken back");

        // One that somebody else keeps pending stays.
        let blocked = Blocked::new().unwrap();
        // SAFETY: a signal to this very thread, in which it is blocked.
        unsafe { libc::raise(libc::SIGPIPE) };
        assert_eq!(write().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(is_pending());
        take_pending();
        drop(blocked);
        // SAFETY: puts back what was there.
        unsafe { libc::signal(libc::SIGPIPE, before) };
    }
}
