//! Connections: one suite of behaviours, over every carrier.

use std::time::Duration;

use ipc_core::{Value, to_value};
use ipc_socket::{
    AcceptError, AuthError, ConnectError, Connection, HandshakeError, Listener, Options, RecvError, Refusal,
    SendError, Waitable, wait,
};
use ipc_testkit::data::payload;
use ipc_testkit::{LONG, SHORT, watchdog};
use serde::{Deserialize, Serialize};

use crate::carriers::{CARRIERS, KEY, Over, everywhere, listen, options, pair};

/// The listener's, and the client's.
type Keys = (Option<&'static [u8]>, Option<&'static [u8]>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Question {
    number: u32,
    text: String,
}

#[test]
fn messages_of_different_types_take_turns() {
    let _watchdog = watchdog("messages_of_different_types_take_turns");
    everywhere(|mut a, mut b| {
        let question = Question { number: 7, text: "why?".to_owned() };
        a.send(&question).unwrap();
        a.send(&(1_u8, true)).unwrap();
        a.send_bytes(b"raw").unwrap();
        a.send(&vec![1.5_f64; 1000]).unwrap();
        assert_eq!(b.recv::<Question>().unwrap(), question);
        assert_eq!(b.recv::<(u8, bool)>().unwrap(), (1, true));
        assert_eq!(b.recv_bytes().unwrap(), b"raw");
        assert_eq!(b.recv::<Vec<f64>>().unwrap(), vec![1.5; 1000]);
        b.send(&"answer".to_owned()).unwrap();
        assert_eq!(a.recv::<String>().unwrap(), "answer");
    });
}

/// What has no type in the program.
#[test]
fn the_dynamic_value_is_a_message_too() {
    let _watchdog = watchdog("the_dynamic_value_is_a_message_too");
    let value = to_value(&Question { number: 7, text: "why?".to_owned() }).unwrap();
    everywhere(|mut a, mut b| {
        a.send(&value).unwrap();
        assert!(matches!(b.recv::<Question>(), Err(RecvError::Mismatch(_))), "it says itself what it is");
        assert_eq!(b.recv::<Value>().unwrap(), value);
    });
    let python = Options::new().python();
    let mut listener = python.clone().bind("tcp:127.0.0.1:0").unwrap();
    let address = listener.local_address().clone();
    let client = std::thread::spawn(move || python.connect(&address).unwrap());
    let (mut a, mut b) = (listener.accept().unwrap(), client.join().unwrap());
    a.send(&value).unwrap();
    a.send(&value).unwrap();
    assert_eq!(b.recv::<Value>().unwrap(), value);
    assert_eq!(b.recv::<Question>().unwrap().text, "why?");
}

#[test]
fn b15_messages_of_any_size() {
    let _watchdog = watchdog("b15_messages_of_any_size");
    everywhere(|mut a, mut b| {
        for len in [0, 1, 100, 16 << 20] {
            let sent = vec![len as u8; len];
            let echo = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let got = b.recv_bytes().unwrap();
                    b.send_bytes(&got).unwrap();
                });
                a.send_bytes(&sent).unwrap();
                a.recv_bytes().unwrap()
            });
            assert!(echo == sent, "{len} bytes");
        }
    });
}

