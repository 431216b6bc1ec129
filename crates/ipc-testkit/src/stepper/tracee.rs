//! A process under `ptrace(2)`, whose parent and tracer the calling thread is.
//!
//! Its stops are waited for without its end (`waitid` with `WSTOPPED` alone): whoever started it reaps it. A process
//! that has ended has no stops, which is `ECHILD`.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace::{self, AddressType, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::insn::{self, Registers};

/// Why the process stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// After a single step, or at a breakpoint.
    Trap,
    /// At the entry or exit of a system call.
    Call,
    /// It is about to receive this signal.
    Signal(Signal),
    /// It has ended.
    Gone,
}

/// How to let the process go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resume {
    /// For one instruction.
    Step,
    /// To the next entry or exit of a system call.
    ToCall,
    /// Until something stops it.
    Run,
}

/// How often to look for a stop before sleeping in between. The two share a core, and the process runs while we yield.
const YIELDS: usize = 20;

/// How long to sleep between two looks.
const LOOK_EVERY: Duration = Duration::from_micros(100);

/// The traced process.
#[derive(Debug)]
pub(super) struct Tracee {
    pid: Pid,
    /// A signal that the process is to receive when it goes on.
    signal: Option<Signal>,
    is_gone: bool,
}

impl Tracee {
    /// Waits for the stop in [`operation`](super::operation()), from which on the process is ours. `None`: it ended
    /// before.
    pub(super) fn adopt(pid: Pid) -> nix::Result<Option<Tracee>> {
        let mut tracee = Tracee { pid, signal: None, is_gone: false };
        loop {
            match tracee.wait()? {
                Stop::Signal(Signal::SIGSTOP) => break,
                Stop::Gone => return Ok(None),
                Stop::Signal(other) => tracee.signal = Some(other),
                Stop::Trap | Stop::Call => {}
            }
            tracee.resume(Resume::Run)?;
        }
        ptrace::setoptions(pid, Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD)?;
        Ok(Some(tracee))
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Lets it go on; that it has ended meanwhile is seen by waiting.
    pub(super) fn resume(&mut self, how: Resume) -> nix::Result<()> {
        let signal = self.signal.take();
        let resumed = match how {
            Resume::Step => ptrace::step(self.pid, signal),
            Resume::ToCall => ptrace::syscall(self.pid, signal),
            Resume::Run => ptrace::cont(self.pid, signal),
        };
        self.unless_gone(resumed)
    }

    /// Waits for a stop, however long that takes.
    pub(super) fn wait(&mut self) -> nix::Result<Stop> {
        loop {
            if let Some(stop) = self.look(WaitPidFlag::empty())? {
                return Ok(stop);
            }
        }
    }

    /// Waits for a stop, or until the process has slept for `asleep_max` without a break: `None`.
    pub(super) fn wait_unless_asleep(&mut self, asleep_max: Duration) -> nix::Result<Option<Stop>> {
        let mut asleep: Option<Instant> = None;
        for looks in 0_usize.. {
            if let Some(stop) = self.look(WaitPidFlag::WNOHANG)? {
                return Ok(Some(stop));
            }
            if looks < YIELDS {
                std::thread::yield_now();
                continue;
            }
            match asleep {
                _ if !self.is_asleep() => asleep = None,
                None => asleep = Some(Instant::now()),
                Some(since) if since.elapsed() >= asleep_max => return Ok(None),
                Some(_) => {}
            }
            std::thread::sleep(LOOK_EVERY);
        }
        unreachable!("an endless range has ended")
    }

    /// Carries the process on until it stops in another way than by a signal, which it is given.
    pub(super) fn go(&mut self, how: Resume) -> nix::Result<Stop> {
        loop {
            self.resume(how)?;
            match self.wait()? {
                Stop::Signal(signal) => self.signal = Some(signal),
                stop => return Ok(stop),
            }
        }
    }

    /// Gives the process a signal when it goes on.
    pub(super) fn give(&mut self, signal: Signal) {
        self.signal = Some(signal);
    }

    fn look(&mut self, how: WaitPidFlag) -> nix::Result<Option<Stop>> {
        if self.is_gone {
            return Ok(Some(Stop::Gone));
        }
        let stop = match waitid(Id::Pid(self.pid), WaitPidFlag::WSTOPPED | WaitPidFlag::__WALL | how) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => return Ok(None),
            Ok(WaitStatus::PtraceSyscall(_)) => Stop::Call,
            Ok(WaitStatus::PtraceEvent(_, Signal::SIGTRAP, _)) => Stop::Trap,
            Ok(WaitStatus::PtraceEvent(_, signal, _) | WaitStatus::Stopped(_, signal)) => {
                Stop::Signal(signal)
            }
            Ok(_) | Err(Errno::ECHILD) => Stop::Gone,
            Err(error) => return Err(error),
        };
        self.is_gone = stop == Stop::Gone;
        Ok(Some(stop))
    }

