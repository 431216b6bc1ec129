//! Where processes run: what decides most of the cost of talking to each other.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Two processes, and the cores they are kept on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement {
    pub(crate) name: &'static str,
    pub(crate) ours: usize,
    pub(crate) theirs: usize,
}

/// The placements that matter and that this machine has: two cores, one core.
pub(crate) fn placements() -> Vec<Placement> {
    let cores = allowed();
    let mut placements = Vec::new();
    if let [first, second, ..] = cores[..] {
        placements.push(Placement { name: "two cores", ours: first, theirs: second });
    } else {
        println!("only one core may be used here: nothing is measured on two");
    }
    if let [first, ..] = cores[..] {
        placements.push(Placement { name: "one core", ours: first, theirs: first });
    }
    placements
}

fn allowed() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return vec![0] };
    (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect()
}

/// Keeps the calling thread on `core`.
pub(crate) fn pin(core: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Runs `f` with the calling thread kept on `core`, and lets it go where it could before.
pub(crate) fn pinned<R>(core: usize, f: impl FnOnce() -> R) -> nix::Result<R> {
    let before = sched_getaffinity(Pid::from_raw(0))?;
    pin(core)?;
    let result = f();
    sched_setaffinity(Pid::from_raw(0), &before)?;
    Ok(result)
}
