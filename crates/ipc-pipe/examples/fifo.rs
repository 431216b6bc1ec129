//! A FIFO that unrelated processes find by its path: many writers, one reader.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

use ipc_pipe::{Fifo, RecvError};
use ipc_process::Process;

/// Who says so, and what.
type Event = (String, u32);

/// Runs in each child. It knows nothing but the path, so it could be any program of this user.
fn report(path: PathBuf, name: String, count: u32) {
    let fifo = Fifo::<Event>::open(path).expect("the parent has made it");
    let mut events = fifo.sender().expect("the parent reads");
    for n in 1..=count {
        events.send(&(name.clone(), n)).expect("the parent reads to the end");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();
    let dir = tempfile::tempdir()?;
    let fifo = Fifo::<Event>::create(dir.path().join("events"))?;
    let mut events = fifo.receiver()?;
    println!("before anybody has come: {}", events.try_recv().unwrap_err());

    let writers = [("ada", 3), ("grace", 5), ("edsger", 2)];
    let children = writers
        .map(|(name, count)| Process::spawn(report, (fifo.path().to_owned(), name.to_owned(), count)))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;

    // Their messages mix; each one is whole, and those of one writer are in order.
    let mut seen = BTreeMap::new();
    while seen.values().sum::<u32>() < 10 {
        match events.recv() {
            Ok((name, n)) => {
                let last = seen.insert(name, n).unwrap_or(0);
                assert_eq!(n, last + 1, "in order");
            }
            // The last writer so far has left, and others have not come yet.
            Err(RecvError::Disconnected) => events.reopen()?,
            Err(error) => return Err(error.into()),
        }
    }
    for child in children {
        child.join()?;
    }
    for (name, count) in &seen {
        println!("{name}: {count} events");
    }

    // One that is alone can send more than a chunk at once.
    let mut alone = fifo.exclusive_sender()?;
    alone.send(&("x".repeat(10_000), 1))?;
    drop(alone);
    println!("a name of {} bytes", events.recv()?.0.len());
    println!("after the last has left: {}", events.try_recv().unwrap_err());
    fifo.unlink()?;
    println!("left in the directory: {}", dir.path().read_dir()?.count());
    Ok(())
}
