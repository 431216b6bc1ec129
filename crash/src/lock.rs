//! `Lock`: taking and releasing it, alone and with others who hold it or sleep over it.

use std::time::Duration;

use ipc_pipe::Receiver;
use ipc_process::WorkerFn;
use ipc_sync::{Lock, LockError};
use ipc_testkit::stepper::{BoxError, Steps, operation};
use serde::{Deserialize, Serialize};

use crate::pair::Pair;
use crate::tools::{DEADLINE, Seen, Told, both, is_killed, must, scenario, timed, wrong};
use crate::worker::{Caller, Crew, Hired, Holder, Say, Sleeper, told_alike};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    vec![
        alone("lock/free", Lock::new, warm, &["clean", "told"]),
        alone("lock/free, first use", Lock::new, first, &["clean", "told"]),
        alone("lock/passes silently", silent, warm, &["clean"]),
        alone("lock/try_lock, free", Lock::new, trying, &["clean", "told"]),
        held("lock/held by a survivor", waiting, true, &["clean", "told"]),
        held("lock/held by a survivor, first use", first, true, &["clean", "told"]),
        held("lock/lock_timeout that times out", timing_out, false, &["clean"]),
        held("lock/try_lock, held", trying_in_vain, false, &["clean"]),
        unlock("lock/unlock wakes a sleeper", Lock::new, 1, &["clean", "told"]),
        unlock("lock/unlock with two sleepers", Lock::new, 2, &["clean", "told"]),
        unlock("lock/unlock wakes a sleeper, passes silently", silent, 1, &["clean"]),
    ]
}

pub(crate) type Shared = (Lock, Pair);

pub(crate) fn silent() -> Result<Lock, ipc_sync::OpenError> {
    Lock::options().passes_silently(true).new()
}

/// A survivor takes the lock: it is told of a death, of one of those, or finds a whole pair. Afterwards all is well again.
pub(crate) fn settle(
    (lock, pair): &Shared,
    is_killed: bool,
    dead: &[Option<u32>],
    seen: &Seen,
) -> Result<(), BoxError> {
    match timed(|| lock.lock_timeout(DEADLINE)) {
        Ok(guard) => {
            must(guard.died().is_none(), || "a lock that nobody died with names one".into())?;
            seen.note("clean");
            // Who passes silently guards what may be half changed.
            pair.check()
        }
        Err(LockError::OwnerDied { owner }) if is_killed && dead.contains(&owner.pid()) => {
            seen.note("told");
            recover((lock, pair), owner.pid())
        }
        other => wrong(format!("a survivor got {other:?}; dead: {dead:?}")),
    }
}

/// After `OwnerDied`: repairs, and the lock is as good as new.
pub(crate) fn recover((lock, pair): (&Lock, &Pair), dead: Option<u32>) -> Result<(), BoxError> {
    let guard = timed(|| lock.recover_timeout(DEADLINE))?;
    let died = guard.died().map(|owner| owner.pid());
    must(died == Some(dead), || format!("{dead:?} died, and then {died:?}"))?;
    pair.repair();
    guard.repaired();
    must(guard.died().is_none(), || "it is repaired, and still names the dead".into())?;
    drop(guard);
    let guard = timed(|| lock.lock_timeout(DEADLINE))?;
    must(guard.died().is_none(), || "it was repaired, and the next one is told again".into())
}

fn change((lock, pair): &Shared) {
    let guard = lock.lock().expect("nobody has died");
    pair.change();
    drop(guard);
}

fn warm(shared: Shared) {
    shared.1.sign();
    drop(shared.0.lock().expect("it is free"));
    operation(|| change(&shared));
}

fn first(shared: Shared) {
    shared.1.sign();
    operation(|| change(&shared));
}

fn trying((lock, pair): Shared) {
    pair.sign();
    operation(|| {
        let guard = lock.try_lock().expect("it is free");
        pair.change();
        drop(guard);
    });
}

/// With the process that is stepped alone, and a survivor that comes after it.
fn alone<F>(
    name: &str,
    make: fn() -> Result<Lock, ipc_sync::OpenError>,
    process: F,
    wanted: &'static [&'static str],
) -> Box<dyn Steps>
where
    F: WorkerFn<(Shared,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(wanted);
    let is_silent = name.contains("silently");
    let prepare = move || Ok(both((make()?, Pair::new()?)));
    let scenario = scenario(name, prepare, process, move |shared: &mut Shared, outcome| {
        if is_silent {
            // What it guards may be left half changed, and nobody is told.
            shared.1.repair();
        }
        settle(shared, is_killed(&outcome), &[shared.1.stepped()], &seen)
    });
    Box::new(scenario.finally(finally))
}

