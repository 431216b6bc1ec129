//! Unmodified CPython, as client and as listener.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use ipc_socket::python::Object;
use ipc_socket::python::auth::AuthError;
use ipc_socket::{
    AcceptError, Address, ConnectError, Connection, HandshakeError, Listener, Options, RecvError,
};
use ipc_testkit::{LONG, watchdog};
use serde::{Deserialize, Serialize};

use crate::interpreters::{Interpreter, of_major};

/// Sends back whatever comes, until the end; says what went wrong.
const CLIENT: &str = "
import sys
from ast import literal_eval
from multiprocessing.connection import Client
from multiprocessing import AuthenticationError
address, key = literal_eval(sys.stdin.readline())
try:
    with Client(address, authkey=key) as connection:
        while True:
            connection.send(connection.recv())
except EOFError:
    print('end')
except AuthenticationError as error:
    print('AuthenticationError', error)
";

const LISTENER: &str = "
import sys
from ast import literal_eval
from multiprocessing.connection import Listener
from multiprocessing import AuthenticationError
address, key = literal_eval(sys.stdin.readline())
with Listener(address, authkey=key) as listener:
    print(repr(listener.address), flush=True)
    try:
        with listener.accept() as connection:
            while True:
                connection.send(connection.recv())
    except EOFError:
        print('end')
    except AuthenticationError as error:
        print('AuthenticationError', error)
";

fn start(python: &Interpreter, program: &str, argument: &str) -> Child {
    let mut child = Command::new(&python.path)
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{argument}").unwrap();
    child
}

