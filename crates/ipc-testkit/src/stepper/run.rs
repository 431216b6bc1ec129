//! All runs of one scenario.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use ipc_process::{JoinError, Process, WorkerFn};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::guard::Guard;
use super::landing::{Landing, Landings};
use super::operation::STEPPED;
use super::place::{Pinned, without_randomisation};
use super::report::{Failure, Progress, Report};
use super::scenario::{BoxError, Outcome, Scenario};
use super::trace::Trace;
use super::walk::{Arrival, Code, Turns, Walk};
use super::{KillPoints, Stepper, choice};

/// Which part of the time of a sample may go to runs that are made again.
const AGAIN_MAX: f64 = 0.3;

/// So many runs are made whatever the time: an operation that nobody is killed in has shown nothing.
const KILLS_MIN: usize = 24;

const TOO_LONG: &str = "the operation has not ended in time";

const SIGKILL: i32 = 9;

/// Steps a scenario: see [`Steps::step`](super::Steps::step).
pub(super) fn step<F, S, A, R>(
    scenario: &Scenario<F, S, A, R>,
    stepper: &Stepper,
    progress: &mut dyn FnMut(Progress),
) -> Report
where
    F: WorkerFn<(A,), Out = R>,
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    let report = Report { name: scenario.name.clone(), ..Report::default() };
    let guard = Guard::new(stepper.patience);
    let start = Instant::now();
    let mut runs = Runs {
        scenario,
        stepper,
        guard,
        start,
        code: Code::new(),
        report,
        again: Duration::ZERO,
        run: String::new(),
    };
    if let Err(error) = runs.all(progress) {
        runs.report.failures.push(Failure { at: None, place: String::new(), message: error.to_string() });
    }
    let mut report = runs.report;
    report.seconds = start.elapsed().as_secs_f64();
    report
}

struct Runs<'a, F, S, A, R> {
    scenario: &'a Scenario<F, S, A, R>,
    stepper: &'a Stepper,
    guard: Guard,
    start: Instant,
    code: Code,
    report: Report,
    /// How long runs took that were made again.
    again: Duration,
    /// What the run is for, in messages.
    run: String,
}

