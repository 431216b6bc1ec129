//! The receiving half of a connection.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ipc_core::frame::FrameKind;
use ipc_core::{Codec, Fingerprint, Limits, RecvError, Schema, handle};
use ipc_os::Readiness;
use ipc_stream::Until;
use serde::de::DeserializeOwned;

use crate::carrier::In;
use crate::python::{Object, from_object, pickle};
use crate::types::{Control, Questions, Structures, Types};

/// The half of a [`Connection`](crate::Connection) that receives; [there](crate::Connection) is what is promised.
#[derive(Debug)]
pub struct RecvHalf {
    pub(crate) back: In,
    codec: Codec,
    types: Types,
    questions: Arc<Questions>,
    structures: Structures,
    /// Frames that were taken out of the stream, and were not what was wanted: they come first.
    pub(crate) held: VecDeque<Held>,
    /// What ended a look beyond them.
    failed: Option<RecvError>,
    /// So much of what the two ends say to each other was taken since a call has begun to look for a message.
    passed: usize,
    /// CPython is at the other end.
    python: bool,
}

#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) kind: FrameKind,
    pub(crate) payload: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// What one look for a message has come to.
pub(crate) enum Step<T> {
    Got(T),
    /// The peer has asked for something: it waits for an answer, perhaps.
    Asked,
    /// The next message is of a structure that is not known here.
    Unknown(u64),
}

impl RecvHalf {
    pub(crate) fn new(back: In, questions: Arc<Questions>, python: bool) -> Self {
        RecvHalf {
            back,
            codec: Codec::default(),
            types: Types::default(),
            questions,
            structures: Structures::default(),
            held: VecDeque::new(),
            failed: None,
            passed: 0,
            python,
        }
    }

