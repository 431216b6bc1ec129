//! The tests of this crate between real processes, in one binary; a process that a test spawns is this binary again.
//!
//! Behaviours 48 to 59 of CPython's `multiprocessing` (as its test-suite has them) and where they are tested:
//!
//! | | behaviour | |
//! |---|---|---|
//! | 48 | trying a held lock; releasing one that is not held | `behaviours::b48_…`; the latter does not compile: there is no guard |
//! | 49 | a reentrant lock nests three times | `behaviours::b49_…`; a fourth release does not compile |
//! | 50 | releasing beyond the bound | `behaviours::b50_…` |
//! | 51 | taking with a time-out | `behaviours::b51_…` |
//! | 52 | `notify` wakes one, `notify_many(n)` at most n, none is stored | `behaviours::b52_…` |
//! | 53 | waiting without the lock; waiting with a time-out | `behaviours::b53_…` |
//! | 54 | `wait_for_timeout` keeps the time over all wakes | `behaviours::b54_…` |
//! | 55 | who timed out does not disturb later notifications | `behaviours::b55_…` |
//! | 56 | the two results of a wait for an event | `behaviours::b56_…` |
//! | 57 | exactly one party gets 0, the action runs once | `behaviours::b57_…` |
//! | 58 | abort and time-out break a barrier, reset revives it | `behaviours::b58_…` |
//! | 59 | 1,000 meetings in lockstep | `behaviours::b59_…` |

mod abandoned;
mod barrier;
mod behaviours;
mod condition;
mod death;
mod event;
mod fallback;
mod fork;
mod hostile;
mod lock;
mod pidns;
mod reentrant;
mod rwlock;
mod semaphore;
mod soak;
mod threads;
mod tools;
mod travel;