/// A worker that holds the lock until it is told to let go.
#[derive(Serialize, Deserialize)]
pub(crate) struct Hold {
    shared: Shared,
    enough: Receiver<()>,
}

pub(crate) fn hold(Hold { shared: (lock, pair), mut enough }: Hold, mut say: Say<'_, ()>) {
    let guard = lock.lock().expect("nobody has it yet");
    say.say(());
    pair.begin();
    // When the other end is gone, too.
    let _ = enough.recv();
    pair.repair();
    drop(guard);
}

type Held = (Shared, Holder<Hold>);

fn waiting(shared: Shared) {
    shared.1.sign();
    // It has been here before: only its first use is slow.
    drop(shared.0.try_lock());
    operation(|| change(&shared));
}

fn timing_out((lock, pair): Shared) {
    pair.sign();
    drop(lock.try_lock());
    let result = operation(|| lock.lock_timeout(Duration::from_millis(15)).map(drop));
    assert!(matches!(result, Err(LockError::Timeout)), "{result:?}");
}

fn trying_in_vain((lock, pair): Shared) {
    pair.sign();
    drop(lock.try_lock());
    let result = operation(|| lock.try_lock().map(drop));
    assert!(matches!(result, Err(LockError::WouldBlock)), "{result:?}");
}

/// While a survivor holds the lock, which lets go when the process sleeps, or only at the end.
fn held<F>(name: &str, process: F, lets_go: bool, wanted: &'static [&'static str]) -> Box<dyn Steps>
where
    F: WorkerFn<(Shared,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(wanted);
    let crew = Crew::new(hold);
    let prepare = move || {
        let shared = (Lock::new()?, Pair::new()?);
        let holder = crew.holder(|enough| Hold { shared: shared.clone(), enough })?;
        Ok(((shared.clone(), holder), shared))
    };
    let oracle = move |(shared, holder): &mut Held, outcome| {
        holder.lets_go();
        settle(shared, is_killed(&outcome), &[shared.1.stepped()], &seen)
    };
    let while_blocked = move |(_, holder): &mut Held, _| {
        if lets_go {
            holder.lets_go();
        }
    };
    Box::new(scenario(name, prepare, process, oracle).while_blocked(while_blocked).finally(finally))
}

/// A worker that sleeps over the lock, and says what came of it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Want {
    pub(crate) shared: Shared,
    pub(crate) sleeper: Sleeper,
}

pub(crate) fn want(Want { shared: (lock, pair), mut sleeper }: Want, mut say: Say<'_, Told>) {
    // Its first use is slow, and it is to fall asleep at once.
    drop(lock.try_lock());
    sleeper.wait_for_caller();
    let taken = lock.lock();
    let told = Told::of(&taken);
    if taken.is_ok() {
        pair.change();
    }
    drop(taken);
    say.say(told);
}

fn releases((shared, callers): (Shared, Vec<Caller>)) {
    let (lock, pair) = shared;
    pair.sign();
    let guard = lock.lock().expect("it is free");
    for caller in callers {
        caller.wait_for_sleeper();
    }
    operation(|| {
        pair.change();
        drop(guard);
    });
}

/// With workers that sleep over the lock.
fn unlock(
    name: &str,
    make: fn() -> Result<Lock, ipc_sync::OpenError>,
    sleepers: usize,
    wanted: &'static [&'static str],
) -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(wanted);
    let crew = Crew::new(want);
    let is_silent = name.contains("silently");
    let prepare = move || {
        let shared = (make()?, Pair::new()?);
        let want = |sleeper| Want { shared: shared.clone(), sleeper };
        let (workers, callers) = crew.sleepers(sleepers, want)?;
        Ok(((shared.clone(), workers), (shared, callers)))
    };
    let oracle = move |(shared, workers): &mut (Shared, Vec<Hired<Want, Told>>), outcome| {
        let is_killed = is_killed(&outcome);
        let dead = shared.1.stepped();
        told_alike(workers, is_killed, dead)?;
        if is_silent {
            shared.1.repair();
        }
        settle(shared, is_killed, &[dead], &seen)
    };
    Box::new(scenario(name, prepare, releases, oracle).finally(finally))
}
