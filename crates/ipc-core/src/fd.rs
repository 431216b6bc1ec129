//! Any descriptor, inside a message.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::handle::Bundle;
use crate::handle_kind;

/// The version of the handle: one descriptor, and nothing else.
const VERSION: u8 = 1;

/// A descriptor that travels inside messages, over carriers that move handles: a file, a socket, a terminal.
///
/// The receiver gets a descriptor of its own for the same open file, with the position in it and the flags shared; the
/// sender keeps its one. What a peer sends may be any kind of descriptor: check it before it is used.
///
/// ```
/// use std::os::fd::AsFd;
/// use ipc_core::Fd;
///
/// let fd = Fd::new(std::fs::File::open("/dev/null")?);
/// assert!(std::fs::File::from(fd.as_fd().try_clone_to_owned()?).metadata()?.len() == 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Fd(Arc<OwnedFd>);

impl Fd {
    /// A file, a socket, or whatever else owns a descriptor.
    pub fn new(owner: impl Into<OwnedFd>) -> Self {
        Fd(Arc::new(owner.into()))
    }

    /// The descriptor, to make a file or a socket of it.
    ///
    /// # Errors
    /// `EMFILE`, if there is another copy of this handle and no room for one more descriptor.
    pub fn into_owned(self) -> io::Result<OwnedFd> {
        Arc::try_unwrap(self.0).or_else(|shared| shared.try_clone())
    }
}

impl From<Arc<OwnedFd>> for Fd {
    /// One that others have too.
    fn from(fd: Arc<OwnedFd>) -> Self {
        Fd(fd)
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Serialize for Fd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let descriptors = vec![Arc::clone(&self.0)];
        let bundle = Bundle { version: VERSION, descriptors, ..Bundle::default() };
        bundle.serialize(handle_kind!("fd"), serializer)
    }
}

impl<'de> Deserialize<'de> for Fd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bundle = Bundle::deserialize(handle_kind!("fd"), false, deserializer)?;
        match (bundle.version, bundle.descriptors.pop()) {
            (VERSION, Some(fd)) if bundle.descriptors.is_empty() => Ok(Fd(fd)),
            (VERSION, _) => Err(D::Error::custom("an fd handle is broken: it has one descriptor")),
            _ => Err(D::Error::custom("an fd handle is of another version of this crate")),
        }
    }
}
