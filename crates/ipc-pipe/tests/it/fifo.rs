//! FIFOs: by path, by many writers, and what their reader can tell.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipc_core::{Classify, ErrorKind, FrameError};
use ipc_pipe::fifo::{FifoError, FifoReceiver, SHARED_LEN_MAX};
use ipc_pipe::{Fifo, Limits, Receiver, RecvError, SendError, pipe, wait};
use ipc_process::Process;
use ipc_testkit::data::{pattern, text};
use ipc_testkit::processes::alone;
use ipc_testkit::{open_descriptors, watchdog};
use tempfile::TempDir;

use crate::tools::{SOME_TIME, Shared};

/// A new FIFO in a directory that lives as long as it is wanted.
fn fifo<T>() -> (TempDir, Fifo<T>) {
    let dir = tempfile::tempdir().unwrap();
    let fifo = Fifo::create(dir.path().join("fifo")).unwrap();
    (dir, fifo)
}

#[test]
fn no_writer_yet_nothing_now_and_last_writer_left_are_told_apart() {
    let _watchdog = watchdog("three states");
    let (_dir, fifo) = fifo::<u32>();
    let mut rx = fifo.receiver().unwrap();
    for _ in 0..2 {
        let error = rx.try_recv().unwrap_err();
        assert!(matches!(error, RecvError::NotConnected), "{error}");
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        let start = Instant::now();
        assert!(matches!(rx.recv_timeout(SOME_TIME), Err(RecvError::NotConnected)));
        assert!(start.elapsed() >= SOME_TIME);
        assert!(!rx.poll(Duration::ZERO).unwrap());

        let mut first = fifo.sender().unwrap();
        let second = fifo.sender().unwrap();
        assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
        let start = Instant::now();
        assert!(matches!(rx.recv_timeout(SOME_TIME), Err(RecvError::Timeout)));
        assert!(start.elapsed() >= SOME_TIME);

        drop(second);
        assert!(matches!(rx.try_recv(), Err(RecvError::Empty)), "one is left");
        first.send(&1).unwrap();
        drop(first);
        assert_eq!(rx.recv().unwrap(), 1, "what was sent comes before the end");
        assert!(rx.poll(Duration::MAX).unwrap());
        for _ in 0..2 {
            assert!(rx.poll(Duration::ZERO).unwrap());
            assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
            assert!(matches!(rx.try_recv(), Err(RecvError::Disconnected)));
        }
        // The next sender ends that state by itself; and so does the reader, who wants to wait for it.
        let mut third = fifo.sender().unwrap();
        assert!(matches!(rx.try_recv(), Err(RecvError::Empty)));
        third.send(&2).unwrap();
        assert_eq!(rx.recv().unwrap(), 2);
        drop(third);
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
        rx.reopen().unwrap();
    }
}

#[test]
fn recv_waits_for_the_first_writer() {
    let _watchdog = watchdog("first writer");
    fn come_later(path: PathBuf) {
        std::thread::sleep(SOME_TIME);
        Fifo::<u32>::open(path).unwrap().sender().unwrap().send(&7).unwrap();
    }
    let (_dir, fifo) = fifo::<u32>();
    let mut rx = fifo.receiver().unwrap();
    for _ in 0..2 {
        let child = Process::spawn(come_later, (fifo.path().to_owned(),)).unwrap();
        assert_eq!(rx.recv().unwrap(), 7);
        assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
        child.join().unwrap();
        rx.reopen().unwrap();
    }
}

#[test]
fn a_sender_waits_for_the_reader() {
    let _watchdog = watchdog("sender waits");
    fn read_later(path: PathBuf) -> Vec<u32> {
        std::thread::sleep(SOME_TIME);
        Fifo::<u32>::open(path).unwrap().receiver().unwrap().iter().collect()
    }
    let (_dir, fifo) = fifo::<u32>();
    let child = Process::spawn(read_later, (fifo.path().to_owned(),)).unwrap();
    let mut tx = fifo.sender().unwrap();
    tx.send(&1).unwrap();
    tx.send(&2).unwrap();
    drop(tx);
    assert_eq!(child.join().unwrap(), [1, 2]);
}

