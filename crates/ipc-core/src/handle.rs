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
use std::cell::{Cell, RefCell};
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
///
/// It is a null pointer for a message without handles, which is nearly all of them.
#[derive(Default)]
pub struct Outgoing(Option<Box<Collected>>);

#[derive(Default)]
struct Collected {
    descriptors: Vec<Arc<OwnedFd>>,
    commits: Vec<Box<dyn FnOnce() + Send>>,
    /// What several handles of the message share, each with what names it.
    shared: Vec<((u64, u64), Arc<OwnedFd>)>,
}

impl Outgoing {
    /// Whether the message holds no handle.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The descriptors that go beside the bytes, in the order of their indices.
    pub fn descriptors(&self) -> &[Arc<OwnedFd>] {
        self.0.as_ref().map_or(&[], |collected| &collected.descriptors)
    }

    /// The message has gone: ends with a single owner now count as moved.
    #[inline]
    pub fn commit(self) {
        if let Some(collected) = self.0 {
            collected.commits.into_iter().for_each(|commit| commit());
        }
    }
}

impl Collected {
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
        f.debug_struct("Outgoing").field("descriptors", &self.descriptors()).finish_non_exhaustive()
    }
}

/// The descriptors that came with a message, each owned from the start; an index may be claimed by several bundles.
enum Arrived {
    Unclaimed(OwnedFd),
    Claimed(Arc<OwnedFd>),
    Taken,
}

/// What the messages at hand hold, each with the depth of its scope: a message without handles has no entry.
struct Table {
    outgoing: Vec<(u32, Box<Collected>)>,
    incoming: Vec<(u32, Vec<Arrived>)>,
}

// A message without handles costs two writes of a plain thread-local: this is on the path of every message, and every
// thread-local with a destructor costs a check of its state at each access.
thread_local! {
    /// How many messages this thread is encoding, one inside the other.
    static ENCODING: Cell<u32> = const { Cell::new(0) };
    /// How many messages this thread is decoding.
    static DECODING: Cell<u32> = const { Cell::new(0) };
    /// How many entries `TABLE.outgoing` has.
    static COLLECTED: Cell<u32> = const { Cell::new(0) };
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
    /// Takes the entry away again also when `encode` panics.
    struct Scope(u32);
    impl Scope {
        #[inline]
        fn close(&self) -> Outgoing {
            ENCODING.set(self.0 - 1);
            if COLLECTED.get() == 0 { Outgoing(None) } else { take_outgoing(self.0) }
        }
    }
    impl Drop for Scope {
        fn drop(&mut self) {
            drop(self.close());
        }
    }
    let scope = Scope(ENCODING.get() + 1);
    ENCODING.set(scope.0);
    let result = encode()?;
    let collected = scope.close();
    std::mem::forget(scope);
    Ok((result, collected))
}

#[cold]
fn take_outgoing(depth: u32) -> Outgoing {
    TABLE.with_borrow_mut(|table| match table.outgoing.pop_if(|(of, _)| *of == depth) {
        Some((_, collected)) => {
            COLLECTED.set(COLLECTED.get() - 1);
            Outgoing(Some(collected))
        }
        None => Outgoing(None),
    })
}

/// Runs `decode` as the decoding of one message that `descriptors` came with. Those that it does not claim are
/// closed when it returns, also with an error or a panic.
#[inline]
pub fn incoming<R>(descriptors: impl IntoIterator<Item = OwnedFd>, decode: impl FnOnce() -> R) -> R {
    struct Scope {
        depth: u32,
        has_entry: bool,
    }
    impl Drop for Scope {
        #[inline]
        fn drop(&mut self) {
            DECODING.set(self.depth - 1);
            if self.has_entry {
                // What is left is closed after the borrow has ended.
                let unclaimed = TABLE.with_borrow_mut(|table| table.incoming.pop());
                drop(unclaimed);
            }
        }
    }
    let arrived: Vec<Arrived> = descriptors.into_iter().map(Arrived::Unclaimed).collect();
    let scope = Scope { depth: DECODING.get() + 1, has_entry: !arrived.is_empty() };
    DECODING.set(scope.depth);
    if scope.has_entry {
        TABLE.with_borrow_mut(|table| table.incoming.push((scope.depth, arrived)));
    }
    decode()
}

/// A descriptor that several handles of the message at hand share: the first that asks for `key` makes it, the others
/// get the same. `None` when no message is being encoded.
///
/// For what has to exist once a message: an open file description that holds locks for all objects of a memory file
/// that are in flight in it. The key is the file's device and inode.
pub fn shared<E>(
    key: (u64, u64),
    make: impl FnOnce() -> Result<OwnedFd, E>,
) -> Option<Result<Arc<OwnedFd>, E>> {
    if let Some(known) = with_outgoing(|collected| {
        collected.shared.iter().find(|(of, _)| *of == key).map(|(_, fd)| Arc::clone(fd))
    })? {
        return Some(Ok(known));
    }
    // Not while the table is borrowed: it is the caller's code.
    Some(make().map(|fd| {
        let fd = Arc::new(fd);
        with_outgoing(|collected| collected.shared.push((key, Arc::clone(&fd))));
        fd
    }))
}

/// Runs `f` once the message that this thread is encoding has gone; never, if it does not go. Whether there is such
/// a message.
pub fn on_commit(f: impl FnOnce() + Send + 'static) -> bool {
    with_outgoing(|collected| collected.commits.push(Box::new(f))).is_some()
}

fn with_outgoing<R>(f: impl FnOnce(&mut Collected) -> R) -> Option<R> {
    let depth = ENCODING.get();
    if depth == 0 {
        return None;
    }
    TABLE.with_borrow_mut(|table| {
        if table.outgoing.last().is_none_or(|(of, _)| *of != depth) {
            table.outgoing.push((depth, Box::default()));
            COLLECTED.set(COLLECTED.get() + 1);
        }
        table.outgoing.last_mut().map(|(_, collected)| f(collected))
    })
}

fn claim(index: usize, exclusive: bool) -> Result<Arc<OwnedFd>, String> {
    let depth = DECODING.get();
    if depth == 0 {
        return Err("a handle can only be deserialised inside a message from another process".to_owned());
    }
    TABLE.with_borrow_mut(|table| {
        let arrived = table.incoming.last_mut().filter(|(of, _)| *of == depth).map(|(_, arrived)| arrived);
        let count = arrived.as_ref().map_or(0, |arrived| arrived.len());
        let Some(slot) = arrived.and_then(|arrived| arrived.get_mut(index)) else {
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
