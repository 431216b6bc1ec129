use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use ipc_testkit::{alone, watchdog};
use tempfile::NamedTempFile;

use super::*;

/// Told to a process that a test starts: how it is to end.
const JOB: &str = "IPC_SIGBUS_TEST_JOB";
const LEN: usize = 1 << 20;

fn named() -> NamedTempFile {
    let file = NamedTempFile::new_in("/dev/shm").or_else(|_| NamedTempFile::new()).unwrap();
    file.as_file().set_len(LEN as u64).unwrap();
    file
}

fn guarded(file: &File) -> Guarded {
    Guarded::new(Mapping::new(file, LEN, Access::ReadWrite).unwrap()).unwrap()
}

/// Another process cuts the file to that length.
fn peer_truncates(file: &NamedTempFile, len: usize) {
    let done = Command::new("truncate").arg("-s").arg(len.to_string()).arg(file.path()).status().unwrap();
    assert!(done.success());
}

fn run(job: &str) -> ExitStatus {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["sigbus::tests::does_a_job", "--exact", "--nocapture", "--include-ignored"])
        .env(JOB, job)
        .output()
        .unwrap();
    println!("{job}: {} {}", output.status, String::from_utf8_lossy(&output.stderr));
    output.status
}

extern "C" fn handler_of_the_program(_: libc::c_int) {
    // SAFETY: ends the process at once, which a handler may.
    unsafe { libc::_exit(42) };
}

extern "C" fn informed_handler(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel has filled it in, and our handler passes it on.
    let code = unsafe { (*info).si_code };
    // SAFETY: as above.
    unsafe { libc::_exit(if code == libc::BUS_ADRERR { 43 } else { 44 }) };
}

#[test]
#[ignore = "the job of another test: it starts this"]
fn does_a_job() {
    let job = std::env::var(JOB).unwrap();
    let plain: extern "C" fn(libc::c_int) = handler_of_the_program;
    let informed: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = informed_handler;
    match job.as_str() {
        "rust" => {}
        "default" | "sent" => set(libc::SIG_DFL, 0).unwrap(),
        "ignored" | "ignored and sent" => set(libc::SIG_IGN, 0).unwrap(),
        "handler" => set(plain as usize, 0).unwrap(),
        "informed" => set(informed as usize, libc::SA_SIGINFO).unwrap(),
        job => panic!("no such job: {job}"),
    }
    let (ours, other) = (named(), named());
    let map = guarded(ours.as_file());
    ours.as_file().set_len(0).unwrap();
    let mut byte = [1];
    map.read(LEN / 2, &mut byte).unwrap();
    assert!(map.is_poisoned() && byte == [0]);
    if job.ends_with("sent") {
        // SAFETY: a signal to this thread.
        unsafe { libc::raise(libc::SIGBUS) };
        println!("still here");
        return;
    }
    // Not guarded, and no neighbour of what is.
    let plain = Mapping::new(other.as_file(), LEN, Access::ReadWrite).unwrap();
    other.as_file().set_len(0).unwrap();
    plain.read(LEN / 2, &mut byte).unwrap();
    unreachable!("nothing can be read there");
}

#[test]
fn a_fault_elsewhere_ends_the_process_as_if_nothing_were_installed() {
    for job in ["rust", "default", "ignored", "sent"] {
        assert_eq!(run(job).signal(), Some(libc::SIGBUS), "{job}");
    }
    assert!(run("ignored and sent").success());
}

#[test]
fn the_handler_of_the_program_is_called() {
    assert_eq!(run("handler").code(), Some(42));
    assert_eq!(run("informed").code(), Some(43));
}

