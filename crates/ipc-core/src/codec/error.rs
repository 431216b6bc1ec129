//! Why a value could not be encoded, or bytes not be decoded.

use std::fmt::{self, Write as _};

use crate::error::{Classify, ErrorKind};

/// How much of a message from a `Deserialize` implementation is kept. Such messages quote the input
/// (`invalid value: string "…"`), and the input may be many megabytes long.
const MESSAGE_LEN_MAX: usize = 1024;

/// A value could not be encoded. Nothing has been sent.
///
/// ```
/// use ipc_core::{Codec, EncodeError, Limits};
///
/// let codec = Codec::new(Limits::new().frame_len_max(16));
/// let error = codec.encode("more than sixteen bytes", &mut Vec::new()).unwrap_err();
/// assert!(matches!(error, EncodeError::TooLong { limit: 16, .. }));
/// assert!(error.to_string().contains("frame_len_max"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The encoding is longer than [`Limits::frame_len_max`](crate::Limits#structfield.frame_len_max).
    #[error(
        "the message takes {len_at_least} bytes or more, and the limit is {limit}: \
         raise `Limits::frame_len_max` at both ends, or send it in parts"
    )]
    TooLong {
        /// How long the encoding had become when it was given up.
        len_at_least: usize,
        /// The limit.
        limit: usize,
    },
    /// The value nests deeper than [`Limits::depth_max`](crate::Limits#structfield.depth_max).
    #[error("the message nests deeper than {limit} levels: raise `Limits::depth_max` at both ends")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A sequence or map did not say beforehand how many elements it has. `#[serde(flatten)]` does this.
    #[error(
        "a sequence or map does not know its length beforehand (as with `#[serde(flatten)]`), and the \
         binary encoding has to: collect it first, or send `ipc_core::to_value(&it)`"
    )]
    UnknownLength,
    /// A sequence or map had more or fewer elements than its `Serialize` implementation had announced.
    #[error(
        "a sequence or map announced {announced} elements and wrote {written}: its `Serialize` is at fault"
    )]
    WrongLength {
        /// How many there should have been.
        announced: usize,
        /// How many there were when this was noticed.
        written: usize,
    },
    /// `#[serde(skip_serializing_if)]` left a field out, and in the binary encoding fields go by position.
    #[error(
        "the field `{field}` was left out by `skip_serializing_if`, and the binary encoding tells fields \
         by their position: remove the attribute, or send `ipc_core::to_value(&it)`"
    )]
    SkippedField {
        /// The name of the field.
        field: &'static str,
    },
    /// A `Serialize` implementation refused, with this message.
    #[error("{0}")]
    Custom(String),
}

impl Classify for EncodeError {
    fn kind(&self) -> ErrorKind {
        match self {
            EncodeError::TooLong { .. } | EncodeError::TooDeep { .. } => ErrorKind::Limit,
            _ => ErrorKind::Encode,
        }
    }
}

/// Bytes could not be decoded as the type asked for.
///
/// ```
/// use ipc_core::{Codec, DecodeError};
///
/// let error = Codec::default().decode::<(u8, u8)>(&[1]).unwrap_err();
/// assert_eq!(error, DecodeError::UnexpectedEnd);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message is longer than [`Limits::frame_len_max`](crate::Limits#structfield.frame_len_max).
    #[error("the message takes {len} bytes, and the limit is {limit}: raise `Limits::frame_len_max`")]
    FrameTooLong {
        /// The length of the message.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The value was complete before the message was: the two ends disagree on the type.
    #[error("{count} bytes are left over at the end of the message: the ends disagree on its type")]
    TrailingBytes {
        /// How many bytes are left.
        count: usize,
    },
    /// The message ends in the middle of the value.
    #[error("the message ends in the middle of a value: it was cut, or the ends disagree on its type")]
    UnexpectedEnd,
    /// The value nests deeper than [`Limits::depth_max`](crate::Limits#structfield.depth_max).
    #[error("the message nests deeper than {limit} levels: raise `Limits::depth_max`")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// The value takes more memory than [`Limits::memory_max`](crate::Limits#structfield.memory_max).
    #[error(
        "decoding the message takes {needed_at_least} bytes of memory or more, and the limit is {limit}: \
         raise `Limits::memory_max`"
    )]
    TooMuchMemory {
        /// How much it would have come to when it was given up.
        needed_at_least: usize,
        /// The limit.
        limit: usize,
    },
    /// The type wants to be told by the message what comes next (`#[serde(untagged)]`, `flatten`,
    /// internally tagged enums, `IgnoredAny`), which the binary encoding does not say.
    #[error(
        "the type asks the message what comes next (untagged, flatten, an internal tag), which the binary \
         encoding does not say: send `ipc_core::to_value(&it)` and read it with `ipc_core::from_value`"
    )]
    NotSelfDescribing,
    /// The bytes are not an encoding of the type, or a `Deserialize` implementation refused them, with this
    /// message.
    #[error("{0}")]
    Invalid(String),
}

