//! The side that messages go into.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use ipc_core::{Codec, FrameError, Limits, SendAllError, SendError, handle};
use ipc_sync::object::Nap;
use serde::Serialize;

use crate::end::{End, Wait, Waited, unlatched};
use crate::layout::{INLINE, PAGE};
use crate::queue::{Form, Put};
use crate::store::{Held, NoPages, Pages};

/// The side of a queue that messages of type `T` go into.
///
/// A handle: clone it, use it from all threads, put it into a message or the arguments of a worker, and it is the same
/// queue there.
///
/// - *Order*: messages of one thread arrive in the order in which it sent them; between threads and processes that of
///   their turns.
/// - *Full*: when there are as many messages as the capacity says, or when those that are longer than 112 bytes have no
///   more room together. [`send`](Self::send) waits then; [`try_send`](Self::try_send) does not.
/// - *Death*: a sender that is killed has sent its message or has not. When the last [`Receiver`](crate::Receiver) is gone,
///   dropped or killed, sends fail with [`SendError::Disconnected`]: at once if it was dropped, after 128 messages at the
///   latest if it was killed.
/// - *Fork*: a forked child may use its copy, and is counted like its parent until it ends.
pub struct Sender<T> {
    end: Arc<End>,
    codec: Codec,
    types: PhantomData<fn(T)>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { end: Arc::clone(&self.end), codec: self.codec, types: PhantomData }
    }
}

impl<T> Sender<T> {
    pub(crate) fn over(end: End) -> Self {
        Sender { end: Arc::new(end), codec: Codec::default(), types: PhantomData }
    }

    pub(crate) fn end(&self) -> &Arc<End> {
        &self.end
    }

    /// Sets the limits for what this handle sends (a longer message is refused here rather than at the receiver).
    pub fn set_limits(&mut self, limits: Limits) {
        self.codec = Codec::new(limits);
    }

    /// How many messages the queue holds.
    pub fn capacity(&self) -> usize {
        self.end.queue.layout.capacity
    }

    /// How many messages are in the queue now.
    pub fn len(&self) -> usize {
        self.end.queue.len()
    }

