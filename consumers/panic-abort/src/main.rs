//! Built with `panic = "abort"`: a worker's panic still comes back as one, with its message, its place and its stack.

use std::error::Error;

use ipc_process::{Exit, JoinError, PanicReport, Process};
use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(panic = "unwind")]
compile_error!("this program is about panics that abort");

fn divide(a: u32, b: u32) -> u32 {
    assert!(b != 0, "cannot divide {a} by nothing");
    a / b
}

/// The report of a process that must have panicked, which was an abort.
fn panicked<R: Serialize + DeserializeOwned + std::fmt::Debug>(process: Process<R>) -> PanicReport {
    let mut process = process;
    let report = match process.join_timeout(std::time::Duration::MAX) {
        Err(JoinError::Panicked(report)) => *report,
        other => panic!("expected the worker's panic, got {other:?}"),
    };
    let exit = process.exit().unwrap();
    assert!(matches!(exit, Some(Exit::Signal { number: 6, .. })), "{exit:?}");
    report
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();
    let quotient: u32 = Process::spawn(divide, (6u32, 2u32))?.join()?;
    assert_eq!(quotient, 3);

    let report = panicked(Process::spawn(divide, (6u32, 0u32))?);
    assert!(report.message.contains("cannot divide 6 by nothing"), "{report:?}");
    assert!(report.location.as_ref().is_some_and(|at| at.file.ends_with("main.rs")), "{report:?}");
    assert!(report.backtrace.contains("divide"), "{report:?}");
    assert_eq!(report.thread, "main");

    // Any thread's panic ends the process, and any kind of one.
    let in_a_thread = || -> u32 {
        let thread = std::thread::Builder::new().name("other".to_owned());
        thread.spawn(|| divide(1, 0)).unwrap().join().unwrap()
    };
    let report = panicked(Process::spawn(in_a_thread, ())?);
    assert_eq!((&*report.message, &*report.thread), ("cannot divide 1 by nothing", "other"));
    let without_a_string = || -> u32 { std::panic::panic_any(5u8) };
    let report = panicked(Process::spawn(without_a_string, ())?);
    assert_eq!(report.message, "(a panic without a message)");
    let nobody_catches = || std::panic::catch_unwind(|| divide(2, 0)).is_err();
    assert_eq!(panicked(Process::spawn(nobody_catches, ())?).message, "cannot divide 2 by nothing");

    // An abort that is none of a panic.
    match Process::spawn(|| -> u32 { std::process::abort() }, ())?.join() {
        Err(JoinError::Killed { signal: 6, .. }) => Ok(()),
        other => panic!("expected a plain abort, got {other:?}"),
    }
}
