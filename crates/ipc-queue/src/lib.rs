#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod bell;
mod end;
mod layout;
mod lease;
mod options;
mod pace;
mod queue;
mod receiver;
mod sender;
mod store;
mod travel;
pub mod work;

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

/// Makes a work queue of that many messages of type `T`: each is leased to one worker, and delivered again if that one does
/// not live to acknowledge it.
///
/// # Errors
/// As of [`bounded`].
///
/// ```
/// let (jobs, inbox) = ipc_queue::work::<String>(100)?;
/// jobs.send(&"resize".to_owned())?;
/// let job = inbox.recv()?;
/// assert_eq!((&*job, job.attempts()), (&"resize".to_owned(), 1));
/// job.ack()?;
/// jobs.join()?;
/// # Ok::<(), ipc_core::Error>(())
/// ```
pub fn work<T>(capacity: usize) -> Result<(work::Sender<T>, work::Receiver<T>), OpenError> {
    Options::new(capacity).work()
}
