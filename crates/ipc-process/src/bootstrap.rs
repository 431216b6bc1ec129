//! What parent and worker say to each other, and how.
//!
//! The two share a pair of packet sockets, made before the worker is started; the worker finds its end by a marker in
//! its environment, `IPC_WORKER=NUMBER:DEVICE:INODE`, which holds only for a descriptor with that number that was
//! inherited and is that very socket: a grandchild that inherits the variable is not taken in.
//!
//! ```text
//!  parent ──► Start { version, image, function, name, …, payload }   queued before the worker exists
//!  worker ──► Started                                                 first thing in init()
//!  worker ──► Panicked(report) | Returned(payload) | NotStarted(why) | ResultNotEncoded(why)
//! ```
//!
//! A payload of up to 64 KiB is in the packet, a longer one in a sealed memory file beside it: nobody ever waits for
//! the other to read, so a result can be fetched after the worker has ended, and whatever one waits for first, nothing
//! locks up. Descriptors go with the packet. More than the 253 that the kernel lets travel with one go in socket pairs
//! made for them, 253 in each, whose other ends go with the packet: so a packet has either gone with everything or not
//! at all, and can be sent in another way after a failure.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipc_core::{Codec, Limits};
use ipc_os::socket::{self, DESCRIPTORS_MAX, Mode, Style};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{NeverStarted, PanicReport};

/// The version of this protocol. Both sides run the same image, but for programs that were handed something over.
pub(crate) const VERSION: u8 = 1;

/// Says which descriptor is the worker's end.
pub(crate) const MARKER: &str = "IPC_WORKER";

/// Says which descriptor is the end of another program that was handed something over.
pub(crate) const HANDOVER_MARKER: &str = "IPC_HANDED_OVER";

/// The number that the end has in the new process.
pub(crate) const NUMBER: i32 = 3;

/// Longer payloads go by memory file.
const INLINE_MAX: usize = 64 << 10;

/// Room for a packet: an inline payload and what goes around it.
const PACKET_MAX: usize = INLINE_MAX + (32 << 10);

/// Arguments and results are not limited by what fits a frame, but by memory: they come from a process of the same
/// program. Their depth is limited as everywhere.
pub(crate) fn codec() -> Codec {
    Codec::new(Limits::new().frame_len_max(usize::MAX).memory_max(usize::MAX))
}

/// The first packet to a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) version: u8,
    /// Which image the function's offset is for.
    pub(crate) image: Vec<u8>,
    pub(crate) function: u64,
    pub(crate) name: String,
    pub(crate) parent_id: u32,
    pub(crate) outlives_parent: bool,
}

/// The first packet to another program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HandOver {
    pub(crate) version: u8,
    pub(crate) fingerprint: u64,
    pub(crate) schema: String,
    pub(crate) parent_id: u32,
    pub(crate) outlives_parent: bool,
}

/// A packet from a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Started,
    Panicked(PanicReport),
    Returned,
    NotStarted(NeverStarted),
    ResultNotEncoded(String),
}

#[derive(Serialize, Deserialize)]
enum Place {
    Inline,
    File,
}

/// What frames each packet: the head, where the payload is, how many descriptors there are in all. The payload, if it
/// is inline, is the rest of the packet.
#[derive(Serialize, Deserialize)]
struct Packet<H> {
    head: H,
    place: Place,
    /// How many in all, the payload's included.
    descriptors: u32,
    /// What goes with the packet are sockets that hold them.
    nested: bool,
}

/// Sends a packet; does not wait.
pub(crate) fn send<H: Serialize>(
    socket: BorrowedFd<'_>,
    head: &H,
    payload: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    if payload.len() <= INLINE_MAX {
        match send_packet(socket, head, Place::Inline, payload, descriptors) {
            // A machine with small socket buffers: the payload goes beside the packet.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_too_long(&error) => {}
            other => return other,
        }
    }
    let file = ipc_os::memfd::sealed("ipc-payload", payload)?;
    let all: Vec<_> = std::iter::once(file.as_fd()).chain(descriptors.iter().copied()).collect();
    send_packet(socket, head, Place::File, &[], &all)
}

fn is_too_long(error: &io::Error) -> bool {
    const EMSGSIZE: i32 = 90;
    error.raw_os_error() == Some(EMSGSIZE)
}

