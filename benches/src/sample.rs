//! The messages of 64 bytes that typed and raw streams both carry.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

/// A message of 64 bytes in memory that the codec looks into: eight fields.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Sample {
    sequence: u64,
    values: [f64; 7],
}

pub(crate) const SAMPLE_LEN: usize = 64;

impl Sample {
    pub(crate) fn new(sequence: u64) -> Self {
        Sample { sequence, values: [sequence as f64; 7] }
    }

    /// What a reader does with a sample, so that its bytes are really used.
    pub(crate) fn sum(&self) -> f64 {
        self.sequence as f64 + self.values[6]
    }

    pub(crate) fn to_bytes(self) -> [u8; SAMPLE_LEN] {
        let mut bytes = [0; SAMPLE_LEN];
        bytes[..8].copy_from_slice(&self.sequence.to_le_bytes());
        for (chunk, value) in bytes[8..].chunks_exact_mut(8).zip(self.values) {
            chunk.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; SAMPLE_LEN]) -> Self {
        let word = |at: usize| std::array::from_fn(|i| bytes[at + i]);
        Sample {
            sequence: u64::from_le_bytes(word(0)),
            values: std::array::from_fn(|i| f64::from_le_bytes(word(8 + 8 * i))),
        }
    }
}

/// A message of 64 bytes in memory that the codec copies: a number and a block of bytes.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Packet {
    sequence: u64,
    bytes: ByteArray<56>,
}

impl Packet {
    pub(crate) fn new(sequence: u64) -> Self {
        Packet { sequence, bytes: ByteArray::new([sequence as u8; 56]) }
    }

    pub(crate) fn sum(&self) -> f64 {
        self.sequence as f64 + f64::from(self.bytes[55])
    }
}
