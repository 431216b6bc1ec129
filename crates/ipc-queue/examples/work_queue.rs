//! A work queue: the job of a worker that is killed comes again, to another one.

use std::error::Error;

use ipc_pipe::{Sender, pipe};
use ipc_process::Process;
use ipc_queue::work;

/// Takes a job and never gets it done.
fn clumsy(jobs: work::Receiver<String>, mut has_one: Sender<()>) {
    let _job = jobs.recv().expect("there is one");
    has_one.send(&()).expect("the parent listens");
    loop {
        std::thread::park();
    }
}

/// Does what there is to do, until there is nothing left.
fn diligent(jobs: work::Receiver<String>) {
    for job in &jobs {
        println!("{}, attempt {}", *job, job.attempts());
        job.ack().expect("the queue is there");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();

    let (jobs, inbox) = ipc_queue::work(16)?;
    jobs.send(&"wash up".to_owned())?;
    jobs.send(&"dry up".to_owned())?;

    let (tx, mut rx) = pipe()?;
    let first = Process::spawn(clumsy, (inbox.clone(), tx))?;
    rx.recv()?;
    first.kill()?;

    let second = Process::spawn(diligent, (inbox,))?;
    // Until both are done: nothing is lost with the one that was killed.
    jobs.join()?;
    println!("all is done");
    drop(jobs);
    second.join()?;
    Ok(())
}
