//! The contract of `ipc_core::Channel`, for pipes as its carrier: the same tests over a duplex and over two pipes.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ipc_core::channel::{self, Channel, Frame};
use ipc_core::frame::FrameKind;
use ipc_core::{Codec, RecvError, SendError};
use ipc_os::fd::identity;
use ipc_pipe::{Duplex, PipeChannel, Receiver, Sender, duplex, pipe};
use ipc_process::Process;
use ipc_testkit::data::{pattern, text};
use ipc_testkit::processes::{alone, die};
use ipc_testkit::watchdog;

use crate::tools::{SOME_TIME, Shared};

fn over_a_duplex() -> (PipeChannel, PipeChannel) {
    let (a, b) = duplex::<(), ()>().unwrap();
    (a.into_channel(), b.into_channel())
}

fn over_two_pipes() -> (PipeChannel, PipeChannel) {
    let (there, here) = (pipe::<()>().unwrap(), pipe::<()>().unwrap());
    (PipeChannel::over(there.0, here.1), PipeChannel::over(here.0, there.1))
}

/// Runs each test over each carrier.
macro_rules! conformance {
    ($($test:ident),* $(,)?) => {
        mod duplexes {
            $(#[test] fn $test() {
                let _watchdog = ipc_testkit::watchdog(concat!("channel over a duplex: ", stringify!($test)));
                super::$test(super::over_a_duplex);
            })*
        }
        mod pipes {
            $(#[test] fn $test() {
                let _watchdog = ipc_testkit::watchdog(concat!("channel over pipes: ", stringify!($test)));
                super::$test(super::over_two_pipes);
            })*
        }
    };
}

conformance!(
    frames_arrive_in_order_and_whole,
    parts_arrive_as_one_payload,
    a_passed_deadline_is_a_look,
    a_deadline_is_waited_for,
    a_partial_frame_stays_after_a_time_out,
    a_send_that_has_begun_is_finished_by_the_next,
    directions_are_independent,
    threads_take_turns,
    a_closed_peer_is_disconnected_after_what_it_sent,
    messages_pass_with_their_types,
);

type Make = fn() -> (PipeChannel, PipeChannel);

fn frame(channel: &PipeChannel, deadline: Option<Instant>) -> Result<Frame, RecvError> {
    // What was in it before does not matter.
    let mut frame = Frame::default();
    frame.payload.extend(b"old");
    channel.recv_frame(&mut frame, deadline)?;
    Ok(frame)
}

fn now() -> Option<Instant> {
    Some(Instant::now())
}

fn frames_arrive_in_order_and_whole(make: Make) {
    let (a, b) = make();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for len in [0, 1, 100, 70_000, 1 << 20, 3] {
                let kind = if len % 2 == 0 { FrameKind::Bytes } else { FrameKind::Message };
                a.send_frame(kind, &[&pattern(len)], &[], None).unwrap();
            }
        });
        for len in [0, 1, 100, 70_000, 1 << 20, 3] {
            let frame = frame(&b, None).unwrap();
            assert!(frame.payload == pattern(len), "{len}");
            assert_eq!(frame.kind, Some(if len % 2 == 0 { FrameKind::Bytes } else { FrameKind::Message }));
            assert!(frame.descriptors.is_empty());
        }
    });
}

fn parts_arrive_as_one_payload(make: Make) {
    let (a, b) = make();
    for deadline in [None, Some(Instant::now() + Duration::from_secs(50))] {
        a.send_frame(FrameKind::Bytes, &[b"one ", b"", b"and ", b"another"], &[], deadline).unwrap();
        a.send_frame(FrameKind::Bytes, &[], &[], deadline).unwrap();
        assert_eq!(frame(&b, None).unwrap().payload, b"one and another");
        assert_eq!(frame(&b, None).unwrap().payload, b"");
    }
}

fn a_passed_deadline_is_a_look(make: Make) {
    let (a, b) = make();
    assert!(matches!(frame(&b, now()), Err(RecvError::Timeout)));
    a.send_frame(FrameKind::Bytes, &[b"x"], &[], now()).unwrap();
    assert_eq!(frame(&b, now()).unwrap().payload, b"x");
}

