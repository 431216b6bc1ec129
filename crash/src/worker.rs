//! Processes that work beside the stepped one: they hold things, or sleep, while it is killed. One serves many runs.

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ipc_pipe::{Duplex, Receiver, RecvError, Sender, duplex, pipe};
use ipc_process::{Process, WorkerFn};
use ipc_testkit::stepper::BoxError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::lock_recover::has_died;
use crate::tools::{self, DEADLINE, Told};

/// Processes that all do the same kind of task.
pub(crate) struct Crew<A, R>(Rc<Inner<A, R>>);

struct Inner<A, R> {
    start: Box<dyn Fn() -> Result<Worker<A, R>, BoxError>>,
    idle: RefCell<Vec<Worker<A, R>>>,
}

impl<A, R> Clone for Crew<A, R> {
    fn clone(&self) -> Self {
        Crew(Rc::clone(&self.0))
    }
}

struct Worker<A, R> {
    process: Process<()>,
    tasks: Sender<A>,
    /// `None` at the end of each task.
    said: Receiver<Option<R>>,
    /// How many descriptors it has between two tasks.
    descriptors: Option<usize>,
    done: usize,
}

/// How a worker says something.
pub(crate) struct Say<'a, R>(&'a mut Sender<Option<R>>);

impl<R: Serialize> Say<'_, R> {
    pub(crate) fn say(&mut self, what: R) {
        // Should nobody hear it, the next task does not come either.
        let _ = self.0.send(&Some(what));
    }
}

impl<A, R> Crew<A, R>
where
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
{
    /// `f` does a task. It captures nothing.
    pub(crate) fn new<F>(f: F) -> Self
    where
        F: Fn(A, Say<'_, R>) + Copy + Send + Sync + 'static,
    {
        let start = move || {
            let (ours, theirs) = duplex::<A, Option<R>>()?;
            let (tasks, said) = ours.split()?;
            let work = move |tasks: Duplex<Option<R>, A>| {
                let (mut say, mut tasks) = tasks.split().expect("another descriptor");
                while let Ok(task) = tasks.recv() {
                    f(task, Say(&mut say));
                    if say.send(&None).is_err() {
                        break;
                    }
                }
            };
            let process = Process::builder().name("worker").spawn(work, (theirs,))?;
            Ok(Worker { process, tasks, said, descriptors: None, done: 0 })
        };
        Crew(Rc::new(Inner { start: Box::new(start), idle: RefCell::default() }))
    }

    /// One that begins this task now.
    pub(crate) fn work(&self, task: &A) -> Result<Hired<A, R>, BoxError> {
        let idle = self.0.idle.borrow_mut().pop();
        let mut worker = match idle {
            Some(worker) => worker,
            None => (self.0.start)()?,
        };
        worker.tasks.send(task)?;
        Ok(Hired { worker: Some(worker), crew: self.clone() })
    }

    /// One that begins a task in which it is to fall asleep, and with what the process that is stepped waits for that.
    pub(crate) fn sleeper(&self, task: impl FnOnce(Sleeper) -> A) -> Result<(Hired<A, R>, Caller), BoxError> {
        let (caller, sleeper) = lullaby()?;
        Ok((self.work(&task(sleeper))?, caller))
    }

    /// That many of them.
    pub(crate) fn sleepers(
        &self,
        count: usize,
        task: impl Fn(Sleeper) -> A,
    ) -> Result<Sleepers<A, R>, BoxError> {
        (0..count).map(|_| self.sleeper(&task)).collect()
    }
}

/// Workers, and with what the process that is stepped waits for each of them to fall asleep.
pub(crate) type Sleepers<A, R> = (Vec<Hired<A, R>>, Vec<Caller>);

impl<A> Crew<A, ()>
where
    A: Serialize + DeserializeOwned + 'static,
{
    /// One whose task is to hold something until it receives anything, or nobody is left to send it: it has said by now
    /// that it holds it.
    pub(crate) fn holder(&self, task: impl FnOnce(Receiver<()>) -> A) -> Result<Holder<A>, BoxError> {
        let (enough, theirs) = pipe()?;
        let mut worker = self.work(&task(theirs))?;
        worker.said()?;
        Ok(Holder { enough: Some(enough), _worker: worker })
    }
}

/// A process that holds something until it is let go.
pub(crate) struct Holder<A>
where
    A: Serialize + DeserializeOwned + 'static,
{
    /// Before the worker: who still holds when it is dropped lets go then.
    enough: Option<Sender<()>>,
    _worker: Hired<A, ()>,
}

impl<A> Holder<A>
where
    A: Serialize + DeserializeOwned + 'static,
{
    pub(crate) fn lets_go(&mut self) {
        self.enough = None;
    }

    pub(crate) fn holds(&self) -> bool {
        self.enough.is_some()
    }
}

/// A process at a task.
pub(crate) struct Hired<A, R>
where
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
{
    worker: Option<Worker<A, R>>,
    crew: Crew<A, R>,
}

impl<A, R> Hired<A, R>
where
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
{
    fn worker(&mut self) -> &mut Worker<A, R> {
        self.worker.as_mut().expect("there until it is dropped")
    }

    pub(crate) fn pid(&mut self) -> u32 {
        self.worker().process.id()
    }

    /// What it says next, within the deadline.
    pub(crate) fn said(&mut self) -> Result<R, BoxError> {
        if let Some(said) = self.said_within(DEADLINE)? {
            return Ok(said);
        }
        let pid = self.pid();
        let about = |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let (syscall, wchan) = (about("syscall"), about("wchan"));
        tools::wrong(format!("survivor {pid} hangs, in {wchan}, system call {}", syscall.trim()))
    }

    /// What it says next, if it comes in that time.
    pub(crate) fn said_within(&mut self, time: Duration) -> Result<Option<R>, BoxError> {
        match self.worker().said.recv_timeout(time) {
            Ok(Some(said)) => Ok(Some(said)),
            Ok(None) => Err("a survivor has nothing more to say".into()),
            Err(RecvError::Timeout) => Ok(None),
            Err(error) => Err(format!("a survivor has ended: {error}").into()),
        }
    }

    /// As [`said`](Self::said), on the clock: for what a death must not hold up.
    pub(crate) fn told(&mut self) -> Result<R, BoxError> {
        tools::timed(|| self.said())
    }

    /// As [`told`](Self::told), if it comes in that time.
    pub(crate) fn told_within(&mut self, time: Duration) -> Result<Option<R>, BoxError> {
        let start = Instant::now();
        let said = self.said_within(time)?;
        if said.is_some() {
            tools::waited(start.elapsed());
        }
        Ok(said)
    }

    /// It sleeps by now, in a wait for others.
    pub(crate) fn falls_asleep(&mut self) -> Result<(), BoxError> {
        let pid = self.pid();
        wait_until_asleep(pid)
    }
}

/// All of them were told the same: that all is well, or that the one that was killed has died.
pub(crate) fn told_alike<A>(
    sleepers: &mut [Hired<A, Told>],
    is_killed: bool,
    dead: Option<u32>,
) -> Result<(), BoxError>
where
    A: Serialize + DeserializeOwned + 'static,
{
    let told = sleepers.iter_mut().map(Hired::told).collect::<Result<Vec<_>, _>>()?;
    let all = |what: &Told| told.iter().all(|told| told == what);
    tools::must(all(&Told::Fine) || is_killed && all(&Told::Died(dead)), || {
        format!("the sleepers got {told:?}; {dead:?} died: {is_killed}")
    })
}

impl<A, R> Drop for Hired<A, R>
where
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
{
    fn drop(&mut self) {
        /// A worker that is not through with its task by now is not waited for.
        const GRACE: Duration = Duration::from_millis(300);
        let Some(mut worker) = self.worker.take() else { return };
        let start = Instant::now();
        while let Some(left) = GRACE.checked_sub(start.elapsed()) {
            match worker.said.recv_timeout(left) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    worker.look_for_leaks();
                    self.crew.0.idle.borrow_mut().push(worker);
                    return;
                }
                Err(_) => break,
            }
        }
        // It may have ended already, and hangs otherwise.
        let _ = worker.process.kill();
    }
}

