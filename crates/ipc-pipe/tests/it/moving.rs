//! Ends that move inside messages: what they take along, and what stays.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use ipc_core::frame::{FrameKind, Header};
use ipc_core::handle::Bundle;
use ipc_core::{Classify, Codec, ErrorKind, Schema, handle_kind};
use ipc_pipe::{Duplex, Receiver, RecvError, SendError, Sender, duplex, pipe};
use ipc_process::Process;
use ipc_testkit::data::text;
use ipc_testkit::processes::alone;
use ipc_testkit::{open_descriptors, watchdog};
use serde::{Deserialize, Serialize, Serializer};

use crate::tools::Shared;

#[test]
fn every_call_on_a_moved_end_says_moved() {
    type Ends = (Sender<u8>, Receiver<u8>, Duplex<u8, u8>);
    let (mut through, mut out) = duplex::<Ends, ()>().unwrap();
    let (tx, _rx) = pipe::<u8>().unwrap();
    let (_tx, rx) = pipe::<u8>().unwrap();
    let (end, _end) = duplex::<u8, u8>().unwrap();
    let mut ends = (tx, rx, end);
    through.send(&ends).unwrap();

    let sent = [
        ends.0.send(&1),
        ends.0.try_send(&1),
        ends.0.send_timeout(&1, Duration::ZERO),
        ends.0.send_bytes(b"x"),
        ends.0.send_bytes(&[1; 100_000]),
        ends.0.flush(),
        ends.0.batch().map(drop),
        ends.0.send_all([1]).map(drop).map_err(|error| error.source),
        ends.2.send(&1),
        ends.2.flush(),
    ];
    for (call, sent) in sent.into_iter().enumerate() {
        let error = sent.unwrap_err();
        assert!(matches!(error, SendError::Moved), "call {call}: {error}");
        assert_eq!(error.kind(), ErrorKind::Moved);
    }
    let received = [
        ends.1.recv().map(drop),
        ends.1.try_recv().map(drop),
        ends.1.recv_timeout(Duration::ZERO).map(drop),
        ends.1.recv_bytes().map(drop),
        ends.1.recv_bytes_into(&mut []).map(drop),
        ends.1.recv_bytes_into_timeout(&mut [], Duration::ZERO).map(drop),
        ends.1.poll(Duration::ZERO).map(drop),
        ends.2.recv().map(drop),
    ];
    for (call, received) in received.into_iter().enumerate() {
        let error = received.unwrap_err();
        assert!(matches!(error, RecvError::Moved), "call {call}: {error}");
        assert_eq!(error.kind(), ErrorKind::Moved);
    }
    assert!(ends.0.raw().write(b"x").unwrap_err().to_string().contains("moved"));
    assert!(std::io::Read::read(&mut ends.1.raw(), &mut [0]).unwrap_err().to_string().contains("moved"));
    assert!(ends.2.split().unwrap_err().to_string().contains("moved"));

    // And it does not move twice, in any company.
    let (end, _end) = duplex::<u8, u8>().unwrap();
    let (tx, _rx) = pipe::<u8>().unwrap();
    let error = through.send(&(tx, ends.1, end)).unwrap_err();
    assert!(matches!(&error, SendError::Encode(why) if why.to_string().contains("moved")), "{error:?}");
    assert!(out.recv().is_ok());
    assert!(matches!(out.try_recv(), Err(RecvError::Empty)));
}

