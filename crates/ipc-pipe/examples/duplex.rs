//! Requests and replies over a duplex, and an end of a pipe that is sent through it.

use std::error::Error;

use ipc_pipe::{Duplex, Receiver, Sender, duplex, pipe};
use ipc_process::Process;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
enum Request {
    Add(i64, i64),
    Divide(i64, i64),
    /// What comes out of this end is to be added up. The end itself travels inside the message.
    Sum(Receiver<i64>),
}

#[derive(Serialize, Deserialize, Debug)]
enum Reply {
    Is(i64),
    Refused(String),
}

/// Runs in the child, until nobody asks any more.
fn calculator(mut end: Duplex<Reply, Request>) {
    while let Ok(request) = end.recv() {
        let reply = match request {
            Request::Add(a, b) => Reply::Is(a + b),
            Request::Divide(_, 0) => Reply::Refused("division by zero".to_owned()),
            Request::Divide(a, b) => Reply::Is(a / b),
            Request::Sum(numbers) => Reply::Is(numbers.into_iter().sum()),
        };
        end.send(&reply).expect("whoever asks waits for the reply");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();
    let (mut calculate, theirs) = duplex::<Request, Reply>()?;
    let child = Process::spawn(calculator, (theirs,))?;

    calculate.send(&Request::Add(2, 3))?;
    println!("2 + 3: {:?}", calculate.recv()?);
    calculate.send(&Request::Divide(1, 0))?;
    println!("1 / 0: {:?}", calculate.recv()?);

    // A thousand numbers beside the requests: the child reads from an end that was made after it was started.
    let (mut numbers, for_the_child): (Sender<i64>, _) = pipe()?;
    calculate.send(&Request::Sum(for_the_child))?;
    let count = numbers.send_all(1..=1000)?;
    drop(numbers);
    println!("the sum of {count} numbers: {:?}", calculate.recv()?);

    drop(calculate);
    child.join()?;
    Ok(())
}
