//! How an end is written into a message, and what it takes along.
//!
//! ```text
//!  metadata of a writer   version u32 | 0 u32 | tail u64 | what is left of a frame: header, payload, padding …
//!  metadata of a reader   version u32 | 0 u32 | head u64 | [ kind u32 | len u32 | what is here of a long frame … ]
//! ```
//!
//! The counts are those that the last owner kept to itself. Limits do not travel: they protect the process that reads,
//! which sets its own.

use std::io;
use std::sync::Arc;

use ipc_core::handle::Kind;
use ipc_core::handle_kind;
use ipc_sync::object::Role;
use serde::de::{Deserializer, Error as _};
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};

use super::end::{End, Side};
use super::place::Place;
use super::reader::{Long, RingReader};
use super::writer::RingWriter;

const VERSION: u32 = 1;
/// The version and the count.
const HEAD: usize = 16;
/// No ring comes this far in a thousand years; so nothing overflows that is added to a count.
const COUNT_MAX: u64 = 1 << 62;

fn serialize<S: Serializer>(
    kind: Kind,
    end: &Arc<End>,
    count: u64,
    rest: &[&[u8]],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut metadata = Vec::with_capacity(HEAD + rest.iter().map(|part| part.len()).sum::<usize>());
    metadata.extend_from_slice(&u64::from(VERSION).to_le_bytes());
    metadata.extend_from_slice(&count.to_le_bytes());
    rest.iter().for_each(|part| metadata.extend_from_slice(part));
    let moved = || S::Error::custom("this end was moved to another process");
    let done = end.with_role(|role| role.serialize(kind, 0, metadata, serializer)).ok_or_else(moved)??;
    end.pack().map_err(S::Error::custom)?;
    Ok(done)
}

/// What arrived, the count checked to be one, and what follows it.
fn deserialize<'de, D: Deserializer<'de>>(
    kind: Kind,
    side: Side,
    deserializer: D,
) -> Result<(Role, Place, u64, Vec<u8>), D::Error> {
    let (role, _, mut metadata) = Role::deserialize(kind, side.number(), Place::LEN_MIN, deserializer)?;
    let place = Place::of(role.object().clone()).map_err(D::Error::custom)?;
    let word = |at: usize| metadata.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    match (word(0), word(8)) {
        (Some(version), Some(count))
            if version == u64::from(VERSION) && count < COUNT_MAX && count.is_multiple_of(8) =>
        {
            metadata.drain(..HEAD);
            Ok((role, place, count, metadata))
        }
        _ => Err(broken(kind)),
    }
}

fn broken<E: serde::de::Error>(kind: Kind) -> E {
    E::custom(format_args!(
        "a {} handle is broken: its metadata is of another version, or cut off",
        kind.name()
    ))
}

const WRITER: Kind = handle_kind!("shm.ring-writer");
const READER: Kind = handle_kind!("shm.ring-reader");

impl Serialize for RingWriter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (end, tail, rest) = self.state();
        serialize(WRITER, end, tail, &[rest], serializer)
    }
}

impl<'de> Deserialize<'de> for RingWriter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (role, place, tail, rest) = deserialize(WRITER, Side::Writer, deserializer)?;
        if !rest.len().is_multiple_of(8) {
            return Err(broken(WRITER));
        }
        RingWriter::received(role, place, tail, rest).map_err(D::Error::custom)
    }
}

impl Serialize for RingReader {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (end, head, long) = self.state();
        match long {
            None => serialize(READER, end, head, &[], serializer),
            Some(long) => {
                // It came out of a header of 32 bits.
                let (kind, len) = (long.kind.to_le_bytes(), (long.len as u32).to_le_bytes());
                serialize(READER, end, head, &[&kind, &len, &long.bytes], serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for RingReader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (role, place, head, rest) = deserialize(READER, Side::Reader, deserializer)?;
        let long = if rest.is_empty() { None } else { Some(long(&rest).ok_or_else(|| broken(READER))?) };
        let received: io::Result<_> = RingReader::received(role, place, head, long);
        received.map_err(D::Error::custom)
    }
}

fn long(rest: &[u8]) -> Option<Long> {
    let (kind, rest) = rest.split_first_chunk()?;
    let (len, bytes) = rest.split_first_chunk()?;
    let (kind, len) = (u32::from_le_bytes(*kind), u32::from_le_bytes(*len) as usize);
    // All but the last piece are multiples of 8.
    let fits = bytes.len() == len || bytes.len() < len && bytes.len().is_multiple_of(8);
    fits.then(|| Long { kind, len, bytes: bytes.to_vec() })
}
