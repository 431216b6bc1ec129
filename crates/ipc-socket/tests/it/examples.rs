//! The examples, which are two programs each: started as one would by hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ipc_testkit::watchdog;

use crate::interpreters::of_major;

/// The example, which is built with the tests.
fn example(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let target = tests.parent().and_then(Path::parent).unwrap();
    let program: PathBuf = target.join("examples").join(name);
    assert!(program.exists(), "{} is not built: run `cargo test -p ipc-socket`", program.display());
    Command::new(program)
}

/// Starts it, and gives the address that it listens at.
fn listening(command: &mut Command) -> (Child, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    errors.read_line(&mut line).unwrap();
    // Who prints where nobody reads panics; so somebody reads.
    std::thread::spawn(move || errors.read_to_string(&mut String::new()));
    let address = line.trim().strip_prefix("listening at ").unwrap_or_else(|| panic!("{line}")).to_owned();
    (child, address)
}

fn printed(mut child: Child) -> String {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    text
}

#[test]
fn a_client_talks_to_a_listener() {
    let _watchdog = watchdog("a_client_talks_to_a_listener");
    let directory = tempfile::tempdir().unwrap();
    for address in [format!("unix:{}/s", directory.path().display()), "tcp:127.0.0.1:0".to_owned()] {
        let (listener, address) = listening(example("listener").args([&address, "--authkey", "key"]));
        let stranger = example("client").args([&address, "--authkey", "other", "lost"]).output().unwrap();
        assert!(!stranger.status.success());
        let messages = ["one", "two", "close"];
        let client = example("client").args([&address, "--authkey", "key"]).args(messages).status().unwrap();
        assert!(client.success());
        assert_eq!(printed(listener), "one\ntwo\n");
    }
}

#[test]
fn python_is_the_client_and_the_listener() {
    let _watchdog = watchdog("python_is_the_client_and_the_listener");
    let directory = tempfile::tempdir().unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    // The scripts are of today's Python.
    for python in of_major(3).into_iter().filter(|python| python.version >= (3, 8, 0)) {
        let path = directory.path().join("s");
        let ours = format!("unix:{}", path.display());
        let flags = ["--authkey", "key", "--python", "--legacy-md5"];
        let (listener, address) = listening(example("listener").arg(&ours).args(flags));
        let script = scripts.join("python_client.py");
        let client = Command::new(&python.path).arg(script).args([&address, "key", "one", "close"]).status();
        assert!(client.unwrap().success());
        assert_eq!(printed(listener), "one\n");

        let mut listener = Command::new(&python.path);
        listener.arg(scripts.join("python_listener.py")).args([&ours, "key"]).stdout(Stdio::piped());
        let listener = listener.spawn().unwrap();
        // The client waits until somebody listens.
        let client = example("client").arg(&ours).args(flags).args(["two", "close"]).status().unwrap();
        assert!(client.success());
        assert_eq!(printed(listener), "two\n");
    }
}

#[test]
fn an_echo_comes_back() {
    let _watchdog = watchdog("an_echo_comes_back");
    let directory = tempfile::tempdir().unwrap();
    for address in [format!("shm:{}/s", directory.path().display()), "tcp:127.0.0.1:0".to_owned()] {
        let (mut server, address) = listening(example("echo_server").arg(address).stdin(Stdio::piped()));
        let client = example("echo_client").args([address.as_str(), "hello", "there"]).output().unwrap();
        assert_eq!(String::from_utf8(client.stdout).unwrap(), "hello\nthere\n");
        server.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(server.wait().unwrap().success());
    }
}
