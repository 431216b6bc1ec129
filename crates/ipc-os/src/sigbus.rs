//! Mappings of files that somebody else may cut short.
//!
//! A file that others can truncate, as any file with a name, may lose pages while it is mapped; and where memory was not
//! reserved, a file system may find itself full at the first touch of a page. The kernel tells both by SIGBUS, which
//! ends the process. A [`Guarded`] mapping survives it: the access goes on in zeros, and the mapping is *poisoned* from
//! then on, which whoever used it asks afterwards.
//!
//! # The handler
//! The first [`Guarded`] of a process installs a handler of SIGBUS. For a fault inside of a guarded mapping it
//!
//! 1. marks the mapping as poisoned,
//! 2. maps anonymous zeros over everything from the faulting page to the mapping's end, with the same protection,
//! 3. returns, and the access is tried again.
//!
//! Everything to the end, since behind a page that is beyond the end of a file there is nothing either: one fault, and one
//! mapping more, however large the rest is. Where memory ran out there may be pages behind that are still good; they
//! are not shared any more, but a poisoned mapping is not to be used any more in any case.
//!
//! Every other SIGBUS goes to the handler that was there before, as if this one did not exist; in a program that had none,
//! it ends the process. A program that installs a handler *later* hides this one, and has to call what it found
//! there. A thread that blocks SIGBUS dies of such a fault whatever is installed: that is the kernel's rule.
//!
//! What is not told: a file that is cut in the middle of a page reads as zeros to that page's end, and so does one that was
//! long again before it was touched. Whoever may truncate may write zeros, too.
//!
//! Only accesses of the program itself raise the signal: a system call that is given such an address fails with `EFAULT`
//! instead, and poisons nothing.

mod registry;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use crate::map::{Access, Mapping};
use registry::{Range, Slot};

/// A [`Mapping`] that survives what would be a SIGBUS. Its file may be cut short, or be on a full file system.
///
/// A child that was forked without the mapping ([`Mapping::do_not_fork`]) may have something else at these addresses one
/// day, and the handler would take a fault in there for one of this.
///
/// ```
/// use ipc_os::map::{Access, Mapping};
/// use ipc_os::sigbus::Guarded;
/// let file = tempfile::tempfile()?;
/// file.set_len(8192)?;
/// let map = Guarded::new(Mapping::new(&file, 8192, Access::ReadWrite)?)?;
/// map.write(5000, b"x")?;
/// assert!(!map.is_poisoned());
///
/// file.set_len(0)?; // as a peer might
/// let mut byte = [1];
/// map.read(5000, &mut byte)?;
/// assert!(map.is_poisoned(), "what was read is worth nothing");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Guarded {
    // Declared first: nobody finds the mapping in the registry any more when it is unmapped.
    slot: Registration,
    mapping: Arc<Mapping>,
}

/// A place in the registry, given back when this is dropped.
#[derive(Debug)]
struct Registration(&'static Slot);

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Guarded {
    /// Guards a mapping from now on, until this is dropped, also if others keep the mapping longer; installs the handler
    /// if this is the process's first one.
    ///
    /// # Errors
    /// What `sigaction(2)` reports: nothing, as far as is known.
    pub fn new(mapping: impl Into<Arc<Mapping>>) -> io::Result<Self> {
        let mapping = mapping.into();
        install()?;
        let start = mapping.as_ptr().expose_provenance();
        let slot = registry::register(Range {
            start,
            // The last page is mapped to its end.
            end: start + mapping.len().next_multiple_of(page_size()),
            writable: mapping.access() == Access::ReadWrite,
        });
        Ok(Guarded { slot: Registration(slot), mapping })
    }

    /// Whether an access has gone into nothing, in whatever thread, at any time. To be asked *after* what was read is
    /// in a private place, or after something was written; and then nothing that was read may be believed.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        // Acquire, behind the reads: another thread's handler sets the flag before it maps the zeros that this thread may
        // have read.
        fence(Ordering::Acquire);
        self.slot.0.is_poisoned()
    }
}

impl Deref for Guarded {
    type Target = Mapping;
    #[inline]
    fn deref(&self) -> &Mapping {
        &self.mapping
    }
}

/// Known before the handler can run: asking the C library in there is not allowed.
static PAGE_SIZE: AtomicUsize = AtomicUsize::new(0);

