//! Which program a worker runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ipc_core::{Classify, ErrorKind};
use ipc_process::{JoinError, NeverStarted, Process, SpawnError};
use ipc_testkit::watchdog;

fn me() -> std::path::PathBuf {
    std::env::current_exe().unwrap()
}

/// Copies a program by another one, `cp`. If this process wrote it itself, then whatever another of its threads starts at
/// that time would hold the file open for writing for a moment, and it could not be executed (ETXTBSY).
fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let mut cp = std::process::Command::new("cp");
    assert!(cp.arg(from.as_ref()).arg(to.as_ref()).status().unwrap().success());
}

fn join_with(executable: &Path) -> Result<u8, JoinError> {
    Process::builder().executable(executable).spawn(|| 5u8, ()).unwrap().join()
}

#[test]
fn a_copy_of_the_program_will_do() {
    let _watchdog = watchdog("a_copy_of_the_program_will_do");
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("copy");
    copy(me(), &program);
    assert_eq!(join_with(&program).unwrap(), 5);
    // A path is looked up from the directory of this process, not from the one that the new one starts in.
    let relative = || {
        std::env::set_current_dir(me().parent().unwrap()).unwrap();
        let name = me().file_name().unwrap().to_owned();
        let name = Path::new(".").join(name);
        Process::builder().executable(name).current_dir("/").spawn(|| 6u8, ()).unwrap().join().unwrap()
    };
    assert_eq!(Process::spawn(relative, ()).unwrap().join().unwrap(), 6);
}

#[test]
fn another_build_is_refused() {
    let _watchdog = watchdog("another_build_is_refused");
    let mut program = fs::read(me()).unwrap();
    let identity = ipc_os::image::identity();
    let at = program
        .windows(identity.len())
        .position(|window| window == identity)
        .expect("the build id is in the file");
    program[at] ^= 1;
    let directory = tempfile::tempdir().unwrap();
    let written = directory.path().join("written");
    fs::write(&written, program).unwrap();
    fs::set_permissions(&written, fs::Permissions::from_mode(0o700)).unwrap();
    let other = directory.path().join("other");
    copy(written, &other);
    let error = join_with(&other).unwrap_err();
    assert!(matches!(error, JoinError::NeverStarted(NeverStarted::AnotherImage)), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Mismatch);
}

#[test]
fn a_program_that_never_calls_init_never_starts() {
    let _watchdog = watchdog("a_program_that_never_calls_init_never_starts");
    for (program, code) in [("/bin/true", 0), ("/bin/false", 1)] {
        let error = join_with(Path::new(program)).unwrap_err();
        match error {
            JoinError::NeverStarted(NeverStarted::Exited(told)) => assert_eq!(told, code),
            other => panic!("{other:?}"),
        }
    }
    // `#!` lines are programs as well; this one is killed.
    let directory = tempfile::tempdir().unwrap();
    let written = directory.path().join("written");
    fs::write(&written, "#!/bin/sh\nkill -9 $$\n").unwrap();
    fs::set_permissions(&written, fs::Permissions::from_mode(0o700)).unwrap();
    let script = directory.path().join("script");
    copy(written, &script);
    let error = join_with(&script).unwrap_err();
    assert!(matches!(error, JoinError::NeverStarted(NeverStarted::Killed(9))), "{error:?}");
}

#[test]
fn what_cannot_be_executed_is_an_error_of_the_spawn() {
    let _watchdog = watchdog("what_cannot_be_executed_is_an_error_of_the_spawn");
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text");
    fs::write(&text, "no program").unwrap();
    let plain = text.clone();
    let executable = directory.path().join("executable");
    fs::write(&executable, "no program").unwrap();
    fs::set_permissions(&executable, fs::Permissions::from_mode(0o700)).unwrap();
    let loops = directory.path().join("loop");
    std::os::unix::fs::symlink(&loops, &loops).unwrap();
    let cases =
        [plain, executable, text.join("below"), loops, directory.path().into(), "/no/such/program".into()];
    for case in cases {
        match Process::builder().executable(&case).spawn(|| (), ()) {
            Err(SpawnError::Program { program, .. }) => assert_eq!(program, case),
            other => panic!("{}: {other:?}", case.display()),
        }
    }
}

const REPLACED: &str = "IPC_TEST_REPLACED";

#[test]
fn the_program_on_disk_may_be_replaced() {
    let _watchdog = watchdog("the_program_on_disk_may_be_replaced");
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("copy");
    copy(me(), &program);
    let output = std::process::Command::new(&program)
        .args(["image::spawns_after_it_was_replaced", "--exact", "--include-ignored", "--nocapture"])
        .env(REPLACED, &program)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
    assert_eq!(fs::read_to_string(&program).unwrap(), "something else");
}

#[test]
#[ignore = "replaces its own program: another test runs it, as a copy"]
fn spawns_after_it_was_replaced() {
    let Some(path) = std::env::var_os(REPLACED) else { return };
    let new = Path::new(&path).with_extension("new");
    fs::write(&new, "something else").unwrap();
    fs::rename(&new, &path).unwrap();
    let process = Process::spawn(|| Process::spawn(|| 8u8, ()).unwrap().join().unwrap(), ()).unwrap();
    assert_eq!(process.join().unwrap(), 8);
}

#[test]
fn a_set_user_id_program_believes_nothing() {
    let _watchdog = watchdog("a_set_user_id_program_believes_nothing");
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: only root can make a program run as another user");
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy_with = |name: &str, mode: u32| {
        let path = directory.path().join(name);
        copy(me(), &path);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // From a process of an unprivileged user, which is not dumpable any more: that matters to /proc alone.
    let starts = |path: String| {
        let nobody = nix::unistd::Uid::from_raw(65534);
        nix::unistd::setuid(nobody).unwrap();
        format!("{:?}", join_with(Path::new(&path)))
    };
    let usual = Process::spawn(starts, (copy_with("usual", 0o755),)).unwrap().join().unwrap();
    assert_eq!(usual, "Ok(5)");
    let set_user_id = Process::spawn(starts, (copy_with("set-user-id", 0o4755),)).unwrap().join().unwrap();
    if set_user_id == "Ok(5)" && is_nosuid(directory.path()) {
        return println!("skipped: the temporary directory's file system ignores set-user-ID");
    }
    // `main` ran instead: the test harness, which has no test of the worker's name.
    assert_eq!(set_user_id, "Err(NeverStarted(Exited(0)))");
}

fn is_nosuid(path: &Path) -> bool {
    let flags = nix::sys::statvfs::statvfs(path).unwrap().flags();
    flags.contains(nix::sys::statvfs::FsFlags::ST_NOSUID)
}
