//! What a process is started with.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use ipc_process::{Process, SpawnError, Stdio, current, parent};
use ipc_testkit::watchdog;

#[test]
fn b07_a_child_sees_its_arguments_and_its_name() {
    let _watchdog = watchdog("b07_a_child_sees_its_arguments_and_its_name");
    let sees = |argument: String| {
        let me = current();
        let thread = std::fs::read_to_string("/proc/self/comm").unwrap();
        (argument, me.name, me.id, me.is_worker, parent().unwrap().id(), thread)
    };
    let process = Process::builder().name("a name that is long").spawn(sees, ("seen".to_owned(),)).unwrap();
    assert_eq!(process.name(), "a name that is long");
    let id = process.id();
    let (argument, name, own_id, is_worker, parent_id, thread) = process.join().unwrap();
    assert_eq!((argument.as_str(), name.as_str(), is_worker), ("seen", "a name that is long", true));
    assert_eq!((own_id, parent_id), (id, std::process::id()));
    assert_eq!(thread, "a name that is \n");
    let me = current();
    assert_eq!((me.name.as_str(), me.is_worker), ("main", false));
    assert!(parent().is_none());
}

#[test]
fn names_are_those_of_the_functions_unless_given_and_are_cut() {
    let _watchdog = watchdog("names_are_those_of_the_functions_unless_given_and_are_cut");
    fn a_function() -> String {
        current().name
    }
    assert_eq!(Process::spawn(a_function, ()).unwrap().join().unwrap(), "a_function");
    assert_eq!(Process::spawn(|| current().name, ()).unwrap().join().unwrap(), "closure");
    let long = Process::builder().name("ü".repeat(1000)).spawn(a_function, ()).unwrap();
    assert_eq!(long.join().unwrap(), "ü".repeat(100));
    let odd = Process::builder().name("").spawn(a_function, ()).unwrap();
    assert_eq!(odd.join().unwrap(), "");
    let nul = Process::builder().name("a\0b").spawn(a_function, ());
    assert!(matches!(nul, Err(SpawnError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidInput));
}

fn environment() -> BTreeMap<String, String> {
    std::env::vars().filter(|(name, _)| !name.starts_with("IPC_WORKER")).collect()
}

#[test]
fn the_environment_is_a_copy_with_changes() {
    let _watchdog = watchdog("the_environment_is_a_copy_with_changes");
    let here = environment();
    assert!(here.contains_key("PATH"));
    assert_eq!(Process::spawn(environment, ()).unwrap().join().unwrap(), here);
    let changed =
        Process::builder().env("X", "1").env("Y", "ü=").env_remove("PATH").env_remove("X").env("X", "2");
    let mut expected = here.clone();
    expected.extend([("X".into(), "2".into()), ("Y".into(), "ü=".into())]);
    expected.remove("PATH");
    assert_eq!(changed.spawn(environment, ()).unwrap().join().unwrap(), expected);
    let cleared =
        Process::builder().env("GONE", "1").env_clear().env("X", "3").spawn(environment, ()).unwrap();
    assert_eq!(cleared.join().unwrap(), BTreeMap::from([("X".into(), "3".into())]));
    assert_eq!(environment(), here, "nothing changes here");
}

#[test]
fn nobody_is_taken_in_by_an_inherited_marker() {
    let _watchdog = watchdog("nobody_is_taken_in_by_an_inherited_marker");
    // A worker starts this very program, which finds the worker's marker in its environment; and so does a worker's
    // worker, beside its own.
    let worker = || {
        assert!(std::env::var("IPC_WORKER").is_ok());
        let me = std::env::current_exe().unwrap();
        let output =
            std::process::Command::new(me).args(["--list", "--exact", "no::such::test"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).contains("0 tests")
            && Process::spawn(|| true, ()).unwrap().join().unwrap()
    };
    assert!(Process::spawn(worker, ()).unwrap().join().unwrap());
    // Nor by one that names a descriptor which it has.
    let lies = ["3:0:0", "0:1:2", "3", "", "x:y:z", "-1:0:0", "99999999999:0:0"];
    for lie in lies {
        let me = std::env::current_exe().unwrap();
        let listed = std::process::Command::new(me).arg("--list").env("IPC_WORKER", lie).output().unwrap();
        assert!(String::from_utf8_lossy(&listed.stdout).contains("nobody_is_taken_in"), "{lie}: {listed:?}");
    }
}

fn directory() -> String {
    std::env::current_dir().unwrap().display().to_string()
}

#[test]
fn the_directory_can_be_set() {
    let _watchdog = watchdog("the_directory_can_be_set");
    assert_eq!(Process::spawn(directory, ()).unwrap().join().unwrap(), directory());
    let elsewhere = Process::builder().current_dir("/").spawn(directory, ()).unwrap();
    assert_eq!(elsewhere.join().unwrap(), "/");
    let missing = Process::builder().current_dir("/no/such/directory").spawn(directory, ());
    match missing {
        Err(SpawnError::Directory { directory, source }) => {
            assert_eq!(directory.to_str(), Some("/no/such/directory"));
            assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
        }
        other => panic!("{other:?}"),
    }
}

fn talks(text: String) -> String {
    println!("out: {text}");
    eprintln!("err: {text}");
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).unwrap();
    input
}

#[test]
fn standard_streams_lead_where_they_are_told() {
    let _watchdog = watchdog("standard_streams_lead_where_they_are_told");
    let (out, out_end) = ipc_os::pipe::pipe().unwrap();
    let (err, err_end) = ipc_os::pipe::pipe().unwrap();
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(b"some input").unwrap();
    std::io::Seek::rewind(&mut input).unwrap();
    let process = Process::builder()
        .stdin(input)
        .stdout(out_end)
        .stderr(err_end)
        .spawn(talks, ("hello".to_owned(),))
        .unwrap();
    assert_eq!(process.join().unwrap(), "some input");
    // All the ends that were given are closed here, or these would wait.
    let read = |fd| std::io::read_to_string(std::fs::File::from(fd)).unwrap();
    assert_eq!((read(out), read(err)), ("out: hello\n".into(), "err: hello\n".into()));

    let null = Process::builder().stdin(Stdio::Null).stdout(Stdio::Null).stderr(Stdio::Null);
    assert_eq!(null.spawn(talks, ("nobody".to_owned(),)).unwrap().join().unwrap(), "");
}

#[test]
fn b12_closed_standard_streams_break_nothing() {
    let _watchdog = watchdog("b12_closed_standard_streams_break_nothing");
    let alone = || {
        // Descriptors that are opened now would get these numbers, the ends of a child's socket for one.
        for number in 0..3 {
            nix::unistd::close(number).unwrap();
        }
        let process = Process::spawn(
            |n: u32| {
                // Files get no number of a standard stream, and so nothing that is printed goes into them.
                let mut file = tempfile::tempfile().unwrap();
                println!("lost {n}");
                eprintln!("lost {n}");
                let number = std::os::fd::AsRawFd::as_raw_fd(&file);
                let mut content = String::new();
                std::io::Seek::rewind(&mut file).unwrap();
                file.read_to_string(&mut content).unwrap();
                (number, content, std::io::stdin().lines().count(), n)
            },
            (7,),
        );
        // Not into what belongs to the child.
        println!("lost as well");
        eprintln!("lost as well");
        let (number, content, lines, n) = process.unwrap().join().unwrap();
        assert!(number > 2, "{number}");
        assert_eq!((content.as_str(), lines, n), ("", 0, 7));
        let panics = Process::spawn(|| -> () { panic!("where nobody reads") }, ()).unwrap();
        assert_eq!(crate::panicked(panics.join()).message, "where nobody reads");
    };
    Process::spawn(alone, ()).unwrap().join().unwrap();
}

#[test]
fn a_worker_holds_its_streams_its_handles_and_nothing_else() {
    let _watchdog = watchdog("a_worker_holds_its_streams_its_handles_and_nothing_else");
    let listed = || -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .map(|target| target.display().to_string())
            .filter(|target| !target.starts_with("/proc/"))
            .collect();
        names.drain(..3);
        names.iter_mut().for_each(|name| name.truncate(name.find([':', '[']).unwrap_or(name.len())));
        names
    };
    let (tx, _rx) = ipc_pipe::pipe::<u8>().unwrap();
    let mut names = Process::spawn(listed, ()).unwrap().join().unwrap();
    names.sort();
    // Its socket and its parent.
    assert_eq!(names, ["anon_inode", "socket"]);
    let with_handle = Process::builder().spawn(
        |tx: ipc_pipe::Sender<u8>| {
            let number = std::os::fd::AsRawFd::as_raw_fd(&tx.as_fd());
            std::fs::read_dir("/proc/self/fd").unwrap().count() > 5 && number > 2
        },
        (tx,),
    );
    assert!(with_handle.unwrap().join().unwrap());
}
