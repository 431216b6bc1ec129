//! Pickles, as far as they are plain data.
//!
//! [`encode`] writes protocol 4, which CPython reads since 3.4. [`decode`] reads all protocols, 0 to 5, in the forms
//! that CPython's pickler gives to the types of an [`Object`](super::Object), from Python 2.7 on.
//!
//! # Nothing is executed
//!
//! A pickle is a program that may name any function of Python and have it called. Here the few calls that plain data
//! needs in the older protocols (`set`, `frozenset`, `bytes` and `_codecs.encode` to Latin-1) are read as data, by
//! their exact names; every other name ends in [`PickleError::Global`], and every opcode that builds more than data
//! in [`PickleError::Opcode`].
//!
//! # What a hostile pickle costs
//!
//! A pickle can refer to what it has already said. An [`Object`](super::Object) is a tree, so what is referred to is
//! copied, and forty lines of a pickle can stand for more than any memory holds. So the pickle is read into a graph
//! first, without copies, and the tree is measured before it is made. Both together are held to
//! [`Limits::memory_max`](ipc_core::Limits#structfield.memory_max), and with it the number of nodes, each of which
//! takes [`NODE_COST`] bytes in the tree; nesting is held to
//! [`Limits::depth_max`](ipc_core::Limits#structfield.depth_max). What contains itself is
//! [`PickleError::SelfReference`]. Lengths are compared with what is there before anything is allocated.
//!
//! # Why not `serde-pickle`
//!
//! It copies at each reference and recurses into them without a budget for either (so that some hundred bytes take
//! all memory), has dicts and sets in an order of its own, and writes protocol 3 at most.

mod decode;
mod encode;
mod error;
mod graph;
mod machine;
mod opcode;
mod reader;
mod text;

pub use decode::decode;
pub use encode::encode;
pub use error::PickleError;

/// What an element of a list, tuple, set or frozenset is reckoned at, in bytes, besides the text or bytes that it
/// contains; an entry of a dict is two of them.
pub const NODE_COST: usize = size_of::<super::Object>();

#[cfg(test)]
mod tests;
