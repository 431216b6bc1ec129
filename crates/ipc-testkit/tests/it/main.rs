//! Models of the protocols of docs/shm-layout.md and docs/queue-layout.md, visited state by state.
//!
//! A step is one access to a shared word, one look of a futex wait at a word, one wake, or what the kernel does at a
//! death. Everybody may be killed before each of its steps. Each model has mutants, which have to fail.
//!
//! As they are, the sizes are for every change. With `IPC_MODEL=large` in the environment there are larger ones, for
//! `cargo test --release -p ipc-testkit --test it -- --nocapture --test-threads 1`, which tells the states of each. The
//! largest of each model, on one core of a small virtual machine:
//!
//! | model | actors, kills, ticks | states | seconds |
//! |---|---|---|---|
//! | lock | 4 twice, none, none | 5,779,048 | 8 |
//! | lock | 3 three times, 2, one a kill | 1,641,295 | 3 |
//! | lock | 4 once, 2, at any time, flags lost | 1,753,998 | 2 |
//! | liveness | 3 on 2 seats, 3, at any time, flags lost | 1,026,199 | 1 |
//! | condition | 4 waiters and a notifier of two, 2, one a kill | 16,606,810 | 36 |
//! | condition, places | 3 waiters and a notifier of two that waits, 2, at any time | 7,276,786 | 14 |
//! | rwlock | 2 writers and 2 readers, none, none | 2,115,878 | 2 |
//! | rwlock | a writer and 3 readers, 1, one a kill | 5,503,505 | 10 |
//! | rwlock | 2 writers and a reader, 2, at any time, flags lost | 854,830 | 1 |
//! | semaphore | 4 for 2 permits, 2, at any time | 5,118,023 | 17 |
//! | event | 2 that set and 3 waiters, 1, at any time | 2,533,270 | 4 |
//! | barrier | 4, 2, at any time | 7,345,828 | 20 |
//! | queue | 2 senders and 2 receivers, three messages, none, none | 2,942,688 | 5 |
//! | queue | 2 senders and 2 receivers, two messages, 1, one a kill | 1,513,415 | 3 |
//! | queue | 3 senders, two of them of long messages, and a receiver, none, none | 2,980,200 | 5 |
//! | store | 2 senders and 2 receivers on 2 slots, 2, at any time | 874,967 | 1 |
//! | leases | 3 workers, three messages, 2 leases, 2, at any time | 5,394,569 | 7 |

mod barrier;
mod condition;
mod event;
mod leases;
mod liveness;
mod lock;
mod queue;
mod rwlock;
mod semaphore;
mod store;
mod world;

use std::fmt::Debug;

use ipc_testkit::model::{Fault, Model, Report, Violation, explore};

/// More than any of the models has.
const STATES_MAX: usize = 60_000_000;

/// Whether to visit larger sizes too.
fn is_large() -> bool {
    std::env::var_os("IPC_MODEL").is_some_and(|size| size == "large")
}

/// Visits all states.
///
/// # Panics
/// With a trace, when the model is violated.
fn prove<M: Model + Debug>(model: &M) -> Report {
    let start = std::time::Instant::now();
    let report = explore(model, STATES_MAX).unwrap_or_else(|violation| panic!("{model:?}: {violation}"));
    let name = std::any::type_name::<M>();
    println!("{:>10} states, {:>8.1?}: {name} {model:?}", report.states, start.elapsed());
    report
}

/// Visits states until the model is violated.
///
/// # Panics
/// When it is not.
fn refute<M: Model + Debug>(model: &M) -> Box<Violation<M::State>> {
    let Err(violation) = explore(model, STATES_MAX) else { panic!("passes, and should not: {model:?}") };
    assert!(!matches!(violation.fault, Fault::TooMany(_)), "{model:?}: {violation}");
    violation
}
