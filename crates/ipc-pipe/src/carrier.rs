//! Pipes as a carrier of frames: what protocols above this crate are built on.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use ipc_core::channel::{Capabilities, Channel, Frame};
use ipc_core::frame::FrameKind;
use ipc_core::{RecvError, SendError};
use ipc_os::{Readiness, Waitable};
use parking_lot::{Mutex, MutexGuard};

use crate::pipe::{Receiver, Sender};
use ipc_stream::{End, Rx, Tx, Until};

/// A [`Channel`] over a duplex (see [`Duplex::into_channel`](crate::Duplex::into_channel)) or over two one-way pipes.
/// Its two directions are used independently, by any number of threads: those that do the same take turns, no longer
/// than their deadline.
///
/// ```
/// use ipc_core::{Codec, channel};
/// let (a, b) = ipc_pipe::duplex::<(), ()>()?;
/// let (a, b) = (a.into_channel(), b.into_channel());
/// channel::send_message(&a, &Codec::default(), "hello", None)?;
/// assert_eq!(channel::recv_message::<String>(&b, &Codec::default(), None)?, "hello");
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[derive(Debug)]
pub struct PipeChannel {
    tx: Mutex<Tx>,
    rx: Mutex<Rx>,
    /// The receiving end, to wait for without the lock.
    end: Arc<End>,
    moves_handles: bool,
}

impl PipeChannel {
    pub(crate) fn new(tx: Tx, rx: Rx) -> Self {
        let moves_handles = tx.end().moves_handles() && rx.end().moves_handles();
        let end = Arc::clone(rx.end());
        PipeChannel { tx: Mutex::new(tx), rx: Mutex::new(rx), end, moves_handles }
    }

    /// A channel that sends into one pipe and receives from another.
    pub fn over<A, B>(sender: Sender<A>, receiver: Receiver<B>) -> Self {
        PipeChannel::new(sender.tx, receiver.rx)
    }
}

/// The lock, if it is had in time.
fn lock_until<T>(mutex: &Mutex<T>, deadline: Option<Instant>) -> Option<MutexGuard<'_, T>> {
    match deadline {
        None => Some(mutex.lock()),
        Some(deadline) => mutex.try_lock_until(deadline),
    }
}

impl Channel for PipeChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities::local(self.moves_handles)
    }

    fn send_frame(
        &self,
        kind: FrameKind,
        parts: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
        deadline: Option<Instant>,
    ) -> Result<(), SendError> {
        let mut tx = lock_until(&self.tx, deadline).ok_or(SendError::Timeout)?;
        tx.send_parts(kind, parts, descriptors, Until::deadline(deadline))
    }

    fn flush(&self, deadline: Option<Instant>) -> Result<(), SendError> {
        lock_until(&self.tx, deadline).ok_or(SendError::Timeout)?.flush(Until::deadline(deadline))
    }

    fn recv_frame(&self, frame: &mut Frame, deadline: Option<Instant>) -> Result<(), RecvError> {
        let mut rx = lock_until(&self.rx, deadline).ok_or(RecvError::Timeout)?;
        frame.payload.clear();
        frame.descriptors.clear();
        let received = rx.recv_frame(&mut frame.payload, &mut frame.descriptors, Until::deadline(deadline));
        frame.kind = Some(received?);
        Ok(())
    }
}

impl AsFd for PipeChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

impl Waitable for PipeChannel {
    fn readiness(&self) -> Readiness<'_> {
        // A receiver at work takes what there is; whoever waits then looks at the descriptor.
        match self.rx.try_lock() {
            Some(rx) if rx.is_ready() => Readiness::Now,
            _ => Readiness::Descriptor(self.as_fd()),
        }
    }
}
