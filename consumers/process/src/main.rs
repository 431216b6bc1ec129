//! Uses `ipc-process` alone: a function runs in another process and its result comes back.

use std::error::Error;

use ipc_process::Process;

fn add(a: u32, b: u32) -> (u32, u32) {
    (a + b, std::process::id())
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();
    let process = Process::spawn(add, (1u32, 2u32))?;
    let (sum, id) = process.join()?;
    assert_eq!(sum, 3);
    assert_ne!(id, std::process::id(), "it ran in a process of its own");
    Ok(())
}
