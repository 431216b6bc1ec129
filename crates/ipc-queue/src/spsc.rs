//! A channel from one process to another: no latch and no count of ends, for what has one sender and one receiver.
//!
//! [`spsc()`](crate::spsc()) makes the two ends, over a [ring](ipc_shm::ring) of bytes in shared memory. An end has one
//! owner, and moves when it is sent.
//!
//! - *Ordering*: messages come out as they went in. A message is there as a whole or not at all, whoever is killed when;
//!   only one that is longer than the ring goes through in pieces.
//! - *Delivery*: `Ok` says that the message is in the ring. What is in it when the receiver goes is lost.
//! - *Room*: each message takes 8 bytes and its encoded length, rounded up to 8.
//! - *Blocking*: `send` waits for room, `recv` for a message; `try_…` do not, `…_timeout` only so long. Who waits spins
//!   for as long as that has lately paid, then sleeps. Nobody makes a system call while nobody sleeps.
//! - *Death of the peer*: the receiver takes what is there, then gets [`RecvError::Disconnected`], or
//!   [`RecvError::Truncated`] if the sender went in the middle of a message longer than the ring. The sender gets
//!   [`SendError::Disconnected`] when it would wait, or at once if the receiver was dropped. An end that is dropped wakes
//!   the other; so does the kernel when one is killed.
//! - *Memory*: taken 256 KiB at a time as the ring is first written through. Small messages allocate nothing.
//! - *Hostile peer*: at worst an error, or a wait without end; memory grows with what has arrived, up to the limits.
//! - *Threads*: `Send` and `Sync`, used by `&mut`: threads share an end behind a lock of theirs.
//! - *Fork*: a forked child's copy must not be used, and keeps the channel open until the child ends.
//! - *Moving*: serialising an end into a message moves it: after the message has gone, every call here fails with
//!   `Moved`. What of a message has begun goes along. Limits do not: the new owner sets its own.
//!
//! [`RecvError::Disconnected`]: crate::RecvError::Disconnected
//! [`RecvError::Truncated`]: crate::RecvError::Truncated
//! [`SendError::Disconnected`]: crate::SendError::Disconnected

mod receiver;
mod sender;
mod travel;

pub use receiver::{IntoIter, Iter, Receiver};
pub use sender::Sender;

/// The kinds of the ring's frames.
const MESSAGE: u32 = 0;
const BYTES: u32 = 1;

/// A buffer that one message has made longer than this is given back.
const KEEP_MAX: usize = 1 << 20;
