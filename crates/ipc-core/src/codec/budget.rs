//! What decoding one message may still allocate, and what a value is charged.
//!
//! Serde does not tell a deserializer about allocations. It does tell the type of everything that is
//! deserialized, and in which order, and that is enough to reckon an upper bound beforehand:
//!
//! | what | is charged | since |
//! |---|---|---|
//! | element of a `Vec` | 3 × its size | a full `Vec` of capacity c grows to 2c and holds both for a moment |
//! | first element of a `Vec` | 4 × its size + 8 | the smallest capacity is 4, or 8 for single bytes |
//! | element or entry of anything else | 4 × its size + 24 | hash tables hold 24/7 slots an element while they grow, with a byte each; nodes of B-trees are at least 5/11 full; nodes of linked lists have two links |
//! | its first element or entry | 12 × its size + 152 | the first node of a B-tree has 11 slots |
//! | element of a `Vec` without size | 32 | it takes no memory, and must not take forever either |
//! | string or bytes | 2 × its length + 2 | `Arc<str>` and `CString` copy once more, and a `CString` ends in a zero |
//! | what is not in the slot meant for it | its size + 16 | it is behind a `Box`, or an `Rc` with its two counters |
//! | a field that its struct has no room for | 12 × its size + 24 | the visitor collects them elsewhere |

use std::any::TypeId;

use super::error::{DecodeError, DecodeFailure};

/// What remains of [`Limits::memory_max`](crate::Limits#structfield.memory_max).
pub(super) struct Budget {
    left: usize,
    limit: usize,
}

impl Budget {
    #[inline]
    pub(super) fn new(limit: usize) -> Self {
        Budget { left: limit, limit }
    }

    /// Takes `bytes` out of the budget.
    #[inline]
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), DecodeFailure> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(exceeded(self.limit, self.left, bytes)),
        }
    }

    /// Refuses a collection of `len` elements of which `input_len` bytes are too short to be the encoding:
    /// the others take no input, so that nothing but this would end them.
    #[inline]
    pub(super) fn foresee(&self, len: usize, input_len: usize) -> Result<(), DecodeFailure> {
        let idle = len.saturating_sub(input_len).saturating_mul(IDLE);
        if idle <= self.left { Ok(()) } else { Err(exceeded(self.limit, self.left, idle)) }
    }
}

// This and the other cold functions take copies: a reference to the state of a decoder that left the hot
// path would keep all of that state out of registers.
#[cold]
#[inline(never)]
fn exceeded(limit: usize, left: usize, bytes: usize) -> DecodeFailure {
    let needed_at_least = (limit - left).saturating_add(bytes);
    DecodeError::TooMuchMemory { needed_at_least, limit }.into()
}

/// What an element is charged that takes neither memory nor input.
const IDLE: usize = 32;
/// What a node needs beside the element.
const LINK: usize = 24;
/// What the first node of a collection needs beside the elements.
const FIRST_NODE: usize = 128;
/// What lies before the value in an `Rc` or `Arc`.
const COUNTERS: usize = 16;

/// What a string or byte string of this length costs.
#[inline]
pub(super) fn bytes_cost(len: usize) -> usize {
    len.saturating_add(1).saturating_mul(2)
}

/// Memory that is accounted for already, into which fields go: a struct, a tuple, an array, a variant.
#[derive(Clone, Copy)]
pub(super) struct Room(usize);

impl Room {
    /// What a `T` has room for.
    #[inline]
    pub(super) fn of<T>() -> Self {
        Room(size_of::<T>())
    }

    /// What the next field costs, if it is a `T`: nothing, unless the visitor makes something smaller than
    /// its fields, and so has to keep them elsewhere.
    #[inline]
    pub(super) fn cost<T>(&mut self) -> usize {
        let size = size_of::<T>();
        match self.0.checked_sub(size) {
            Some(rest) => {
                self.0 = rest;
                0
            }
            None => size.saturating_mul(12).saturating_add(LINK),
        }
    }
}

