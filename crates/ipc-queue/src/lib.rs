#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod bell;
mod end;
mod layout;
mod options;
mod queue;
mod receiver;
mod sender;
mod store;
mod travel;

pub use ipc_core::{Limits, RecvError, SendAllError, SendError};
pub use ipc_sync::OpenError;
pub use options::Options;
pub use receiver::{IntoIter, Iter, Receiver};
pub use sender::Sender;

/// Makes a queue of that many messages of type `T`: any number of processes and threads on either side.
///
/// # Errors
/// [`OpenError::InvalidInput`] for a capacity of 0 or more than 16,777,216; [`OpenError::NoSpace`]; [`OpenError::Io`].
///
/// ```
/// let (tx, rx) = ipc_queue::bounded::<(u32, String)>(100)?;
/// tx.send(&(1, "one".to_owned()))?;
/// assert_eq!(rx.recv()?, (1, "one".to_owned()));
/// drop(tx);
/// assert!(matches!(rx.recv(), Err(ipc_queue::RecvError::Disconnected)));
/// # Ok::<(), ipc_core::Error>(())
/// ```
pub fn bounded<T>(capacity: usize) -> Result<(Sender<T>, Receiver<T>), OpenError> {
    Options::new(capacity).bounded()
}
