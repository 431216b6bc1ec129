//! Whether two ends mean the same by the bytes that they exchange.
//!
//! The wire format says nothing of its own structure: an end that expects `{ id: u64, name: str }` would read
//! what another one wrote as `{ name: str, id: u64 }` and get nonsense. So the ends exchange a
//! [`Fingerprint`] of the message type first, and the text of its [`Schema`] to explain a [`Mismatch`].
//! Nothing is derived for that but serde's `Deserialize`: the type is asked what it reads.
//!
//! # What counts
//!
//! * The fields of a struct by name and order, the variants of an enum by name and order, and what each of
//!   them holds.
//! * Not the names of types, nor where they are, nor how they are cut into types: a newtype, a `Box`, a tuple
//!   or array of one element is what is in it, and `#[serde(from = "T")]` is `T`.
//! * Not what the wire does not tell apart: `String`, `&str`, `PathBuf`; `Vec<u8>` and bytes; a `Vec`, a set
//!   and a slice; a tuple, a tuple struct and an array; `usize` and `u64`; a unit struct and `()`; a variant
//!   that holds a struct and a struct variant.
//! * Not what a type checks when it reads: `NonZeroU32` is a `u32`. (A value that fails the check is an
//!   error when it is decoded, not nonsense.)
//!
//! # The text
//!
//! | Text | What it is |
//! |---|---|
//! | `u8` … `i128`, `f32`, `f64`, `bool`, `char`, `str`, `bytes`, `()` | as in Rust |
//! | `{ id: u64, name: str }` | a struct |
//! | `enum<A \| B: u32 \| C: { x: u8 }>` | an enum |
//! | `?T`, `[T]`, `map<K, V>` | an option, a sequence, a map |
//! | `(A, B)`, `(T; 4)` | a tuple, one of equal parts (an array) |
//! | `handle<KIND>` | a handle of this toolkit, which travels beside the bytes |
//! | `^n` | recursion: what is `n` levels further out than the part that this is directly in |
//! | `#1=T`, `#1` | a label for `T` and, later on, `T` again |
//! | `opaque`, `opaque<…>` | a part that is not known, see below |
//! | `{ id\|number: u64 }` | a struct with an alias: all names of the field, as the wire does not care |
//! | `enum<A, B, C = u8 \| str \| !>` | an enum with an alias: more names than variants |
//!
//! A name with characters other than ASCII letters, digits, `_`, `-` and `.` is quoted.
//!
//! # What it cannot see
//!
//! Opaque parts are equal to each other, so a difference within them goes unnoticed;
//! [`Schema::is_complete`] says whether there are any.
//!
//! * `opaque<any>`: the type asks for whatever there is (`#[serde(untagged)]`, `#[serde(flatten)]`, internally
//!   tagged enums, `serde_json::Value`). The wire format cannot carry those anyway.
//! * `opaque`: what comes after a part of which no value can be made, in a place where parts can be asked for
//!   in one order only: a tuple, a tuple struct, a map (the values after the keys), or a struct whose hand-
//!   written visitor takes no map. Fields of derived structs are asked for by name, so they do not hide each
//!   other. A type that checks what it reads is offered some dozens of samples before it counts as one of
//!   which no value can be made; a variant that is refused by its index is opaque too.
//! * `opaque<varies>`: what is read depends on values read before (adjacently tagged enums), or differs
//!   between the elements of one sequence.
//! * `opaque<limit>`: the type is too large: 16384 visitors, or 264 nested ones (a struct within a struct
//!   takes two, and as much stack as decoding it would).
//!
//! And it sees how a type is *read*: what `#[serde(serialize_with)]`, `#[serde(into)]`, `skip_serializing` or
//! a hand-written `Serialize` make of it is not seen, nor what the same shape is meant to mean: metres and
//! feet are both `f64`.

mod access;
mod graph;
mod samples;
#[cfg(test)]
mod tests;
mod text;
mod trace;

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::error::{Classify, ErrorKind};

/// How much of a text an error shows, in characters, if it is longer than that.
const SHOWN: usize = 240;
/// How much of that is before the first difference.
const SHOWN_BEFORE: usize = 80;