#[test]
fn closing_is_noticed_at_once_though_the_moved_value_is_held() {
    let _watchdog = watchdog("held moved values");
    alone(|| {
        let (mut through, mut out) = duplex::<(Sender<u8>, Receiver<u8>, Duplex<u8, u8>), ()>().unwrap();
        let (tx, mut from_it) = pipe::<u8>().unwrap();
        let (mut to_it, rx) = pipe::<u8>().unwrap();
        let (end, mut its_peer) = duplex::<u8, u8>().unwrap();
        let held = (tx, rx, end);
        through.send(&held).unwrap();
        drop(out.recv().unwrap());
        assert!(matches!(from_it.recv(), Err(RecvError::Disconnected)));
        assert!(matches!(to_it.send(&1), Err(SendError::Disconnected)));
        assert!(matches!(its_peer.recv(), Err(RecvError::Disconnected)));
        assert!(matches!(its_peer.send(&1), Err(SendError::Disconnected)));
        drop(held);

        // A message that is never received is dropped with its carrier, and the ends in it are.
        let (tx, mut from_it) = pipe::<u8>().unwrap();
        let (_to_it, rx) = pipe::<u8>().unwrap();
        let (end, _peer) = duplex::<u8, u8>().unwrap();
        let held = (tx, rx, end);
        through.send(&held).unwrap();
        assert!(matches!(from_it.try_recv(), Err(RecvError::Empty)));
        drop(out);
        assert!(matches!(from_it.recv(), Err(RecvError::Disconnected)));
        drop(held);
    });
}

#[test]
fn closing_is_noticed_when_the_process_that_got_the_end_leaves() {
    let _watchdog = watchdog("held moved values, processes");
    fn take_and_leave(mut from: Duplex<(), Sender<u8>>) {
        from.recv().unwrap().send(&1).unwrap();
    }
    let (mut through, theirs) = duplex::<Sender<u8>, ()>().unwrap();
    let child = Process::spawn(take_and_leave, (theirs,)).unwrap();
    let (held, mut rx) = pipe::<u8>().unwrap();
    through.send(&held).unwrap();
    assert_eq!(rx.recv().unwrap(), 1);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    child.join().unwrap();
    drop(held);
}

#[test]
fn an_end_that_stands_twice_in_a_message_is_an_error() {
    alone(|| {
        struct Twice<'a>(&'a Receiver<u8>);
        impl Serialize for Twice<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                (self.0, 1, self.0).serialize(serializer)
            }
        }
        let before = open_descriptors();
        {
            // The type at the other end does not matter: nothing arrives.
            let (through, mut out) = duplex::<(), ()>().unwrap();
            let channel = through.into_channel();
            let (mut tx, mut rx) = pipe::<u8>().unwrap();
            let error =
                ipc_core::channel::send_message(&channel, &Codec::default(), &Twice(&rx), None).unwrap_err();
            assert!(error.kind() == ErrorKind::Encode, "{error:?}");
            assert!(
                matches!(&error, SendError::Encode(why) if why.to_string().contains("twice")),
                "{error:?}"
            );
            tx.send(&1).unwrap();
            assert_eq!(rx.recv().unwrap(), 1);
            assert!(matches!(out.try_recv(), Err(RecvError::Empty)));
        }
        assert_eq!(open_descriptors(), before);
    });
}

/// Everything that comes, and how it ends.
fn drain(mut rx: Receiver<String>) -> (Vec<usize>, String) {
    let lens = rx.iter().map(|message| message.len()).collect();
    (lens, format!("{:?}", rx.recv().unwrap_err()))
}

#[test]
fn a_receiver_takes_its_unread_messages_along() {
    let _watchdog = watchdog("unread messages");
    let (mut tx, mut rx) = pipe::<String>().unwrap();
    for size in [1, 2, 3] {
        tx.send(&text(size)).unwrap();
    }
    // And the first bytes of another one: 300 characters behind two bytes that say so.
    let header = Header::new(FrameKind::Message, 302, 0, 400).unwrap().to_bytes();
    tx.raw().write_all(&header[..5]).unwrap();
    assert_eq!(rx.recv().unwrap().len(), 1, "and the rest is read ahead");
    let child = Process::spawn(drain, (rx,)).unwrap();
    tx.raw().write_all(&header[5..]).unwrap();
    tx.raw().write_all(&[0xAC, 0x02]).unwrap();
    tx.raw().write_all(&[b'x'; 300]).unwrap();
    tx.raw().write_all(&header).unwrap();
    drop(tx);
    let (lens, end) = child.join().unwrap();
    assert_eq!(lens, [2, 3, 300]);
    // The iterator was told of the truncation: that is where it ended.
    assert_eq!(end, "Disconnected");
}