    /// Whether its thread sleeps in the kernel, as the system shows it.
    fn is_asleep(&self) -> bool {
        u32::try_from(self.pid.as_raw()).is_ok_and(|pid| crate::process_state(pid) == Some('S'))
    }

    /// Waits until the other threads of the process sleep, if there are any; whether they did in time. What one of them
    /// would do at a breakpoint is to end the process, for nobody traces it.
    pub(super) fn others_sleep(&self, within: Duration) -> std::io::Result<bool> {
        let start = Instant::now();
        while start.elapsed() < within {
            let mut awake = 0;
            for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid))? {
                let thread = thread?.path();
                let is_other =
                    thread.file_name().is_some_and(|id| id.to_string_lossy() != self.pid.to_string());
                // One that has ended meanwhile is no danger.
                let stat = std::fs::read_to_string(thread.join("stat")).unwrap_or_default();
                let is_asleep =
                    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['S', 'X', 'Z']));
                awake += usize::from(is_other && !is_asleep);
            }
            if awake == 0 {
                return Ok(true);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(false)
    }

    /// Lets go of the process, which goes on untraced.
    pub(super) fn detach(&mut self) -> nix::Result<()> {
        let detached = ptrace::detach(self.pid, self.signal.take());
        self.unless_gone(detached)
    }

    fn unless_gone(&mut self, result: nix::Result<()>) -> nix::Result<()> {
        match result {
            // Killed by the guard, or by somebody else.
            Err(Errno::ESRCH) => {
                self.is_gone = true;
                Ok(())
            }
            other => other,
        }
    }

    /// Where it stands.
    pub(super) fn cpu(&self) -> nix::Result<Cpu> {
        let r = ptrace::getregs(self.pid)?;
        let registers = [
            r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
            r.r14, r.r15,
        ];
        Ok(Cpu { rip: r.rip, registers })
    }

    /// Has it go on at another instruction.
    pub(super) fn set_rip(&self, rip: u64) -> nix::Result<()> {
        let mut registers = ptrace::getregs(self.pid)?;
        registers.rip = rip;
        ptrace::setregs(self.pid, registers)
    }

    /// The bytes of the instruction at an address; zeroes where there is no memory.
    pub(super) fn code(&self, address: u64) -> [u8; insn::LEN] {
        let word = |at: u64| self.word(at).unwrap_or(0).to_le_bytes();
        let mut bytes = [0; insn::LEN];
        bytes[..8].copy_from_slice(&word(address));
        bytes[8..].copy_from_slice(&word(address.wrapping_add(8)));
        bytes
    }

    /// The word at an address.
    pub(super) fn word(&self, address: u64) -> nix::Result<i64> {
        ptrace::read(self.pid, address as AddressType)
    }

    /// Changes the word at an address, in this process's own copy of the page, write-protected or not.
    pub(super) fn set_word(&self, address: u64, word: i64) -> nix::Result<()> {
        ptrace::write(self.pid, address as AddressType, word)
    }
}

/// What the process's thread has in its registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    /// The address of the next instruction.
    pub(super) rip: u64,
    /// The general registers.
    pub(super) registers: Registers,
}

impl Cpu {
    /// The number and first argument of the system call that is about to be made.
    pub(super) fn call(&self) -> (u64, u64) {
        (self.registers[0], self.registers[7])
    }
}
