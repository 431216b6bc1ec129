//! How long a worker takes from its spawn to its result, roughly: a look at the order of magnitude. The measurements
//! are in the package of benches (`cargo xtask bench spawn`).
//!
//! Its `main` does not call `ipc_process::init`: the feature `test` has done so, as for any bench with or without a
//! harness.

use std::time::{Duration, Instant};

use ipc_process::Process;

fn main() {
    let is_given = |flag: &str| std::env::args().any(|argument| argument == flag);
    if is_given("--list") {
        // nextest asks every test program for its tests, and then runs them by name.
        if !is_given("--ignored") {
            println!("spawn_join: test");
        }
        return;
    }
    let mut times: Vec<Duration> = (0..21u32)
        .map(|n| {
            let start = Instant::now();
            assert_eq!(Process::spawn(|n: u32| n + 1, (n,)).unwrap().join().unwrap(), n + 1);
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("spawn and join: {:?} (median of {})", times[times.len() / 2], times.len());
}