    /// A call begins to look for a message.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.passed = 0;
        if !self.is_clear() && self.back.end().is_moved() {
            // What is held has moved along.
            self.held.clear();
            self.failed = None;
        }
    }

    /// One look for a message.
    #[inline]
    pub(crate) fn step<T: DeserializeOwned>(&mut self, until: Until) -> Result<Step<T>, RecvError> {
        if self.python {
            let object = self.object_until(until)?;
            return from_object(object).map(Step::Got).map_err(no_pickle);
        }
        let id = self.types.id::<T>();
        if !self.is_clear() {
            return self.step_held(id);
        }
        match self.back.recv_behind(&id.to_le_bytes(), until)? {
            Some(message) => Ok(Step::Got(message)),
            None => self.step_other(id, until),
        }
    }

    fn object_until(&mut self, until: Until) -> Result<Object, RecvError> {
        if !self.python {
            return Err(no_pickle("the other end speaks this crate's own protocol: use `recv`"));
        }
        let pickle = self.back.recv_bytes(until)?;
        pickle::decode(&pickle, self.codec.limits()).map_err(no_pickle)
    }

    /// Receives a value from CPython, whatever it is, waiting for it.
    ///
    /// # Errors
    /// [`RecvError::Foreign`] for what is no [plain data](crate::python): it is gone, the next ones are not. Also if the
    /// connection is not [CPython's](crate::Options::python). Else as of [`recv`](Self::recv).
    pub fn recv_object(&mut self) -> Result<Object, RecvError> {
        self.object_until(Until::Forever)
    }

    fn is_clear(&self) -> bool {
        self.held.is_empty() && self.failed.is_none()
    }

    #[cold]
    fn step_other<T: DeserializeOwned>(&mut self, id: u64, until: Until) -> Result<Step<T>, RecvError> {
        while self.is_clear() {
            if self.fetch(until)? {
                return Ok(Step::Asked);
            }
        }
        self.step_held(id)
    }

    /// Takes one frame out of the stream: what it says of types is noted, anything else held. Whether it was a question.
    ///
    /// # Errors
    /// As of receiving. That the time is over also when the peer says one such thing after the other: a call that is to wait
    /// so long does, though there is always something.
    pub(crate) fn fetch(&mut self, until: Until) -> Result<bool, RecvError> {
        let (mut payload, mut descriptors) = (Vec::new(), Vec::new());
        let kind = self.back.recv_frame(&mut payload, &mut descriptors, until)?;
        if kind != FrameKind::Control {
            self.held.push_back(Held { kind, payload, descriptors });
            return Ok(false);
        }
        let mut is_question = false;
        match Control::read(&payload) {
            Some(Control::Ask(id)) => {
                self.questions.put(id);
                is_question = true;
            }
            Some(Control::Structure(id, text)) => self.structures.put(id, text),
            None => {}
        }
        self.passed += 1;
        match until {
            Until::Now if self.passed > PASSED_MAX => Err(RecvError::Empty),
            Until::At(_) if self.passed > PASSED_MAX && until.is_over() => Err(RecvError::Timeout),
            _ => Ok(is_question),
        }
    }

    #[cold]
    fn step_held<T: DeserializeOwned>(&mut self, id: u64) -> Result<Step<T>, RecvError> {
        let Some(held) = self.held.pop_front() else {
            return Err(self.failed.take().unwrap_or(RecvError::Disconnected));
        };
        let theirs = match held.kind {
            FrameKind::Message => held.payload.first_chunk().map(|id| u64::from_le_bytes(*id)),
            kind => {
                self.held.push_front(held);
                return Err(RecvError::wrong_kind(kind));
            }
        };
        if theirs == Some(id) {
            let decode = || self.codec.decode(&held.payload[8..]);
            return Ok(Step::Got(handle::incoming(held.descriptors, decode)?));
        }
        let theirs = theirs.unwrap_or_default();
        self.held.push_front(held);
        match self.structures.get(theirs) {
            Some(_) => Err(self.mismatch::<T>(theirs)),
            None => Ok(Step::Unknown(theirs)),
        }
    }

    /// Looks on for what the peer answers, and holds what comes before it: as much as one message may be, and nothing behind
    /// one with handles. Whether the peer
    /// has asked something itself; `None` when there is nothing more to wait for.
    pub(crate) fn await_structure(&mut self, id: u64, until: Until) -> Option<bool> {
        let held: usize = self.held.iter().map(|held| held.payload.len()).sum();
        if self.structures.get(id).is_some()
            || self.failed.is_some()
            || held > self.codec.limits().frame_len_max
            || self.held.len() > HELD_MAX
            || self.held.iter().any(|held| !held.descriptors.is_empty())
        {
            return None;
        }
        match self.fetch(until) {
            Ok(asked) => Some(asked),
            Err(RecvError::Timeout | RecvError::Empty) => None,
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }

    /// The next message is of another type than `T`.
    pub(crate) fn mismatch<T: DeserializeOwned>(&self, theirs: u64) -> RecvError {
        let text = self.structures.get(theirs).unwrap_or_default();
        match Schema::of::<T>().check(Fingerprint::from_u64(theirs), text) {
            Err(mismatch) => RecvError::Mismatch(Box::new(mismatch)),
            Ok(()) => RecvError::Empty,
        }
    }

    fn recv_until<T: DeserializeOwned>(&mut self, until: Until) -> Result<T, RecvError> {
        self.begin();
        loop {
            match self.step(until)? {
                Step::Got(message) => return Ok(message),
                // The other half answers with its next send.
                Step::Asked => {}
                Step::Unknown(theirs) => return Err(self.mismatch::<T>(theirs)),
            }
        }
    }

    /// Receives a message of type `T`, waiting for it.
    ///
    /// # Errors
    /// [`RecvError::Mismatch`] when the next message is of another type, and [`RecvError::WrongKind`] when it is bytes: it
    /// stays to be received as what it is. [`RecvError::Disconnected`] when all was received and nobody can send any more,
    /// [`RecvError::Truncated`] when the peer went in the middle of a message; [`RecvError::Decode`] for a message that
    /// exceeds a limit or is broken (it is gone, the next ones are not); [`RecvError::Frame`] when the peer does not speak
    /// this protocol; [`RecvError::Io`].
    #[inline]
    pub fn recv<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
        self.recv_until(Until::Forever)
    }

    /// Receives a message if there is one now.
    ///
    /// # Errors
    /// [`RecvError::Empty`]; else as [`recv`](Self::recv).
    pub fn try_recv<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
        self.recv_until(Until::Now)
    }

    /// Receives a message, waiting no longer than `timeout`.
    ///
    /// # Errors
    /// [`RecvError::Timeout`]; else as [`recv`](Self::recv).
    pub fn recv_timeout<T: DeserializeOwned>(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_until(Until::after(timeout))
    }

    /// One look for bytes.
    pub(crate) fn step_bytes(&mut self, until: Until) -> Result<Step<Vec<u8>>, RecvError> {
        while self.is_clear() {
            match self.back.recv_bytes(until) {
                Err(RecvError::Frame(_)) | Err(RecvError::WrongKind { .. }) => {}
                other => return other.map(Step::Got),
            }
            if self.fetch(until)? {
                return Ok(Step::Asked);
            }
        }
        let Some(held) = self.held.pop_front() else {
            return Err(self.failed.take().unwrap_or(RecvError::Disconnected));
        };
        if held.kind == FrameKind::Bytes {
            return Ok(Step::Got(held.payload));
        }
        let kind = held.kind;
        self.held.push_front(held);
        Err(RecvError::wrong_kind(kind))
    }

    fn recv_bytes_until(&mut self, until: Until) -> Result<Vec<u8>, RecvError> {
        self.begin();
        loop {
            if let Step::Got(bytes) = self.step_bytes(until)? {
                return Ok(bytes);
            }
        }
    }

    /// Receives bytes, waiting for them.
    ///
    /// # Errors
    /// [`RecvError::WrongKind`] when the next one is a message: it stays to be received as one. Else as
    /// [`recv`](Self::recv).
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_until(Until::Forever)
    }

    /// Receives bytes if there are some now.
    ///
    /// # Errors
    /// [`RecvError::Empty`]; else as [`recv_bytes`](Self::recv_bytes).
    pub fn try_recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_until(Until::Now)
    }

    /// Receives bytes, waiting no longer than `timeout`.
    ///
    /// # Errors
    /// [`RecvError::Timeout`]; else as [`recv_bytes`](Self::recv_bytes).
    pub fn recv_bytes_timeout(&mut self, timeout: Duration) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_until(Until::after(timeout))
    }

    /// One look for bytes, into `buf`.
    pub(crate) fn step_bytes_into(&mut self, buf: &mut [u8], until: Until) -> Result<Step<usize>, RecvError> {
        if self.is_clear() {
            match self.back.recv_bytes_into(buf, until) {
                Err(RecvError::Frame(_)) | Err(RecvError::WrongKind { .. }) => {}
                other => return other.map(Step::Got),
            }
        }
        let bytes = match self.step_bytes(until)? {
            Step::Got(bytes) => bytes,
            Step::Asked => return Ok(Step::Asked),
            Step::Unknown(id) => return Ok(Step::Unknown(id)),
        };
        match buf.get_mut(..bytes.len()) {
            Some(into) => into.copy_from_slice(&bytes),
            None => return Err(RecvError::TooSmall { message: bytes, capacity: buf.len() }),
        }
        Ok(Step::Got(bytes.len()))
    }

    fn recv_bytes_into_until(&mut self, buf: &mut [u8], until: Until) -> Result<usize, RecvError> {
        self.begin();
        loop {
            if let Step::Got(len) = self.step_bytes_into(buf, until)? {
                return Ok(len);
            }
        }
    }

    /// Receives bytes into `buf`, and says how many; what is behind them in `buf` stays as it was.
    ///
    /// # Errors
    /// [`RecvError::TooSmall`] when `buf` is too short: the error holds the whole message. Else as
    /// [`recv_bytes`](Self::recv_bytes).
    pub fn recv_bytes_into(&mut self, buf: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_bytes_into_until(buf, Until::Forever)
    }

    /// As [`recv_bytes_into`](Self::recv_bytes_into), if there are some now.
    ///
    /// # Errors
    /// [`RecvError::Empty`]; else the same.
    pub fn try_recv_bytes_into(&mut self, buf: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_bytes_into_until(buf, Until::Now)
    }

    /// As [`recv_bytes_into`](Self::recv_bytes_into), waiting no longer than `timeout`.
    ///
    /// # Errors
    /// [`RecvError::Timeout`]; else the same.
    pub fn recv_bytes_into_timeout(&mut self, buf: &mut [u8], timeout: Duration) -> Result<usize, RecvError> {
        self.recv_bytes_into_until(buf, Until::after(timeout))
    }

    /// One look for anything, to let it go.
    pub(crate) fn step_skip(&mut self) -> Result<Step<()>, RecvError> {
        while self.is_clear() {
            if self.fetch(Until::Forever)? {
                return Ok(Step::Asked);
            }
        }
        match self.held.pop_front() {
            Some(_) => Ok(Step::Got(())),
            None => Err(self.failed.take().unwrap_or(RecvError::Disconnected)),
        }
    }

    /// Lets the next message or the next bytes go, whatever they are, waiting for them: what is of no type that this end
    /// knows, for example.
    ///
    /// # Errors
    /// As of [`recv`](Self::recv), without those of types and decoding.
    pub fn skip(&mut self) -> Result<(), RecvError> {
        self.begin();
        while !matches!(self.step_skip()?, Step::Got(())) {}
        Ok(())
    }

    /// Whether a receive would not wait, for that time at most: a message is here, or the news that there will be none.
    ///
    /// # Errors
    /// What the system reports.
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        let until = Until::after(timeout);
        self.begin();
        while self.is_clear() {
            if !self.back.poll(until)? {
                return Ok(false);
            }
            if self.back.kind() != Some(FrameKind::Control) {
                break;
            }
            match self.fetch(until) {
                Err(RecvError::Timeout) => return Ok(false),
                other => other?,
            };
        }
        Ok(true)
    }

    /// How to tell whether a receive would not wait.
    pub(crate) fn readiness(&self) -> Readiness<'_> {
        if self.is_clear() || self.back.end().is_moved() { self.back.readiness() } else { Readiness::Now }
    }

    /// Sets the limits that protect this process from what is received.
    pub fn set_limits(&mut self, limits: Limits) {
        self.codec = Codec::new(limits);
        self.back.set_limits(limits);
    }
}

/// What is no plain data of Python's, or not of that type.
#[cold]
fn no_pickle(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RecvError {
    RecvError::Foreign { format: "a pickle", source: source.into() }
}

/// So much of what the two ends say to each other is taken before a call looks at the clock. An honest peer has less to say
/// in a row, and so what is behind it is not missed.
const PASSED_MAX: usize = 1024;

/// So many frames are held while an answer is waited for.
const HELD_MAX: usize = 64;
