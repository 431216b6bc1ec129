//! Handles that travel inside messages.
//!
//! A pipe end, and later a lock, a segment or a connection, implements serde's traits; but what serde can carry is
//! only a name for it. The descriptors themselves go beside the bytes (`SCM_RIGHTS`, inheritance at spawn). The two
//! meet in a table that exists while one message is encoded or decoded:
//!
//! ```text
//!  sender                                                    receiver
//!  outgoing(|| codec.encode(&msg, &mut bytes))               incoming(descriptors, || codec.decode(&bytes))
//!     Bundle::serialize ──► index into the table                 Bundle::deserialize ──► claims by index
//!  ──► bytes + Outgoing { descriptors, commits } ══ carrier ══► bytes + descriptors ──► unclaimed ones are closed
//!  commit() once the message has gone; dropped: as if nothing had been serialised
//! ```
//!
//! The table belongs to the thread and to one message: a nested message has its own, an error or a panic empties it,
//! and serialising a handle where there is no message (into a file, say) is an error. A bundle on the wire is the
//! newtype struct `"\u{1}ipc-handle:KIND"` of `(kind, version, fingerprint, [index], offset, length, metadata)`.

use serde::de::{Deserializer, Error as _, Visitor};
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// The most descriptors that one message may carry.
pub const HANDLES_MAX: usize = 4096;

/// Names a kind of handle, for [`Bundle::serialize`] and [`Bundle::deserialize`]: `handle_kind!("pipe.sender")`.
#[macro_export]
macro_rules! handle_kind {
    ($kind:literal) => {
        $crate::handle::Kind::new(concat!("\u{1}ipc-handle:", $kind))
    };
}

/// The kind of a handle, from [`handle_kind!`](crate::handle_kind).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(&'static str);

impl Kind {
    #[doc(hidden)]
    pub const fn new(marker: &'static str) -> Self {
        Kind(marker)
    }

    /// The kind's name.
    pub fn name(self) -> &'static str {
        self.0.split_once(':').map_or(self.0, |(_, name)| name)
    }
}

/// What a handle consists of while it travels: how it is named in the message, and the descriptors beside it.
///
/// Many small objects may share one memory file: hence `offset` and `length`, which are zero where they mean nothing.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Bundle {
    /// The version of the kind's own layout.
    pub version: u8,
    /// The fingerprint of the type that passes through the object, zero if there is none.
    pub fingerprint: u64,
    /// The object's descriptors. One that stands in several bundles of a message travels once.
    pub descriptors: Vec<Arc<OwnedFd>>,
    /// Where the object begins in the memory file.
    pub offset: u64,
    /// How many bytes it takes there.
    pub length: u64,
    /// What else the kind needs to say.
    pub metadata: Vec<u8>,
    /// The object has a single owner: it may stand in a message once, and be claimed once. Not on the wire: the kind
    /// knows it.
    pub exclusive: bool,
}

/// Encodes as bytes do, without a dependency for it.
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BlobVisitor;
        impl Visitor<'_> for BlobVisitor {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(BlobVisitor)
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    kind: String,
    version: u8,
    fingerprint: u64,
    indices: Vec<u16>,
    offset: u64,
    length: u64,
    metadata: Blob,
}

impl Bundle {
    /// Puts the bundle into the message that this thread is encoding.
    ///
    /// # Errors
    /// The serializer's own; and a custom one when no message is being encoded (handles cannot be stored), or when it
    /// would carry more than [`HANDLES_MAX`] descriptors.
    pub fn serialize<S: Serializer>(&self, kind: Kind, serializer: S) -> Result<S::Ok, S::Error> {
        let indices = with_outgoing(|frame| frame.add(&self.descriptors, self.exclusive))
            .unwrap_or(Err(Refused::NoMessage))
            .map_err(|refused| S::Error::custom(format_args!("a {} handle {refused}", kind.name())))?;
        let wire = Wire {
            kind: kind.name().to_owned(),
            version: self.version,
            fingerprint: self.fingerprint,
            indices,
            offset: self.offset,
            length: self.length,
            metadata: Blob(self.metadata.clone()),
        };
        serializer.serialize_newtype_struct(kind.0, &wire)
    }

