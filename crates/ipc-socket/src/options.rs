//! How to listen and to connect.

use std::io;
use std::time::{Duration, Instant};

use ipc_core::Limits;

use crate::address::{Address, AddressError, Carrier};
use crate::auth::{Handshake, Key, Role};
use crate::bind::{BindError, BindOptions, Bound};
use crate::client;
use crate::connection::Connection;
use crate::dial::{ConnectError, TcpTimes};
use crate::handshake::{HandshakeError, Machine};
use crate::listener::Listener;
use crate::python::auth as python;

/// How to listen, and how to connect: a key, who is let in, how long things may take. Both ends use the same key.
///
/// ```
/// use ipc_socket::{Listener, Options};
///
/// let directory = tempfile::tempdir()?;
/// let address = format!("unix:{}", directory.path().join("app.sock").display());
/// let options = Options::new().authkey(b"32 random bytes would be better");
///
/// let mut listener = options.clone().bind(address.as_str())?;
/// let client = std::thread::spawn(move || {
///     let mut connection = options.connect(address.as_str())?;
///     connection.send(&("how many?".to_owned(), 3_u32))?;
///     connection.recv::<Vec<u32>>().map_err(ipc_core::Error::from)
/// });
/// let mut connection = listener.accept()?;
/// let (_question, count) = connection.recv::<(String, u32)>()?;
/// connection.send(&(0..count).collect::<Vec<_>>())?;
/// assert_eq!(client.join().unwrap()?, [0, 1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) key: Option<Key>,
    pub(crate) users: Option<Vec<u32>>,
    pub(crate) handshake_timeout: Duration,
    timeout: Option<Duration>,
    retry: bool,
    unprotected: bool,
    mode: u32,
    pub(crate) python: bool,
    legacy_md5: bool,
    pub(crate) limits: Limits,
    pub(crate) ring_len: usize,
    tcp: TcpTimes,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            key: None,
            users: None,
            handshake_timeout: Duration::from_secs(10),
            timeout: None,
            retry: false,
            unprotected: false,
            mode: 0o600,
            python: false,
            legacy_md5: false,
            limits: Limits::default(),
            ring_len: 256 << 10,
            tcp: TcpTimes::default(),
        }
    }
}

impl Options {
    /// The defaults: no key, 10 seconds for a handshake, sockets for this user alone.
    pub fn new() -> Self {
        Options::default()
    }

    /// The key that the other end has to have, and to which this end proves to have it. It may be empty; to be of use it
    /// should be 32 random bytes. What goes over the connection is not encrypted by it.
    #[must_use]
    pub fn authkey(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(Key::new(key.as_ref()));
        self
    }

    /// Lets in processes of these users alone (numbers, as `getuid(2)` gives them). It is the kernel that says who is at
    /// the other end of a Unix socket; over TCP nobody does, and nobody is let in then.
    #[must_use]
    pub fn only_users(mut self, users: impl Into<Vec<u32>>) -> Self {
        self.users = Some(users.into());
        self
    }

    /// How long the other end may take to prove who it is.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// How long connecting may take before its handshake; for ever, unless told otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// While nobody listens there, tries to connect again, until the [time](Self::timeout) is over.
    #[must_use]
    pub fn retry(mut self) -> Self {
        self.retry = true;
        self
    }

    /// Allows addresses that other machines can reach without a key: anybody can connect then, or be the listener.
    #[must_use]
    pub fn allow_unprotected(mut self) -> Self {
        self.unprotected = true;
        self
    }

    /// The permissions of a socket's file: who may write may connect. `0o600` unless told otherwise.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Speaks as CPython's `multiprocessing.connection` does, which then can be at the other end, without any change:
    /// [`send`](Connection::send) writes pickles, [`recv`](Connection::recv) reads them if they are
    /// [plain data](crate::python), and bytes are Python's `send_bytes` and `recv_bytes`.
    #[must_use]
    pub fn python(mut self) -> Self {
        self.python = true;
        self
    }

    /// Lets the key be proven by HMAC-MD5, which is all that CPython up to 3.11 knows. It counts for
    /// [`python`](Self::python) alone.
    #[must_use]
    pub fn allow_legacy_md5(mut self) -> Self {
        self.legacy_md5 = true;
        self
    }

    /// The limits of connections.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How many bytes each direction of a connection over shared memory holds: 256 KiB unless told otherwise, 1 GiB at most.
    /// Longer messages pass all the same, in pieces. It is the listener's to say.
    #[must_use]
    pub fn ring_len(mut self, bytes: usize) -> Self {
        self.ring_len = bytes.min(1 << 30);
        self
    }

    /// When a TCP peer counts as dead that answers no more: 2 minutes unless told otherwise, a second at least. So does one
    /// that lives, but takes nothing for so long while there is something for it.
    #[must_use]
    pub fn tcp_give_up(mut self, after: Duration) -> Self {
        self.tcp = TcpTimes::giving_up(after);
        self
    }

    /// Listens at an address.
    ///
    /// # Errors
    /// As the variants of [`BindError`] say; [`BindError::NotLoopback`] without a key at an address that other machines
    /// can reach.
    pub fn bind<A>(self, address: A) -> Result<Listener, BindError>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        let address = address.try_into().map_err(AddressError::from)?;
        if self.python && address.carrier() == Carrier::Shm {
            return Err(BindError::Io { address, source: no_rings_in_python() });
        }
        let bind = BindOptions { mode: self.mode, loopback_only: self.is_closed(), tcp: self.tcp };
        Ok(Listener::over(Bound::bind(&address, &bind)?, self))
    }

    /// Connects to the listener at an address.
    ///
    /// # Errors
    /// As the variants of [`ConnectError`] say; [`ConnectError::NotLoopback`] without a key at an address of another
    /// machine.
    pub fn connect<A>(&self, address: A) -> Result<Connection, ConnectError>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        let address = address.try_into().map_err(AddressError::from)?;
        if self.python && address.carrier() == Carrier::Shm {
            return Err(ConnectError::Io { address, source: no_rings_in_python() });
        }
        client::connect(&address, self)
    }

    /// Whether only this machine may be at the other end.
    pub(crate) fn is_closed(&self) -> bool {
        self.key.is_none() && !self.unprotected
    }

    pub(crate) fn dial(&self) -> crate::dial::DialOptions {
        crate::dial::DialOptions {
            // A time too far ahead for the clock is for ever.
            deadline: self.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            retry: self.retry,
            loopback_only: self.is_closed(),
            tcp: self.tcp,
        }
    }

    /// What is said in a handshake.
    pub(crate) fn machine(&self, role: Role, carrier: Carrier) -> Result<Machine, HandshakeError> {
        if !self.python {
            let handshake = Handshake::new(role, self.key.clone())?;
            let over_memory = carrier == Carrier::Shm;
            return Ok(Machine::Native(if over_memory { handshake.over_memory() } else { handshake }));
        }
        let Some(key) = &self.key else { return Ok(Machine::Nothing) };
        let options = python::Options::new().allow_legacy_md5(self.legacy_md5);
        Ok(Machine::Python(match role {
            Role::Client => python::Auth::client(key.bytes(), options),
            Role::Listener => python::Auth::listener(key.bytes(), options),
        }))
    }

    /// When a handshake that begins now has to be over.
    pub(crate) fn handshake_deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.handshake_timeout).unwrap_or(now + Duration::from_secs(365 * 24 * 3600))
    }
}

fn no_rings_in_python() -> io::Error {
    let what = "CPython has no connections over shared memory: use a unix: address";
    io::Error::new(io::ErrorKind::Unsupported, what)
}