impl Classify for DecodeError {
    fn kind(&self) -> ErrorKind {
        match self {
            DecodeError::FrameTooLong { .. }
            | DecodeError::TooDeep { .. }
            | DecodeError::TooMuchMemory { .. } => ErrorKind::Limit,
            _ => ErrorKind::Decode,
        }
    }
}

/// An [`EncodeError`] on its way up through serde: one word, so that the way on which nothing fails stays
/// in registers.
#[derive(Debug)]
pub(super) struct EncodeFailure(pub(super) Box<EncodeError>);

/// A [`DecodeError`] on its way up through serde, in one word likewise.
#[derive(Debug)]
pub(super) struct DecodeFailure(pub(super) Box<DecodeError>);

impl From<EncodeError> for EncodeFailure {
    #[cold]
    fn from(error: EncodeError) -> Self {
        EncodeFailure(Box::new(error))
    }
}

impl From<DecodeError> for DecodeFailure {
    #[cold]
    fn from(error: DecodeError) -> Self {
        DecodeFailure(Box::new(error))
    }
}

impl From<postcard::Error> for DecodeFailure {
    #[cold]
    fn from(error: postcard::Error) -> Self {
        let what = match error {
            postcard::Error::DeserializeUnexpectedEnd => return DecodeError::UnexpectedEnd.into(),
            postcard::Error::WontImplement => return DecodeError::NotSelfDescribing.into(),
            postcard::Error::DeserializeBadVarint => "a number is too large for its type",
            postcard::Error::DeserializeBadBool => "a bool is neither 0 nor 1",
            postcard::Error::DeserializeBadChar => "a char is not a Unicode scalar value",
            postcard::Error::DeserializeBadUtf8 => "a string is not UTF-8",
            postcard::Error::DeserializeBadOption => "an Option is neither None (0) nor Some (1)",
            _ => return DecodeError::Invalid(format!("invalid message: {error}")).into(),
        };
        DecodeError::Invalid(format!("invalid message: {what}")).into()
    }
}

impl serde::ser::Error for EncodeFailure {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        EncodeError::Custom(message.to_string()).into()
    }
}

impl serde::de::Error for DecodeFailure {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        let mut text = Bounded(String::new());
        // The error says that the text was cut, which is what is wanted.
        let _ = write!(text, "{message}");
        DecodeError::Invalid(text.0).into()
    }
}

/// Keeps the beginning of what is written to it.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let room = MESSAGE_LEN_MAX.saturating_sub(self.0.len());
        if piece.len() <= room {
            self.0.push_str(piece);
            return Ok(());
        }
        // The last three bytes of the room are for the ellipsis, and those before it may have been used.
        let kept = piece.floor_char_boundary(room.saturating_sub('…'.len_utf8()));
        self.0.push_str(&piece[..kept]);
        self.0.push('…');
        Err(fmt::Error)
    }
}

impl fmt::Display for EncodeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for DecodeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for EncodeFailure {}

impl std::error::Error for DecodeFailure {}
