#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod bell;
mod end;
mod iter;
mod layout;
mod lease;
mod loan;
mod options;
mod queue;
mod raw;
mod receiver;
mod sender;
pub mod spsc;
mod store;
mod travel;
pub mod work;

pub use ipc_core::{Limits, RecvError, SendAllError, SendError};
pub use ipc_os::{Readiness, Waitable, wait};
pub use ipc_sync::OpenError;
pub use loan::{Loan, OutOfBounds, Received};
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

/// Makes a channel of messages of type `T` from one process to another, with a ring of that many bytes, rounded up to a
/// power of two of at least 4 KiB: see [`spsc`](mod@spsc). Each message takes 8 bytes and its encoded length, rounded up to
/// 8; longer ones than the ring go through in pieces.
///
/// It is quicker than a [`bounded`] queue, and its ends cannot be cloned. For messages with handles in them use a duplex
/// pipe.
///
/// # Errors
/// [`OpenError::InvalidInput`] beyond 1 GiB; [`OpenError::NoSpace`]; [`OpenError::Io`].
///
/// ```
/// let (mut tx, mut rx) = ipc_queue::spsc::<(u32, String)>(64 << 10)?;
/// tx.send(&(1, "one".to_owned()))?;
/// assert_eq!(rx.recv()?, (1, "one".to_owned()));
/// drop(tx);
/// assert!(matches!(rx.recv(), Err(ipc_queue::RecvError::Disconnected)));
/// # Ok::<(), ipc_core::Error>(())
/// ```
pub fn spsc<T>(bytes: usize) -> Result<(spsc::Sender<T>, spsc::Receiver<T>), OpenError> {
    let (writer, reader) = ipc_shm::ring::ring(bytes)?;
    Ok((spsc::Sender::over(writer), spsc::Receiver::over(reader)))
}
