//! Raw sockets, and somebody between an honest client and an honest listener.
//!
//! Streams of TCP are `UnixStream`s here, too: what it does to a descriptor is the same for both.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use ipc_core::frame::{FrameKind, Layout};
use ipc_socket::{
    AcceptError, Address, AddressParts, ConnectError, Connection, HandshakeError, Listener, Options,
};
use ipc_testkit::LONG;

use crate::carriers::{Over, options};

/// How two ends talk, with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) over: Over,
    pub(crate) python: bool,
}

impl Dialect {
    pub(crate) fn all() -> impl Iterator<Item = Dialect> {
        [Over::Unix, Over::Tcp]
            .into_iter()
            .flat_map(|over| [false, true].map(|python| Dialect { over, python }))
    }

    pub(crate) fn native() -> impl Iterator<Item = Dialect> {
        Dialect::all().filter(|dialect| !dialect.python)
    }

    pub(crate) fn options(self) -> Options {
        if self.python { options().python() } else { options() }
    }

    /// The header of a message of a handshake.
    pub(crate) fn header(self, len: usize) -> Vec<u8> {
        self.header_of(FrameKind::Control, len)
    }

    pub(crate) fn header_of(self, kind: FrameKind, len: usize) -> Vec<u8> {
        let layout = if self.python { Layout::Lengths } else { Layout::Frames };
        let mut header = Vec::new();
        layout.put(kind, len, 0, usize::MAX, &mut header).unwrap();
        header
    }

    /// A message of a handshake.
    pub(crate) fn message(self, message: &[u8]) -> Vec<u8> {
        [&self.header(message.len())[..], message].concat()
    }
}

/// What went wrong with the handshake.
pub(crate) trait Source: Debug {
    fn source(self) -> HandshakeError;
}

impl Source for AcceptError {
    fn source(self) -> HandshakeError {
        match self {
            AcceptError::Handshake { source, .. } => source,
            other => panic!("{other:?}"),
        }
    }
}

impl Source for ConnectError {
    fn source(self) -> HandshakeError {
        match self {
            ConnectError::Handshake { source, .. } => source,
            other => panic!("{other:?}"),
        }
    }
}

/// The connection, or what went wrong with its handshake.
#[track_caller]
pub(crate) fn source_of<E: Source>(result: Result<Connection, E>) -> Result<Connection, HandshakeError> {
    result.map_err(Source::source)
}

fn tcp(stream: TcpStream) -> UnixStream {
    // A byte by itself is to go by itself, and at once.
    stream.set_nodelay(true).unwrap();
    UnixStream::from(OwnedFd::from(stream))
}

