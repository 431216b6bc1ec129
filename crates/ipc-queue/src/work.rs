//! Work queues: each message is leased to a worker, and done when the worker says so.
//!
//! A worker that dies before it has acknowledged a message, or gives it back, has it delivered again, at once, with the same
//! number and a higher count of attempts. What has been delivered too often is put aside ([`Options::attempts`],
//! [`Receiver::try_recv_aside`]). [`Sender::join`] waits until all is done.
//!
//! A message may be worked on twice: when a worker dies after it has done the work and before it has said so. Its number
//! ([`Delivery::id`]) is the same then, and [`Delivery::attempts`] is more than 1.
//!
//! [`Options::attempts`]: crate::Options::attempts

use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use ipc_core::{Classify, Codec, ErrorKind, Limits, RecvError, SendError};
use ipc_os::{Readiness, Waitable};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::end::{End, Wait, Waited, unlatched};
use crate::iter::iterator;
use crate::lease::Due;
use crate::queue::Delivered;
use crate::receiver::{empty, unreceived};
use crate::sender::with_scratch;

/// The side of a work queue that messages go into: as the [`Sender`](crate::Sender) of other queues.
pub struct Sender<T>(crate::Sender<T>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender(self.0.clone())
    }
}

/// Why a wait for all that was sent ended before it was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// There are messages, and nobody who could work on them.
    #[error("there is work left, and no worker")]
    Disconnected,
    /// Not all was done within the time given.
    #[error("not all was done within the time given")]
    Timeout,
    /// The operating system reports something.
    #[error("cannot wait until all is done")]
    Io(#[source] io::Error),
}

impl Classify for JoinError {
    fn kind(&self) -> ErrorKind {
        match self {
            JoinError::Disconnected => ErrorKind::Disconnected,
            JoinError::Timeout => ErrorKind::Timeout,
            JoinError::Io(error) => ErrorKind::of_io(error),
        }
    }
}

impl<T> Sender<T> {
    pub(crate) fn over(end: End) -> Self {
        Sender(crate::Sender::over(end))
    }

    pub(crate) fn end(&self) -> &Arc<End> {
        self.0.end()
    }

    /// Sets the limits for what this handle sends.
    pub fn set_limits(&mut self, limits: Limits) {
        self.0.set_limits(limits);
    }

