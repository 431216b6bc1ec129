#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod address;
mod auth;
mod bind;
mod carrier;
mod client;
mod connection;
mod credentials;
mod dial;
#[cfg(test)]
mod golden;
mod handshake;
mod listener;
mod options;
pub mod python;
mod receiving;
mod rings;
mod sending;
mod server;
mod travel;
mod types;

pub use address::{Address, AddressError, AddressParts, Carrier};
pub use auth::{AuthError, Refusal};
pub use bind::BindError;
pub use carrier::Closer;
pub use client::Client;
pub use connection::Connection;
pub use credentials::Credentials;
pub use dial::ConnectError;
pub use handshake::HandshakeError;
pub use listener::{AcceptError, Incoming, Listener};
pub use options::Options;
pub use receiving::RecvHalf;
pub use sending::SendHalf;
pub use server::{Served, Server, Stopper};

pub use ipc_core::{Limits, RecvError, SendAllError, SendError};
pub use ipc_os::{Readiness, Waitable, wait};
