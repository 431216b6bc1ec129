//! Why a pickle was refused.

use ipc_core::{Classify, ErrorKind};

use super::super::bigint::DIGITS_MAX;

/// A pickle could not be read.
///
/// ```
/// use ipc_core::Limits;
/// use ipc_socket::python::pickle::{PickleError, decode};
///
/// // What `pickle.loads` would run `os.system("true")` for.
/// let error = decode(b"cos\nsystem\n(S'true'\ntR.", &Limits::default()).unwrap_err();
/// assert_eq!(error, PickleError::Global { module: "os".into(), name: "system".into() });
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// It ends too early.
    #[error("the pickle ends too early")]
    Truncated,
    /// There is more behind its end.
    #[error("{len} bytes too many behind the end of the pickle")]
    Trailing {
        /// How many bytes.
        len: usize,
    },
    /// A protocol that is yet to be invented.
    #[error("pickle protocol {0} is not known; up to 5 are")]
    Protocol(u8),
    /// An opcode that plain data does not need.
    #[error(
        "the pickle contains the opcode {name} (0x{opcode:02x}, at {at}), which is not for plain data: None, \
         bool, int, float, str, bytes, list, tuple, dict, set and frozenset are read"
    )]
    Opcode {
        /// Its name in Python's module `pickletools`, or `?`.
        name: &'static str,
        /// The opcode itself.
        opcode: u8,
        /// Where it is.
        at: usize,
    },
    /// The name of a class or function that plain data does not need. Nothing was imported or called.
    #[error(
        "the pickle refers to {module}.{name}, which is not plain data: None, bool, int, float, str, bytes, list, \
         tuple, dict, set and frozenset are read"
    )]
    Global {
        /// Its module; cut off after 64 characters.
        module: String,
        /// Its name; cut off after 64 characters.
        name: String,
    },
    /// A call of one of the few known functions, but with arguments that make no plain data of it.
    #[error("the pickle calls {0} with other arguments than CPython's pickler writes")]
    Call(&'static str),
    /// It is not what a pickler writes.
    #[error("not a pickle ({what}, at {at})")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// It refers to something that it never noted.
    #[error("the pickle refers to number {0} of its memo, where there is nothing")]
    Memo(u32),
    /// A `str` that is none in Rust: with surrogates, as Python makes them of file names that are not text, or, from
    /// Python 2, with bytes beyond ASCII.
    #[error("a str in the pickle is not Unicode text (surrogates, or bytes that are not UTF-8, at {at})")]
    NotText {
        /// Where.
        at: usize,
    },
    /// A key of a dict or element of a set that is or contains a list, dict or set, which Python does not allow.
    #[error("a key of a dict or element of a set is not hashable in Python")]
    Unhashable,
    /// Something in it contains itself.
    #[error("something in the pickle contains itself")]
    SelfReference,
    /// It nests too deep.
    #[error("the pickle nests deeper than {limit} levels; raise Limits::depth_max")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// It would take too much memory.
    #[error("the pickle takes more than {limit} bytes of memory; raise Limits::memory_max")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A decimal number, in protocol 0 or 1, of more than 4300 digits, where CPython stops too. The later protocols
    /// have no such limit.
    #[error(
        "an integer of more than {DIGITS_MAX} decimal digits; pickle protocols from 2 on know larger ones"
    )]
    IntTooLong,
}

impl Classify for PickleError {
    fn kind(&self) -> ErrorKind {
        match self {
            PickleError::TooDeep { .. } | PickleError::TooLarge { .. } | PickleError::IntTooLong => {
                ErrorKind::Limit
            }
            _ => ErrorKind::Decode,
        }
    }
}
