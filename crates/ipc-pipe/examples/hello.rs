//! A pipe to a child process, and another one back.

use std::error::Error;

use ipc_pipe::{Receiver, RecvError, Sender, pipe};
use ipc_process::Process;

/// Runs in the child: both ends have moved there as its arguments.
fn shout(words: Receiver<String>, mut shouted: Sender<(usize, String)>) -> usize {
    let mut letters = 0;
    for word in words {
        letters += word.len();
        shouted.send(&(word.len(), word.to_uppercase())).expect("the parent listens");
    }
    letters
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();
    let (mut words, theirs) = pipe::<String>()?;
    let (answers, mut shouted) = pipe::<(usize, String)>()?;
    let child = Process::spawn(shout, (theirs, answers))?;

    for word in ["hello", "from", "another", "process"] {
        words.send(&word.to_owned())?;
        let (len, answer) = shouted.recv()?;
        println!("{word} -> {answer} ({len} letters)");
    }

    // Without a sender the child's loop ends, and then it returns; with it goes the last sender of the way back.
    drop(words);
    assert!(matches!(shouted.recv(), Err(RecvError::Disconnected)));
    println!("{} letters in all", child.join()?);
    Ok(())
}
