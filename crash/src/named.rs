//! Objects with names: nothing half made can be opened, the name is free again, and nothing stays in the directory.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ipc_pipe::{Receiver, RecvError, Sender, pipe};
use ipc_process::Process;
use ipc_sync::{Lock, OpenError, Semaphore, reclaim, remove};
use ipc_testkit::stepper::{BoxError, Outcome, Steps, operation};

use crate::lock_recover::{die, has_died};
use crate::tools::{DEADLINE, Seen, is_killed, must, scenario, timed, wrong};
use crate::worker::{Crew, Hired, Say};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    vec![
        alone("named/create", || operation(|| Semaphore::create(NAME, 3).map(keep)).expect("it is free")),
        alone("named/create, use and drop", || {
            operation(|| {
                let semaphore = Semaphore::create(NAME, 3).expect("it is free");
                drop(semaphore.acquire());
                drop(semaphore);
            });
        }),
        alone("named/open_or_create, a new one", || {
            operation(|| Semaphore::open_or_create(NAME, 3).map(keep)).expect("it is made");
        }),
        alone("named/drop, the last user", || {
            let semaphore = Semaphore::create(NAME, 3).expect("it is free");
            operation(|| drop(semaphore));
        }),
        used("named/open, use and drop", || {
            operation(|| {
                let semaphore = Semaphore::open(NAME).expect("it is there");
                drop(semaphore.acquire());
                drop(semaphore);
            });
        }),
        used("named/open_or_create, that is there", || {
            operation(|| Semaphore::open_or_create(NAME, 1).map(drop)).expect("it is there");
        }),
        used("named/create, a name that is taken", || {
            let made = operation(|| Semaphore::create(NAME, 1).map(drop));
            assert!(matches!(made, Err(OpenError::AlreadyExists { .. })), "{made:?}");
        }),
        raced(),
        removes(),
        reclaims(),
    ]
}

const NAME: &str = "crash";

/// A process that ends without dropping it.
fn keep(semaphore: Semaphore) {
    std::mem::forget(semaphore);
}

