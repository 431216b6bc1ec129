//! Listeners and their addresses, as a program sees them.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ipc_core::{Classify, ErrorKind};
use ipc_process::{JoinError, Process};
use ipc_socket::{Address, BindError, Client, ConnectError, Listener, Options};
use ipc_testkit::{eventually, watchdog};

#[test]
fn whatever_is_an_address_is_listened_at() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("new/socket");
    let address = Address::unix(&path).unwrap();
    // One after the other: each is dropped at the end of its line.
    assert_eq!(Listener::bind(&address).unwrap().local_address(), &address);
    assert_eq!(Listener::bind(address.clone()).unwrap().local_address(), &address);
    assert_eq!(Listener::bind(address.to_string()).unwrap().local_address(), &address);
    assert_eq!(Listener::bind(&*address.to_string()).unwrap().local_address(), &address);
    let none = Listener::bind("/tmp/x").unwrap_err();
    assert!(matches!(none, BindError::Address(_)) && none.kind() == ErrorKind::InvalidInput);
    let none = Client::connect("/tmp/x").unwrap_err();
    assert!(matches!(none, ConnectError::Address(_)) && none.kind() == ErrorKind::InvalidInput);
    let tcp = Listener::bind("tcp:127.0.0.1:0").unwrap();
    assert_ne!(tcp.local_address().to_string(), "tcp:127.0.0.1:0");
}

#[test]
fn a_path_is_private_and_goes_with_its_listener() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("new/socket");
    let address = Address::unix(&path).unwrap();
    let mode = || path.symlink_metadata().unwrap().permissions().mode() & 0o777;
    let listener = Listener::bind(&address).unwrap();
    assert_eq!(
        (mode(), path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777),
        (0o600, 0o700)
    );
    let second = Listener::bind(&address).unwrap_err();
    assert!(matches!(&second, BindError::AddressInUse { address: at } if *at == address), "{second:?}");
    drop(listener);
    assert!(!path.exists());
    let _shared = Options::new().mode(0o666).bind(&address).unwrap();
    assert_eq!(mode(), 0o666);
}

fn listen_for_ever(address: Address) {
    let _listener = Listener::bind(&address).unwrap();
    std::thread::sleep(Duration::MAX);
}

#[test]
fn what_a_killed_listener_left_is_taken_over() {
    let _watchdog = watchdog("what_a_killed_listener_left_is_taken_over");
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("socket");
    let address = Address::unix(&path).unwrap();
    let process = Process::spawn(listen_for_ever, (address.clone(),)).unwrap();
    eventually("it listens", || UnixStream::connect(&path).is_ok());
    let alive = Listener::bind(&address).unwrap_err();
    assert!(matches!(alive, BindError::AddressInUse { .. }), "{alive:?}");
    process.sentinel().signal(9).unwrap();
    assert!(matches!(process.join(), Err(JoinError::Killed { signal: 9, .. })));
    assert!(path.symlink_metadata().is_ok(), "it is left behind");
    let refused = Client::connect(&address).unwrap_err();
    assert!(matches!(refused, ConnectError::Refused { .. }), "{refused:?}");
    drop(Listener::bind(&address).unwrap());
    assert!(path.symlink_metadata().is_err());
}