#[test]
fn a_receiver_takes_unread_messages_along_through_several_hands() {
    let _watchdog = watchdog("several hands");
    fn take_one_and_return(mut rx: Receiver<String>) -> (usize, Receiver<String>) {
        (rx.recv().unwrap().len(), rx)
    }
    let (mut tx, mut rx) = pipe::<String>().unwrap();
    tx.send_all((1..=5).map(text)).unwrap();
    drop(tx);
    for expected in 1..=5 {
        let len;
        (len, rx) = Process::spawn(take_one_and_return, (rx,)).unwrap().join().unwrap();
        assert_eq!(len, expected);
    }
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn a_receiver_takes_unread_handles_along() {
    let _watchdog = watchdog("unread handles");
    fn sum(mut rx: Receiver<Receiver<u32>>) -> u32 {
        rx.iter().map(|mut inner| inner.recv().unwrap()).sum()
    }
    fn sum_duplex(mut end: Duplex<u8, Receiver<u32>>) -> u32 {
        let sum = end.iter().map(|mut inner| inner.recv().unwrap()).sum();
        assert!(matches!(end.send(&1), Err(SendError::Disconnected)));
        sum
    }
    let fill = |through: &mut Sender<Receiver<u32>>| {
        for n in [1, 10, 100] {
            let (mut tx, rx) = pipe::<u32>().unwrap();
            tx.send(&n).unwrap();
            through.send(&rx).unwrap();
        }
    };
    for split in [true, false] {
        let (mut a, mut b) = duplex::<Receiver<u32>, u8>().unwrap();
        fill(a.both().0);
        // Reading one takes no more than that message's handles from the socket; a poll goes on to the next.
        assert_eq!(b.recv().unwrap().recv().unwrap(), 1);
        assert!(b.poll(Duration::ZERO).unwrap());
        let child = if split {
            Process::spawn(sum, (b.split().unwrap().1,)).unwrap()
        } else {
            Process::spawn(sum_duplex, (b,)).unwrap()
        };
        let (mut tx, rx) = pipe::<u32>().unwrap();
        tx.send(&1000).unwrap();
        a.send(&rx).unwrap();
        drop(a);
        assert_eq!(child.join().unwrap(), 1110, "split: {split}");
    }
}

#[test]
fn a_sender_takes_the_rest_of_a_message_along() {
    let _watchdog = watchdog("begun and moved");
    fn finish(mut tx: Sender<String>) {
        assert!(tx.has_begun());
        tx.send(&text(3)).unwrap();
    }
    fn finish_duplex(mut end: Duplex<String, ()>) {
        end.send(&text(3)).unwrap();
    }
    let long = text(3 << 20);

    let (mut tx, mut rx) = pipe::<String>().unwrap();
    assert!(matches!(tx.try_send(&long), Err(SendError::Begun { .. })));
    let child = Process::spawn(finish, (tx,)).unwrap();
    assert!(rx.recv().unwrap() == long);
    assert_eq!(rx.recv().unwrap(), text(3));
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    child.join().unwrap();

    let (mut a, mut b) = duplex::<String, ()>().unwrap();
    assert!(matches!(a.try_send(&long), Err(SendError::Begun { .. })));
    let child = Process::spawn(finish_duplex, (a,)).unwrap();
    assert!(b.recv().unwrap() == long);
    assert_eq!(b.recv().unwrap(), text(3));
    assert!(matches!(b.recv(), Err(RecvError::Disconnected)));
    child.join().unwrap();
}

#[test]
fn one_direction_of_a_duplex_moves_after_a_split_only() {
    let (mut through, mut out) = duplex::<(), ()>().unwrap();
    let (mut a, mut b) = duplex::<u8, u8>().unwrap();
    let codec = Codec::default();
    let channel = std::mem::replace(&mut through, duplex().unwrap().0).into_channel();
    let (tx, rx) = a.both();
    let error = ipc_core::channel::send_message(&channel, &codec, &*tx, None).unwrap_err();
    assert!(matches!(&error, SendError::Encode(why) if why.to_string().contains("split")), "{error:?}");
    assert!(ipc_core::channel::send_message(&channel, &codec, &*rx, None).is_err());
    a.send(&1).unwrap();
    assert_eq!(b.recv().unwrap(), 1);
    assert!(matches!(out.try_recv(), Err(RecvError::Empty)));
}

/// An end of which another process is told something wrong.
struct Forged {
    descriptor: Shared,
    kind: &'static str,
    socket: bool,
    structure: &'static str,
    fingerprint: u64,
    rest: Vec<u8>,
}

impl Forged {
    fn receiver(descriptor: Shared) -> Self {
        let schema = Schema::of::<u32>();
        Forged {
            descriptor,
            kind: "receiver",
            socket: false,
            structure: "u32",
            fingerprint: schema.fingerprint().to_u64(),
            rest: Vec::new(),
        }
    }
}

impl Serialize for Forged {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut head = Vec::new();
        Codec::default().encode(&(self.socket, self.structure), &mut head).unwrap();
        let mut bundle = Bundle::default();
        bundle.version = 1;
        bundle.fingerprint = self.fingerprint;
        bundle.descriptors = vec![Arc::clone(&self.descriptor.0)];
        bundle.metadata = (head.len() as u32).to_le_bytes().to_vec();
        bundle.metadata.extend(head);
        bundle.metadata.extend(&self.rest);
        match self.kind {
            "receiver" => bundle.serialize(handle_kind!("pipe.receiver"), serializer),
            "sender" => bundle.serialize(handle_kind!("pipe.sender"), serializer),
            "duplex" => bundle.serialize(handle_kind!("pipe.duplex"), serializer),
            _ => bundle.serialize(handle_kind!("lock"), serializer),
        }
    }
}