/// Fills the way from `a` with whole frames, and says how many.
fn fill(a: &PipeChannel) -> usize {
    for count in 0.. {
        match a.send_frame(FrameKind::Bytes, &[&[7; 4088]], &[], now()) {
            Ok(()) => {}
            Err(SendError::Timeout) => return count,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!()
}

fn a_deadline_is_waited_for(make: Make) {
    let (a, b) = make();
    let start = Instant::now();
    assert!(matches!(frame(&b, Some(start + SOME_TIME)), Err(RecvError::Timeout)));
    assert!(start.elapsed() >= SOME_TIME);
    let count = fill(&a);
    let start = Instant::now();
    let sent = a.send_frame(FrameKind::Bytes, &[&[8; 4088]], &[], Some(start + SOME_TIME));
    assert!(matches!(sent, Err(SendError::Timeout)), "{sent:?}");
    assert!(start.elapsed() >= SOME_TIME);
    for _ in 0..count {
        assert_eq!(frame(&b, now()).unwrap().payload[0], 7);
    }
    assert!(matches!(frame(&b, now()), Err(RecvError::Timeout)), "nothing of what did not go");
}

fn a_partial_frame_stays_after_a_time_out(make: Make) {
    let (a, b) = make();
    let long = pattern(3 << 20);
    let sent = a.send_frame(FrameKind::Bytes, &[&long], &[], now());
    assert!(matches!(sent, Err(SendError::Begun { .. })), "{sent:?}");
    for _ in 0..3 {
        assert!(matches!(frame(&b, now()), Err(RecvError::Timeout)));
    }
    std::thread::scope(|scope| {
        scope.spawn(|| a.send_frame(FrameKind::Bytes, &[b"next"], &[], None).unwrap());
        assert!(frame(&b, None).unwrap().payload == long);
        assert_eq!(frame(&b, None).unwrap().payload, b"next");
    });
}

fn a_send_that_has_begun_is_finished_by_the_next(make: Make) {
    let (a, b) = make();
    let long = pattern(3 << 20);
    assert!(matches!(
        a.send_frame(FrameKind::Bytes, &[&long], &[], Some(Instant::now() + SOME_TIME)),
        Err(SendError::Begun { .. })
    ));
    assert!(matches!(a.send_frame(FrameKind::Bytes, &[b"no"], &[], now()), Err(SendError::Timeout)));
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| [frame(&b, None), frame(&b, None)].map(|frame| frame.unwrap().payload));
        a.send_frame(FrameKind::Bytes, &[b"yes"], &[], None).unwrap();
        let [first, second] = receiver.join().unwrap();
        assert!(first == long && second == b"yes");
    });
}

fn directions_are_independent(make: Make) {
    let (a, b) = make();
    let count = fill(&a);
    // One way is full, and a receive waits: the other way is free all the same.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| frame(&a, None).unwrap().payload);
        let blocked = scope.spawn(|| a.send_frame(FrameKind::Bytes, &[&[9; 4088]], &[], None));
        b.send_frame(FrameKind::Bytes, &[b"back"], &[], None).unwrap();
        assert_eq!(waiting.join().unwrap(), b"back");
        for _ in 0..count {
            assert_eq!(frame(&b, None).unwrap().payload[0], 7);
        }
        assert_eq!(frame(&b, None).unwrap().payload[0], 9);
        blocked.join().unwrap().unwrap();
    });
}

fn threads_take_turns(make: Make) {
    let (a, b) = make();
    let codec = Codec::default();
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (a, codec) = (&a, &codec);
            scope.spawn(move || {
                for n in 0..500_u32 {
                    channel::send_message(a, codec, &(thread, n, text(n as usize)), None).unwrap();
                }
            });
        }
        let receivers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| -> Vec<(u32, u32)> {
                    (0..1000)
                        .map(|_| {
                            let (thread, n, message): (u32, u32, String) =
                                channel::recv_message(&b, &codec, None).unwrap();
                            assert_eq!(message.len(), n as usize);
                            (thread, n)
                        })
                        .collect()
                })
            })
            .collect();
        let mut all = Vec::new();
        for receiver in receivers {
            all.extend(receiver.join().unwrap());
        }
        all.sort_unstable();
        assert!(all.into_iter().eq((0..4).flat_map(|thread| (0..500).map(move |n| (thread, n)))));
    });
}

fn a_closed_peer_is_disconnected_after_what_it_sent(make: Make) {
    let (a, b) = make();
    a.send_frame(FrameKind::Bytes, &[b"last"], &[], None).unwrap();
    // Something unread at the closing end must not hide what it sent.
    b.send_frame(FrameKind::Bytes, &[b"unread"], &[], None).unwrap();
    drop(a);
    assert_eq!(frame(&b, None).unwrap().payload, b"last");
    for deadline in [None, now()] {
        assert!(matches!(frame(&b, deadline), Err(RecvError::Disconnected)));
    }
    let send = |deadline| b.send_frame(FrameKind::Bytes, &[b"x"], &[], deadline);
    ipc_testkit::eventually("the other direction is closed", || send(now()).is_err());
    for deadline in [None, now()] {
        assert!(matches!(send(deadline), Err(SendError::Disconnected)));
    }
}

fn messages_pass_with_their_types(make: Make) {
    let (a, b) = make();
    let codec = Codec::default();
    channel::send_message(&a, &codec, &("text", 5_u8), None).unwrap();
    assert_eq!(channel::recv_message::<(String, u8)>(&b, &codec, None).unwrap(), ("text".to_owned(), 5));
    a.send_frame(FrameKind::Bytes, &[b"x"], &[], None).unwrap();
    assert!(matches!(channel::recv_message::<u8>(&b, &codec, None), Err(RecvError::WrongKind { .. })));
    channel::send_message(&a, &codec, "not a number", None).unwrap();
    assert!(matches!(channel::recv_message::<u8>(&b, &codec, None), Err(RecvError::Decode(_))));
    channel::send_message(&a, &codec, &1_u8, None).unwrap();
    assert_eq!(channel::recv_message::<u8>(&b, &codec, None).unwrap(), 1);
}