#[test]
fn without_a_reader_a_timed_open_says_so() {
    let _watchdog = watchdog("no reader");
    let (_dir, fifo) = fifo::<u32>();
    let start = Instant::now();
    for error in
        [fifo.sender_timeout(SOME_TIME).unwrap_err(), fifo.exclusive_sender_timeout(SOME_TIME).unwrap_err()]
    {
        assert!(matches!(&error, FifoError::NoReader { path } if path == fifo.path()), "{error}");
        assert_eq!(error.kind(), ErrorKind::NotConnected);
    }
    assert!(start.elapsed() >= 2 * SOME_TIME);
    assert!(matches!(fifo.sender_timeout(Duration::ZERO), Err(FifoError::NoReader { .. })));
    let _rx = fifo.receiver().unwrap();
    fifo.sender_timeout(Duration::ZERO).unwrap();
}

#[test]
fn create_open_and_unlink_say_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    let error = Fifo::<u8>::open(&path).unwrap_err();
    assert!(matches!(&error, FifoError::NotFound { path: p } if *p == path), "{error}");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("Fifo::create"));
    let nowhere = dir.path().join("no/such/directory");
    assert!(matches!(Fifo::<u8>::create(nowhere), Err(FifoError::NotFound { .. })));

    let fifo = Fifo::<u8>::create(&path).unwrap();
    let error = Fifo::<u8>::create(&path).unwrap_err();
    assert!(matches!(error, FifoError::AlreadyExists { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(Fifo::<u8>::open(&path).unwrap().path(), path);
    Fifo::<u8>::open_or_create(&path).unwrap();

    // Ends that are open go on; the name is gone.
    let mut rx = fifo.receiver().unwrap();
    let mut tx = fifo.sender().unwrap();
    Fifo::<u8>::open(&path).unwrap().unlink().unwrap();
    tx.send(&1).unwrap();
    assert_eq!(rx.recv().unwrap(), 1);
    assert!(matches!(fifo.receiver(), Err(FifoError::NotFound { .. })));
    assert!(matches!(fifo.sender(), Err(FifoError::NotFound { .. })));
    assert!(matches!(rx.reopen(), Err(FifoError::NotFound { .. })));
    assert!(matches!(fifo.unlink(), Err(FifoError::NotFound { .. })));

    let made = Fifo::<u8>::open_or_create(&path).unwrap();
    made.unlink().unwrap();
    std::fs::write(&path, "a file").unwrap();
    let error = Fifo::<u8>::open(&path).unwrap_err();
    assert!(matches!(error, FifoError::NotAFifo { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(matches!(Fifo::<u8>::open_or_create(&path), Err(FifoError::NotAFifo { .. })));
    assert!(matches!(Fifo::<u8>::create(&path), Err(FifoError::AlreadyExists { .. })));
    std::fs::remove_file(&path).unwrap();
    let fifo = Fifo::<u8>::create(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "a file").unwrap();
    assert!(matches!(fifo.receiver(), Err(FifoError::NotAFifo { .. })), "it has changed since");
    assert!(matches!(fifo.sender(), Err(FifoError::NotAFifo { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"a file", "and nothing was written");
}

#[test]
fn only_the_user_can_open_it_whatever_the_umask() {
    alone(|| {
        use nix::sys::stat::{Mode, umask};
        let dir = tempfile::tempdir().unwrap();
        for mask in [0, 0o022, 0o077, 0o111, 0o177] {
            umask(Mode::from_bits_retain(mask));
            let path = dir.path().join(format!("{mask:o}"));
            Fifo::<u8>::create(&path).unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600, "umask {mask:o}");
        }
    });
}

#[test]
fn many_writers_at_once_each_message_whole_and_in_its_writers_order() {
    let _watchdog = watchdog("many writers");
    const WRITERS: u32 = 8;
    const MESSAGES: u32 = 500;
    type Message = (u32, u32, String);
    fn len(n: u32) -> usize {
        (n as usize * 37) % (SHARED_LEN_MAX - 20)
    }
    fn write(path: PathBuf, writer: u32, mut go: Receiver<()>) {
        let mut tx = Fifo::<Message>::open(path).unwrap().sender().unwrap();
        // All begin together: when the other end of this pipe is closed.
        assert!(go.recv().is_err());
        for n in 0..MESSAGES {
            tx.send(&(writer, n, text(len(n)))).unwrap();
        }
    }
    let (_dir, fifo) = fifo::<Message>();
    let mut rx = fifo.receiver().unwrap();
    let mut holds = Vec::new();
    let children: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (hold, go) = pipe::<()>().unwrap();
            holds.push(hold);
            Process::spawn(write, (fifo.path().to_owned(), writer, go)).unwrap()
        })
        .collect();
    // One of ours, so that nobody is the last to leave while others have not come.
    let mut ours = fifo.sender().unwrap();
    drop(holds);
    let mut next = [0; WRITERS as usize];
    for _ in 0..WRITERS * MESSAGES {
        let (writer, n, message) = rx.recv().unwrap();
        assert_eq!(n, next[writer as usize], "of writer {writer}");
        assert!(message == text(len(n)));
        next[writer as usize] += 1;
    }
    children.into_iter().for_each(|child| child.join().unwrap());
    ours.send(&(99, 0, String::new())).unwrap();
    drop(ours);
    assert_eq!(rx.recv().unwrap().0, 99);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn a_shared_writer_sends_one_chunk_an_exclusive_one_any_number() {
    let _watchdog = watchdog("chunks");
    let (_dir, fifo) = fifo::<String>();
    let mut rx = fifo.receiver().unwrap();
    let mut tx = fifo.sender().unwrap();
    // Two bytes of an encoded string of this size are its length.
    tx.send(&text(SHARED_LEN_MAX - 2)).unwrap();
    let error = tx.send(&text(SHARED_LEN_MAX - 1)).unwrap_err();
    assert!(
        matches!(error, SendError::TooLongToShare { len, limit } if len == limit + 1 && limit == SHARED_LEN_MAX),
        "{error}"
    );
    assert!(error.to_string().contains("exclusive"));
    tx.send_bytes(&pattern(SHARED_LEN_MAX)).unwrap();
    assert!(matches!(tx.send_bytes(&pattern(SHARED_LEN_MAX + 1)), Err(SendError::TooLongToShare { .. })));
    tx.send_bytes(b"").unwrap();
    assert_eq!(rx.recv().unwrap().len(), SHARED_LEN_MAX - 2);
    assert!(rx.recv_bytes().unwrap() == pattern(SHARED_LEN_MAX));
    assert_eq!(rx.recv_bytes().unwrap(), b"");
    drop(tx);

    fn write(path: PathBuf) {
        let mut tx = Fifo::<String>::open(path).unwrap().exclusive_sender().unwrap();
        for size in [0, 1, SHARED_LEN_MAX - 2, SHARED_LEN_MAX - 1, 2 * SHARED_LEN_MAX, 1 << 20, 1 << 20, 5] {
            tx.send(&text(size)).unwrap();
            tx.send_bytes(&pattern(size)).unwrap();
        }
    }
    let child = Process::spawn(write, (fifo.path().to_owned(),)).unwrap();
    rx.reopen().unwrap();
    for size in [0, 1, SHARED_LEN_MAX - 2, SHARED_LEN_MAX - 1, 2 * SHARED_LEN_MAX, 1 << 20, 1 << 20, 5] {
        assert!(rx.recv().unwrap() == text(size), "{size}");
        assert!(rx.recv_bytes().unwrap() == pattern(size), "{size}");
    }
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
    child.join().unwrap();
}

#[test]
fn exclusive_excludes_in_both_directions() {
    let (_dir, fifo) = fifo::<u8>();
    let mut rx = fifo.receiver().unwrap();
    let in_use = |error: FifoError| {
        assert!(matches!(&error, FifoError::InUse { path } if path == fifo.path()), "{error}");
        assert_eq!(error.kind(), ErrorKind::Full);
    };
    let exclusive = fifo.exclusive_sender().unwrap();
    in_use(fifo.sender().unwrap_err());
    in_use(fifo.exclusive_sender().unwrap_err());
    in_use(fifo.sender_timeout(SOME_TIME).unwrap_err());
    drop(exclusive);
    let (mut one, two) = (fifo.sender().unwrap(), fifo.sender().unwrap());
    in_use(fifo.exclusive_sender().unwrap_err());
    drop(two);
    in_use(fifo.exclusive_sender().unwrap_err());
    one.send(&1).unwrap();
    drop(one);
    fifo.exclusive_sender().unwrap().send(&2).unwrap();
    assert!(rx.iter().eq([1, 2]));
}

#[test]
fn a_send_that_finds_no_room_is_full_or_begun() {
    let _watchdog = watchdog("fifo, full");
    let (_dir, fifo) = fifo::<String>();
    let mut rx = fifo.receiver().unwrap();
    let mut tx = fifo.sender().unwrap();
    let chunk = text(SHARED_LEN_MAX - 2);
    let mut sent = 0;
    let error = loop {
        match tx.try_send(&chunk) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SendError::Full), "{error}");
    let start = Instant::now();
    assert!(matches!(tx.send_timeout(&chunk, SOME_TIME), Err(SendError::Timeout)));
    assert!(start.elapsed() >= SOME_TIME);
    for _ in 0..sent {
        assert!(rx.try_recv().unwrap() == chunk);
    }
    assert!(matches!(rx.try_recv(), Err(RecvError::Empty)), "nothing of those that did not go");
    drop(tx);

    let mut tx = fifo.exclusive_sender().unwrap();
    let long = text(1 << 20);
    let error = tx.try_send(&long).unwrap_err();
    assert!(matches!(error, SendError::Begun { left } if left > 0), "{error}");
    assert!(matches!(tx.try_send(&text(1)), Err(SendError::Full)));
    assert!(matches!(tx.send_timeout(&text(1), SOME_TIME), Err(SendError::Timeout)));
    let receiver = std::thread::spawn(move || rx.iter().collect::<Vec<_>>());
    tx.flush().unwrap();
    tx.send(&text(2)).unwrap();
    drop(tx);
    assert!(receiver.join().unwrap() == [long, text(2)]);
}

#[test]
fn limits_hold_at_both_ends() {
    let _watchdog = watchdog("fifo limits");
    let (_dir, fifo) = fifo::<String>();
    let mut rx = fifo.receiver().unwrap();
    rx.set_limits(Limits::new().frame_len_max(10_000));
    let mut tx = fifo.exclusive_sender().unwrap();
    tx.set_limits(Limits::new().frame_len_max(20_000));
    assert_eq!(tx.send(&text(20_000)).unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(tx.send_bytes(&pattern(20_001)).unwrap_err().kind(), ErrorKind::Limit);
    tx.send_bytes(&pattern(10_000)).unwrap();
    tx.send_bytes(&pattern(10_001)).unwrap();
    tx.send_bytes(&pattern(3)).unwrap();
    assert_eq!(rx.recv_bytes().unwrap().len(), 10_000);
    let error = rx.recv_bytes().unwrap_err();
    assert!(matches!(error, RecvError::Frame(FrameError::TooLong { limit: 10_000, .. })), "{error}");
    assert_eq!(rx.recv_bytes().unwrap(), pattern(3), "the rest of it is skipped");
}

#[test]
fn writers_of_another_structure_are_found_out_and_others_go_on() {
    let _watchdog = watchdog("fifo mismatch");
    fn write_something_else(path: PathBuf) {
        let mut tx = Fifo::<(u8, Vec<bool>)>::open(path).unwrap().sender().unwrap();
        tx.send(&(1, vec![true])).unwrap();
        tx.send(&(2, vec![])).unwrap();
    }
    let (_dir, fifo) = fifo::<(u32, String)>();
    let mut rx = fifo.receiver().unwrap();
    let mut good = fifo.sender().unwrap();
    Process::spawn(write_something_else, (fifo.path().to_owned(),)).unwrap().join().unwrap();
    good.send(&(3, "good".to_owned())).unwrap();
    for _ in 0..2 {
        let error = rx.recv().unwrap_err();
        assert!(matches!(error, RecvError::Mismatch(_)), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        let text = error.to_string();
        assert!(text.contains("(u32, str)") && text.contains("(u8, [bool])"), "{text}");
    }
    assert_eq!(rx.recv().unwrap(), (3, "good".to_owned()));
    drop(good);
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));

    // A long message is one error, not one for each chunk.
    let mut other = Fifo::<String>::open(fifo.path()).unwrap().exclusive_sender().unwrap();
    other.send(&text(20_000)).unwrap();
    drop(other);
    let error = rx.recv().unwrap_err();
    assert!(error.to_string().contains("theirs is `str`"), "{error}");
    assert!(matches!(rx.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn handles_do_not_pass() {
    let (_dir, fifo) = fifo::<(u8, Option<Shared>)>();
    let mut rx = fifo.receiver().unwrap();
    let mut tx = fifo.sender().unwrap();
    let error = tx.send(&(1, Some(Shared::null()))).unwrap_err();
    assert!(matches!(error, SendError::Handles { count: 1, .. }), "{error}");
    tx.send(&(2, None)).unwrap();
    assert_eq!(rx.recv().unwrap().0, 2);
}

#[test]
fn bytes_and_messages_are_told_apart() {
    let (_dir, fifo) = fifo::<u8>();
    let mut rx = fifo.receiver().unwrap();
    let mut tx = fifo.sender().unwrap();
    tx.send(&1).unwrap();
    tx.send_bytes(b"two").unwrap();
    tx.send(&3).unwrap();
    assert!(matches!(rx.recv_bytes(), Err(RecvError::WrongKind { sent: "send", .. })));
    assert!(matches!(rx.recv(), Err(RecvError::WrongKind { sent: "send_bytes", .. })));
    assert_eq!(rx.recv().unwrap(), 3, "those were gone");
}

#[test]
fn what_is_read_ahead_is_ready() {
    let (_dir, fifo) = fifo::<u8>();
    let mut rx = fifo.receiver().unwrap();
    let mut tx = fifo.sender().unwrap();
    for n in 0..3 {
        tx.send(&n).unwrap();
    }
    for n in 0..3 {
        assert_eq!(wait(&[&rx], Some(Duration::ZERO)).unwrap(), [0]);
        assert!(rx.poll(Duration::ZERO).unwrap());
        assert_eq!(rx.recv().unwrap(), n);
    }
    assert_eq!(wait(&[&rx], Some(Duration::ZERO)).unwrap(), [0_usize; 0]);
    drop(tx);
    assert_eq!(wait(&[&rx], None).unwrap(), [0]);
}

/// Writes plain bytes into a FIFO that somebody reads.
fn vandalise<T>(rx: &FifoReceiver<T>, path: &std::path::Path, bytes: &[u8]) {
    let _read = rx.as_fd();
    std::fs::File::options().write(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn what_is_no_chunk_is_a_typed_error() {
    use ipc_core::frame::{FrameKind, Header};
    let _watchdog = watchdog("fifo, hostile");
    let (_dir, fifo) = fifo::<u8>();
    let mut rx = fifo.receiver().unwrap();
    vandalise(&rx, fifo.path(), b"hello, world");
    for _ in 0..2 {
        assert!(matches!(rx.recv(), Err(RecvError::Frame(FrameError::NotAFrame(_)))));
    }
    // Frames with too short a prefix, unknown flags, a continuation of nothing: no panic, and the next ones pass.
    let mut rx = fifo.receiver().unwrap();
    let mut tx = fifo.sender().unwrap();
    for len in 0..30_usize {
        let mut frame = Header::new(FrameKind::Message, len, 0, 100).unwrap().to_bytes().to_vec();
        frame.resize(8 + len, 0xF8);
        vandalise(&rx, fifo.path(), &frame);
        tx.send(&1).unwrap();
        let mut errors = 0;
        while let Err(error) = rx.recv() {
            assert_eq!(error.kind(), ErrorKind::Decode, "{len}: {error}");
            errors += 1;
        }
        assert_eq!(errors, usize::from(len < 17), "{len}");
    }
}

#[test]
fn fifos_leak_no_descriptors() {
    alone(|| {
        let before = open_descriptors();
        for n in 0..200 {
            let (_dir, fifo) = fifo::<u32>();
            let mut rx = fifo.receiver().unwrap();
            let mut tx = fifo.sender().unwrap();
            assert!(matches!(fifo.exclusive_sender(), Err(FifoError::InUse { .. })));
            tx.send(&n).unwrap();
            drop(tx);
            assert_eq!(rx.recv().unwrap(), n);
            assert!(rx.recv().is_err());
            rx.reopen().unwrap();
        }
        assert_eq!(open_descriptors(), before);
    });
}

/// The layout of `docs/wire-format.md`: it cannot change without a new version.
#[test]
fn the_bytes_of_chunks() {
    use std::os::fd::AsFd;
    let _watchdog = watchdog("fifo, bytes");
    let dir = tempfile::tempdir().unwrap();
    let fifo = Fifo::<u16>::create(dir.path().join("bytes")).unwrap();
    let reader = fifo.receiver().unwrap();
    let mut sender = fifo.sender().unwrap();
    sender.send(&300).unwrap();
    sender.send_bytes(b"xy").unwrap();
    let mut buf = [0; 256];
    let count = ipc_os::pipe::read(reader.as_fd(), &mut buf).unwrap();
    let fingerprint = ipc_core::Schema::of::<u16>().fingerprint().to_u64().to_le_bytes();
    let writer: [u8; 8] = buf[16..24].try_into().unwrap();
    let chunk = |kind: u8, flags: u8, part: &[u8]| {
        let len = 17 + part.len() as u8;
        [&[len, 0, 0, 0, 0, 0, kind, 0xA9][..], &fingerprint, &writer, &[flags], part].concat()
    };
    let expected = [chunk(0, 4, b"u16"), chunk(0, 3, &[0xAC, 0x02]), chunk(1, 3, b"xy")].concat();
    assert_eq!(buf[..count], expected);
}
