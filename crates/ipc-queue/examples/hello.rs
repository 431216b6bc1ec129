//! A queue between two processes: messages of one type, and loops that end by themselves.

use std::error::Error;

use ipc_process::Process;
use ipc_queue::{Receiver, Sender, bounded};

/// Runs in another process.
fn shout(words: Receiver<String>, answers: Sender<String>) {
    for word in &words {
        answers.send(&word.to_uppercase()).expect("the parent receives");
    }
    // Nobody sends any more. As this returns, nobody answers any more either.
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();

    let (words, theirs) = bounded(16)?;
    let (answers, rx) = bounded(16)?;
    let worker = Process::spawn(shout, (theirs, answers))?;
    for word in ["hello", "between", "processes"] {
        words.send(&word.to_owned())?;
    }
    drop(words);
    for answer in &rx {
        println!("{answer}");
    }
    worker.join()?;
    Ok(())
}