    /// Takes a bundle of this kind out of the message that this thread is decoding; an exclusive one's descriptors
    /// must not have been claimed by another.
    ///
    /// # Errors
    /// The deserializer's own; and a custom one when no message is being decoded, when the bundle is of another
    /// kind, or when it names a descriptor that did not come with the message.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        kind: Kind,
        exclusive: bool,
        deserializer: D,
    ) -> Result<Bundle, D::Error> {
        struct BundleVisitor(Kind);
        impl<'de> Visitor<'de> for BundleVisitor {
            type Value = Wire;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a {} handle", self.0.name())
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Wire, D::Error> {
                Wire::deserialize(deserializer)
            }
        }
        let wire = deserializer.deserialize_newtype_struct(kind.0, BundleVisitor(kind))?;
        if wire.kind != kind.name() {
            let theirs: String = wire.kind.chars().take(40).collect();
            return Err(D::Error::custom(format_args!(
                "expected a {} handle, the message has a {theirs:?}",
                kind.name()
            )));
        }
        let descriptors = wire
            .indices
            .iter()
            .map(|index| claim(usize::from(*index), exclusive))
            .collect::<Result<_, _>>()
            .map_err(D::Error::custom)?;
        Ok(Bundle {
            version: wire.version,
            fingerprint: wire.fingerprint,
            descriptors,
            offset: wire.offset,
            length: wire.length,
            metadata: wire.metadata.0,
            exclusive,
        })
    }
}

/// The descriptors of a message that was encoded and has not gone yet. Dropping it takes everything back: no handle
/// of the message counts as sent.
#[derive(Default)]
pub struct Outgoing {
    descriptors: Vec<Arc<OwnedFd>>,
    commits: Vec<Box<dyn FnOnce() + Send>>,
}

impl Outgoing {
    /// The descriptors that go beside the bytes, in the order of their indices.
    pub fn descriptors(&self) -> &[Arc<OwnedFd>] {
        &self.descriptors
    }

    /// The message has gone: ends with a single owner now count as moved.
    pub fn commit(self) {
        for commit in self.commits {
            commit();
        }
    }

    /// The indices of these descriptors in the table, added where they are new.
    fn add(&mut self, descriptors: &[Arc<OwnedFd>], exclusive: bool) -> Result<Vec<u16>, Refused> {
        let mut indices = Vec::with_capacity(descriptors.len());
        for fd in descriptors {
            // The same number at the same time is the same descriptor, whichever `Arc` it comes in.
            let known = self.descriptors.iter().position(|known| known.as_raw_fd() == fd.as_raw_fd());
            if known.is_some() && exclusive {
                return Err(Refused::Twice);
            }
            let index = known.unwrap_or_else(|| {
                self.descriptors.push(Arc::clone(fd));
                self.descriptors.len() - 1
            });
            if index >= HANDLES_MAX {
                return Err(Refused::TooMany);
            }
            // HANDLES_MAX fits.
            indices.push(index as u16);
        }
        Ok(indices)
    }
}

const _: () = assert!(HANDLES_MAX <= u16::MAX as usize);

/// Why a handle cannot stand in a message.
enum Refused {
    NoMessage,
    Twice,
    TooMany,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::NoMessage => f.write_str("can only be serialised inside a message to another process"),
            Refused::Twice => f.write_str("has a single owner and stands in the message twice"),
            Refused::TooMany => {
                write!(f, "would be more than the {HANDLES_MAX} descriptors that a message may have")
            }
        }
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("descriptors", &self.descriptors).finish_non_exhaustive()
    }
}

