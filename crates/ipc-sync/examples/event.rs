//! A flag that processes wait for: several runners start at once, and a time-out says that nobody came.

use std::error::Error;
use std::time::Duration;

use ipc_process::Process;
use ipc_sync::{Event, Semaphore, WaitError};

fn run(ready: Semaphore, start: Event, number: u32) -> String {
    ready.release().expect("far from the bound");
    start.wait().expect("the parent sets it");
    format!("runner {number} has started")
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();

    let (ready, start) = (Semaphore::new(0)?, Event::new()?);
    let runners: Vec<Process<String>> = (1..=3)
        .map(|number| Process::spawn(run, (ready.clone(), start.clone(), number)))
        .collect::<Result<_, _>>()?;
    for _ in 1..=3 {
        ready.acquire()?.forget();
    }
    println!("all are ready, and the event is set: {}", start.is_set());
    start.set();
    for runner in runners {
        println!("{}", runner.join()?);
    }

    start.clear();
    match start.wait_timeout(Duration::from_millis(10)) {
        Err(WaitError::Timeout) => println!("nobody sets it a second time"),
        other => println!("unexpected: {other:?}"),
    }
    Ok(())
}
