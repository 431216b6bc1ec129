//! What goes in comes out: of all lengths, at all places, by all ways.

use std::collections::VecDeque;

use ipc_core::{Classify, ErrorKind, Limits, RecvError, SendError};
use ipc_process::Process;
use ipc_shm::OpenError;
use ipc_shm::ring::{RingReader, RingWriter, ring};
use ipc_testkit::data::{Numbers, payload};
use ipc_testkit::processes::done;
use ipc_testkit::{PATIENCE, SHORT, alone, watchdog};

use super::tools::*;

#[test]
fn ends_may_be_used_by_any_thread() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<RingWriter>();
    is_send_and_sync::<RingReader>();
}

#[test]
fn a_ring_is_as_large_as_asked_for_or_larger() {
    for (bytes, capacity) in [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192), (1 << 20, 1 << 20)] {
        let (writer, reader) = ring(bytes).unwrap();
        assert_eq!((writer.capacity(), reader.capacity()), (capacity, capacity));
    }
    assert_eq!(ring(1 << 30).unwrap().0.capacity(), 1 << 30);
    assert!(matches!(ring((1 << 30) + 1), Err(OpenError::InvalidInput(_))));
    assert!(ring(usize::MAX).is_err());
}

fn reads_all(mut reader: RingReader, lens: Vec<usize>) {
    for (n, len) in lens.iter().enumerate() {
        expect(&mut reader, n, *len);
    }
    assert!(matches!(reader.read(&mut Vec::new()), Err(RecvError::Disconnected)));
}

#[test]
fn frames_of_all_lengths_pass() {
    let _watchdog = watchdog("frames_of_all_lengths_pass");
    let mut lens: Vec<usize> = (0..300).chain((300..20_000).step_by(97)).collect();
    lens.extend(4000..4200);
    lens.extend([1 << 20, 0, 1, 8192, 12_288, 100_000]);
    let (mut writer, reader) = ring(4096).unwrap();
    let process = Process::spawn(reads_all, (reader, lens.clone())).unwrap();
    for (n, len) in lens.iter().enumerate() {
        put(&mut writer, n, *len);
    }
    drop(writer);
    done(process);
}

#[test]
fn frames_wrap_everywhere() {
    let (mut writer, mut reader) = ring(4096).unwrap();
    let mut at = 0;
    for len in [0, 1, 7, 8, 9, 100, 1001, 4080, 4088] {
        for start in (0..4096_usize).step_by(8) {
            // To the place, by a frame that fills the way there.
            let way = (start + 4096 - at) % 4096;
            if way != 0 {
                put(&mut writer, 1, way - 8);
                expect(&mut reader, 1, way - 8);
            }
            put(&mut writer, start, len);
            expect(&mut reader, start, len);
            at = (start + 8 + len.next_multiple_of(8)) % 4096;
        }
    }
}

#[test]
fn reserved_frames_wrap_everywhere() {
    let _watchdog = watchdog("reserved_frames_wrap_everywhere");
    let (mut writer, mut reader) = ring(4096).unwrap();
    for len in [0, 1, 8, 100, 2500, 4088] {
        for start in (0..4096_usize).step_by(8) {
            // The padding is read past before there is room behind it.
            let bytes = payload(start, len);
            let is_put = |writer: &mut RingWriter| match writer.try_reserve(len) {
                Ok(mut place) => {
                    let (first, second) = bytes.split_at(len / 3);
                    place.write(len / 3, second).unwrap();
                    place.write(0, first).unwrap();
                    assert!(place.write(len, &[1]).is_err() && place.write(usize::MAX, &[1]).is_err());
                    place.commit(start as u32).unwrap();
                    true
                }
                Err(SendError::Full) => false,
                Err(error) => panic!("{error:?}"),
            };
            if !is_put(&mut writer) {
                assert!(matches!(reader.try_read(&mut Vec::new()), Err(RecvError::Empty)));
                assert!(is_put(&mut writer));
            }
            let frame = reader.try_peek().unwrap();
            assert_eq!((frame.kind(), frame.len()), (start as u32, len));
            let mut seen = vec![0; len];
            frame.read(0, &mut seen).unwrap();
            assert!(seen == bytes);
            assert!(frame.read(1, &mut vec![0; len]).is_err());
            // It stays until it is released.
            expect(&mut reader, start, len);
            put(&mut writer, 0, 0);
            expect(&mut reader, 0, 0);
        }
    }
}