#[test]
fn b17_b18_bytes_into_a_buffer() {
    let _watchdog = watchdog("b17_b18_bytes_into_a_buffer");
    everywhere(|mut a, mut b| {
        a.send_bytes(b"twelve bytes").unwrap();
        a.send_bytes(b"four").unwrap();
        let mut buf = [b'x'; 8];
        match b.recv_bytes_into(&mut buf) {
            Err(RecvError::TooSmall { message, capacity: 8 }) => assert_eq!(message, b"twelve bytes"),
            other => panic!("{other:?}"),
        }
        assert_eq!(b.recv_bytes_into(&mut buf[2..]).unwrap(), 4);
        assert_eq!(&buf, b"xxfourxx");
        assert!(matches!(b.try_recv_bytes_into(&mut buf), Err(RecvError::Empty)));
        assert!(matches!(b.recv_bytes_into_timeout(&mut buf, SHORT), Err(RecvError::Timeout)));
        // One that has begun stays until it is whole.
        let long = payload(1, 20 << 20);
        assert!(matches!(a.try_send_bytes(&long), Err(SendError::Begun { .. })));
        let mut large = vec![0; long.len() + 1];
        assert!(matches!(b.try_recv_bytes_into(&mut large), Err(RecvError::Empty)));
        assert!(matches!(b.recv_bytes_into_timeout(&mut large, SHORT), Err(RecvError::Timeout)));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while let Err(error) = a.flush_timeout(SHORT) {
                    assert!(matches!(error, SendError::Begun { .. }), "{error:?}");
                }
                a.send_bytes(b"four").unwrap();
            });
            assert_eq!(b.recv_bytes_into_timeout(&mut large, LONG).unwrap(), long.len());
            assert!(large.starts_with(&long));
            assert_eq!(b.recv_bytes_into_timeout(&mut large[..4], LONG).unwrap(), 4);
            assert!(large.starts_with(b"four"));
        });
    });
}

#[test]
fn b19_to_b22_poll_takes_nothing_and_messages_stay_apart() {
    let _watchdog = watchdog("b19_to_b22_poll_takes_nothing_and_messages_stay_apart");
    everywhere(|mut a, mut b| {
        assert!(!b.poll(Duration::ZERO).unwrap());
        assert!(!b.poll(SHORT).unwrap());
        a.send_bytes(b"").unwrap();
        a.send_bytes(b"x").unwrap();
        assert!(b.poll(LONG).unwrap() && b.poll(Duration::ZERO).unwrap());
        assert_eq!(b.recv_bytes().unwrap(), b"");
        assert_eq!(b.recv_bytes().unwrap(), b"x");
        assert!(matches!(b.try_recv_bytes(), Err(RecvError::Empty)));
        assert!(matches!(b.try_recv::<u8>(), Err(RecvError::Empty)));
        assert!(matches!(b.recv_timeout::<u8>(SHORT), Err(RecvError::Timeout)));
    });
}

#[test]
fn another_type_stays_and_both_structures_are_shown() {
    let _watchdog = watchdog("another_type_stays_and_both_structures_are_shown");
    everywhere(|mut a, mut b| {
        a.send(&(1_u32, true)).unwrap();
        a.send(&5_u8).unwrap();
        let error = std::thread::scope(|scope| {
            // It answers while it waits for something itself.
            let waits = scope.spawn(|| a.recv::<u64>());
            let error = b.recv::<(u64, bool)>().unwrap_err();
            assert_eq!(b.recv::<(u32, bool)>().unwrap(), (1, true), "it is there still");
            assert_eq!(b.recv::<u8>().unwrap(), 5);
            b.send(&6_u64).unwrap();
            assert_eq!(waits.join().unwrap().unwrap(), 6);
            error
        });
        let text = error.to_string();
        assert!(text.contains("`(u64, bool)`") && text.contains("`(u32, bool)`"), "{text}");
        assert!(matches!(error, RecvError::Mismatch(_)));
    });
}

#[test]
fn another_type_of_a_peer_that_does_not_answer() {
    let _watchdog = watchdog("another_type_of_a_peer_that_does_not_answer");
    everywhere(|mut a, mut b| {
        a.send(&1_u32).unwrap();
        a.send_bytes(b"behind").unwrap();
        drop(a);
        let error = b.recv::<String>().unwrap_err();
        assert!(matches!(&error, RecvError::Mismatch(mismatch) if mismatch.theirs.is_empty()), "{error:?}");
        assert!(matches!(b.recv_bytes(), Err(RecvError::WrongKind { .. })));
        assert_eq!(b.recv::<u32>().unwrap(), 1);
        assert!(matches!(b.recv::<u32>(), Err(RecvError::WrongKind { .. })));
        assert_eq!(b.recv_bytes().unwrap(), b"behind");
        assert!(matches!(b.recv_bytes(), Err(RecvError::Disconnected)));
        assert!(matches!(b.recv::<u32>(), Err(RecvError::Disconnected)));
    });
}

