//! Uses the umbrella with the feature `pipe` alone.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut sender, mut receiver) = ipc::pipe::pipe::<u64>()?;
    sender.send(&7)?;
    assert_eq!(receiver.recv()?, 7);
    Ok(())
}