/// What is in the directory of names.
fn left() -> Result<Vec<String>, BoxError> {
    let base = PathBuf::from(std::env::var_os("IPC_RUNTIME_DIR").ok_or("no directory for names")?);
    let mut names = Vec::new();
    for user in fs::read_dir(base)? {
        for file in fs::read_dir(user?.path())? {
            names.push(file?.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

pub(crate) fn is_empty(when: &str) -> Result<(), BoxError> {
    let left = left()?;
    must(left.is_empty(), || format!("{when}, there is still {left:?}"))
}

/// All its permits are there, and one that others may take.
fn use_it(semaphore: &Semaphore, permits: u32) -> Result<(), BoxError> {
    let count = timed(|| semaphore.available());
    must(count == permits, || format!("{count} permits instead of {permits}"))?;
    drop(timed(|| semaphore.acquire_timeout(DEADLINE))?);
    Ok(())
}

/// The name is free, can be used again, and is gone in the end.
fn settle() -> Result<(), BoxError> {
    let opened = Semaphore::open(NAME);
    must(matches!(opened, Err(OpenError::NotFound { .. })), || {
        format!("nobody has it, and it is {opened:?}")
    })?;
    let made = Semaphore::create(NAME, 5)?;
    use_it(&made, 5)?;
    let again = Semaphore::open(NAME)?;
    use_it(&again, 5)?;
    drop((made, again));
    reclaim()?;
    is_empty("after reclaim")
}

/// The process that is stepped is the only one that ever has it.
fn alone<F>(name: &str, process: F) -> Box<dyn Steps>
where
    F: Fn() + Copy + Send + Sync + 'static,
{
    let prepare = || Ok(((), ()));
    let oracle = |_: &mut (), _: Outcome<()>| settle();
    Box::new(scenario(name, prepare, move |_: ()| process(), oracle))
}

/// The survivor has it all the time.
fn used<F>(name: &str, process: F) -> Box<dyn Steps>
where
    F: Fn() + Copy + Send + Sync + 'static,
{
    let prepare = || Ok((Some(Semaphore::create(NAME, 3)?), ()));
    let oracle = |semaphore: &mut Option<Semaphore>, _: Outcome<()>| {
        let ours = semaphore.take().ok_or("the survivor's own")?;
        use_it(&ours, 3)?;
        use_it(&Semaphore::open(NAME)?, 3)?;
        drop(ours);
        // The dead one is no user of it.
        is_empty("after the last user has gone")?;
        settle()
    };
    Box::new(scenario(name, prepare, move |_: ()| process(), oracle))
}

/// Opens it again and again until it is told to stop; what was wrong with what it got.
fn open_always(mut enough: Receiver<()>, mut say: Say<'_, (u32, Option<String>)>) {
    let mut opened = 0;
    let wrong = loop {
        match Semaphore::open(NAME) {
            Ok(semaphore) => {
                opened += 1;
                if let Err(error) = use_it(&semaphore, 3) {
                    break Some(error.to_string());
                }
            }
            Err(OpenError::NotFound { .. }) => {}
            Err(error) => break Some(format!("{error:?}")),
        }
        if !matches!(enough.recv_timeout(Duration::from_micros(200)), Err(RecvError::Timeout)) {
            break None;
        }
    };
    say.say((opened, wrong));
}

fn creating(_: ()) {
    operation(|| Semaphore::create(NAME, 3).map(keep)).expect("it is free");
}

/// A worker tries to open it all the time.
fn raced() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["opened", "not there"]);
    let crew = Crew::new(open_always);
    let prepare = move || {
        let (sender, enough) = pipe()?;
        Ok(((crew.work(&enough)?, Some(sender)), ()))
    };
    type Opener = Hired<Receiver<()>, (u32, Option<String>)>;
    let oracle = move |(opener, enough): &mut (Opener, Option<Sender<()>>), _: Outcome<()>| {
        // So that it has its turn.
        std::thread::sleep(Duration::from_micros(300));
        *enough = None;
        let (opened, wrong) = opener.told()?;
        must(wrong.is_none(), || format!("opened while it was made: {wrong:?}"))?;
        seen.note(if opened == 0 { "not there" } else { "opened" });
        settle()
    };
    let name = "named/create, while another opens";
    Box::new(scenario(name, prepare, creating, oracle).finally(finally))
}

fn removing(_: ()) {
    operation(|| remove("semaphore", NAME)).expect("it is there");
}

fn removes() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["there", "removed"]);
    let prepare = || Ok((Some(Semaphore::create(NAME, 3)?), ()));
    let oracle = move |semaphore: &mut Option<Semaphore>, outcome| {
        let ours = semaphore.take().ok_or("the survivor's own")?;
        use_it(&ours, 3)?;
        match Semaphore::open(NAME) {
            Ok(again) if is_killed(&outcome) => {
                seen.note("there");
                use_it(&again, 3)?;
            }
            Err(OpenError::NotFound { .. }) => {
                seen.note("removed");
                // Another one of that name, beside it.
                use_it(&Semaphore::create(NAME, 4)?, 4)?;
            }
            other => return wrong(format!("after removing: {other:?}")),
        }
        use_it(&ours, 3)?;
        drop(ours);
        is_empty("after the last user has gone")?;
        settle()
    };
    Box::new(scenario("named/remove", prepare, removing, oracle).finally(finally))
}

/// Leaves names behind.
fn victim() {
    let _kept = (Semaphore::create(NAME, 3), Lock::create("another"));
    die()
}

fn reclaiming(_: ()) {
    operation(reclaim).expect("the directory can be read");
}

fn reclaims() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["2 left", "1 left", "none left"]);
    let prepare = || {
        has_died(Process::spawn(victim, ())?)?;
        let left = left()?;
        must(left.len() == 2, || format!("the victim has left {left:?}"))?;
        Ok(((), ()))
    };
    let oracle = move |_: &mut (), outcome| {
        let count = left()?.len();
        must(is_killed(&outcome) || count == 0, || format!("reclaimed, and {count} are left"))?;
        seen.note(match count {
            0 => "none left",
            1 => "1 left",
            _ => "2 left",
        });
        settle()
    };
    Box::new(scenario("named/reclaim", prepare, reclaiming, oracle).finally(finally))
}
