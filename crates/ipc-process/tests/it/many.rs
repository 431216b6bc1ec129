//! Many processes.

use std::os::fd::AsRawFd;

use ipc_process::{Exit, JoinError, NeverStarted, Process, active_children};
use ipc_testkit::{LONG, open_descriptors, watchdog, zombies};

use crate::waiting;

#[test]
fn b09_a_hundred_at_once_all_return() {
    let _watchdog = watchdog("b09_a_hundred_at_once_all_return");
    let start = std::sync::Barrier::new(20);
    let results = std::thread::scope(|scope| {
        let spawn_five = |thread: u32| {
            start.wait();
            let processes: Vec<_> =
                (0..5).map(|n| Process::spawn(|n: u32| n * n, (5 * thread + n,)).unwrap()).collect();
            processes.into_iter().map(|process| process.join().unwrap()).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..20).map(|thread| scope.spawn(move || spawn_five(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(results.into_iter().eq((0..100).map(|n| n * n)));
}

#[test]
fn b09_a_hundred_are_terminated() {
    let _watchdog = watchdog("b09_a_hundred_are_terminated");
    // Half of them at their start, half of them later.
    let mut gates = Vec::new();
    let mut processes: Vec<Process<()>> = (0..50)
        .map(|_| {
            let (process, gate) = waiting();
            gates.push(gate);
            process
        })
        .collect();
    processes.extend((0..50).map(|_| Process::spawn(|| std::thread::sleep(LONG), ()).unwrap()));
    for process in &processes {
        process.terminate().unwrap();
    }
    for (n, mut process) in processes.into_iter().enumerate() {
        match process.join_timeout(LONG) {
            Err(JoinError::Killed { signal: 15, .. }) => {}
            Err(JoinError::NeverStarted(NeverStarted::Killed(15))) if n >= 50 => {}
            other => panic!("{n}: {other:?}"),
        }
        assert_eq!(process.exit().unwrap(), Some(Exit::Signal { number: 15, core_dumped: false }));
    }
}

fn count_descriptors() -> usize {
    open_descriptors()
}

#[test]
fn b10_descriptors_do_not_grow_with_siblings() {
    let _watchdog = watchdog("b10_descriptors_do_not_grow_with_siblings");
    let alone = || {
        let first = Process::spawn(count_descriptors, ()).unwrap().join().unwrap();
        let siblings: Vec<_> = (0..10).map(|_| waiting()).collect();
        let last = Process::spawn(count_descriptors, ()).unwrap().join().unwrap();
        assert_eq!(first, last);
        drop(siblings);
        // The streams, its socket and its parent.
        assert_eq!(first, 5);
    };
    Process::spawn(alone, ()).unwrap().join().unwrap();
}

#[test]
fn b11_an_unlisted_descriptor_is_absent() {
    let _watchdog = watchdog("b11_an_unlisted_descriptor_is_absent");
    let alone = || {
        // As careless code leaves them: inherited by whatever is executed.
        let file = std::fs::File::open("/dev/null").unwrap();
        let stray = |lowest| {
            let fd = ipc_os::fd::duplicate(&file, lowest).unwrap();
            nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
            fd
        };
        let strays = [stray(4), stray(5), stray(100), stray(500)];
        let numbers: Vec<i32> = strays.iter().map(|fd| fd.as_raw_fd()).collect();
        let command = std::process::Command::new("ls").arg("/proc/self/fd").output().unwrap();
        assert!(
            String::from_utf8_lossy(&command.stdout).lines().any(|line| line == "500"),
            "not stray at all"
        );
        let present = |numbers: Vec<i32>| -> Vec<i32> {
            let is_open = |n: &i32| {
                std::fs::read_link(format!("/proc/self/fd/{n}")).is_ok_and(|to| to.ends_with("null"))
            };
            numbers.into_iter().filter(is_open).collect()
        };
        assert_eq!(Process::spawn(present, (numbers,)).unwrap().join().unwrap(), [0; 0]);
    };
    Process::spawn(alone, ()).unwrap().join().unwrap();
}

#[test]
fn a_thousand_leave_nothing_behind() {
    let _watchdog = watchdog("a_thousand_leave_nothing_behind");
    let alone = || {
        Process::spawn(|| (), ()).unwrap().join().unwrap();
        let before = (open_descriptors(), std::fs::read_dir("/proc/self/task").unwrap().count());
        let joined = |n: u32| {
            for _ in 0..n {
                match Process::spawn(
                    |n: u32| {
                        if n == 0 {
                            panic!("one of many")
                        }
                    },
                    (1,),
                )
                .unwrap()
                .join()
                {
                    Ok(()) => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| joined(450));
            }
        });
        // Ends of all kinds: refused, killed, forgotten.
        for _ in 0..25 {
            Process::spawn(|| std::process::exit(3), ()).map(|p: Process<()>| p.join()).unwrap().unwrap_err();
            let killed = Process::spawn(std::thread::park, ()).unwrap();
            killed.kill().unwrap();
            killed.join().unwrap_err();
            Process::builder().executable("/bin/true").spawn(|| (), ()).unwrap().join().unwrap_err();
            drop(Process::spawn(|| (), ()).unwrap());
        }
        ipc_testkit::eventually("the forgotten ones have ended", || active_children().is_empty());
        let after = (open_descriptors(), std::fs::read_dir("/proc/self/task").unwrap().count());
        assert_eq!(after, before);
        assert_eq!(zombies(), 0);
    };
    Process::spawn(alone, ()).unwrap().join().unwrap();
}
