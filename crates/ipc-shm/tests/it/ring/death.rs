//! Either side is killed: the other is told, after it has taken what is there.

use ipc_core::{RecvError, SendError};
use ipc_pipe::{Sender, duplex};
use ipc_shm::ring::{RingReader, RingWriter, ring};
use ipc_sync::object::{Id, Nap};
use ipc_testkit::data::{Numbers, payload};
use ipc_testkit::processes::{kill, park, ready, started};
use ipc_testkit::{SHORT, alone, watchdog};

use super::tools::*;

#[test]
fn what_a_killed_writer_wrote_is_read() {
    let _watchdog = watchdog("what_a_killed_writer_wrote_is_read");
    fn write(mut writer: RingWriter, mut up: Sender<u32>) {
        (0..10).for_each(|n| put(&mut writer, n, 100));
        ready(&mut up);
        park();
    }
    let (writer, mut reader) = ring(4096).unwrap();
    let process = started(write, writer);
    assert!(!reader.is_disconnected());
    kill(process);
    assert!(reader.is_disconnected());
    (0..10).for_each(|n| expect(&mut reader, n, 100));
    for _ in 0..2 {
        assert!(matches!(reader.try_read(&mut Vec::new()), Err(RecvError::Disconnected)));
        assert!(matches!(reader.read(&mut Vec::new()), Err(RecvError::Disconnected)));
        assert!(matches!(reader.peek(), Err(RecvError::Disconnected)));
        assert!(reader.poll(SHORT).unwrap());
    }
}

#[test]
fn a_reader_that_sleeps_is_told() {
    let _watchdog = watchdog("a_reader_that_sleeps_is_told");
    fn hold(_writer: RingWriter, mut up: Sender<u32>) {
        ready(&mut up);
        park();
    }
    for _ in 0..5 {
        let (writer, mut reader) = ring(4096).unwrap();
        let process = started(hold, writer);
        let thread = std::thread::spawn(move || reader.read(&mut Vec::new()));
        std::thread::sleep(SHORT);
        assert!(!thread.is_finished());
        kill(process);
        assert!(matches!(thread.join().unwrap(), Err(RecvError::Disconnected)));
    }
}

#[test]
fn a_writer_that_sleeps_is_told() {
    let _watchdog = watchdog("a_writer_that_sleeps_is_told");
    fn hold(_reader: RingReader, mut up: Sender<u32>) {
        ready(&mut up);
        park();
    }
    for len in [100, 4088, 50_000] {
        let (mut writer, reader) = ring(4096).unwrap();
        let process = started(hold, reader);
        let thread = std::thread::spawn(move || {
            loop {
                if let Err(error) = writer.write(0, &vec![0; len]) {
                    return (error, writer.has_begun());
                }
            }
        });
        std::thread::sleep(SHORT);
        assert!(!thread.is_finished());
        kill(process);
        assert!(matches!(thread.join().unwrap(), (SendError::Disconnected, false)));
    }
}

/// The word of an end whose process is killed is marked by the kernel, which wakes who watches it in a sleep: although
/// the process had nothing but the ring.
#[test]
fn who_sleeps_is_woken_by_the_kernel_and_not_by_a_tick() {
    fn hold_writer(_writer: RingWriter, mut up: Sender<u32>) {
        ready(&mut up);
        park();
    }
    fn hold_reader(_reader: RingReader, mut up: Sender<u32>) {
        ready(&mut up);
        park();
    }
    /// Sleeps as an end does, at a word that nobody rings, until the kernel wakes it, or a tick has found the owner gone.
    fn is_woken(raw: &Raw, id: usize) -> bool {
        let owner = Id::of(raw.get(id)).unwrap().process();
        let (bell, mut nap) = (raw.0.u32(READER_BELL + 8).unwrap(), Nap::forever());
        while !raw.0.is_dead(owner) {
            let ticks = nap.ticks();
            raw.0.sleep(bell, 0, &[owner], &mut nap).unwrap();
            if nap.ticks() == ticks {
                return true;
            }
        }
        false
    }
    // In a process of its own: no others' deaths wake it.
    alone("ring::death::who_sleeps_is_woken_by_the_kernel_and_not_by_a_tick", || {
        let mut woken = [0; 2];
        for n in 0..10 {
            let (writer, reader) = ring(4096).unwrap();
            let raw = Raw::of(&writer);
            let (process, id) = match n % 2 {
                0 => (started(hold_writer, writer), TAIL + 8),
                _ => (started(hold_reader, reader), HEAD + 8),
            };
            let thread = std::thread::spawn(move || is_woken(&raw, id));
            std::thread::sleep(SHORT);
            kill(process);
            woken[n % 2] += u32::from(thread.join().unwrap());
        }
        // Now and then it is not asleep yet, or wakes for a tick just then.
        assert!(woken.into_iter().all(|count| count > 0), "{woken:?} of 5 each");
    });
}

