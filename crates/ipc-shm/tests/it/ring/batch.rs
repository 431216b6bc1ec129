//! Frames that are shown, and whose places are given back, together.

use ipc_core::{RecvError, SendError};
use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_shm::ring::{RingReader, RingWriter, ring};
use ipc_testkit::data::payload;
use ipc_testkit::messages::echo;
use ipc_testkit::processes::{done, kill, park, ready, started};
use ipc_testkit::watchdog;

use super::tools::*;

/// So many frames of 1000 bytes (1008 with the header) as fit a ring of 4 KiB.
fn full() -> (RingWriter, RingReader) {
    let (mut writer, reader) = ring(4096).unwrap();
    (0..4).for_each(|n| put(&mut writer, n, 1000));
    assert!(matches!(writer.try_write(4, &payload(4, 1000)), Err(SendError::Full)));
    (writer, reader)
}

#[test]
fn a_batch_gives_its_places_back_together() {
    let (mut writer, mut reader) = full();
    let mut next = 4;
    let mut has_room = |writer: &mut RingWriter| {
        let has_room = writer.try_write(next as u32, &payload(next, 1000)).is_ok();
        next += usize::from(has_room);
        has_room
    };
    let mut batch = reader.batch();
    assert_eq!(batch.peek().unwrap().take(), payload(0, 1000));
    assert!(!has_room(&mut writer), "less than a quarter was read");
    let frame = batch.peek_here().unwrap().unwrap();
    assert_eq!(frame.kind(), 1);
    frame.release();
    assert!(has_room(&mut writer) && has_room(&mut writer) && !has_room(&mut writer), "a quarter at a time");
    batch.peek().unwrap().release();
    assert!(!has_room(&mut writer));
    // What was looked at and not released stays.
    assert_eq!(batch.peek().unwrap().kind(), 3);
    drop(batch);
    assert!(has_room(&mut writer));
    (3..7).for_each(|n| expect(&mut reader, n, 1000));
    assert!(reader.batch().peek_here().unwrap().is_none());
    // Also what is longer than the ring.
    assert!(matches!(writer.try_write(7, &payload(7, 6000)), Err(SendError::Begun { .. })));
    let mut batch = reader.batch();
    assert!(batch.peek_here().unwrap().is_none());
    writer.flush().unwrap();
    assert_eq!(batch.peek_here().unwrap().unwrap().take(), payload(7, 6000));
    drop(writer);
    assert!(batch.peek_here().unwrap().is_none(), "it says nothing about the end");
    assert!(matches!(batch.peek(), Err(RecvError::Disconnected)));
}

#[test]
fn a_batch_that_panics_gives_back_what_was_read() {
    let (mut writer, mut reader) = full();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut batch = reader.batch();
        batch.peek().unwrap().release();
        let frame = batch.peek().unwrap();
        assert_eq!(frame.kind(), 0, "on purpose");
    }));
    assert!(panicked.is_err());
    writer.try_write(4, &payload(4, 1000)).unwrap();
    (1..5).for_each(|n| expect(&mut reader, n, 1000));
}

/// A reader that waits has given back what it had read, so that no two wait for each other.
#[test]
fn who_waits_with_a_batch_gives_it_back_first() {
    let _watchdog = watchdog("who_waits_with_a_batch_gives_it_back_first");
    fn read((mut reader, leaks): (RingReader, bool)) {
        let mut batch = reader.batch();
        batch.peek().unwrap().release();
        if leaks {
            std::mem::forget(batch);
            reader = echo(&reader);
            batch = reader.batch();
        }
        // There is room for it when everything is given back.
        assert_eq!(batch.peek().unwrap().take(), payload(1, 4088));
    }
    for leaks in [false, true] {
        let (mut writer, reader) = ring(4096).unwrap();
        put(&mut writer, 0, 100);
        let process = Process::spawn(read, ((reader, leaks),)).unwrap();
        put(&mut writer, 1, 4088);
        done(process);
    }
}

/// The end of a batch is no question to the kernel.
#[test]
fn a_batch_ends_without_a_system_call() {
    let _watchdog = watchdog("a_batch_ends_without_a_system_call");
    fn write(mut writer: RingWriter, mut up: Sender<u32>) {
        (0..2).for_each(|n| put(&mut writer, n, 10));
        ready(&mut up);
        park();
    }
    let (writer, mut reader) = ring(4096).unwrap();
    let process = started(write, writer);
    // What is denied is denied to this thread.
    let thread = std::thread::spawn(move || {
        ipc_testkit::seccomp::deny(&[nix::libc::SYS_fcntl]).unwrap();
        let mut batch = reader.batch();
        (0..2).for_each(|n| assert_eq!(batch.peek_here().unwrap().unwrap().take(), payload(n, 10)));
        assert!(batch.peek_here().unwrap().is_none());
        drop(batch);
        assert!(matches!(reader.try_peek(), Err(RecvError::Io(_))), "that one asks who is there");
    });
    thread.join().unwrap();
    kill(process);
}

/// Frames that are written together are shown a quarter of the ring at a time, and at the end.
#[test]
fn many_frames_are_shown_together() {
    let (mut writer, mut reader) = ring(4096).unwrap();
    let raw = Raw::of(&writer);
    let mut shown = Vec::new();
    let frames = (0..41_u32).map(|n| {
        shown.push(raw.get(TAIL));
        (n, [0; 56])
    });
    assert_eq!(writer.write_many(frames).unwrap(), 41);
    shown.push(raw.get(TAIL));
    shown.dedup();
    assert_eq!(shown, [0, 1024, 2048, 41 * 64]);
    assert_eq!(reader.read_each(100, |_, _| ()).unwrap(), 41);
}
