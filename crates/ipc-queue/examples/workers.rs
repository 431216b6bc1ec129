//! Three workers, ten tasks, two queues.

use std::error::Error;

use ipc_process::Process;
use ipc_queue::{Receiver, Sender, bounded};

/// Runs in three processes: each task goes to one of them.
fn work(tasks: Receiver<u64>, results: Sender<(u64, u64)>) {
    for n in &tasks {
        results.send(&(n, (1..=n).product())).expect("the parent receives");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();

    let (tasks, inbox) = bounded(10)?;
    let (outbox, results) = bounded(10)?;
    let workers: Vec<_> =
        (0..3).map(|_| Process::spawn(work, (inbox.clone(), outbox.clone()))).collect::<Result<_, _>>()?;
    // What is left here would count as somebody who may still send or receive.
    drop((inbox, outbox));
    for n in 1..=10 {
        tasks.send(&n)?;
    }
    drop(tasks);

    let mut results: Vec<_> = results.iter().collect();
    results.sort_unstable();
    for (n, factorial) in results {
        println!("{n}! = {factorial}");
    }
    for worker in workers {
        worker.join()?;
    }
    Ok(())
}
