//! Peers that have the key, and then talk without end of types, or ask.

use std::sync::Arc;
use std::time::Duration;

use ipc_core::Schema;
use ipc_core::frame::{FrameKind, Header};
use ipc_socket::{Connection, Limits, RecvError};
use ipc_testkit::{LONG, SHORT, watchdog};

use super::relay::{Dialect, How, Says, Stage};
use crate::carriers::Over;

fn frame(kind: FrameKind, handles: usize, payload: &[u8]) -> Vec<u8> {
    let header = Header::new(kind, payload.len(), handles, usize::MAX).unwrap().to_bytes();
    [&header[..], payload].concat()
}

/// What is said between two ends: questions, answers that nobody has asked for, and what is none of these.
#[derive(Debug, Clone, Copy)]
enum Talk {
    Asks,
    Tells,
    Mumbles,
}

const TALKS: [Talk; 3] = [Talk::Asks, Talk::Tells, Talk::Mumbles];

impl Talk {
    fn say(self, number: u64) -> Vec<u8> {
        let id = number.to_le_bytes();
        let payload = match self {
            Talk::Asks => [&b"A"[..], &id].concat(),
            Talk::Tells => [&b"S"[..], &id, b"(u8, str)"].concat(),
            Talk::Mumbles => match number % 6 {
                0 => vec![],
                1 => b"A".to_vec(),
                2 => [&b"A"[..], &id, b"more"].concat(),
                3 => [&b"S"[..], &id, b"\xff\xfe"].concat(),
                4 => b"S1234567".to_vec(),
                _ => b"Z".to_vec(),
            },
        };
        frame(FrameKind::Control, 0, &payload)
    }

    /// A lot of it in one piece; each piece is another one.
    fn piece(self, piece: usize) -> Vec<u8> {
        (0..PIECE).flat_map(|n| self.say((piece as u64 * PIECE) + n)).collect()
    }
}

const PIECE: u64 = 1000;

/// A message of type `u8`.
fn message(value: u8) -> Vec<u8> {
    let id = Schema::of::<u8>().fingerprint().to_u64();
    frame(FrameKind::Message, 0, &[&id.to_le_bytes()[..], &[value]].concat())
}

/// Has an honest end hear that behind a handshake, on either side.
fn hears(dialect: Dialect, says: &Says, test: impl Fn(&mut Connection)) {
    let mut stage = Stage::new(dialect);
    let said = stage.honest();
    let then = |said: &[u8]| How::Then(said.len(), Arc::clone(says));
    stage.meet([How::Whole, then(&said[1])], |connected, accepted| {
        let _accepted = accepted.unwrap();
        test(&mut connected.unwrap());
    });
    stage.meet([then(&said[0]), How::Whole], |connected, accepted| {
        let _connected = connected.unwrap();
        test(&mut accepted.unwrap());
    });
}

/// So many pieces of it: as a recursion, it would not fit into any stack.
const PIECES: usize = 30;

#[test]
fn what_is_behind_much_talk_is_received() {
    for dialect in Dialect::native() {
        let _watchdog = watchdog("what_is_behind_much_talk_is_received");
        for talk in TALKS {
            let says: Says = Arc::new(move |piece| match piece % (PIECES + 1) {
                _ if piece > 3 * PIECES + 2 => None,
                PIECES if piece < 2 * PIECES => Some(message(7)),
                PIECES => Some(frame(FrameKind::Bytes, 0, b"bytes")),
                _ => Some(talk.piece(piece)),
            });
            hears(dialect, &says, |end| {
                assert_eq!(end.recv::<u8>().unwrap(), 7, "{talk:?}");
                assert_eq!(end.recv_bytes().unwrap(), b"bytes");
                assert!(end.poll(LONG).unwrap());
                let mut buf = [0; 9];
                assert_eq!(end.recv_bytes_into(&mut buf).unwrap(), 5);
                assert!(matches!(end.recv::<u8>(), Err(RecvError::Disconnected)));
            });
        }
    }
}

#[test]
fn talk_without_end_keeps_nobody_longer_than_he_has_time() {
    for dialect in Dialect::native() {
        let _watchdog = watchdog("talk_without_end_keeps_nobody_longer_than_he_has_time");
        for talk in TALKS {
            let says: Says = Arc::new(move |piece| Some(talk.piece(piece)));
            hears(dialect, &says, |end| {
                assert!(matches!(end.recv_timeout::<u8>(SHORT), Err(RecvError::Timeout)));
                assert!(matches!(end.recv_bytes_timeout(SHORT), Err(RecvError::Timeout)));
                assert!(matches!(end.try_recv::<u8>(), Err(RecvError::Empty)));
                assert!(matches!(end.try_recv_bytes(), Err(RecvError::Empty)));
                assert!(!end.poll(SHORT).unwrap() && !end.poll(Duration::ZERO).unwrap());
                let (_sends, receives) = end.both();
                assert!(matches!(receives.recv_timeout::<u8>(SHORT), Err(RecvError::Timeout)));
                assert!(matches!(receives.try_recv_bytes(), Err(RecvError::Empty)));
            });
        }
    }
}

#[test]
fn talk_without_end_is_no_answer() {
    for dialect in Dialect::native() {
        let _watchdog = watchdog("talk_without_end_is_no_answer");
        for talk in TALKS {
            let says: Says = Arc::new(move |piece| match piece {
                0 => Some(message(7)),
                piece => Some(talk.piece(piece)),
            });
            hears(dialect, &says, |end| {
                // Without a time of its own, it waits a second for an answer.
                let error = match (dialect.over, talk) {
                    (Over::Unix, Talk::Tells) => end.recv::<String>().unwrap_err(),
                    _ => end.recv_timeout::<String>(SHORT).unwrap_err(),
                };
                assert!(matches!(error, RecvError::Mismatch(_)), "{error:?}");
                assert_eq!(end.recv::<u8>().unwrap(), 7, "it is there still");
            });
        }
    }
}

#[test]
fn an_answer_that_is_buried_under_messages_is_not_waited_for() {
    let _watchdog = watchdog("an_answer_that_is_buried_under_messages_is_not_waited_for");
    for dialect in Dialect::native() {
        // Little ones without end, and as much as one message may be.
        for len in [1, 1 << 20] {
            let says: Says = Arc::new(move |piece| match piece {
                0 => Some(message(7)),
                _ => Some(frame(FrameKind::Bytes, 0, &vec![1; len])),
            });
            hears(dialect, &says, |end| {
                end.set_limits(Limits::new().frame_len_max(4 << 20));
                let error = end.recv::<String>().unwrap_err();
                assert!(matches!(error, RecvError::Mismatch(_)), "{error:?}");
                assert_eq!(end.recv::<u8>().unwrap(), 7);
                assert_eq!(end.recv_bytes().unwrap(), vec![1; len], "and what was looked at is not lost");
            });
        }
    }
}

#[test]
fn handles_that_talk_announces_and_does_not_bring_are_an_error_once() {
    let _watchdog = watchdog("handles_that_talk_announces_and_does_not_bring_are_an_error_once");
    for dialect in Dialect::native() {
        let says: Says = Arc::new(|piece| match piece {
            0 => Some(frame(FrameKind::Control, 2, b"Z")),
            1 => Some(message(7)),
            _ => None,
        });
        hears(dialect, &says, |end| {
            let error = end.recv::<u8>().unwrap_err();
            assert!(matches!(error, RecvError::MissingHandles { announced: 2, arrived: 0 }), "{error:?}");
            assert_eq!(end.recv::<u8>().unwrap(), 7);
        });
    }
}
