//! The bytes that docs/wire-format.md shows are those that go over the wire.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ipc_core::Schema;
use ipc_stream::{Transport, Until};

use crate::auth::{Handshake, Key, Role};
use crate::connection::Connection;
use crate::handshake::{Machine, Pending, Progress};
use crate::python::Object;
use crate::python::auth::{Auth, Options, Step};
use crate::types::Control;

const DOC: &str = include_str!("../../../docs/wire-format.md");

/// What the page shows under that name.
fn golden(name: &str) -> Vec<u8> {
    let line = DOC.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    let line = line.unwrap_or_else(|| panic!("docs/wire-format.md has no `{name}:`"));
    let digits: Vec<char> = line.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[track_caller]
fn expect(name: &str, bytes: &[u8]) {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(golden(name) == bytes, "{name}: {hex}");
}

/// What there is to be read.
fn read(mut socket: &UnixStream) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let count = socket.read(&mut bytes).unwrap();
    bytes.truncate(count);
    bytes
}

#[test]
fn a_handshake() {
    let side = |role, nonce| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let machine = Handshake::with_nonce(role, Some(Key::new(b"secret")), nonce);
        let deadline = Instant::now() + Duration::from_secs(60);
        (Pending::new(ours.into(), Machine::Native(machine), deadline), theirs)
    };
    let (mut client, of_client) = side(Role::Client, [1; 32]);
    let (mut listener, of_listener) = side(Role::Listener, [2; 32]);
    let say = |name: &str, who: &mut Pending, from: &UnixStream, mut to: &UnixStream| {
        let progress = who.advance().unwrap();
        let bytes = read(from);
        expect(name, &bytes);
        std::io::Write::write_all(&mut to, &bytes).unwrap();
        progress
    };
    say("hello of the client", &mut client, &of_client, &of_listener);
    say("hello of the listener", &mut listener, &of_listener, &of_client);
    say("proof of the client", &mut client, &of_client, &of_listener);
    let done = say("proof of the listener", &mut listener, &of_listener, &of_client);
    assert_eq!((done, client.advance().unwrap()), (Progress::Done, Progress::Done));
}

fn connection(python: bool) -> (Connection, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Connection::of(ours.into(), Transport::Unix, None, python), theirs)
}

#[test]
fn frames() {
    let (mut connection, theirs) = connection(false);
    connection.send(&(7_u32, "hi".to_owned())).unwrap();
    expect("message (7_u32, \"hi\")", &read(&theirs));
    connection.send_bytes(b"raw").unwrap();
    expect("bytes \"raw\"", &read(&theirs));
    let schema = Schema::of::<(u32, String)>();
    let id = schema.fingerprint().to_u64();
    let (sending, _) = connection.both();
    sending.control(&Control::Ask(id), Until::Forever).unwrap();
    expect("question about that message", &read(&theirs));
    sending.control(&Control::Structure(id, schema.text().to_owned()), Until::Forever).unwrap();
    expect("answer to it", &read(&theirs));
}

#[test]
fn frames_of_python() {
    let (mut connection, theirs) = connection(true);
    connection.send_bytes(b"raw").unwrap();
    expect("send_bytes(b\"raw\")", &read(&theirs));
    connection.send(&vec![1, 2]).unwrap();
    expect("send([1, 2])", &read(&theirs));
    connection.send_object(&Object::None).unwrap();
    expect("send(None)", &read(&theirs));
}

#[test]
fn challenges_of_python() {
    for (challenge, answer) in [
        ("challenge of 3.11 and before", "its answer"),
        ("challenge of 3.12 and later", "the answer to that"),
    ] {
        let mut client = Auth::client(b"secret", Options::new().allow_legacy_md5(true));
        assert!(matches!(client.next(None), Ok(Step::Receive)));
        // Behind their lengths.
        let Ok(Step::Send(said)) = client.next(Some(&golden(challenge)[4..])) else { panic!("{challenge}") };
        expect(answer, &[&(said.len() as u32).to_be_bytes()[..], &said].concat());
    }
}
