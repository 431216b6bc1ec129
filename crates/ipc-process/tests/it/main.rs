//! Tests with real processes, by topic. The behaviours that Python's `multiprocessing` shows are ported one by one:
//!
//! | behaviour | test |
//! |---|---|
//! | 1 exit codes | `ending::b01_exit_codes` |
//! | 2 join with no time returns at once | `ending::b02_join_with_no_time_returns_at_once` |
//! | 3 an unstarted process | none: there is no such value, `spawn` starts it (`ending::b03_what_was_not_started_is_no_process` checks that a failed spawn leaves nothing) |
//! | 4 the sentinel | `ending::b04_the_sentinel_is_ready_only_at_exit` |
//! | 5 close | none: there is no `close`, dropping neither kills nor waits (`ending::b05_dropping_neither_kills_nor_waits`) |
//! | 6 active children | `ending::b06_active_children_lists_started_and_drops_reaped` |
//! | 7 arguments, name, key of the parent | `surroundings::b07_a_child_sees_its_arguments_and_its_name`; the key comes with sockets |
//! | 8 grandchildren | `death::b08_a_grandchild_notices_its_parents_death` |
//! | 9 a hundred at once | `many::b09_a_hundred_at_once_all_return`, `many::b09_a_hundred_are_terminated` |
//! | 10 descriptors and siblings | `many::b10_descriptors_do_not_grow_with_siblings` |
//! | 11 unlisted descriptors | `many::b11_an_unlisted_descriptor_is_absent` |
//! | 12 closed streams | `surroundings::b12_closed_standard_streams_break_nothing` |
//! | 13 a killed fork server | none: there is no fork server |
//! | 14 passing a handle on | `handles::b14_a_child_passes_a_received_end_on` |
//! | 25 the parent closes its copy | `handles::b25_the_parent_has_no_copy_left` |
//! | 27 signals and join | `signals::b27_signals_are_invisible_to_join` |
//! | 30 sentinels in a mix | `ending::b30_sentinels_mix_with_pipes` |
//!
//! 15 to 24, 26, 28, 29, 31 and 32 speak of connections: see the tests of `ipc-pipe`.

use ipc_pipe::{Receiver, Sender};
use ipc_process::{JoinError, PanicReport, Process};

mod arguments;
mod death;
mod ending;
mod handles;
mod handover;
mod harness;
mod image;
mod many;
mod panics;
mod signals;
mod surroundings;

/// Says that it runs, and goes on when the other end of the gate is dropped, or sent something.
fn wait_at(mut running: Sender<u32>, mut gate: Receiver<()>) {
    running.send(&std::process::id()).unwrap();
    let _ = gate.recv();
}

/// A process that runs [`wait_at`], and what opens its gate.
fn waiting() -> (Process<()>, Sender<()>) {
    let (running, mut has_begun) = ipc_pipe::pipe().unwrap();
    let (open, gate) = ipc_pipe::pipe().unwrap();
    let process = Process::spawn(wait_at, (running, gate)).unwrap();
    assert_eq!(has_begun.recv().unwrap(), process.id());
    (process, open)
}

/// The report of a process that must have panicked.
fn panicked<R: std::fmt::Debug>(result: Result<R, JoinError>) -> PanicReport {
    match result {
        Err(JoinError::Panicked(report)) => *report,
        other => panic!("expected a panic, got {other:?}"),
    }
}

/// The most descriptors that this process may have, raised to what is allowed; whether that is `wanted`.
fn raise_descriptor_limit(wanted: u64) -> bool {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    hard >= wanted
}
