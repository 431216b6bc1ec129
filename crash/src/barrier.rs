//! `Barrier`: all meet, or all are told that it is broken; and it can be taken into use again.

use std::time::Duration;

use ipc_process::WorkerFn;
use ipc_sync::{Barrier, BarrierError};
use ipc_testkit::stepper::{BoxError, Steps, operation};
use serde::{Deserialize, Serialize};

use crate::pair::Pair;
use crate::tools::{A_WHILE, DEADLINE, Seen, is_killed, must, scenario, timed, wrong};
use crate::worker::{Caller, Crew, Hired, Say, Sleeper};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    vec![
        first("barrier/wait as the first", meets, true, &["met", "broken"]),
        first("barrier/wait as the first, first use", meets_first, true, &["met", "broken"]),
        first("barrier/wait_timeout that times out", times_out, false, &["met", "broken"]),
        with_sleeper("barrier/wait as the last, with the action", meets_last, &["met", "broken", "alone"]),
        with_sleeper("barrier/abort, with a sleeper", aborts, &["broken", "alone"]),
        with_sleeper("barrier/reset, with a sleeper", resets, &["broken", "alone"]),
    ]
}

type Shared = (Barrier, Pair);

/// How a meeting went, for one party.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Met {
    All,
    Broken,
    Failed,
}

impl Met {
    fn of(result: &Result<u32, BarrierError>) -> Met {
        match result {
            Ok(_) => Met::All,
            Err(BarrierError::Broken) => Met::Broken,
            Err(_) => Met::Failed,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Come {
    barrier: Barrier,
    sleeper: Option<Sleeper>,
}

type Party = Hired<Come, Met>;

fn come(Come { barrier, sleeper }: Come, mut say: Say<'_, Met>) {
    if let Some(mut sleeper) = sleeper {
        sleeper.wait_for_caller();
    }
    say.say(Met::of(&barrier.wait()));
}

/// The survivor meets the worker that has come already, in the place of the one that died. Both say the same.
fn meet((barrier, _): &Shared, party: &mut Party) -> Result<Met, BoxError> {
    let met = timed(|| Met::of(&barrier.wait_timeout(DEADLINE)));
    let theirs = party.told()?;
    must(met == theirs && met != Met::Failed, || format!("the survivor: {met:?}, the worker: {theirs:?}"))?;
    Ok(met)
}

/// It is as new, after a reset if it is broken.
fn settle(shared: &Shared, crew: &Crew<Come, Met>) -> Result<(), BoxError> {
    let task = || Come { barrier: shared.0.clone(), sleeper: None };
    let mut met = meet(shared, &mut crew.work(&task())?)?;
    if met == Met::Broken {
        must(shared.0.is_broken(), || "a party says that it is broken, and it is not".into())?;
        timed(|| shared.0.reset())?;
        met = meet(shared, &mut crew.work(&task())?)?;
    }
    must(met == Met::All, || format!("after all: {met:?}"))?;
    must(!shared.0.is_broken() && shared.0.waiting() == 0, || "all have met, and somebody waits".into())
}

struct First {
    shared: Shared,
    party: Option<Party>,
}

/// A meeting that does not take place: from then on this process is known.
fn warm(barrier: &Barrier) {
    let _ = barrier.wait_timeout(Duration::ZERO);
    barrier.reset().expect("nobody has died");
}

fn meets((barrier, _): Shared) {
    warm(&barrier);
    operation(|| barrier.wait()).expect("the other one comes");
}

fn meets_first((barrier, _): Shared) {
    operation(|| barrier.wait()).expect("the other one comes");
}

fn times_out((barrier, _): Shared) {
    warm(&barrier);
    let met = operation(|| barrier.wait_timeout(Duration::from_millis(15)));
    assert!(matches!(met, Err(BarrierError::Timeout)), "{met:?}");
}

/// The process that is stepped comes first, and a worker when it sleeps; or never.
fn first<F>(name: &str, process: F, comes: bool, wanted: &'static [&'static str]) -> Box<dyn Steps>
where
    F: WorkerFn<(Shared,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(wanted);
    let crew = Crew::new(come);
    let parties = crew.clone();
    let prepare = || {
        let shared = (Barrier::new(2)?, Pair::new()?);
        Ok((First { shared: shared.clone(), party: None }, shared))
    };
    let while_blocked = move |first: &mut First, turn| {
        if turn == 0 && comes {
            let task = Come { barrier: first.shared.0.clone(), sleeper: None };
            first.party = Some(parties.work(&task).expect("a process can be started"));
        }
    };
    let oracle = move |First { shared, party }: &mut First, outcome| {
        let met = match party {
            // It is the last one to come, and needs nobody any more.
            Some(party) => party.told()?,
            None => {
                let task = Come { barrier: shared.0.clone(), sleeper: None };
                meet(shared, &mut crew.work(&task)?)?
            }
        };
        match met {
            Met::All => seen.note("met"),
            Met::Broken if is_killed(&outcome) || !comes => seen.note("broken"),
            other => return wrong(format!("{other:?}, and killed: {}", is_killed(&outcome))),
        }
        settle(shared, &crew)
    };
    Box::new(scenario(name, prepare, process, oracle).while_blocked(while_blocked).finally(finally))
}

type Watched = (Shared, Caller);

fn meets_last(((barrier, pair), caller): Watched) {
    warm(&barrier);
    caller.wait_for_sleeper();
    operation(|| barrier.wait_and(|| pair.begin())).expect("the other one is here");
}

fn aborts(((barrier, _), caller): Watched) {
    warm(&barrier);
    caller.wait_for_sleeper();
    operation(|| barrier.abort()).expect("nobody has died");
}

fn resets(((barrier, _), caller): Watched) {
    warm(&barrier);
    caller.wait_for_sleeper();
    operation(|| barrier.reset()).expect("nobody has died");
}

/// While a worker waits at the barrier.
fn with_sleeper<F>(name: &str, process: F, wanted: &'static [&'static str]) -> Box<dyn Steps>
where
    F: WorkerFn<(Watched,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(wanted);
    let crew = Crew::new(come);
    let parties = crew.clone();
    let prepare = move || {
        let shared = (Barrier::new(2)?, Pair::new()?);
        let come = |sleeper| Come { barrier: shared.0.clone(), sleeper: Some(sleeper) };
        let (party, caller) = parties.sleeper(come)?;
        Ok(((shared.clone(), party), (shared, caller)))
    };
    let oracle = move |(shared, party): &mut (Shared, Party), outcome| {
        let is_killed = is_killed(&outcome);
        let patience = if is_killed { A_WHILE } else { DEADLINE };
        match party.told_within(patience)? {
            Some(Met::All) => {
                seen.note("met");
                must(shared.1.count() == 1, || "all have met, and the action was not done".into())?;
            }
            Some(Met::Broken) => seen.note("broken"),
            // Killed before it had come, or had done anything: the survivor comes in its place.
            None if is_killed => {
                let met = meet(shared, party)?;
                must(met == Met::All, || format!("nobody had told the sleeper, and now: {met:?}"))?;
                seen.note("alone");
            }
            other => return wrong(format!("the sleeper got {other:?}; killed: {is_killed}")),
        }
        settle(shared, &crew)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}
