//! A supervisor: three workers, one of which is killed; it is noticed, reported and replaced, and all ends well.

use std::error::Error;

use ipc_pipe::{Receiver, Sender, pipe};
use ipc_process::{JoinError, Process, Waitable, wait};

/// What the supervisor keeps of a worker.
struct Worker {
    process: Process<u32>,
    jobs: Sender<u32>,
}

/// Adds up the numbers that it is sent, until there are no more.
fn add_up(mut ready: Sender<()>, jobs: Receiver<u32>) -> u32 {
    // Nobody may be listening any more, which is no concern of this one.
    let _ = ready.send(&());
    jobs.into_iter().sum()
}

fn start(n: usize) -> Result<Worker, Box<dyn Error>> {
    let (ready, mut is_ready) = pipe()?;
    let (jobs, inbox) = pipe()?;
    let process = Process::builder().name(format!("worker {n}")).spawn(add_up, (ready, inbox))?;
    is_ready.recv()?;
    println!("{} runs", process.name());
    Ok(Worker { process, jobs })
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();
    let mut workers = (0..3).map(start).collect::<Result<Vec<_>, _>>()?;

    // An accident.
    workers[1].process.kill()?;

    // The end of any of them ends the wait; pipes and sockets could be in the same list.
    let sentinels: Vec<&dyn Waitable> =
        workers.iter().map(|w| w.process.sentinel() as &dyn Waitable).collect();
    for n in wait(&sentinels, None)? {
        let ended = std::mem::replace(&mut workers[n], start(n)?);
        match ended.process.join() {
            Err(JoinError::Killed { signal, .. }) => println!("worker {n} was killed by signal {signal}"),
            other => println!("worker {n} ended: {other:?}"),
        }
    }

    for job in 1..=30 {
        workers[job as usize % 3].jobs.send(&job)?;
    }
    for Worker { process, jobs } in workers {
        // Without a sender the worker's loop ends.
        drop(jobs);
        let name = process.name().to_owned();
        println!("{name}: {}", process.join()?);
    }
    Ok(())
}
