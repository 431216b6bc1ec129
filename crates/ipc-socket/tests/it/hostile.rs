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

use ipc_core::{Classify, ErrorKind};
use ipc_testkit::data::Numbers;
use ipc_testkit::{LONG, watchdog};

use relay::{Dialect, Door, Stage, dial, source_of};

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