/// The descriptors that came with a message, each owned from the start; an index may be claimed by several bundles.
enum Arrived {
    Unclaimed(OwnedFd),
    Claimed(Arc<OwnedFd>),
    Taken,
}

#[derive(Default)]
struct Table {
    outgoing: Vec<Outgoing>,
    incoming: Vec<Vec<Arrived>>,
}

thread_local! {
    static TABLE: RefCell<Table> = const { RefCell::new(Table { outgoing: Vec::new(), incoming: Vec::new() }) };
}

/// Runs `encode` as the encoding of one message, and returns the handles that it serialised beside its result. With
/// an error (or a panic) nothing stays behind.
///
/// # Errors
/// What `encode` returns.
///
/// ```
/// use ipc_core::{Codec, handle};
/// let mut bytes = Vec::new();
/// let ((), handles) = handle::outgoing(|| Codec::default().encode(&("plain", 1), &mut bytes))?;
/// assert!(handles.descriptors().is_empty());
/// handles.commit();
/// # Ok::<(), ipc_core::EncodeError>(())
/// ```
#[inline]
pub fn outgoing<R, E>(encode: impl FnOnce() -> Result<R, E>) -> Result<(R, Outgoing), E> {
    /// Takes the table away again also when `encode` panics.
    struct Scope;
    impl Drop for Scope {
        fn drop(&mut self) {
            // What was collected is dropped after the borrow has ended: dropping may run anything.
            let abandoned = TABLE.with_borrow_mut(|table| table.outgoing.pop());
            drop(abandoned);
        }
    }
    TABLE.with_borrow_mut(|table| table.outgoing.push(Outgoing::default()));
    let scope = Scope;
    let result = encode()?;
    std::mem::forget(scope);
    let frame = TABLE.with_borrow_mut(|table| table.outgoing.pop());
    Ok((result, frame.unwrap_or_default()))
}

/// Runs `decode` as the decoding of one message that `descriptors` came with. Those that it does not claim are
/// closed when it returns, also with an error or a panic.
pub fn incoming<R>(descriptors: impl IntoIterator<Item = OwnedFd>, decode: impl FnOnce() -> R) -> R {
    struct Scope;
    impl Drop for Scope {
        fn drop(&mut self) {
            let unclaimed = TABLE.with_borrow_mut(|table| table.incoming.pop());
            drop(unclaimed);
        }
    }
    let arrived = descriptors.into_iter().map(Arrived::Unclaimed).collect();
    TABLE.with_borrow_mut(|table| table.incoming.push(arrived));
    let _scope = Scope;
    decode()
}

/// Runs `f` once the message that this thread is encoding has gone; never, if it does not go. Whether there is such
/// a message.
pub fn on_commit(f: impl FnOnce() + Send + 'static) -> bool {
    with_outgoing(|frame| frame.commits.push(Box::new(f))).is_some()
}

fn with_outgoing<R>(f: impl FnOnce(&mut Outgoing) -> R) -> Option<R> {
    TABLE.with_borrow_mut(|table| table.outgoing.last_mut().map(f))
}

fn claim(index: usize, exclusive: bool) -> Result<Arc<OwnedFd>, String> {
    TABLE.with_borrow_mut(|table| {
        let Some(arrived) = table.incoming.last_mut() else {
            return Err("a handle can only be deserialised inside a message from another process".to_owned());
        };
        let count = arrived.len();
        let Some(slot) = arrived.get_mut(index) else {
            return Err(format!("the message names descriptor {index}, but only {count} came with it"));
        };
        let fd = match std::mem::replace(slot, Arrived::Taken) {
            Arrived::Unclaimed(fd) => Arc::new(fd),
            Arrived::Claimed(fd) if !exclusive => fd,
            _ => return Err(format!("descriptor {index} of the message belongs to two single owners")),
        };
        if !exclusive {
            *slot = Arrived::Claimed(Arc::clone(&fd));
        }
        Ok(fd)
    })
}
