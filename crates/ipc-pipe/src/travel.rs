//! How an end is written into a message, and what it takes along.
//!
//! ```text
//!  bundle.descriptors  [0] the end's own; [1..] those of frames that have not been taken yet
//!  bundle.metadata     | head length u32 LE | head (codec) | bytes: unread input, or the rest of a frame begun |
//! ```
//!
//! Limits do not travel: they protect the process that receives, which sets its own.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ipc_core::handle::{self, Bundle, Kind};
use ipc_core::handle_kind;
use ipc_core::{Codec, Fingerprint, Schema};
use ipc_os::fd::Kind as FdKind;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};

use ipc_stream::{End, Part, Transport};

#[derive(Serialize, Deserialize)]
struct Head {
    socket: bool,
    /// The structure of the message type, for an error that shows both.
    schema: String,
}

/// The version of the layout above.
const VERSION: u8 = 1;

/// What arrived of an end.
pub(crate) struct Arrived {
    pub(crate) end: Arc<End>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: VecDeque<Arc<OwnedFd>>,
}

/// Writes an end into the message at hand; once that has gone, the end here counts as moved.
pub(crate) fn serialize<T: DeserializeOwned, S: Serializer>(
    kind: Kind,
    end: &Arc<End>,
    bytes: &[u8],
    descriptors: impl Iterator<Item = Arc<OwnedFd>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if end.is_moved() {
        return Err(S::Error::custom("this end was moved to another process"));
    }
    // `Duplex::both` lends ends that are two sides of one descriptor: one cannot go without the other.
    if end.transport() == Transport::Unix && end.part() == Part::Whole && kind != handle_kind!("pipe.duplex")
    {
        return Err(S::Error::custom("one direction of a duplex moves by itself only after `Duplex::split`"));
    }
    let schema = Schema::of::<T>();
    let head = Head { socket: end.transport() != Transport::Pipe, schema: schema.text().to_owned() };
    let mut metadata = vec![0; 4];
    Codec::default().encode(&head, &mut metadata).map_err(S::Error::custom)?;
    let head_len = u32::try_from(metadata.len() - 4).map_err(S::Error::custom)?;
    metadata[..4].copy_from_slice(&head_len.to_le_bytes());
    metadata.extend_from_slice(bytes);

    let mut bundle = Bundle::default();
    bundle.version = VERSION;
    bundle.fingerprint = schema.fingerprint().to_u64();
    bundle.descriptors = std::iter::once(Arc::clone(end.descriptor())).chain(descriptors).collect();
    bundle.metadata = metadata;
    bundle.exclusive = true;
    let done = bundle.serialize(kind, serializer)?;
    let end = Arc::clone(end);
    handle::on_commit(move || end.retire());
    Ok(done)
}

/// Reads an end out of the message at hand: checked to be what it says, for messages of the structure of `T`.
pub(crate) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    kind: Kind,
    part: Part,
    fits: impl FnOnce(FdKind, bool) -> bool,
    deserializer: D,
) -> Result<Arrived, D::Error> {
    let bundle = Bundle::deserialize(kind, true, deserializer)?;
    let broken = |what: &str| D::Error::custom(format_args!("a {} handle is broken: {what}", kind.name()));
    if bundle.version != VERSION {
        return Err(broken("it is of another version of this crate"));
    }
    let (len, rest) = bundle.metadata.split_first_chunk().ok_or_else(|| broken("no metadata"))?;
    let head_len = u32::from_le_bytes(*len) as usize;
    let (head, bytes) = rest.split_at_checked(head_len).ok_or_else(|| broken("metadata is cut off"))?;
    let head: Head = Codec::default().decode(head).map_err(D::Error::custom)?;
    Schema::of::<T>()
        .check(Fingerprint::from_u64(bundle.fingerprint), &head.schema)
        .map_err(D::Error::custom)?;

    let mut descriptors: VecDeque<_> = bundle.descriptors.into();
    let fd = descriptors.pop_front().ok_or_else(|| broken("no descriptor"))?;
    let found = ipc_os::fd::kind(fd.as_fd()).map_err(D::Error::custom)?;
    if !fits(found, head.socket) {
        return Err(broken("its descriptor is of another kind"));
    }
    let end = match head.socket {
        true => End::new(fd, Transport::Unix, part),
        false => End::new(fd, Transport::Pipe, Part::Whole),
    };
    Ok(Arrived { end, bytes: bytes.to_vec(), descriptors })
}
