//! Taking a process through its operation, moment by moment.

use std::collections::HashMap;
use std::time::Duration;

use nix::unistd::Pid;

use super::insn::Insn;
use super::landing::Landing;
use super::operation::{BEGIN, END};
use super::scenario::BoxError;
use super::trace::{self, Kind, Map, Moment, Trace};
use super::tracee::{Cpu, Resume, Stop, Tracee};

/// `getpgid(2)`, which marks begin and end.
const MARKER_CALL: u64 = 121;

/// System calls that change what is mapped: `mmap`, `munmap`, `mremap`.
const MAPPING_CALLS: [u64; 3] = [9, 11, 25];

/// An operation of more moments than this is none that anybody wants to step.
const MOMENTS_MAX: usize = 5_000_000;

/// How long other threads of the process may take to fall asleep.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// What the instructions at these addresses are. Without randomisation it holds for all runs.
pub(super) type Code = HashMap<u64, Insn>;

/// Where the way to a moment has led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// To the moment; or, where the run took another way, to one that lies as far from the beginning.
    There { strayed: bool },
    /// To the end of the operation, or of the process.
    Ended,
}

/// What the survivors do while the process sleeps.
pub(super) struct Turns<'a> {
    pub(super) after: Duration,
    pub(super) take: &'a mut dyn FnMut() -> Result<(), BoxError>,
}

/// A process within its operation.
pub(super) struct Walk<'a> {
    tracee: Tracee,
    code: &'a mut Code,
    turns: Turns<'a>,
    cpu: Cpu,
    /// The system call that it is in, and whether it was seen asleep there.
    call: Option<(u64, bool)>,
    has_ended: bool,
    /// No other thread is about to run into a breakpoint.
    others_sleep: bool,
    /// Steps made so far.
    pub(super) steps: usize,
}

