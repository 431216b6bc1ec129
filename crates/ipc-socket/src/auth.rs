//! Who may connect: a mutual challenge over a shared key, as a state machine without I/O.
//!
//! ```text
//!  client                                              listener
//!    | -- hello: 'H' version role=0 flags nonce[32] ---->  |
//!    | <- hello: 'H' version role=1 flags nonce[32] -----  |   or refused: 'R' reason
//!    | -- proof: 'P' mac[32], without a key 'P' -------->  |
//!    | <- welcome: 'W' mac[32], without a key 'W' -------  |   or refused: 'R' reason
//! ```
//!
//! Flags: 1 there is a key, 2 the connection is to go over shared memory.
//!
//! A proof is HMAC-SHA-256 with the key over a label, both hellos as they went over the wire: it holds for this role, this
//! version and these two nonces alone, so it is worth nothing on another connection or in the other direction. The client
//! proves first, since more strangers come to a listener than listeners are impostors: who has no key learns nothing from
//! a listener that it could try keys on. An impostor of a listener gets the client's proof, and could try weak keys on
//! that: use keys of 32 random bytes.
//!
//! It says who is at the other end when the connection begins. What is said afterwards is neither encrypted nor protected
//! against somebody on the way: use it on one machine, or in a network that you trust.
//!
//! Each message is a frame of at most [`MESSAGE_MAX`] bytes; nothing else is read before its end.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use ipc_core::{Classify, ErrorKind};
use sha2::Sha256;

/// No message of a handshake is longer.
pub(crate) const MESSAGE_MAX: usize = 128;

const VERSION: u8 = 1;
const NONCE_LEN: usize = 32;
const MAC_LEN: usize = 32;
const HELLO_LEN: usize = 4 + NONCE_LEN;

const HELLO: u8 = b'H';
const PROOF: u8 = b'P';
const WELCOME: u8 = b'W';
const REFUSED: u8 = b'R';

const CLIENT_LABEL: &[u8] = b"ipc-socket 1 client proof";
const LISTENER_LABEL: &[u8] = b"ipc-socket 1 listener proof";

/// Why a peer and this end did not come to trust each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The peer has another key.
    #[error("the other end has another key")]
    WrongKey,
    /// The peer has a key, and this end has none.
    #[error("the other end asks for a key: give the one that it has with `authkey`")]
    KeyWanted,
    /// This end has a key, and the peer has none.
    #[error("the other end has no key, and this one asks for it")]
    NoKey,
    /// The peer has refused this end.
    #[error("the other end has refused: {0}")]
    Refused(Refusal),
    /// The peer speaks another version.
    #[error("the other end speaks version {0} of this protocol, and this one {VERSION}")]
    Version(u8),
    /// What came is no message of this protocol, or not the one that is due.
    #[error("the other end does not speak this protocol: {0}")]
    Protocol(&'static str),
    /// One end is for connections over shared memory, and the other is not.
    #[error("one end has a `shm:` address and the other a `unix:` one: give both the same")]
    Carrier,
    /// The peer runs as a user that is not let in.
    #[error("user {0} is not let in")]
    User(u32),
    /// There are no random numbers to be had.
    #[error("the system gives no random numbers")]
    NoRandom,
}

impl Classify for AuthError {
    fn kind(&self) -> ErrorKind {
        match self {
            AuthError::Version(_) | AuthError::Protocol(_) => ErrorKind::Decode,
            AuthError::Carrier => ErrorKind::Unsupported,
            AuthError::NoRandom => ErrorKind::Io,
            _ => ErrorKind::PermissionDenied,
        }
    }
}

/// What a listener says as it refuses somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The key is wrong.
    WrongKey,
    /// A key is wanted.
    KeyWanted,
    /// It has no key to check one with.
    NoKeyHere,
    /// Another version is spoken.
    Version,
    /// Not for this user.
    User,
    /// It connects over shared memory, or does not, and this one is otherwise.
    Carrier,
    /// Something this version does not know.
    Other(u8),
}

impl Refusal {
    fn code(self) -> u8 {
        match self {
            Refusal::WrongKey => 1,
            Refusal::KeyWanted => 2,
            Refusal::NoKeyHere => 3,
            Refusal::Version => 4,
            Refusal::User => 5,
            Refusal::Carrier => 6,
            Refusal::Other(code) => code,
        }
    }