#[test]
fn a_duplex_moves_descriptors_and_pipes_say_that_they_do_not() {
    let (a, b) = over_a_duplex();
    assert!(a.capabilities().moves_handles && a.capabilities().local);
    let files: Vec<_> = (0..300).map(|_| tempfile::tempfile().unwrap()).collect();
    let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    for deadline in [None, Some(Instant::now() + Duration::from_secs(50))] {
        a.send_frame(FrameKind::Bytes, &[&[1; 10]], &fds, deadline).unwrap();
        let arrived = frame(&b, None).unwrap();
        assert_eq!(arrived.payload, [1; 10]);
        assert_eq!(arrived.descriptors.len(), 300);
        for (sent, arrived) in files.iter().zip(&arrived.descriptors) {
            assert_eq!(identity(sent).unwrap(), identity(arrived).unwrap());
        }
    }
    let codec = Codec::default();
    channel::send_message(&a, &codec, &Shared::null(), None).unwrap();
    channel::recv_message::<Shared>(&b, &codec, None).unwrap();

    let (a, b) = over_two_pipes();
    assert!(!a.capabilities().moves_handles && a.capabilities().local);
    let sent = a.send_frame(FrameKind::Bytes, &[b"x"], &fds[..2], None);
    assert!(matches!(sent, Err(SendError::Handles { count: 2, .. })), "{sent:?}");
    let sent = channel::send_message(&a, &codec, &Shared::null(), None);
    assert!(matches!(sent, Err(SendError::Handles { count: 1, .. })), "{sent:?}");
    assert!(matches!(frame(&b, now()), Err(RecvError::Timeout)), "nothing was sent");
}

#[test]
fn descriptors_with_bytes_to_a_place_are_closed() {
    use ipc_testkit::open_descriptors;
    alone(|| {
        let (a, mut b) = duplex::<(), ()>().unwrap();
        let a = a.into_channel();
        let file = tempfile::tempfile().unwrap();
        let before = open_descriptors();
        let mut buf = vec![0; 300_000];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let copies: Vec<_> = (0..300).map(|_| file.try_clone().unwrap()).collect();
                let fds: Vec<_> = copies.iter().map(AsFd::as_fd).collect();
                a.send_frame(FrameKind::Bytes, &[&pattern(300_000)], &fds, None).unwrap();
                a.send_frame(FrameKind::Bytes, &[b"x"], &[], None).unwrap();
            });
            assert_eq!(b.recv_bytes_into(&mut buf).unwrap(), 300_000);
        });
        assert!(buf == pattern(300_000));
        assert_eq!(b.recv_bytes_into(&mut buf).unwrap(), 1);
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn a_channel_to_another_process_tells_a_cut_off_frame() {
    let _watchdog = watchdog("channel, cut off");
    fn begin_and_die(end: Duplex<(), ()>) {
        let channel = end.into_channel();
        let sent = channel.send_frame(FrameKind::Bytes, &[&[1; 3 << 20]], &[], Some(Instant::now()));
        assert!(matches!(sent, Err(SendError::Begun { .. })));
        die()
    }
    fn begin_and_die_over_pipes(tx: Sender<()>, rx: Receiver<()>) {
        let channel = PipeChannel::over(tx, rx);
        let sent = channel.send_frame(FrameKind::Bytes, &[&[1; 3 << 20]], &[], Some(Instant::now()));
        assert!(matches!(sent, Err(SendError::Begun { .. })));
        die()
    }
    let (ours, theirs) = duplex::<(), ()>().unwrap();
    Process::spawn(begin_and_die, (theirs,)).unwrap();
    let ours = ours.into_channel();
    assert!(matches!(frame(&ours, None), Err(RecvError::Truncated { .. })));
    assert!(matches!(frame(&ours, None), Err(RecvError::Disconnected)));

    let (there, here) = (pipe::<()>().unwrap(), pipe::<()>().unwrap());
    Process::spawn(begin_and_die_over_pipes, (here.0, there.1)).unwrap();
    let ours = PipeChannel::over(there.0, here.1);
    assert!(matches!(frame(&ours, None), Err(RecvError::Truncated { .. })));
    assert!(matches!(frame(&ours, None), Err(RecvError::Disconnected)));
}

#[test]
fn a_frame_that_has_begun_is_flushed() {
    let _watchdog = watchdog("channel, flush");
    let (a, mut b) = duplex::<(), ()>().unwrap();
    let a = a.into_channel();
    let long = pattern(3 << 20);
    let sent = a.send_frame(FrameKind::Bytes, &[&long], &[], Some(Instant::now()));
    assert!(matches!(sent, Err(SendError::Begun { .. })), "{sent:?}");
    assert!(matches!(a.flush(Some(Instant::now())), Err(SendError::Begun { .. })), "there is no room yet");
    std::thread::scope(|scope| {
        scope.spawn(|| a.flush(None).unwrap());
        assert!(b.recv_bytes().unwrap() == long);
    });
    a.flush(Some(Instant::now())).unwrap();
}