#[test]
fn a_peer_that_truncates_is_noticed_by_readers_and_writers() {
    let _watchdog = watchdog("a_peer_that_truncates_is_noticed_by_readers_and_writers");
    for len in [0, LEN / 2 + 1, LEN - 4096] {
        let file = named();
        let map = guarded(file.as_file());
        map.write(0, &[7; LEN]).unwrap();
        let rounds = std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let (mut bytes, mut rounds) = (vec![0; LEN], 0);
                loop {
                    map.read(0, &mut bytes).unwrap();
                    if map.is_poisoned() {
                        return rounds;
                    }
                    assert!(bytes.iter().all(|byte| *byte == 7), "zeros that nobody wrote, unnoticed");
                    rounds += 1;
                }
            });
            let writing = scope.spawn(|| {
                let mut rounds = 0;
                while !map.is_poisoned() {
                    map.write(0, &[7; LEN]).unwrap();
                    rounds += 1;
                }
                rounds
            });
            peer_truncates(&file, len);
            (reading.join().unwrap(), writing.join().unwrap())
        });
        println!("cut to {len}: {rounds:?} rounds before");
        // In front of the page that faulted, it is the file still.
        if len > 0 {
            let mut byte = [0];
            map.read(len - 1, &mut byte).unwrap();
            assert_eq!(byte, [7]);
        }
        // It stays poisoned, also when the file is as long again; another mapping of it is not.
        peer_truncates(&file, LEN);
        assert!(map.is_poisoned());
        assert!(!guarded(file.as_file()).is_poisoned());
    }
}

#[test]
fn a_mapping_for_reading_is_guarded_too_and_to_its_last_page() {
    let file = named();
    let map = Mapping::new(file.as_file(), LEN - 4095, Access::Read).unwrap();
    let map = Guarded::new(map).unwrap();
    peer_truncates(&file, 0);
    let mut byte = [1];
    map.read(LEN - 4096, &mut byte).unwrap();
    assert!(map.is_poisoned() && byte == [0]);
    // Words as well as copies.
    let file = named();
    let map = guarded(file.as_file());
    peer_truncates(&file, 0);
    assert_eq!(map.u64(4096).unwrap().fetch_add(5, Ordering::Relaxed), 0);
    assert!(map.is_poisoned());
}

#[test]
fn a_forked_child_is_guarded_and_its_poison_is_its_own() {
    alone("sigbus::tests::a_forked_child_is_guarded_and_its_poison_is_its_own", || {
        let file = named();
        let map = guarded(file.as_file());
        file.as_file().set_len(0).unwrap();
        // SAFETY: the child touches memory, looks at an atomic and exits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let touched = map.write(0, b"x").is_ok() && map.is_poisoned();
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(i32::from(!touched)) };
        }
        let mut status = 0;
        // SAFETY: waits for that child, and writes its status to a live variable.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
        assert!(!map.is_poisoned());
    });
}

#[test]
fn a_full_file_system_is_no_signal() {
    alone("sigbus::tests::a_full_file_system_is_no_signal", || {
        let place = tempfile::tempdir().unwrap();
        // SAFETY: this thread alone gets another view of the mounts, which ends with the process.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
            println!("skipped: no namespace of mounts for a test ({})", io::Error::last_os_error());
            return;
        }
        let mount = |source: &str, target: &str, kind: &str, flags: libc::c_ulong, options: &str| {
            let text = |text: &str| std::ffi::CString::new(text).unwrap();
            let (source, target, kind, options) = (text(source), text(target), text(kind), text(options));
            // SAFETY: four strings that live for the call.
            unsafe {
                libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast())
            }
        };
        let path = place.path().to_str().unwrap();
        if mount("none", "/", "", libc::MS_REC | libc::MS_PRIVATE, "") != 0
            || mount("tmpfs", path, "tmpfs", 0, "size=256k") != 0
        {
            println!("skipped: no small tmpfs for a test ({})", io::Error::last_os_error());
            return;
        }
        let file = tempfile::tempfile_in(path).unwrap();
        file.set_len(LEN as u64).unwrap();
        assert_eq!(
            crate::memfd::reserve(&file, 0, LEN as u64).unwrap_err().kind(),
            io::ErrorKind::StorageFull,
            "what reserves is told beforehand"
        );
        let map = guarded(&file);
        map.write(0, &[7; LEN]).unwrap();
        assert!(map.is_poisoned());
        println!("full, and still here");
    });
}

#[test]
fn nothing_is_poisoned_by_what_is_done_to_others() {
    let (cut, whole) = (named(), named());
    let good = guarded(whole.as_file());
    for _ in 0..200 {
        let map = guarded(cut.as_file());
        assert!(!map.is_poisoned());
        cut.as_file().set_len(0).unwrap();
        map.write(1, b"x").unwrap();
        assert!(map.is_poisoned());
        cut.as_file().set_len(LEN as u64).unwrap();
    }
    assert!(!good.is_poisoned());
}