#[test]
fn what_is_reserved_and_dropped_has_not_happened() {
    let (mut writer, mut reader) = ring(4096).unwrap();
    let mut place = writer.try_reserve(100).unwrap();
    place.write(0, &[7; 100]).unwrap();
    drop(place);
    assert!(!reader.is_ready());
    assert!(matches!(reader.try_read(&mut Vec::new()), Err(RecvError::Empty)));
    put(&mut writer, 3, 50);
    let mut place = writer.try_reserve(100).unwrap();
    place.write(0, &payload(4, 60)).unwrap();
    place.truncate(60);
    place.commit(4).unwrap();
    expect(&mut reader, 3, 50);
    expect(&mut reader, 4, 60);
    let place = writer.try_reserve(100).unwrap();
    assert_eq!(place.commit(u32::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(matches!(reader.try_read(&mut Vec::new()), Err(RecvError::Empty)));
    let too_large = writer.try_reserve(4089).unwrap_err();
    assert!(matches!(too_large, SendError::TooLarge { len: 4089, capacity: 4088 }), "{too_large:?}");
}

/// All ways in and out, in one thread, against a queue of this process.
#[test]
fn it_is_a_queue() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let (mut writer, mut reader) = ring(8192).unwrap();
    let mut model: VecDeque<(u32, Vec<u8>)> = VecDeque::new();
    let (mut written, mut refused, mut n) = (0, 0, 0);
    for _ in 0..60_000 {
        n += 1;
        let most = if numbers.below(4) == 0 { 5000 } else { 100 };
        let len = numbers.below(most) as usize;
        let used: usize = model.iter().map(|(_, bytes)| 8 + bytes.len().next_multiple_of(8)).sum();
        let fits = used + 8 + len.next_multiple_of(8) <= 8192;
        match numbers.below(8) {
            0 | 1 => match writer.try_write(n, &payload(n as usize, len)) {
                Ok(()) => {
                    assert!(fits);
                    written += 1;
                    model.push_back((n, payload(n as usize, len)));
                }
                // Padding takes room, too.
                Err(SendError::Full) => refused += 1,
                Err(error) => panic!("{error:?}"),
            },
            2 => match writer.try_reserve(len) {
                Ok(mut place) => {
                    place.write(0, &payload(n as usize, len)).unwrap();
                    place.commit(n).unwrap();
                    model.push_back((n, payload(n as usize, len)));
                }
                Err(SendError::Full) => refused += 1,
                Err(error) => panic!("{error:?}"),
            },
            // Beside the longest padding there can be.
            3 if used + 5 * 64 + 5008 <= 8192 => {
                let frames: Vec<_> = (0..5).map(|i| (n, payload(i, 50))).collect();
                assert_eq!(writer.write_many(frames.iter().map(|(kind, bytes)| (*kind, bytes))).unwrap(), 5);
                model.extend(frames);
            }
            4 => {
                let max = numbers.below(6) as usize;
                let mut seen = 0;
                let count = reader.try_read_each(max, |kind, frame| {
                    seen += 1;
                    assert_eq!(Some((kind, std::mem::take(frame))), model.pop_front());
                });
                assert_eq!(count.unwrap_or(0), seen);
            }
            6 => {
                let mut batch = reader.batch();
                for _ in 0..numbers.below(3) {
                    match batch.peek_here().unwrap() {
                        Some(frame) if frame.kind() % 7 == 0 => break,
                        Some(frame) => assert_eq!(Some((frame.kind(), frame.take())), model.pop_front()),
                        None => assert!(model.is_empty()),
                    }
                }
            }
            5 => match reader.try_peek() {
                Ok(frame) => {
                    let (kind, bytes) = model.pop_front().unwrap();
                    assert_eq!(
                        (frame.kind(), frame.len(), frame.is_empty()),
                        (kind, bytes.len(), bytes.is_empty())
                    );
                    let middle = bytes.len() / 2;
                    let mut half = vec![0; bytes.len() - middle];
                    frame.read(middle, &mut half).unwrap();
                    assert!(half == bytes[middle..]);
                    frame.release();
                }
                Err(RecvError::Empty) => assert!(model.is_empty()),
                Err(error) => panic!("{error:?}"),
            },
            _ => {
                let mut frame = vec![9; 3];
                match reader.try_read(&mut frame) {
                    Ok(kind) => assert_eq!(Some((kind, frame)), model.pop_front()),
                    Err(RecvError::Empty) => assert!(model.is_empty() && frame == [9; 3]),
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
    }
    assert!(written > 1000 && refused > 1000, "{written} written, {refused} refused");
}

#[test]
fn parts_are_one_frame() {
    let (mut writer, mut reader) = ring(4096).unwrap();
    writer.write_parts(5, &[b"one", b"", b" and ", b"another"]).unwrap();
    writer.write_parts(6, &[]).unwrap();
    let mut frame = Vec::new();
    assert_eq!(reader.read(&mut frame).unwrap(), 5);
    assert_eq!(frame, b"one and another");
    assert_eq!(reader.read(&mut frame).unwrap(), 6);
    assert_eq!(frame, b"");
    // Longer than the ring.
    let thread = std::thread::spawn(move || {
        expect(&mut reader, 7, 30_000);
    });
    let long = payload(7, 30_000);
    let (a, b) = long.split_at(777);
    let (b, c) = b.split_at(20_001);
    writer.write_parts(7, &[a, b, c]).unwrap();
    thread.join().unwrap();
}

#[test]
fn limits_hold_at_both_ends() {
    let (mut writer, mut reader) = ring(4096).unwrap();
    writer.set_limits(Limits::new().frame_len_max(100));
    let error = writer.write(1, &[0; 101]).unwrap_err();
    assert!(matches!(error, SendError::Frame(_)) && error.kind() == ErrorKind::Limit, "{error:?}");
    assert_eq!(writer.write(u32::MAX, &[]).unwrap_err().kind(), ErrorKind::InvalidInput);
    put(&mut writer, 1, 100);
    reader.set_limits(Limits::new().frame_len_max(99));
    for _ in 0..3 {
        assert_eq!(reader.try_read(&mut Vec::new()).unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(reader.try_peek().unwrap_err().kind(), ErrorKind::Limit);
        assert!(reader.poll(SHORT).unwrap());
    }
    reader.set_limits(Limits::new());
    expect(&mut reader, 1, 100);
    // A long one is refused before anything is taken of it.
    writer.set_limits(Limits::new());
    reader.set_limits(Limits::new().frame_len_max(9999));
    assert!(matches!(writer.try_write(2, &payload(2, 10_000)), Err(SendError::Begun { .. })));
    assert_eq!(reader.try_read(&mut Vec::new()).unwrap_err().kind(), ErrorKind::Limit);
    reader.set_limits(Limits::new());
    let thread = std::thread::spawn(move || expect(&mut reader, 2, 10_000));
    writer.flush().unwrap();
    thread.join().unwrap();
}

#[test]
fn what_has_begun_goes_first() {
    let (mut writer, mut reader) = ring(4096).unwrap();
    put(&mut writer, 0, 1000);
    let long = payload(1, 20_000);
    let Err(SendError::Begun { left }) = writer.try_write(1, &long) else { panic!("it fits?") };
    assert_eq!(left, 8 + 20_000 - (4096 - 1008));
    assert!(writer.has_begun());
    assert!(matches!(writer.try_write(2, b"x"), Err(SendError::Full)));
    assert!(matches!(writer.write_timeout(2, b"x", SHORT), Err(SendError::Timeout)));
    assert!(matches!(writer.try_reserve(1), Err(SendError::Full)));
    assert!(matches!(writer.flush_timeout(SHORT), Err(SendError::Begun { left: same }) if same == left));
    expect(&mut reader, 0, 1000);
    // As long as it is not whole, it is not there; but it makes room.
    for _ in 0..4 {
        assert!(reader.is_ready());
        assert!(matches!(reader.try_read(&mut Vec::new()), Err(RecvError::Empty)));
        assert!(!reader.is_ready());
        assert!(matches!(reader.read_timeout(&mut Vec::new(), SHORT), Err(RecvError::Timeout)));
        assert!(!reader.poll(SHORT).unwrap());
        assert!(matches!(writer.flush_timeout(SHORT), Err(SendError::Begun { left: less }) if less < left));
    }
    assert!(matches!(reader.try_read(&mut Vec::new()), Err(RecvError::Empty)));
    writer.flush().unwrap();
    assert!(!writer.has_begun());
    let frame = {
        assert!(reader.poll(SHORT).unwrap() && reader.is_ready());
        reader.try_peek().unwrap()
    };
    let mut middle = [0; 100];
    frame.read(9000, &mut middle).unwrap();
    assert_eq!(middle, long[9000..9100]);
    expect(&mut reader, 1, 20_000);
    put(&mut writer, 2, 5);
    expect(&mut reader, 2, 5);
    // Nothing of it goes where there is no room at all.
    put(&mut writer, 3, 4088);
    assert!(matches!(writer.try_write(4, &long), Err(SendError::Full)));
    assert!(matches!(writer.write_timeout(4, &long, SHORT), Err(SendError::Timeout)));
    assert!(!writer.has_begun());
}

#[test]
fn many_frames_at_once() {
    let _watchdog = watchdog("many_frames_at_once");
    fn count(mut reader: RingReader) -> (u64, u64) {
        let (mut frames, mut sum) = (0, 0);
        loop {
            let read = reader.read_each(100, |kind, frame| {
                assert!(*frame == kind.to_le_bytes().repeat(kind as usize % 5));
                sum += u64::from(kind);
            });
            match read {
                Ok(count) => frames += count as u64,
                Err(RecvError::Disconnected) => return (frames, sum),
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    let (mut writer, reader) = ring(4096).unwrap();
    let process = Process::spawn(count, (reader,)).unwrap();
    let frames = (0..100_000_u32).map(|n| (n, n.to_le_bytes().repeat(n as usize % 5)));
    assert_eq!(writer.write_many(frames).unwrap(), 100_000);
    drop(writer);
    assert_eq!(done(process), (100_000, 99_999 * 100_000 / 2));
}

#[test]
fn a_batch_is_there_although_its_iterator_panics() {
    let (mut writer, mut reader) = ring(4096).unwrap();
    let frames = (0..5_u32).map(|n| if n == 3 { panic!("on purpose") } else { (n, payload(n as usize, 9)) });
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.write_many(frames)));
    assert!(panicked.is_err());
    (0..3).for_each(|n| expect(&mut reader, n, 9));
    // And what a reader that panics was given is not given again.
    (0..3).for_each(|n| put(&mut writer, n, 1000));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        reader.try_read_each(9, |kind, _| assert!(kind != 0, "on purpose"))
    }));
    assert!(panicked.is_err());
    expect(&mut reader, 1, 1000);
    let error = writer.write_many([(1, vec![0; 9]), (2, vec![0; (64 << 20) + 1])]).unwrap_err();
    assert_eq!((error.sent, error.kind()), (1, ErrorKind::Limit));
}

#[test]
fn who_has_both_ends_alone_does_not_wait_for_itself() {
    let _watchdog = watchdog("who_has_both_ends_alone_does_not_wait_for_itself");
    fn both() {
        let (mut writer, mut reader) = ring(4096).unwrap();
        assert!(matches!(reader.read(&mut Vec::new()), Err(RecvError::Abandoned)));
        assert!(matches!(reader.read_timeout(&mut Vec::new(), SHORT / 10), Err(RecvError::Timeout)));
        assert!(matches!(writer.write(0, &[0; 5000]), Err(SendError::Begun { .. } | SendError::Abandoned)));
    }
    // In a process with one thread, of which tests are none.
    match Process::spawn(both, ()).unwrap().join_timeout(PATIENCE) {
        Ok(()) => {}
        Err(error) => println!("skipped: a worker has a second thread ({error})"),
    }
}

/// Where no memory can be had, a write is an error, and what was there stays.
#[test]
fn no_memory_is_an_error_and_no_signal() {
    alone("ring::frames::no_memory_is_an_error_and_no_signal", || {
        let (mut writer, mut reader) = ring(1 << 20).unwrap();
        ipc_testkit::seccomp::deny(&[nix::libc::SYS_fallocate]).unwrap();
        let mut count = 0;
        let error = loop {
            match writer.try_write(count, &payload(count as usize, 1000)) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, SendError::Io(_)), "{error:?}");
        assert_eq!(count, (256 << 10) / 1008);
        let Err(SendError::Io(_)) = writer.write(count, &payload(0, 1000)) else {
            panic!("there are no pages")
        };
        let Err(SendError::Io(_)) = writer.write(count, &payload(0, 2 << 20)) else {
            panic!("there are no pages")
        };
        (0..count as usize).for_each(|n| expect(&mut reader, n, 1000));
    });
}