/// A number for the structure of a message type: equal for types that read the same from the wire, different
/// (but for one chance in 2⁶⁴) for others.
///
/// It is the 64-bit FNV-1a hash of the [text of the schema](Schema::text) in UTF-8, so it is the same on
/// every platform, and a program in another language can compute it.
///
/// ```
/// use ipc_core::{Fingerprint, Schema};
///
/// let fingerprint = Schema::of::<(u32, String)>().fingerprint();
/// assert_eq!(fingerprint, Schema::of::<(u32, Box<str>)>().fingerprint());
/// assert_eq!(fingerprint, Fingerprint::from_u64(fingerprint.to_u64()));
/// assert_eq!(fingerprint.to_string().len(), 16);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of this number, as a peer sent it.
    ///
    /// ```
    /// assert_eq!(ipc_core::Fingerprint::from_u64(255).to_string(), "00000000000000ff");
    /// ```
    pub const fn from_u64(number: u64) -> Self {
        Fingerprint(number)
    }

    /// The number, to be sent to a peer.
    ///
    /// ```
    /// assert_eq!(ipc_core::Fingerprint::from_u64(255).to_u64(), 255);
    /// ```
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// FNV-1a with 64 bits, as Fowler, Noll and Vo give it: no table, and three lines in any language.
    fn of_text(text: &str) -> Self {
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Fingerprint(hash)
    }
}

/// Sixteen hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The structure of a message type, in a canonical form: types that read the same have the same.
///
/// The [module documentation](crate::fingerprint) says what counts, what the text means, and what is not
/// seen. It displays as its text.
///
/// ```
/// use ipc_core::Schema;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Task {
///     id: u64,
///     name: String,
///     tags: Vec<String>,
///     next: Option<Box<Task>>,
/// }
///
/// assert_eq!(Schema::of::<Task>().text(), "{ id: u64, name: str, tags: [str], next: ?^1 }");
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Schema {
    text: String,
    fingerprint: Fingerprint,
    complete: bool,
}

/// Schemas by type. A type is traced outside the lock, so its `Deserialize` may ask for schemas itself.
static SCHEMAS: RwLock<Option<HashMap<TypeId, Arc<Schema>>>> = RwLock::new(None);

