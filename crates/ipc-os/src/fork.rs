//! Being told of forks that others make.

use std::sync::Mutex;

/// What is done before a fork, after it in the parent, and after it in the child.
#[derive(Clone, Copy)]
struct Handlers {
    before: fn(),
    in_parent: fn(),
    in_child: fn(),
}

const MAX: usize = 8;
static HANDLERS: Mutex<(usize, [Option<Handlers>; MAX])> = Mutex::new((0, [None; MAX]));

/// Has the C library call these functions around each `fork(3)` of this process, in the thread that forks (not around
/// `vfork`, `posix_spawn` or a bare `clone`). Whether there was room for them: a process has eight such places.
///
/// What `in_child` does must be fit for a child of a process with threads: other threads' locks are as they were.
pub fn at_fork(before: fn(), in_parent: fn(), in_child: fn()) -> bool {
    let Ok(mut handlers) = HANDLERS.lock() else { return false };
    let (count, places) = &mut *handlers;
    let Some(place) = places.get_mut(*count) else { return false };
    *place = Some(Handlers { before, in_parent, in_child });
    *count += 1;
    if *count == 1 {
        // SAFETY: the functions live for ever, do not unwind, and touch nothing but the table.
        return unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) } == 0;
    }
    true
}

/// The table, kept locked over the fork, so that the child finds it whole.
static DURING: Mutex<Option<[Option<Handlers>; MAX]>> = Mutex::new(None);

extern "C" fn prepare() {
    let handlers = HANDLERS.lock().map_or([None; MAX], |handlers| handlers.1);
    for handler in handlers.iter().flatten() {
        (handler.before)();
    }
    if let Ok(mut during) = DURING.lock() {
        *during = Some(handlers);
    }
}

extern "C" fn parent() {
    after(|handler| handler.in_parent);
}

extern "C" fn child() {
    after(|handler| handler.in_child);
}

fn after(which: fn(&Handlers) -> fn()) {
    let handlers = DURING.try_lock().map_or([None; MAX], |mut during| during.take().unwrap_or([None; MAX]));
    for handler in handlers.iter().flatten() {
        which(handler)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    static SEEN: AtomicU32 = AtomicU32::new(0);

    #[test]
    fn handlers_run_in_their_places() {
        assert!(at_fork(
            || _ = SEEN.fetch_add(1, Ordering::Relaxed),
            || _ = SEEN.fetch_add(10, Ordering::Relaxed),
            || _ = SEEN.fetch_add(100, Ordering::Relaxed),
        ));
        let before = SEEN.load(Ordering::Relaxed);
        // SAFETY: the child only reads a word and exits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let code = SEEN.load(Ordering::Relaxed) - before;
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(code as i32) };
        }
        let mut status = 0;
        // SAFETY: waits for that child, and writes its status to a live variable.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(libc::WEXITSTATUS(status), 101);
        // Tests of other modules may fork meanwhile.
        assert!(SEEN.load(Ordering::Relaxed) >= before + 11);
    }
}
