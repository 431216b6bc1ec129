//! The channel from one process to another: its ends, what is done with them, and the cases.

use std::cell::RefCell;
use std::hint::black_box;

use ipc::queue::spsc;
use ipc::queue::spsc::{Receiver, Sender};
use serde::{Deserialize, Serialize};

use super::{Block, MEBIBYTE, Numbers, Run, check, work};
use crate::harness::{Bench, Error, Subject, Target, Unit};
use crate::peers::{Peers, peer};

/// As much as 1024 messages of 64 bytes take; and room for some of a mebibyte.
const SMALL: usize = 128 << 10;
const LARGE: usize = 4 << 20;

/// What is done next, so many times.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Step {
    PingPong(u64),
    Work(u64),
    OneWay(u64),
    OneWayEncoded(u64),
    OneWayMany(u64),
    Bytes(u64),
}

/// The ends of who begins each exchange.
#[derive(Serialize, Deserialize)]
pub(super) struct First {
    there: Sender<u64>,
    back: Receiver<u64>,
    numbers: Sender<Numbers>,
    bytes: Sender<()>,
    large: Sender<()>,
}

/// The ends of the other.
#[derive(Serialize, Deserialize)]
pub(super) struct Second {
    there: Receiver<u64>,
    back: Sender<u64>,
    numbers: Receiver<Numbers>,
    bytes: Receiver<()>,
    large: Receiver<()>,
    /// What many are received into.
    #[serde(skip)]
    many: Vec<Numbers>,
}

/// Of one of the two.
pub(super) enum Ends {
    First(First),
    Second(Second),
}

pub(super) fn ends() -> Result<(First, Second), Error> {
    let (there, back) = (spsc(SMALL)?, spsc(SMALL)?);
    let (numbers, bytes, large) = (spsc(SMALL)?, spsc(SMALL)?, spsc(LARGE)?);
    let first = First { there: there.0, back: back.1, numbers: numbers.0, bytes: bytes.0, large: large.0 };
    let second = Second {
        there: there.1,
        back: back.0,
        numbers: numbers.1,
        bytes: bytes.1,
        large: large.1,
        many: Vec::new(),
    };
    Ok((first, second))
}

impl Ends {
    pub(super) fn run(&mut self, step: Step, buf: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Ends::First(first) => first.run(step, buf),
            Ends::Second(second) => second.run(step, buf),
        }
    }
}

impl First {
    fn run(&mut self, step: Step, buf: &mut Vec<u8>) -> Result<(), Error> {
        let First { there, back, numbers, bytes, large } = self;
        match step {
            Step::PingPong(count) => {
                for n in 0..count {
                    there.send(&n)?;
                    check(back.recv()?, n)?;
                }
                return Ok(());
            }
            Step::Work(count) => {
                for n in 0..count {
                    there.send(&n)?;
                    check(back.recv()?, n)?;
                    work();
                }
                return Ok(());
            }
            Step::OneWay(count) => {
                let mut plain = [0; 64];
                for n in 0..count {
                    plain.fill(n as u8);
                    bytes.send_bytes(black_box(&plain))?;
                }
            }
            Step::OneWayEncoded(count) => {
                for n in 0..count {
                    numbers.send(black_box(&[n; 8]))?;
                }
            }
            Step::OneWayMany(count) => {
                numbers.send_all((0..count).map(|n| black_box([n; 8])))?;
            }
            Step::Bytes(count) => {
                buf.resize(MEBIBYTE, 0);
                for n in 0..count {
                    buf[..8].copy_from_slice(&n.to_le_bytes());
                    large.send_bytes(buf)?;
                }
            }
        }
        // That all has been read.
        back.recv()?;
        Ok(())
    }
}

