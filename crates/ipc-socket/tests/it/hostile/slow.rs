//! Streams that come slowly, or not on.

use std::time::Duration;

use ipc_socket::HandshakeError;
use ipc_testkit::{SHORT, watchdog};

use super::relay::{Dialect, How, Stage};

#[test]
fn a_handshake_that_comes_byte_by_byte_is_one() {
    let _watchdog = watchdog("a_handshake_that_comes_byte_by_byte_is_one");
    for dialect in Dialect::all() {
        let mut stage = Stage::new(dialect);
        let how = How::Slow(Duration::from_micros(50));
        stage.meet([how.clone(), how], |connected, accepted| {
            let (mut connected, mut accepted) = (connected.unwrap(), accepted.unwrap());
            connected.send(&"hello".to_owned()).unwrap();
            assert_eq!(accepted.recv::<String>().unwrap(), "hello");
            accepted.send(&vec![1_u8; 300]).unwrap();
            assert_eq!(connected.recv::<Vec<u8>>().unwrap(), [1; 300]);
        });
    }
}

/// How it looks to the one who has little time, when that is done to what it hears.
fn is_given_up(dialect: Dialect, by_client: bool, how: How) {
    let (hurried, patient) = (dialect.options().handshake_timeout(SHORT), dialect.options());
    let mut stage = match by_client {
        true => Stage::with(dialect, hurried, patient),
        false => Stage::with(dialect, patient, hurried),
    };
    let hows = if by_client { [How::Whole, how] } else { [how, How::Whole] };
    stage.meet(hows, |connected, accepted| {
        let (gives_up, other) = if by_client { (connected, accepted) } else { (accepted, connected) };
        assert!(matches!(gives_up, Err(HandshakeError::Timeout)), "{dialect:?}: {gives_up:?}");
        // It has heard the end, or has been welcome before.
        assert!(matches!(other, Ok(_) | Err(HandshakeError::Disconnected)), "{dialect:?}: {other:?}");
    });
}

#[test]
fn a_handshake_that_comes_too_slowly_or_stops_is_given_up() {
    let _watchdog = watchdog("a_handshake_that_comes_too_slowly_or_stops_is_given_up");
    for dialect in Dialect::all() {
        let said = Stage::new(dialect).honest();
        for (by_client, said) in [(false, &said[0]), (true, &said[1])] {
            // It is the whole that has a time, and not each byte: this would take seconds.
            is_given_up(dialect, by_client, How::Slow(SHORT + SHORT));
            for len in [0, 1, dialect.header(0).len(), said.len() / 2, said.len() - 1] {
                is_given_up(dialect, by_client, How::Stall(len));
            }
        }
    }
}
