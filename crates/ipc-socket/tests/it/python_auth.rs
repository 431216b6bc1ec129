//! The challenges, with real CPythons: over a pair of pipes, in `multiprocessing.connection`'s own frames.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use ipc_core::frame::{FrameKind, Layout};
use ipc_socket::python::auth::{Auth, AuthError, MESSAGE_LEN_MAX, Options, Step};
use ipc_testkit::watchdog;

use crate::interpreters::{Interpreter, of_major};

const MODERN: Options = Options::new();
const LEGACY: Options = MODERN.allow_legacy_md5(true);

/// What Python's `Listener` and `Client` do once they are connected; then it sends back what it is sent.
const PEER: &str = "
import binascii, sys
import multiprocessing.connection as c
try:
    from multiprocessing.connection import Connection
except ImportError:
    from _multiprocessing import Connection
from multiprocessing import AuthenticationError
class Both:
    def __init__(self):
        self.recv_bytes = Connection(0, writable=False).recv_bytes
        self.send_bytes = Connection(1, readable=False).send_bytes
both = Both()
role, key, digest = sys.argv[1], binascii.unhexlify(sys.argv[2]), sys.argv[3:]
try:
    if role == 'listener':
        c.deliver_challenge(both, key, *digest)
        c.answer_challenge(both, key)
    else:
        c.answer_challenge(both, key)
        c.deliver_challenge(both, key)
    while True:
        message = both.recv_bytes()
        if not message:
            break
        both.send_bytes(message)
    sys.stderr.write('welcome')
except (AuthenticationError, EOFError, IOError, AssertionError) as error:
    sys.stderr.write(type(error).__name__)
";

struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl Peer {
    fn start(python: &Interpreter, role: &str, key: &[u8], digest: Option<&str>) -> Self {
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut child = Command::new(&python.path)
            .args(["-c", PEER, role, &key])
            .args(digest)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Peer { child, input, output }
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let mut frame = Vec::new();
        Layout::Lengths.put(FrameKind::Bytes, message.len(), 0, usize::MAX, &mut frame).unwrap();
        frame.extend_from_slice(message);
        self.input.as_mut().unwrap().write_all(&frame)
    }

    fn receive(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut header = Vec::new();
        loop {
            if let Some((found, header_len)) = Layout::Lengths.parse(&header, limit).unwrap() {
                assert_eq!(header_len, header.len());
                let mut message = vec![0; found.payload_len as usize];
                self.output.read_exact(&mut message)?;
                return Ok(message);
            }
            let mut byte = [0];
            self.output.read_exact(&mut byte)?;
            header.push(byte[0]);
        }
    }

    /// Goes through the challenges as this end.
    fn authenticate(&mut self, mut auth: Auth) -> Result<(), AuthError> {
        let mut received = None;
        loop {
            match auth.next(received.take().as_deref())? {
                Step::Send(message) => self.send(&message).unwrap(),
                Step::Receive => received = Some(self.receive(MESSAGE_LEN_MAX).unwrap()),
                Step::Done => return Ok(()),
            }
        }
    }

    /// What became of it in Python.
    fn end(mut self) -> String {
        drop(self.input.take());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        said
    }

    /// Sends some messages there and back.
    fn echo(mut self) {
        for len in [1, 255, 16_384, 16_385, 40_000] {
            let message: Vec<u8> = (0..len).map(|n| n as u8).collect();
            self.send(&message).unwrap();
            assert_eq!(self.receive(len).unwrap(), message);
        }
        self.send(b"").unwrap();
        assert_eq!(self.end(), "welcome");
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Ours {
    Listener,
    Client,
}

/// Both ends do their part; what became of it here.
fn meet(
    python: &Interpreter,
    ours: Ours,
    keys: [&[u8]; 2],
    options: Options,
) -> (Peer, Result<(), AuthError>) {
    let [mine, yours] = keys;
    let (role, auth) = match ours {
        Ours::Listener => ("client", Auth::listener(mine, options)),
        Ours::Client => ("listener", Auth::client(mine, options)),
    };
    let mut peer = Peer::start(python, role, yours, None);
    let result = peer.authenticate(auth);
    (peer, result)
}

/// All versions, each in both roles.
fn everyone() -> impl Iterator<Item = (&'static Interpreter, Ours)> {
    let pythons = of_major(2).into_iter().chain(of_major(3));
    pythons.flat_map(|python| [(python, Ours::Listener), (python, Ours::Client)])
}

#[test]
fn the_same_key_is_welcome_in_both_roles() {
    for (python, ours) in everyone() {
        let _watchdog = watchdog("the_same_key_is_welcome_in_both_roles");
        for key in [&b"secret"[..], b"", &[0xff; 100]] {
            let (peer, result) = meet(python, ours, [key, key], LEGACY);
            result.unwrap_or_else(|error| panic!("{:?}, {ours:?}: {error}", python.version));
            peer.echo();
        }
    }
}

#[test]
fn without_the_option_md5_is_refused_and_all_else_is_welcome() {
    for (python, ours) in everyone() {
        let _watchdog = watchdog("without_the_option_md5_is_refused_and_all_else_is_welcome");
        let (peer, result) = meet(python, ours, [b"secret", b"secret"], MODERN);
        if python.modern {
            result.unwrap();
            peer.echo();
            continue;
        }
        let error = result.unwrap_err();
        assert!(matches!(error, AuthError::LegacyRefused), "{error:?}");
        assert!(error.to_string().contains("allow_legacy_md5"));
        // A listener tells the client; a client has nothing to say and hangs up.
        let expected = if ours == Ours::Listener { "AuthenticationError" } else { "EOFError" };
        assert_eq!(peer.end(), expected, "{:?}", python.version);
    }
}

#[test]
fn another_key_is_told_to_both() {
    for (python, ours) in everyone() {
        let _watchdog = watchdog("another_key_is_told_to_both");
        for keys in [[&b"secret"[..], &b"Secret"[..]], [b"secret", b""], [b"", b"secret"]] {
            let (peer, result) = meet(python, ours, keys, LEGACY);
            match (ours, result.unwrap_err()) {
                (Ours::Listener, AuthError::WrongKey) | (Ours::Client, AuthError::Rejected) => {}
                (_, error) => panic!("{:?}, {ours:?}: {error:?}", python.version),
            }
            assert_eq!(peer.end(), "AuthenticationError");
        }
    }
}

#[test]
fn python_may_ask_for_any_digest() {
    for python in of_major(3).into_iter().filter(|python| python.modern) {
        let _watchdog = watchdog("python_may_ask_for_any_digest");
        for digest in ["sha256", "sha384", "sha3_256", "sha3_384", "md5"] {
            for options in [MODERN, LEGACY] {
                let mut peer = Peer::start(python, "listener", b"secret", Some(digest));
                match peer.authenticate(Auth::client(b"secret", options)) {
                    Ok(()) => peer.echo(),
                    Err(error) => {
                        assert!(matches!(error, AuthError::LegacyRefused), "{digest}: {error:?}");
                        assert!(digest == "md5" && options == MODERN);
                        assert_eq!(peer.end(), "EOFError");
                    }
                }
            }
        }
    }
}

#[test]
fn b37_a_bogus_answer_is_told() {
    for python in of_major(3) {
        let _watchdog = watchdog("b37_a_bogus_answer_is_told");
        let mut peer = Peer::start(python, "listener", b"secret", None);
        let mut auth = Auth::client(b"secret", LEGACY);
        let challenge = peer.receive(MESSAGE_LEN_MAX).unwrap();
        assert!(matches!(auth.next(Some(&challenge)), Ok(Step::Send(_))));
        peer.send(b"bogus").unwrap();
        let verdict = peer.receive(MESSAGE_LEN_MAX).unwrap();
        assert_eq!(verdict, b"#FAILURE#");
        assert!(matches!(auth.next(Some(&verdict)), Err(AuthError::Rejected)));
        assert_eq!(peer.end(), "AuthenticationError");
    }
}
