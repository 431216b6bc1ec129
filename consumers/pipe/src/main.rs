//! Uses `ipc-pipe` alone: typed messages go through a pipe, and its end is seen.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut sender, mut receiver) = ipc_pipe::pipe::<(u32, String)>()?;
    sender.send(&(1, "one".to_owned()))?;
    sender.send(&(2, String::new()))?;
    drop(sender);
    assert_eq!(receiver.recv()?, (1, "one".to_owned()));
    assert_eq!(receiver.recv()?, (2, String::new()));
    assert!(receiver.recv().is_err(), "the sender is gone");
    Ok(())
}