fn said(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn literal(key: Option<&[u8]>) -> String {
    let hex = |key: &[u8]| key.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    key.map_or_else(|| "None".to_owned(), |key| format!("b'{}'", hex(key)))
}

fn options(key: Option<&[u8]>) -> Options {
    let options = Options::new().python().allow_legacy_md5().handshake_timeout(LONG);
    match key {
        Some(key) => options.authkey(key),
        None => options,
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i64,
    y: f64,
    tags: Vec<String>,
}

/// What is sent comes back from Python as it was.
fn echo(connection: &mut Connection) {
    let point = Point { x: -7, y: 0.5, tags: vec!["a".to_owned(), "ü".to_owned()] };
    connection.send(&point).unwrap();
    assert_eq!(connection.recv::<Point>().unwrap(), point);
    connection.send(&(1_u8, "two".to_owned(), Option::<u8>::None)).unwrap();
    assert_eq!(connection.recv::<(u8, String, Option<u8>)>().unwrap(), (1, "two".to_owned(), None));
    let long = "x".repeat(1 << 20);
    connection.send(&long).unwrap();
    assert!(connection.recv::<String>().unwrap() == long);

    let set = Object::Set(vec![Object::from(1), Object::from("one")]);
    let object = Object::Tuple(vec![Object::None, Object::List(vec![Object::from(2.5)]), set]);
    connection.send_object(&object).unwrap();
    match connection.recv_object().unwrap() {
        Object::Tuple(parts) => match &parts[..] {
            [Object::None, Object::List(list), Object::Set(set)] => {
                assert_eq!((list.len(), set.len()), (1, 2));
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    // A type that is another one is an error of that message alone.
    connection.send(&"no number".to_owned()).unwrap();
    assert!(matches!(connection.recv::<u8>(), Err(RecvError::Foreign { .. })));
    connection.send(&5_u8).unwrap();
    assert_eq!(connection.recv::<u8>().unwrap(), 5);
}

/// The address as Python has it.
fn for_python(address: &Address) -> String {
    match address.path() {
        Some(path) => format!("'{}'", path.display()),
        None => {
            let text = address.to_string();
            let (host, port) = text.strip_prefix("tcp:").unwrap().rsplit_once(':').unwrap();
            format!("('{host}', {port})")
        }
    }
}

/// Ours, and theirs.
type Keys = (Option<&'static [u8]>, Option<&'static [u8]>);

const KEYS: [Keys; 5] = [
    (None, None),
    (Some(b"secret"), Some(b"secret")),
    (Some(b""), Some(b"")),
    (Some(b"secret"), Some(b"other")),
    (Some(b"secret"), Some(b"")),
];

#[test]
fn python_is_the_client() {
    let _watchdog = watchdog("python_is_the_client");
    let directory = tempfile::tempdir().unwrap();
    for python in of_major(3) {
        for (ours, theirs) in KEYS {
            let unix = format!("unix:{}/s", directory.path().display());
            for address in [unix.as_str(), "tcp:127.0.0.1:0"] {
                let mut listener: Listener = options(ours).bind(address).unwrap();
                let argument = format!("({}, {})", for_python(listener.local_address()), literal(theirs));
                let child = start(python, CLIENT, &argument);
                let accepted = listener.accept_timeout(LONG);
                if ours == theirs {
                    let mut connection = accepted.unwrap();
                    echo(&mut connection);
                    drop(connection);
                    assert_eq!(said(child), "end");
                } else {
                    let refused = HandshakeError::Python(AuthError::WrongKey);
                    let AcceptError::Handshake { source, .. } = accepted.unwrap_err() else { panic!() };
                    assert_eq!(source.to_string(), refused.to_string());
                    assert!(said(child).starts_with("AuthenticationError"), "b37: it is told");
                }
            }
        }
    }
}

#[test]
fn python_is_the_listener() {
    let _watchdog = watchdog("python_is_the_listener");
    let directory = tempfile::tempdir().unwrap();
    for python in of_major(3) {
        for (round, (mut ours, theirs)) in KEYS.into_iter().enumerate() {
            // Before 3.13 a listener with an empty key asks for none (gh-88118), and who has one waits for ever.
            if theirs == Some(b"") && python.version < (3, 13, 0) {
                if ours != theirs {
                    continue;
                }
                ours = None;
            }
            let path = directory.path().join(format!("s{round}"));
            for address in [format!("'{}'", path.display()), "('127.0.0.1', 0)".to_owned()] {
                let mut child = start(python, LISTENER, &format!("({address}, {})", literal(theirs)));
                let mut line = String::new();
                let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
                std::io::BufRead::read_line(&mut output, &mut line).unwrap();
                let address = match line.trim().strip_prefix("('127.0.0.1', ") {
                    Some(port) => format!("tcp:127.0.0.1:{}", port.trim_end_matches(')')),
                    None => format!("unix:{}", path.display()),
                };
                let connected = options(ours).connect(address.as_str());
                let mut rest = String::new();
                if ours == theirs || ours.is_none() {
                    let mut connection = connected.unwrap();
                    echo(&mut connection);
                    drop(connection);
                    std::io::Read::read_to_string(&mut output, &mut rest).unwrap();
                    assert_eq!(rest.trim(), "end");
                } else {
                    let ConnectError::Handshake { source, .. } = connected.unwrap_err() else { panic!() };
                    let is_told = matches!(
                        source,
                        HandshakeError::Python(AuthError::Rejected) | HandshakeError::Disconnected
                    );
                    assert!(is_told, "{source:?}");
                    std::io::Read::read_to_string(&mut output, &mut rest).unwrap();
                    assert!(rest.starts_with("AuthenticationError"), "{rest}");
                }
                assert!(child.wait().unwrap().success());
            }
        }
    }
}

#[test]
fn md5_is_refused_unless_it_is_allowed() {
    let _watchdog = watchdog("md5_is_refused_unless_it_is_allowed");
    for python in of_major(3) {
        if python.modern {
            continue;
        }
        let options = Options::new().python().authkey(b"secret").handshake_timeout(LONG);
        let mut listener = options.bind("tcp:127.0.0.1:0").unwrap();
        let child = start(python, CLIENT, &format!("({}, b'secret')", for_python(listener.local_address())));
        let error = listener.accept_timeout(LONG).unwrap_err();
        let AcceptError::Handshake { source: HandshakeError::Python(error), .. } = error else {
            panic!("{error:?}");
        };
        assert!(matches!(error, AuthError::LegacyRefused), "{error:?}");
        assert!(error.to_string().contains("allow_legacy_md5"));
        drop(listener);
        assert_ne!(said(child), "end");
    }
}
