//! Who has a path, with real processes that are killed; and what the sockets are like.

use super::*;
use crate::credentials::Credentials;
use crate::dial::{self, DialOptions};
use ipc_core::{Classify, ErrorKind};
use ipc_process::{JoinError, PidFd, Process};
use ipc_testkit::{eventually, watchdog};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(50);

fn unix(path: impl AsRef<Path>) -> Address {
    Address::unix(path.as_ref()).unwrap()
}

fn bind(address: &Address) -> Result<Bound, BindError> {
    Bound::bind(address, &BindOptions::default())
}

/// Who has the path now, by asking whoever listens there.
fn owner(address: &Address) -> Option<u32> {
    let connection = dial::connect(address, &DialOptions::default()).ok()?;
    Credentials::of(connection.as_fd()).unwrap().pid()
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

#[track_caller]
fn is_in_use(bound: Result<Bound, BindError>) {
    let error = bound.unwrap_err();
    assert!(matches!(error, BindError::AddressInUse { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn sockets_and_new_directories_are_private_and_what_is_there_is_left() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = scratch.path().join("a/b/socket");
    let bound = bind(&unix(&path)).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!((mode(path.parent().unwrap()), mode(&scratch.path().join("a"))), (0o700, 0o700));
    assert_eq!(mode(scratch.path()), 0o755);
    drop(bound);
    assert!(!path.exists() && path.parent().unwrap().exists());
    for wanted in [0o666, 0o660, 0o777, 0o600] {
        let options = BindOptions { mode: wanted, ..BindOptions::default() };
        let shm = Address::shm(&path).unwrap();
        let bound = Bound::bind(&shm, &options).unwrap();
        assert_eq!(bound.local_address(), &shm);
        assert_eq!(mode(&path), wanted, "whatever the umask is");
    }
}

#[test]
fn there_is_no_moment_in_which_others_could_connect() {
    let _watchdog = watchdog("there_is_no_moment_in_which_others_could_connect");
    let scratch = tempfile::tempdir().unwrap();
    let plain = scratch.path().join("plain");
    let _plain = UnixListener::bind(&plain).unwrap();
    assert_ne!(mode(&plain), 0o600, "it does not come by itself");
    let path = scratch.path().join("socket");
    let watched = path.clone();
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let watching = std::thread::spawn(move || {
        let mut seen = 0;
        while is_done.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            if let Ok(metadata) = watched.symlink_metadata() {
                assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
                seen += 1;
            }
        }
        seen
    });
    for _ in 0..500 {
        drop(bind(&unix(&path)).unwrap());
    }
    let last = bind(&unix(&path)).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    drop((last, done));
    assert!(watching.join().unwrap() > 0);
}

#[test]
fn who_is_alive_keeps_its_address() {
    let _watchdog = watchdog("who_is_alive_keeps_its_address");
    let scratch = tempfile::tempdir().unwrap();
    let abstract_name = |name: String| Address::abstract_name(name).unwrap();
    let pid = std::process::id();
    let tcp = bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    is_in_use(bind(tcp.local_address()));
    for address in [
        unix(scratch.path().join("socket")),
        abstract_name(format!("ipc-socket-bind-{pid}")),
        abstract_name(format!("ipc-socket\0bind-{pid}")),
    ] {
        let first = bind(&address).unwrap();
        is_in_use(bind(&address));
        assert!(first.accept_nonblocking().unwrap().is_none(), "it notices nothing");
        assert_eq!(owner(&address), Some(pid), "and is not harmed");
        drop(first);
        drop(bind(&address).unwrap());
    }
    // Programs that know nothing of the lock.
    let path = scratch.path().join("theirs");
    let theirs = UnixListener::bind(&path).unwrap();
    is_in_use(bind(&unix(&path)));
    drop(theirs);
    std::fs::remove_file(&path).unwrap();
    let theirs = UnixDatagram::bind(&path).unwrap();
    is_in_use(bind(&unix(&path)));
    let others = UnixDatagram::bind(scratch.path().join("others")).unwrap();
    theirs.connect(scratch.path().join("others")).unwrap();
    is_in_use(bind(&unix(&path)));
    drop((theirs, others));
    drop(bind(&unix(&path)).unwrap());
    // One that nobody fits into any more.
    let full = scratch.path().join("full");
    let listener = socket::listen(UnixListener::bind(&full).unwrap().into(), 0).unwrap();
    let _first = dial::connect(&unix(&full), &DialOptions::default()).unwrap();
    is_in_use(bind(&unix(&full)));
    // A connection that outlives its listener does not keep the path.
    let taken = socket::accept(listener.as_fd()).unwrap();
    drop(listener);
    bind(&unix(&full)).unwrap();
    drop(taken);
}

#[test]
fn what_a_dead_one_left_is_taken_over_and_what_is_no_socket_is_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let bound = bind(&unix(&path)).unwrap();
    assert_eq!(owner(bound.local_address()), Some(std::process::id()));
    let file = scratch.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    let directory = scratch.path().join("directory");
    std::fs::create_dir(&directory).unwrap();
    let (to_file, to_nothing) = (scratch.path().join("to-file"), scratch.path().join("to-nothing"));
    symlink(&file, &to_file).unwrap();
    symlink("nothing", &to_nothing).unwrap();
    let to_stale = scratch.path().join("to-stale");
    drop(UnixListener::bind(scratch.path().join("stale")).unwrap());
    symlink("stale", &to_stale).unwrap();
    for path in [&file, &directory, &to_file, &to_nothing, &to_stale] {
        let before = path.symlink_metadata().unwrap();
        let error = bind(&unix(path)).unwrap_err();
        assert!(matches!(&error, BindError::NotASocket { path: at } if at == path), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(path.symlink_metadata().unwrap().ino(), before.ino());
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"kept");
    let below = bind(&unix(file.join("socket"))).unwrap_err();
    assert!(matches!(below, BindError::Directory { .. }), "{below:?}");
}

#[test]
fn a_path_goes_with_its_listener_and_only_with_it() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("socket");
    let address = unix(&path);
    let ino = || path.symlink_metadata().ok().map(|metadata| metadata.ino());
    // Somebody else's by now.
    let first = bind(&address).unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = bind(&address).unwrap();
    let of_second = ino();
    drop(first);
    assert!(ino() == of_second && owner(&address).is_some());
    drop(second);
    assert_eq!(ino(), None);
    // A copy in a forked child: the number of the process that made it is not its own.
    let mut copy = bind(&address).unwrap();
    copy._place.as_mut().unwrap().process ^= 1;
    drop(copy);
    assert!(ino().is_some());
    let again = bind(&address).unwrap();
    // The directory has another name by then.
    let moved = scratch.path().join("moved");
    std::fs::create_dir(&moved).unwrap();
    let inside = bind(&unix(moved.join("socket"))).unwrap();
    std::fs::rename(&moved, scratch.path().join("elsewhere")).unwrap();
    drop((again, inside));
    assert!(ino().is_none() && !scratch.path().join("elsewhere/socket").exists());
}

#[test]
fn a_lock_that_is_not_given_back_is_an_error_and_a_lock_of_the_dead_is_none() {
    let _watchdog = watchdog("a_lock_that_is_not_given_back_is_an_error_and_a_lock_of_the_dead_is_none");
    let scratch = tempfile::tempdir().unwrap();
    let address = unix(scratch.path().join("socket"));
    let directory = std::fs::File::open(scratch.path()).unwrap();
    directory.lock().unwrap();
    let error = bind(&address).unwrap_err();
    assert!(matches!(&error, BindError::Busy { path } if path == scratch.path()), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Busy);
    drop(directory);
    let (telling, told) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut holder = std::process::Command::new("flock")
        .args(["--no-fork", "--exclusive"])
        .arg(scratch.path())
        .args(["sh", "-c", "echo; exec sleep 50"])
        .stdout(OwnedFd::from(telling))
        .spawn()
        .unwrap();
    std::io::Read::read_exact(&mut &told, &mut [0]).unwrap();
    let binding = std::thread::spawn(move || bind(&address).map(drop));
    holder.kill().unwrap();
    holder.wait().unwrap();
    binding.join().unwrap().unwrap();
}

/// Listens, and stays until it is killed.
fn listen_for_ever(address: Address) {
    let _bound = bind(&address).unwrap();
    std::thread::sleep(Duration::MAX);
}

#[test]
fn a_killed_listener_is_taken_over() {
    let _watchdog = watchdog("a_killed_listener_is_taken_over");
    let scratch = tempfile::tempdir().unwrap();
    let address = unix(scratch.path().join("socket"));
    let process = Process::spawn(listen_for_ever, (address.clone(),)).unwrap();
    eventually("it listens", || owner(&address) == Some(process.id()));
    is_in_use(bind(&address));
    process.sentinel().signal(9).unwrap();
    assert!(matches!(process.join(), Err(JoinError::Killed { signal: 9, .. })));
    assert!(address.path().unwrap().symlink_metadata().unwrap().file_type().is_socket(), "it is left behind");
    let bound = bind(&address).unwrap();
    assert_eq!(owner(&address), Some(std::process::id()));
    drop(bound);
    assert!(!address.path().unwrap().exists());
}

/// Has the path `times` times, and looks each time that it has it alone: at the beginning and at the end all who ask at
/// the path come to this process. Two who believed that they had it would see one another.
fn have_it_often(address: Address, times: u32) {
    let me = Some(std::process::id());
    let mut had = 0;
    while had < times {
        match bind(&address) {
            Ok(bound) => {
                assert_eq!(owner(&address), me, "what was bound is what is found");
                std::thread::sleep(Duration::from_micros(u64::from(std::process::id() + had) % 7 * 200));
                assert_eq!(owner(&address), me, "nobody has taken it from one who is alive");
                drop(bound);
                had += 1;
            }
            Err(BindError::AddressInUse { .. }) => std::thread::sleep(Duration::from_micros(300)),
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[test]
fn of_many_who_want_a_path_and_are_killed_one_has_it() {
    let _watchdog = watchdog("of_many_who_want_a_path_and_are_killed_one_has_it");
    let scratch = tempfile::tempdir().unwrap();
    let address = unix(scratch.path().join("socket"));
    let start = || Process::spawn(have_it_often, (address.clone(), 40)).unwrap();
    let mut all: Vec<_> = (0..4).map(|_| start()).collect();
    let (mut killed, mut left_behind) = (0, 0);
    for round in 0..60u64 {
        std::thread::sleep(Duration::from_millis(1 + round * 7 % 11));
        // In turn one who has it, or has had it a moment ago, and one who may be at any step.
        let has_it = || owner(&address).and_then(|pid| all.iter().position(|process| process.id() == pid));
        let victim = all.remove(if round % 2 == 0 { has_it().unwrap_or(0) } else { 0 });
        victim.sentinel().signal(9).unwrap();
        match victim.join() {
            Err(JoinError::Killed { signal: 9, .. }) => killed += 1,
            // Quicker than the signal, or slower than the one that sends it.
            Ok(()) | Err(JoinError::NeverStarted(_)) => {}
            Err(error) => panic!("{error}"),
        }
        left_behind += u32::from(address.path().unwrap().exists());
        all.push(start());
    }
    for process in all {
        process.join().unwrap();
    }
    println!("{killed} killed; after {left_behind} of them the path was there");
    assert!(killed > 10 && left_behind > 0);
    drop(bind(&address).unwrap());
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn tcp_says_where_it_listens_and_can_be_bound_again_at_once() {
    let _watchdog = watchdog("tcp_says_where_it_listens_and_can_be_bound_again_at_once");
    for text in ["tcp:127.0.0.1:0", "tcp:localhost:0", "tcp:[::1]:0", "tcp:0.0.0.0:0", "tcp:[::]:0"] {
        let address: Address = text.parse().unwrap();
        let bound = match bind(&address) {
            Err(BindError::NotOfThisMachine { .. } | BindError::Io { .. }) if text.contains("::") => {
                eprintln!("{text} left out: there is no IPv6 here");
                continue;
            }
            bound => bound.unwrap(),
        };
        let local = bound.local_address().clone();
        let AddressParts::Tcp { port, .. } = local.parts() else { panic!("{local}") };
        assert_ne!(port, 0);
        assert_eq!(local.is_loopback(), address.is_loopback(), "{local}");
        let client = dial::connect(&local, &DialOptions::default()).unwrap();
        assert!(ipc_os::poll_readable(bound.as_fd(), Some(LONG)).unwrap());
        let (taken, from) = bound.accept_nonblocking().unwrap().unwrap();
        let client_address = std::net::TcpStream::from(client.try_clone().unwrap()).local_addr().unwrap();
        let AddressParts::Tcp { port: from, .. } = from.as_ref().unwrap().parts() else { panic!("{from:?}") };
        assert_eq!(from, client_address.port());
        // The side that closes first keeps the port for a while.
        drop((taken, bound));
        drop(client);
        bind(&local).unwrap();
    }
}

#[test]
fn tcp_that_cannot_be_says_why() {
    let foreign = bind(&"tcp:192.0.2.1:0".parse().unwrap()).unwrap_err();
    assert!(matches!(foreign, BindError::NotOfThisMachine { .. }), "{foreign:?}");
    let unknown = bind(&"tcp:no-such-host.invalid:0".parse().unwrap()).unwrap_err();
    assert!(matches!(unknown, BindError::Unresolved { .. }), "{unknown:?}");
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    let options = BindOptions { loopback_only: true, ..BindOptions::default() };
    for text in ["tcp:0.0.0.0:0", "tcp:[::]:0"] {
        let open = Bound::bind(&text.parse().unwrap(), &options).unwrap_err();
        assert!(matches!(open, BindError::NotLoopback { .. }) && open.to_string().contains("127.0.0.1"));
    }
    Bound::bind(&"tcp:127.0.0.1:0".parse().unwrap(), &options).unwrap();
    let denied = BindError::of(&"unix:/x".parse().unwrap(), io::ErrorKind::PermissionDenied.into());
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
}

#[test]
fn accepting_does_not_wait_and_skips_what_has_ended() {
    let scratch = tempfile::tempdir().unwrap();
    let address = unix(scratch.path().join("socket"));
    let bound = bind(&address).unwrap();
    assert!(bound.accept_nonblocking().unwrap().is_none());
    for _ in 0..3 {
        drop(dial::connect(&address, &DialOptions::default()).unwrap());
    }
    for _ in 0..3 {
        assert!(bound.accept_nonblocking().unwrap().is_some());
    }
    assert!(bound.accept_nonblocking().unwrap().is_none());
    const ECONNABORTED: i32 = 103;
    const EBADF: i32 = 9;
    for (number, is) in [(ECONNABORTED, true), (EPROTO, true), (EBADF, false), (EMFILE, false)] {
        assert_eq!(TakeError::is_of_the_connection(&io::Error::from_raw_os_error(number)), is);
    }
}

const EPROTO: i32 = 71;
const EMFILE: i32 = 24;

#[test]
fn without_descriptors_a_connection_waits_and_the_error_says_so() {
    const TEST: &str = "bind::tests::without_descriptors_a_connection_waits_and_the_error_says_so";
    const INSIDE: &str = "IPC_SOCKET_TEST_DESCRIPTORS";
    if std::env::var_os(INSIDE).is_none() {
        let output = std::process::Command::new("sh")
            .args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args([TEST, "--exact", "--nocapture"])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let address = unix(scratch.path().join("socket"));
    let bound = bind(&address).unwrap();
    let _connection = dial::connect(&address, &DialOptions::default()).unwrap();
    let mut filling = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        filling.push(file);
    }
    for _ in 0..2 {
        let error = bound.accept_nonblocking().unwrap_err();
        assert!(matches!(&error, TakeError::Exhausted(cause) if cause.raw_os_error() == Some(EMFILE)));
        assert!(error.kind() == ErrorKind::Limit && error.to_string().contains("ulimit -n"));
    }
    assert!(bind(&unix(scratch.path().join("other"))).is_err());
    drop(filling);
    assert!(bound.accept_nonblocking().unwrap().is_some(), "it has waited");
}

#[test]
fn nothing_stays_open() {
    ipc_testkit::alone("bind::tests::nothing_stays_open", || {
        let scratch = tempfile::tempdir().unwrap();
        let before = ipc_testkit::open_descriptors();
        for text in ["socket", "a/socket"] {
            let address = unix(scratch.path().join(text));
            let bound = bind(&address).unwrap();
            is_in_use(bind(&address));
            let _connection = dial::connect(&address, &DialOptions::default()).unwrap();
            assert!(bound.accept_nonblocking().unwrap().is_some());
        }
        assert_eq!(ipc_testkit::open_descriptors(), before);
    });
}

/// A process that is stopped is alive.
#[test]
fn a_stopped_listener_is_alive() {
    const SIGSTOP: i32 = 19;
    let _watchdog = watchdog("a_stopped_listener_is_alive");
    let scratch = tempfile::tempdir().unwrap();
    let address = unix(scratch.path().join("socket"));
    let process = Process::spawn(listen_for_ever, (address.clone(),)).unwrap();
    eventually("it listens", || owner(&address).is_some());
    process.sentinel().signal(SIGSTOP).unwrap();
    eventually("it is stopped", || ipc_testkit::process_state(process.id()) == Some('T'));
    is_in_use(bind(&address));
    PidFd::open(process.id()).unwrap().signal(9).unwrap();
    let _killed = process.join().unwrap_err();
    let start = Instant::now();
    drop(bind(&address).unwrap());
    assert!(start.elapsed() < LONG);
}