    /// Whether there is none now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends bytes as they are, to be received with [`Receiver::recv_bytes`](crate::Receiver::recv_bytes).
    ///
    /// # Errors
    /// As of [`send`](Self::send), without those of encoding.
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.put(Form::Plain, bytes, Wait::forever())
    }

    /// Sends bytes as they are if there is room for them now.
    ///
    /// # Errors
    /// As of [`try_send`](Self::try_send), without those of encoding.
    pub fn try_send_bytes(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.put(Form::Plain, bytes, Wait::none())
    }

    /// Sends bytes as they are, waiting for room no longer than that.
    ///
    /// # Errors
    /// As of [`send_timeout`](Self::send_timeout), without those of encoding.
    pub fn send_bytes_timeout(&self, bytes: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.put(Form::Plain, bytes, Wait::within(timeout))
    }

    #[inline]
    fn put(&self, form: Form, bytes: &[u8], mut wait: Wait) -> Result<(), SendError> {
        if bytes.len() <= INLINE {
            return self.put_with(form, Put::Here(bytes), &mut wait);
        }
        let held = self.stored(bytes, &mut wait)?;
        let done = self.put_with(form, Put::Stored(held, bytes.len()), &mut wait);
        if done.is_err() {
            // It stays taken if the queue is broken, which is what is told then.
            let _told = self.end.queue.store.free(held);
            self.end.queue.freed.ring_for_all();
        }
        done
    }

    /// Pages with the bytes in them.
    fn stored(&self, bytes: &[u8], wait: &mut Wait) -> Result<Held, SendError> {
        let held = self.pages(bytes.len(), wait)?;
        let queue = &self.end.queue;
        queue
            .object
            .write(held.pages.at(&queue.layout), bytes)
            .map_err(|error| SendError::Io(error.into()))?;
        Ok(held)
    }

    /// Pages for that many bytes.
    pub(crate) fn pages(&self, len: usize, wait: &mut Wait) -> Result<Held, SendError> {
        let limit = self.codec.limits().frame_len_max.min(u32::MAX as usize);
        if len > limit {
            return Err(FrameError::TooLong { len: len as u64, limit }.into());
        }
        let queue = &self.end.queue;
        if Pages::for_len(len) > queue.layout.pages {
            return Err(SendError::TooLarge { len, capacity: queue.layout.pages * PAGE });
        }
        loop {
            let frees = queue.store.frees();
            match queue.pages(len, || wait.latch_nap()) {
                Ok(held) => return Ok(held),
                Err(NoPages::Full) => self.wait_for_pages(wait, frees)?,
                Err(NoPages::TimedOut) => return Err(full(wait)),
                Err(NoPages::Io(error)) => return Err(SendError::Io(error)),
            }
        }
    }

    #[inline]
    pub(crate) fn put_with(&self, form: Form, message: Put<'_>, wait: &mut Wait) -> Result<(), SendError> {
        let queue = &self.end.queue;
        if self.end.was_left().map_err(SendError::Io)? {
            return Err(SendError::Disconnected);
        }
        loop {
            let latch = queue.latch_senders(|| wait.latch_nap()).map_err(|why| match unlatched(why) {
                Some(error) => SendError::Io(error),
                None => full(wait),
            })?;
            let done = queue.put(form, message).map_err(SendError::Io)?;
            drop(latch);
            if let Some(position) = done {
                queue.items.ring_after_latch();
                if matches!(message, Put::Stored(..)) {
                    // Its place is free.
                    queue.freed.ring_for_all();
                }
                self.end.settle(wait, || queue.has_room());
                if position.is_milestone() && self.end.is_disconnected().map_err(SendError::Io)? {
                    return Err(SendError::Disconnected);
                }
                return Ok(());
            }
            self.wait(wait, || queue.has_room(), || queue.has_much_room())?;
        }
    }

    #[cold]
    fn wait(
        &self,
        wait: &mut Wait,
        ready: impl Fn() -> bool,
        many: impl Fn() -> bool,
    ) -> Result<(), SendError> {
        let waited = self.end.wait(wait, ready, many).map_err(SendError::Io)?;
        if matches!(waited, Waited::TimedOut) {
            self.end.settle(wait, || self.end.queue.has_room());
        }
        self.after(&waited, wait)
    }

    /// Until some were freed, or places, since that number was read.
    #[cold]
    fn wait_for_pages(&self, wait: &mut Wait, frees: u32) -> Result<(), SendError> {
        let queue = &self.end.queue;
        let ready = || queue.store.frees() != frees;
        let waited = self.end.wait_for(&queue.freed, wait, ready, || false, &[]).map_err(SendError::Io)?;
        self.after(&waited, wait)
    }

    fn after(&self, waited: &Waited, wait: &Wait) -> Result<(), SendError> {
        match waited {
            Waited::Look => Ok(()),
            // Nobody could ever make room: that is what to say then.
            Waited::TimedOut if self.end.is_disconnected().map_err(SendError::Io)? => {
                Err(SendError::Disconnected)
            }
            Waited::TimedOut => Err(full(wait)),
            Waited::Disconnected => Err(SendError::Disconnected),
            Waited::Abandoned => Err(SendError::Abandoned),
        }
    }
}

fn full(wait: &Wait) -> SendError {
    if wait.is_at_once() { SendError::Full } else { SendError::Timeout }
}

