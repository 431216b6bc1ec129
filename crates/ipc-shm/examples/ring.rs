//! Numbers go to a worker through one ring, their sums come back through another: frames in shared memory, without a
//! system call while both sides keep up. At the end the worker sees that its writer is gone.

use std::error::Error;

use ipc_process::Process;
use ipc_shm::ring::{RingReader, RingWriter, ring};

/// What the kinds of frames mean is for both sides to agree on.
const NUMBERS: u32 = 1;
const SUM: u32 = 2;

fn add(mut numbers: RingReader, mut sums: RingWriter) {
    let mut frame = Vec::new();
    while let Ok(NUMBERS) = numbers.read(&mut frame) {
        let sum: u64 = frame.iter().map(|byte| u64::from(*byte)).sum();
        sums.write(SUM, &sum.to_le_bytes()).expect("somebody reads");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();

    let (mut numbers, theirs) = ring(64 << 10)?;
    let (sums, mut mine) = ring(4 << 10)?;
    let worker = Process::spawn(add, (theirs, sums))?;

    // The last one is longer than the ring, and goes through in pieces.
    for len in [3, 300, 300_000] {
        numbers.write(NUMBERS, &vec![2; len])?;
    }
    // Written in its place, without a buffer of one's own.
    let mut place = numbers.reserve(4)?;
    place.write(0, &[10, 20])?;
    place.write(2, &[30, 40])?;
    place.commit(NUMBERS)?;
    drop(numbers);

    let mut frame = Vec::new();
    while let Ok(SUM) = mine.read(&mut frame) {
        println!("{}", u64::from_le_bytes(frame[..].try_into()?));
    }
    worker.join()?;
    Ok(())
}