/// The structure that the two ends of a duplex agree on.
#[derive(Deserialize)]
struct Both<A, B> {
    #[expect(dead_code, reason = "only its structure counts")]
    sends: A,
    #[expect(dead_code, reason = "only its structure counts")]
    receives: B,
}

/// What a process makes of it that expects a `T`.
fn received_as<T: serde::de::DeserializeOwned>(forged: &Forged) -> Result<T, String> {
    let (through, mut out) = duplex::<(), T>().map(|(a, b)| (b, a)).unwrap();
    let sent = ipc_core::channel::send_message(&through.into_channel(), &Codec::default(), forged, None);
    sent.unwrap();
    out.recv().map_err(|error| {
        assert!(matches!(error, RecvError::Decode(_)), "{error:?}");
        with_causes(&error)
    })
}

/// The message of an error and of its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn pipe_ends() -> (Shared, Shared) {
    let (reader, writer) = ipc_os::pipe::pipe().unwrap();
    (Shared(Arc::new(reader)), Shared(Arc::new(writer)))
}

#[test]
fn an_end_for_another_type_shows_both_structures() {
    let (mut through, out) = duplex::<Receiver<(u32, String)>, ()>().unwrap();
    let (_tx, rx) = pipe().unwrap();
    through.send(&rx).unwrap();
    // The same socket, for a program that has another idea of what comes.
    let (_, out) = out.split().unwrap();
    let raw = out.as_fd().try_clone_to_owned().unwrap();
    let forged = Forged { kind: "duplex", socket: true, rest: vec![0; 16], ..receiver_of(raw) };
    let mut out: Duplex<(), Receiver<(u64, bool)>> = received_as(&forged).unwrap();
    let error = with_causes(&out.recv().unwrap_err());
    assert!(error.contains("(u32, str)") && error.contains("(u64, bool)"), "{error}");
}

/// A socket as an end of `Duplex<(), Receiver<(u64, bool)>>`.
fn receiver_of(raw: std::os::fd::OwnedFd) -> Forged {
    let schema = Schema::of::<Both<(), Receiver<(u64, bool)>>>();
    Forged { fingerprint: schema.fingerprint().to_u64(), ..Forged::receiver(Shared(Arc::new(raw))) }
}

