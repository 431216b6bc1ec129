//! Handing over to a different program: the example `plugin`.

use std::path::PathBuf;
use std::process::Command;

use ipc_pipe::{Receiver, RecvError, Sender, pipe};
use ipc_process::{HandOverError, JoinError, Process, Program, SpawnError, Stdio, handed_over};
use ipc_testkit::{eventually, is_running, watchdog};

/// The example, which `cargo test` has built beside this program; `cargo test --test it` has not.
fn plugin() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let target = me.parent().and_then(|deps| deps.parent()).unwrap();
    let path = target.join("examples/plugin");
    if !path.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--offline", "--example", "plugin", "--manifest-path"]);
        cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        cargo.arg("--target-dir").arg(target.parent().unwrap());
        assert!(cargo.status().unwrap().success() && path.exists(), "no {}", path.display());
    }
    path
}

#[test]
fn handles_arrive_in_a_different_program() {
    let _watchdog = watchdog("handles_arrive_in_a_different_program");
    let (mut texts, inbox) = pipe::<String>().unwrap();
    let (outbox, mut lengths) = pipe::<usize>().unwrap();
    let process = Program::new(plugin()).start(&(inbox, outbox)).unwrap();
    assert_eq!(process.name(), "plugin");
    for text in ["", "abc", "äöü"] {
        texts.send(&text.to_owned()).unwrap();
        assert_eq!(lengths.recv().unwrap(), text.chars().count());
    }
    drop(texts);
    process.join().unwrap();
    assert!(matches!(lengths.recv(), Err(RecvError::Disconnected)), "no copy is left");
}

#[test]
fn another_structure_is_an_error_that_shows_both() {
    let _watchdog = watchdog("another_structure_is_an_error_that_shows_both");
    let (errors, errors_end) = ipc_os::pipe::pipe().unwrap();
    let process = Program::new(plugin())
        .stdio(Stdio::Null, Stdio::Null, errors_end.into())
        .start(&(1u32, "two".to_owned()))
        .unwrap();
    assert!(matches!(process.join(), Err(JoinError::Exited { code: 1 })));
    let text = std::io::read_to_string(std::fs::File::from(errors)).unwrap();
    assert!(text.contains("u32") && text.contains("pipe.receiver"), "{text}");
}

#[test]
fn nothing_is_handed_over_to_a_process_that_was_started_otherwise() {
    let _watchdog = watchdog("nothing_is_handed_over_to_a_process_that_was_started_otherwise");
    assert!(matches!(handed_over::<u8>(), Err(HandOverError::Nothing)));
    let worker = || matches!(handed_over::<u8>(), Err(HandOverError::Nothing));
    assert!(Process::spawn(worker, ()).unwrap().join().unwrap());
    let output = Command::new(plugin()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Nothing"), "{output:?}");
}

/// This program, told to run one of the tests below.
fn this_program(test: &str) -> Program {
    let test = format!("handover::{test}");
    Program::new(std::env::current_exe().unwrap())
        .args([&test, "--exact", "--include-ignored", "--nocapture"])
        .stdio(Stdio::Null, Stdio::Null, Stdio::Inherit)
}

#[test]
fn it_is_picked_up_once() {
    let _watchdog = watchdog("it_is_picked_up_once");
    let (tx, mut rx) = pipe::<u32>().unwrap();
    let value = (vec![tx], vec![5u8; 200_000]);
    let process =
        this_program("picks_up_twice").env("IPC_TEST", "set").current_dir("/").start(&value).unwrap();
    assert_eq!(rx.recv().unwrap(), std::process::id());
    process.join().unwrap();
}

#[test]
#[ignore = "picks up what another test hands over to it"]
fn picks_up_twice() {
    let (mut senders, bytes) = match handed_over::<(Vec<Sender<u32>>, Vec<u8>)>() {
        Err(HandOverError::Nothing) => return,
        other => other.unwrap(),
    };
    assert!(bytes.len() == 200_000 && std::env::var("IPC_TEST").unwrap() == "set");
    assert_eq!(std::env::current_dir().unwrap().to_str(), Some("/"));
    assert!(matches!(handed_over::<(Vec<Sender<u32>>, Vec<u8>)>(), Err(HandOverError::Nothing)));
    let giver = ipc_process::parent().unwrap();
    assert!(giver.is_alive());
    senders[0].send(&giver.id()).unwrap();
    // It can have workers of its own.
    assert_eq!(Process::spawn(|| 3u8, ()).unwrap().join().unwrap(), 3);
}

#[test]
fn it_ends_with_the_one_that_started_it() {
    let _watchdog = watchdog("it_ends_with_the_one_that_started_it");
    let starts = |tell: Sender<u32>| {
        let (_texts, inbox) = pipe::<String>().unwrap();
        let _process = this_program("tells_and_runs").start(&(tell, inbox)).unwrap();
        std::thread::sleep(ipc_testkit::LONG);
    };
    let (tell, mut told) = pipe::<u32>().unwrap();
    let process = Process::spawn(starts, (tell,)).unwrap();
    let program = told.recv().unwrap();
    assert!(is_running(program));
    process.kill().unwrap();
    eventually("the program is gone", || !is_running(program));
}

#[test]
#[ignore = "picks up what another test hands over to it"]
fn tells_and_runs() {
    if let Ok((mut tell, _texts)) = handed_over::<(Sender<u32>, Receiver<String>)>() {
        tell.send(&std::process::id()).unwrap();
        std::thread::sleep(ipc_testkit::LONG);
    }
}

#[test]
fn a_program_is_told_by_its_exit_status() {
    let _watchdog = watchdog("a_program_is_told_by_its_exit_status");
    Program::new("/bin/true").start(&()).unwrap().join().unwrap();
    let sh = |script: &str| Program::new("/bin/sh").args(["-c", script]).start(&1u8).unwrap().join();
    assert!(matches!(sh("exit 3"), Err(JoinError::Exited { code: 3 })));
    assert!(matches!(sh("kill -15 $$"), Err(JoinError::Killed { signal: 15, .. })));
    let missing = Program::new("/no/such/program").start(&());
    assert!(matches!(missing, Err(SpawnError::Program { .. })), "{missing:?}");
    // The ends of a value whose program was not there are still here.
    let (mut tx, rx) = pipe::<u8>().unwrap();
    let value = (rx,);
    Program::new("/no/such/program").start(&value).unwrap_err();
    tx.send(&9).unwrap();
    assert_eq!(value.0.into_iter().next(), Some(9));
}
