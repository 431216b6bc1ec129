//! What a carrier of messages does, and what can go wrong on one.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use serde::{Serialize, de::DeserializeOwned};

use crate::codec::{Codec, DecodeError, EncodeError};
use crate::error::{Classify, ErrorKind};
use crate::fingerprint::Mismatch;
use crate::frame::{FrameError, FrameKind, Header};
use crate::handle;

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nobody can receive any more: the other end was closed, or its process has ended.
    #[error("the receiving end is gone")]
    Disconnected,
    /// There is no room now, and nothing of the message has gone out.
    #[error("there is no room for the message now; nothing of it was sent")]
    Full,
    /// The time was over before there was room; nothing of the message has gone out.
    #[error("there was no room for the message in time; nothing of it was sent")]
    Timeout,
    /// Some of the message has gone out. The rest is kept here and goes first, with the next send or `flush`: do not
    /// send the message again.
    #[error(
        "the message has begun to go out, {left} bytes of it are kept and go first; do not send it again"
    )]
    Begun {
        /// How many bytes are still to go.
        left: usize,
    },
    /// The message could not be encoded; nothing was sent.
    #[error("the message could not be encoded")]
    Encode(#[from] EncodeError),
    /// The message exceeds a limit of frames; nothing was sent.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The message is too long for a writer that shares a FIFO with others; nothing was sent.
    #[error(
        "a message of {len} bytes exceeds the {limit} that a shared FIFO writer may send; open an exclusive one"
    )]
    TooLongToShare {
        /// Its encoded length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The message holds handles, and this carrier cannot move descriptors; nothing was sent.
    #[error("{carrier} cannot move handles ({count} in the message); send it through {instead}")]
    Handles {
        /// The carrier, for the message.
        carrier: &'static str,
        /// How many descriptors the message holds.
        count: usize,
        /// The carriers that can.
        instead: &'static str,
    },
    /// This end was moved to another process inside a message, or closed.
    #[error("this end was moved to another process")]
    Moved,
    /// The message is longer than all that the queue sets aside for messages; nothing was sent.
    #[error(
        "a message of {len} bytes can never fit into a queue of {capacity}; make the queue with more bytes"
    )]
    TooLarge {
        /// Its encoded length in bytes.
        len: usize,
        /// What the queue holds in bytes.
        capacity: usize,
    },
    /// Nobody else has the channel, neither another process nor another thread, and so nobody could ever make room.
    #[error("nobody else has this channel who could make room")]
    Abandoned,
    /// The message could not be encoded as the other end wants it; nothing was sent.
    #[error("the message could not be encoded as {format}")]
    Foreign {
        /// What the other end reads.
        format: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system reported something else.
    #[error("sending failed")]
    Io(#[source] io::Error),
}

impl SendError {
    /// Sorts an error of the system: a gone reader is [`SendError::Disconnected`].
    pub fn from_io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected => SendError::Disconnected,
            kind if is_lost(kind) => SendError::Disconnected,
            _ => SendError::Io(error),
        }
    }
}

/// Whether that says, of a connection, that the peer is gone: it has closed with something unread, or its machine answers no
/// more (which is no time-out of a call: those are told otherwise).
pub fn is_lost(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        kind,
        Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
    )
}

impl Classify for SendError {
    fn kind(&self) -> ErrorKind {
        match self {
            SendError::Disconnected => ErrorKind::Disconnected,
            SendError::Full => ErrorKind::Full,
            SendError::Timeout | SendError::Begun { .. } => ErrorKind::Timeout,
            SendError::Encode(error) => error.kind(),
            SendError::Frame(error) => error.kind(),
            SendError::TooLongToShare { .. } | SendError::TooLarge { .. } => ErrorKind::Limit,
            SendError::Handles { .. } => ErrorKind::Unsupported,
            SendError::Moved => ErrorKind::Moved,
            SendError::Abandoned => ErrorKind::Abandoned,
            SendError::Foreign { .. } => ErrorKind::Encode,
            SendError::Io(error) => ErrorKind::of_io(error),
        }
    }
}

/// Not all of several messages were sent.
#[derive(Debug, thiserror::Error)]
#[error("message {sent} of the batch was not sent")]
pub struct SendAllError {
    /// How many messages were taken before the one that failed. When the receiver is gone, some of these may not have
    /// reached it.
    pub sent: usize,
    /// Why.
    pub source: SendError,
}

