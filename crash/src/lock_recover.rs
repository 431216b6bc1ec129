//! `Lock` after a death: told, recovered, repaired or not, given up, taken into use again; and the death of those who do
//! that.

use ipc_process::{JoinError, PidFd, Process, WorkerFn};
use ipc_sync::Lock;
use ipc_testkit::stepper::{BoxError, Steps, operation};
use serde::{Deserialize, Serialize};

use crate::lock::{self, Shared, Want, settle, want};
use crate::pair::Pair;
use crate::tools::{DEADLINE, Seen, Told, both, is_killed, must, scenario, timed, wrong};
use crate::worker::{Caller, Crew, Hired, Say};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    vec![
        broken("lock/told of a death", told, &["told victim"]),
        broken("lock/recover", recovering, &["told victim", "told", "clean"]),
        broken("lock/recover, first use", recovering_first, &["told victim", "told", "clean"]),
        broken("lock/recover after a recoverer's death", recovering_twice, &["told", "clean"]),
        dying_holder(),
        watched("lock/repaired, with a sleeper", repairs, &["Fine", "Died"]),
        watched("lock/dropped unrepaired, with a sleeper", leaves_unrepaired, &["Died"]),
        watched("lock/give_up, with a sleeper", gives_up, &["GivenUp", "Died"]),
        recoverers(),
        reset(),
    ]
}

/// Ends this process with SIGKILL.
pub(crate) fn die() -> ! {
    PidFd::of_self().and_then(|me| me.signal(9)).expect("a process can kill itself");
    unreachable!("SIGKILL is delivered before the call returns")
}

/// Runs a process that dies by [`die`].
pub(crate) fn has_died(process: Process<()>) -> Result<(), BoxError> {
    match process.join() {
        Err(JoinError::Killed { signal: 9, .. }) => Ok(()),
        other => wrong(format!("the victim has not died: {other:?}")),
    }
}

/// Dies holding the lock, in the middle of a change.
fn victim((lock, pair): Shared) {
    pair.sign_as_victim();
    let _guard = lock.lock().expect("nobody has died yet");
    pair.begin();
    die()
}

/// A lock whose owner is dead.
fn broken_lock() -> Result<Shared, BoxError> {
    let shared = (Lock::new()?, Pair::new()?);
    has_died(Process::spawn(victim, (shared.clone(),))?)?;
    Ok(shared)
}

fn told((lock, pair): Shared) {
    pair.sign();
    let told = operation(|| Told::of(&lock.lock()));
    assert_eq!(told, Told::Died(pair.victim()));
}

/// Recovers, repairs, and lets go.
fn repair((lock, pair): &Shared, dead: Option<u32>) {
    let guard = lock.recover().expect("a dead lock can be recovered");
    assert_eq!(guard.died().and_then(|owner| owner.pid()), dead);
    pair.repair();
    guard.repaired();
    drop(guard);
}

fn recovering(shared: Shared) {
    shared.1.sign();
    drop(shared.0.lock());
    let dead = shared.1.victim();
    operation(|| repair(&shared, dead));
}

fn recovering_first(shared: Shared) {
    shared.1.sign();
    let dead = shared.1.victim();
    operation(|| repair(&shared, dead));
}

/// Dies in the middle of repairing.
fn second_victim((lock, pair): Shared) {
    pair.sign_as_victim();
    let _guard = lock.recover().expect("a dead lock can be recovered");
    die()
}

fn recovering_twice(shared: Shared) {
    let second = Process::spawn(second_victim, (shared.clone(),)).expect("a process can be started");
    has_died(second).expect("it is killed");
    recovering(shared);
}

/// The owner has died before, and the process that is stepped is the next one.
fn broken<F>(name: &str, process: F, wanted: &'static [&'static str]) -> Box<dyn Steps>
where
    F: WorkerFn<(Shared,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(wanted);
    let prepare = || broken_lock().map(both);
    let oracle = move |shared: &mut Shared, outcome| {
        let (stepped, victim) = (shared.1.stepped(), shared.1.victim());
        if Told::of(&shared.0.try_lock()) == Told::Died(victim) {
            // The process that is stepped had not recovered yet, or only been told.
            seen.note("told victim");
            return lock::recover((&shared.0, &shared.1), victim);
        }
        settle(shared, is_killed(&outcome), &[stepped], &seen)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

/// Has the lock until it is killed.
fn holds_until_killed((lock, pair): Shared, mut has_it: ipc_pipe::Sender<()>) {
    pair.sign_as_victim();
    let _guard = lock.lock().expect("nobody has died yet");
    pair.begin();
    has_it.send(&()).expect("the survivor waits");
    loop {
        std::thread::park();
    }
}

fn sleeps_over_a_dying_one((lock, pair): Shared) {
    pair.sign();
    drop(lock.try_lock());
    let told = operation(|| Told::of(&lock.lock()));
    assert_eq!(told, Told::Died(pair.victim()));
}

/// The process that is stepped sleeps over the lock while its owner is killed; and then is killed itself.
fn dying_holder() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["told"]);
    let prepare = || {
        let shared = (Lock::new()?, Pair::new()?);
        let (tx, mut rx) = ipc_pipe::pipe()?;
        let holder = Process::spawn(holds_until_killed, (shared.clone(), tx))?;
        rx.recv()?;
        Ok(((shared.clone(), Some(holder)), shared))
    };
    let kill = |holder: &mut Option<Process<()>>| match holder.take() {
        Some(holder) => holder.kill().map_err(BoxError::from).and_then(|()| has_died(holder)),
        None => Ok(()),
    };
    let oracle = move |(shared, holder): &mut (Shared, Option<Process<()>>), _| {
        kill(holder)?;
        let victim = shared.1.victim();
        settle(shared, true, &[victim], &seen)
    };
    let while_blocked = move |(_, holder): &mut (Shared, Option<Process<()>>), _| {
        kill(holder).expect("the holder can be killed");
    };
    let name = "lock/sleeps while the owner is killed";
    Box::new(
        scenario(name, prepare, sleeps_over_a_dying_one, oracle)
            .while_blocked(while_blocked)
            .finally(finally),
    )
}

