//! Who waits is woken.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ipc_core::{Codec, RecvError, SendError, handle};
use ipc_os::wait;
use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_shm::ring::{RingReader, RingWriter, ring};
use ipc_testkit::data::Numbers;
use ipc_testkit::messages::echo;
use ipc_testkit::processes::{done, ready, started};
use ipc_testkit::{PATIENCE, SHORT, watchdog};

use super::tools::*;

#[test]
fn a_time_out_is_one() {
    let (mut writer, mut reader) = ring(4096).unwrap();
    let start = Instant::now();
    assert!(matches!(reader.read_timeout(&mut Vec::new(), SHORT), Err(RecvError::Timeout)));
    assert!(!reader.poll(SHORT).unwrap());
    assert!(start.elapsed() >= 2 * SHORT);
    put(&mut writer, 0, 4088);
    let start = Instant::now();
    assert!(matches!(writer.write_timeout(1, b"", SHORT), Err(SendError::Timeout)));
    assert!(start.elapsed() >= SHORT);
    assert!(matches!(writer.write_timeout(1, b"", Duration::ZERO), Err(SendError::Full)));
    expect(&mut reader, 0, 4088);
    assert!(matches!(reader.read_timeout(&mut Vec::new(), Duration::ZERO), Err(RecvError::Empty)));
    assert!(matches!(reader.read_timeout(&mut Vec::new(), Duration::ZERO), Err(RecvError::Empty)));
    writer.write_timeout(2, b"", Duration::MAX).unwrap();
    assert_eq!(reader.read_timeout(&mut Vec::new(), Duration::MAX).unwrap(), 2);
}

fn answer(mut questions: RingReader, mut answers: RingWriter) {
    let mut frame = Vec::new();
    while let Ok(kind) = questions.read(&mut frame) {
        if kind % 16 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        answers.write(kind + 1, &frame).unwrap();
    }
}

/// Both sleep in turn, and are woken by the other's frame.
#[test]
fn questions_and_answers_wake_each_other() {
    let _watchdog = watchdog("questions_and_answers_wake_each_other");
    let ((mut questions, theirs), (answers, mut mine)) = (ring(4096).unwrap(), ring(4096).unwrap());
    let process = Process::spawn(answer, (theirs, answers)).unwrap();
    let mut frame = Vec::new();
    for n in 0..2000_u32 {
        if n % 10 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        questions.write(n, &n.to_le_bytes()).unwrap();
        assert_eq!(mine.read_timeout(&mut frame, PATIENCE).unwrap(), n + 1);
        assert_eq!(frame, n.to_le_bytes());
    }
    drop(questions);
    assert!(matches!(mine.read(&mut frame), Err(RecvError::Disconnected)));
    done(process);
}

/// The ring is full, or empty, again and again, with frames of all lengths.
#[test]
fn a_full_ring_and_an_empty_one() {
    let _watchdog = watchdog("a_full_ring_and_an_empty_one");
    fn write(mut writer: RingWriter, seed: u64) {
        let mut numbers = Numbers(seed);
        for n in 0..3000 {
            if numbers.below(50) == 0 {
                std::thread::sleep(Duration::from_micros(numbers.below(3000)));
            }
            put(&mut writer, n, n * 7 % 6000);
        }
    }
    let (writer, mut reader) = ring(4096).unwrap();
    let process = Process::spawn(write, (writer, 77)).unwrap();
    let mut numbers = Numbers(1);
    for n in 0..3000 {
        if numbers.below(50) == 0 {
            std::thread::sleep(Duration::from_micros(numbers.below(3000)));
        }
        expect(&mut reader, n, n * 7 % 6000);
    }
    assert!(matches!(reader.read(&mut Vec::new()), Err(RecvError::Disconnected)));
    done(process);
}

