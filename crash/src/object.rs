//! Objects themselves: made, copied, sent, received, dropped. Nothing is left behind, and what arrives can be used.

use ipc_pipe::{Duplex, RecvError, duplex};
use ipc_process::WorkerFn;
use ipc_sync::Lock;
use ipc_testkit::stepper::{BoxError, Outcome, Steps, operation};

use crate::tools::{DEADLINE, Seen, both, is_killed, must, scenario, timed, wrong};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    vec![
        alone("object/new and drop, the first", |_: Lock| {
            operation(|| drop(Lock::new().expect("there is memory")))
        }),
        alone("object/new and drop", |_: Lock| {
            drop(Lock::new());
            operation(|| drop(Lock::new().expect("there is memory")));
        }),
        alone("object/clone and drop", |lock: Lock| operation(|| drop(lock.clone()))),
        alone("object/drop", |lock: Lock| operation(|| drop(lock))),
        alone("object/drop after use", |lock: Lock| {
            drop(lock.lock());
            operation(|| drop(lock));
        }),
        sends("object/send", |(lock, mut peer): Sent| {
            operation(|| peer.send(&lock)).expect("the survivor lives");
        }),
        sends("object/send the only handle", |(_, mut peer): Sent| {
            let lock = Lock::new().expect("there is memory");
            operation(|| peer.send(&lock).map(|()| drop(lock))).expect("the survivor lives");
        }),
        sends("object/made, used and sent", |(_, mut peer): Sent| {
            operation(|| {
                let lock = Lock::new().expect("there is memory");
                drop(lock.lock());
                peer.send(&lock)
            })
            .expect("the survivor lives");
        }),
        receives(),
    ]
}

/// It can be taken, and as often as one likes.
fn use_it(lock: &Lock) -> Result<(), BoxError> {
    for _ in 0..2 {
        let guard = timed(|| lock.lock_timeout(DEADLINE))?;
        must(guard.died().is_none(), || "nobody has died with it".into())?;
    }
    Ok(())
}

fn alone<F>(name: &str, process: F) -> Box<dyn Steps>
where
    F: WorkerFn<(Lock,), Out = ()>,
{
    let prepare = || Ok(both(Lock::new()?));
    let oracle = |lock: &mut Lock, _: Outcome<()>| {
        use_it(lock)?;
        use_it(&Lock::new()?)
    };
    Box::new(scenario(name, prepare, process, oracle))
}

type Sent = (Lock, Duplex<Lock, ()>);

/// A handle that comes from the process that is stepped.
fn sends<F>(name: &str, process: F) -> Box<dyn Steps>
where
    F: WorkerFn<(Sent,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(&["arrived", "not sent"]);
    let prepare = || {
        let lock = Lock::new()?;
        let (ours, theirs) = duplex::<(), Lock>()?;
        Ok(((lock.clone(), ours), (lock, theirs)))
    };
    let is_same = name == "object/send";
    let oracle = move |(lock, peer): &mut (Lock, Duplex<(), Lock>), outcome| {
        match timed(|| peer.recv_timeout(DEADLINE)) {
            Ok(arrived) => {
                seen.note("arrived");
                must(arrived.is(lock) == is_same, || "another lock has arrived".into())?;
                use_it(&arrived)?;
            }
            Err(RecvError::Disconnected) if is_killed(&outcome) => seen.note("not sent"),
            other => return wrong(format!("what arrived is {other:?}")),
        }
        use_it(lock)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

fn receiving(mut peer: Duplex<(), Lock>) {
    operation(|| {
        let lock = peer.recv()?;
        drop(lock.lock());
        drop(lock);
        Ok::<(), RecvError>(())
    })
    .expect("it was sent before");
}

/// The survivor has no handle any more: the object lives in the message, and then in the process that is stepped.
fn receives() -> Box<dyn Steps> {
    let prepare = || {
        let (mut ours, theirs) = duplex::<Lock, ()>()?;
        ours.send(&Lock::new()?)?;
        Ok((ours, theirs))
    };
    let oracle = |_: &mut Duplex<Lock, ()>, _: Outcome<()>| {
        // Its place is free by now; this may be there.
        let next = Lock::new()?;
        must(next.owner().is_none(), || "a new lock has an owner".into())?;
        use_it(&next)
    };
    Box::new(scenario("object/receive, use and drop", prepare, receiving, oracle))
}
