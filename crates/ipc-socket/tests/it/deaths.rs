//! Processes that are killed with SIGKILL, over every carrier: in the middle of a conversation, and, in
//! [`handshake`], at each system call of a handshake.

mod handshake;
mod traced;

use std::time::Duration;

use ipc_socket::{Connection, RecvError, SendError};
use ipc_testkit::data::{pattern, payload};
use ipc_testkit::processes::{assert_killed, die, kill, park};
use ipc_testkit::watchdog;

use crate::carriers::{CARRIERS, connect, with_process};

/// Longer than what any carrier has room for.
const LONGER_THAN_ROOM: usize = 32 << 20;

/// Sends fail now, and from now on. TCP hears of it at the second try.
fn nobody_is_there(connection: &mut Connection) {
    ipc_testkit::eventually("sending fails", || match connection.send(&1_u8) {
        Ok(()) => false,
        Err(SendError::Disconnected) => true,
        Err(error) => panic!("{error:?}"),
    });
    assert!(matches!(connection.send_bytes(&[1; 100_000]), Err(SendError::Disconnected)));
}

/// With something unread, which makes the end of a socket's stream a reset, or without.
fn send_and_die(address: String, unread: bool) {
    let mut connection = connect(&address);
    if unread {
        assert!(connection.poll(ipc_testkit::LONG).unwrap());
    }
    connection.send(&1_u32).unwrap();
    connection.send_bytes(&pattern(100_000)).unwrap();
    connection.send(&2_u32).unwrap();
    die()
}

#[test]
fn killed_between_messages_what_was_sent_is_received_and_then_it_is_gone() {
    let _watchdog = watchdog("killed_between_messages_what_was_sent_is_received_and_then_it_is_gone");
    for (over, unread) in CARRIERS.into_iter().flat_map(|over| [(over, false), (over, true)]) {
        let (mut connection, child) = with_process(over, send_and_die, unread);
        if unread {
            connection.send(&"never read".to_owned()).unwrap();
        }
        assert_killed(child);
        assert_eq!(connection.recv::<u32>().unwrap(), 1, "{over:?}, {unread}");
        assert!(connection.recv_bytes().unwrap() == pattern(100_000));
        assert_eq!(connection.recv::<u32>().unwrap(), 2);
        for _ in 0..2 {
            assert!(matches!(connection.recv::<u32>(), Err(RecvError::Disconnected)));
        }
        nobody_is_there(&mut connection);
    }
}

fn begin_and_die(address: String, (): ()) {
    let mut connection = connect(&address);
    connection.send(&"whole".to_owned()).unwrap();
    let error = connection.try_send_bytes(&pattern(LONGER_THAN_ROOM)).unwrap_err();
    assert!(matches!(error, SendError::Begun { .. }), "{error:?}");
    die()
}

#[test]
fn killed_in_the_middle_of_a_message_it_is_truncated() {
    let _watchdog = watchdog("killed_in_the_middle_of_a_message_it_is_truncated");
    for over in CARRIERS {
        for into in [false, true] {
            let (mut connection, child) = with_process(over, begin_and_die, ());
            assert_killed(child);
            assert_eq!(connection.recv::<String>().unwrap(), "whole");
            let error = match into {
                false => connection.recv_bytes().unwrap_err(),
                true => connection.recv_bytes_into(&mut vec![0; LONGER_THAN_ROOM]).unwrap_err(),
            };
            let RecvError::Truncated { missing } = error else { panic!("{over:?}: {error:?}") };
            assert!(missing > 0 && missing < LONGER_THAN_ROOM);
            assert!(matches!(connection.recv_bytes(), Err(RecvError::Disconnected)));
            nobody_is_there(&mut connection);
        }
    }
}

fn stay(address: String, (): ()) {
    let _connection = connect(&address);
    park();
}

#[test]
fn killed_while_somebody_waits_for_it_the_wait_ends() {
    let _watchdog = watchdog("killed_while_somebody_waits_for_it_the_wait_ends");
    for over in CARRIERS {
        let (connection, child) = with_process(over, stay, ());
        let (mut tx, mut rx) = connection.split();
        std::thread::scope(|scope| {
            let sends = scope.spawn(|| {
                loop {
                    if let Err(error) = tx.send_bytes(&payload(1, 1 << 20)) {
                        return error;
                    }
                }
            });
            let receives = scope.spawn(|| rx.recv::<u8>().unwrap_err());
            // Most likely both wait by now; if not, they fail all the same.
            std::thread::sleep(Duration::from_millis(50));
            kill(child);
            assert!(matches!(sends.join().unwrap(), SendError::Disconnected), "{over:?}");
            assert!(matches!(receives.join().unwrap(), RecvError::Disconnected), "{over:?}");
        });
    }
}
