//! Uses `ipc-process` alone: a function runs in another process and its result comes back. And since this program is
//! not built with the feature `test`: what happens where `init` is not called, called late, or in a child only.

use std::error::Error;

use ipc_process::{JoinError, NeverStarted, Process, SpawnError};

/// In a child that has it in its environment, `main` does not call `init`.
const FORGETS: &str = "CONSUMER_FORGETS_INIT";

fn add(a: u32, b: u32) -> (u32, u32) {
    (a + b, std::process::id())
}

fn main() -> Result<(), Box<dyn Error>> {
    // A worker would come this way too, and spawn another one, which would: this has to be refused.
    let early = Process::spawn(add, (1u32, 2u32));
    assert!(matches!(early, Err(SpawnError::NotInitialised)), "{early:?}");
    if std::env::var_os(FORGETS).is_some() {
        let again = Process::spawn(add, (1u32, 2u32));
        std::process::exit(if again.is_err() { 7 } else { 8 });
    }

    ipc_process::init();
    // Once more does nothing.
    ipc_process::init();
    let process = Process::spawn(add, (1u32, 2u32))?;
    let (sum, id) = process.join()?;
    assert_eq!(sum, 3);
    assert_ne!(id, std::process::id(), "it ran in a process of its own");

    // Workers that start workers, from `main` and not before it.
    let nested = Process::spawn(|n: u32| Process::spawn(add, (n, n)).unwrap().join().unwrap().0, (4u32,))?;
    assert_eq!(nested.join()?, 8);

    let forgetful = Process::builder().env(FORGETS, "1").spawn(add, (1u32, 2u32))?.join();
    assert!(matches!(forgetful, Err(JoinError::NeverStarted(NeverStarted::Exited(7)))), "{forgetful:?}");

    // The main thread has a name by now, and its stack is guarded.
    match Process::spawn(|| -> u32 { panic!("from main") }, ())?.join() {
        Err(JoinError::Panicked(report)) => {
            assert_eq!((&*report.message, &*report.thread), ("from main", "main"))
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}
