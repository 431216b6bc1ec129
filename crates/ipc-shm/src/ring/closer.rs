//! Closing an end from another thread.

use std::fmt;
use std::sync::{Arc, Weak};

use super::end::End;

/// Closes an end of a [ring](super::ring()), from any thread of its process: who waits there is woken. The peer is told as if
/// the end had been dropped; this end's writes fail with `Disconnected`, and so do its reads once what is there was read.
/// It does not keep the ring, and does nothing to an end that has moved or was dropped.
///
/// ```
/// let (_writer, mut reader) = ipc_shm::ring::ring(4096)?;
/// let closer = reader.closer();
/// std::thread::scope(|scope| {
///     let waiting = scope.spawn(|| reader.read(&mut Vec::new()));
///     closer.close();
///     assert!(matches!(waiting.join().unwrap(), Err(ipc_core::RecvError::Disconnected)));
/// });
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Closer(Weak<End>);

impl Closer {
    pub(super) fn new(end: &Arc<End>) -> Self {
        Closer(Arc::downgrade(end))
    }

    /// Closes it. What a message being encoded takes away at this moment goes with it.
    pub fn close(&self) {
        if let Some(end) = self.0.upgrade() {
            end.close();
        }
    }
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closer")
    }
}
