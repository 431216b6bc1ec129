//! Where and how the stepped process runs: on the stepper's core, with the same addresses each time.

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::sys::personality::{self, Persona};
use nix::unistd::Pid;

/// The calling thread and what it starts stay on one core until this is dropped. A step is two switches between tracer
/// and tracee; between cores each would be a wake-up of a sleeping core, which costs several times as much.
pub(super) struct Pinned(CpuSet);

impl Pinned {
    pub(super) fn here() -> nix::Result<Pinned> {
        let me = Pid::from_raw(0);
        let before = sched_getaffinity(me)?;
        let mut here = CpuSet::new();
        here.set(sched_getcpu()?)?;
        sched_setaffinity(me, &here)?;
        Ok(Pinned(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was allowed before: at worst the thread stays where it is.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

/// What `f` starts has its program, libraries and stack where every other process started like that has them.
pub(super) fn without_randomisation<R>(f: impl FnOnce() -> R) -> nix::Result<R> {
    struct Restore(Persona);
    impl Drop for Restore {
        fn drop(&mut self) {
            let _ = personality::set(self.0);
        }
    }
    let before = personality::get()?;
    personality::set(before | Persona::ADDR_NO_RANDOMIZE)?;
    let _restore = Restore(before);
    Ok(f())
}
