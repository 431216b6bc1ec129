//! What was said on another connection, or by the other end itself, proves nothing.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use ipc_socket::python::auth::AuthError as PythonError;
use ipc_socket::{AuthError, HandshakeError};
use ipc_testkit::{LONG, SHORT, watchdog};

use super::relay::{Dialect, Door, How, Stage, dial, relay, source_of};

fn is_wrong_key(error: &HandshakeError) -> bool {
    matches!(error, HandshakeError::Auth(AuthError::WrongKey) | HandshakeError::Python(PythonError::WrongKey))
}

/// Not what is due.
fn is_out_of_place(error: &HandshakeError) -> bool {
    matches!(
        error,
        HandshakeError::Auth(AuthError::Protocol(_))
            | HandshakeError::Python(PythonError::UnsupportedDigest { .. })
    )
}

/// What a listener makes of a stranger who does that.
fn told_by_a_listener(stage: &mut Stage, does: impl FnOnce(UnixStream) + Send) -> HandshakeError {
    let stranger = dial(stage.listener.local_address());
    std::thread::scope(|scope| {
        scope.spawn(|| does(stranger));
        source_of(stage.listener.accept_timeout(LONG)).unwrap_err()
    })
}

/// What a client makes of somebody at the door who does that.
fn told_by_a_client(dialect: Dialect, does: impl FnOnce(UnixStream) + Send) -> HandshakeError {
    let door = Door::new(dialect.over);
    std::thread::scope(|scope| {
        scope.spawn(|| does(door.accept()));
        source_of(dialect.options().connect(door.address.as_str())).unwrap_err()
    })
}

/// Says that, and listens to the end.
fn say(mut stranger: UnixStream, bytes: &[u8]) {
    // It may be refused before it has said all.
    let _said = stranger.write_all(bytes);
    let _heard = stranger.read_to_end(&mut Vec::new());
}

/// The next message of a handshake, of that length.
fn hear(stranger: &mut UnixStream, dialect: Dialect, len: usize) -> Vec<u8> {
    let mut message = vec![0; dialect.header(len).len() + len];
    stranger.read_exact(&mut message).unwrap();
    message.split_off(dialect.header(len).len())
}

#[test]
fn a_recorded_handshake_is_refused_on_another_connection() {
    let _watchdog = watchdog("a_recorded_handshake_is_refused_on_another_connection");
    for dialect in Dialect::all() {
        let mut stage = Stage::new(dialect);
        let [by_client, by_listener] = stage.honest();
        for _ in 0..3 {
            let error = told_by_a_listener(&mut stage, |stranger| say(stranger, &by_client));
            assert!(is_wrong_key(&error), "{dialect:?}: {error:?}");
            let error = told_by_a_client(dialect, |stranger| say(stranger, &by_listener));
            assert!(is_wrong_key(&error), "{dialect:?}: {error:?}");
        }
        stage.is_well();
    }
}

const HELLO_LEN: usize = 36;
const PROOF_LEN: usize = 33;
/// `#CHALLENGE#{sha256}` and 40 bytes.
const CHALLENGE_LEN: usize = 11 + 8 + 40;

fn hello(role: u8) -> Vec<u8> {
    [&[b'H', 1, role, 1][..], &[9; 32]].concat()
}

#[test]
fn a_listener_does_not_take_what_it_has_said_itself() {
    let _watchdog = watchdog("a_listener_does_not_take_what_it_has_said_itself");
    for dialect in Dialect::all() {
        let mut stage = Stage::new(dialect);
        if dialect.python {
            // The challenge as the answer, and what is to be signed as the signature.
            for from in [0, 11] {
                let error = told_by_a_listener(&mut stage, |mut stranger| {
                    let challenge = hear(&mut stranger, dialect, CHALLENGE_LEN);
                    say(stranger, &dialect.message(&challenge[from..]));
                });
                assert!(is_wrong_key(&error) || is_out_of_place(&error), "{from}: {error:?}");
            }
            continue;
        }
        let mut theirs = Vec::new();
        let error = told_by_a_listener(&mut stage, |mut stranger| {
            stranger.write_all(&dialect.message(&hello(0))).unwrap();
            theirs = hear(&mut stranger, dialect, HELLO_LEN);
            say(stranger, &dialect.message(&theirs));
        });
        assert!(is_out_of_place(&error), "{error:?}");
        // As it is, and as if it were a client's.
        let error = told_by_a_listener(&mut stage, |stranger| say(stranger, &dialect.message(&theirs)));
        assert!(is_out_of_place(&error), "{error:?}");
        theirs[2] = 0;
        let proof = [&b"P"[..], &theirs[4..]].concat();
        let both = [dialect.message(&theirs), dialect.message(&proof)].concat();
        let error = told_by_a_listener(&mut stage, |stranger| say(stranger, &both));
        assert!(is_wrong_key(&error), "{error:?}");
        stage.is_well();
    }
}

