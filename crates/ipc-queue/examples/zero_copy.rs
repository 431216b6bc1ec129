//! A large block of numbers goes to another process without a copy: it is filled and read where it lies.

use std::error::Error;

use ipc_process::Process;
use ipc_queue::{Receiver, bounded};

/// Runs in another process: looks at a few of the numbers.
fn look(blocks: Receiver<f32>) {
    while let Ok(block) = blocks.recv_loan() {
        let last = block.get(block.len() - 1).expect("it is not empty");
        println!(
            "{} numbers, the first {}, the last {last}",
            block.len(),
            block.get(0).expect("it is not empty")
        );
        // Dropped here: the memory is free for the next block.
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();

    let (tx, rx) = bounded::<f32>(2)?;
    let worker = Process::spawn(look, (rx,))?;
    for n in 1..=3_u8 {
        let mut block = tx.loan(usize::from(n) * 1_000_000)?;
        block.set(0, n.into())?;
        block.set(block.len() - 1, 0.5)?;
        block.commit()?;
    }
    drop(tx);
    worker.join()?;
    Ok(())
}
