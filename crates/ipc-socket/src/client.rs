//! The end that connects.

use ipc_stream::{Transport, Until};

use crate::address::{Address, AddressError, Carrier};
use crate::auth::{AuthError, Role};
use crate::connection::Connection;
use crate::credentials::Credentials;
use crate::dial::{self, ConnectError};
use crate::handshake::{HandshakeError, Pending};
use crate::options::Options;
use crate::rings;

/// The end that connects: [`Client::connect`], or [`Options::connect`] with a key.
#[derive(Debug)]
pub struct Client;

impl Client {
    /// Connects to the listener at an address, without a key.
    ///
    /// # Errors
    /// As of [`Options::connect`].
    pub fn connect<A>(address: A) -> Result<Connection, ConnectError>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        Options::new().connect(address)
    }
}

pub(crate) fn connect(address: &Address, options: &Options) -> Result<Connection, ConnectError> {
    let fd = dial::connect(address, &options.dial())?;
    let of = |source: HandshakeError| ConnectError::Handshake { address: address.clone(), source };
    let (transport, peer) = about(address.carrier(), &fd).map_err(of)?;
    check_user(peer.as_ref(), options).map_err(|error| of(error.into()))?;
    let machine = options.machine(Role::Client, address.carrier()).map_err(of)?;
    let deadline = options.handshake_deadline();
    let fd = Pending::new(fd, machine, deadline).finish().map_err(of)?;
    let mut connection = if address.carrier() == Carrier::Shm {
        let agree = |tx, rx| rings::accept(tx, rx, Until::At(deadline));
        Connection::of_rings(fd, transport, peer, agree).map_err(of)?
    } else {
        Connection::of(fd, transport, peer, options.python)
    };
    connection.set_limits(options.limits);
    Ok(connection)
}

/// What carries a connection, and who is at the other end.
pub(crate) fn about(
    carrier: Carrier,
    fd: &std::os::fd::OwnedFd,
) -> Result<(Transport, Option<Credentials>), HandshakeError> {
    use std::os::fd::AsFd;
    Ok(match carrier {
        Carrier::Tcp => (Transport::Network, None),
        _ => (Transport::Unix, Some(Credentials::of(fd.as_fd())?)),
    })
}

/// Whether that is somebody to talk to.
pub(crate) fn check_user(peer: Option<&Credentials>, options: &Options) -> Result<(), AuthError> {
    let Some(users) = &options.users else { return Ok(()) };
    match peer.map(Credentials::uid) {
        Some(user) if users.contains(&user) => Ok(()),
        user => Err(AuthError::User(user.unwrap_or(u32::MAX))),
    }
}
