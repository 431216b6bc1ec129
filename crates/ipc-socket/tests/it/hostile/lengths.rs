//! Headers that promise too much, or cannot be.

use std::io::Write;

use ipc_core::FrameError;
use ipc_core::frame::FrameKind;
use ipc_socket::{AuthError, Connection, HandshakeError, Limits, RecvError};
use ipc_testkit::processes::alone;
use ipc_testkit::{LONG, watchdog};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::relay::{Dialect, Door, How, Stage, dial, once, source_of};

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    Length,
    Handles,
    /// It is one, but has no place in a handshake.
    Place,
    Header,
}

/// Headers before anybody is trusted, and what is wrong with them.
fn headers(dialect: Dialect) -> Vec<(Vec<u8>, Wrong)> {
    if dialect.python {
        let long = |len: u64| [&(-1_i32).to_be_bytes()[..], &len.to_be_bytes()].concat();
        let short = |len: i32| len.to_be_bytes().to_vec();
        let too_long = [short(257), short(i32::MAX), long(257), long(1 << 32), long(1 << 63), long(u64::MAX)];
        let negative = [-2, -3, -257, i32::MIN + 1, i32::MIN].map(|len| (short(len), Wrong::Header));
        too_long.map(|header| (header, Wrong::Length)).into_iter().chain(negative).collect()
    } else {
        let header = |len: u32, handles: u16, kind: u8, magic: u8| {
            let mut header = len.to_le_bytes().to_vec();
            header.extend(handles.to_le_bytes());
            header.extend([kind, magic]);
            header
        };
        vec![
            (header(257, 0, 2, 0xA9), Wrong::Length),
            (header(1 << 31, 0, 2, 0xA9), Wrong::Length),
            (header(u32::MAX, 0, 2, 0xA9), Wrong::Length),
            (header(u32::MAX, 0, 0, 0xA9), Wrong::Length),
            (header(36, 4097, 2, 0xA9), Wrong::Handles),
            (header(36, u16::MAX, 2, 0xA9), Wrong::Handles),
            (header(36, 1, 2, 0xA9), Wrong::Place),
            (header(36, 0, 0, 0xA9), Wrong::Place),
            (header(36, 0, 1, 0xA9), Wrong::Place),
            (header(36, 0, 3, 0xA9), Wrong::Header),
            (header(36, 0, 2, 0xA8), Wrong::Header),
            (header(0, 0, 0, 0), Wrong::Header),
        ]
    }
}

fn is(error: &HandshakeError) -> Wrong {
    match error {
        HandshakeError::Frame(FrameError::TooLong { .. }) => Wrong::Length,
        HandshakeError::Frame(FrameError::TooManyHandles(_)) => Wrong::Handles,
        HandshakeError::Frame(FrameError::NotAFrame(_)) => Wrong::Header,
        HandshakeError::Auth(AuthError::Protocol(_)) => Wrong::Place,
        other => panic!("{other:?}"),
    }
}

#[test]
fn headers_that_cannot_be_end_a_handshake_before_what_they_promise() {
    let _watchdog = watchdog("headers_that_cannot_be_end_a_handshake_before_what_they_promise");
    for dialect in Dialect::all() {
        let mut stage = Stage::new(dialect);
        let door = Door::new(dialect.over);
        for (header, wrong) in headers(dialect) {
            // They stay connected: it is the header alone that they are judged by.
            let mut stranger = dial(stage.listener.local_address());
            stranger.write_all(&header).unwrap();
            let error = source_of(stage.listener.accept_timeout(LONG)).unwrap_err();
            assert_eq!(is(&error), wrong, "{header:?}");
            std::thread::scope(|scope| {
                let client = scope.spawn(|| dialect.options().connect(door.address.as_str()));
                let mut stranger = door.accept();
                stranger.write_all(&header).unwrap();
                let error = source_of(client.join().unwrap()).unwrap_err();
                assert_eq!(is(&error), wrong, "{header:?}");
            });
        }
        stage.is_well();
    }
}

#[test]
fn headers_that_cannot_be_end_a_connection_and_each_receive_says_so() {
    let _watchdog = watchdog("headers_that_cannot_be_end_a_connection_and_each_receive_says_so");
    for dialect in Dialect::all() {
        let limits = Limits::new().frame_len_max(256);
        let options = dialect.options().limits(limits);
        let mut stage = Stage::with(dialect, options.clone(), options);
        let said = stage.honest();
        for (header, wrong) in headers(dialect) {
            if wrong == Wrong::Place {
                continue;
            }
            let then = |said: &[u8]| How::Then(said.len(), once(header.clone()));
            let fails = |end: &mut Connection| {
                for call in 0..3 {
                    let error = match call {
                        0 => end.recv::<u8>().unwrap_err(),
                        1 => end.recv_bytes().unwrap_err(),
                        _ => end.recv_bytes_into(&mut [0; 10]).unwrap_err(),
                    };
                    let RecvError::Frame(error) = error else { panic!("{header:?}: {error:?}") };
                    assert_eq!(is(&HandshakeError::Frame(error)), wrong, "{header:?}");
                }
                assert!(end.poll(LONG).unwrap(), "the news that there will be nothing");
            };
            stage.meet([then(&said[0]), then(&said[1])], |connected, accepted| {
                fails(&mut connected.unwrap());
                fails(&mut accepted.unwrap());
            });
        }
    }
}

/// How much memory more than now this process may map.
fn have_no_more_than(bytes: u64) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let mapped = statm.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096;
    let (_, hard) = getrlimit(Resource::RLIMIT_AS).unwrap();
    setrlimit(Resource::RLIMIT_AS, mapped + bytes, hard).unwrap();
}

#[test]
fn what_a_header_promises_is_not_set_aside() {
    let _watchdog = watchdog("what_a_header_promises_is_not_set_aside");
    // In a process that may have a fraction of what is promised; it would be aborted.
    alone(|| {
        have_no_more_than(1 << 30);
        assert!(Vec::<u8>::new().try_reserve_exact(2 << 30).is_err());
        for dialect in Dialect::all() {
            let limits = Limits::new().frame_len_max(u32::MAX as usize);
            let options = dialect.options().limits(limits);
            let mut stage = Stage::with(dialect, options.clone(), options);
            let said = stage.honest();
            for call in 0..2 {
                let promised = u32::MAX as usize - 1;
                let mut frame = dialect.header_of(FrameKind::Bytes, promised);
                frame.extend([1; 100_000]);
                let receives = |end: &mut Connection| {
                    let error = match call {
                        0 => end.recv_bytes().unwrap_err(),
                        _ => end.recv_bytes_into(&mut [0; 100]).unwrap_err(),
                    };
                    let missing_all = promised - 100_000;
                    let is_told = matches!(error, RecvError::Truncated { missing } if missing == missing_all);
                    assert!(is_told, "{error:?}");
                };
                let then = |said: &[u8]| How::Then(said.len(), once(frame.clone()));
                stage.meet([then(&said[0]), then(&said[1])], |connected, accepted| {
                    receives(&mut connected.unwrap());
                    receives(&mut accepted.unwrap());
                });
            }
        }
    });
}