#[test]
fn what_is_of_no_use_is_skipped() {
    let _watchdog = watchdog("what_is_of_no_use_is_skipped");
    everywhere(|mut a, mut b| {
        let messages = |a: &mut Connection| {
            a.send(&1_u32).unwrap();
            a.send_bytes(b"two").unwrap();
            a.send(&"three".to_owned()).unwrap();
        };
        messages(&mut a);
        b.skip().unwrap();
        assert!(matches!(b.recv::<u8>(), Err(RecvError::WrongKind { .. })));
        b.skip().unwrap();
        assert_eq!(b.recv::<String>().unwrap(), "three");
        messages(&mut a);
        drop(a);
        // Nobody is left to say what that is.
        assert!(matches!(b.recv::<u8>(), Err(RecvError::Mismatch(_))));
        let (_sending, mut receiving) = b.split();
        receiving.skip().unwrap();
        assert_eq!(receiving.recv_bytes().unwrap(), b"two");
        receiving.skip().unwrap();
        assert!(matches!(receiving.skip(), Err(RecvError::Disconnected)));
    });
}

#[test]
fn b24_the_end_of_a_peer() {
    let _watchdog = watchdog("b24_the_end_of_a_peer");
    everywhere(|mut a, mut b| {
        a.send(&1_u8).unwrap();
        a.close_sending().unwrap();
        assert_eq!(b.recv::<u8>().unwrap(), 1);
        assert!(matches!(b.recv::<u8>(), Err(RecvError::Disconnected)));
        b.send(&2_u8).unwrap();
        assert_eq!(a.recv::<u8>().unwrap(), 2, "the other direction goes on");
        drop(b);
        assert!(matches!(a.recv::<u8>(), Err(RecvError::Disconnected)));
        // TCP hears of it at the second try.
        let told = (0..100).find_map(|_| {
            std::thread::sleep(Duration::from_millis(1));
            a.send(&3_u8).err()
        });
        assert!(matches!(told, Some(SendError::Disconnected)), "{told:?}");
    });
}

#[test]
fn two_halves_for_two_threads() {
    let _watchdog = watchdog("two_halves_for_two_threads");
    everywhere(|a, b| {
        let ((mut to_b, mut from_b), (mut to_a, mut from_a)) = (a.split(), b.split());
        let sums: Vec<u64> = std::thread::scope(|scope| {
            let send = |half: &mut ipc_socket::SendHalf| half.send_all::<u64>(0..10_000_u64).unwrap();
            let take =
                |half: &mut ipc_socket::RecvHalf| (0..10_000).map(|_| half.recv::<u64>().unwrap()).sum();
            scope.spawn(move || send(&mut to_b));
            scope.spawn(move || send(&mut to_a));
            let there = scope.spawn(move || take(&mut from_a));
            vec![take(&mut from_b), there.join().unwrap()]
        });
        assert_eq!(sums, [49_995_000, 49_995_000]);
    });
}

#[test]
fn b30_it_can_be_waited_for_among_others() {
    let _watchdog = watchdog("b30_it_can_be_waited_for_among_others");
    everywhere(|mut a, mut b| {
        let (mut tx, rx) = ipc_pipe::pipe::<u8>().unwrap();
        let sources: [&dyn Waitable; 2] = [&b, &rx];
        assert!(wait(&sources, Some(Duration::ZERO)).unwrap().is_empty());
        a.send(&1_u8).unwrap();
        assert_eq!(wait(&sources, Some(LONG)).unwrap(), [0]);
        tx.send(&1).unwrap();
        assert_eq!(wait(&sources, Some(LONG)).unwrap(), [0, 1]);
        assert_eq!(b.recv::<u8>().unwrap(), 1);
    });
}

