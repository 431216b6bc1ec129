//! Peers that write anything into what they share: errors, and never more than that.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ipc_core::frame::FrameError;
use ipc_core::{Classify, ErrorKind, RecvError, SendError};
use ipc_process::Process;
use ipc_shm::ring::{RingReader, RingWriter, ring};
use ipc_testkit::data::Numbers;
use ipc_testkit::messages::taken_for;
use ipc_testkit::watchdog;

use super::tools::*;

const SOON: Duration = Duration::from_micros(300);

fn send_result<T>(result: Result<T, SendError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(SendError::Full | SendError::Timeout | SendError::Begun { .. } | SendError::Abandoned) => None,
        Err(SendError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => None,
        Err(error) => panic!("{error:?}"),
    }
}

fn recv_result<T>(result: Result<T, RecvError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(RecvError::Empty | RecvError::Timeout | RecvError::Abandoned | RecvError::Frame(_)) => None,
        Err(RecvError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => None,
        Err(error) => panic!("{error:?}"),
    }
}

fn write_all(writer: &mut RingWriter, numbers: &mut Numbers) {
    let most = if numbers.below(8) == 0 { 10_000 } else { 300 };
    let len = numbers.below(most) as usize;
    let payload = vec![5; len];
    send_result(writer.try_write(1, &payload));
    send_result(writer.write_timeout(2, &payload, SOON));
    if let Some(mut place) = send_result(writer.try_reserve(len % 4000)) {
        place.write(0, &payload[..len % 4000]).unwrap();
        if numbers.below(2) == 0 {
            send_result(place.commit(3));
        }
    }
    send_result(writer.flush_timeout(SOON));
}

fn read_all(reader: &mut RingReader, numbers: &mut Numbers) {
    let mut frame = Vec::new();
    recv_result(reader.try_read(&mut frame));
    recv_result(reader.read_timeout(&mut frame, SOON));
    recv_result(reader.try_read_each(10, |_, frame| assert!(frame.len() <= 64 << 20)));
    recv_result(reader.poll(SOON));
    if let Some(frame) = recv_result(reader.try_peek()) {
        let mut bytes = vec![0; frame.len().min(100)];
        frame.read(frame.len() - bytes.len(), &mut bytes).unwrap();
        if numbers.below(2) == 0 {
            frame.release();
        }
    }
    let _either = reader.is_ready();
}

fn scribble(raw: &Raw, numbers: &mut Numbers) {
    let at = match numbers.below(8) {
        0 | 1 => TAIL,
        2 | 3 => HEAD,
        4 => [READER_BELL, WRITER_BELL, TAIL + 8, HEAD + 8][numbers.below(4) as usize],
        5 => CAPACITY,
        // Headers.
        _ => DATA + numbers.below(512) as usize * 8,
    };
    let old = raw.get(at);
    let new = match numbers.below(10) {
        0 => 0,
        1 => u64::MAX,
        2 => old ^ 1 << numbers.below(64),
        3 => old.wrapping_add(8),
        4 => old.wrapping_sub(8),
        5 => old.wrapping_add(numbers.below(5000)),
        6 => u64::from(u32::MAX) << 32 | numbers.below(4096),
        7 => numbers.below(100_000_000),
        8 => numbers.below(4200),
        _ => numbers.any(),
    };
    raw.put(at, new);
}

/// Thousands of rings, with random words in random places between the operations.
#[test]
fn rings_of_anything() {
    let _watchdog = watchdog("rings_of_anything");
    let mut numbers = Numbers(0x1234_5678_9abc);
    for _ in 0..400 {
        let (mut writer, mut reader) = ring(4096).unwrap();
        let raw = Raw::of(&writer);
        for _ in 0..numbers.below(20) {
            write_all(&mut writer, &mut numbers);
            read_all(&mut reader, &mut numbers);
            (0..numbers.below(4)).for_each(|_| scribble(&raw, &mut numbers));
        }
    }
}

/// One thread writes over the ring while others use it.
#[test]
fn a_ring_that_is_written_over() {
    let _watchdog = watchdog("a_ring_that_is_written_over");
    for seed in 1..6 {
        let (mut writer, mut reader) = ring(4096).unwrap();
        let raw = Raw::of(&writer);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut numbers = Numbers(seed);
                while !stop.load(Relaxed) {
                    (0..10).for_each(|_| scribble(&raw, &mut numbers));
                    std::thread::sleep(Duration::from_micros(numbers.below(100)));
                }
            });
            let goes_on = |start: Instant| start.elapsed() < Duration::from_millis(200);
            let writes = scope.spawn(move || {
                let (mut numbers, start) = (Numbers(8), Instant::now());
                while goes_on(start) {
                    write_all(&mut writer, &mut numbers);
                }
                writer
            });
            let (mut numbers, start) = (Numbers(9), Instant::now());
            while goes_on(start) {
                read_all(&mut reader, &mut numbers);
            }
            let joined = writes.join();
            stop.store(true, Relaxed);
            joined.unwrap();
        });
    }
}

