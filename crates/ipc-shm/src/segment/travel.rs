//! How a segment is written into a message.
//!
//! ```text
//!  bundle.descriptors  [0] the memory file, opened for what its receiver may do
//!  bundle.length       how many bytes to map
//!  bundle.metadata     1 byte: 1 if it may only be read; then the name, if it has one
//! ```

use std::os::fd::AsFd;
use std::sync::Arc;

use ipc_core::handle::{Bundle, Kind};
use ipc_core::handle_kind;
use ipc_os::map::{Access, Mapping};
use ipc_os::memfd;
use ipc_os::names::posix;
use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::{Inner, Memory, Segment, make};

const KIND: Kind = handle_kind!("shm.segment");

/// The version of the layout above.
const VERSION: u8 = 1;

/// As a handle in a message to another process, and nowhere else. This handle stays usable; the receiver has another one.
impl Serialize for Segment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bundle = Bundle::default();
        bundle.version = VERSION;
        bundle.descriptors = vec![Arc::clone(&self.inner.fd)];
        bundle.length = self.len() as u64;
        bundle.metadata = vec![u8::from(self.is_read_only())];
        bundle.metadata.extend_from_slice(self.name().unwrap_or("").as_bytes());
        bundle.serialize(KIND, serializer)
    }
}

/// Out of a message from another process. What arrives is checked: it must be memory, and as long as it says.
impl<'de> Deserialize<'de> for Segment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bundle = Bundle::deserialize(KIND, false, deserializer)?;
        let broken =
            |what: &str| D::Error::custom(format_args!("a {} handle is broken: {what}", KIND.name()));
        if bundle.version != VERSION {
            return Err(broken("it is of another version of this crate"));
        }
        let [fd] = &bundle.descriptors[..] else { return Err(broken("not one descriptor")) };
        let Some((flags, name)) = bundle.metadata.split_first() else { return Err(broken("no metadata")) };
        let access = match flags {
            0 => Access::ReadWrite,
            1 => Access::Read,
            _ => return Err(broken("unknown flags")),
        };
        let name = std::str::from_utf8(name).map_err(|_| broken("its name is no text"))?;
        let len = usize::try_from(bundle.length).map_err(|_| broken("it does not fit into memory"))?;

        // A file that is no memory would be read when somebody else's server pleases.
        if !posix::is_in_memory(fd.as_fd()).map_err(D::Error::custom)? {
            return Err(broken("its descriptor is no memory file"));
        }
        let found = make::len_of(fd.as_fd()).map_err(D::Error::custom)?;
        if len == 0 || len > found {
            return Err(broken("it is shorter than it says"));
        }
        let memory = if memfd::fixed_len(fd.as_fd()).is_some() {
            // Fails for a descriptor that may do less than the sender says.
            Memory::Sealed(Mapping::new(fd.as_fd(), len, access).map_err(D::Error::custom)?)
        } else {
            make::guarded(fd.as_fd(), len, access).map_err(D::Error::custom)?
        };
        let name = (!name.is_empty()).then(|| name.to_owned());
        Ok(Segment { inner: Arc::new(Inner { memory, fd: Arc::clone(fd), name, unlinked_by: None }) })
    }
}