    /// How many messages the queue holds, beside those that are being worked on.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// How many messages wait for a worker, beside those that are to be delivered again.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until every message that was sent before is acknowledged, or put aside.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn join(&self) -> Result<(), JoinError> {
        self.join_within(Wait::forever())
    }

    /// As [`join`](Self::join), for that time at most.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.join_within(Wait::within(timeout))
    }

    fn join_within(&self, mut wait: Wait) -> Result<(), JoinError> {
        let end = self.0.end();
        let queue = &end.queue;
        // The slots first: a message is in a lease before it is out of its slot.
        let is_done = || !queue.has_message() && !queue.leases.unfinished().0;
        loop {
            if is_done() {
                end.settle_at(&queue.done, &wait, || true);
                return Ok(());
            }
            let (_, owners) = queue.leases.unfinished();
            match end.wait_for(&queue.done, &mut wait, is_done, || false, &owners).map_err(JoinError::Io)? {
                Waited::Look => {}
                Waited::TimedOut => {
                    end.settle_at(&queue.done, &wait, || true);
                    return Err(JoinError::Timeout);
                }
                Waited::Disconnected | Waited::Abandoned => return Err(JoinError::Disconnected),
            }
        }
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// As of [`Sender::send`](crate::Sender::send) of other queues.
    #[inline]
    pub fn send(&self, message: &T) -> Result<(), SendError> {
        self.0.send(message)
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    /// As of [`Sender::try_send`](crate::Sender::try_send) of other queues.
    pub fn try_send(&self, message: &T) -> Result<(), SendError> {
        self.0.try_send(message)
    }

    /// Sends a message, waiting for room no longer than that.
    ///
    /// # Errors
    /// As of [`Sender::send_timeout`](crate::Sender::send_timeout) of other queues.
    pub fn send_timeout(&self, message: &T, timeout: Duration) -> Result<(), SendError> {
        self.0.send_timeout(message, timeout)
    }

    /// Sends all messages of an iterator.
    ///
    /// # Errors
    /// As of [`Sender::send_all`](crate::Sender::send_all) of other queues.
    pub fn send_all(
        &self,
        messages: impl IntoIterator<Item = impl std::borrow::Borrow<T>>,
    ) -> Result<usize, ipc_core::SendAllError> {
        self.0.send_all(messages)
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The side of a work queue that workers take messages from.
///
/// A handle, as the [`Receiver`](crate::Receiver) of other queues. When the last sender is gone, and nothing is left that
/// could be delivered, also by the death of another worker, [`RecvError::Disconnected`] comes.
pub struct Receiver<T> {
    inner: crate::Receiver<T>,
    codec: Codec,
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver { inner: self.inner.clone(), codec: self.codec }
    }
}

impl<T> Receiver<T> {
    pub(crate) fn over(end: End) -> Self {
        Receiver { inner: crate::Receiver::over(end), codec: Codec::default() }
    }

    pub(crate) fn end(&self) -> &Arc<End> {
        self.inner.end()
    }

    /// Sets the limits that protect this process from what is received.
    pub fn set_limits(&mut self, limits: Limits) {
        self.codec = Codec::new(limits);
    }

    /// How many messages the queue holds, beside those that are being worked on.
    pub fn capacity(&self) -> usize {
        self.inner.capacity()
    }

    /// How many messages wait for a worker, beside those that are to be delivered again.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    fn lease(&self, mut wait: Wait) -> Result<usize, RecvError> {
        let end = self.end();
        let queue = &end.queue;
        // Where there is always a next message nobody would look after the dead.
        let mut is_sure = end.is_to_ask();
        let is_due = || queue.has_message() || queue.leases.any_due();
        loop {
            let mut is_out = false;
            if is_sure || is_due() {
                let latch =
                    queue.latch_receivers(|| wait.latch_nap()).map_err(|why| unreceived(why, &wait))?;
                let delivered = queue.deliver(is_sure).map_err(RecvError::Io)?;
                drop(latch);
                match delivered {
                    Delivered::Lease(lease) => {
                        queue.room.ring_after_latch();
                        end.settle(&wait, is_due);
                        return Ok(lease);
                    }
                    Delivered::TooMany => is_out = true,
                    Delivered::Empty => {}
                }
            }
            let mut others = queue.leases.others().map_err(RecvError::Io)?;
            // A message that cannot be leased now waits for an acknowledgement, which rings for nobody.
            if is_out {
                others.push(queue.object.my_process().map_err(RecvError::Io)?);
                wait.nap().hurry();
            }
            let ready = || !is_out && is_due();
            match end.wait_for(&queue.items, &mut wait, ready, || false, &others).map_err(RecvError::Io)? {
                // After a sleep the kernel is asked: somebody may have died.
                Waited::Look => is_sure = true,
                Waited::TimedOut if is_sure => {
                    end.settle(&wait, is_due);
                    let is_over = end.is_disconnected().map_err(RecvError::Io)?
                        && !queue.has_message()
                        && !queue.leases.may_come().map_err(RecvError::Io)?;
                    return Err(if is_over { RecvError::Disconnected } else { empty(&wait) });
                }
                // Who does not wait has looked after nobody so far.
                Waited::TimedOut => is_sure = true,
                // Another may have taken the last message since it was asked who has some, and before the last sender went.
                Waited::Disconnected if queue.leases.may_come().map_err(RecvError::Io)? => {}
                Waited::Disconnected => return Err(RecvError::Disconnected),
                Waited::Abandoned => return Err(RecvError::Abandoned),
            }
        }
    }

    /// As [`try_recv_aside`](Self::try_recv_aside), its bytes as they were encoded: for what is no `T`, which would stay
    /// aside for ever.
    ///
    /// # Errors
    /// [`RecvError::Empty`] if there is none; [`RecvError::Io`].
    ///
    /// ```
    /// let (tx, rx) = ipc_queue::Options::new(4).attempts(1).work::<u8>()?;
    /// tx.send(&7)?;
    /// rx.recv()?.nack();
    /// assert!(rx.try_recv().is_err());
    /// let aside = rx.try_recv_aside_bytes()?;
    /// assert_eq!(aside.ack()?, [7]);
    /// # Ok::<(), ipc_core::Error>(())
    /// ```
    pub fn try_recv_aside_bytes(&self) -> Result<Delivery<Vec<u8>>, RecvError> {
        self.deliver_as(self.lease_aside()?, |bytes| Ok(std::mem::take(bytes)))
    }

    fn lease_aside(&self) -> Result<usize, RecvError> {
        let queue = &self.end().queue;
        let wait = Wait::none();
        let latch = queue.latch_receivers(|| wait.latch_nap()).map_err(|why| unreceived(why, &wait))?;
        let due = queue.leases.take_aside().map_err(RecvError::Io)?;
        drop(latch);
        match due {
            Due::Again(lease) => Ok(lease),
            Due::Aside | Due::Nothing => Err(RecvError::Empty),
        }
    }

    fn deliver_as<M>(
        &self,
        lease: usize,
        read: impl FnOnce(&mut Vec<u8>) -> Result<M, RecvError>,
    ) -> Result<Delivery<M>, RecvError> {
        let lease = Lease { end: Arc::clone(self.end()), index: Some(lease) };
        let leases = &lease.end.queue.leases;
        let index = lease.index.unwrap_or_default();
        let message = with_scratch(|bytes| {
            leases.read(index, bytes).map_err(RecvError::Io)?;
            read(bytes)
        });
        match message {
            Ok(message) => {
                let (id, attempts) = (leases.id(index), leases.attempts(index));
                Ok(Delivery(Leased { id, attempts, message, lease }))
            }
            Err(error) => {
                lease.put_aside();
                Err(error)
            }
        }
    }
}

/// Ready when there is a message to be worked on, or nothing can come any more.
impl<T> Waitable for Receiver<T> {
    fn readiness(&self) -> Readiness<'_> {
        let queue = &self.end().queue;
        let is_due = || queue.has_message() || queue.leases.any_due();
        let others = queue.leases.others().is_ok_and(|others| !others.is_empty());
        match self.end().readiness(is_due) {
            // Nobody sends, but what others have may come again.
            Readiness::Now if others && !is_due() => Readiness::Word(queue.items.word(), queue.items.arm()),
            readiness => readiness,
        }
    }

    fn has_slept(&self) {
        let queue = &self.end().queue;
        queue.items.settle(|| queue.has_message() || queue.leases.any_due());
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Takes the next message to be worked on, waiting for it: first those that are to be delivered again.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] when all is done and nobody can send any more; [`RecvError::Decode`] for a message that
    /// is no `T` (it is [put aside](Self::try_recv_aside_bytes)); [`RecvError::Abandoned`]; [`RecvError::Io`].
    pub fn recv(&self) -> Result<Delivery<T>, RecvError> {
        self.deliver(self.lease(Wait::forever())?)
    }

    /// Takes the next message if there is one now.
    ///
    /// # Errors
    /// [`RecvError::Empty`]; else as of [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Delivery<T>, RecvError> {
        self.deliver(self.lease(Wait::none())?)
    }

    /// Takes the next message, waiting no longer than that.
    ///
    /// # Errors
    /// [`RecvError::Timeout`]; else as of [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Delivery<T>, RecvError> {
        self.deliver(self.lease(Wait::within(timeout))?)
    }

    /// Takes a message that was put aside since it was delivered too often: acknowledged it is gone, given back it is
    /// delivered to a worker once more.
    ///
    /// # Errors
    /// [`RecvError::Empty`] if there is none; [`RecvError::Decode`], and it stays aside, for
    /// [`try_recv_aside_bytes`](Self::try_recv_aside_bytes); [`RecvError::Io`].
    pub fn try_recv_aside(&self) -> Result<Delivery<T>, RecvError> {
        self.deliver(self.lease_aside()?)
    }

    fn deliver(&self, lease: usize) -> Result<Delivery<T>, RecvError> {
        self.deliver_as(lease, |bytes| Ok(self.codec.decode(bytes)?))
    }

    /// The messages one after the other, until all is done and nobody can send any more. An iterator ends at the first
    /// error: use [`recv`](Self::recv) to see it.
    pub fn iter(&self) -> Iter<'_, T> {
        self.into_iter()
    }
}