impl Schema {
    /// The schema of `T`.
    ///
    /// The first call for a type runs its `Deserialize` some times with samples (up to a second of work for
    /// the largest types that it takes on, microseconds for usual ones); later calls are a look-up. Lifetimes
    /// do not count.
    ///
    /// * Values are made of samples and dropped: `T` should do nothing else when it is read than to read.
    /// * It recurses as deep as the type is nested, as decoding does.
    /// * It takes a lock for a moment, so a child that was forked while another thread was in here must not
    ///   call it.
    ///
    /// # Panics
    ///
    /// If the `Deserialize` of `T` panics on a sample, which it must not do on what comes from a peer either.
    ///
    /// ```
    /// use ipc_core::Schema;
    /// use serde::de::DeserializeOwned;
    ///
    /// fn structure_of<T: DeserializeOwned>() -> String {
    ///     Schema::of::<T>().text().to_owned()
    /// }
    /// assert_eq!(structure_of::<Vec<(u8, Option<bool>)>>(), "[(u8, ?bool)]");
    /// ```
    pub fn of<T: Deserialize<'static>>() -> Arc<Schema> {
        let id = typeid::of::<T>();
        let schemas = SCHEMAS.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = schemas.as_ref().and_then(|schemas| schemas.get(&id)) {
            return Arc::clone(schema);
        }
        drop(schemas);
        let schema = Arc::new(Schema::trace::<T>());
        let mut schemas = SCHEMAS.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(schemas.get_or_insert_default().entry(id).or_insert(schema))
    }

    fn trace<T: Deserialize<'static>>() -> Schema {
        let (text, complete) = text::canonical(&trace::trace::<T>());
        Schema { fingerprint: Fingerprint::of_text(&text), text, complete }
    }

    /// The structure as text.
    ///
    /// ```
    /// assert_eq!(ipc_core::Schema::of::<[u16; 3]>().text(), "(u16; 3)");
    /// ```
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The fingerprint of the structure.
    ///
    /// ```
    /// use ipc_core::Schema;
    /// assert_ne!(Schema::of::<u32>().fingerprint(), Schema::of::<i32>().fingerprint());
    /// ```
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether the whole structure is known: no part of it is opaque.
    ///
    /// ```
    /// use ipc_core::Schema;
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// #[serde(untagged)]
    /// enum Either {
    ///     Number(u32),
    ///     Text(String),
    /// }
    ///
    /// let schema = Schema::of::<Vec<Either>>();
    /// assert_eq!(schema.text(), "[opaque<any>]");
    /// assert!(!schema.is_complete());
    /// ```
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Compares with what a peer says its structure is. The fingerprint decides; the text is for the error,
    /// and may be cut or empty.
    ///
    /// # Errors
    ///
    /// [`Mismatch`] if the fingerprints differ.
    ///
    /// ```
    /// use ipc_core::Schema;
    ///
    /// let (ours, theirs) = (Schema::of::<(u32, bool)>(), Schema::of::<(u64, bool)>());
    /// assert!(ours.check(ours.fingerprint(), ours.text()).is_ok());
    /// let mismatch = ours.check(theirs.fingerprint(), theirs.text()).unwrap_err();
    /// assert!(mismatch.to_string().ends_with("ours is `(u32, bool)`, theirs is `(u64, bool)`"));
    /// ```
    pub fn check(&self, peer: Fingerprint, peer_text: &str) -> Result<(), Mismatch> {
        if peer == self.fingerprint {
            return Ok(());
        }
        Err(Mismatch {
            ours: self.text.clone(),
            theirs: peer_text.to_owned(),
            our_fingerprint: self.fingerprint,
            their_fingerprint: peer,
        })
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The two ends disagree on the structure of what they exchange.
///
/// It displays both structures, cut around the first difference if they are long; the fields have all of it.
/// What came from the peer is shown without control characters.
///
/// ```
/// use ipc_core::{Classify, ErrorKind, Schema};
///
/// let mismatch = Schema::of::<u8>().check(Schema::of::<u16>().fingerprint(), "u16").unwrap_err();
/// assert_eq!((mismatch.ours.as_str(), mismatch.theirs.as_str()), ("u8", "u16"));
/// assert_eq!(mismatch.kind(), ErrorKind::Mismatch);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the two ends disagree on the structure of the messages: {}", self.difference())]
#[non_exhaustive]
pub struct Mismatch {
    /// The text of the structure at this end.
    pub ours: String,
    /// The text of the structure at the other end, as that sent it.
    pub theirs: String,
    /// The fingerprint at this end.
    pub our_fingerprint: Fingerprint,
    /// The fingerprint at the other end.
    pub their_fingerprint: Fingerprint,
}

impl Classify for Mismatch {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Mismatch
    }
}

impl Mismatch {
    fn difference(&self) -> String {
        let Mismatch { ours, theirs, our_fingerprint, their_fingerprint } = self;
        if theirs.is_empty() || ours == theirs {
            // Their text did not come, or another version of this crate made their fingerprint.
            return format!(
                "ours is `{}` ({our_fingerprint}), theirs is {their_fingerprint}",
                excerpt(ours, 0)
            );
        }
        let same = ours.chars().zip(theirs.chars()).take_while(|(ours, theirs)| ours == theirs).count();
        format!("ours is `{}`, theirs is `{}`", excerpt(ours, same), excerpt(theirs, same))
    }
}

/// The part of a text around the character number `at`.
fn excerpt(text: &str, at: usize) -> String {
    let visible = |char: char| if char.is_control() { '\u{fffd}' } else { char };
    let count = text.chars().count();
    if count <= SHOWN {
        return text.chars().map(visible).collect();
    }
    let start = at.saturating_sub(SHOWN_BEFORE).min(count - SHOWN);
    let mut shown: String = if start > 0 { "…".into() } else { String::new() };
    shown.extend(text.chars().skip(start).take(SHOWN).map(visible));
    shown.push_str(if start + SHOWN < count { "…" } else { "" });
    shown
}
