//! The frames of `multiprocessing.connection`: a state machine without I/O.
//!
//! ```text
//!  | length | payload, `length` bytes …            up to 0x7fffffff bytes
//!  | i32 BE |
//!
//!  | ff ff ff ff | length | payload …              longer (CPython since 3.8)
//!  |             | u64 BE |
//! ```
//!
//! There is no marker, no version and no checksum: a stream out of step is not noticed here.

use ipc_core::{Classify, ErrorKind};

/// The length of the longest header in bytes.
pub const HEADER_LEN_MAX: usize = 12;

/// The longest payload that the short form can announce.
const SHORT_MAX: u64 = 0x7fff_ffff;

/// What is wrong with a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A length below −1, which CPython never sends (and takes for an empty message).
    #[error("a frame of {0} bytes: the other end does not speak the protocol of multiprocessing.connection")]
    Negative(i32),
    /// The payload is longer than this end accepts.
    #[error("a frame of {len} bytes exceeds the limit of {limit}; raise Limits::frame_len_max")]
    TooLong {
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: usize,
    },
}

impl Classify for FrameError {
    fn kind(&self) -> ErrorKind {
        match self {
            FrameError::Negative(_) => ErrorKind::Decode,
            FrameError::TooLong { .. } => ErrorKind::Limit,
        }
    }
}

/// Looks for a header at the beginning of `bytes`, and says how long it is and how long the payload behind it will
/// be: both in bytes. `None` if the header is not complete.
///
/// The long form is taken for short lengths too, as CPython does.
///
/// # Errors
/// [`FrameError::Negative`]; [`FrameError::TooLong`] if the payload is longer than `limit`.
///
/// ```
/// use ipc_socket::python::frame::{FrameError, parse};
///
/// assert_eq!(parse(b"\0\0\0\x05hello", 256), Ok(Some((4, 5))));
/// assert_eq!(parse(b"\0\0", 256), Ok(None));
/// assert_eq!(parse(b"\0\0\x01\x01", 256), Err(FrameError::TooLong { len: 257, limit: 256 }));
/// ```
pub fn parse(bytes: &[u8], limit: usize) -> Result<Option<(usize, usize)>, FrameError> {
    let Some((short, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let (header_len, len) = match i32::from_be_bytes(*short) {
        -1 => match rest.first_chunk() {
            Some(long) => (HEADER_LEN_MAX, u64::from_be_bytes(*long)),
            None => return Ok(None),
        },
        len => (short.len(), u64::try_from(len).map_err(|_| FrameError::Negative(len))?),
    };
    match usize::try_from(len) {
        Ok(len) if len <= limit => Ok(Some((header_len, len))),
        _ => Err(FrameError::TooLong { len, limit }),
    }
}

/// The header of a frame.
///
/// ```
/// use ipc_socket::python::frame::Header;
///
/// assert_eq!(Header::new(5).as_bytes(), [0, 0, 0, 5]);
/// assert_eq!(Header::new(1 << 31).as_bytes(), [255, 255, 255, 255, 0, 0, 0, 0, 128, 0, 0, 0]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; HEADER_LEN_MAX],
    len: usize,
}

impl Header {
    /// The header of a payload of `payload_len` bytes: the short form if it will do, since CPython up to 3.7 knows
    /// no other.
    pub fn new(payload_len: usize) -> Self {
        let long = payload_len as u64;
        let mut bytes = [0; HEADER_LEN_MAX];
        if long <= SHORT_MAX {
            bytes[..4].copy_from_slice(&(long as u32).to_be_bytes());
            Header { bytes, len: 4 }
        } else {
            bytes[..4].fill(0xff);
            bytes[4..].copy_from_slice(&long.to_be_bytes());
            Header { bytes, len: HEADER_LEN_MAX }
        }
    }

    /// The bytes of the header: 4 or 12.
    ///
    /// ```
    /// # use ipc_socket::python::frame::Header;
    /// assert_eq!(Header::new(0).as_bytes(), [0; 4]);
    /// ```
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for len in [0, 1, 255, 256, 16_384, 0x7fff_fffe, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 40] {
            let header = Header::new(len);
            let bytes = header.as_bytes();
            assert_eq!(bytes.len(), if len <= 0x7fff_ffff { 4 } else { 12 }, "{len}");
            assert_eq!(parse(bytes, len), Ok(Some((bytes.len(), len))));
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut], len), Ok(None), "{len} cut at {cut}");
            }
            if let Some(less) = len.checked_sub(1) {
                assert_eq!(parse(bytes, less), Err(FrameError::TooLong { len: len as u64, limit: less }));
            }
        }
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(Header::new(0x1f).as_bytes(), b"\x00\x00\x00\x1f");
        assert_eq!(Header::new(0x7fff_ffff).as_bytes(), b"\x7f\xff\xff\xff");
        assert_eq!(Header::new(0x8000_0000).as_bytes(), b"\xff\xff\xff\xff\x00\x00\x00\x00\x80\x00\x00\x00");
    }

    #[test]
    fn the_long_form_of_a_short_length_is_taken() {
        assert_eq!(parse(b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x03abc", 3), Ok(Some((12, 3))));
    }

    #[test]
    fn lengths_below_minus_one_are_refused() {
        for len in [-2, -3, -256, i32::MIN] {
            assert_eq!(parse(&len.to_be_bytes(), usize::MAX), Err(FrameError::Negative(len)));
        }
    }

    #[test]
    fn no_length_is_too_long_to_be_refused() {
        let header = [0xff; HEADER_LEN_MAX];
        assert_eq!(parse(&header, 1 << 26), Err(FrameError::TooLong { len: u64::MAX, limit: 1 << 26 }));
    }
}
