//! Signals that a library's own threads must not take.

use nix::sys::signal::{SigSet, SigmaskHow};
use std::io;

/// Runs `f` with all signals blocked in this thread. A thread that `f` starts has them blocked for all its life, so
/// that signals go to the program's own threads: one that blocks a signal to wait for it would otherwise lose it to
/// the library's thread, where it is not blocked.
///
/// # Errors
/// What `pthread_sigmask(3)` reports.
pub fn with_all_blocked<R>(f: impl FnOnce() -> R) -> io::Result<R> {
    struct Restore(SigSet);
    impl Drop for Restore {
        fn drop(&mut self) {
            // Setting a mask that the kernel itself has returned does not fail.
            let _ = self.0.thread_set_mask();
        }
    }
    let _restore = Restore(SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?);
    Ok(f())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_started_inside_take_no_signals_and_the_mask_comes_back() {
        let before = SigSet::thread_get_mask().unwrap();
        let inside = with_all_blocked(|| std::thread::spawn(|| SigSet::thread_get_mask().unwrap()).join());
        assert!(inside.unwrap().unwrap().contains(nix::sys::signal::Signal::SIGTERM));
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
        assert!(!before.contains(nix::sys::signal::Signal::SIGTERM));
    }
}
