//! A program of its own, which another one starts and hands pipe ends over to: the other half of `host`.
//!
//! run: skip `host` starts it

use std::error::Error;

use ipc_pipe::{Receiver, Sender};

fn main() -> Result<(), Box<dyn Error>> {
    // Both programs name the type; what is checked is its structure.
    let (texts, mut lengths): (Receiver<String>, Sender<usize>) = ipc_process::handed_over()?;
    for text in texts {
        lengths.send(&text.chars().count())?;
    }
    Ok(())
}
