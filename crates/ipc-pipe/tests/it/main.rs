//! The tests of this crate, in one binary; a process that a test spawns is this binary again.
//!
//! Behaviours 15 to 32 of CPython's `multiprocessing` (as its test-suite has them) and where they are tested:
//!
//! | | behaviour | |
//! |---|---|---|
//! | 15 | echo of empty, small and 16 MiB messages | `behaviours::b15_…` |
//! | 16 | bounds errors of an offset and a size | no test: a slice cannot be out of bounds |
//! | 17 | receiving into too small a buffer | `behaviours::b17_…` |
//! | 18 | receiving into a place | `behaviours::b18_…` |
//! | 19 | polls wait as long as they were told | `behaviours::b19_…`; a negative time does not exist |
//! | 20 | polls consume nothing | `behaviours::b20_…` |
//! | 21 | an empty message is one | `behaviours::b21_…` |
//! | 22 | messages do not merge | `behaviours::b22_…` |
//! | 23 | the wrong direction of a one-way pipe, `poll` on a writer | do not compile: doctests in the README |
//! | 24 | closed peer, cut-off message | `behaviours::b24_…`, and `death` |
//! | 25 | the parent's copy of a child's end | `behaviours::b25_…` |
//! | 26 | polling in a child eats nothing | `behaviours::b26_…` |
//! | 27 | signals are invisible to send, receive and join | `signals::b27_…`; `accept` is no part of this crate |
//! | 28 | descriptor numbers above 256; missing descriptors | `behaviours::b28_…` |
//! | 29 | ends and sockets through a duplex | `behaviours::b29_…` |
//! | 30 | one wait over pipes, sockets and sentinels | `wait::b30_…` |
//! | 31 | time-outs of a wait | `wait::b31_…`; a negative time does not exist |
//! | 32 | a wait returns all that are ready | `wait::b32_…` |

mod batch;
mod behaviours;
mod channel;
mod death;
mod descriptors;
mod fifo;
mod fifo_death;
mod hostile;
mod moving;
mod raw;
mod send_states;
mod signals;
mod stream;
mod tools;
mod wait;
