//! Connecting to what is there, not there, not yet there, and busy.

use super::*;
use crate::bind::{BindOptions, Bound};
use ipc_core::{Classify, ErrorKind};
use ipc_testkit::watchdog;
use std::error::Error;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

const LONG: Duration = Duration::from_secs(50);

/// Whether reading and writing it waits.
fn waits(fd: impl AsFd) -> bool {
    const O_NONBLOCK: u32 = 0o4000;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).unwrap();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    u32::from_str_radix(flags.trim(), 8).unwrap() & O_NONBLOCK == 0
}

fn within(time: Duration) -> DialOptions {
    DialOptions { deadline: Some(Instant::now() + time), ..DialOptions::default() }
}

fn retrying(time: Duration) -> DialOptions {
    DialOptions { retry: true, ..within(time) }
}

fn in_directory(directory: &Path) -> Address {
    Address::unix(directory.join("socket")).unwrap()
}

fn loopback() -> Bound {
    Bound::bind(&Address::tcp("127.0.0.1", 0).unwrap(), &BindOptions::default()).unwrap()
}

#[track_caller]
fn says(error: &ConnectError, kind: ErrorKind, what: &str) {
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.to_string().contains(what), "{error}");
    assert!(error.source().is_some(), "{error:?} has a cause");
}

#[test]
fn nobody_there_is_told_at_once_and_how() {
    let _watchdog = watchdog("nobody_there_is_told_at_once_and_how");
    let scratch = tempfile::tempdir().unwrap();
    let address = in_directory(scratch.path());
    for options in [DialOptions::default(), within(LONG), within(Duration::ZERO)] {
        let error = connect(&address, &options).unwrap_err();
        assert!(matches!(error, ConnectError::NotFound { .. }), "{error:?}");
        says(&error, ErrorKind::NotFound, "start the listener first");
    }
    drop(UnixListener::bind(address.path().unwrap()).unwrap());
    let closed = loopback().local_address().clone();
    let nobody = Address::abstract_name(format!("ipc-socket-nobody-{}", std::process::id())).unwrap();
    for address in [address, closed, nobody] {
        for options in [DialOptions::default(), within(LONG)] {
            let error = connect(&address, &options).unwrap_err();
            assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
            says(&error, ErrorKind::NotConnected, "nobody listens");
        }
    }
    let unresolved = connect(&"tcp:no-such-host.invalid:1".parse().unwrap(), &within(LONG)).unwrap_err();
    assert!(matches!(unresolved, ConnectError::Unresolved { .. }));
    says(&unresolved, ErrorKind::NotFound, "looked up");
    let denied = ConnectError::of(&"unix:/x".parse().unwrap(), io::ErrorKind::PermissionDenied.into());
    says(&denied, ErrorKind::PermissionDenied, "user");
    for options in [within(LONG), retrying(LONG)] {
        let no_port = connect(&"tcp:127.0.0.1:0".parse().unwrap(), &options).unwrap_err();
        assert!(matches!(no_port, ConnectError::NoPort { .. }) && no_port.kind() == ErrorKind::InvalidInput);
    }
}

#[test]
fn what_is_connected_waits_and_talks() {
    let _watchdog = watchdog("what_is_connected_waits_and_talks");
    let scratch = tempfile::tempdir().unwrap();
    let name = format!("ipc-socket\0talks-{}", std::process::id());
    let shm = Address::shm(scratch.path().join("shm")).unwrap();
    for address in [
        in_directory(scratch.path()),
        Address::abstract_name(name).unwrap(),
        shm,
        "tcp:localhost:0".parse().unwrap(),
    ] {
        let bound = Bound::bind(&address, &BindOptions::default()).unwrap();
        for options in [DialOptions::default(), within(LONG), retrying(LONG)] {
            let here = connect(bound.local_address(), &options).unwrap();
            assert!(ipc_os::poll_readable(bound.as_fd(), Some(LONG)).unwrap());
            let (there, from) = bound.accept_nonblocking().unwrap().unwrap();
            assert_eq!(from.is_none(), address.is_local());
            assert!(waits(&here) && waits(&there) && !waits(&bound));
            if !address.is_local() {
                for end in [&here, &there] {
                    let end = TcpStream::from(end.try_clone().unwrap());
                    assert!(end.nodelay().unwrap(), "prepared");
                }
            }
            socket::send(here.as_fd(), b"hello", socket::Mode::Wait).unwrap();
            let mut buf = [0; 8];
            let mut none = std::collections::VecDeque::new();
            let count = socket::receive(there.as_fd(), &mut buf, &mut none, socket::Mode::Wait).unwrap();
            assert_eq!(&buf[..count], b"hello");
        }
    }
}

#[test]
fn retrying_waits_for_the_listener() {
    let _watchdog = watchdog("retrying_waits_for_the_listener");
    let scratch = tempfile::tempdir().unwrap();
    let closed = loopback().local_address().clone();
    for address in [in_directory(scratch.path()), in_directory(&scratch.path().join("none/yet")), closed] {
        let connecting = {
            let address = address.clone();
            std::thread::spawn(move || connect(&address, &retrying(LONG)).map(drop))
        };
        std::thread::sleep(Duration::from_millis(30));
        assert!(!connecting.is_finished());
        let bound = Bound::bind(&address, &BindOptions::default()).unwrap();
        connecting.join().unwrap().unwrap();
        drop(bound);
    }
}