impl<'a> Walk<'a> {
    /// Takes the process to the beginning of its operation; `None` if it ended before.
    pub(super) fn begin(
        pid: Pid,
        code: &'a mut Code,
        turns: Turns<'a>,
    ) -> Result<Option<Walk<'a>>, BoxError> {
        let Some(mut tracee) = Tracee::adopt(pid)? else { return Ok(None) };
        loop {
            match tracee.go(Resume::ToCall)? {
                Stop::Gone => return Ok(None),
                Stop::Call if tracee.cpu()?.registers[7] == BEGIN => break,
                _ => {}
            }
        }
        // That was its entry; or its exit, which leaves the argument as it was.
        if is_at_entry(&tracee)? && tracee.go(Resume::ToCall)? == Stop::Gone {
            return Ok(None);
        }
        let others_sleep = tracee.others_sleep(SETTLE_MAX)?;
        let cpu = tracee.cpu()?;
        Ok(Some(Walk { tracee, others_sleep, code, turns, cpu, call: None, has_ended: false, steps: 0 }))
    }

    /// Goes on to the next moment; `None` at the end of the operation or the process.
    fn next(&mut self, trace: &Trace) -> Result<Option<Kind>, BoxError> {
        if let Some((number, was_asleep)) = self.call {
            return self.leave(number, was_asleep);
        }
        self.steps += 1;
        let insn = self.insn();
        if let Insn::String(Some(len)) = insn
            && !self.touches_shared(insn, trace)
        {
            return self.step_over(self.cpu.rip + u64::from(len));
        }
        if insn == Insn::Syscall {
            let (number, argument) = self.cpu.call();
            if (number, argument) == (MARKER_CALL, END) {
                self.has_ended = true;
                return Ok(None);
            }
            self.call = Some((number, false));
            return self.arrive(Resume::ToCall, Kind::Entry(number));
        }
        self.arrive(Resume::Step, Kind::Step)
    }

    fn arrive(&mut self, how: Resume, kind: Kind) -> Result<Option<Kind>, BoxError> {
        if self.tracee.go(how)? == Stop::Gone {
            self.has_ended = true;
            return Ok(None);
        }
        self.cpu = self.tracee.cpu()?;
        Ok(Some(kind))
    }

    /// Makes one step of all rounds of an instruction that repeats itself, on memory that nobody else sees: a buffer
    /// that is filled with zeroes would be thousands of moments without a difference.
    fn step_over(&mut self, next: u64) -> Result<Option<Kind>, BoxError> {
        match self.land(Landing { moment: 0, rip: next, visit: 1 })? {
            Some(true) => Ok(Some(Kind::Step)),
            Some(false) => Ok(None),
            None => self.arrive(Resume::Step, Kind::Step),
        }
    }

    fn touches_shared(&self, insn: Insn, trace: &Trace) -> bool {
        insn.addresses(&self.cpu.registers).into_iter().flatten().any(|address| trace.is_shared(address))
    }

    /// From within a system call to its exit, or to where the process has been asleep in it for long enough.
    fn leave(&mut self, number: u64, was_asleep: bool) -> Result<Option<Kind>, BoxError> {
        if was_asleep {
            (self.turns.take)()?;
        } else {
            self.tracee.resume(Resume::ToCall)?;
        }
        loop {
            match self.tracee.wait_unless_asleep(self.turns.after)? {
                None if was_asleep => (self.turns.take)()?,
                None => {
                    self.call = Some((number, true));
                    return Ok(Some(Kind::Blocked(number)));
                }
                Some(Stop::Call) => break,
                Some(Stop::Gone) => {
                    self.has_ended = true;
                    return Ok(None);
                }
                Some(Stop::Signal(signal)) => {
                    self.tracee.give(signal);
                    self.tracee.resume(Resume::ToCall)?;
                }
                Some(Stop::Trap) => self.tracee.resume(Resume::ToCall)?,
            }
        }
        self.call = None;
        self.cpu = self.tracee.cpu()?;
        Ok(Some(Kind::Exit(number)))
    }

    fn insn(&mut self) -> Insn {
        let rip = self.cpu.rip;
        *self.code.entry(rip).or_insert_with(|| Insn::of(&self.tracee.code(rip)))
    }

    /// Goes to the end of the operation and writes down each moment.
    pub(super) fn record(&mut self) -> Result<Trace, BoxError> {
        let mut trace = Trace { maps: self.maps()?, ..Trace::default() };
        trace.program = std::fs::read_link(self.proc("exe"))?.to_string_lossy().into_owned();
        let mut kind = Kind::Begin;
        loop {
            if let Kind::Exit(number) = kind
                && MAPPING_CALLS.contains(&number)
            {
                trace.maps = self.maps()?;
            }
            let insn = if kind.is_at_instruction() { self.insn() } else { Insn::Other };
            let touches_shared = self.touches_shared(insn, &trace);
            let is_syscall = insn == Insn::Syscall;
            trace.moments.push(Moment { kind, rip: self.cpu.rip, touches_shared, is_syscall });
            if trace.moments.len() > MOMENTS_MAX {
                return Err(format!("the operation has more than {MOMENTS_MAX} instructions").into());
            }
            match self.next(&trace)? {
                Some(next) => kind = next,
                None => return Ok(trace),
            }
        }
    }

    fn proc(&self, what: &str) -> String {
        format!("/proc/{}/{what}", self.tracee.pid())
    }

    fn maps(&self) -> Result<Vec<Map>, BoxError> {
        Ok(trace::maps(&std::fs::read_to_string(self.proc("maps"))?))
    }

    /// Goes to the moment with this index, by way of a breakpoint if there is a good one.
    pub(super) fn go_to(
        &mut self,
        trace: &Trace,
        target: usize,
        landing: Option<Landing>,
    ) -> Result<Arrival, BoxError> {
        // Somewhere else than in the first run nothing that was learned there holds.
        let is_alike = trace.moments.first().is_some_and(|first| first.rip == self.cpu.rip);
        if !is_alike {
            self.code.clear();
        }
        let mut at = 0;
        if let Some(landing) = landing.filter(|_| is_alike) {
            match self.land(landing)? {
                Some(true) => at = landing.moment,
                Some(false) => return Ok(Arrival::Ended),
                None => {}
            }
        }
        let mut kind = trace.moments[at].kind;
        while at < target {
            let Some(next) = self.next(trace)? else { return Ok(Arrival::Ended) };
            kind = next;
            let is_blocked = matches!(kind, Kind::Blocked(_));
            let was_blocked = matches!(trace.moments[at + 1].kind, Kind::Blocked(_));
            at += match (is_blocked, was_blocked) {
                // Asleep where the first run was not: that moment has no number.
                (true, false) => 0,
                (false, true) => 2,
                _ => 1,
            };
        }
        let wanted = &trace.moments[target];
        // What sleeps has no registers to be read; they are those of the entry.
        Ok(Arrival::There { strayed: at != target || kind != wanted.kind || self.cpu.rip != wanted.rip })
    }

    /// Runs to a breakpoint. `Some(false)`: the process ended before it came there; `None`: there can be none.
    fn land(&mut self, landing: Landing) -> Result<Option<bool>, BoxError> {
        const BREAKPOINT: i64 = 0xcc;
        let Landing { rip, visit, .. } = landing;
        let word = match self.tracee.word(rip) {
            Ok(word) if self.others_sleep => word,
            _ => return Ok(None),
        };
        let with_breakpoint = (word & !0xff) | BREAKPOINT;
        for visits in 1.. {
            self.tracee.set_word(rip, with_breakpoint)?;
            if !self.run_to_trap()? {
                // It goes on by itself, if it is still there at all.
                let _ = self.tracee.set_word(rip, word);
                return Ok(Some(false));
            }
            let stopped_at = self.tracee.cpu()?.rip;
            if stopped_at != rip + 1 {
                return Err(format!("the process trapped at {stopped_at:#x}").into());
            }
            self.tracee.set_word(rip, word)?;
            self.tracee.set_rip(rip)?;
            if visits == visit {
                break;
            }
            self.steps += 1;
            if self.tracee.go(Resume::Step)? == Stop::Gone {
                return Ok(Some(false));
            }
        }
        self.cpu = self.tracee.cpu()?;
        Ok(Some(true))
    }

    /// Lets the process run to the breakpoint; survivors have their turns. Whether it came there before the end of the
    /// operation: behind that it may well come by.
    fn run_to_trap(&mut self) -> Result<bool, BoxError> {
        self.tracee.resume(Resume::ToCall)?;
        loop {
            match self.tracee.wait_unless_asleep(self.turns.after)? {
                None => (self.turns.take)()?,
                Some(Stop::Trap) => return Ok(true),
                Some(Stop::Gone) => {
                    self.has_ended = true;
                    return Ok(false);
                }
                Some(Stop::Signal(signal)) => {
                    self.tracee.give(signal);
                    self.tracee.resume(Resume::ToCall)?;
                }
                Some(Stop::Call) if self.tracee.cpu()?.registers[7] == END => {
                    self.has_ended = true;
                    return Ok(false);
                }
                Some(Stop::Call) => self.tracee.resume(Resume::ToCall)?,
            }
        }
    }

    /// Lets the process go on by itself, from the end of its operation.
    pub(super) fn let_go(&mut self) -> Result<(), BoxError> {
        Ok(self.tracee.detach()?)
    }
}

/// Whether the stop at a system call is at its entry: there the result is "not implemented", for now.
fn is_at_entry(tracee: &Tracee) -> nix::Result<bool> {
    const NOT_IMPLEMENTED: u64 = -38_i64 as u64;
    Ok(tracee.cpu()?.registers[0] == NOT_IMPLEMENTED)
}
