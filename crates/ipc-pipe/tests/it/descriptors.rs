//! No descriptor is leaked, lost or handed out where it does not belong.

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ipc_core::frame::{FrameKind, Header};
use ipc_core::{Codec, EncodeError};
use ipc_os::socket::{self, Mode};
use ipc_pipe::{Duplex, Receiver, RecvError, SendError, Sender, duplex, pipe};
use ipc_process::Process;
use ipc_testkit::processes::alone;
use ipc_testkit::{open_descriptors, watchdog};

use crate::tools::{Moody, Shared};

#[test]
fn a_thousand_pipes_leave_nothing_behind() {
    let _watchdog = watchdog("1,000 pipes");
    alone(|| {
        let before = open_descriptors();
        for n in 0..1000_u32 {
            let (mut tx, mut rx) = pipe::<u32>().unwrap();
            tx.send(&n).unwrap();
            assert_eq!(rx.recv().unwrap(), n);
            let (mut a, mut b) = duplex::<u32, ()>().unwrap();
            a.send(&n).unwrap();
            assert_eq!(b.recv().unwrap(), n);
            let (tx, rx) = a.split().unwrap();
            assert_eq!(open_descriptors(), before + 5);
            drop((tx, rx));
        }
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn three_hundred_messages_with_handles_leave_nothing_behind() {
    let _watchdog = watchdog("300 messages with handles");
    alone(|| {
        fn pass_on(mut end: Duplex<Receiver<u32>, Receiver<u32>>) -> (usize, usize) {
            let before = open_descriptors();
            while let Ok(rx) = end.recv() {
                end.send(&rx).unwrap();
            }
            (before, open_descriptors())
        }
        let (mut ours, theirs) = duplex::<Receiver<u32>, Receiver<u32>>().unwrap();
        let child = Process::spawn(pass_on, (theirs,)).unwrap();
        let before = open_descriptors();
        for n in 0..300 {
            let (mut tx, rx) = pipe::<u32>().unwrap();
            tx.send(&n).unwrap();
            ours.send(&rx).unwrap();
            assert_eq!(ours.recv().unwrap().recv().unwrap(), n);
        }
        assert_eq!(open_descriptors(), before);
        drop(ours);
        let (theirs_before, theirs_after) = child.join().unwrap();
        assert_eq!(theirs_before, theirs_after);
    });
}

#[test]
fn handles_that_nobody_claims_are_closed() {
    alone(|| {
        let (mut a, mut b) = duplex::<u32, u32>().unwrap();
        let before = open_descriptors();
        // A message that holds no handle, and comes with two; announced, and not.
        for announced in [2, 0] {
            let mut frame = Header::new(FrameKind::Message, 1, announced, 9).unwrap().to_bytes().to_vec();
            frame.push(7);
            let null = std::fs::File::open("/dev/null").unwrap();
            let parts = [std::io::IoSlice::new(&frame)];
            let fds = [null.as_fd(), null.as_fd()];
            assert_eq!(socket::send_with(a.as_fd(), &parts, &fds, Mode::Wait).unwrap(), 9);
            drop(null);
            assert_eq!(b.recv().unwrap(), 7);
            assert_eq!(open_descriptors(), before, "announced: {announced}");
        }
        a.send(&8).unwrap();
        assert_eq!(b.recv().unwrap(), 8);
    });
}

#[test]
fn handles_of_a_message_that_does_not_decode_are_closed() {
    alone(|| {
        let (mut a, mut b) = duplex::<(Shared, u8), ()>().unwrap();
        let before = open_descriptors();
        a.send(&(Shared::null(), 1)).unwrap();
        // In front of it the same bytes, cut short.
        let mut buf = [0; 200];
        let mut fds = std::collections::VecDeque::new();
        let len = socket::receive(b.as_fd(), &mut buf, &mut fds, Mode::Wait).unwrap();
        assert_eq!(fds.len(), 1);
        let payload = &buf[8..len - 1];
        let header = Header::new(FrameKind::Message, payload.len(), 1, 200).unwrap().to_bytes();
        let parts = [std::io::IoSlice::new(&header), std::io::IoSlice::new(payload)];
        socket::send_with(a.as_fd(), &parts, &[fds[0].as_fd()], Mode::Wait).unwrap();
        drop(fds);
        assert!(matches!(b.recv(), Err(RecvError::Decode(_))));
        assert_eq!(open_descriptors(), before);
        a.send(&(Shared::null(), 1)).unwrap();
        assert_eq!(b.recv().unwrap().1, 1);
    });
}

#[test]
fn handles_in_a_queue_that_nobody_reads_are_closed_with_it() {
    alone(|| {
        let before = open_descriptors();
        let (mut a, mut b) = duplex::<(Shared, u8), ()>().unwrap();
        for n in 0..3 {
            a.send(&(Shared::null(), n)).unwrap();
        }
        assert_eq!(b.recv().unwrap().1, 0);
        assert!(b.poll(std::time::Duration::ZERO).unwrap(), "one is read ahead");
        drop((a, b));
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn a_handle_outside_of_a_message_is_an_error() {
    let (mut tx, mut rx) = pipe::<u8>().unwrap();
    let mut bytes = Vec::new();
    let error = Codec::default().encode(&rx, &mut bytes).unwrap_err();
    assert!(matches!(&error, EncodeError::Custom(why) if why.contains("pipe.receiver")), "{error}");
    assert!(bytes.is_empty());
    let error = Codec::default().encode(&tx, &mut bytes).unwrap_err();
    assert!(error.to_string().contains("inside a message to another process"), "{error}");
    let (a, _b) = duplex::<u8, u8>().unwrap();
    assert!(Codec::default().encode(&a, &mut bytes).is_err());
    assert!(ipc_core::to_value(&rx).is_err());

    // Nothing of it has an effect on the ends.
    tx.send(&1).unwrap();
    assert_eq!(rx.recv().unwrap(), 1);

    // The bytes of a message are worth nothing without what came beside them.
    let (bytes, handles) = {
        let mut bytes = Vec::new();
        let ((), handles) = ipc_core::handle::outgoing(|| Codec::default().encode(&rx, &mut bytes)).unwrap();
        (bytes, handles)
    };
    let error = Codec::default().decode::<Receiver<u8>>(&bytes).unwrap_err();
    assert!(error.to_string().contains("inside a message"), "{error}");
    drop(handles);
    tx.send(&2).unwrap();
    assert_eq!(rx.recv().unwrap(), 2, "and what was not committed has not moved");
}

#[test]
fn an_aborted_message_leaves_its_ends_usable() {
    alone(|| {
        let (mut through, mut out) = duplex::<(Receiver<u8>, Sender<u8>, Moody), ()>().unwrap();
        let (mut tx, rx) = pipe::<u8>().unwrap();
        let (tx2, mut rx2) = pipe::<u8>().unwrap();
        let before = open_descriptors();
        let mut message = (rx, tx2, Moody::Refuses);
        let error = through.send(&message).unwrap_err();
        assert!(
            matches!(&error, SendError::Encode(why) if why.to_string().contains("not today")),
            "{error:?}"
        );
        message.2 = Moody::Panics;
        assert!(catch_unwind(AssertUnwindSafe(|| through.send(&message))).is_err());
        assert_eq!(open_descriptors(), before);

        tx.send(&1).unwrap();
        assert_eq!(message.0.recv().unwrap(), 1);
        message.1.send(&2).unwrap();
        assert_eq!(rx2.recv().unwrap(), 2);
        assert!(matches!(out.try_recv(), Err(RecvError::Empty)), "nothing was sent");

        message.2 = Moody::Fine;
        through.send(&message).unwrap();
        let (mut rx, mut tx2, _) = out.recv().unwrap();
        tx.send(&3).unwrap();
        assert_eq!(rx.recv().unwrap(), 3);
        tx2.send(&4).unwrap();
        assert_eq!(rx2.recv().unwrap(), 4);
    });
}

#[test]
fn a_pipe_moves_no_handles_and_says_what_does() {
    let (mut through, mut out) = pipe::<(Receiver<u8>, u8)>().unwrap();
    let (mut tx, rx) = pipe::<u8>().unwrap();
    let mut message = (rx, 1);
    let error = through.send(&message).unwrap_err();
    assert!(matches!(error, SendError::Handles { count: 1, .. }), "{error}");
    assert!(error.to_string().contains("duplex"), "{error}");
    let error = through.send_all([&message]).unwrap_err();
    assert!(matches!(error.source, SendError::Handles { .. }) && error.sent == 0, "{error}");
    tx.send(&5).unwrap();
    assert_eq!(message.0.recv().unwrap(), 5);
    assert!(matches!(out.try_recv(), Err(RecvError::Empty)));
}

#[test]
fn descriptors_that_find_no_room_are_an_error_and_the_stream_says_so() {
    alone(|| {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (mut a, mut b) = duplex::<Vec<Shared>, u8>().unwrap();
        let (many, few): (Vec<_>, Vec<_>) = (0..41).map(|_| Shared::null()).partition({
            let mut n = 0;
            move |_| {
                n += 1;
                n > 1
            }
        });
        a.send(&many).unwrap();
        a.send(&few).unwrap();
        drop((many, few));
        let before = open_descriptors();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, before as u64 + 10, hard).unwrap();
        let error = b.recv().unwrap_err();
        assert!(matches!(error, RecvError::Io(_)), "{error:?}");
        // Those that did fit are not kept, and which belong to the next message could not be known.
        assert_eq!(open_descriptors(), before);
        let error = b.recv().unwrap_err();
        assert!(matches!(error, RecvError::Io(_)), "{error:?}");
        assert_eq!(open_descriptors(), before);
        b.send(&1).unwrap();
        assert_eq!(a.recv().unwrap(), 1, "the other direction goes on");
    });
}