type Watched = (Shared, Caller);

fn repairs((shared, caller): Watched) {
    shared.1.sign();
    let guard = shared.0.recover().expect("a dead lock can be recovered");
    caller.wait_for_sleeper();
    operation(|| {
        shared.1.repair();
        guard.repaired();
        drop(guard);
    });
}

fn leaves_unrepaired((shared, caller): Watched) {
    shared.1.sign();
    let guard = shared.0.recover().expect("a dead lock can be recovered");
    caller.wait_for_sleeper();
    operation(|| drop(guard));
}

fn gives_up((shared, caller): Watched) {
    shared.1.sign();
    let guard = shared.0.recover().expect("a dead lock can be recovered");
    caller.wait_for_sleeper();
    operation(|| guard.give_up());
}

/// The process that is stepped has recovered the lock, and a worker sleeps until it is through.
fn watched<F>(name: &str, process: F, wanted: &'static [&'static str]) -> Box<dyn Steps>
where
    F: WorkerFn<(Watched,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(wanted);
    let crew = Crew::new(want);
    let prepare = move || {
        let shared = broken_lock()?;
        let (worker, caller) = crew.sleeper(|sleeper| Want { shared: shared.clone(), sleeper })?;
        Ok(((shared.clone(), worker), (shared, caller)))
    };
    let oracle = move |(shared, worker): &mut (Shared, Hired<Want, Told>), outcome| {
        let is_killed = is_killed(&outcome);
        let (stepped, victim) = (shared.1.stepped(), shared.1.victim());
        match worker.told()? {
            Told::Fine => {
                seen.note("Fine");
                shared.1.check()
            }
            // Who was killed before it had left the lock so died holding it.
            Told::Died(dead) if dead == victim || is_killed && dead == stepped => {
                seen.note("Died");
                lock::recover((&shared.0, &shared.1), dead)
            }
            Told::GivenUp(dead) => {
                seen.note("GivenUp");
                must(dead == victim, || format!("given up after the death of {dead:?}, not {victim:?}"))?;
                must(shared.0.reset(), || "it was given up, and is not reset".into())?;
                shared.1.repair();
                settle(shared, false, &[], &seen)
            }
            other => wrong(format!("the sleeper got {other:?}; {stepped:?} was stepped, {victim:?} died")),
        }
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

/// A worker that recovers, as the process that is stepped does; it comes later and sleeps.
#[derive(Serialize, Deserialize)]
struct Recover(Want);

fn recover_too(Recover(Want { shared: (lock, pair), mut sleeper }): Recover, mut say: Say<'_, Told>) {
    drop(lock.try_lock());
    sleeper.wait_for_caller();
    let guard = lock.recover();
    let told = match &guard {
        Ok(guard) => match guard.died() {
            Some(owner) => Told::Died(owner.pid()),
            None => Told::Fine,
        },
        failed => Told::of(failed),
    };
    if let Ok(guard) = &guard {
        if told != Told::Fine {
            pair.repair();
            guard.repaired();
        }
        pair.change();
    }
    drop(guard);
    say.say(told);
}

fn recoverers() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["Fine", "Died"]);
    let crew = Crew::new(recover_too);
    let prepare = move || {
        let shared = broken_lock()?;
        let recover = |sleeper| Recover(Want { shared: shared.clone(), sleeper });
        let (worker, caller) = crew.sleeper(recover)?;
        Ok(((shared.clone(), worker), (shared, caller)))
    };
    let oracle = move |(shared, worker): &mut (Shared, Hired<Recover, Told>), outcome| {
        let stepped = shared.1.stepped();
        match worker.told()? {
            Told::Fine => seen.note("Fine"),
            Told::Died(dead) if is_killed(&outcome) && dead == stepped => seen.note("Died"),
            other => return wrong(format!("the one who recovers got {other:?}; {stepped:?} was stepped")),
        }
        settle(shared, false, &[], &seen)
    };
    let name = "lock/recover, with another who recovers";
    Box::new(scenario(name, prepare, repairs, oracle).finally(finally))
}

fn resets((lock, pair): Shared) {
    pair.sign();
    drop(lock.lock());
    assert!(operation(|| lock.reset()));
}

fn reset() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["clean", "given up"]);
    let prepare = || {
        let shared = broken_lock()?;
        let guard = shared.0.recover()?;
        shared.1.repair();
        guard.give_up();
        Ok(both(shared))
    };
    let oracle = move |shared: &mut Shared, outcome| {
        let told = timed(|| Told::of(&shared.0.lock_timeout(DEADLINE)));
        if is_killed(&outcome) && told == Told::GivenUp(shared.1.victim()) {
            seen.note("given up");
            must(shared.0.reset(), || "it was given up, and is not reset".into())?;
        }
        must(!shared.0.reset(), || "it is reset, and is so again".into())?;
        settle(shared, false, &[], &seen)
    };
    Box::new(scenario("lock/reset", prepare, resets, oracle).finally(finally))
}