#[test]
fn handles_travel_over_unix_sockets_and_are_refused_by_tcp() {
    let _watchdog = watchdog("handles_travel_over_unix_sockets_and_are_refused_by_tcp");
    let (mut a, mut b) = pair(Over::Unix);
    let (mut tx, rx) = ipc_pipe::pipe::<u8>().unwrap();
    a.send(&rx).unwrap();
    tx.send(&7).unwrap();
    assert_eq!(b.recv::<ipc_pipe::Receiver<u8>>().unwrap().recv().unwrap(), 7);

    let (mut a, mut b) = pair(Over::Tcp);
    let (_tx, rx) = ipc_pipe::pipe::<u8>().unwrap();
    let error = a.send(&rx).unwrap_err();
    assert!(matches!(error, SendError::Handles { count: 1, .. }), "{error:?}");
    a.send(&1_u8).unwrap();
    assert_eq!(b.recv::<u8>().unwrap(), 1);
}

#[test]
fn who_is_there_is_known() {
    let _watchdog = watchdog("who_is_there_is_known");
    let (a, b) = pair(Over::Unix);
    for end in [&a, &b] {
        let peer = end.peer().unwrap();
        assert_eq!(peer.pid(), Some(std::process::id()));
    }
    let (a, _b) = pair(Over::Tcp);
    assert!(a.peer().is_none());
}

