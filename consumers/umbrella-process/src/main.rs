//! Uses the umbrella with the feature `process` alone.

use std::error::Error;

use ipc::process::Process;

fn double(n: u32) -> u32 {
    2 * n
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc::init();
    let doubled: u32 = Process::spawn(double, (21u32,))?.join()?;
    assert_eq!(doubled, 42);
    Ok(())
}
