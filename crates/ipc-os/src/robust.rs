//! What the kernel does for a thread that dies: it marks one word and wakes whoever waits for it.
//!
//! Each thread has a robust list, whose head belongs to the C library. Its `list_op_pending` names one more word, of a
//! lock operation that is going on. When the thread ends, by whatever cause, and at `exec`, the kernel looks there: if
//! the word is the thread's id, perhaps with [`WAITERS`], it becomes [`OWNER_DIED`] (with that bit), and with the bit
//! one waiter is woken (`kernel/futex/core.c`, `handle_futex_death`). No pointer of ours is in memory that others can
//! write, and nothing is linked into the list itself, which stays the C library's own.
//!
//! The C library sets the pointer to null at each operation on a robust mutex of its own; so it is compared, and set
//! again, whenever it is needed. It may be there or not: it is a way to know early, never the only one.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// The kernel sets this in the word of a thread that died.
pub const OWNER_DIED: u32 = 0x4000_0000;
/// Somebody waits for the word: the kernel wakes one of them.
pub const WAITERS: u32 = 0x8000_0000;
/// The thread id in the word.
pub const TID: u32 = 0x3fff_ffff;

/// `struct robust_list_head` of `linux/futex.h`.
#[repr(C)]
struct Head {
    list: *const (),
    futex_offset: libc::c_long,
    list_op_pending: AtomicPtr<()>,
}

/// The pending pointer of the thread that asked for it, which alone may use it.
#[derive(Debug, Clone, Copy)]
pub struct Pending {
    head: *const Head,
    not_send: PhantomData<*const ()>,
}

impl Pending {
    /// That of this thread. `None` where there is no robust list: not registered (musl before the first robust mutex),
    /// or the system call is forbidden.
    pub fn of_this_thread() -> Option<Self> {
        let mut head: *const Head = std::ptr::null();
        let mut len: libc::size_t = 0;
        // SAFETY: the call writes a pointer and a length to where it is told, both live.
        let done = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
        let usable = done == 0 && !head.is_null() && head.is_aligned() && len == size_of::<Head>();
        usable.then_some(Pending { head, not_send: PhantomData })
    }

    fn head(&self) -> &Head {
        // SAFETY: the C library keeps the head of a thread where it registered it as long as the thread lives, and
        // `self` does not leave the thread. The field that is used is atomic; the others never change.
        unsafe { &*self.head }
    }

    fn entry(&self, word: *const AtomicU32) -> *mut () {
        word.cast::<()>().cast_mut().wrapping_byte_offset(-(self.head().futex_offset as isize))
    }

    /// Whether the pointer is at `word`.
    #[inline]
    pub fn is_at(&self, word: *const AtomicU32) -> bool {
        // Relaxed: nobody but this thread and, when it dies, the kernel.
        self.head().list_op_pending.load(Ordering::Relaxed) == self.entry(word)
    }

    /// Points it at `word`.
    ///
    /// # Safety
    /// Until the pointer is elsewhere or the thread has ended, the address must not come to hold anything that could be
    /// equal to this thread's id but is not meant to be marked: `word` stays mapped, or nothing else is mapped there.
    #[inline]
    pub unsafe fn point_at(&self, word: *const AtomicU32) {
        self.head().list_op_pending.store(self.entry(word), Ordering::Relaxed);
    }

    /// Points it nowhere, if it is at `word`.
    pub fn leave(&self, word: *const AtomicU32) {
        if self.is_at(word) {
            self.head().list_op_pending.store(std::ptr::null_mut(), Ordering::Relaxed);
        }
    }
}

/// This thread's id, as the kernel compares it.
pub fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_marks_the_word_of_a_thread_that_ends() {
        static WORD: AtomicU32 = AtomicU32::new(0);
        static LEFT: AtomicU32 = AtomicU32::new(0);
        std::thread::spawn(|| {
            let pending = Pending::of_this_thread().expect("a C library with robust mutexes");
            WORD.store(thread_id() | WAITERS, Ordering::Relaxed);
            LEFT.store(thread_id(), Ordering::Relaxed);
            // SAFETY: both words live for ever.
            unsafe { pending.point_at(&raw const LEFT) };
            pending.leave(&raw const LEFT);
            assert!(!pending.is_at(&raw const LEFT));
            // SAFETY: as above.
            unsafe { pending.point_at(&raw const WORD) };
            pending.leave(&raw const LEFT);
            assert!(pending.is_at(&raw const WORD), "leaving another word changes nothing");
        })
        .join()
        .unwrap();
        // `join` returns before the kernel is through with the thread.
        ipc_testkit::eventually("the word is marked", || {
            WORD.load(Ordering::Relaxed) == OWNER_DIED | WAITERS
        });
        assert_ne!(LEFT.load(Ordering::Relaxed) & OWNER_DIED, OWNER_DIED);
    }
}
