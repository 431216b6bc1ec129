//! A process that is killed at one of the system calls of something that it does.
//!
//! It is traced from the begin of that on, and stopped at the entry of each system call, when nothing of it has happened,
//! and at its exit, when nobody has been told. (`ipc_testkit`'s stepper kills at each instruction, of which a handshake has
//! millions: nearly all of them are arithmetic, which nobody else can see.)

use ipc_process::{JoinError, Process};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// Says to the tracer that all is done. Nobody minds it otherwise.
const DONE: Signal = Signal::SIGWINCH;

/// What the process is to be killed in, from its begin to its end, seen from the inside: call it in the process that
/// [`kill_at`] is called for, by the thread that has started it.
pub(super) fn traced<R>(does: impl FnOnce() -> R) -> R {
    // Should the tracer die between here and its first word to us: nobody else would ever let us go on.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    ptrace::traceme().unwrap();
    raise(Signal::SIGSTOP).unwrap();
    let result = does();
    raise(DONE).unwrap();
    result
}

/// Where a process was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Killed {
    /// At that stop.
    There,
    /// It had done all before that.
    AtTheEnd,
}

/// Kills the process at the stop of that number within [`traced`], from zero, or after the last of them. It is dead and
/// reaped then.
pub(super) fn kill_at(process: Process<()>, stop: usize) -> Killed {
    let pid = Pid::from_raw(process.id().try_into().unwrap());
    let mut signal = None;
    // It is as far as that.
    loop {
        match wait(pid) {
            Stop::Signal(Signal::SIGSTOP) => break,
            Stop::Signal(other) => ptrace::cont(pid, other).unwrap(),
            Stop::Call => panic!("nobody has asked for it"),
        }
    }
    ptrace::setoptions(pid, Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD).unwrap();
    let mut stops = 0;
    let killed = loop {
        ptrace::syscall(pid, signal.take()).unwrap();
        match wait(pid) {
            Stop::Call if stops == stop => break Killed::There,
            Stop::Call => stops += 1,
            Stop::Signal(DONE) => break Killed::AtTheEnd,
            Stop::Signal(other) => signal = Some(other),
        }
    };
    process.kill().unwrap();
    let joined = process.join();
    assert!(matches!(joined, Err(JoinError::Killed { signal: 9, .. })), "{joined:?}");
    killed
}

/// Why it stands still.
enum Stop {
    /// At the entry or exit of a system call.
    Call,
    /// It is about to receive this signal.
    Signal(Signal),
}

/// The next stop. The end is left to who joins.
fn wait(pid: Pid) -> Stop {
    loop {
        match waitid(Id::Pid(pid), WaitPidFlag::WSTOPPED | WaitPidFlag::__WALL) {
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::PtraceSyscall(_)) => return Stop::Call,
            // `waitid` does not tell the two apart.
            Ok(WaitStatus::PtraceEvent(_, signal, _) | WaitStatus::Stopped(_, signal)) => {
                return Stop::Signal(signal);
            }
            other => panic!("{other:?}"),
        }
    }
}
