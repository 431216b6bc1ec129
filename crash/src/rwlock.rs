//! `RwLock`: readers who die disappear, writers who die are told, and nobody sleeps on.

use std::time::Duration;

use ipc_pipe::Receiver;
use ipc_process::{Process, WorkerFn};
use ipc_sync::{LockError, RwLock};
use ipc_testkit::stepper::{BoxError, Steps, operation};
use serde::{Deserialize, Serialize};

use crate::lock_recover::{die, has_died};
use crate::pair::Pair;
use crate::tools::{DEADLINE, Seen, Told, both, is_killed, must, scenario, timed, wrong};
use crate::worker::{Caller, Crew, Hired, Holder, Say, Sleeper, Sleepers, told_alike};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    vec![
        alone("rwlock/read", reads, &["clean"]),
        alone("rwlock/read, first use", reads_first, &["clean"]),
        alone("rwlock/write", writes, &["clean", "told"]),
        alone("rwlock/write, first use", writes_first, &["clean", "told"]),
        held("rwlock/read, while a survivor writes", true, reads, true, &["clean"]),
        held("rwlock/write, while a survivor reads", false, writes, true, &["clean", "told"]),
        held("rwlock/write_timeout that times out", false, write_times_out, false, &["clean"]),
        held("rwlock/read_timeout that times out", true, read_times_out, false, &["clean"]),
        sleepers("rwlock/end of reading, with a writer asleep", &[true], stops_reading, &["clean"]),
        sleepers(
            "rwlock/end of writing, with two readers asleep",
            &[false, false],
            stops_writing,
            &["clean", "told"],
        ),
        sleepers("rwlock/end of writing, with a writer asleep", &[true], stops_writing, &["clean", "told"]),
        sleepers(
            "rwlock/end of writing, with both asleep",
            &[true, false],
            stops_writing,
            &["clean", "told"],
        ),
        broken("rwlock/recover", recovers, &["told victim", "told", "clean"]),
        broken("rwlock/told of a death", is_told, &["told victim"]),
    ]
}

type Shared = (RwLock, Pair);

fn new() -> Result<Shared, BoxError> {
    Ok((RwLock::new()?, Pair::new()?))
}

/// A survivor reads, and then writes; whoever is told repairs.
fn settle((lock, pair): &Shared, is_killed: bool, dead: &[Option<u32>], seen: &Seen) -> Result<(), BoxError> {
    match timed(|| lock.read_timeout(DEADLINE)) {
        Ok(guard) => {
            seen.note("clean");
            pair.check()?;
            drop(guard);
        }
        Err(LockError::OwnerDied { owner }) if is_killed && dead.contains(&owner.pid()) => {
            seen.note("told");
            recover((lock, pair), owner.pid())?;
        }
        other => return wrong(format!("a survivor got {other:?}; dead: {dead:?}")),
    }
    let guard = timed(|| lock.write_timeout(DEADLINE))?;
    must(guard.died().is_none(), || "a lock that nobody died with names one".into())?;
    pair.change();
    must(lock.readers() == 0, || format!("{} read while one writes", lock.readers()))
}

fn recover((lock, pair): (&RwLock, &Pair), dead: Option<u32>) -> Result<(), BoxError> {
    let guard = timed(|| lock.recover())?;
    let died = guard.died().map(|owner| owner.pid());
    must(died == Some(dead), || format!("{dead:?} died, and then {died:?}"))?;
    pair.repair();
    guard.repaired();
    drop(guard);
    timed(|| lock.read_timeout(DEADLINE)).map(drop)?;
    Ok(())
}

fn read((lock, pair): &Shared) {
    let guard = lock.read().expect("no writer has died");
    pair.check().expect("nobody writes while one reads");
    drop(guard);
}

fn write((lock, pair): &Shared) {
    let guard = lock.write().expect("no writer has died");
    pair.change();
    drop(guard);
}

fn warm(shared: &Shared) {
    shared.1.sign();
    drop(shared.0.try_read());
}

fn reads(shared: Shared) {
    warm(&shared);
    operation(|| read(&shared));
}

fn reads_first(shared: Shared) {
    shared.1.sign();
    operation(|| read(&shared));
}

fn writes(shared: Shared) {
    warm(&shared);
    operation(|| write(&shared));
}

fn writes_first(shared: Shared) {
    shared.1.sign();
    operation(|| write(&shared));
}

