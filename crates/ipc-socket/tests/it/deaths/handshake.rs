//! Deaths at each system call of a handshake, on either side: the other end has an error that says so, or a connection that
//! ends, and the listener, or the next one, lets the next client in.

use std::path::Path;

use ipc_core::{Classify, ErrorKind};
use ipc_pipe::{Sender, pipe};
use ipc_process::Process;
use ipc_socket::{AcceptError, Address, ConnectError, Connection, HandshakeError, Options, RecvError};
use ipc_testkit::processes::alone;
use ipc_testkit::{LONG, watchdog};

use super::traced::{Killed, kill_at, traced};
use crate::carriers::{CARRIERS, Over, options};

/// So many stops a handshake has at least: a few system calls, each of which has two.
const STOPS_MIN: usize = 10;

fn speaking(python: bool) -> Options {
    if python { options().python() } else { options() }
}

/// Carriers, each with the protocols that it knows.
fn ways() -> impl Iterator<Item = (Over, bool)> {
    let ways = CARRIERS.into_iter().flat_map(|over| [(over, false), (over, true)]);
    ways.filter(|(over, python)| over.speaks_python() || !python)
}

/// What is left of somebody who has died: nothing, or a connection that ends.
fn is_over(mut connection: Connection) {
    let error = connection.recv::<String>().unwrap_err();
    assert!(matches!(error, RecvError::Disconnected), "{error:?}");
}

fn connect_and_die(address: String, python: bool) {
    let options = speaking(python);
    let _connection = traced(|| options.connect(address.as_str()));
}

/// In a process of its own: those that other tests start would have copies of its sockets for a moment.
#[test]
fn a_client_that_is_killed_at_any_system_call_of_its_handshake() {
    let _watchdog = watchdog("a_client_that_is_killed_at_any_system_call_of_its_handshake");
    alone(kill_clients);
}

fn kill_clients() {
    for (over, python) in ways() {
        let directory = tempfile::tempdir().unwrap();
        let mut listener = speaking(python).bind(over.address(directory.path())).unwrap();
        let address = listener.local_address().clone();
        let (mut stops, mut is_in, mut is_out) = (0, 0, 0);
        loop {
            let killed = std::thread::scope(|scope| {
                let accepts = scope.spawn(|| {
                    loop {
                        match listener.accept_timeout(LONG) {
                            Err(AcceptError::Handshake { source: HandshakeError::Disconnected, .. }) => {
                                is_out += 1;
                            }
                            Err(error) => panic!("{over:?}: {error:?}"),
                            Ok(mut connection) => match connection.recv::<String>() {
                                Ok(said) => break assert_eq!(said, "an honest one"),
                                Err(RecvError::Disconnected) => is_in += 1,
                                Err(error) => panic!("{over:?}: {error:?}"),
                            },
                        }
                    }
                });
                let client = Process::spawn(connect_and_die, (address.to_string(), python)).unwrap();
                let killed = kill_at(client, stops);
                let mut honest = speaking(python).connect(&address).unwrap();
                honest.send(&"an honest one".to_owned()).unwrap();
                accepts.join().unwrap();
                killed
            });
            if killed == Killed::AtTheEnd {
                break;
            }
            stops += 1;
        }
        assert!(stops >= STOPS_MIN && is_in > 0 && is_out > 0, "{over:?}: {stops}, {is_in}, {is_out}");
    }
}

fn accept_and_die(address: String, python: bool, mut up: Sender<String>) {
    let mut listener = speaking(python).bind(address.as_str()).unwrap();
    up.send(&listener.local_address().to_string()).unwrap();
    let _connection = traced(|| listener.accept());
}

/// Has a listener killed at that stop while a client connects, and says whether that had a connection.
fn kill_listener(over: Over, python: bool, directory: &Path, stop: usize) -> (Killed, bool) {
    let (up, mut listens) = pipe::<String>().unwrap();
    let listener = Process::spawn(accept_and_die, (over.address(directory), python, up)).unwrap();
    let address: Address = listens.recv_timeout(LONG).unwrap().parse().unwrap();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| match speaking(python).connect(&address) {
            Ok(connection) => {
                is_over(connection);
                true
            }
            // It may come when the listener has gone already, or be about to connect.
            Err(ConnectError::Refused { .. }) => false,
            Err(error) if error.kind() == ErrorKind::Disconnected => false,
            Err(error) => panic!("{over:?}: {error:?}"),
        });
        (kill_at(listener, stop), client.join().unwrap())
    })
}

/// In a process of its own, for the same reason.
#[test]
fn a_listener_that_is_killed_at_any_system_call_of_a_handshake() {
    let _watchdog = watchdog("a_listener_that_is_killed_at_any_system_call_of_a_handshake");
    alone(kill_listeners);
}

fn kill_listeners() {
    for (over, python) in ways() {
        let directory = tempfile::tempdir().unwrap();
        let (mut stops, mut is_in) = (0, 0);
        loop {
            let (killed, had_one) = kill_listener(over, python, directory.path(), stops);
            is_in += usize::from(had_one);
            // The next one takes over what it has left, and lets the next client in.
            let mut next = speaking(python).bind(over.address(directory.path())).unwrap();
            let address = next.local_address().clone();
            let client = std::thread::spawn(move || speaking(python).connect(&address).unwrap());
            let mut connection = next.accept_timeout(LONG).unwrap();
            client.join().unwrap().send(&1_u8).unwrap();
            assert_eq!(connection.recv::<u8>().unwrap(), 1);
            if killed == Killed::AtTheEnd {
                break;
            }
            stops += 1;
        }
        assert!(stops >= STOPS_MIN && is_in > 0 && is_in < stops, "{over:?}: {stops}, {is_in}");
    }
}
