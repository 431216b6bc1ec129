//! Peers that say something else than they should, or nothing: typed errors, and a listener that goes on.
//!
//! They are raw sockets against a listener or a client of ours, or a [relay] between two honest ones.

mod crowd;
mod cuts;
mod endless;
mod lengths;
mod relay;
mod replays;
mod slow;

use std::io::Write;

use ipc_core::frame::FrameKind;
use ipc_core::{Classify, ErrorKind, Schema};
use ipc_socket::{Connection, RecvError};
use ipc_testkit::data::Numbers;
use ipc_testkit::{LONG, watchdog};

use relay::{Dialect, Door, How, Stage, dial, once, source_of};

/// So many streams of random bytes for each side of each dialect.
const SEEDS: u64 = 60;

/// Bytes that say nothing, or begin as they should.
fn garbage(seed: u64, dialect: Dialect) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let len = numbers.below(300) as usize;
    let bytes = numbers.bytes(len);
    match seed % 3 {
        0 => bytes,
        _ => [&dialect.header(numbers.below(80) as usize)[..], &bytes].concat(),
    }
}

#[track_caller]
fn is_typed(error: &ipc_socket::HandshakeError, seed: u64) {
    let kinds = [
        ErrorKind::Decode,
        ErrorKind::Disconnected,
        ErrorKind::Limit,
        ErrorKind::PermissionDenied,
        ErrorKind::Unsupported,
    ];
    assert!(kinds.contains(&error.kind()), "seed {seed}: {error:?}");
    assert!(!error.to_string().is_empty());
}

#[test]
fn garbage_is_no_handshake_to_a_listener() {
    let _watchdog = watchdog("garbage_is_no_handshake_to_a_listener");
    for dialect in Dialect::all() {
        let mut stage = Stage::new(dialect);
        for seed in 1..=SEEDS {
            let mut stranger = dial(stage.listener.local_address());
            // It may be refused before it has said all.
            let _said = stranger.write_all(&garbage(seed, dialect));
            let _closed = stranger.shutdown(std::net::Shutdown::Write);
            is_typed(&source_of(stage.listener.accept_timeout(LONG)).unwrap_err(), seed);
        }
        stage.is_well();
    }
}

#[test]
fn garbage_is_no_handshake_to_a_client() {
    let _watchdog = watchdog("garbage_is_no_handshake_to_a_client");
    for dialect in Dialect::all() {
        let door = Door::new(dialect.over);
        for seed in 1..=SEEDS {
            std::thread::scope(|scope| {
                let client = scope.spawn(|| dialect.options().connect(door.address.as_str()));
                let mut stranger = door.accept();
                let _said = stranger.write_all(&garbage(seed, dialect));
                let _closed = stranger.shutdown(std::net::Shutdown::Write);
                is_typed(&source_of(client.join().unwrap()).unwrap_err(), seed);
            });
        }
    }
}

/// What is asked for.
type Wanted = Vec<(String, u64)>;

/// Frames of random bytes, some of which are none, and the end somewhere.
fn frames(seed: u64, dialect: Dialect) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let id = Schema::of::<Wanted>().fingerprint().to_u64();
    let mut all = Vec::new();
    for _ in 0..numbers.below(10) {
        let len = numbers.below(200) as usize;
        match numbers.below(3) {
            0 => all.extend(dialect.header_of(FrameKind::Control, len)),
            1 => all.extend(dialect.header_of(FrameKind::Bytes, len)),
            _ if dialect.python => all.extend(dialect.header_of(FrameKind::Bytes, len)),
            _ => {
                all.extend(dialect.header_of(FrameKind::Message, 8 + len));
                // Mostly it is of the type that is wanted.
                all.extend((id + u64::from(seed.is_multiple_of(10))).to_le_bytes());
            }
        }
        // Small numbers mean more to a codec.
        let small = 1 + numbers.below(255) as u8;
        all.extend(numbers.bytes(len).iter().map(|byte| byte % small));
    }
    all.truncate(all.len().saturating_sub(numbers.below(20) as usize));
    let rest = numbers.below(30) as usize;
    all.extend(numbers.bytes(rest));
    all
}

/// Receives in every way until the stream ends or is of no use, or what comes next is nothing that is asked for. Each error
/// says what it is; how many there were.
fn receive_all(end: &mut Connection, dialect: Dialect) -> usize {
    let (mut errors, mut stays) = (0, 0);
    for call in 0.. {
        let error = match call % 5 {
            0 => end.recv::<Wanted>().err(),
            1 => end.recv_bytes().err(),
            2 if dialect.python => end.recv_object().err(),
            3 => end.recv_bytes_into(&mut [0; 20]).err(),
            _ => end.poll(LONG).err(),
        };
        let Some(error) = error else { continue };
        assert!(!error.to_string().is_empty());
        errors += 1;
        match error {
            RecvError::Disconnected | RecvError::Frame(_) => break,
            RecvError::WrongKind { .. } | RecvError::Mismatch(_) if stays == 10 => break,
            RecvError::WrongKind { .. } | RecvError::Mismatch(_) => stays += 1,
            RecvError::Truncated { .. }
            | RecvError::Decode(_)
            | RecvError::Foreign { .. }
            | RecvError::TooSmall { .. } => stays = 0,
            other => panic!("{other:?}"),
        }
        assert!(call < 10_000, "one error again and again");
    }
    errors
}

#[test]
fn garbage_behind_a_handshake_is_errors_of_messages() {
    let _watchdog = watchdog("garbage_behind_a_handshake_is_errors_of_messages");
    for dialect in Dialect::all() {
        let mut stage = Stage::new(dialect);
        let said = stage.honest();
        for seed in 1..=SEEDS {
            let then = |said: &[u8], seed| How::Then(said.len(), once(frames(seed, dialect)));
            // Each has heard the end before the other goes.
            stage.meet([then(&said[0], seed), then(&said[1], seed + SEEDS)], |connected, accepted| {
                let (mut connected, mut accepted) = (connected.unwrap(), accepted.unwrap());
                assert!(receive_all(&mut connected, dialect) >= 1);
                assert!(receive_all(&mut accepted, dialect) >= 1);
            });
        }
        stage.is_well();
    }
}