/// In another process, which has the words and nothing else to do.
#[test]
fn a_reader_whose_writer_lies() {
    let _watchdog = watchdog("a_reader_whose_writer_lies");
    fn lie(_writer: RingWriter, raw: Raw, seed: u64) {
        let mut numbers = Numbers(seed);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(300) {
            (0..50).for_each(|_| scribble(&raw, &mut numbers));
            std::thread::sleep(SOON / 3);
        }
    }
    let (writer, mut reader) = ring(4096).unwrap();
    let raw = Raw::of(&writer);
    let mut liar = Process::spawn(lie, (writer, raw, 99)).unwrap();
    let mut numbers = Numbers(3);
    while matches!(liar.join_timeout(Duration::ZERO), Err(ipc_process::JoinError::Running)) {
        let mut frame = Vec::new();
        for _ in 0..50 {
            // It ends, and so the end may be told.
            match reader.read_timeout(&mut frame, SOON) {
                Err(RecvError::Disconnected | RecvError::Truncated { .. }) => {}
                other => _ = recv_result(other),
            }
        }
        numbers.any();
    }
}

#[test]
fn counts_that_cannot_be_are_errors() {
    let (mut writer, mut reader) = ring(4096).unwrap();
    let raw = Raw::of(&writer);
    put(&mut writer, 0, 100);
    for tail in [8 * 1000, u64::MAX, u64::MAX - 7, 1 << 63, 4, 4096 + 8] {
        raw.put(TAIL, tail);
        let error = reader.try_read(&mut Vec::new()).unwrap_err();
        assert!(
            matches!(&error, RecvError::Io(io) if io.kind() == std::io::ErrorKind::InvalidData),
            "{error:?}"
        );
    }
    raw.put(TAIL, 112);
    expect(&mut reader, 0, 100);
    // Backwards.
    raw.put(TAIL, 56);
    assert!(matches!(reader.read(&mut Vec::new()), Err(RecvError::Io(_))));
    put(&mut writer, 1, 3984);
    expect(&mut reader, 1, 3984);
    put(&mut writer, 2, 4088);
    for head in [0, 56, 4096, 8 * 4096, u64::MAX, u64::MAX - 7] {
        raw.put(HEAD, head);
        let error = writer.write(0, &[0; 64]).unwrap_err();
        assert!(
            matches!(&error, SendError::Io(io) if io.kind() == std::io::ErrorKind::InvalidData),
            "{head}: {error:?}"
        );
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}

#[test]
fn headers_that_cannot_be_are_errors() {
    let broken = |header: u64, at: usize| {
        let (mut writer, mut reader) = ring(4096).unwrap();
        let raw = Raw::of(&writer);
        if at > 0 {
            put(&mut writer, 0, at - 8);
            expect(&mut reader, 0, at - 8);
        }
        put(&mut writer, 0, 1000);
        raw.put(DATA + at, header);
        for _ in 0..2 {
            match reader.try_read(&mut Vec::new()) {
                Err(RecvError::Frame(FrameError::NotAFrame(bytes))) => {
                    assert_eq!(bytes, header.to_ne_bytes())
                }
                other => panic!("{header:x}: {other:?}"),
            }
        }
    };
    // Longer than what is here, and not longer than the ring.
    [1001, 1100, 4080, 4088].into_iter().for_each(|len| broken(len, 0));
    // Padding that does not end where the data does, or begins where it does.
    let padding = u64::from(u32::MAX) << 32;
    [0, 1000, 4088, 4080, u64::from(u32::MAX), 3088].into_iter().for_each(|len| broken(padding | len, 0));
    [0, 1000, 88, 2088, 2072].into_iter().for_each(|len| broken(padding | len, 2008));
    // Beyond the limit.
    let (mut writer, mut reader) = ring(4096).unwrap();
    put(&mut writer, 0, 1000);
    Raw::of(&writer).put(DATA, (64 << 20) + 1);
    assert_eq!(reader.try_read(&mut Vec::new()).unwrap_err().kind(), ErrorKind::Limit);
    // A long one takes memory for what comes, not for what it says.
    let (mut writer, mut reader) = ring(4096).unwrap();
    put(&mut writer, 0, 1000);
    Raw::of(&writer).put(DATA, 64 << 20);
    assert!(matches!(reader.try_read(&mut Vec::new()), Err(RecvError::Empty)));
    drop(writer);
    let told = reader.try_read(&mut Vec::new());
    assert!(
        matches!(told, Err(RecvError::Truncated { missing }) if missing == (64 << 20) - 1000),
        "{told:?}"
    );
}

/// What arrives is checked: the head of the memory, and what the message says.
#[test]
fn rings_that_are_none_do_not_arrive() {
    let refused = |at: usize, value: u64| {
        let (writer, _reader) = ring(4096).unwrap();
        Raw::of(&writer).put(at, value);
        assert!(taken_for::<_, RingWriter>(&writer).is_err(), "{value} at {at}");
    };
    refused(0, 0);
    refused(8, 2);
    for capacity in [0, 1, 2048, 4095, 4097, 8192, 1 << 30, 1 << 31, 1 << 63, u64::MAX] {
        refused(CAPACITY, capacity);
    }
    let (writer, reader) = ring(4096).unwrap();
    assert!(taken_for::<_, RingReader>(&writer).is_err());
    assert!(taken_for::<_, RingWriter>(&reader).is_err());
    assert!(taken_for::<_, RingWriter>(&Raw::of(&writer)).is_err(), "without a role, and without counts");
}
