//! Uses `ipc-queue` alone: a queue, and a queue of work.

use std::error::Error;

use ipc_queue::{RecvError, bounded, work};

fn main() -> Result<(), Box<dyn Error>> {
    let (tx, rx) = bounded(4)?;
    tx.send(&("one".to_owned(), 1_u32))?;
    drop(tx);
    assert_eq!(rx.recv()?, ("one".to_owned(), 1));
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));

    let (jobs, inbox) = work(4)?;
    jobs.send(&7_u8)?;
    assert_eq!(inbox.recv()?.ack()?, 7);
    jobs.join()?;
    Ok(())
}