#[test]
fn a_frame_without_its_end_is_told_once() {
    let _watchdog = watchdog("a_frame_without_its_end_is_told_once");
    fn stream((mut writer, goes_on): (RingWriter, bool), mut up: Sender<u32>) {
        put(&mut writer, 0, 1000);
        assert!(matches!(writer.try_write(1, &payload(1, 50_000)), Err(SendError::Begun { .. })));
        ready(&mut up);
        if goes_on {
            let _killed_meanwhile = writer.flush();
        }
        park();
    }
    for (goes_on, reads) in [(true, false), (false, false), (false, true)] {
        let (writer, mut reader) = ring(4096).unwrap();
        let process = started(stream, (writer, goes_on));
        if reads {
            expect(&mut reader, 0, 1000);
            assert!(matches!(reader.try_read(&mut Vec::new()), Err(RecvError::Empty)));
        } else {
            std::thread::sleep(SHORT);
        }
        kill(process);
        if !reads {
            expect(&mut reader, 0, 1000);
        }
        assert!(reader.poll(SHORT).unwrap());
        let told = reader.read(&mut Vec::new());
        assert!(matches!(told, Err(RecvError::Truncated { missing: 1..50_000 })), "{told:?}");
        assert!(matches!(reader.read(&mut Vec::new()), Err(RecvError::Disconnected)));
    }
}

/// Killed at any time, with frames of all lengths: what is read is what was written, from the first on.
#[test]
fn a_writer_that_is_killed_at_any_time() {
    let _watchdog = watchdog("a_writer_that_is_killed_at_any_time");
    fn write(mut writer: RingWriter, mut up: Sender<u32>) {
        ready(&mut up);
        for n in 0.. {
            put(&mut writer, n, n * 97 % 9000);
        }
    }
    let mut numbers = Numbers(5);
    let mut frames = 0;
    for _ in 0..30 {
        let (writer, mut reader) = ring(4096).unwrap();
        let process = started(write, writer);
        let thread = std::thread::spawn(move || {
            let mut frame = Vec::new();
            for n in 0.. {
                match reader.read(&mut frame) {
                    Ok(kind) => assert!(kind == n as u32 && frame == payload(n, n * 97 % 9000)),
                    Err(RecvError::Disconnected | RecvError::Truncated { .. }) => return n,
                    Err(error) => panic!("{error:?}"),
                }
            }
            unreachable!()
        });
        std::thread::sleep(std::time::Duration::from_micros(numbers.below(20_000)));
        kill(process);
        frames += thread.join().unwrap();
    }
    eprintln!("{frames} frames");
}

#[test]
fn a_reader_that_is_killed_at_any_time() {
    let _watchdog = watchdog("a_reader_that_is_killed_at_any_time");
    fn read(mut reader: RingReader, mut up: Sender<u32>) {
        ready(&mut up);
        for n in 0.. {
            expect(&mut reader, n, n * 97 % 9000);
        }
    }
    let mut numbers = Numbers(6);
    for _ in 0..30 {
        let (mut writer, reader) = ring(4096).unwrap();
        let process = started(read, reader);
        let thread = std::thread::spawn(move || {
            for n in 0.. {
                match writer.write(n as u32, &payload(n, n * 97 % 9000)) {
                    Ok(()) => {}
                    Err(SendError::Disconnected) => return n,
                    Err(error) => panic!("{error:?}"),
                }
            }
            unreachable!()
        });
        std::thread::sleep(std::time::Duration::from_micros(numbers.below(20_000)));
        kill(process);
        thread.join().unwrap();
    }
}

/// An end in a message that nobody receives is gone with it.
#[test]
fn an_end_is_gone_with_its_message() {
    let _watchdog = watchdog("an_end_is_gone_with_its_message");
    let (mut a, b) = duplex::<RingWriter, ()>().unwrap();
    let (writer, mut reader) = ring(4096).unwrap();
    a.send(&writer).unwrap();
    drop(writer);
    assert!(matches!(reader.read_timeout(&mut Vec::new(), SHORT), Err(RecvError::Timeout)));
    let thread = std::thread::spawn(move || reader.read(&mut Vec::new()));
    std::thread::sleep(SHORT);
    drop((a, b));
    assert!(matches!(thread.join().unwrap(), Err(RecvError::Disconnected)));
}
