//! Credentials of real processes.

use super::*;
use crate::address::Address;
use crate::bind::{BindOptions, Bound};
use crate::dial::{self, DialOptions};
use ipc_process::{PidFd, Process};
use ipc_testkit::watchdog;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(50);

fn bound(test: &str) -> Bound {
    let name = format!("ipc-socket-credentials-{test}-{}", std::process::id());
    Bound::bind(&Address::abstract_name(name).unwrap(), &BindOptions::default()).unwrap()
}

fn accept(bound: &Bound) -> OwnedFd {
    assert!(ipc_os::poll_readable(bound.as_fd(), Some(LONG)).unwrap());
    bound.accept_nonblocking().unwrap().unwrap().0
}

fn connect(address: &Address) -> OwnedFd {
    dial::connect(address, &DialOptions::default()).unwrap()
}

/// Connects, and stays until the other end closes.
fn visit(address: Address) {
    let stream = UnixStream::from(connect(&address));
    let _ended = std::io::Read::read(&mut &stream, &mut [0]);
}

#[test]
fn both_sides_know_each_other() {
    let _watchdog = watchdog("both_sides_know_each_other");
    let bound = bound("both");
    let connection = connect(bound.local_address());
    let me = std::fs::metadata("/proc/self").unwrap();
    for side in [&accept(&bound), &connection] {
        let peer = Credentials::of(side.as_fd()).unwrap();
        assert_eq!((peer.uid(), peer.gid(), peer.pid()), (me.uid(), me.gid(), Some(std::process::id())));
    }
}

#[test]
fn a_visitor_is_known_by_its_process_which_is_seen_to_end() {
    let _watchdog = watchdog("a_visitor_is_known_by_its_process_which_is_seen_to_end");
    let bound = bound("visitor");
    let process = Process::spawn(visit, (bound.local_address().clone(),)).unwrap();
    let connection = accept(&bound);
    let peer = Credentials::of(connection.as_fd()).unwrap();
    assert_eq!(peer.pid(), Some(process.id()));
    let Some(pidfd) = peer.pidfd() else {
        eprintln!("this kernel has no SO_PEERPIDFD");
        return;
    };
    assert!(!ipc_os::poll_readable(pidfd, Some(Duration::ZERO)).unwrap());
    // The same process as that which was started: to end the one is to end the other.
    PidFd::from_descriptor(pidfd.try_clone_to_owned().unwrap()).signal(9).unwrap();
    assert!(process.join().is_err());
    assert!(ipc_os::poll_readable(peer.clone().pidfd().unwrap(), Some(LONG)).unwrap());
    let late = Credentials::of(connection.as_fd()).unwrap();
    assert_eq!(late.pid(), peer.pid(), "it stays known when it is gone");
}

#[test]
fn what_is_no_unix_socket_has_no_credentials() {
    let any = Address::tcp("127.0.0.1", 0).unwrap();
    let bound = Bound::bind(&any, &BindOptions::default()).unwrap();
    let connection = connect(bound.local_address());
    let error = Credentials::of(connection.as_fd()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
}
