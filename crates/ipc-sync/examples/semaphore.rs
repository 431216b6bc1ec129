//! Permits that processes share, and what becomes of those of a process that is killed.

use std::error::Error;

use ipc_pipe::{Sender, pipe};
use ipc_process::Process;
use ipc_sync::{BoundedSemaphore, Semaphore};

/// Takes two permits and never gives them back.
fn hold_two(slots: Semaphore, mut has_them: Sender<()>) {
    let _permits = (slots.acquire().expect("there are three"), slots.acquire().expect("there are three"));
    has_them.send(&()).expect("the parent listens");
    loop {
        std::thread::park();
    }
}

/// Says three times that something is done, by permits that nobody owned.
fn signal(done: Semaphore) {
    for _ in 0..3 {
        done.release().expect("far from the bound");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();

    let slots = Semaphore::new(3)?;
    let (tx, mut rx) = pipe()?;
    let greedy = Process::spawn(hold_two, (slots.clone(), tx))?;
    rx.recv()?;
    println!("{} of 3 are free", slots.available());
    greedy.kill()?;
    // The permits of a process come back with its death: these two waits end.
    let permits = (slots.acquire()?, slots.acquire()?, slots.acquire()?);
    println!("all three are here: {} are free", slots.available());
    drop(permits);

    // A signal: one process puts permits in, another takes them out for good.
    let done = Semaphore::new(0)?;
    let worker = Process::spawn(signal, (done.clone(),))?;
    for n in 1..=3 {
        done.acquire()?.forget();
        println!("signal {n}");
    }
    worker.join()?;

    let bounded = BoundedSemaphore::new(1)?;
    println!("{}", bounded.release().unwrap_err());
    Ok(())
}
