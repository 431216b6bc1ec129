//! Sockets that listen.
//!
//! The crate `interprocess` makes the local ones: it sets the mode of the socket's file before the file is there, so that
//! there is no moment in which others could connect, and leaves the umask alone, which all threads share. What it does
//! not do is done here: abstract names with zero bytes in them (by the standard library), waiting without `O_NONBLOCK`
//! on the connections, where they come from, and everything about a path that is in use. Its `try_overwrite` would take
//! the path from a listener that is alive, and its reclaiming of the name removes whatever has the path by then.
//!
//! # Who has a path
//! A path is taken, taken over, and taken away under a lock (`flock(2)`) on the directory that it is in, which the kernel
//! gives back when its holder dies, and which leaves nothing behind. Under it:
//!
//! | step | how | killed afterwards |
//! |---|---|---|
//! | is it there? | a file that is no socket is left alone | |
//! | is it alive? | ask the kernel whether a socket is open that is bound to the file; its owner notices nothing | |
//! | take it over | unlink | there is nothing |
//! | bind, listen | mode set before | the next one finds it dead |
//! | close | unlink if it is still the same file (device and inode, which the open socket keeps from being used again), then close | the next one finds it dead |
//!
//! So two that start at once never remove each other's socket, and of all that believe to have the path there is one. A
//! program that knows nothing of the lock is safe from this one once it has bound, and this one from it if it does not
//! unlink what is alive. A listener that was copied by `fork` is alive as long as any copy is; only the process that
//! made it takes the path away.

mod error;
mod path;
#[cfg(test)]
mod tests;

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use ipc_os::socket;

use crate::address::{Address, AddressParts, is_loopback};
use crate::dial::{TcpTimes, prepare_tcp};
pub use error::BindError;
pub(crate) use error::TakeError;
use path::Place;

/// How to bind.
#[derive(Debug, Clone)]
pub(crate) struct BindOptions {
    /// The permissions of a socket's file, whatever the umask is. Who may write may connect.
    pub(crate) mode: u32,
    /// Refuses TCP addresses that others than this machine can reach.
    pub(crate) loopback_only: bool,
    /// When an accepted TCP connection counts as dead.
    pub(crate) tcp: TcpTimes,
}

impl Default for BindOptions {
    fn default() -> Self {
        BindOptions { mode: PRIVATE, loopback_only: false, tcp: TcpTimes::default() }
    }
}

/// The user alone.
const PRIVATE: u32 = 0o600;

/// How many connections that broke before they were taken are skipped in a row.
const SKIPPED_MAX: usize = 64;

/// A socket that listens. Its path, if it has one, goes with it.
///
/// Its description is non-blocking, since `accept4(2)` has no flag for one call: it is made here and shared with nobody,
/// but for copies that a `fork` makes. The connections are not.
#[derive(Debug)]
pub(crate) struct Bound {
    address: Address,
    tcp: Option<TcpTimes>,
    /// Dropped before the socket is: the file must not be somebody else's by then.
    _place: Option<Place>,
    listener: OwnedFd,
}

impl Bound {
    /// Listens at an address.
    ///
    /// # Errors
    /// As the variants of [`BindError`] say.
    pub(crate) fn bind(address: &Address, options: &BindOptions) -> Result<Self, BindError> {
        match address.parts() {
            AddressParts::Unix(path) | AddressParts::Shm(path) => {
                let (listener, place) = path::bind(address, path, options.mode)?;
                Ok(Bound { address: address.clone(), tcp: None, _place: Some(place), listener })
            }
            AddressParts::Abstract(name) => {
                let listener =
                    abstract_listener(name).and_then(|listener| socket::listen(listener, u32::MAX));
                let listener = listener.map_err(|source| BindError::of(address, source))?;
                Ok(Bound { address: address.clone(), tcp: None, _place: None, listener })
            }
            AddressParts::Tcp { .. } => bind_tcp(address, options),
        }
    }

    /// Where it listens: the address that was given, but for TCP the one that the name and the port have become.
    pub(crate) fn local_address(&self) -> &Address {
        &self.address
    }

    /// Takes a connection, and where it comes from if that is over TCP; `None` if there is none at the moment. It does not
    /// wait; when there may be one the descriptor is readable. The connection is close-on-exec, blocking, and, if
    /// over TCP, [prepared](prepare_tcp). Those that have ended before they were taken are skipped.
    ///
    /// # Errors
    /// [`TakeError::Exhausted`] when there is no descriptor or memory for it. It is still waiting then, and the
    /// listener readable: who goes on at once goes on in circles.
    pub(crate) fn accept_nonblocking(&self) -> Result<Option<(OwnedFd, Option<Address>)>, TakeError> {
        for _ in 0..SKIPPED_MAX {
            match socket::accept(self.listener.as_fd()) {
                Ok((connection, from)) => {
                    if let Some(times) = self.tcp
                        && prepare_tcp(connection.as_fd(), times).is_err()
                    {
                        continue;
                    }
                    return Ok(Some((connection, from.map(Address::from))));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if TakeError::is_of_the_connection(&error) => {}
                Err(error) => return Err(TakeError::from(error)),
            }
        }
        // There may be more: the descriptor says so.
        Ok(None)
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Abstract names have no permissions, and are gone with the socket: whoever is quicker has them. Credentials tell who
/// it is.
fn abstract_listener(name: &[u8]) -> io::Result<OwnedFd> {
    use interprocess::local_socket::{ListenerNonblockingMode, ListenerOptions, ToNsName};
    use interprocess::os::unix::local_socket::AbstractNsUdSocket;
    use interprocess::os::unix::uds_local_socket::Listener;
    use std::os::unix::ffi::OsStrExt;
    if name.contains(&0) {
        let listener = UnixListener::bind_addr(&UnixAddr::from_abstract_name(name)?)?;
        listener.set_nonblocking(true)?;
        return Ok(listener.into());
    }
    let name = std::ffi::OsStr::from_bytes(name).to_ns_name::<AbstractNsUdSocket>()?;
    let options = ListenerOptions::new().name(name).nonblocking(ListenerNonblockingMode::Accept);
    Ok(options.create_sync_as::<Listener>()?.into())
}

/// The first of the addresses that a name means and that can be bound. The standard library sets `SO_REUSEADDR`, and
/// leaves it to the system whether `[::]` takes IPv4 too.
fn bind_tcp(address: &Address, options: &BindOptions) -> Result<Bound, BindError> {
    let unresolved = |source| BindError::Unresolved { address: address.clone(), source };
    let all = address.resolve().map_err(unresolved)?;
    if all.is_empty() {
        return Err(unresolved(io::ErrorKind::NotFound.into()));
    }
    if options.loopback_only && !all.iter().all(is_loopback) {
        return Err(BindError::NotLoopback { address: address.clone() });
    }
    let listening = || {
        let listener = TcpListener::bind(&*all)?;
        listener.set_nonblocking(true)?;
        let address = Address::from(listener.local_addr()?);
        Ok(Bound {
            address,
            tcp: Some(options.tcp),
            _place: None,
            // The standard library keeps fewer waiting.
            listener: socket::listen(listener.into(), u32::MAX)?,
        })
    };
    listening().map_err(|source| BindError::of(address, source))
}