fn alone<F>(name: &str, process: F, wanted: &'static [&'static str]) -> Box<dyn Steps>
where
    F: WorkerFn<(Shared,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(wanted);
    let prepare = || new().map(both);
    let oracle =
        move |shared: &mut Shared, outcome| settle(shared, is_killed(&outcome), &[shared.1.stepped()], &seen);
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

#[derive(Serialize, Deserialize)]
struct Hold {
    shared: Shared,
    writes: bool,
    enough: Receiver<()>,
}

fn hold(Hold { shared: (lock, pair), writes, mut enough }: Hold, mut say: Say<'_, ()>) {
    if writes {
        let _guard = lock.write().expect("it is free");
        say.say(());
        pair.begin();
        let _ = enough.recv();
        pair.repair();
    } else {
        let _guard = lock.read().expect("it is free");
        say.say(());
        let _ = enough.recv();
    }
}

type Held = (Shared, Holder<Hold>);

fn write_times_out(shared: Shared) {
    warm(&shared);
    let told = operation(|| shared.0.write_timeout(Duration::from_millis(15)).map(drop));
    assert!(matches!(told, Err(LockError::Timeout)), "{told:?}");
}

fn read_times_out(shared: Shared) {
    warm(&shared);
    let told = operation(|| shared.0.read_timeout(Duration::from_millis(15)).map(drop));
    assert!(matches!(told, Err(LockError::Timeout)), "{told:?}");
}

/// While a survivor has the lock, until the process sleeps or to the end.
fn held<F>(
    name: &str,
    writes: bool,
    process: F,
    lets_go: bool,
    wanted: &'static [&'static str],
) -> Box<dyn Steps>
where
    F: WorkerFn<(Shared,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(wanted);
    let crew = Crew::new(hold);
    let prepare = move || {
        let shared = new()?;
        let holder = crew.holder(|enough| Hold { shared: shared.clone(), writes, enough })?;
        Ok(((shared.clone(), holder), shared))
    };
    let while_blocked = move |(_, holder): &mut Held, _| {
        if lets_go {
            holder.lets_go();
        }
    };
    let oracle = move |(shared, holder): &mut Held, outcome| {
        if !writes && holder.holds() {
            // It reads still. A writer that died without having written keeps no other reader out.
            timed(|| shared.0.read_timeout(DEADLINE)).map(drop)?;
        }
        holder.lets_go();
        settle(shared, is_killed(&outcome), &[shared.1.stepped()], &seen)
    };
    Box::new(scenario(name, prepare, process, oracle).while_blocked(while_blocked).finally(finally))
}

#[derive(Serialize, Deserialize)]
struct Want {
    shared: Shared,
    writes: bool,
    sleeper: Sleeper,
}

fn want(Want { shared: (lock, pair), writes, mut sleeper }: Want, mut say: Say<'_, Told>) {
    drop(lock.try_read());
    sleeper.wait_for_caller();
    let told = if writes {
        let guard = lock.write();
        if guard.is_ok() {
            pair.change();
        }
        Told::of(&guard)
    } else {
        Told::of(&lock.read())
    };
    say.say(told);
}

type Watched = (Shared, Vec<Caller>);

fn stops_reading((shared, callers): Watched) {
    shared.1.sign();
    let guard = shared.0.read().expect("no writer has died");
    callers.into_iter().for_each(Caller::wait_for_sleeper);
    operation(|| drop(guard));
}

fn stops_writing((shared, callers): Watched) {
    shared.1.sign();
    let guard = shared.0.write().expect("no writer has died");
    callers.into_iter().for_each(Caller::wait_for_sleeper);
    operation(|| {
        shared.1.change();
        drop(guard);
    });
}

/// With workers that sleep until they can write, or read.
fn sleepers<F>(
    name: &str,
    writers: &'static [bool],
    process: F,
    wanted: &'static [&'static str],
) -> Box<dyn Steps>
where
    F: WorkerFn<(Watched,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(wanted);
    let crew = Crew::new(want);
    let prepare = move || {
        let shared = new()?;
        let sleeper = |&writes| crew.sleeper(|sleeper| Want { shared: shared.clone(), writes, sleeper });
        let (workers, callers) = writers.iter().map(sleeper).collect::<Result<Sleepers<_, _>, _>>()?;
        Ok(((shared.clone(), workers), (shared, callers)))
    };
    let oracle = move |(shared, workers): &mut (Shared, Vec<Hired<Want, Told>>), outcome| {
        let is_killed = is_killed(&outcome);
        let dead = shared.1.stepped();
        told_alike(workers, is_killed, dead)?;
        settle(shared, is_killed, &[dead], &seen)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

fn victim((lock, pair): Shared) {
    pair.sign_as_victim();
    let _guard = lock.write().expect("no writer has died yet");
    pair.begin();
    die()
}

fn recovers((lock, pair): Shared) {
    pair.sign();
    drop(lock.try_read());
    operation(|| {
        let guard = lock.recover().expect("a dead lock can be recovered");
        pair.repair();
        guard.repaired();
        drop(guard);
    });
}

fn is_told((lock, pair): Shared) {
    pair.sign();
    let told = operation(|| [Told::of(&lock.read()), Told::of(&lock.write())]);
    assert!(told.iter().all(|told| *told == Told::Died(pair.victim())), "{told:?}");
}

/// A writer has died before.
fn broken<F>(name: &str, process: F, wanted: &'static [&'static str]) -> Box<dyn Steps>
where
    F: WorkerFn<(Shared,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(wanted);
    let prepare = || {
        let shared = new()?;
        has_died(Process::spawn(victim, (shared.clone(),))?)?;
        Ok(both(shared))
    };
    let oracle = move |shared: &mut Shared, outcome| {
        let (stepped, victim) = (shared.1.stepped(), shared.1.victim());
        if Told::of(&shared.0.try_read()) == Told::Died(victim) {
            seen.note("told victim");
            recover((&shared.0, &shared.1), victim)?;
            return settle(shared, false, &[], &Seen::default());
        }
        settle(shared, is_killed(&outcome), &[stepped], &seen)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}
