//! What several files of these tests use.

use ipc_core::handle::Kind;
use ipc_core::handle_kind;
use ipc_shm::ring::{RingReader, RingWriter};
use ipc_sync::object::Object;
use ipc_testkit::PATIENCE;
use ipc_testkit::data::payload;
use ipc_testkit::messages::taken_for;
use serde::{Deserialize, Deserializer, Serialize};

#[track_caller]
pub(crate) fn expect(reader: &mut RingReader, n: usize, len: usize) {
    let mut frame = Vec::new();
    assert_eq!(reader.read_timeout(&mut frame, PATIENCE).unwrap(), n as u32);
    assert!(frame == payload(n, len), "frame {n} of {len} bytes is not what was written");
}

pub(crate) fn put(writer: &mut RingWriter, n: usize, len: usize) {
    writer.write_timeout(n as u32, &payload(n, len), PATIENCE).unwrap();
}

/// Where the words are.
pub(crate) const CAPACITY: usize = 16;
pub(crate) const TAIL: usize = 128;
pub(crate) const HEAD: usize = 256;
pub(crate) const READER_BELL: usize = 384;
pub(crate) const WRITER_BELL: usize = 512;
pub(crate) const DATA: usize = 4096;

const WRITER: Kind = handle_kind!("shm.ring-writer");

/// The memory that a ring is.
#[derive(Debug, Clone)]
pub(crate) struct Raw(pub(crate) Object);

impl Raw {
    pub(crate) fn of(writer: &RingWriter) -> Self {
        taken_for(writer).unwrap()
    }

    pub(crate) fn get(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        self.0.read(at, &mut bytes).unwrap();
        u64::from_ne_bytes(bytes)
    }

    pub(crate) fn put(&self, at: usize, value: u64) {
        self.0.write(at, &value.to_ne_bytes()).unwrap();
    }
}

impl Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(WRITER, 0, Vec::new(), serializer)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Raw(Object::deserialize(WRITER, 64, deserializer)?.0))
    }
}
