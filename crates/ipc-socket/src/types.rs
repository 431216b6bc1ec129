//! Which type a message is of: each frame says the fingerprint of its structure, and the structure itself is sent when
//! somebody has another one and asks.
//!
//! ```text
//!  message   kind 0 | fingerprint u64 LE | encoded message |
//!  bytes     kind 1 | bytes |
//!  control   kind 2 | 'A' | fingerprint u64 LE |                   what is that?
//!            kind 2 | 'S' | fingerprint u64 LE | text, UTF-8 |     that is its structure
//! ```

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipc_core::Schema;
use serde::Deserialize;

const ASK: u8 = b'A';
const STRUCTURE: u8 = b'S';

/// So many structures of types are kept of a peer, and so many of its questions.
const KEPT_MAX: usize = 256;

/// The longest text of a structure that is sent or kept.
const TEXT_MAX: usize = 64 << 10;

/// What the two ends tell each other of types.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Ask(u64),
    Structure(u64, String),
}

impl Control {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Control::Ask(id) => [&[ASK][..], &id.to_le_bytes()].concat(),
            Control::Structure(id, text) => {
                [&[STRUCTURE][..], &id.to_le_bytes(), truncated(text).as_bytes()].concat()
            }
        }
    }

    /// What a peer has sent; `None` for what this version does not know, which is left out.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (id, text) = rest.split_first_chunk()?;
        let id = u64::from_le_bytes(*id);
        match *kind {
            ASK if text.is_empty() => Some(Control::Ask(id)),
            STRUCTURE if text.len() <= TEXT_MAX => {
                Some(Control::Structure(id, std::str::from_utf8(text).ok()?.to_owned()))
            }
            _ => None,
        }
    }
}

fn truncated(text: &str) -> &str {
    let mut len = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    &text[..len]
}

/// The fingerprints of the types that one direction of a connection is used with.
#[derive(Debug, Default)]
pub(crate) struct Types {
    last: Option<(TypeId, u64)>,
    known: HashMap<TypeId, Arc<Schema>>,
}

impl Types {
    #[inline]
    pub(crate) fn id<T: Deserialize<'static>>(&mut self) -> u64 {
        let of = typeid::of::<T>();
        match self.last {
            Some((last, id)) if last == of => id,
            _ => self.look_up::<T>(of),
        }
    }

    #[cold]
    fn look_up<T: Deserialize<'static>>(&mut self, of: TypeId) -> u64 {
        let id = self.known.entry(of).or_insert_with(Schema::of::<T>).fingerprint().to_u64();
        self.last = Some((of, id));
        id
    }

    /// The text of a structure of these.
    pub(crate) fn text(&self, id: u64) -> Option<&str> {
        let schema = self.known.values().find(|schema| schema.fingerprint().to_u64() == id)?;
        Some(schema.text())
    }
}

/// What the receiving direction has for the sending one.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    asked: Mutex<Vec<u64>>,
    any: AtomicBool,
}

impl Questions {
    /// The peer asks.
    pub(crate) fn put(&self, id: u64) {
        let mut asked = self.lock();
        if asked.len() < KEPT_MAX && !asked.contains(&id) {
            asked.push(id);
            // Relaxed: a hint; what is asked is behind the lock.
            self.any.store(true, Relaxed);
        }
    }

    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    pub(crate) fn take(&self) -> Vec<u64> {
        let mut asked = self.lock();
        self.any.store(false, Relaxed);
        std::mem::take(&mut *asked)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The structures that a peer has told of.
#[derive(Debug, Default)]
pub(crate) struct Structures(HashMap<u64, String>);

impl Structures {
    pub(crate) fn put(&mut self, id: u64, text: String) {
        if self.0.len() < KEPT_MAX {
            self.0.insert(id, text);
        }
    }

    pub(crate) fn get(&self, id: u64) -> Option<&str> {
        self.0.get(&id).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_types_arrives_or_is_left_out() {
        let long = "ä".repeat(TEXT_MAX);
        for control in [Control::Ask(7), Control::Structure(8, "(u8, str)".to_owned())] {
            assert_eq!(Control::read(&control.to_bytes()), Some(control));
        }
        let cut = Control::read(&Control::Structure(8, long).to_bytes());
        assert!(matches!(cut, Some(Control::Structure(8, text)) if text.len() == TEXT_MAX));
        for bytes in [&b""[..], b"A", b"A1234567", b"A123456789", b"X12345678", b"S12345678\xff"] {
            assert_eq!(Control::read(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn questions_are_bounded() {
        let questions = Questions::default();
        (0..10_000).for_each(|id| questions.put(id));
        assert!(questions.any());
        assert_eq!(questions.take().len(), KEPT_MAX);
        assert!(!questions.any() && questions.take().is_empty());
    }
}