impl Classify for SendAllError {
    fn kind(&self) -> ErrorKind {
        self.source.kind()
    }
}

/// Why no message was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// All messages were taken and nobody can send any more: the other end was closed, or its process has ended.
    #[error("the sending end is gone")]
    Disconnected,
    /// The other end went away in the middle of a message.
    #[error("the sending end went away in the middle of a message ({missing} bytes are missing)")]
    Truncated {
        /// How many bytes were still to come, as far as is known.
        missing: usize,
    },
    /// Nobody has opened the sending end so far.
    #[error("nobody has opened the sending end yet")]
    NotConnected,
    /// There is no message now.
    #[error("there is no message now")]
    Empty,
    /// No message came in time.
    #[error("no message came in time")]
    Timeout,
    /// The message could not be decoded. It is gone; the ones after it are not.
    #[error("a message could not be decoded")]
    Decode(#[from] DecodeError),
    /// The stream is no stream of frames, or a frame exceeds a limit; no further message can be had from it.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The message is longer than the buffer for it: here it is, whole.
    #[error("a message of {} bytes is longer than the buffer of {capacity}", message.len())]
    TooSmall {
        /// The message.
        message: Vec<u8>,
        /// The room there was for it.
        capacity: usize,
    },
    /// The next frame is of the other kind: encoded where bytes are wanted, or the reverse. It stays to be received.
    #[error("the next message was sent by `{sent}`, receive it with `{receive}`")]
    WrongKind {
        /// How it was sent.
        sent: &'static str,
        /// How it can be received.
        receive: &'static str,
    },
    /// A frame came without all the descriptors that it announced: the sender is broken or hostile.
    #[error("a message announced {announced} descriptors, {arrived} came with it")]
    MissingHandles {
        /// How many the header says.
        announced: usize,
        /// How many there were.
        arrived: usize,
    },
    /// The two ends disagree on the structure of the messages.
    #[error(transparent)]
    Mismatch(#[from] Box<Mismatch>),
    /// This end was moved to another process inside a message, or closed.
    #[error("this end was moved to another process")]
    Moved,
    /// Nobody else has the channel, neither another process nor another thread, and so nobody could ever send.
    #[error("nobody else has this channel who could send")]
    Abandoned,
    /// The message is not what it should be in the format of the other end. It is gone; the ones after it are not.
    #[error("a message could not be decoded from {format}")]
    Foreign {
        /// What the other end writes.
        format: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system reported something else.
    #[error("receiving failed")]
    Io(#[source] io::Error),
}

impl RecvError {
    /// The error for a frame of kind `found` where the other one was wanted.
    pub fn wrong_kind(found: FrameKind) -> Self {
        match found {
            FrameKind::Message => RecvError::WrongKind { sent: "send", receive: "recv" },
            FrameKind::Control => {
                let header = Header { payload_len: 0, handles: 0, kind: found };
                RecvError::Frame(FrameError::NotAFrame(header.to_bytes()))
            }
            FrameKind::Bytes => RecvError::WrongKind { sent: "send_bytes", receive: "recv_bytes" },
        }
    }
}

impl Classify for RecvError {
    fn kind(&self) -> ErrorKind {
        match self {
            RecvError::Disconnected => ErrorKind::Disconnected,
            RecvError::Truncated { .. } => ErrorKind::Truncated,
            RecvError::NotConnected => ErrorKind::NotConnected,
            RecvError::Empty => ErrorKind::Empty,
            RecvError::Timeout => ErrorKind::Timeout,
            RecvError::Decode(error) => error.kind(),
            RecvError::Frame(error) => error.kind(),
            RecvError::TooSmall { .. } => ErrorKind::Limit,
            RecvError::WrongKind { .. } | RecvError::MissingHandles { .. } => ErrorKind::Decode,
            RecvError::Mismatch(_) => ErrorKind::Mismatch,
            RecvError::Moved => ErrorKind::Moved,
            RecvError::Abandoned => ErrorKind::Abandoned,
            RecvError::Foreign { .. } => ErrorKind::Decode,
            RecvError::Io(error) => ErrorKind::of_io(error),
        }
    }
}

/// What a carrier can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Descriptors travel with messages.
    pub moves_handles: bool,
    /// Both ends are on this machine.
    pub local: bool,
}

impl Capabilities {
    /// A carrier between processes of this machine.
    pub fn local(moves_handles: bool) -> Self {
        Capabilities { moves_handles, local: true }
    }

    /// A carrier that may lead to another machine, and so moves no handles.
    pub fn remote() -> Self {
        Capabilities { moves_handles: false, local: false }
    }
}

/// A frame as it was received; keep one and pass it again, so that its memory is used again.
#[derive(Debug, Default)]
pub struct Frame {
    /// What the payload is; `None` before the first frame.
    pub kind: Option<FrameKind>,
    /// The payload.
    pub payload: Vec<u8>,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// A carrier of frames in both directions. The two directions are independent: one thread may send while another
/// receives, both through `&self`, and threads that do the same take turns.
///
/// - *Ordering*: frames arrive in the order in which their sends began.
/// - *Delivery*: a send that returned `Ok` has handed the whole frame to the kernel or to shared memory.
/// - *Blocking*: until `deadline`; `None` is for ever, a time that has passed is a look without waiting.
/// - *Death of the peer*: `Disconnected` once everything that had arrived is taken; `Truncated` in mid-frame.
///
/// A carrier that can be waited for beside others implements `ipc_os::Waitable` too.
pub trait Channel: Send + Sync {
    /// What this carrier can do.
    fn capabilities(&self) -> Capabilities;

    /// Sends one frame whose payload is the concatenation of `parts`.
    ///
    /// # Errors
    /// [`SendError::Timeout`] when the deadline passed before anything went out, [`SendError::Begun`] after;
    /// [`SendError::Handles`] where descriptors cannot travel; and the rest of [`SendError`].
    fn send_frame(
        &self,
        kind: FrameKind,
        parts: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
        deadline: Option<Instant>,
    ) -> Result<(), SendError>;

    /// Puts out the rest of a frame that has [begun](SendError::Begun), if there is one.
    ///
    /// # Errors
    /// [`SendError::Begun`] when some of it is still left at the deadline; [`SendError::Timeout`] when another thread
    /// was sending until then; and the rest of [`SendError`].
    fn flush(&self, deadline: Option<Instant>) -> Result<(), SendError>;

    /// Receives one frame into `frame`, replacing what was in it.
    ///
    /// # Errors
    /// [`RecvError::Timeout`] when no whole frame came before the deadline (what came of it stays), and the rest of
    /// [`RecvError`].
    fn recv_frame(&self, frame: &mut Frame, deadline: Option<Instant>) -> Result<(), RecvError>;
}

/// Encodes `message`, handles included, and sends it through any carrier.
///
/// # Errors
/// As [`Channel::send_frame`], and [`SendError::Encode`].
pub fn send_message<T: Serialize + ?Sized>(
    channel: &(impl Channel + ?Sized),
    codec: &Codec,
    message: &T,
    deadline: Option<Instant>,
) -> Result<(), SendError> {
    use std::os::fd::AsFd;
    let mut payload = Vec::new();
    let ((), handles) = handle::outgoing(|| codec.encode(message, &mut payload))?;
    let descriptors: Vec<_> = handles.descriptors().iter().map(|fd| fd.as_fd()).collect();
    let sent = channel.send_frame(FrameKind::Message, &[&payload], &descriptors, deadline);
    drop(descriptors);
    // A frame that has begun will arrive whole, so what it carries has moved.
    if matches!(sent, Ok(()) | Err(SendError::Begun { .. })) {
        handles.commit();
    }
    sent
}

/// Receives a message, handles included, from any carrier.
///
/// # Errors
/// As [`Channel::recv_frame`], [`RecvError::Decode`], and [`RecvError::WrongKind`] for bytes (which are lost).
pub fn recv_message<T: DeserializeOwned>(
    channel: &(impl Channel + ?Sized),
    codec: &Codec,
    deadline: Option<Instant>,
) -> Result<T, RecvError> {
    let mut frame = Frame::default();
    channel.recv_frame(&mut frame, deadline)?;
    match frame.kind {
        Some(FrameKind::Message) => {
            Ok(handle::incoming(frame.descriptors.drain(..), || codec.decode(&frame.payload))?)
        }
        _ => Err(RecvError::wrong_kind(FrameKind::Bytes)),
    }
}