#[test]
fn a_client_does_not_take_what_it_has_said_itself() {
    let _watchdog = watchdog("a_client_does_not_take_what_it_has_said_itself");
    for dialect in Dialect::all() {
        if dialect.python {
            // It has said nothing before it was welcome; then come a challenge and what it would answer itself.
            for from in [0, 11] {
                let error = told_by_a_client(dialect, |mut stranger| {
                    let asks = [&b"#CHALLENGE#{sha256}"[..], &[5; 40]].concat();
                    stranger.write_all(&dialect.message(&asks)).unwrap();
                    hear(&mut stranger, dialect, 8 + 32);
                    stranger.write_all(&dialect.message(b"#WELCOME#")).unwrap();
                    let challenge = hear(&mut stranger, dialect, CHALLENGE_LEN);
                    say(stranger, &dialect.message(&challenge[from..]));
                });
                assert!(is_wrong_key(&error) || is_out_of_place(&error), "{from}: {error:?}");
            }
            continue;
        }
        let error = told_by_a_client(dialect, |mut stranger| {
            let hello = hear(&mut stranger, dialect, HELLO_LEN);
            say(stranger, &dialect.message(&hello));
        });
        assert!(is_out_of_place(&error), "{error:?}");
        // Its own proof: as it is, and as if it were a listener's.
        for (kind, is_refused) in [(b'P', is_out_of_place as fn(&_) -> bool), (b'W', is_wrong_key)] {
            let error = told_by_a_client(dialect, |mut stranger| {
                hear(&mut stranger, dialect, HELLO_LEN);
                stranger.write_all(&dialect.message(&hello(1))).unwrap();
                let mut proof = hear(&mut stranger, dialect, PROOF_LEN);
                proof[0] = kind;
                say(stranger, &dialect.message(&proof));
            });
            assert!(is_refused(&error), "{error:?}");
        }
    }
}

#[test]
fn two_listeners_do_not_let_each_other_in() {
    let _watchdog = watchdog("two_listeners_do_not_let_each_other_in");
    for dialect in Dialect::all() {
        let hurried = dialect.options().handshake_timeout(SHORT);
        let [mut one, mut other] = [0, 1].map(|_| Stage::with(dialect, hurried.clone(), hurried.clone()));
        let ends = [&one, &other].map(|stage| dial(stage.listener.local_address()));
        let [first, second] = ends;
        let errors = std::thread::scope(|scope| {
            scope.spawn(|| relay(first, second, &[How::Whole, How::Whole]));
            let there = scope.spawn(|| source_of(one.listener.accept_timeout(LONG)).unwrap_err());
            let here = source_of(other.listener.accept_timeout(LONG)).unwrap_err();
            [here, there.join().unwrap()]
        });
        for error in errors {
            // Native ones wait for a client's hello; CPython's ask each other. Whoever is later finds the other gone.
            let is_told = match error {
                HandshakeError::Timeout => !dialect.python,
                HandshakeError::Disconnected => true,
                _ => dialect.python && (is_out_of_place(&error) || is_wrong_key(&error)),
            };
            assert!(is_told, "{dialect:?}: {error:?}");
        }
    }
}

#[test]
fn two_clients_do_not_take_each_other_for_listeners() {
    let _watchdog = watchdog("two_clients_do_not_take_each_other_for_listeners");
    for dialect in Dialect::all() {
        let door = Door::new(dialect.over);
        let options = dialect.options().handshake_timeout(if dialect.python { SHORT } else { LONG });
        let errors = std::thread::scope(|scope| {
            let connect = || source_of(options.connect(door.address.as_str())).unwrap_err();
            let clients = [scope.spawn(connect), scope.spawn(connect)];
            relay(door.accept(), door.accept(), &[How::Whole, How::Whole]);
            clients.map(|client| client.join().unwrap())
        });
        for error in errors {
            // CPython's wait for a challenge; native ones say hello.
            let is_told = match error {
                HandshakeError::Timeout => dialect.python,
                HandshakeError::Disconnected => true,
                _ => is_out_of_place(&error),
            };
            assert!(is_told, "{dialect:?}: {error:?}");
        }
    }
}
