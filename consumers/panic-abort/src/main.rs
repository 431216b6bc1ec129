//! Built with `panic = "abort"`: a worker's panic still comes back as one, with its message and its place.

use std::error::Error;

use ipc_process::{JoinError, Process};

#[cfg(panic = "unwind")]
compile_error!("this program is about panics that abort");

fn divide(a: u32, b: u32) -> u32 {
    assert!(b != 0, "cannot divide {a} by nothing");
    a / b
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();
    let quotient: u32 = Process::spawn(divide, (6u32, 2u32))?.join()?;
    assert_eq!(quotient, 3);
    match Process::spawn(divide, (6u32, 0u32))?.join() {
        Err(JoinError::Panicked(report)) => {
            assert!(
                report.message.contains("cannot divide 6 by nothing"),
                "{report:?}"
            );
            assert!(format!("{:?}", report.location).contains("main.rs"), "{report:?}");
        }
        other => panic!("expected the worker's panic, got {other:?}"),
    }
    Ok(())
}
