//! Ends that move to other processes, and go on there.

use ipc_core::handle;
use ipc_core::{Codec, RecvError, SendError};
use ipc_process::Process;
use ipc_shm::ring::{RingReader, RingWriter, ring};
use ipc_testkit::data::payload;
use ipc_testkit::messages::echo;
use ipc_testkit::processes::done;
use ipc_testkit::{PATIENCE, SHORT, watchdog};

use super::tools::*;

fn writes_on(mut writer: RingWriter, from: usize, to: usize, len: usize) -> RingWriter {
    (from..to).for_each(|n| put(&mut writer, n, len));
    writer
}

fn reads_on(mut reader: RingReader, from: usize, to: usize, len: usize) -> RingReader {
    (from..to).for_each(|n| expect(&mut reader, n, len));
    reader
}

/// Both ends go from process to process while frames are in the ring.
#[test]
fn both_ends_go_on_elsewhere() {
    let _watchdog = watchdog("both_ends_go_on_elsewhere");
    for len in [10, 1000, 10_000] {
        let (mut writer, mut reader) = ring(4096).unwrap();
        for round in 0..6 {
            let (from, to) = (round * 100, round * 100 + 100);
            let writes = Process::spawn(writes_on, (writer, from, to, len)).unwrap();
            let reads = Process::spawn(reads_on, (reader, from, to, len)).unwrap();
            (writer, reader) = (done(writes), done(reads));
        }
        put(&mut writer, 1, 100);
        expect(&mut reader, 1, 100);
    }
}

/// The rest of a frame that has begun goes along with the writer, what was read of it with the reader.
#[test]
fn a_frame_goes_on_elsewhere() {
    let _watchdog = watchdog("a_frame_goes_on_elsewhere");
    fn finish(mut writer: RingWriter) {
        assert!(writer.has_begun());
        writer.flush_timeout(PATIENCE).unwrap();
        put(&mut writer, 2, 7);
    }
    let (mut writer, mut reader) = ring(4096).unwrap();
    put(&mut writer, 0, 500);
    expect(&mut reader, 0, 500);
    assert!(matches!(writer.try_write(1, &payload(1, 30_003)), Err(SendError::Begun { .. })));
    for _ in 0..3 {
        assert!(matches!(reader.try_read(&mut Vec::new()), Err(RecvError::Empty)));
        reader = echo(&reader);
        assert!(matches!(writer.flush_timeout(SHORT / 10), Err(SendError::Begun { .. })));
        writer = echo(&writer);
    }
    let finishes = Process::spawn(finish, (writer,)).unwrap();
    let mut reader = done(Process::spawn(reads_on, (reader, 1, 2, 30_003)).unwrap());
    expect(&mut reader, 2, 7);
    done(finishes);
    assert!(matches!(reader.read(&mut Vec::new()), Err(RecvError::Disconnected)));
}

/// Also one that is here whole, and was only looked at.
#[test]
fn a_frame_that_was_looked_at_goes_along() {
    let (mut writer, mut reader) = ring(4096).unwrap();
    let _begun = writer.try_write(1, &payload(1, 6001));
    assert!(reader.try_peek().is_err());
    writer.flush().unwrap();
    assert_eq!(reader.try_peek().unwrap().len(), 6001);
    let mut reader = echo(&reader);
    assert!(reader.is_ready());
    expect(&mut reader, 1, 6001);
    put(&mut writer, 2, 9);
    assert_eq!(reader.try_peek().unwrap().len(), 9);
    let mut reader = echo(&reader);
    expect(&mut reader, 2, 9);
}

#[test]
fn what_is_left_behind_has_moved() {
    let (mut writer, mut reader) = ring(4096).unwrap();
    put(&mut writer, 0, 10);
    let (mut there, mut reader_there) = (echo(&writer), echo(&reader));
    let error = writer.write(0, b"").unwrap_err();
    assert!(matches!(error, SendError::Moved), "{error:?}");
    assert!(matches!(writer.write(0, &[0; 9000]), Err(SendError::Moved)));
    assert!(matches!(writer.write_many([(0, b"")]), Err(error) if matches!(error.source, SendError::Moved)));
    assert!(matches!(writer.flush(), Err(SendError::Moved)));
    assert!(matches!(writer.reserve(1), Err(SendError::Moved)));
    assert!(matches!(reader.read(&mut Vec::new()), Err(RecvError::Moved)));
    assert!(matches!(reader.peek(), Err(RecvError::Moved)));
    assert!(matches!(reader.poll(SHORT), Err(RecvError::Moved)));
    assert!(!writer.is_disconnected() && !reader.is_disconnected());
    // Dropping it says nothing about the end that has moved.
    drop(writer);
    drop(reader);
    assert!(!there.is_disconnected() && !reader_there.is_disconnected());
    expect(&mut reader_there, 0, 10);
    put(&mut there, 1, 10);
    expect(&mut reader_there, 1, 10);
    drop(there);
    assert!(matches!(reader_there.read(&mut Vec::new()), Err(RecvError::Disconnected)));
}

#[test]
fn an_end_stays_if_its_message_does_not_go() {
    let (mut writer, mut reader) = ring(4096).unwrap();
    let mut bytes = Vec::new();
    for _ in 0..3 {
        let ((), handles) = handle::outgoing(|| Codec::default().encode(&writer, &mut bytes)).unwrap();
        // Not twice while it may still go.
        assert!(handle::outgoing(|| Codec::default().encode(&writer, &mut Vec::new())).is_err());
        drop(handles);
        assert!(handle::outgoing(|| Codec::default().encode(&(&reader, &reader), &mut Vec::new())).is_err());
    }
    assert!(Codec::default().encode(&writer, &mut bytes).is_err(), "there is no message");
    put(&mut writer, 0, 10);
    expect(&mut reader, 0, 10);
    drop(writer);
    assert!(matches!(reader.try_read(&mut Vec::new()), Err(RecvError::Disconnected)));
}
