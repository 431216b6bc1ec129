//! Streams that end, after each of their bytes.

use ipc_socket::{Connection, HandshakeError, RecvError};
use ipc_testkit::watchdog;

use super::relay::{Dialect, How, Stage};

/// What both ends send once they are connected.
const SENT: &[u8] = b"a message";

/// What the one is to find whose stream ends after `len` of `handshake` bytes, and of a frame of `frame` bytes.
fn found(end: Result<Connection, HandshakeError>, len: usize, [handshake, frame]: [usize; 2]) {
    if len < handshake {
        let error = end.unwrap_err();
        return assert!(matches!(error, HandshakeError::Disconnected), "after {len}: {error:?}");
    }
    let mut end = end.unwrap();
    if len == handshake + frame {
        assert_eq!(end.recv_bytes().unwrap(), SENT);
    } else if len > handshake {
        let missing_all = handshake + frame - len;
        match end.recv_bytes() {
            // As far as is known: less than a header says nothing of what is behind it.
            Err(RecvError::Truncated { missing }) => assert!(missing > 0 && missing <= missing_all),
            other => panic!("after {len}: {other:?}"),
        }
    }
    assert!(matches!(end.recv_bytes(), Err(RecvError::Disconnected)), "after {len}");
}

/// The other one may be content, or not.
fn is_content_or_alone(end: Result<Connection, HandshakeError>) {
    match end {
        Err(HandshakeError::Disconnected) => {}
        Err(error) => panic!("{error:?}"),
        Ok(mut end) => match end.recv_bytes() {
            Ok(bytes) => assert_eq!(bytes, SENT),
            Err(RecvError::Disconnected) => {}
            Err(error) => panic!("{error:?}"),
        },
    }
}

fn cut_everywhere(dialect: Dialect, to_client: bool) {
    let mut stage = Stage::new(dialect);
    let said = stage.honest();
    let frame = [&dialect.header(SENT.len())[..], SENT].concat().len();
    let handshake = said[usize::from(to_client)].len();
    for len in 0..=handshake + frame {
        let hows = match to_client {
            false => [How::Cut(len), How::Whole],
            true => [How::Whole, How::Cut(len)],
        };
        stage.meet(hows, |mut connected, mut accepted| {
            for end in [&mut connected, &mut accepted].into_iter().flatten() {
                // The other one may be gone by then.
                let _sent = end.send_bytes(SENT);
            }
            let (cut, other) = if to_client { (connected, accepted) } else { (accepted, connected) };
            found(cut, len, [handshake, frame]);
            is_content_or_alone(other);
        });
    }
    stage.is_well();
}

#[test]
fn what_the_client_says_ends_after_each_byte() {
    for dialect in Dialect::all() {
        let _watchdog = watchdog("what_the_client_says_ends_after_each_byte");
        cut_everywhere(dialect, false);
    }
}

#[test]
fn what_the_listener_says_ends_after_each_byte() {
    for dialect in Dialect::all() {
        let _watchdog = watchdog("what_the_listener_says_ends_after_each_byte");
        cut_everywhere(dialect, true);
    }
}
