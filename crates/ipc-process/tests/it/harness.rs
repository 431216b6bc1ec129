//! Tests, benches and examples are programs whose `main` is not the user's: with the feature `test` they can spawn.
//! Tests under `cargo test` are proved by all of these, benches by `benches/spawn_join.rs`, which has no harness and
//! runs with the tests, examples by those of this crate.

use std::process::Command;

use ipc_process::Process;
use ipc_testkit::watchdog;

#[test]
fn a_test_can_spawn() {
    let _watchdog = watchdog("a_test_can_spawn");
    assert_eq!(Process::spawn(|x: u32| x + 1, (1,)).unwrap().join().unwrap(), 2);
}

#[test]
fn under_nextest_a_test_can_spawn() {
    // Not before the guard, but in a process of its own: cargo may have something to build.
    let is_there = Command::new(env!("CARGO")).args(["nextest", "--version"]).output();
    if !is_there.is_ok_and(|output| output.status.success()) {
        return println!("skipped: there is no cargo-nextest on this machine");
    }
    let me = std::env::current_exe().unwrap();
    // Beside the directory that this program lies in, DIR/debug/deps: what is built there is used again.
    let target_dir = me.ancestors().nth(3).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["nextest", "run", "--offline", "--test", "it", "--bench", "spawn_join", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--target-dir")
        .arg(target_dir)
        .args([
            "--filterset",
            "test(=harness::a_test_can_spawn) | test(=ending::b01_exit_codes) | test(=spawn_join)",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("3 passed"), "{text}");
}

#[test]
fn one_thread_for_all_tests_is_enough() {
    let _watchdog = watchdog("one_thread_for_all_tests_is_enough");
    // The harness then runs them on the main thread.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["harness::a_test_can_spawn", "--exact", "--test-threads=1"])
        .output()
        .unwrap();
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{output:?}"
    );
}
