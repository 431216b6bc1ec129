//! What the tests of the `ipc` crates share: a watchdog, counts of what must not leak, and what several of them would
//! otherwise write again.
#![forbid(unsafe_code)]

pub mod data;
#[cfg(feature = "processes")]
pub mod messages;
pub mod model;
#[cfg(feature = "processes")]
pub mod processes;
pub mod seccomp;
#[cfg(feature = "stepper")]
pub mod stepper;

use std::ffi::OsStr;
use std::time::{Duration, Instant};

/// No step of a test takes longer, on however slow a machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The time that a test gives a wait that has to end by itself. Longer than anything takes, but less than [`PATIENCE`]:
/// if it is over the test says so, before the watchdog does.
pub const LONG: Duration = Duration::from_secs(50);

/// A time after which somebody who waits has a good chance to be asleep. No test needs it to be true.
pub const SHORT: Duration = Duration::from_millis(30);

/// Ends the test process with a message if it is not dropped within [`PATIENCE`]: a hang becomes a failure.
#[derive(Debug)]
pub struct Watchdog {
    _alive: std::sync::mpsc::Sender<()>,
}

/// Starts a watchdog for the test of that name.
#[must_use = "the watchdog watches until it is dropped"]
pub fn watchdog(test: &'static str) -> Watchdog {
    let (alive, dropped) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if dropped.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("watchdog: {test} has not ended within {PATIENCE:?}");
            std::process::abort();
        }
    });
    Watchdog { _alive: alive }
}

/// Waits until `done` holds.
///
/// # Panics
/// When it does not within [`PATIENCE`].
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Set in the process that [`alone`] starts, to the name of the test.
const ALONE: &str = "IPC_TESTKIT_ALONE";

/// Runs the body of a test in a process of its own: for what a process has only one of, as its limits, its signals,
/// its number of descriptors. `test` is the test's full name, without the crate: `module::name`. The first call starts
/// this test binary again with that test alone; there, the call runs `body`.
///
/// # Panics
/// When `body` does, or there is no test of that name.
pub fn alone(test: &str, body: impl FnOnce()) {
    if is_alone(test) { body() } else { run_alone(test, &[]) }
}

/// Whether this is the process that [`run_alone`] has started for that test.
pub fn is_alone(test: &str) -> bool {
    std::env::var_os(ALONE).is_some_and(|name| name == test)
}

/// What [`alone`] does in the first call, with these variables in the environment of the test's own process.
///
/// # Panics
/// As [`alone`].
pub fn run_alone(test: &str, variables: &[(&str, &OsStr)]) {
    let me = std::env::current_exe().expect("the test binary has a path");
    let output = std::process::Command::new(me)
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .env(ALONE, test)
        .envs(variables.iter().copied())
        .output()
        .expect("the test binary can be started again");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test}, alone, ended with {}:\n{text}", output.status);
    assert!(text.contains("1 passed"), "there is no test of the name {test}:\n{text}");
    println!("{text}");
}

/// How many descriptors this process has open.
///
/// # Panics
/// Without `/proc`.
pub fn open_descriptors() -> usize {
    // The listing itself holds one.
    std::fs::read_dir("/proc/self/fd").expect("/proc").count() - 1
}

/// The state letter of a process (`R`, `S`, `Z`, …); `None` when it is gone.
pub fn process_state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether a process runs: it exists and is no zombie.
pub fn is_running(pid: u32) -> bool {
    process_state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// How many zombies this process has as children.
///
/// # Panics
/// Without `/proc`.
pub fn zombies() -> usize {
    let me = std::process::id();
    std::fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
            fields.next() == Some("Z") && fields.next().and_then(|parent| parent.parse().ok()) == Some(me)
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_counted() {
        alone("tests::descriptors_are_counted", || {
            let before = open_descriptors();
            let file = std::fs::File::open("/dev/null").unwrap();
            assert_eq!(open_descriptors(), before + 1);
            drop(file);
            assert_eq!(open_descriptors(), before);
        });
    }

    #[test]
    fn alone_fails_with_its_body_and_without_a_test() {
        let failure = |name: &'static str| {
            let caught = std::panic::catch_unwind(|| alone(name, || ()));
            *caught.unwrap_err().downcast::<String>().unwrap()
        };
        assert!(failure("tests::fails_when_alone").contains("on purpose"));
        assert!(failure("tests::no_such_test").contains("there is no test"));
    }

    #[test]
    #[ignore = "fails on purpose: another test runs it alone"]
    fn fails_when_alone() {
        panic!("on purpose");
    }

    #[test]
    fn processes_are_told_by_their_state() {
        assert!(is_running(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        eventually("the child is a zombie", || process_state(pid) == Some('Z'));
        assert!(zombies() >= 1 && !is_running(pid));
        child.wait().unwrap();
        assert_eq!(process_state(pid), None);
    }
}
