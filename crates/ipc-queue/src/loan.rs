//! Plain data that is written and read where it lies: what it costs does not depend on how much it is.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::size_of;
use std::sync::Arc;

use ipc_core::{Classify, ErrorKind, RecvError, SendError};
use ipc_shm::Plain;
use ipc_shm::zerocopy::IntoBytes;

use crate::end::{End, Wait};
use crate::layout::{INLINE, PAGE};
use crate::queue::{Form, Put};
use crate::receiver::Got;
use crate::store::Held;
use crate::{Receiver, Sender};

/// Memory of a queue, to be filled and sent, or dropped.
///
/// It holds so many values of type `T`, and what somebody left there before: any values. Nobody else sees it before it is
/// [committed](Self::commit). If the process dies, the memory comes back when others need it.
///
/// ```
/// let (tx, rx) = ipc_queue::bounded::<f32>(4)?;
/// let mut loan = tx.loan(1_000_000)?;
/// loan.copy_from(0, &[0.5; 1000])?;
/// loan.set(999_999, 1.5)?;
/// loan.commit()?;
///
/// let samples = rx.recv_loan()?;
/// assert_eq!((samples.len(), samples.get(10)?, samples.get(999_999)?), (1_000_000, 0.5, 1.5));
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[must_use = "dropped, it is not sent"]
pub struct Loan<T> {
    memory: Memory,
    sender: Sender<T>,
    count: usize,
}

/// A message of plain data, where it lies. Its memory is free for others when this is dropped, or the process ends.
///
/// Who sent it could write there still, if it were hostile: values are copied out, and may be any.
pub struct Received<T> {
    memory: Place,
    count: usize,
    types: PhantomData<fn() -> T>,
}

/// There are no such values in the loan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{count} values from {index} on are not within the {len} that there are")]
pub struct OutOfBounds {
    /// The first value that was asked for.
    pub index: usize,
    /// How many.
    pub count: usize,
    /// How many there are.
    pub len: usize,
}

impl Classify for OutOfBounds {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

/// Pages, until they are given away or back.
struct Memory {
    end: Arc<End>,
    held: Option<Held>,
}

enum Place {
    Queue(Memory),
    /// One that was not in the store: a short one, or one for which there was no place.
    Private(Vec<u8>),
}

impl Memory {
    fn at(&self) -> usize {
        let queue = &self.end.queue;
        self.held.map_or(queue.layout.len, |held| held.pages.at(&queue.layout))
    }

    /// The place was checked to be within the pages.
    fn write(&self, offset: usize, bytes: &[u8]) {
        let _within = self.end.queue.object.write(self.at() + offset, bytes);
    }

    fn read(&self, offset: usize, bytes: &mut [u8]) {
        let _within = self.end.queue.object.read(self.at() + offset, bytes);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            let queue = &self.end.queue;
            // If it fails, the pages come back with this process.
            let _in_a_sweep = queue.store.free(held);
            queue.freed.ring_for_all();
        }
    }
}

/// Where so many values from `index` on are, in bytes.
fn place<T>(len: usize, index: usize, count: usize) -> Result<usize, OutOfBounds> {
    match index.checked_add(count) {
        Some(end) if end <= len => Ok(index * size_of::<T>()),
        _ => Err(OutOfBounds { index, count, len }),
    }
}

impl<T: Plain> Sender<T> {
    /// Memory for that many values, to be filled and sent without a copy; waits for it.
    ///
    /// # Errors
    /// [`SendError::TooLarge`], [`SendError::Frame`], [`SendError::Disconnected`], [`SendError::Io`].
    pub fn loan(&self, count: usize) -> Result<Loan<T>, SendError> {
        self.loan_within(count, Wait::forever())
    }

    /// As [`loan`](Self::loan), if there is memory now.
    ///
    /// # Errors
    /// [`SendError::Full`]; else as of [`loan`](Self::loan).
    pub fn try_loan(&self, count: usize) -> Result<Loan<T>, SendError> {
        self.loan_within(count, Wait::none())
    }

    fn loan_within(&self, count: usize, mut wait: Wait) -> Result<Loan<T>, SendError> {
        const { assert!(size_of::<T>() != 0, "values without bytes need no loan") };
        const { assert!(align_of::<T>() <= PAGE, "aligned to more than a page") };
        let held = self.pages(count.saturating_mul(size_of::<T>()), &mut wait)?;
        let memory = Memory { end: Arc::clone(self.end()), held: Some(held) };
        Ok(Loan { memory, sender: self.clone(), count })
    }
}

