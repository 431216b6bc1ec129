//! The tests of this crate, in one binary; a process that a test spawns is this binary again.
//!
//! Behaviours 60 to 64 of CPython's `multiprocessing` (as its test-suite has them) and where they are tested:
//!
//! | | behaviour | |
//! |---|---|---|
//! | 60 | creating what exists, opening what does not, no length | `names::b60_…` |
//! | 61 | attaching ignores a size; a second unlink is an error | `names::b61_…` |
//! | 62 | a SIGKILLed owner leaks nothing | `names::b62_…` |
//! | 63 | an attacher's end destroys nothing | `names::b63_…`, and `python` for attachers in Python |
//! | 64 | new memory is zero | `names::b64_…` |

mod access;
mod faults;
mod names;
mod python;
mod ring;
mod rival;
mod tools;
mod travel;
mod typed;
mod views;
