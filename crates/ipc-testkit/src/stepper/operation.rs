//! The stepped process's side: where the operation begins and ends.

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::unistd::{Pid, getpgid};

/// Set in the environment of a process that is to be stepped.
pub(super) const STEPPED: &str = "IPC_TESTKIT_STEPPED";

/// Arguments of `getpgid(2)` that no process number can be: the tracer knows them, to the kernel they are nobody.
pub(super) const BEGIN: u64 = 0x6970_6301;
/// As [`BEGIN`], after the operation.
pub(super) const END: u64 = 0x6970_6302;

/// Performs the operation that is to be stepped. What a process does before and after runs at full speed, and is not
/// killed. In a process that no stepper has started, it is just called.
///
/// # Panics
/// When the process cannot be traced.
pub fn operation<R>(f: impl FnOnce() -> R) -> R {
    if std::env::var_os(STEPPED).is_none() {
        return f();
    }
    // What a panic does is not stepped: a backtrace is millions of instructions.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        marker(END);
        hook(info);
    }));
    // Should the stepper die between here and its first word to us: nobody else would ever let us go on.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("a signal for the parent's death");
    if !ipc_process::parent().is_some_and(|parent| parent.is_alive()) {
        std::process::exit(1);
    }
    ptrace::traceme().expect("the stepper can trace this process");
    // The stepper waits for this stop; nothing is timed, so nothing can be missed.
    raise(Signal::SIGSTOP).expect("a process can stop itself");
    marker(BEGIN);
    let result = f();
    marker(END);
    result
}

fn marker(which: u64) {
    // It fails, and is meant to.
    let _ = getpgid(Some(Pid::from_raw(which as i32)));
}
