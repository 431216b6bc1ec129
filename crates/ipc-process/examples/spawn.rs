//! Functions in processes of their own: a typed result, a closure, several at once, and one that panics.

use std::error::Error;

use ipc_process::{JoinError, Process};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Division {
    quotient: u32,
    remainder: u32,
}

fn divide(dividend: u32, divisor: u32) -> Division {
    Division { quotient: dividend / divisor, remainder: dividend % divisor }
}

fn main() -> Result<(), Box<dyn Error>> {
    // A spawned process begins here too: it runs its function and does not return.
    ipc_process::init();

    let process = Process::spawn(divide, (47, 5))?;
    println!("{:?}", process.join()?);

    // Closures will do as long as they capture nothing: what they need is an argument.
    let process =
        Process::spawn(|words: Vec<String>| words.join(" "), (vec!["all".to_owned(), "one".to_owned()],))?;
    println!("{}", process.join()?);

    // Several at once; the results come in the order in which one asks for them.
    let squares: Vec<Process<u64>> =
        (1..=4).map(|n| Process::spawn(|n: u64| n * n, (n,))).collect::<Result<_, _>>()?;
    for square in squares {
        println!("{}", square.join()?);
    }

    // A panic costs that process only, and says what it was.
    match Process::builder().name("careless").spawn(divide, (1, 0))?.join() {
        Err(JoinError::Panicked(report)) => println!("it panicked: {}", report.message),
        other => println!("something else: {other:?}"),
    }
    Ok(())
}