/// What was there before our handler: its address and its flags. In atomics, for the handler.
static PREVIOUS: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
static PREVIOUS_FLAGS: AtomicUsize = AtomicUsize::new(0);

fn page_size() -> usize {
    PAGE_SIZE.load(Ordering::Relaxed)
}

/// Installs the handler, once.
fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        PAGE_SIZE.store(rustix::param::page_size(), Ordering::Relaxed);
        // Asked first, so that the handler knows whom to call from its first moment on.
        let old = current().map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))?;
        PREVIOUS.store(old.sa_sigaction, Ordering::Relaxed);
        PREVIOUS_FLAGS.store(old.sa_flags as usize, Ordering::Relaxed);
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
        // As std does it: on the alternative stack of threads that have one, and with the context for who comes next.
        set(handler as usize, libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART)
            .map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
    });
    installed.map_err(io::Error::from_raw_os_error)
}

fn current() -> io::Result<libc::sigaction> {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null new action only asks; the old one is written to `action`.
    if unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), action.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, and so has written all of it.
    Ok(unsafe { action.assume_init() })
}

/// Sets what SIGBUS does. Async-signal-safe.
fn set(handler: usize, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: zeros are a valid value of this plain structure: the default action, no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: the handler is SIG_DFL or `on_sigbus`, which does only what a handler may; the old action is not asked for.
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The handler. Nothing in here allocates, locks or panics.
extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: asks where this thread keeps its number.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the location is this thread's own, and valid as long as the thread is.
    let saved = unsafe { *errno };
    // SAFETY: the kernel passes a filled structure, which nobody changes.
    let told = unsafe { &*info };
    let code = told.si_code;
    // Only what the kernel says of an address of this thread's access; not what `kill` or a bad memory chip say.
    let is_ours = code == libc::BUS_ADRERR && {
        // SAFETY: with this code the field is the address.
        let address = unsafe { told.si_addr() };
        replace(address.addr())
    };
    if !is_ours {
        pass_on(signal, info, context, code);
    }
    // SAFETY: as above. What was interrupted finds it as it was.
    unsafe { *errno = saved };
}

/// Puts zeros from the address's page on to the end of the guarded mapping that it is in. Whether it is in one.
fn replace(address: usize) -> bool {
    // That the mapping is still there, and still this one, between here and the call below: the access that has faulted
    // borrows it, in this thread, which does not go on before this returns.
    let Some((slot, range)) = registry::find(address) else { return false };
    let from = address - address % page_size();
    // First: a thread that reads the zeros without a fault of its own must find the flag.
    slot.poison();
    let protection = if range.writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
    // No swap is set aside for it: under a strict overcommit rule a large one would be refused.
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    let at = std::ptr::with_exposed_provenance_mut(from);
    // SAFETY: replaces pages of a mapping that belongs to a `Guarded`, through which nothing but atomics and copies goes: any
    // content is as good as any other. It is a system call and nothing else. Two threads that do it at the same time
    // both replace a part that reaches to the same end.
    unsafe { mmap_anonymous(at, range.end - from, protection, flags) }.is_ok()
}

/// Does what would have happened without this handler.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void, code: libc::c_int) {
    let previous = PREVIOUS.load(Ordering::Relaxed);
    // A fault happens again when the handler returns; what was sent does not.
    let is_fault = code > 0 && code != libc::BUS_MCEERR_AO;
    if previous == libc::SIG_IGN && !is_fault {
        return;
    }
    if previous == libc::SIG_DFL || previous == libc::SIG_IGN {
        // The kernel does not let a fault be ignored either.
        let _cannot_fail = set(libc::SIG_DFL, 0);
        if !is_fault {
            // SAFETY: a signal to this thread, which takes effect when this handler returns and unblocks it.
            unsafe { libc::raise(signal) };
        }
        return;
    }
    let previous: *const () = std::ptr::with_exposed_provenance(previous);
    if PREVIOUS_FLAGS.load(Ordering::Relaxed) & libc::SA_SIGINFO as usize != 0 {
        type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: the program has installed it as a handler of this kind, and it is neither of the two special values.
        let handler: Handler = unsafe { std::mem::transmute(previous) };
        handler(signal, info, context);
    } else {
        // SAFETY: as above.
        let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(previous) };
        handler(signal);
    }
}
