//! Values to bytes and back, within [`Limits`].

use serde::{Deserialize, Serialize};

use crate::Limits;

mod budget;
mod decode;
mod encode;
mod error;

pub use error::{DecodeError, EncodeError};

/// Turns values into bytes and back, within [`Limits`]. The format is
/// [postcard](https://docs.rs/postcard)'s: compact, by position, without names.
///
/// # What it does not do
///
/// The bytes do not say what they are. Both ends need the same type, and a type that asks what comes next
/// (`#[serde(untagged)]`, `#[serde(flatten)]`, an internal tag, `skip_serializing_if`) gets an error that
/// says so: send it as a [`Value`](crate::Value), which says what it is.
///
/// ```
/// use ipc_core::Codec;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// struct Job<'a> {
///     id: u64,
///     name: &'a str,
/// }
///
/// let codec = Codec::default();
/// let mut bytes = Vec::new();
/// codec.encode(&Job { id: 7, name: "resize" }, &mut bytes)?;
/// assert_eq!(bytes, b"\x07\x06resize");
///
/// // What is decoded may borrow from the bytes.
/// assert_eq!(codec.decode::<Job>(&bytes)?, Job { id: 7, name: "resize" });
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Codec {
    limits: Limits,
}

/// Out of the way of what is encoded well.
#[cold]
fn take_back(failure: error::EncodeFailure, start: usize, out: &mut Vec<u8>) -> EncodeError {
    out.truncate(start);
    *failure.0
}

impl Codec {
    /// A codec that holds to `limits`.
    ///
    /// ```
    /// # use ipc_core::{Codec, Limits};
    /// const CODEC: Codec = Codec::new(Limits::new().frame_len_max(4096));
    /// assert_eq!(CODEC.limits().frame_len_max, 4096);
    /// ```
    pub const fn new(limits: Limits) -> Self {
        Codec { limits }
    }

    /// The limits that this codec holds to.
    ///
    /// ```
    /// # use ipc_core::{Codec, Limits};
    /// assert_eq!(Codec::default().limits(), &Limits::default());
    /// ```
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Appends the encoding of `value` to `out`.
    ///
    /// Whatever passes here is read by a codec with the same limits, unless it takes more memory than
    /// [`memory_max`](Limits#structfield.memory_max), which is for the receiver to say.
    ///
    /// ```
    /// # use ipc_core::Codec;
    /// let mut out = vec![0xff];
    /// Codec::default().encode(&(1_u8, true, "ab"), &mut out)?;
    /// assert_eq!(out, b"\xff\x01\x01\x02ab");
    /// # Ok::<(), ipc_core::EncodeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`EncodeError`]; `out` is then as long as it was before.
    #[inline]
    pub fn encode<T: Serialize + ?Sized>(&self, value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        match encode::encode(&self.limits, value, out) {
            Ok(()) => Ok(()),
            Err(failure) => Err(take_back(failure, start, out)),
        }
    }

    /// The value that `bytes` encode, all of them.
    ///
    /// ```
    /// # use ipc_core::{Codec, DecodeError, Limits};
    /// assert_eq!(Codec::default().decode(b"\x01\x01\x02ab"), Ok((1_u8, true, "ab")));
    ///
    /// // A message of six bytes that claims to be a list of a million.
    /// let error = Codec::default().decode::<Vec<String>>(b"\xc0\x84\x3d\x01a\x00").unwrap_err();
    /// assert_eq!(error, DecodeError::UnexpectedEnd);
    /// ```
    ///
    /// # Against a hostile sender
    ///
    /// - Arbitrary bytes give an error or a value: no panic, no endless loop. With the default
    ///   [`depth_max`](Limits#structfield.depth_max), a recursive type of up to a kilobyte a level fits
    ///   into a stack of 2 MiB, in a debug build too.
    /// - At no moment does decoding hold more heap than
    ///   [`memory_max`](Limits#structfield.memory_max), and 4 KiB for an error. Every element of a collection is
    ///   charged what it takes in memory, with what its collection needs to grow, before it is decoded;
    ///   strings and bytes are charged twice their length, for the types that copy once more (`Arc<str>`);
    ///   what lies behind a `Box`, `Rc` or `Arc` is charged when its type shows. Lengths in the message
    ///   reserve nothing.
    /// - The reckoning is on the safe side: a legitimate message is charged up to about four times what it
    ///   takes in the end. A `Vec<u64>` of ten million elements fits into the default limits.
    ///
    /// Not seen, and for the author of the receiving type to bear in mind:
    /// - what a `Deserialize` implementation allocates by itself, rather than through serde;
    /// - collections outside of `std` that take more than four times an element and 24 bytes each;
    /// - several pointers around one value, beyond 16 bytes (`Box<Box<Box<Box<u8>>>>`);
    /// - what the allocator needs for itself, and the stack.
    ///
    /// # Errors
    ///
    /// [`DecodeError`].
    #[inline]
    pub fn decode<'de, T: Deserialize<'de>>(&self, bytes: &'de [u8]) -> Result<T, DecodeError> {
        decode::decode(&self.limits, bytes).map_err(|failure| *failure.0)
    }
}
