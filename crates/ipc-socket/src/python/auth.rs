//! The challenges by which both ends of a connection show each other that they know the same key: a state machine
//! without I/O.
//!
//! Listener and client exchange six messages, each at most [`MESSAGE_LEN_MAX`] bytes, in this order:
//!
//! ```text
//!  listener                                             client
//!  "#CHALLENGE#" M, with M = "{sha256}" + 40 random bytes →
//!                              ← "{sha256}" HMAC-SHA-256(key, M)
//!  "#WELCOME#" or "#FAILURE#"                            →
//!                              ← "#CHALLENGE#" M'
//!  "{sha256}" HMAC-SHA-256(key, M')                      →
//!                              ← "#WELCOME#" or "#FAILURE#"
//! ```
//!
//! CPython up to 3.11 knows HMAC-MD5 alone: it answers any challenge with the 16 bytes of that, and its own challenge
//! is of 20 random bytes. This is refused unless [`allow_legacy_md5`](Options::allow_legacy_md5) is set.
//!
//! # What this does not protect against
//!
//! The protocol is CPython's, and these are properties of it:
//!
//! - **Nothing is encrypted, and nothing that follows is authenticated.** Who can write into the connection can say
//!   anything once the challenges are over. Where the peer's user can be asked for (on a Unix socket), ask.
//! - **A challenge does not say who asks.** Neither the role nor the connection goes into an answer. So somebody
//!   without the key who can have a client connect to him (at an address that he took, say) and can connect to the
//!   listener himself passes each challenge on to the other side, and has an authenticated connection to both of them
//!   at the end: also if client and listener are the same process with the same key. No end can notice that. It
//!   helps that nobody else can listen at an address (a directory of one's own), and that nobody else can connect to
//!   it.
//! - **The client answers first**, and whoever listens chooses what it computes a digest of. With `allow_legacy_md5`
//!   he has HMAC-MD5 computed, and with it can try keys out at home. A key should be 32 random bytes.
//!
//! What can be done is done: a listener answers nothing before the client has shown that it knows the key, and an end
//! does not answer the challenge that it has sent on the same connection ([`AuthError::Reflected`]).

use std::{fmt, io, mem};

use ipc_core::{Classify, ErrorKind};

use digest::Digest;

mod digest;

/// The longest message, in bytes; a longer one is an error, and should not even be received.
pub const MESSAGE_LEN_MAX: usize = 256;

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";

/// The digest that we ask for.
const OURS: &[u8] = b"{sha256}";
/// How many random bytes follow it.
const NONCE_LEN: usize = 40;
/// A challenge of this length comes from CPython up to 3.11. None is shorter.
const LEGACY_LEN: usize = 20;

/// What is accepted of a peer.
///
/// ```
/// use ipc_socket::python::auth::Options;
///
/// let options = Options::new().allow_legacy_md5(true);
/// assert_ne!(options, Options::default());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    allow_legacy_md5: bool,
}

impl Options {
    /// SHA-2 and SHA-3, but not MD5.
    pub const fn new() -> Self {
        Options { allow_legacy_md5: false }
    }

    /// Whether HMAC-MD5 will do in both directions, which is all that CPython up to 3.11 knows.
    #[must_use]
    pub const fn allow_legacy_md5(mut self, allow: bool) -> Self {
        self.allow_legacy_md5 = allow;
        self
    }
}

/// What an [`Auth`] wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this message, and ask again with `None`.
    Send(Vec<u8>),
    /// Receive a message, and ask again with it.
    Receive,
    /// Both ends know the key. What is received from now on is for the program.
    Done,
}

/// One end of the exchange.
///
/// ```
/// use ipc_socket::python::auth::{Auth, AuthError, Options, Step};
///
/// /// What one end has to say after it was told something.
/// fn turn(end: &mut Auth, mut heard: Option<Vec<u8>>) -> Result<Vec<Vec<u8>>, AuthError> {
///     let mut said = Vec::new();
///     loop {
///         match end.next(heard.take().as_deref())? {
///             Step::Send(message) => said.push(message),
///             Step::Receive | Step::Done => return Ok(said),
///         }
///     }
/// }
///
/// let mut listener = Auth::listener(b"secret", Options::new());
/// let mut client = Auth::client(b"secret", Options::new());
/// turn(&mut client, None)?;
/// let mut from_listener = turn(&mut listener, None)?;
/// while !(listener.is_done() && client.is_done()) {
///     let mut from_client = Vec::new();
///     for message in from_listener.drain(..) {
///         from_client.extend(turn(&mut client, Some(message))?);
///     }
///     for message in from_client {
///         from_listener.extend(turn(&mut listener, Some(message))?);
///     }
/// }
/// # Ok::<(), AuthError>(())
/// ```
pub struct Auth {
    key: Vec<u8>,
    options: Options,
    role: Role,
    state: State,
    /// The challenge that we have sent, without what stands in front of every challenge.
    sent: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Listener,
    Client,
}

