//! How many threads a process has that could do something to what it shares.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::wiped;

/// Threads of the ipc crates' own, which touch nothing that a user shares. A forked child has none of its parent's.
fn counter() -> &'static AtomicU64 {
    static FALLBACK: AtomicU64 = AtomicU64::new(0);
    static COUNTER: OnceLock<&AtomicU64> = OnceLock::new();
    COUNTER.get_or_init(|| wiped::allocate().map_or(&FALLBACK, |block| &block.words[0]))
}

/// Says that the calling thread is one of the ipc crates' own until this is dropped.
#[derive(Debug)]
pub struct Internal(());

/// Counts this thread as one that touches nothing that a user shares.
pub fn internal() -> Internal {
    counter().fetch_add(1, Ordering::Relaxed);
    Internal(())
}

impl Drop for Internal {
    fn drop(&mut self) {
        counter().fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many threads this process has, but for those of [`internal`].
///
/// # Errors
/// Without `/proc`.
///
/// ```
/// let one = ipc_os::threads::count()?;
/// assert!(one >= 1);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn count() -> io::Result<usize> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    Ok(threads.saturating_sub(counter().load(Ordering::Relaxed) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted_but_for_internal_ones() {
        ipc_testkit::alone("threads::tests::threads_are_counted_but_for_internal_ones", || {
            let before = count().unwrap();
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let thread = std::thread::spawn(move || stopped.recv());
            assert_eq!(count().unwrap(), before + 1);
            let internal = internal();
            assert_eq!(count().unwrap(), before);
            drop(internal);
            drop(stop);
            thread.join().unwrap().unwrap_err();
            ipc_testkit::eventually("the thread is gone", || count().unwrap() == before);
        });
    }
}
