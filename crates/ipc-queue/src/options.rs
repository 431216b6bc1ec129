//! Choices for a new queue.

use ipc_core::Schema;
use ipc_sync::OpenError;
use ipc_sync::object::{Object, Opening, Typed};
use serde::de::DeserializeOwned;

use crate::end::End;
use crate::layout::Layout;
use crate::queue::{Queue, Side};
use crate::{Receiver, Sender, work};

/// Choices for a new queue of messages of type `T`; [`bounded`](crate::bounded()) has the usual ones.
///
/// ```
/// let (tx, rx) = ipc_queue::Options::new(16).bytes(1 << 20).bounded::<Vec<u8>>()?;
/// assert!(tx.send(&vec![0; 2 << 20]).is_err(), "longer than the queue");
/// # drop(rx);
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    capacity: usize,
    bytes: usize,
    attempts: u32,
}

/// Twice the longest message by default.
const BYTES: usize = 128 << 20;

impl Options {
    /// For that many messages.
    pub fn new(capacity: usize) -> Self {
        Options { capacity, bytes: BYTES, attempts: 0 }
    }

    /// How many bytes long messages (of more than 112 bytes) may take together; 128 MiB unless said otherwise. Each takes
    /// whole pages of 4 KiB. None of it is taken from the machine before it is used.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// After how many deliveries a message of a work queue is put aside instead of being delivered again; 0, as unless said
    /// otherwise: never.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Makes a queue without a name.
    ///
    /// # Errors
    /// [`OpenError::InvalidInput`] for a capacity of 0 or more than 16,777,216; [`OpenError::NoSpace`];
    /// [`OpenError::Io`].
    pub fn bounded<T>(self) -> Result<(Sender<T>, Receiver<T>), OpenError> {
        let (tx, rx) = self.anonymous(BOUNDED)?;
        Ok((Sender::over(tx), Receiver::over(rx)))
    }

    /// Makes a work queue without a name: see [`work`](crate::work()).
    ///
    /// # Errors
    /// As of [`bounded`](Self::bounded).
    pub fn work<T>(self) -> Result<(work::Sender<T>, work::Receiver<T>), OpenError> {
        let (tx, rx) = self.anonymous(WORK)?;
        Ok((work::Sender::over(tx), work::Receiver::over(rx)))
    }

    fn anonymous(self, kind: Kind) -> Result<(End, End), OpenError> {
        let layout = self.layout(kind)?;
        let object = Object::new_sparse(layout.len, layout.reserved(), |fresh| layout.write(fresh))?;
        let queue = Queue::of(object)?;
        Ok((End::new(queue.clone(), Side::Sender)?, End::new(queue, Side::Receiver)?))
    }

    fn layout(self, kind: Kind) -> Result<Layout, OpenError> {
        let layout = Layout::new(self.capacity, self.bytes)?;
        Ok(if kind.is_work { layout.with_leases(self.attempts) } else { layout })
    }

    /// One side of the queue of a name, which is made or opened.
    pub(crate) fn named<T: DeserializeOwned>(
        self,
        kind: Kind,
        opening: Opening,
        name: &str,
        side: Side,
    ) -> Result<End, OpenError> {
        let layout = self.layout(kind)?;
        let schema = Schema::of::<T>();
        let typed = Typed {
            kind: kind.name,
            len: layout.len,
            // One that is there has the length that it has.
            len_min: 4096,
            reserved: layout.reserved(),
            fingerprint: schema.fingerprint().to_u64(),
            structure: schema.text(),
        };
        let object = Object::named(opening, name, &typed, |fresh| layout.write(fresh))?;
        Ok(End::new(Queue::of(object)?, side)?)
    }
}

/// Which kind of queue, also as a part of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    is_work: bool,
}

pub(crate) const BOUNDED: Kind = Kind { name: "queue", is_work: false };
pub(crate) const WORK: Kind = Kind { name: "work-queue", is_work: true };