/// What comes next.
#[derive(Debug)]
enum State {
    SendChallenge,
    ReceiveAnswer,
    ReceiveChallenge,
    ReceiveVerdict,
    /// The peer has been told that it failed; this is why.
    Fail(AuthError),
    Done,
    Failed,
}

impl Auth {
    /// The end of the one who listens. The key may be empty, which protects against nothing.
    pub fn listener(key: &[u8], options: Options) -> Self {
        Auth::new(key, options, Role::Listener, State::SendChallenge)
    }

    /// The end of the one who connects.
    pub fn client(key: &[u8], options: Options) -> Self {
        Auth::new(key, options, Role::Client, State::ReceiveChallenge)
    }

    fn new(key: &[u8], options: Options, role: Role, state: State) -> Self {
        Auth { key: key.to_vec(), options, role, state, sent: None }
    }

    /// Whether both ends know the key.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Says what to do next. `received` is the message that [`Step::Receive`] asked for, and `None` at all other
    /// times: without it [`Step::Receive`] is asked for again.
    ///
    /// # Errors
    /// Each variant of [`AuthError`]. The connection is of no use any more then: close it, and tell the peer nothing
    /// more than has been sent.
    pub fn next(&mut self, received: Option<&[u8]>) -> Result<Step, AuthError> {
        // An error leaves it failed; what goes on says how.
        match (mem::replace(&mut self.state, State::Failed), received) {
            (_, Some(message)) if message.len() > MESSAGE_LEN_MAX => {
                Err(AuthError::TooLong { len: message.len() })
            }
            (State::SendChallenge, None) => {
                let mut nonce = [0; NONCE_LEN];
                getrandom::fill(&mut nonce).map_err(|error| AuthError::Random(random(error)))?;
                Ok(self.challenge(&nonce))
            }
            (State::ReceiveAnswer, Some(answer)) => Ok(self.judge(answer)),
            (State::ReceiveChallenge, Some(message)) => self.answer(message),
            (State::ReceiveVerdict, Some(verdict)) => self.accept(verdict),
            (state @ (State::ReceiveAnswer | State::ReceiveChallenge | State::ReceiveVerdict), None) => {
                self.state = state;
                Ok(Step::Receive)
            }
            (State::Fail(error), None) => Err(error),
            (State::Done, None) => {
                self.state = State::Done;
                Ok(Step::Done)
            }
            (State::SendChallenge | State::Fail(_) | State::Done, Some(_)) | (State::Failed, _) => {
                Err(AuthError::OutOfTurn)
            }
        }
    }

    /// Sends a challenge.
    fn challenge(&mut self, nonce: &[u8]) -> Step {
        let challenge = [OURS, nonce].concat();
        let message = [CHALLENGE, &challenge].concat();
        self.sent = Some(challenge);
        self.state = State::ReceiveAnswer;
        Step::Send(message)
    }

    /// Looks at the answer to our challenge, and tells the peer what it thinks of it.
    fn judge(&mut self, answer: &[u8]) -> Step {
        let verdict = match self.check(answer) {
            Ok(()) => {
                self.state = match self.role {
                    Role::Listener => State::ReceiveChallenge,
                    Role::Client => State::Done,
                };
                WELCOME
            }
            Err(error) => {
                self.state = State::Fail(error);
                FAILURE
            }
        };
        Step::Send(verdict.to_vec())
    }

    fn check(&self, answer: &[u8]) -> Result<(), AuthError> {
        // An answer of these lengths is a bare digest; all others say which one they are.
        let (digest, mac) = match answer.len() {
            Digest::MD5_LEN | LEGACY_LEN => (Digest::Md5, answer),
            _ => Digest::named(answer)?,
        };
        self.allow(digest)?;
        match &self.sent {
            Some(sent) if digest.verify(&self.key, sent, mac) => Ok(()),
            _ => Err(AuthError::WrongKey),
        }
    }

