//! What is sent, and how a receiver knows that it is what was sent.

use std::fmt;
use std::hint::black_box;
use std::str::FromStr;

use iceoryx2::prelude::ZeroCopySend;
use serde::{Deserialize, Serialize};

use crate::Error;

/// What a block does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// A number to the other side and back.
    PingPong,
    /// A [`Message`] to the other side.
    OneWay64,
    /// 1 MiB to the other side, copied in and out.
    OneWay1M,
    /// A number written into borrowed memory and read there.
    Loan8,
    /// 1 MiB of borrowed memory, the first and the last line of which are written and read.
    Loan1M,
    /// Numbers from two senders to two receivers.
    TwoTwo,
}

const NAMES: [(Operation, &str); 6] = [
    (Operation::PingPong, "ping-pong-u64"),
    (Operation::OneWay64, "one-way-64"),
    (Operation::OneWay1M, "one-way-1m"),
    (Operation::Loan8, "loan-8"),
    (Operation::Loan1M, "loan-1m"),
    (Operation::TwoTwo, "two-two-u64"),
];

impl Operation {
    /// That a peer has no such operation.
    pub(crate) fn unknown_to(self, peer: &str) -> Error {
        format!("{peer} has no operation `{self}`").into()
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(operation, _)| operation == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for Operation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = NAMES.iter().find(|(_, name)| *name == text);
        Ok(found.ok_or_else(|| format!("no operation is called `{text}`"))?.0)
    }
}

/// A plain message of 64 bytes. Bytes are the form that costs a codec least.
#[derive(Debug, Clone, Copy, ZeroCopySend, Serialize, Deserialize)]
#[repr(C)]
pub(crate) struct Message {
    sequence: u64,
    #[serde(with = "serde_bytes")]
    bytes: [u8; 56],
}

const _: () = assert!(size_of::<Message>() == 64);

impl Message {
    pub(crate) fn new(sequence: u64) -> Self {
        Message { sequence, bytes: [sequence as u8; 56] }
    }

    /// What a receiver does with its copy: all of it is there, and it is the one expected.
    pub(crate) fn check(self, expected: u64) -> Result<(), Error> {
        let Message { sequence, bytes } = black_box(self);
        check(sequence, expected)?;
        check(bytes[55].into(), u64::from(expected as u8))
    }
}

/// A message is the one whose turn it is.
pub(crate) fn check(got: u64, expected: u64) -> Result<(), Error> {
    if got == expected { Ok(()) } else { Err(wrong(got, expected)) }
}

#[cold]
fn wrong(got: u64, expected: u64) -> Error {
    format!("received {got} where {expected} was expected").into()
}

/// The bytes of a big message.
pub(crate) const BIG_LEN: usize = 1 << 20;