fn auth(error: &ConnectError) -> &AuthError {
    match error {
        ConnectError::Handshake { source: HandshakeError::Auth(error), .. } => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn b34_b37_keys_are_checked_on_both_sides() {
    let _watchdog = watchdog("b34_b37_keys_are_checked_on_both_sides");
    let options = |key: Option<&[u8]>| match key {
        Some(key) => Options::new().authkey(key),
        None => Options::new(),
    };
    let cases: [Keys; 7] = [
        (None, None),
        (Some(b""), Some(b"")),
        (Some(KEY), Some(KEY)),
        (Some(KEY), Some(b"another")),
        (Some(b""), Some(KEY)),
        (None, Some(KEY)),
        (Some(KEY), None),
    ];
    for (of_listener, of_client) in cases {
        let mut listener = options(of_listener).bind("tcp:127.0.0.1:0").unwrap();
        let address = listener.local_address().clone();
        let (connected, accepted) = std::thread::scope(|scope| {
            let client = scope.spawn(|| options(of_client).connect(&address));
            let accepted = listener.accept_timeout(LONG);
            (client.join().unwrap(), accepted)
        });
        if of_listener == of_client {
            connected.unwrap().send(&1_u8).unwrap();
            assert_eq!(accepted.unwrap().recv::<u8>().unwrap(), 1);
            continue;
        }
        let (error, told) = (connected.unwrap_err(), accepted.unwrap_err());
        let AcceptError::Handshake { source: HandshakeError::Auth(told), from: Some(_) } = told else {
            panic!("{told:?}");
        };
        let expected = match (of_listener, of_client) {
            (Some(_), None) => (AuthError::KeyWanted, AuthError::NoKey),
            (None, Some(_)) => (AuthError::NoKey, AuthError::KeyWanted),
            _ => (AuthError::WrongKey, AuthError::WrongKey),
        };
        assert_eq!((auth(&error).clone(), told), expected);
    }
}

#[test]
fn only_some_users_are_let_in() {
    let _watchdog = watchdog("only_some_users_are_let_in");
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/s", directory.path().display());
    let me = {
        let (a, _b) = pair(Over::Unix);
        a.peer().unwrap().uid()
    };
    for (users, is_in) in [(vec![me], true), (vec![me + 1], false)] {
        let mut listener = Options::new().only_users(users).bind(address.as_str()).unwrap();
        std::thread::scope(|scope| {
            let client = scope.spawn(|| Options::new().connect(address.as_str()));
            match listener.accept_timeout(LONG) {
                Ok(_) => assert!(is_in),
                Err(AcceptError::Handshake {
                    source: HandshakeError::Auth(AuthError::User(user)), ..
                }) => {
                    assert!(!is_in && user == me);
                }
                other => panic!("{other:?}"),
            }
            match client.join().unwrap() {
                Ok(_) => assert!(is_in),
                Err(error) => assert_eq!(*auth(&error), AuthError::Refused(Refusal::User)),
            }
        });
    }
}

/// A program that never waits in `accept`.
#[test]
fn a_listener_is_waited_for_beside_its_connections() {
    let _watchdog = watchdog("a_listener_is_waited_for_beside_its_connections");
    for over in CARRIERS {
        let (mut listener, _directory) = listen(over);
        assert!(wait(&[&listener], Some(SHORT)).unwrap().is_empty());
        let address = listener.local_address().clone();
        let clients = std::thread::spawn(move || {
            for number in 0..20_u32 {
                let mut connection = options().connect(&address).unwrap();
                connection.send(&number).unwrap();
                assert_eq!(connection.recv::<u32>().unwrap(), number + 1);
            }
        });
        let mut connections: Vec<Connection> = Vec::new();
        let mut answered = 0;
        while answered < 20 {
            let mut sources: Vec<&dyn Waitable> = vec![&listener];
            sources.extend(connections.iter().map(|connection| connection as &dyn Waitable));
            let ready = wait(&sources, Some(LONG)).unwrap();
            assert!(!ready.is_empty());
            for at in ready.into_iter().rev().filter_map(|at| at.checked_sub(1)) {
                match connections[at].try_recv::<u32>() {
                    Ok(number) => {
                        connections.remove(at).send(&(number + 1)).unwrap();
                        answered += 1;
                    }
                    Err(RecvError::Empty) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            match listener.accept_timeout(Duration::ZERO) {
                Ok(connection) => connections.push(connection),
                Err(AcceptError::Timeout) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        clients.join().unwrap();
        assert!(wait(&[&listener], Some(SHORT)).unwrap().is_empty(), "nobody is left in there");
    }
}

#[test]
fn who_is_silent_delays_nobody() {
    let _watchdog = watchdog("who_is_silent_delays_nobody");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let address = format!("unix:{}", path.display());
    let options = Options::new().authkey(KEY).handshake_timeout(LONG);
    let mut listener = options.clone().bind(address.as_str()).unwrap();
    let silent: Vec<_> = (0..200).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
    let client = std::thread::spawn(move || options.connect(address.as_str()).unwrap());
    let mut connection = listener.accept_timeout(LONG).unwrap();
    client.join().unwrap().send(&1_u8).unwrap();
    assert_eq!(connection.recv::<u8>().unwrap(), 1);
    drop(silent);
}

#[test]
fn who_is_silent_is_given_up() {
    let _watchdog = watchdog("who_is_silent_is_given_up");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let address = format!("unix:{}", path.display());
    let mut listener = Options::new().handshake_timeout(SHORT).bind(address.as_str()).unwrap();
    assert!(matches!(listener.accept_timeout(SHORT), Err(AcceptError::Timeout)));
    let silent = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let told = listener.accept_timeout(LONG);
    assert!(matches!(told, Err(AcceptError::Handshake { source: HandshakeError::Timeout, .. })), "{told:?}");
    drop(silent);

    // And a listener that accepts nobody keeps no client waiting for ever.
    let error = Options::new().handshake_timeout(SHORT).connect(address.as_str()).unwrap_err();
    let is_told = matches!(error, ConnectError::Handshake { source: HandshakeError::Timeout, .. });
    assert!(is_told, "{error:?}");
    let _listener: Listener = listener;
}
