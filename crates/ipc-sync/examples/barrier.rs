//! Processes that wait for each other, with an action that one of them does for all; and a party that never comes.

use std::error::Error;
use std::time::Duration;

use ipc_process::Process;
use ipc_sync::{Barrier, BarrierError, Semaphore};

/// Three rounds in lockstep. How often this one was the last to come, and did the action.
fn run(meeting: Barrier, rounds: Semaphore) -> u32 {
    let mut actions = 0;
    for _ in 0..3 {
        let act = || {
            rounds.release().expect("far from the bound");
            actions += 1;
        };
        meeting.wait_and(act).expect("all come");
    }
    actions
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();

    let (meeting, rounds) = (Barrier::new(3)?, Semaphore::new(0)?);
    let parties: Vec<Process<u32>> =
        (0..3).map(|_| Process::spawn(run, (meeting.clone(), rounds.clone()))).collect::<Result<_, _>>()?;
    let mut actions = 0;
    for party in parties {
        actions += party.join()?;
    }
    println!("{} rounds, {actions} actions", rounds.available());

    // Alone, with three to come: after the time, the barrier is broken for all.
    match meeting.wait_timeout(Duration::from_millis(10)) {
        Err(BarrierError::Timeout) => println!("not all came, and it is broken: {}", meeting.is_broken()),
        other => println!("unexpected: {other:?}"),
    }
    meeting.reset()?;
    println!("and in use again: {}", !meeting.is_broken());
    Ok(())
}
