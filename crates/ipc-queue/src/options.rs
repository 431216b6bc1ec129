//! Choices for a new queue.

use ipc_core::Schema;
use ipc_sync::OpenError;
use ipc_sync::object::{Object, Opening, Typed};
use serde::de::DeserializeOwned;

use crate::end::End;
use crate::layout::Layout;
use crate::queue::{Queue, Side};
use crate::{Receiver, Sender};

/// The kind, as a part of the name.
pub(crate) const KIND: &str = "queue";

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
}

/// Twice the longest message by default.
const BYTES: usize = 128 << 20;

impl Options {
    /// For that many messages.
    pub fn new(capacity: usize) -> Self {
        Options { capacity, bytes: BYTES }
    }

    /// How many bytes long messages (of more than 112 bytes) may take together; 128 MiB unless said otherwise. Each takes
    /// whole pages of 4 KiB. None of it is taken from the machine before it is used.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Makes a queue without a name.
    ///
    /// # Errors
    /// [`OpenError::InvalidInput`] for a capacity of 0 or more than 16,777,216; [`OpenError::NoSpace`];
    /// [`OpenError::Io`].
    pub fn bounded<T>(self) -> Result<(Sender<T>, Receiver<T>), OpenError> {
        let layout = Layout::new(self.capacity, self.bytes)?;
        let object = Object::new_sparse(layout.len, layout.reserved(), |fresh| layout.write(fresh))?;
        let queue = Queue::of(object)?;
        let tx = End::new(queue.clone(), Side::Sender)?;
        let rx = End::new(queue, Side::Receiver)?;
        Ok((Sender::over(tx), Receiver::over(rx)))
    }

    /// Makes a queue of that name, and gives its sending side: as [`Sender::create`].
    ///
    /// # Errors
    /// As of [`Sender::create`].
    pub fn create_sender<T: DeserializeOwned>(self, name: &str) -> Result<Sender<T>, OpenError> {
        self.named::<T>(Opening::Create, name, Side::Sender).map(Sender::over)
    }

    /// Makes a queue of that name, and gives its receiving side: as [`Receiver::create`].
    ///
    /// # Errors
    /// As of [`Receiver::create`].
    pub fn create_receiver<T: DeserializeOwned>(self, name: &str) -> Result<Receiver<T>, OpenError> {
        self.named::<T>(Opening::Create, name, Side::Receiver).map(Receiver::over)
    }

    /// Opens the queue of that name, or makes it: its sending side.
    ///
    /// # Errors
    /// As of [`Sender::open_or_create`].
    pub fn open_or_create_sender<T: DeserializeOwned>(self, name: &str) -> Result<Sender<T>, OpenError> {
        self.named::<T>(Opening::OpenOrCreate, name, Side::Sender).map(Sender::over)
    }

    /// Opens the queue of that name, or makes it: its receiving side.
    ///
    /// # Errors
    /// As of [`Receiver::open_or_create`].
    pub fn open_or_create_receiver<T: DeserializeOwned>(self, name: &str) -> Result<Receiver<T>, OpenError> {
        self.named::<T>(Opening::OpenOrCreate, name, Side::Receiver).map(Receiver::over)
    }

    fn named<T: DeserializeOwned>(self, opening: Opening, name: &str, side: Side) -> Result<End, OpenError> {
        let layout = Layout::new(self.capacity, self.bytes)?;
        open::<T>(opening, name, side, layout)
    }
}

/// Makes or opens one side of the queue of a name. The layout is that of a new one.
pub(crate) fn open<T: DeserializeOwned>(
    opening: Opening,
    name: &str,
    side: Side,
    layout: Layout,
) -> Result<End, OpenError> {
    let schema = Schema::of::<T>();
    let typed = Typed {
        kind: KIND,
        len: layout.len,
        reserved: layout.reserved(),
        fingerprint: schema.fingerprint().to_u64(),
        structure: schema.text(),
    };
    let object = Object::named(opening, name, &typed, |fresh| layout.write(fresh))?;
    Ok(End::new(Queue::of(object)?, side)?)
}
