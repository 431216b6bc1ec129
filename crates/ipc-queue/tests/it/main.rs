//! The tests of this crate, in one binary; a process that a test spawns is this binary again.
//!
//! Behaviours 40 to 47 of CPython's `multiprocessing` (as its test-suite has them) and where they are tested:
//!
//! | | behaviour | |
//! |---|---|---|
//! | 40 | full: at once, or after the time given | `behaviours::b40_…` |
//! | 41 | empty: the same | `behaviours::b41_…` |
//! | 42 | a time-out does not count for who must not wait | does not compile: `try_send` has none |
//! | 43 | the length follows what is put and taken | `behaviours::b43_…` |
//! | 44 | who is spawned after use keeps the order of both writers | `behaviours::b44_…` |
//! | 45 | what cannot be serialised leaves the queue as it was | `behaviours::b45_…` |
//! | 46 | `join` returns after the last acknowledgement; one more does not compile | `work::b46_…` |
//! | 47 | after a side is gone | `behaviours::b47_…` |

mod behaviours;
mod death;
mod hostile;
mod loan;
mod names;
mod sizes;
mod spsc;
mod travel;
mod waiting;
mod work;