impl<A, R> Worker<A, R> {
    /// A survivor that has more descriptors from task to task leaks them.
    fn look_for_leaks(&mut self) {
        self.done += 1;
        if self.done != 4 && !self.done.is_multiple_of(16) {
            return;
        }
        let Ok(now) = tools::descriptors(self.process.id()) else { return };
        let first = *self.descriptors.get_or_insert(now);
        if now > first + tools::FEW {
            tools::leaked(format!("a survivor has {now} descriptors, which were {first} at first"));
        }
    }
}

/// Where the process that is stepped says that it is ready, and waits for a worker to fall asleep over it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Caller {
    ready: Sender<()>,
    pid: Receiver<u32>,
}

/// The other end, of the worker.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sleeper {
    ready: Receiver<()>,
    pid: Sender<u32>,
}

/// Has a process of its own fall asleep in something, and kills it there.
pub(crate) fn asleep_and_killed<A, F>(task: impl FnOnce(Sleeper) -> A, process: F) -> Result<(), BoxError>
where
    A: Serialize + DeserializeOwned,
    F: WorkerFn<(A,), Out = ()>,
{
    let (caller, sleeper) = lullaby()?;
    let victim = Process::builder().name("victim").spawn(process, (task(sleeper),))?;
    caller.wait_for_sleeper();
    victim.kill()?;
    has_died(victim)
}

fn lullaby() -> Result<(Caller, Sleeper), BoxError> {
    let (ready, theirs) = pipe()?;
    let (sender, pid) = pipe()?;
    Ok((Caller { ready, pid }, Sleeper { ready: theirs, pid: sender }))
}

impl Caller {
    /// Says that the worker can go on now, and returns when it sleeps.
    pub(crate) fn wait_for_sleeper(mut self) {
        self.ready.send(&()).expect("the worker listens");
        let pid = self.pid.recv().expect("the worker is about to sleep");
        wait_until_asleep(pid).expect("the worker falls asleep");
    }
}

impl Sleeper {
    /// Waits for the other one to be ready; whatever comes next must fall asleep.
    pub(crate) fn wait_for_caller(&mut self) {
        self.ready.recv().expect("the process that is stepped is ready");
        self.pid.send(&std::process::id()).expect("the process that is stepped listens");
    }
}

/// Waits until a process sleeps in a futex.
fn wait_until_asleep(pid: u32) -> Result<(), BoxError> {
    let start = Instant::now();
    let mut in_a_row = 0;
    while in_a_row < 2 {
        in_a_row = if is_asleep(pid)? { in_a_row + 1 } else { 0 };
        if start.elapsed() > DEADLINE {
            return tools::wrong(format!("process {pid} does not fall asleep"));
        }
        std::thread::yield_now();
    }
    Ok(())
}

fn is_asleep(pid: u32) -> Result<bool, BoxError> {
    const FUTEX: [&str; 2] = ["202", "449"];
    if let Ok(call) = fs::read_to_string(format!("/proc/{pid}/syscall"))
        && let Some(number) = call.split_ascii_whitespace().next()
    {
        return Ok(FUTEX.contains(&number));
    }
    // Not everywhere may one process know that of another.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')))
}