iterator! {
    /// The messages of a [`Receiver`], until all is done and nobody can send any more.
    Iter<'a, T> of &'a Receiver<T> => Delivery<T>
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.inner, f)
    }
}

/// A message to be worked on. It is this process's until it is acknowledged or given back.
///
/// Dropped, also by a panic, it is given back. Leaked (`mem::forget`), it is delivered again when the process ends.
#[must_use = "dropped, it is given back, to be delivered again"]
pub struct Delivery<T>(Leased<T>);

/// Apart, so that `delivery.id` and the like are the message's.
struct Leased<T> {
    message: T,
    id: u64,
    attempts: u32,
    lease: Lease,
}

struct Lease {
    end: Arc<End>,
    /// `None` when it is not this process's any more.
    index: Option<usize>,
}

impl<T> Delivery<T> {
    /// A number that no other message of this queue has, the same at each delivery.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// How often it has been delivered, this time included: more than 1 after a death, or when it was given back.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The work is done: the message is gone from the queue, and here it is.
    ///
    /// # Errors
    /// What the system reports while the message's memory is given back: the message is done all the same.
    pub fn ack(self) -> Result<T, io::Error> {
        let Leased { message, mut lease, .. } = self.0;
        let Some(index) = lease.index.take() else { return Ok(message) };
        let queue = &lease.end.queue;
        let freed = queue.leases.ack(index, &queue.store);
        queue.done.ring();
        queue.freed.ring_for_all();
        if queue.items.is_gone() {
            // Workers wait only for what others have.
            queue.items.ring_all();
        }
        match freed.map_err(unlatched) {
            Ok(()) => Ok(message),
            Err(error) => Err(error.unwrap_or_else(|| io::ErrorKind::TimedOut.into())),
        }
    }

    /// Gives it back, to be delivered again, to this worker or another.
    pub fn nack(self) {
        drop(self);
    }
}

impl Lease {
    fn put_aside(mut self) {
        if let Some(index) = self.index.take() {
            self.end.queue.leases.put_aside(index);
            self.end.queue.done.ring();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(index) = self.index.take() {
            self.end.queue.leases.nack(index);
            self.end.queue.items.ring();
        }
    }
}

impl<T> Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.message
    }
}

impl<T: fmt::Debug> fmt::Debug for Delivery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("message", &self.0.message)
            .field("id", &self.0.id)
            .field("attempts", &self.0.attempts)
            .finish_non_exhaustive()
    }
}