fn send_packet<H: Serialize>(
    socket: BorrowedFd<'_>,
    head: &H,
    place: Place,
    inline: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let nested = if descriptors.len() > DESCRIPTORS_MAX { nest(descriptors)? } else { Vec::new() };
    let count = descriptors.len() as u32;
    let packet = Packet { head, place, descriptors: count, nested: !nested.is_empty() };
    let nested: Vec<_> = nested.iter().map(AsFd::as_fd).collect();
    let mut bytes = vec![0; 4];
    Codec::default().encode(&packet, &mut bytes).map_err(io::Error::other)?;
    let len = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    let parts = [io::IoSlice::new(&bytes), io::IoSlice::new(inline)];
    let beside = if packet.nested { nested.as_slice() } else { descriptors };
    socket::send_with(socket, &parts, beside, Mode::Try)?;
    Ok(())
}

/// Sockets that hold the descriptors, as many as go into each.
fn nest(descriptors: &[BorrowedFd<'_>]) -> io::Result<Vec<OwnedFd>> {
    let nest_one = |group: &[BorrowedFd<'_>]| {
        let (here, there) = socket::pair(Style::Packets)?;
        socket::send_with(here.as_fd(), &[io::IoSlice::new(&[0])], group, Mode::Try)?;
        Ok(there)
    };
    descriptors.chunks(DESCRIPTORS_MAX).map(nest_one).collect()
}

/// A packet as it arrived.
pub(crate) struct Received<H> {
    pub(crate) head: H,
    pub(crate) payload: Vec<u8>,
    pub(crate) descriptors: VecDeque<OwnedFd>,
}

/// Receives a packet; `None` when there is none, in [`Mode::Try`], or the other end is closed.
///
/// # Errors
/// `InvalidData` when it is none of this protocol; what the system reports.
pub(crate) fn receive<H: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    mode: Mode,
) -> io::Result<Option<Received<H>>> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut buf = vec![0; PACKET_MAX];
    let mut descriptors = VecDeque::new();
    let count = loop {
        match socket::receive(socket, &mut buf, &mut descriptors, mode) {
            Ok(0) => return Ok(None),
            Ok(count) => break count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            // The other end was closed with something unread in it. Said once; what it sent is still here.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => return Err(error),
        }
    };
    let split = buf[..count]
        .split_first_chunk()
        .and_then(|(len, rest)| rest.split_at_checked(u32::from_le_bytes(*len) as usize));
    let (head, inline) = split.ok_or_else(|| invalid("a packet is cut off".into()))?;
    let packet: Packet<H> = Codec::default().decode(head).map_err(|error| invalid(error.to_string()))?;
    if packet.nested {
        for nested in std::mem::take(&mut descriptors) {
            socket::receive(nested.as_fd(), &mut [0; 8], &mut descriptors, Mode::Try)?;
        }
    }
    if descriptors.len() != packet.descriptors as usize {
        return Err(invalid("descriptors of a packet are missing".into()));
    }
    let payload = match packet.place {
        Place::Inline => inline.to_vec(),
        Place::File => {
            let file = descriptors.pop_front().ok_or_else(|| invalid("a payload is missing".into()))?;
            ipc_os::memfd::read_sealed(file, usize::MAX)?
        }
    };
    Ok(Some(Received { head: packet.head, payload, descriptors }))
}

/// The value of a marker for a process in which `socket` will have [`NUMBER`].
pub(crate) fn marker(socket: &OwnedFd) -> io::Result<String> {
    let (device, inode) = ipc_os::fd::identity(socket)?;
    Ok(format!("{NUMBER}:{device}:{inode}"))
}

/// The end that the marker in the environment names, if it is there: at the first call only.
pub(crate) fn inherited(marker: &str) -> Option<OwnedFd> {
    if ipc_os::image::is_secure() {
        return None;
    }
    let value = std::env::var(marker).ok()?;
    let mut numbers = value.split(':');
    let number = numbers.next()?.parse().ok()?;
    let device = numbers.next()?.parse().ok()?;
    let inode = numbers.next()?.parse().ok()?;
    ipc_os::fd::adopt_inherited(number, (device, inode))
}
