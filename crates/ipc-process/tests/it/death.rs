//! The parent's death, and what it does to its children. The parent here is a process between the test and the child.

use std::io::Read;
use std::time::Duration;

use ipc_pipe::{Receiver, Sender, pipe};
use ipc_process::{JoinError, Process, current, parent};
use ipc_testkit::{LONG, eventually, is_running, watchdog};

/// Tells its number and then runs until it is killed.
fn tells_and_runs(mut tell: Sender<u32>) {
    tell.send(&current().id).unwrap();
    std::thread::sleep(LONG);
}

/// Waits for its parent's end, and tells of it.
fn outlives(mut tell: Sender<u32>) -> u32 {
    let parent = parent().unwrap();
    assert!(parent.is_alive());
    tell.send(&current().id).unwrap();
    assert!(parent.wait(Some(LONG)).unwrap());
    assert!(!parent.is_alive());
    tell.send(&parent.id()).unwrap();
    // A result that nobody is there to take.
    7
}

#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
enum End {
    Returns,
    Exits,
    Panics,
    Aborts,
    IsKilled,
}

/// Starts a child, lets it tell its number, and ends in one of the ways.
fn middle(tell: Sender<u32>, mut gate: Receiver<()>, end: End) {
    let child = Process::spawn(tells_and_runs, (tell,)).unwrap();
    let _ = gate.recv();
    assert!(child.is_alive());
    match end {
        End::Returns => {}
        End::Exits => std::process::exit(3),
        End::Panics => panic!("with a child"),
        End::Aborts => std::process::abort(),
        End::IsKilled => std::thread::sleep(LONG),
    }
}

#[test]
fn b08_a_grandchild_notices_its_parents_death() {
    let _watchdog = watchdog("b08_a_grandchild_notices_its_parents_death");
    let notices = |tell: Sender<u32>| {
        let _child = Process::builder().outlives_parent(true).spawn(outlives, (tell,)).unwrap();
        std::thread::sleep(LONG);
    };
    let (tell, mut told) = pipe().unwrap();
    let (errors, errors_end) = ipc_os::pipe::pipe().unwrap();
    let process = Process::builder().stderr(errors_end).spawn(notices, (tell,)).unwrap();
    let grandchild = told.recv().unwrap();
    assert!(is_running(grandchild));
    process.kill().unwrap();
    assert_eq!(told.recv().unwrap(), process.id());
    eventually("it ends by itself", || !is_running(grandchild));
    let mut text = String::new();
    std::fs::File::from(errors).read_to_string(&mut text).unwrap();
    assert_eq!(text, "", "that nobody takes its result is no error");
}

#[test]
fn children_end_with_their_parent_however_that_ends() {
    let _watchdog = watchdog("children_end_with_their_parent_however_that_ends");
    for end in [End::Returns, End::Exits, End::Panics, End::Aborts, End::IsKilled] {
        let (tell, mut told) = pipe().unwrap();
        let (open, gate) = pipe::<()>().unwrap();
        let process = Process::spawn(middle, (tell, gate, end)).unwrap();
        let grandchild = told.recv().unwrap();
        assert!(is_running(grandchild) && process.is_alive(), "{end:?}");
        match end {
            End::IsKilled => process.kill().unwrap(),
            _ => drop(open),
        }
        assert_eq!(process.join().is_ok(), matches!(end, End::Returns), "{end:?}");
        eventually("the grandchild is gone", || !is_running(grandchild));
    }
}

/// The numbers of the running workers whose name begins like that. One whose program is just being loaded has no
/// command line yet, and is not seen.
fn workers_of_name(name: &str) -> Vec<u32> {
    let wanted = format!("ipc-worker:{name}");
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&wanted) && is_running(*pid)
    })
    .collect()
}

#[test]
fn no_child_survives_a_parent_that_is_killed_while_it_starts_it() {
    let _watchdog = watchdog("no_child_survives_a_parent_that_is_killed_while_it_starts_it");
    let starts = |mut tell: Sender<u32>, name: String| {
        loop {
            let child = Process::builder().name(name.clone()).spawn(|| std::thread::sleep(LONG), ()).unwrap();
            tell.send(&child.id()).unwrap();
        }
    };
    let name = format!("orphan-{}-", std::process::id());
    let mut started = Vec::new();
    for step in 0..60 {
        let (tell, mut told) = pipe().unwrap();
        let process: Process<()> = Process::spawn(starts, (tell, format!("{name}{step}"))).unwrap();
        // Once the first was started, the parent is always in the midst of starting another.
        started.push(told.recv().unwrap());
        std::thread::sleep(Duration::from_micros(step * 37));
        process.kill().unwrap();
        assert!(matches!(process.join(), Err(JoinError::Killed { signal: 9, .. })));
        started.extend(told);
    }
    eventually("all that were told of are gone", || !started.iter().any(|id| is_running(*id)));
    // And those that there was no time to tell of, even if their program was just being loaded.
    eventually("all others are gone", || workers_of_name(&name).is_empty());
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(workers_of_name(&name), [0; 0]);
    assert!(started.len() >= 60);
}

#[test]
fn workers_are_seen_by_their_name() {
    let _watchdog = watchdog("workers_are_seen_by_their_name");
    let name = format!("seen-{}", std::process::id());
    let process = Process::builder().name(name.clone()).spawn(|| std::thread::sleep(LONG), ()).unwrap();
    eventually("it is seen", || workers_of_name(&name) == [process.id()]);
    process.kill().unwrap();
    assert!(process.join().is_err());
    assert_eq!(workers_of_name(&name), [0; 0]);
}

#[test]
fn the_thread_that_spawned_may_end() {
    let _watchdog = watchdog("the_thread_that_spawned_may_end");
    let (process, gate) = std::thread::spawn(crate::waiting).join().unwrap();
    // What hangs on the parent's thread (PR_SET_PDEATHSIG) would have struck by now.
    std::thread::sleep(Duration::from_millis(100));
    assert!(process.is_alive());
    drop(gate);
    process.join().unwrap();
}

#[test]
fn copies_of_the_parents_descriptors_keep_no_child_alive() {
    let _watchdog = watchdog("copies_of_the_parents_descriptors_keep_no_child_alive");
    let (tell, mut told) = pipe().unwrap();
    let (_open, gate) = pipe::<()>().unwrap();
    let process = Process::spawn(middle, (tell, gate, End::IsKilled)).unwrap();
    let grandchild = told.recv().unwrap();
    // As a stray fork of it would hold them: every descriptor that the parent has, its ends of sockets among them.
    let numbers: Vec<i32> = std::fs::read_dir(format!("/proc/{}/fd", process.id()))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    let copy = |number| {
        rustix::process::pidfd_getfd(process.sentinel(), number, rustix::process::PidfdGetfdFlags::empty())
    };
    let copies: Vec<_> = match numbers.into_iter().map(copy).collect() {
        Ok(copies) => copies,
        Err(error) => return println!("skipped: the descriptors of a child cannot be copied here: {error}"),
    };
    let sockets = copies.iter().filter(|fd| matches!(ipc_os::fd::kind(fd), Ok(ipc_os::fd::Kind::Socket)));
    assert!(sockets.count() >= 2, "its own socket and its child's");
    process.kill().unwrap();
    assert!(process.join().is_err());
    eventually("the grandchild is gone", || !is_running(grandchild));
    drop(copies);
}