impl<F, S, A, R> Runs<'_, F, S, A, R>
where
    F: WorkerFn<(A,), Out = R>,
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    fn all(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<(), BoxError> {
        let _pinned = Pinned::here()?;
        progress(Progress { done: 0, of: 0 });
        let trace = self.count()?;
        self.report.counting_seconds = self.start.elapsed().as_secs_f64();
        self.report.instructions = trace.instructions();
        self.report.moments = trace.moments.len();
        self.report.visible = (0..trace.moments.len()).filter(|&at| choice::is_visible(&trace, at)).count();

        let mut landings = Landings::of(&trace);
        let chosen = choice::choose(&trace, self.stepper.kill_points);
        self.report.chosen = chosen.len();
        let passes = match self.stepper.kill_points {
            KillPoints::All => vec![chosen.clone()],
            KillPoints::Sample(_) => choice::passes(&trace, &chosen),
        };
        let mut done = 0;
        for pass in passes {
            landings.begin_again();
            for at in pass {
                progress(Progress { done, of: chosen.len() });
                done += 1;
                let is_over = self.stepper.budget.is_some_and(|budget| self.start.elapsed() >= budget);
                if (is_over && done > KILLS_MIN) || self.report.failures.len() >= self.stepper.failures_max {
                    self.report.is_cut_short = true;
                    return Ok(());
                }
                if let Err(error) = self.kill_at(at, &trace, &mut landings) {
                    let failure =
                        Failure { at: Some(at), place: trace.place(at), message: error.to_string() };
                    self.report.failures.push(failure);
                }
            }
        }
        progress(Progress { done: chosen.len(), of: chosen.len() });
        self.run = "all runs".into();
        self.watch("what has to hold after them");
        caught(|| (self.scenario.finally)(&self.report))
    }

    /// Says what must not take for ever from now on.
    fn watch(&self, what: &str) {
        self.guard.watch(format!("{}, {}: {what}", self.scenario.name, self.run));
    }

    /// Makes the objects and starts the process.
    fn start(&mut self) -> Result<(S, Process<R>), BoxError> {
        self.watch("preparing");
        let (state, args) = caught(|| (self.scenario.prepare)())?;
        // Without the thread that waits for its parent's end, which could run into a breakpoint: `operation` sees to that.
        let builder = Process::builder().name("stepped").env(STEPPED, "1").outlives_parent(true);
        let process = without_randomisation(|| builder.spawn(self.scenario.process, (args,)))??;
        Ok((state, process))
    }

    /// The first run: to the end, counting.
    fn count(&mut self) -> Result<Trace, BoxError> {
        self.run = "the first run".into();
        let (mut state, mut process) = self.start()?;
        let trace = self.walk(&mut state, &mut process, |walk| {
            let trace = walk.record()?;
            walk.let_go()?;
            Ok(trace)
        })?;
        self.complete(&mut state, &mut process)?;
        trace.ok_or_else(|| "the process has performed no operation".into())
    }

    /// One run that is to end at a moment; and more, if it ends before it comes there.
    fn kill_at(&mut self, at: usize, trace: &Trace, landings: &mut Landings) -> Result<(), BoxError> {
        self.run = format!("killed at moment {at}, {}", trace.place(at));
        let landing = landings.for_moment(trace, at);
        if self.try_to_kill_at(at, trace, landing)? {
            landing.into_iter().for_each(|landing| landings.succeeded(landing));
            return Ok(());
        }
        let Some(failed) = landing else { return Ok(()) };
        landings.failed(failed);
        let is_sample = self.stepper.kill_points != KillPoints::All;
        // By another breakpoint, then by none: step by step it does what it did in the first run.
        for landing in [landings.for_moment(trace, at), None] {
            if is_sample && self.again > self.start.elapsed().mul_f64(AGAIN_MAX) {
                break;
            }
            let start = Instant::now();
            let done = self.try_to_kill_at(at, trace, landing);
            self.again += start.elapsed();
            if done? {
                break;
            }
        }
        Ok(())
    }

    /// One run that is to end at a moment. Whether it came there, or completed the operation before.
    fn try_to_kill_at(
        &mut self,
        at: usize,
        trace: &Trace,
        landing: Option<Landing>,
    ) -> Result<bool, BoxError> {
        let (mut state, mut process) = self.start()?;
        let arrival = self.walk(&mut state, &mut process, |walk| {
            let arrival = walk.go_to(trace, at, landing)?;
            if arrival == Arrival::Ended {
                walk.let_go()?;
            }
            Ok(arrival)
        })?;
        if let Some(Arrival::There { strayed }) = arrival {
            self.report.strayed += usize::from(strayed);
            return self.kill(&mut state, &mut process).map(|()| true);
        }
        self.complete(&mut state, &mut process).map(|()| false)
    }

    /// Follows the process through its operation; `None` if it ended before that began.
    fn walk<T>(
        &mut self,
        state: &mut S,
        process: &mut Process<R>,
        f: impl FnOnce(&mut Walk<'_>) -> Result<T, BoxError>,
    ) -> Result<Option<T>, BoxError> {
        let pid = Pid::from_raw(i32::try_from(process.id())?);
        self.guard.watch_child(format!("{}, {}: the operation", self.scenario.name, self.run), pid);
        let mut turn = 0;
        let mut take = || {
            turn += 1;
            caught(|| {
                (self.scenario.while_blocked)(state, turn - 1);
                Ok(())
            })
        };
        let turns = Turns { after: self.stepper.blocked_after, take: &mut take };
        let mut steps = 0;
        let result = Walk::begin(pid, &mut self.code, turns).and_then(|walk| {
            let Some(mut walk) = walk else { return Ok(None) };
            let result = f(&mut walk);
            steps = walk.steps;
            result.map(Some)
        });
        self.report.steps += steps;
        self.report.blocked += turn;
        // From here on it may be reaped: its number is no longer to be killed.
        self.watch("the end of the process");
        result.map_err(|error| {
            // It stands still somewhere; what comes of it is of no interest beside the error.
            let _ = process.kill().map(|()| process.join_timeout(self.stepper.patience / 2));
            if self.guard.has_killed() { TOO_LONG.into() } else { error }
        })
    }

    /// Kills the process where it stands, reaps it, and asks the oracle.
    fn kill(&mut self, state: &mut S, process: &mut Process<R>) -> Result<(), BoxError> {
        process.kill()?;
        match process.join_timeout(self.stepper.patience) {
            Err(JoinError::Killed { signal: SIGKILL, .. }) => {}
            Err(error) => return Err(format!("it was to be killed, but: {error}").into()),
            Ok(_) => return Err("it was to be killed, but has returned".into()),
        }
        self.report.kills += 1;
        self.ask(state, Outcome::Killed)
    }

    /// Lets the process end by itself, and asks the oracle.
    fn complete(&mut self, state: &mut S, process: &mut Process<R>) -> Result<(), BoxError> {
        match process.join_timeout(self.stepper.patience / 2) {
            Ok(result) => {
                self.report.completed += 1;
                self.ask(state, Outcome::Completed(result))
            }
            Err(JoinError::Running) => {
                process.kill()?;
                // Whatever comes now: it is the hang that is told.
                let _ = process.join_timeout(self.stepper.patience / 2);
                Err("the process has not ended in time after its operation".into())
            }
            Err(JoinError::Killed { signal: SIGKILL, .. }) if self.guard.has_killed() => Err(TOO_LONG.into()),
            Err(error) => Err(format!("the process did not complete its operation: {error}").into()),
        }
    }

    fn ask(&self, state: &mut S, outcome: Outcome<R>) -> Result<(), BoxError> {
        self.watch("the oracle");
        caught(|| (self.scenario.oracle)(state, outcome))
    }
}

/// Takes a panic for an error: oracles may assert.
fn caught<T>(f: impl FnOnce() -> Result<T, BoxError>) -> Result<T, BoxError> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(format!("it panicked: {}", text.unwrap_or_default()).into())
    })
}
