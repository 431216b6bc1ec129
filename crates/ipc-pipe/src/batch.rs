//! Many messages with one system call.

use ipc_core::SendError;
use serde::Serialize;

use crate::pipe::Sender;

/// A batch goes out when this many bytes have come together: half of what a pipe holds by default, so that the
/// reader works on one half while the other is written.
const FULL: usize = 32 << 10;

/// Collects messages for a [`Sender`] and puts them out together. Dropping it puts out what it holds, as far as that
/// works; [`Batch::flush`] tells whether it did.
#[derive(Debug)]
pub struct Batch<'a, T: Serialize> {
    sender: &'a mut Sender<T>,
}

impl<'a, T: Serialize> Batch<'a, T> {
    pub(crate) fn new(sender: &'a mut Sender<T>) -> Result<Self, SendError> {
        sender.tx.begin_batch()?;
        Ok(Batch { sender })
    }

    /// Adds a message; puts the batch out when it is full, waiting for room. A message with handles goes out at once,
    /// behind those before it.
    ///
    /// # Errors
    /// As [`Sender::send`]. A message that cannot be encoded leaves the batch as it was.
    pub fn send(&mut self, message: &T) -> Result<(), SendError> {
        self.sender.tx.batch(&[], message, FULL)
    }

    /// Puts out what is in the batch, waiting for room.
    ///
    /// # Errors
    /// [`SendError::Disconnected`], [`SendError::Io`].
    pub fn flush(&mut self) -> Result<(), SendError> {
        self.sender.tx.put_batch()
    }
}

impl<T: Serialize> Drop for Batch<'_, T> {
    fn drop(&mut self) {
        let _ = self.flush();
    }
}