#[test]
fn what_claims_to_be_an_end_is_looked_at() {
    alone(|| {
        let before = open_descriptors();
        let (reader, writer) = pipe_ends();
        // The honest one.
        let mut rx: Receiver<u32> = received_as(&Forged::receiver(reader)).unwrap();
        ipc_os::pipe::write(writer.0.as_fd(), &[1, 0, 0, 0, 0, 0, 0, 0xA9, 5]).unwrap();
        assert_eq!(rx.recv().unwrap(), 5);
        drop((rx, writer));

        let refused = |what: &str, forged: Forged| {
            let error = match forged.kind {
                "sender" => received_as::<Sender<u32>>(&forged).unwrap_err(),
                "duplex" => received_as::<Duplex<u32, u32>>(&forged).unwrap_err(),
                _ => received_as::<Receiver<u32>>(&forged).unwrap_err(),
            };
            assert!(error.contains(what), "{error}");
        };
        let schema_of_both = Schema::of::<Both<u32, u32>>().fingerprint().to_u64();
        let socket = || Shared(Arc::new(ipc_os::socket::pair(ipc_os::socket::Style::Stream).unwrap().0));
        let kind = "of another kind";
        refused(kind, Forged::receiver(Shared::null()));
        refused(kind, Forged::receiver(pipe_ends().1));
        refused(kind, Forged::receiver(socket()));
        refused(kind, Forged { socket: true, ..Forged::receiver(pipe_ends().0) });
        refused(kind, Forged { kind: "sender", ..Forged::receiver(pipe_ends().0) });
        refused(kind, Forged { kind: "sender", ..Forged::receiver(Shared::null()) });
        let duplex = |descriptor| Forged {
            kind: "duplex",
            fingerprint: schema_of_both,
            ..Forged::receiver(descriptor)
        };
        refused(kind, duplex(socket()));
        refused(kind, Forged { socket: true, ..duplex(pipe_ends().0) });
        refused("cut off", Forged { socket: true, ..duplex(socket()) });
        let lies = [u64::MAX.to_le_bytes(), 0_u64.to_le_bytes()].concat();
        refused("cut off", Forged { socket: true, rest: lies, ..duplex(socket()) });
        let lies = [0_u64.to_le_bytes(), u64::MAX.to_le_bytes()].concat();
        refused("cut off", Forged { socket: true, rest: lies, ..duplex(socket()) });
        refused("expected a pipe.receiver", Forged { kind: "lock", ..Forged::receiver(pipe_ends().0) });
        let other = Schema::of::<String>().fingerprint().to_u64();
        let shows = Forged { fingerprint: other, structure: "str", ..Forged::receiver(pipe_ends().0) };
        refused("ours is `u32`, theirs is `str`", shows);
        assert_eq!(open_descriptors(), before, "and all were closed");
    });
}

#[test]
fn an_end_with_o_nonblock_set_by_others_waits_all_the_same() {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let _watchdog = watchdog("O_NONBLOCK");
    let (mut tx, mut rx) = pipe::<String>().unwrap();
    for fd in [tx.as_fd(), rx.as_fd()] {
        let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap());
        fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    }
    let sender = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        tx.send(&text(500_000)).unwrap();
        tx.send_bytes(&[3; 500_000]).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        tx.send(&text(1)).unwrap();
        tx.raw().write_all(&[3; 200_000]).unwrap();
    });
    assert!(rx.recv().unwrap() == text(500_000));
    let mut buf = vec![0; 500_000];
    assert_eq!(rx.recv_bytes_into(&mut buf).unwrap(), 500_000);
    assert!(buf.iter().all(|byte| *byte == 3));
    assert_eq!(rx.recv().unwrap(), text(1));
    std::io::Read::read_exact(&mut rx.raw(), &mut buf[..200_000]).unwrap();
    sender.join().unwrap();
}
