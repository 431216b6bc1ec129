#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod channel;
mod codec;
// For other crates' values that say what they are: no part of what users see.
#[doc(hidden)]
pub mod dynamic;
mod error;
mod fd;
pub mod fingerprint;
pub mod frame;
pub mod handle;
mod limits;
mod value;

pub use channel::{Channel, RecvError, SendAllError, SendError};
pub use codec::{Codec, DecodeError, EncodeError};
pub use error::{Classify, Error, ErrorKind};
pub use fd::Fd;
pub use fingerprint::{Fingerprint, Mismatch, Schema};
pub use frame::FrameError;
pub use limits::Limits;
pub use value::{Value, ValueError, from_value, to_value};