/// What the elements of a sequence are put into.
#[derive(Clone, Copy)]
pub(super) enum Store {
    /// A collection that has nothing in it so far. It is a `Vec` if it is the type of a `Vec` of whatever
    /// its first element turns out to be.
    Empty { collection: TypeId },
    /// A `Vec` with something in it.
    Vec,
    /// Another collection with something in it.
    Nodes,
}

impl Store {
    /// Nothing has been put into a collection of type `C`.
    #[inline]
    pub(super) fn empty<C>() -> Self {
        Store::Empty { collection: typeid::of::<C>() }
    }

    /// What the next element costs, if it is a `T`.
    #[inline]
    pub(super) fn cost<T>(&mut self) -> usize {
        let size = size_of::<T>();
        match *self {
            Store::Empty { collection } if collection == typeid::of::<Vec<T>>() => {
                *self = Store::Vec;
                if size == 0 { IDLE } else { size.saturating_mul(4).saturating_add(8) }
            }
            Store::Empty { .. } => {
                *self = Store::Nodes;
                size.saturating_mul(12).saturating_add(LINK + FIRST_NODE)
            }
            Store::Vec if size == 0 => IDLE,
            Store::Vec => size.saturating_mul(3),
            Store::Nodes => size.saturating_mul(4).saturating_add(LINK),
        }
    }
}

/// The entries of a map, whose keys and values come one after the other.
#[derive(Clone, Copy)]
pub(super) struct Entries {
    slots: usize,
    flat: usize,
    key_size: usize,
    key_align: usize,
}

impl Entries {
    /// A map without entries.
    #[inline]
    pub(super) fn empty() -> Self {
        Entries { slots: 12, flat: LINK + FIRST_NODE, key_size: 0, key_align: 1 }
    }

    /// What the next entry costs so far, if its key is a `K`.
    #[inline]
    pub(super) fn key_cost<K>(&mut self) -> usize {
        (self.key_size, self.key_align) = (size_of::<K>(), align_of::<K>());
        self.key_size.saturating_mul(self.slots).saturating_add(self.flat)
    }

    /// What the entry costs in addition, if its value is a `V`.
    #[inline]
    pub(super) fn value_cost<V>(&mut self) -> usize {
        // The two lie side by side, with padding.
        let entry_size =
            (self.key_size + size_of::<V>()).next_multiple_of(self.key_align.max(align_of::<V>()));
        let cost = (entry_size - self.key_size).saturating_mul(self.slots);
        (self.slots, self.flat) = (4, LINK);
        cost
    }
}

/// The memory that a value is meant for, which whoever asked for the value has accounted for.
#[derive(Clone, Copy)]
pub(super) enum Slot {
    /// It holds this type.
    Of(TypeId),
    /// It holds this type, which is an `Option` of the value's.
    OptionOf(TypeId),
    /// It has this size, and holds a type around the value's.
    Around(usize),
}

impl Slot {
    /// The slot for a `T`.
    #[inline]
    pub(super) fn of<T>() -> Self {
        Slot::Of(typeid::of::<T>())
    }

    /// What it costs to have a `T` where this slot was expected: nothing if the `T` is in the slot. If it
    /// cannot be, or may not be, there is a pointer in the slot.
    #[inline]
    pub(super) fn cost<T>(self) -> usize {
        let in_slot = match self {
            Slot::Of(id) => id == typeid::of::<T>(),
            Slot::OptionOf(id) => id == typeid::of::<Option<T>>(),
            Slot::Around(size) => size_of::<T>() <= size && !is_pointer_sized(size),
        };
        if in_slot { 0 } else { size_of::<T>().saturating_add(COUNTERS) }
    }
}

/// Whether something of this size may be a pointer, thin or fat.
#[inline]
fn is_pointer_sized(size: usize) -> bool {
    size == size_of::<usize>() || size == 2 * size_of::<usize>()
}