thread_local! {
    /// What this thread encodes into; taken out meanwhile, as what is encoded may send something itself.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// So many messages are sent or received with one turn at most.
pub(crate) const BATCH: usize = 32;

/// What of it is kept.
const SCRATCH_MAX: usize = 64 * 1024;

/// Runs `with` with an empty buffer of this thread.
#[inline]
pub(crate) fn with_scratch<R>(with: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let result = with(&mut scratch);
    if scratch.capacity() <= SCRATCH_MAX {
        SCRATCH.set(scratch);
    }
    result
}

impl<T: Serialize> Sender<T> {
    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// [`SendError::Disconnected`] when nobody can receive any more; [`SendError::Encode`] and [`SendError::Frame`] for a
    /// message that cannot be encoded or is too long, [`SendError::TooLarge`] for one that can never fit,
    /// [`SendError::Handles`] for one with handles in it (in these cases the queue is as it was);
    /// [`SendError::Abandoned`]; [`SendError::Io`].
    #[inline]
    pub fn send(&self, message: &T) -> Result<(), SendError> {
        self.send_within(message, Wait::forever)
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    /// [`SendError::Full`]; else as of [`send`](Self::send).
    pub fn try_send(&self, message: &T) -> Result<(), SendError> {
        self.send_within(message, Wait::none)
    }

    /// Sends a message, waiting for room no longer than that.
    ///
    /// # Errors
    /// [`SendError::Timeout`], and the message was not sent; else as of [`send`](Self::send).
    pub fn send_timeout(&self, message: &T, timeout: Duration) -> Result<(), SendError> {
        self.send_within(message, || Wait::within(timeout))
    }

    #[inline]
    fn send_within(&self, message: &T, wait: impl FnOnce() -> Wait) -> Result<(), SendError> {
        with_scratch(|bytes| {
            self.encode(message, bytes)?;
            self.put(Form::Encoded, bytes, wait())
        })
    }

    #[inline]
    fn encode(&self, message: &T, bytes: &mut Vec<u8>) -> Result<(), SendError> {
        let ((), handles) = handle::outgoing(|| self.codec.encode(message, bytes))?;
        if handles.is_empty() {
            return Ok(());
        }
        Err(SendError::Handles {
            carrier: "a queue",
            count: handles.descriptors().len(),
            instead: "a duplex pipe or a Unix socket",
        })
    }

    /// Sends all messages of an iterator, many with each turn.
    ///
    /// # Errors
    /// The error of the first message that could not be sent, and how many were before it.
    ///
    /// ```
    /// let (tx, rx) = ipc_queue::bounded::<u32>(64)?;
    /// let sender = std::thread::spawn(move || tx.send_all(0..100_000));
    /// assert!(rx.into_iter().eq(0..100_000));
    /// assert_eq!(sender.join().unwrap()?, 100_000);
    /// # Ok::<(), ipc_core::Error>(())
    /// ```
    pub fn send_all(
        &self,
        messages: impl IntoIterator<Item = impl std::borrow::Borrow<T>>,
    ) -> Result<usize, SendAllError> {
        let mut sent = 0;
        let mut messages = messages.into_iter();
        with_scratch(|bytes| {
            loop {
                bytes.clear();
                let mut ends = [0; BATCH];
                let mut count = 0;
                let mut error = None;
                while count < BATCH && error.is_none() {
                    let Some(message) = messages.next() else { break };
                    let before = bytes.len();
                    error = self.encode(message.borrow(), bytes).err();
                    bytes.truncate(if error.is_some() { before } else { bytes.len() });
                    if error.is_none() {
                        ends[count] = bytes.len();
                        count += 1;
                    }
                }
                let failed = |source, sent| Err(SendAllError { sent, source });
                let (done, result) = self.put_all(bytes, &ends[..count]);
                sent += done;
                if let Err(source) = result {
                    return failed(source, sent);
                }
                if let Some(source) = error {
                    return failed(source, sent);
                }
                if count < BATCH {
                    return Ok(sent);
                }
            }
        })
    }

    /// Messages that were encoded one behind the other, many with one turn. How many were sent.
    fn put_all(&self, bytes: &[u8], ends: &[usize]) -> (usize, Result<(), SendError>) {
        let queue = &self.end.queue;
        let message = |index: usize| {
            let start = if index == 0 { 0 } else { ends[index - 1] };
            &bytes[start..ends[index]]
        };
        let mut next = 0;
        while next < ends.len() {
            // The first of a turn waits for its room, and is sent as one alone is.
            if let Err(error) = self.put(Form::Encoded, message(next), Wait::forever()) {
                return (next, Err(error));
            }
            next += 1;
            let latch = match queue.latch_senders(Nap::forever) {
                Ok(latch) => latch,
                Err(why) => return (next, Err(unlatched(why).map_or(SendError::Timeout, SendError::Io))),
            };
            let mut result = Ok(());
            while next < ends.len() && message(next).len() <= INLINE {
                match queue.put(Form::Encoded, Put::Here(message(next))) {
                    Ok(Some(_)) => next += 1,
                    Ok(None) => break,
                    Err(error) => {
                        result = Err(SendError::Io(error));
                        break;
                    }
                }
            }
            drop(latch);
            queue.items.ring_after_latch();
            if result.is_err() {
                return (next, result);
            }
        }
        (next, Ok(()))
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
