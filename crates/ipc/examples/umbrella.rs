//! The crates behind one name: a function in a process of its own, fed through one typed pipe, that answers through
//! another.
//!
//! `cargo run -p ipc --features full --example umbrella`

use ipc::Process;
use ipc::pipe::{Receiver, Sender, pipe};

/// Runs in another process. The ends of the pipes have moved here with the arguments.
fn square(numbers: Receiver<u64>, mut squares: Sender<(u64, u64)>) -> Result<usize, String> {
    let mut count = 0;
    // Ends when the other process has dropped its end.
    for n in numbers {
        squares.send(&(n, n * n)).map_err(|error| error.to_string())?;
        count += 1;
    }
    Ok(count)
}

fn main() -> ipc::Result<()> {
    // A worker begins here, and does not return.
    ipc::init();

    let (mut numbers, inbox) = pipe::<u64>()?;
    let (outbox, squares) = pipe::<(u64, u64)>()?;
    let worker = Process::spawn(square, (inbox, outbox))?;

    numbers.send_all(1..=5)?;
    drop(numbers);
    for (n, squared) in squares {
        println!("{n} * {n} = {squared}");
    }
    match worker.join()? {
        Ok(count) => println!("the worker has squared {count} numbers"),
        Err(why) => println!("the worker could not go on: {why}"),
    }
    Ok(())
}
