//! `send_message` and `recv_message` over a carrier in memory that does what it is told.

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use ipc_core::channel::{self, Capabilities, Channel, Frame};
use ipc_core::frame::FrameKind;
use ipc_core::handle::{self, Bundle};
use ipc_core::{Classify, Codec, ErrorKind, Limits, RecvError, SendError, handle_kind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

type Queued = (FrameKind, Vec<u8>, Vec<OwnedFd>);

/// Frames in a queue; what the next send fails with can be set.
#[derive(Default)]
struct Memory {
    queue: Mutex<std::collections::VecDeque<Queued>>,
    fails: Mutex<Option<SendError>>,
}

impl Channel for Memory {
    fn capabilities(&self) -> Capabilities {
        Capabilities::local(true)
    }

    fn send_frame(
        &self,
        kind: FrameKind,
        parts: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
        _: Option<Instant>,
    ) -> Result<(), SendError> {
        if let Some(error) = self.fails.lock().unwrap().take() {
            return Err(error);
        }
        let descriptors = descriptors.iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
        self.queue.lock().unwrap().push_back((kind, parts.concat(), descriptors));
        Ok(())
    }

    fn flush(&self, _: Option<Instant>) -> Result<(), SendError> {
        Ok(())
    }

    fn recv_frame(&self, frame: &mut Frame, _: Option<Instant>) -> Result<(), RecvError> {
        let (kind, payload, descriptors) =
            self.queue.lock().unwrap().pop_front().ok_or(RecvError::Timeout)?;
        *frame = Frame { kind: Some(kind), payload, descriptors };
        Ok(())
    }
}

/// A handle that counts how often it has moved away.
#[derive(Debug)]
struct Counted(Arc<OwnedFd>, Arc<AtomicU32>);

impl Counted {
    fn new() -> Self {
        Counted(Arc::new(File::open("/dev/null").unwrap().into()), Arc::default())
    }

    fn moved(&self) -> u32 {
        self.1.load(Relaxed)
    }
}

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bundle = Bundle::default();
        bundle.descriptors = vec![Arc::clone(&self.0)];
        bundle.exclusive = true;
        let done = bundle.serialize(handle_kind!("test.counted"), serializer)?;
        let count = Arc::clone(&self.1);
        handle::on_commit(move || {
            count.fetch_add(1, Relaxed);
        });
        Ok(done)
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bundle = Bundle::deserialize(handle_kind!("test.counted"), true, deserializer)?;
        let fd = bundle.descriptors.into_iter().next();
        Ok(Counted(fd.ok_or_else(|| serde::de::Error::custom("no descriptor"))?, Arc::default()))
    }
}

const CODEC: Codec = Codec::new(Limits::new());

#[test]
fn a_handle_has_moved_once_its_message_has_gone() {
    let memory = Memory::default();
    let message = (Counted::new(), "beside it");
    channel::send_message(&memory, &CODEC, &message, None).unwrap();
    assert_eq!(message.0.moved(), 1);
    let (arrived, text): (Counted, String) = channel::recv_message(&memory, &CODEC, None).unwrap();
    assert_eq!((arrived.moved(), text.as_str()), (0, "beside it"));
}

#[test]
fn a_handle_has_not_moved_when_its_message_has_not() {
    let memory = Memory::default();
    let message = Counted::new();
    let not_sent = [
        SendError::Full,
        SendError::Timeout,
        SendError::Disconnected,
        SendError::Handles { carrier: "it", count: 1, instead: "another" },
    ];
    for error in not_sent {
        let kind = error.kind();
        *memory.fails.lock().unwrap() = Some(error);
        let sent = channel::send_message(&memory, &CODEC, &message, None);
        assert_eq!(sent.unwrap_err().kind(), kind);
        assert_eq!(message.moved(), 0);
    }
    // A frame that has begun arrives whole.
    *memory.fails.lock().unwrap() = Some(SendError::Begun { left: 3 });
    let sent = channel::send_message(&memory, &CODEC, &message, None);
    assert!(matches!(sent, Err(SendError::Begun { left: 3 })));
    assert_eq!(message.moved(), 1);
}

#[test]
fn a_message_that_is_not_encoded_sends_nothing() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    let memory = Memory::default();
    let counted = Counted::new();
    let sent = channel::send_message(&memory, &CODEC, &(&counted, Refuses), None);
    assert!(matches!(sent, Err(SendError::Encode(_))));
    assert_eq!(counted.moved(), 0);
    assert!(memory.queue.lock().unwrap().is_empty());
}

#[test]
fn what_does_not_decode_closes_its_descriptors() {
    let memory = Memory::default();
    let (reader, writer) = std::io::pipe().unwrap();
    memory.queue.lock().unwrap().push_back((FrameKind::Message, vec![1, 2, 3], vec![writer.into()]));
    let received = channel::recv_message::<Counted>(&memory, &CODEC, None);
    assert!(matches!(received, Err(RecvError::Decode(_))));
    assert_eq!(std::io::Read::read(&mut &reader, &mut [0]).unwrap(), 0);
    assert!(matches!(channel::recv_message::<u8>(&memory, &CODEC, None), Err(RecvError::Timeout)));
}

#[test]
fn bytes_are_no_message() {
    let memory = Memory::default();
    memory.send_frame(FrameKind::Bytes, &[b"raw"], &[], None).unwrap();
    let error = channel::recv_message::<u8>(&memory, &CODEC, None).unwrap_err();
    assert!(matches!(error, RecvError::WrongKind { sent: "send_bytes", receive: "recv_bytes" }), "{error}");
}

#[test]
fn errors_of_the_system_are_sorted() {
    use std::io::ErrorKind as Io;
    for gone in [Io::BrokenPipe, Io::ConnectionReset, Io::NotConnected] {
        assert!(matches!(SendError::from_io(gone.into()), SendError::Disconnected));
    }
    let other = SendError::from_io(Io::OutOfMemory.into());
    assert!(matches!(&other, SendError::Io(error) if error.kind() == Io::OutOfMemory));
    assert_eq!(other.kind(), ErrorKind::OutOfMemory);
    assert_eq!(SendError::from_io(Io::StorageFull.into()).kind(), ErrorKind::OutOfMemory);
    assert_eq!(SendError::from_io(Io::TooManyLinks.into()).kind(), ErrorKind::Io);
    assert!(std::error::Error::source(&other).is_some(), "what the system said is kept");
}