#[test]
fn the_deadline_ends_retrying_with_the_cause() {
    let _watchdog = watchdog("the_deadline_ends_retrying_with_the_cause");
    let scratch = tempfile::tempdir().unwrap();
    let address = in_directory(scratch.path());
    let closed = loopback().local_address().clone();
    let cause_of = |address: &Address| {
        let start = Instant::now();
        let error = connect(address, &retrying(Duration::from_millis(60))).unwrap_err();
        assert!(start.elapsed() >= Duration::from_millis(60));
        says(&error, ErrorKind::Timeout, "in time");
        let ConnectError::Timeout { source, .. } = error else { panic!("{error:?}") };
        source.kind()
    };
    assert_eq!(cause_of(&address), io::ErrorKind::NotFound);
    assert_eq!(cause_of(&closed), io::ErrorKind::ConnectionRefused);
    // No time at all is one attempt.
    let bound = Bound::bind(&address, &BindOptions::default()).unwrap();
    connect(bound.local_address(), &retrying(Duration::ZERO)).unwrap();
}

#[test]
fn a_listener_that_does_not_accept_is_waited_for_until_the_deadline() {
    let _watchdog = watchdog("a_listener_that_does_not_accept_is_waited_for_until_the_deadline");
    let scratch = tempfile::tempdir().unwrap();
    let address = in_directory(scratch.path());
    let local = UnixListener::bind(address.path().unwrap()).unwrap();
    let remote = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let remote_address = Address::from(remote.local_addr().unwrap());
    // None is to wait; the kernel takes one all the same.
    let _local = socket::listen(local.into(), 0).unwrap();
    let _remote = socket::listen(remote.into(), 0).unwrap();
    for address in [address, remote_address] {
        let _first = connect(&address, &within(LONG)).unwrap();
        for options in [within, retrying] {
            let start = Instant::now();
            let error = connect(&address, &options(Duration::from_millis(60))).unwrap_err();
            assert!(start.elapsed() >= Duration::from_millis(60));
            says(&error, ErrorKind::Timeout, "accept");
        }
    }
}

#[test]
fn a_place_in_a_full_backlog_is_had_when_there_is_one() {
    let _watchdog = watchdog("a_place_in_a_full_backlog_is_had_when_there_is_one");
    let scratch = tempfile::tempdir().unwrap();
    let address = in_directory(scratch.path());
    let listener = socket::listen(UnixListener::bind(address.path().unwrap()).unwrap().into(), 0).unwrap();
    let _first = connect(&address, &DialOptions::default()).unwrap();
    let connecting = std::thread::spawn(move || connect(&address, &within(LONG)).map(drop));
    std::thread::sleep(Duration::from_millis(30));
    assert!(!connecting.is_finished());
    drop(socket::accept(listener.as_fd()).unwrap());
    connecting.join().unwrap().unwrap();
}

#[test]
fn other_machines_are_refused_where_they_are_not_wanted() {
    let _watchdog = watchdog("other_machines_are_refused_where_they_are_not_wanted");
    let options = DialOptions { loopback_only: true, ..retrying(LONG) };
    let error = connect(&"tcp:192.0.2.1:9".parse().unwrap(), &options).unwrap_err();
    assert!(matches!(error, ConnectError::NotLoopback { .. }) && error.kind() == ErrorKind::InvalidInput);
    let bound = loopback();
    connect(bound.local_address(), &options).unwrap();
}

/// In a network of its own, where the system has one port to choose from for those that connect.
#[test]
fn nobody_is_connected_to_itself() {
    const TEST: &str = "dial::tests::nobody_is_connected_to_itself";
    const INSIDE: &str = "IPC_SOCKET_TEST_ITSELF";
    match std::env::var(INSIDE).as_deref() {
        Ok("plainly") => {
            let itself = TcpStream::connect("127.0.0.1:40000").unwrap();
            return assert_eq!(
                itself.local_addr().unwrap(),
                itself.peer_addr().unwrap(),
                "this is how it comes"
            );
        }
        Ok(_) => {
            let error = connect(&"tcp:127.0.0.1:40000".parse().unwrap(), &within(LONG)).unwrap_err();
            return says(&error, ErrorKind::NotConnected, "nobody listens");
        }
        Err(_) => {}
    }
    let script =
        "ip link set lo up && echo 40000 40000 > /proc/sys/net/ipv4/ip_local_port_range && exec \"$@\"";
    let me = std::env::current_exe().unwrap();
    let inside = |how: &str, program: &Path, arguments: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "sh", "-c", script, "sh"]);
        command.arg(program).args(arguments).env(INSIDE, how).output()
    };
    if !inside("", Path::new("true"), &[]).is_ok_and(|output| output.status.success()) {
        eprintln!("left out: a network with nothing but a loopback interface cannot be made here");
        return;
    }
    for how in ["plainly", "here"] {
        let output = inside(how, &me, &[TEST, "--exact", "--nocapture"]).unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{how}: {text}");
    }
}