/// An end that is dropped wakes the other, which looks for what is still there.
#[test]
fn who_sleeps_is_told_of_an_end_that_is_dropped() {
    let _watchdog = watchdog("who_sleeps_is_told_of_an_end_that_is_dropped");
    fn read(mut reader: RingReader, mut up: Sender<u32>) -> usize {
        ready(&mut up);
        let mut count = 0;
        loop {
            match reader.read(&mut Vec::new()) {
                Ok(_) => count += 1,
                Err(RecvError::Disconnected) => return count,
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    for n in 0..20 {
        let (mut writer, reader) = ring(4096).unwrap();
        let process = started(read, reader);
        std::thread::sleep(Duration::from_millis(n % 3));
        (0..n).for_each(|n| writer.write(n as u32, b"").unwrap());
        drop(writer);
        assert_eq!(done(process), n as usize);
    }

    fn write(mut writer: RingWriter, mut up: Sender<u32>) -> bool {
        ready(&mut up);
        loop {
            match writer.write(0, &[0; 1000]) {
                Ok(()) => {}
                Err(SendError::Disconnected) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        writer.is_disconnected()
    }
    for n in 0..20 {
        let (writer, mut reader) = ring(4096).unwrap();
        let process = started(write, writer);
        std::thread::sleep(Duration::from_millis(n % 3));
        (0..n).for_each(|_| _ = reader.read(&mut Vec::new()).unwrap());
        drop(reader);
        assert!(done(process));
    }
}

/// A writer that is not held up by anything is told, too.
#[test]
fn a_writer_with_room_is_told_of_a_reader_that_is_dropped() {
    let (mut writer, reader) = ring(1 << 20).unwrap();
    put(&mut writer, 0, 10);
    assert!(!writer.is_disconnected());
    drop(reader);
    assert!(writer.is_disconnected());
    assert!(matches!(writer.write(1, b"x"), Err(SendError::Disconnected)));
    assert!(matches!(writer.write_many([(1, b"x")]), Err(error) if error.sent == 1));
}

fn write_after(mut writer: RingWriter, pause_ms: u64) {
    std::thread::sleep(Duration::from_millis(pause_ms));
    writer.write(7, b"at last").unwrap();
}

/// Both a frame and the end of a writer end a wait for several things.
#[test]
fn a_reader_is_waited_for_beside_other_things() {
    let _watchdog = watchdog("a_reader_is_waited_for_beside_other_things");
    let (quiet, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let (writer, mut reader) = ring(4096).unwrap();
    assert!(wait(&[&quiet, &reader], Some(SHORT)).unwrap().is_empty());
    let process = Process::spawn(write_after, (writer, 20)).unwrap();
    assert_eq!(wait(&[&quiet, &reader], Some(PATIENCE)).unwrap(), [1]);
    // By itself, it sleeps on the word alone.
    assert_eq!(wait(&[&reader], Some(PATIENCE)).unwrap(), [0]);
    assert_eq!(reader.try_read(&mut Vec::new()).unwrap(), 7);
    process.join().unwrap();
    assert_eq!(wait(&[&quiet, &reader], Some(PATIENCE)).unwrap(), [1]);
    assert!(matches!(reader.try_read(&mut Vec::new()), Err(RecvError::Disconnected)));
}

#[test]
fn an_end_is_closed_from_another_thread_while_it_waits() {
    let _watchdog = watchdog("an_end_is_closed_from_another_thread_while_it_waits");
    let (mut writer, mut reader) = ring(4096).unwrap();
    put(&mut writer, 0, 4000);
    let closer = writer.closer();
    std::thread::scope(|scope| {
        let written = scope.spawn(|| writer.write(1, &[0; 4000]));
        std::thread::sleep(SHORT);
        closer.close();
        assert!(matches!(written.join().unwrap(), Err(SendError::Disconnected)));
    });
    // Twice is once.
    closer.close();
    expect(&mut reader, 0, 4000);
    assert!(matches!(writer.try_write(2, b""), Err(SendError::Disconnected)));
    assert!(matches!(writer.flush(), Err(SendError::Disconnected)));

    let (mut writer, mut reader) = ring(4096).unwrap();
    let closer = reader.closer();
    std::thread::scope(|scope| {
        let waited = scope.spawn(|| wait(&[&reader], None).unwrap());
        std::thread::sleep(SHORT);
        put(&mut writer, 0, 100);
        closer.close();
        assert_eq!(waited.join().unwrap(), [0]);
    });
    assert!(matches!(writer.write(1, &[0; 4000]), Err(SendError::Disconnected)));
    expect(&mut reader, 0, 100);
    assert!(matches!(reader.read(&mut Vec::new()), Err(RecvError::Disconnected)));
}

/// Its peer is told, and what is in the ring is still read.
#[test]
fn who_waits_for_an_end_that_is_closed_is_told() {
    let _watchdog = watchdog("who_waits_for_an_end_that_is_closed_is_told");
    let (mut writer, mut reader) = ring(4096).unwrap();
    put(&mut writer, 0, 100);
    let closer = writer.closer();
    std::thread::scope(|scope| {
        let read = scope.spawn(|| {
            expect(&mut reader, 0, 100);
            reader.read(&mut Vec::new())
        });
        std::thread::sleep(SHORT);
        closer.close();
        assert!(matches!(read.join().unwrap(), Err(RecvError::Disconnected)));
    });
    // An end that is closed moves no more; one that has moved is not closed here.
    let mut bytes = Vec::new();
    assert!(handle::outgoing(|| Codec::default().encode(&writer, &mut bytes)).is_err());
    let (writer, mut reader) = ring(4096).unwrap();
    let closer = writer.closer();
    let mut writer: RingWriter = echo(&writer);
    closer.close();
    put(&mut writer, 0, 100);
    expect(&mut reader, 0, 100);
}

/// Whatever the writer goes on to do.
#[test]
fn a_reader_that_was_closed_comes_to_an_end() {
    let _watchdog = watchdog("a_reader_that_was_closed_comes_to_an_end");
    let (mut writer, mut reader) = ring(4096).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                let _full_or_gone = writer.try_write(0, &[0; 8]);
            }
        });
        let mut frame = Vec::new();
        reader.read(&mut frame).unwrap();
        reader.closer().close();
        let count = (0..10_000).take_while(|_| reader.read(&mut frame).is_ok()).count();
        is_over.store(true, Relaxed);
        // What was there, and what had come when it looked once more.
        assert!(count <= 2 * 4096 / 16, "{count}");
    });
}
