//! `Event`: set, cleared, waited for.

use std::time::Duration;

use ipc_process::WorkerFn;
use ipc_sync::{Event, WaitError};
use ipc_testkit::stepper::{BoxError, Outcome, Steps, operation};
use serde::{Deserialize, Serialize};

use crate::tools::{A_WHILE, DEADLINE, Seen, both, is_killed, must, scenario, timed};
use crate::worker::{Caller, Crew, Hired, Say, Sleeper};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    vec![
        alone("event/set", false, |event: Event| operation(|| event.set()), true),
        alone("event/clear", true, |event: Event| assert!(operation(|| event.clear())), false),
        sleepers("event/set, with two sleepers", |watched: Watched| sets(watched, Event::set), true),
        sleepers(
            "event/set and cleared at once, with two sleepers",
            |watched: Watched| sets(watched, pulse),
            false,
        ),
        waits("event/wait that sleeps", |event: Event| waiting(&event), true),
        waits("event/wait that sleeps, first use", |event: Event| waiting_first(&event), true),
        waits("event/wait_timeout that times out", |event: Event| timing_out(&event), false),
    ]
}

/// It can be set, waited for and cleared.
fn settle(event: &Event) -> Result<(), BoxError> {
    event.set();
    timed(|| event.wait_timeout(DEADLINE))?;
    must(event.clear() && !event.is_set(), || "cleared, and it was not set or still is".into())?;
    let waited = event.wait_timeout(Duration::from_millis(1));
    must(matches!(waited, Err(WaitError::Timeout)), || format!("it is not set, and a wait gave {waited:?}"))
}

fn alone<F>(name: &str, is_set_at_first: bool, process: F, is_set_at_last: bool) -> Box<dyn Steps>
where
    F: WorkerFn<(Event,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(&["as before", "done"]);
    let prepare = move || {
        let event = Event::new()?;
        if is_set_at_first {
            event.set();
        }
        Ok(both(event))
    };
    let oracle = move |event: &mut Event, outcome| {
        let is_done = event.is_set() == is_set_at_last;
        must(is_done || is_killed(&outcome), || "it is done, and not to be seen".into())?;
        seen.note(if is_done { "done" } else { "as before" });
        settle(event)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

#[derive(Serialize, Deserialize)]
struct Want {
    event: Event,
    sleeper: Sleeper,
}

fn want(Want { event, mut sleeper }: Want, mut say: Say<'_, Result<(), String>>) {
    let _registered = event.wait_timeout(Duration::from_micros(1));
    sleeper.wait_for_caller();
    say.say(event.wait().map_err(|error| error.to_string()));
}

type Watched = (Event, Vec<Caller>);

fn pulse(event: &Event) {
    event.set();
    event.clear();
}

fn sets((event, callers): Watched, set: fn(&Event)) {
    callers.into_iter().for_each(Caller::wait_for_sleeper);
    operation(|| set(&event));
}

type Sleepers = (Event, Vec<Hired<Want, Result<(), String>>>);

fn sleepers<F>(name: &str, process: F, stays_set: bool) -> Box<dyn Steps>
where
    F: WorkerFn<(Watched,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(&["woken", "asleep"]);
    let crew = Crew::new(want);
    let prepare = move || {
        let event = Event::new()?;
        let (workers, callers) = crew.sleepers(2, |sleeper| Want { event: event.clone(), sleeper })?;
        Ok(((event.clone(), workers), (event, callers)))
    };
    let oracle = move |(event, workers): &mut Sleepers, outcome| {
        let is_set = event.is_set();
        let mut said = Vec::new();
        if is_set || !is_killed(&outcome) {
            said = workers.iter_mut().map(Hired::told).collect::<Result<Vec<_>, _>>()?;
        } else {
            // Whether it was set in between cannot be seen: what one of them knows, the other one learns too.
            if let Some(first) = workers[0].told_within(if stays_set { Duration::ZERO } else { A_WHILE })? {
                said = vec![first, workers[1].told()?];
            }
        }
        must(is_set || said.is_empty() || !stays_set, || "nobody has set it, and they were woken".into())?;
        seen.note(if said.is_empty() { "asleep" } else { "woken" });
        if said.is_empty() {
            event.set();
            said = workers.iter_mut().map(Hired::told).collect::<Result<Vec<_>, _>>()?;
        }
        must(said.iter().all(Result::is_ok), || format!("the sleepers got {said:?}"))?;
        settle(event)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

fn waiting(event: &Event) {
    let _registered = event.wait_timeout(Duration::from_micros(1));
    operation(|| event.wait()).expect("somebody sets it");
}

fn waiting_first(event: &Event) {
    operation(|| event.wait()).expect("somebody sets it");
}

fn timing_out(event: &Event) {
    let _registered = event.wait_timeout(Duration::from_micros(1));
    let waited = operation(|| event.wait_timeout(Duration::from_millis(15)));
    assert!(matches!(waited, Err(WaitError::Timeout)), "{waited:?}");
}

fn waits<F>(name: &str, process: F, is_set: bool) -> Box<dyn Steps>
where
    F: WorkerFn<(Event,), Out = ()>,
{
    let prepare = || Ok(both(Event::new()?));
    let while_blocked = move |event: &mut Event, _| {
        if is_set {
            event.set();
        }
    };
    let oracle = |event: &mut Event, _: Outcome<()>| {
        event.clear();
        settle(event)
    };
    Box::new(scenario(name, prepare, process, oracle).while_blocked(while_blocked))
}
