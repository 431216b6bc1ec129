//! Sockets that connect.
//!
//! What is handed on always waits: where connecting needs it otherwise (TCP, in the standard library), that is put back
//! before anybody else has the descriptor. On a Unix socket whose backlog is full the kernel makes the caller wait, and
//! wakes it (`SO_SNDTIMEO` is the deadline).

mod error;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::time::{Duration, Instant};

use ipc_os::socket;

use crate::address::{Address, AddressParts, is_loopback};
pub use error::ConnectError;

/// How to connect.
#[derive(Debug, Clone, Default)]
pub(crate) struct DialOptions {
    /// When to give up; `None` is never. Looking a name up cannot be interrupted.
    pub(crate) deadline: Option<Instant>,
    /// While nobody listens, try again until the deadline.
    pub(crate) retry: bool,
    /// Refuses TCP addresses that are not this machine's own.
    pub(crate) loopback_only: bool,
    /// When a TCP connection counts as dead.
    pub(crate) tcp: TcpTimes,
}

/// When a TCP connection counts as dead: asked after half a minute of silence, given up after two minutes without an
/// answer.
///
/// The kernel applies the second to what waits to be sent, too: a peer that answers, but takes nothing for two minutes
/// while there is something for it, counts as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TcpTimes {
    pub(crate) idle: Duration,
    pub(crate) interval: Duration,
    pub(crate) give_up: Duration,
}

impl TcpTimes {
    /// To give up after so long: it is asked a few times before.
    pub(crate) fn giving_up(after: Duration) -> Self {
        // The kernel counts in seconds, and takes a day or so at most.
        let give_up = after.clamp(Duration::from_secs(1), Duration::from_secs(24 * 3600));
        let part = |parts| (give_up / parts).max(Duration::from_secs(1));
        TcpTimes { idle: part(4), interval: part(12), give_up }
    }
}

impl Default for TcpTimes {
    fn default() -> Self {
        TcpTimes::giving_up(Duration::from_secs(120))
    }
}

/// The first pause before the next attempt, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Longer than the kernel tries by itself.
const AS_LONG_AS_THE_KERNEL: Duration = Duration::from_secs(3600);

/// A stream connected to an address: close-on-exec, blocking, and [prepared](prepare_tcp) if it is TCP.
///
/// # Errors
/// As the variants of [`ConnectError`] say. With `retry`, nobody listening is a [`ConnectError::Timeout`], whose
/// source says how it was the last time.
pub(crate) fn connect(address: &Address, options: &DialOptions) -> Result<OwnedFd, ConnectError> {
    let mut pause = PAUSES.0;
    loop {
        let error = match attempt(address, options) {
            Ok(fd) => return Ok(fd),
            Err(error) => error,
        };
        if !options.retry || !error.may_pass() {
            return Err(error);
        }
        let left = left(options.deadline);
        if left.is_some_and(|left| left.is_zero()) {
            return Err(error.at_the_deadline());
        }
        std::thread::sleep(left.map_or(pause, |left| left.min(pause)));
        pause = (2 * pause).min(PAUSES.1);
    }
}

fn left(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

fn attempt(address: &Address, options: &DialOptions) -> Result<OwnedFd, ConnectError> {
    let failed = |source| ConnectError::of(address, source);
    let to = match address.parts() {
        AddressParts::Unix(path) | AddressParts::Shm(path) => UnixAddr::from_pathname(path),
        AddressParts::Abstract(name) => UnixAddr::from_abstract_name(name),
        AddressParts::Tcp { .. } => return attempt_tcp(address, options),
    };
    // With no time left at all it is still tried once, without waiting.
    to.and_then(|to| socket::connect_unix(&to, left(options.deadline))).map_err(failed)
}

/// Tries all that the name means, in turn, each with its share of the time that is left.
fn attempt_tcp(address: &Address, options: &DialOptions) -> Result<OwnedFd, ConnectError> {
    let unresolved = |source| ConnectError::Unresolved { address: address.clone(), source };
    if let AddressParts::Tcp { port: 0, .. } = address.parts() {
        return Err(ConnectError::NoPort { address: address.clone() });
    }
    let all = address.resolve().map_err(unresolved)?;
    if options.loopback_only && !all.iter().all(is_loopback) {
        return Err(ConnectError::NotLoopback { address: address.clone() });
    }
    let mut last = None;
    for (index, to) in all.iter().enumerate() {
        let share = left(options.deadline).map(|left| left / (all.len() - index) as u32);
        // Zero is an error to the standard library.
        let share = share.unwrap_or(AS_LONG_AS_THE_KERNEL).max(Duration::from_millis(1));
        match stream(to, share, options.tcp) {
            Ok(fd) => return Ok(fd),
            Err(error) => last = Some(error),
        }
    }
    Err(match last {
        Some(source) => ConnectError::of(address, source),
        None => unresolved(io::ErrorKind::NotFound.into()),
    })
}

fn stream(to: &SocketAddr, within: Duration, times: TcpTimes) -> io::Result<OwnedFd> {
    use std::os::fd::AsFd;
    let stream = TcpStream::connect_timeout(to, within)?;
    let peer = stream.peer_addr().map_err(|error| match error.kind() {
        // The listener has ended since: there is a peer no more.
        io::ErrorKind::NotConnected => io::ErrorKind::ConnectionReset.into(),
        _ => error,
    })?;
    if stream.local_addr()? == peer {
        // Where nobody listens and the system happens to choose that very port for this end, TCP connects it to itself.
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    prepare_tcp(stream.as_fd(), times)?;
    Ok(stream.into())
}

/// Has a TCP connection send small messages at once, and notice a peer that is gone without a word. For both sides.
///
/// # Errors
/// What the system reports.
pub(crate) fn prepare_tcp(fd: BorrowedFd<'_>, times: TcpTimes) -> io::Result<()> {
    let TcpTimes { idle, interval, give_up } = times;
    socket::watch_tcp(fd, socket::TcpTimes { idle, interval, give_up })
}