impl<T: Plain> Loan<T> {
    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sets one value.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    #[inline]
    pub fn set(&mut self, index: usize, value: T) -> Result<(), OutOfBounds> {
        self.memory.write(place::<T>(self.count, index, 1)?, value.as_bytes());
        Ok(())
    }

    /// Copies values in, from `index` on.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn copy_from(&mut self, index: usize, values: &[T]) -> Result<(), OutOfBounds> {
        self.memory.write(place::<T>(self.count, index, values.len())?, values.as_bytes());
        Ok(())
    }

    /// Sends it, waiting for room.
    ///
    /// # Errors
    /// As of [`Sender::send`]; its memory is free then.
    pub fn commit(self) -> Result<(), SendError> {
        self.commit_within(Wait::forever())
    }

    /// Sends it if there is room now.
    ///
    /// # Errors
    /// As of [`Sender::try_send`]; its memory is free then.
    pub fn try_commit(self) -> Result<(), SendError> {
        self.commit_within(Wait::none())
    }

    fn commit_within(mut self, mut wait: Wait) -> Result<(), SendError> {
        let Some(held) = self.memory.held else { return Ok(()) };
        let message = Put::Stored(held, self.count * size_of::<T>());
        self.sender.put_with(Form::Plain, message, &mut wait)?;
        // The queue's now.
        self.memory.held = None;
        Ok(())
    }
}

impl<T: Plain> Receiver<T> {
    /// Receives plain data where it lies, waiting for it: what was sent from a loan, or as bytes.
    ///
    /// # Errors
    /// [`RecvError::Io`] if it is no whole number of values (it is gone); else as of
    /// [`recv_bytes`](Self::recv_bytes).
    pub fn recv_loan(&self) -> Result<Received<T>, RecvError> {
        self.recv_loan_within(Wait::forever())
    }

    /// As [`recv_loan`](Self::recv_loan), if there is a message now.
    ///
    /// # Errors
    /// [`RecvError::Empty`]; else as of [`recv_loan`](Self::recv_loan).
    pub fn try_recv_loan(&self) -> Result<Received<T>, RecvError> {
        self.recv_loan_within(Wait::none())
    }

    /// As [`recv_loan`](Self::recv_loan), waiting no longer than that.
    ///
    /// # Errors
    /// [`RecvError::Timeout`]; else as of [`recv_loan`](Self::recv_loan).
    pub fn recv_loan_timeout(&self, timeout: std::time::Duration) -> Result<Received<T>, RecvError> {
        self.recv_loan_within(Wait::within(timeout))
    }

    fn recv_loan_within(&self, wait: Wait) -> Result<Received<T>, RecvError> {
        const { assert!(size_of::<T>() != 0, "values without bytes need no loan") };
        let mut here = [0; INLINE];
        let got = self.take(Form::Plain, &mut here, wait)?;
        let len = got.len();
        let memory = match got {
            Got::Here(len) => Place::Private(here[..len].to_vec()),
            Got::Copied(bytes) => Place::Private(bytes),
            Got::Stored(held, _) => Place::Queue(Memory { end: Arc::clone(self.end()), held: Some(held) }),
        };
        if !len.is_multiple_of(size_of::<T>()) {
            let what = format!("{len} bytes are no whole number of values of {} bytes", size_of::<T>());
            return Err(RecvError::Io(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        Ok(Received { memory, count: len / size_of::<T>(), types: PhantomData })
    }
}

impl<T: Plain> Received<T> {
    /// How many values there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One value.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    #[inline]
    pub fn get(&self, index: usize) -> Result<T, OutOfBounds> {
        let mut value = T::new_zeroed();
        self.read(place::<T>(self.count, index, 1)?, value.as_mut_bytes());
        Ok(value)
    }

    /// Copies values out, from `index` on.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn copy_to(&self, index: usize, values: &mut [T]) -> Result<(), OutOfBounds> {
        self.read(place::<T>(self.count, index, values.len())?, values.as_mut_bytes());
        Ok(())
    }

    /// All values.
    pub fn to_vec(&self) -> Vec<T> {
        let mut values = vec![T::new_zeroed(); self.count];
        self.read(0, values.as_mut_bytes());
        values
    }

    fn read(&self, offset: usize, bytes: &mut [u8]) {
        match &self.memory {
            Place::Queue(memory) => memory.read(offset, bytes),
            Place::Private(private) => bytes.copy_from_slice(&private[offset..offset + bytes.len()]),
        }
    }
}

impl<T> fmt::Debug for Loan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("len", &self.count).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Received<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("len", &self.count).finish_non_exhaustive()
    }
}