    fn of(code: u8) -> Self {
        match code {
            1 => Refusal::WrongKey,
            2 => Refusal::KeyWanted,
            3 => Refusal::NoKeyHere,
            4 => Refusal::Version,
            5 => Refusal::User,
            6 => Refusal::Carrier,
            code => Refusal::Other(code),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::WrongKey => "the key is wrong",
            Refusal::KeyWanted => "it asks for a key",
            Refusal::NoKeyHere => "it has no key, and so cannot prove that it is the right one",
            Refusal::Version => "it speaks another version of this protocol",
            Refusal::User => "it does not let this user in",
            Refusal::Carrier => "only one of the two is for shared memory",
            Refusal::Other(code) => return write!(f, "for reason {code}, which this version does not know"),
        })
    }
}

/// A key that both ends have. Debug output does not show it.
#[derive(Clone)]
pub(crate) struct Key(Arc<[u8]>);

impl Key {
    pub(crate) fn new(key: &[u8]) -> Self {
        Key(key.into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn mac(&self, label: &[u8], client: &[u8], listener: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for part in [label, client, listener] {
            // Each behind its length: no two transcripts look alike.
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send this, and ask again.
    Send(Vec<u8>),
    /// Come back with what the peer says.
    Receive,
    /// Each has shown the other that it has the key.
    Done,
    /// Send this, then give up.
    Refuse(Vec<u8>, AuthError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SayHello,
    AwaitHello,
    /// The listener's.
    AwaitProof,
    /// The client's.
    Prove,
    AwaitWelcome,
    Welcome,
    Done,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Listener,
}

/// One side of a handshake.
#[derive(Debug)]
pub(crate) struct Handshake {
    role: Role,
    key: Option<Key>,
    state: State,
    ours: [u8; HELLO_LEN],
    theirs: [u8; HELLO_LEN],
    /// The client is not let in, whatever it says.
    refused_user: Option<u32>,
}

/// What a connection is to be, as both have to see it.
const FLAGS: usize = 3;
const KEYED: u8 = 1;
const SHARED_MEMORY: u8 = 2;

fn hello(role: Role, keyed: bool, nonce: [u8; NONCE_LEN]) -> [u8; HELLO_LEN] {
    let mut hello = [0; HELLO_LEN];
    hello[0] = HELLO;
    hello[1] = VERSION;
    hello[2] = role as u8;
    hello[FLAGS] = if keyed { KEYED } else { 0 };
    hello[4..].copy_from_slice(&nonce);
    hello
}

impl Handshake {
    pub(crate) fn new(role: Role, key: Option<Key>) -> Result<Self, AuthError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| AuthError::NoRandom)?;
        Ok(Handshake::with_nonce(role, key, nonce))
    }

    /// For a connection that is to go over shared memory.
    pub(crate) fn over_memory(mut self) -> Self {
        self.ours[FLAGS] |= SHARED_MEMORY;
        self
    }

    /// For a client that runs as a user who is not let in: it is told so when it has said hello.
    pub(crate) fn refusing(mut self, user: u32) -> Self {
        self.refused_user = Some(user);
        self
    }

    pub(crate) fn with_nonce(role: Role, key: Option<Key>, nonce: [u8; NONCE_LEN]) -> Self {
        let ours = hello(role, key.is_some(), nonce);
        let state = match role {
            Role::Client => State::SayHello,
            Role::Listener => State::AwaitHello,
        };
        Handshake { role, key, state, ours, theirs: [0; HELLO_LEN], refused_user: None }
    }

    /// How long the message is that is due, unless it is a refusal, behind which comes nothing.
    pub(crate) fn due_len(&self) -> usize {
        match (self.state, &self.key) {
            (State::AwaitHello, _) => HELLO_LEN,
            (_, Some(_)) => 1 + MAC_LEN,
            (_, None) => 1,
        }
    }

    /// What is to be done next, with what the peer has said if that was asked for.
    pub(crate) fn next(&mut self, received: Option<&[u8]>) -> Result<Step, AuthError> {
        let step = self.step(received);
        if matches!(step, Err(_) | Ok(Step::Refuse(..))) {
            self.state = State::Failed;
        }
        step
    }

    fn step(&mut self, received: Option<&[u8]>) -> Result<Step, AuthError> {
        match (self.state, received) {
            (State::SayHello, None) => {
                self.state = match self.role {
                    Role::Client => State::AwaitHello,
                    Role::Listener => State::AwaitProof,
                };
                Ok(Step::Send(self.ours.to_vec()))
            }
            (State::AwaitHello, Some(message)) => self.take_hello(message),
            (State::Prove, None) => {
                self.state = State::AwaitWelcome;
                Ok(Step::Send(self.proof(PROOF, CLIENT_LABEL)))
            }
            (State::AwaitProof, Some(message)) => {
                if !self.is_proven(message, PROOF, CLIENT_LABEL)? {
                    return Ok(refuse(Refusal::WrongKey, AuthError::WrongKey));
                }
                self.state = State::Welcome;
                Ok(Step::Send(self.proof(WELCOME, LISTENER_LABEL)))
            }
            (State::AwaitWelcome, Some(message)) => {
                if !self.is_proven(message, WELCOME, LISTENER_LABEL)? {
                    return Err(AuthError::WrongKey);
                }
                self.state = State::Done;
                Ok(Step::Done)
            }
            (State::Welcome, None) => {
                self.state = State::Done;
                Ok(Step::Done)
            }
            (State::AwaitHello | State::AwaitProof | State::AwaitWelcome, None) => Ok(Step::Receive),
            (State::Done, None) => Ok(Step::Done),
            _ => Err(AuthError::Protocol("a message that was not due")),
        }
    }

    fn take_hello(&mut self, message: &[u8]) -> Result<Step, AuthError> {
        if let [REFUSED, code] = *message {
            return Err(self.refused(code));
        }
        let theirs: [u8; HELLO_LEN] =
            message.try_into().map_err(|_| AuthError::Protocol("a hello of another length"))?;
        let [kind, version, role, flags, ..] = theirs;
        if kind != HELLO {
            return Err(AuthError::Protocol("something else than a hello"));
        }
        if version != VERSION {
            return self.fail(Refusal::Version, AuthError::Version(version));
        }
        if role == self.role as u8 || role > 1 {
            return Err(AuthError::Protocol("a hello of the same role: its own one, sent back?"));
        }
        if let Some(user) = self.refused_user {
            return self.fail(Refusal::User, AuthError::User(user));
        }
        if flags & !(KEYED | SHARED_MEMORY) != 0 {
            return Err(AuthError::Protocol("a hello that asks for what this version does not know"));
        }
        match (self.key.is_some(), flags & KEYED != 0) {
            (true, true) | (false, false) => {}
            (true, false) => return self.fail(Refusal::KeyWanted, AuthError::NoKey),
            (false, true) => return self.fail(Refusal::NoKeyHere, AuthError::KeyWanted),
        }
        if flags & SHARED_MEMORY != self.ours[FLAGS] & SHARED_MEMORY {
            return self.fail(Refusal::Carrier, AuthError::Carrier);
        }
        self.theirs = theirs;
        self.state = match self.role {
            Role::Client => State::Prove,
            Role::Listener => State::SayHello,
        };
        self.step(None)
    }

    /// Only a listener says why.
    fn fail(&self, refusal: Refusal, error: AuthError) -> Result<Step, AuthError> {
        match self.role {
            Role::Listener => Ok(refuse(refusal, error)),
            Role::Client => Err(error),
        }
    }

    fn refused(&self, code: u8) -> AuthError {
        match (self.role, Refusal::of(code)) {
            (Role::Client, Refusal::WrongKey) => AuthError::WrongKey,
            (Role::Client, Refusal::KeyWanted) => AuthError::KeyWanted,
            (Role::Client, Refusal::NoKeyHere) => AuthError::NoKey,
            (Role::Client, Refusal::Carrier) => AuthError::Carrier,
            (Role::Client, refusal) => AuthError::Refused(refusal),
            (Role::Listener, _) => AuthError::Protocol("a refusal by a client"),
        }
    }

    fn mac(&self, label: &[u8]) -> Option<Hmac<Sha256>> {
        let (client, listener) = match self.role {
            Role::Client => (&self.ours, &self.theirs),
            Role::Listener => (&self.theirs, &self.ours),
        };
        Some(self.key.as_ref()?.mac(label, client, listener))
    }

    fn proof(&self, kind: u8, label: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        if let Some(mac) = self.mac(label) {
            message.extend_from_slice(&mac.finalize().into_bytes());
        }
        message
    }

    fn is_proven(&self, message: &[u8], kind: u8, label: &[u8]) -> Result<bool, AuthError> {
        if let [REFUSED, code] = *message {
            return Err(self.refused(code));
        }
        let Some((found, proof)) = message.split_first() else {
            return Err(AuthError::Protocol("an empty message"));
        };
        if *found != kind {
            return Err(AuthError::Protocol("something else than a proof"));
        }
        match self.mac(label) {
            Some(mac) if proof.len() == MAC_LEN => Ok(mac.verify_slice(proof).is_ok()),
            None if proof.is_empty() => Ok(true),
            _ => Err(AuthError::Protocol("a proof of another length")),
        }
    }
}

/// What a listener says to somebody whom it does not let in.
pub(crate) fn refuse(refusal: Refusal, error: AuthError) -> Step {
    Step::Refuse(vec![REFUSED, refusal.code()], error)
}

#[cfg(test)]
mod tests;