    /// Answers the peer's challenge.
    fn answer(&mut self, message: &[u8]) -> Result<Step, AuthError> {
        let challenge = message.strip_prefix(CHALLENGE).ok_or(AuthError::NotChallenged)?;
        if challenge.len() < LEGACY_LEN {
            return Err(AuthError::NotChallenged);
        }
        if self.sent.as_deref() == Some(challenge) {
            return Err(AuthError::Reflected);
        }
        let answer = if challenge.len() == LEGACY_LEN {
            self.allow(Digest::Md5)?;
            Digest::Md5.mac(&self.key, challenge)
        } else {
            let (digest, _) = Digest::named(challenge)?;
            self.allow(digest)?;
            let mut answer = digest.prefix().to_vec();
            answer.extend(digest.mac(&self.key, challenge));
            answer
        };
        self.state = State::ReceiveVerdict;
        Ok(Step::Send(answer))
    }

    /// Takes what the peer thinks of our answer.
    fn accept(&mut self, verdict: &[u8]) -> Result<Step, AuthError> {
        match verdict {
            WELCOME => match self.role {
                Role::Client => {
                    self.state = State::SendChallenge;
                    self.next(None)
                }
                Role::Listener => {
                    self.state = State::Done;
                    Ok(Step::Done)
                }
            },
            FAILURE => Err(AuthError::Rejected),
            _ => Err(AuthError::NotWelcomed),
        }
    }

    fn allow(&self, digest: Digest) -> Result<(), AuthError> {
        if digest == Digest::Md5 && !self.options.allow_legacy_md5 {
            return Err(AuthError::LegacyRefused);
        }
        Ok(())
    }
}

/// Without the key.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("options", &self.options)
            .field("role", &self.role)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Why the two ends do not talk to each other.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The peer does not know our key. It has been told.
    #[error("the peer's key is another one")]
    WrongKey,
    /// The peer says that our key is not the right one.
    #[error("the peer rejected our key")]
    Rejected,
    /// The peer uses MD5, as CPython up to 3.11 does, and that is not allowed here.
    #[error("the peer wants HMAC-MD5, as CPython up to 3.11 does: refused unless allow_legacy_md5 is set")]
    LegacyRefused,
    /// The peer uses a digest that is not known here, or none at all.
    #[error("the peer uses the digest {name:?}; md5, sha256, sha384, sha3_256 and sha3_384 are known")]
    UnsupportedDigest {
        /// Its name; empty if the peer named none.
        name: String,
    },
    /// The peer sent something else where its challenge should have been.
    #[error("not a challenge of multiprocessing.connection: does the other end use a key at all?")]
    NotChallenged,
    /// The peer sent something else where it should have said what it thinks of our answer.
    #[error("neither #WELCOME# nor #FAILURE# from the peer")]
    NotWelcomed,
    /// The peer sent our own challenge back to us.
    #[error("the peer sent back our own challenge")]
    Reflected,
    /// A message is longer than any of this protocol.
    #[error("a message of {len} bytes before the peer is authenticated, where {MESSAGE_LEN_MAX} are allowed")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A message was passed in that was not asked for, or there has been an error before.
    #[error("a message was received out of turn, or after an error")]
    OutOfTurn,
    /// The operating system has no random bytes.
    #[error("no random bytes for a challenge")]
    Random(#[source] io::Error),
}

impl Classify for AuthError {
    fn kind(&self) -> ErrorKind {
        match self {
            AuthError::WrongKey | AuthError::Rejected | AuthError::LegacyRefused | AuthError::Reflected => {
                ErrorKind::PermissionDenied
            }
            AuthError::UnsupportedDigest { .. } => ErrorKind::Unsupported,
            AuthError::NotChallenged | AuthError::NotWelcomed => ErrorKind::Decode,
            AuthError::TooLong { .. } => ErrorKind::Limit,
            AuthError::OutOfTurn => ErrorKind::InvalidInput,
            AuthError::Random(error) => ErrorKind::of_io(error),
        }
    }
}

fn random(error: getrandom::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
