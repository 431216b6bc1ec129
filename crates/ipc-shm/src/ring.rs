//! A ring of bytes in shared memory: frames from one process to another, without a system call while both keep up.
//!
//! [`ring()`] makes the two ends. What [`RingWriter::write`] puts in comes out of [`RingReader::read`], in order, whole,
//! with the kind that it was given. An end has one owner; it moves to another process inside a message, and goes on
//! there where it stopped.
//!
//! ```
//! let (mut writer, mut reader) = ipc_shm::ring::ring(64 << 10)?;
//! writer.write(7, b"to whom it may concern")?;
//! let mut frame = Vec::new();
//! assert_eq!(reader.read(&mut frame)?, 7);
//! assert_eq!(frame, b"to whom it may concern");
//! drop(writer);
//! assert!(matches!(reader.read(&mut frame), Err(ipc_core::RecvError::Disconnected)));
//! # Ok::<(), ipc_core::Error>(())
//! ```
//!
//! - *Ordering*: frames come out as they went in. A frame is there as a whole or not at all, whoever is killed when; only
//!   one that is longer than the ring goes through in pieces.
//! - *Delivery*: `Ok` says that the frame is in the ring. What is in it when the reader goes is lost, and what it had of a
//!   [`Batch`].
//! - *Blocking*: `write` waits for room, `read` for a frame; `try_…` do not, `…_timeout` only so long. Who waits spins for
//!   as long as that has lately paid, then sleeps. Nobody makes a system call while nobody sleeps.
//! - *Death of the peer*: the reader takes what is there, then gets `Disconnected`, or `Truncated` if the writer went in
//!   the middle of a long frame. The writer gets `Disconnected` when it would wait, or at once if the reader was dropped.
//!   An end that is dropped wakes the other. Of one that is killed the kernel wakes the other, which is told when that
//!   process is gone; where the kernel cannot, it is noticed at a tick.
//! - *Memory*: taken 256 KiB at a time as the ring is first written through. Where there is none, a write fails with
//!   `StorageFull`, and goes through later if there is some.
//! - *Several things*: a reader can be [waited for](ipc_os::wait) beside others; there a peer that is killed is noticed within
//!   100 ms. A [`Closer`] ends the waits of another thread.
//! - *Hostile peer*: at worst an error, or a wait without end; memory grows with what has arrived, up to the limits.
//! - *Threads and fork*: ends are `Send` and `Sync`, and used by `&mut`. A forked child's copies must not be used, and keep
//!   the ring open until the child ends.
//!
//! # What lies in memory, version 1
//!
//! ```text
//!     0  magic "ipc-ring" u64 | version u32 | 0 u32 | capacity u64       read and checked once, when an end arrives
//!   128  tail u64: bytes written so far  | Id of the writer's process    only the writer stores
//!   256  head u64: bytes read so far     | Id of the reader's process    only the reader stores
//!   384  the reader's bell u32: 1 it sleeps here | 2 it was dropped
//!   512  the writer's bell u32
//!  4096  data: capacity bytes, a power of two; byte n of all that is ever written is at n % capacity
//!
//!  frame      | len u32 | kind u32 | len bytes … | zero to a multiple of 8 |
//!  padding    | len u32 | !0   u32 | len bytes of anything, to the end of the data |
//! ```
//!
//! Words that different processes store are 128 bytes apart: neighbouring cache lines are fetched together. Both counts
//! only grow, by multiples of 8, and `tail - head` is at most the capacity. A store of `tail` commits all frames before
//! it, which are whole; but one that is longer than the capacity with its header is committed in pieces, of which the
//! first has at least the header. Each end keeps its own count and the last that it saw of the other to itself: the
//! other's word is read when that does not suffice, and checked each time.

mod bell;
mod closer;
mod end;
mod place;
mod reader;
mod seen;
mod travel;
mod until;
mod writer;

pub use closer::Closer;
pub use reader::{Batch, RingReader};
pub use seen::{Frame, Reserved};
pub use writer::RingWriter;

use ipc_sync::OpenError;

use place::Place;

/// The smallest ring, and the largest.
const CAPACITY_MIN: usize = 4 << 10;
const CAPACITY_MAX: usize = 1 << 30;

/// Makes a ring that holds that many bytes, of which each frame takes 8 and its length rounded up to 8; rounded up to a
/// power of two of at least 4 KiB.
///
/// # Errors
/// [`OpenError::InvalidInput`] beyond 1 GiB, [`OpenError::NoSpace`], [`OpenError::Io`].
pub fn ring(bytes: usize) -> Result<(RingWriter, RingReader), OpenError> {
    if bytes > CAPACITY_MAX {
        return Err(OpenError::InvalidInput(format!(
            "a ring of {bytes} bytes: it can have {CAPACITY_MAX} at most"
        )));
    }
    let place = Place::new(bytes.max(CAPACITY_MIN).next_power_of_two())?;
    Ok((RingWriter::new(place.clone())?, RingReader::new(place)?))
}