impl Second {
    fn run(&mut self, step: Step, buf: &mut Vec<u8>) -> Result<(), Error> {
        let Second { there, back, numbers, bytes, large, many } = self;
        match step {
            Step::PingPong(count) => {
                for _ in 0..count {
                    back.send(&there.recv()?)?;
                }
                return Ok(());
            }
            Step::Work(count) => {
                for _ in 0..count {
                    let n = there.recv()?;
                    work();
                    back.send(&n)?;
                }
                return Ok(());
            }
            Step::OneWay(count) => {
                let mut plain = [0; 64];
                for n in 0..count {
                    check(bytes.recv_bytes_into(&mut plain)? as u64, 64)?;
                    check(black_box(&plain)[63].into(), n & 0xff)?;
                }
            }
            Step::OneWayEncoded(count) => {
                for n in 0..count {
                    check(black_box(numbers.recv()?)[7], n)?;
                }
            }
            Step::OneWayMany(count) => {
                let mut n = 0;
                while n < count {
                    many.clear();
                    numbers.recv_many(256, many)?;
                    for numbers in black_box(&*many) {
                        check(numbers[7], n)?;
                        n += 1;
                    }
                }
            }
            Step::Bytes(count) => {
                buf.resize(MEBIBYTE, 0);
                for n in 0..count {
                    check(large.recv_bytes_into(buf)? as u64, MEBIBYTE as u64)?;
                    check(u64::from_le_bytes(buf[..8].try_into()?), n)?;
                }
            }
        }
        back.send(&0)?;
        Ok(())
    }
}

/// The cases for two that are awake.
pub(super) fn awake(
    bench: &mut Bench,
    run: &Run<'_>,
    peers: Option<&RefCell<Peers>>,
    case: &dyn Fn(&str) -> String,
) -> Result<(), Error> {
    let ours = |step: fn(u64) -> Step| Subject::new("ipc", move |count| run(Block::Spsc(step(count))));

    let mut ping_pong = ours(Step::PingPong).against("two cache lines", Target::AtMost(2.0));
    if peers.is_some() {
        ping_pong = ping_pong.against("iceoryx2", Target::AtMost(0.6));
    }
    let mut subjects = vec![Subject::new("two cache lines", |count| run(Block::Lines(count))), ping_pong];
    subjects.extend(peer(peers, "iceoryx2", "iceoryx2", "ping-pong-u64"));
    bench.compare(&case("ping-pong of a u64, spsc, both awake"), Unit::Nanoseconds, 50_000, 1, subjects)?;

    let mut one_way = ours(Step::OneWay);
    if peers.is_some() {
        one_way =
            one_way.against("iceoryx2", Target::AtLeast(10.0)).against("ipc-channel", Target::AtLeast(15.0));
    }
    let encoded =
        Subject::new("ipc, a struct that is encoded", |count| run(Block::Spsc(Step::OneWayEncoded(count))));
    let many =
        Subject::new("ipc, such structs many at once", |count| run(Block::Spsc(Step::OneWayMany(count))));
    let theirs = [
        peer(peers, "iceoryx2", "iceoryx2", "one-way-64"),
        peer(peers, "ipc-channel", "ipc-channel", "one-way-64"),
    ];
    let subjects = [one_way, encoded, many].into_iter().chain(theirs.into_iter().flatten()).collect();
    bench.compare(&case("one way, 64 bytes, spsc"), Unit::PerSecond, 200_000, 1, subjects)?;

    let mut large = ours(Step::Bytes);
    if peers.is_some() {
        large = large.against("iceoryx2", Target::AtLeast(1.0));
    }
    let theirs = peer(peers, "iceoryx2", "iceoryx2", "one-way-1m");
    let subjects = [large].into_iter().chain(theirs).collect();
    bench.compare(&case("one way, 1 MiB, spsc"), Unit::GigabytesPerSecond, 100, MEBIBYTE as u64, subjects)
}

/// The case for two of which one is to be asleep.
pub(super) fn asleep(bench: &mut Bench, run: &Run<'_>, case: &str, at_most: f64) -> Result<(), Error> {
    bench.compare(
        case,
        Unit::Microseconds,
        10,
        1,
        vec![
            Subject::new("raw futex", |count| run(Block::WorkAndFutex(count))),
            Subject::new("ipc", |count| run(Block::Spsc(Step::Work(count))))
                .against("raw futex", Target::AtMost(at_most)),
        ],
    )
}
