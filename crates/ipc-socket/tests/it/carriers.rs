//! What the suite runs over: each carrier, and two ends of a connection over it.
//!
//! Behaviours 15 to 39 of CPython's `multiprocessing` (as its test-suite has them) and where they are tested:
//!
//! | | behaviour | |
//! |---|---|---|
//! | 15 | echo of empty, small and 16 MiB messages | `connection::b15_…` |
//! | 16 | bounds of a message | `behaviours::b16_…`: the limits; a slice cannot be out of bounds |
//! | 17, 18 | receiving into a place, and one that is too small | `connection::b17_b18_…` |
//! | 19 to 22 | polls wait and take nothing; empty messages; messages stay apart | `connection::b19_to_b22_…` |
//! | 23 | the wrong direction | `behaviours::b23_…`; halves have no methods for the other direction |
//! | 24 | closed peer, cut-off message | `connection::b24_…`, `deaths::killed_…`, `hostile::cuts` |
//! | 25 | the parent closes its copy of what its child has | `behaviours::b25_…` |
//! | 26 | polling in a child eats nothing | `behaviours::b26_…` |
//! | 27 | signals are invisible | `signals::b27_…`; `join` is `ipc-process`'s |
//! | 28 | descriptor numbers above 256; missing descriptors | `behaviours::b28_…` |
//! | 29 | sockets and files through a connection | `behaviours::b29_…` |
//! | 30 to 32 | one wait over connections, sockets and sentinels | `connection::b30_…`, `behaviours::b30_to_b32_…` |
//! | 33 | a second listener | `bind::a_path_is_private_…`, and in the crate `bind::tests` |
//! | 34 | an empty key | `connection::b34_b37_…`, `python_auth::the_same_key_…` |
//! | 35 | an abstract socket | all that runs [`everywhere`] |
//! | 36 | who sends and closes before it is accepted | `behaviours::b36_…` |
//! | 37 | bogus answers | `connection::b34_b37_…`, `python_auth::b37_…`, `hostile::replays` |
//! | 38 | all challenges of CPython | `python_auth`, and in the crate `python::auth::tests` |
//! | 39 | after a listener was closed | `behaviours::b39_…` |

use std::path::Path;

use ipc_process::{Process, WorkerFn};
use ipc_socket::{Connection, Listener, Options};
use ipc_testkit::LONG;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The key of the tests.
pub(crate) const KEY: &[u8] = b"a key of the tests";

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Unix,
    Abstract,
    Tcp,
    Memory,
}

/// All of them: here a further one is added.
pub(crate) const CARRIERS: [Over; 4] = [Over::Unix, Over::Abstract, Over::Tcp, Over::Memory];

impl Over {
    /// An address to listen at, which nobody else has: the directory is the test's own.
    pub(crate) fn address(self, directory: &Path) -> String {
        let path = directory.join("socket");
        match self {
            Over::Unix => format!("unix:{}", path.display()),
            Over::Abstract => format!("unix:@ipc-test-{}", path.display()),
            Over::Tcp => "tcp:127.0.0.1:0".to_owned(),
            Over::Memory => format!("shm:{}", path.display()),
        }
    }

    /// Whether descriptors go along with messages.
    pub(crate) fn moves_handles(self) -> bool {
        self != Over::Tcp
    }

    /// Whether CPython may be at the other end.
    pub(crate) fn speaks_python(self) -> bool {
        self != Over::Memory
    }

    /// Whether a path leads to the listener.
    pub(crate) fn has_path(self) -> bool {
        !matches!(self, Over::Abstract | Over::Tcp)
    }
}

/// With the key, and all the time that a test has.
pub(crate) fn options() -> Options {
    Options::new().authkey(KEY).handshake_timeout(LONG)
}

/// A listener over a carrier, with a key. Its directory lives as long as it.
pub(crate) fn listen(over: Over) -> (Listener, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let listener = options().bind(over.address(directory.path())).unwrap();
    (listener, directory)
}

/// Both ends over one carrier, with a key: the listener's, and the client's.
pub(crate) fn pair(over: Over) -> (Connection, Connection) {
    let (mut listener, _directory) = listen(over);
    let address = listener.local_address().clone();
    let client = std::thread::spawn(move || options().connect(&address).unwrap());
    let ours = listener.accept_timeout(LONG).unwrap();
    (ours, client.join().unwrap())
}

/// A test of two ends, over every carrier.
pub(crate) fn everywhere(test: impl Fn(Connection, Connection)) {
    for over in CARRIERS {
        let (ours, theirs) = pair(over);
        test(ours, theirs);
    }
}

/// Both ends in this process, over those carriers that move handles.
pub(crate) fn where_handles_move(test: impl Fn(Connection, Connection)) {
    for over in CARRIERS.into_iter().filter(|over| over.moves_handles()) {
        let (ours, theirs) = pair(over);
        test(ours, theirs);
    }
}

/// An end whose other end a process of its own has, which is given the address first, and this.
pub(crate) fn with_process<T, F>(over: Over, function: F, with: T) -> (Connection, Process<F::Out>)
where
    T: Serialize + DeserializeOwned,
    F: WorkerFn<(String, T)>,
    F::Out: Serialize + DeserializeOwned,
{
    let (mut listener, _directory) = listen(over);
    let process = Process::spawn(function, (listener.local_address().to_string(), with)).unwrap();
    (listener.accept_timeout(LONG).unwrap(), process)
}

/// What such a process begins with.
pub(crate) fn connect(address: &str) -> Connection {
    options().connect(address).unwrap()
}