/// A raw socket, connected to a listener.
pub(crate) fn dial(address: &Address) -> UnixStream {
    match address.parts() {
        AddressParts::Unix(path) => UnixStream::connect(path).unwrap(),
        AddressParts::Tcp { host, port } => tcp(TcpStream::connect((host, port)).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[derive(Debug)]
enum Raw {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// A raw listener.
#[derive(Debug)]
pub(crate) struct Door {
    raw: Raw,
    pub(crate) address: String,
    _directory: tempfile::TempDir,
}

impl Door {
    pub(crate) fn new(over: Over) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (raw, address) = match over {
            Over::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = format!("tcp:{}", listener.local_addr().unwrap());
                (Raw::Tcp(listener), address)
            }
            _ => {
                let path = directory.path().join("door");
                (Raw::Unix(UnixListener::bind(&path).unwrap()), format!("unix:{}", path.display()))
            }
        };
        Door { raw, address, _directory: directory }
    }

    pub(crate) fn accept(&self) -> UnixStream {
        match &self.raw {
            Raw::Unix(listener) => listener.accept().unwrap().0,
            Raw::Tcp(listener) => tcp(listener.accept().unwrap().0),
        }
    }
}

/// What somebody says, piece by piece, until he has nothing more to say.
pub(crate) type Says = Arc<dyn Fn(usize) -> Option<Vec<u8>> + Send + Sync>;

/// Just that.
pub(crate) fn once(bytes: Vec<u8>) -> Says {
    Arc::new(move |piece| (piece == 0).then(|| bytes.clone()))
}

/// What is done to one direction.
#[derive(Clone)]
pub(crate) enum How {
    /// It is passed on.
    Whole,
    /// So many bytes are, and then comes the end.
    Cut(usize),
    /// So many bytes are, and nothing more.
    Stall(usize),
    /// It is passed on byte by byte, with a pause before each.
    Slow(Duration),
    /// So many bytes are passed on, and then comes this and the end.
    Then(usize, Says),
}

impl How {
    /// How many bytes are passed on.
    fn room(&self) -> usize {
        match self {
            How::Whole | How::Slow(_) => usize::MAX,
            How::Cut(room) | How::Stall(room) | How::Then(room, _) => *room,
        }
    }

    /// What comes when those were passed on. Whoever should hear it may be gone.
    fn finish(&self, to: &mut UnixStream) {
        if let How::Then(_, says) = self {
            for piece in (0..).map_while(|piece| says(piece)) {
                if to.write_all(&piece).is_err() {
                    break;
                }
            }
        }
        if !matches!(self, How::Stall(_)) {
            let _gone = to.shutdown(Shutdown::Write);
        }
    }
}

/// Passes on what comes from one to the other, and says what that was. Everything is read, whether it is passed on or
/// not: nobody waits for this one, and a socket with something unread would be reset and not closed.
pub(crate) fn pump(mut from: UnixStream, mut to: UnixStream, how: &How) -> Vec<u8> {
    let mut passed = Vec::new();
    let mut buf = [0; 4096];
    if how.room() == 0 {
        how.finish(&mut to);
    }
    while let Ok(count @ 1..) = from.read(&mut buf) {
        let pass = &buf[..count.min(how.room() - passed.len())];
        if pass.is_empty() {
            continue;
        }
        match how {
            How::Slow(pause) => {
                for byte in pass {
                    std::thread::sleep(*pause);
                    if to.write_all(&[*byte]).is_err() {
                        break;
                    }
                }
            }
            _ => drop(to.write_all(pass)),
        }
        passed.extend_from_slice(pass);
        if passed.len() == how.room() {
            how.finish(&mut to);
        }
    }
    let _gone = to.shutdown(Shutdown::Write);
    passed
}

/// Both directions between two raw sockets; what was said by the first, and by the second.
pub(crate) fn relay(first: UnixStream, second: UnixStream, hows: &[How; 2]) -> [Vec<u8>; 2] {
    std::thread::scope(|scope| {
        let (from, to) = (first.try_clone().unwrap(), second.try_clone().unwrap());
        let there = scope.spawn(move || pump(from, to, &hows[0]));
        let back = scope.spawn(move || pump(second, first, &hows[1]));
        [there.join().unwrap(), back.join().unwrap()]
    })
}

/// An honest listener, an honest client, and a door between them.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) dialect: Dialect,
    pub(crate) client: Options,
    pub(crate) listener: Listener,
    door: Door,
    _directory: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Stage::with(dialect, dialect.options(), dialect.options())
    }

    /// With other options for the client, or the listener.
    pub(crate) fn with(dialect: Dialect, client: Options, listener: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = listener.bind(dialect.over.address(directory.path())).unwrap();
        Stage { dialect, client, listener, door: Door::new(dialect.over), _directory: directory }
    }

    /// Has them meet by way of the door, with that done to what the client says, and to what the listener says. `then` has
    /// what became of it on both sides. What each of them said, as far as it was passed on.
    pub(crate) fn meet<R>(
        &mut self,
        hows: [How; 2],
        then: impl FnOnce(Result<Connection, HandshakeError>, Result<Connection, HandshakeError>) -> R,
    ) -> (R, [Vec<u8>; 2]) {
        std::thread::scope(|scope| {
            let (client, door, hows) = (&self.client, &self.door, &hows);
            let connects = scope.spawn(move || client.connect(door.address.as_str()));
            let to = dial(self.listener.local_address());
            let passes = scope.spawn(move || relay(door.accept(), to, hows));
            let accepted = self.listener.accept_timeout(LONG);
            let connected = connects.join().unwrap();
            let result = then(source_of(connected), source_of(accepted));
            (result, passes.join().unwrap())
        })
    }

    /// What client and listener say in a handshake.
    pub(crate) fn honest(&mut self) -> [Vec<u8>; 2] {
        self.meet([How::Whole, How::Whole], |connected, accepted| {
            drop((connected.unwrap(), accepted.unwrap()))
        })
        .1
    }

    /// The listener lets somebody honest in.
    pub(crate) fn is_well(&mut self) {
        let (address, options) = (self.listener.local_address().clone(), self.dialect.options());
        let client = std::thread::spawn(move || options.connect(&address).unwrap());
        let mut accepted = self.listener.accept_timeout(LONG).unwrap();
        client.join().unwrap().send(&1_u8).unwrap();
        assert_eq!(accepted.recv::<u8>().unwrap(), 1);
    }
}
