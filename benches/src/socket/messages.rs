//! Messages over a connection, beside a raw socket's, for each carrier.
//!
//! Two processes, and between them a connection, a raw socket of the kind that the carrier is held against, and a page
//! of cache lines. The raw socket is of this machine's fastest making: a pair, or TCP with `TCP_NODELAY`.

use std::cell::RefCell;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ipc::ErrorKind;
use ipc::core::{Classify, Fd};
use ipc::pipe::{Receiver, Sender, pipe};
use ipc::process::Process;
use ipc::socket::{Connection, Listener, Options};
use serde::{Deserialize, Serialize};

use crate::directory::Directory;
use crate::harness::{Bench, Error, Subject, Target, Unit};
use crate::peers::peer;
use crate::place::{Placement, pin};
use crate::raw::{Found, Page};
use crate::sample::Sample;
use crate::stream::{self, BIG_LEN, Buffers, UNTIMED};

/// Lines of the page.
const PING: usize = 0;
const PONG: usize = 1;

/// A frame of a number: its header, the fingerprint of its type, and two bytes, as most of the numbers take. The raw
/// messages of a ping-pong are as long.
const FRAME_LEN: usize = 8 + 8 + 2;

/// How long a process may take to connect.
const PATIENCE: Duration = Duration::from_secs(10);

/// What carries the messages.
#[derive(Clone, Copy, PartialEq)]
enum Carrier {
    Unix,
    Shm,
    Tcp,
}

impl Carrier {
    fn name(self) -> &'static str {
        match self {
            Carrier::Unix => "unix",
            Carrier::Shm => "shm",
            Carrier::Tcp => "tcp",
        }
    }

    fn address(self, directory: &Directory) -> String {
        match self {
            Carrier::Tcp => "tcp:127.0.0.1:0".to_owned(),
            _ => format!("{}:{}/socket", self.name(), directory.path().display()),
        }
    }

    /// Two ends of what it is held against.
    fn raw(self) -> Result<(Fd, Fd), Error> {
        if self != Carrier::Tcp {
            let (a, b) = UnixStream::pair()?;
            return Ok((Fd::new(a), Fd::new(b)));
        }
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let a = TcpStream::connect(listener.local_addr()?)?;
        let (b, _) = listener.accept()?;
        a.set_nodelay(true)?;
        b.set_nodelay(true)?;
        Ok((Fd::new(a), Fd::new(b)))
    }
}

/// What both processes do next, so many times.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Block {
    Lines(u64),
    RawPings(u64),
    Pings(u64),
    RawSamples(u64),
    Samples(u64),
    Batch(u64),
    RawBig(u64),
    Big(u64),
}

/// What each of the two has.
struct Side {
    connection: Connection,
    raw: Fd,
    page: Page,
    buffers: Buffers,
}

impl Side {
    /// Sends, and begins each round trip.
    fn first(&mut self, block: Block) -> Result<Duration, Error> {
        let Side { connection, raw, page, buffers } = self;
        let start = Instant::now();
        match block {
            Block::Lines(count) => {
                return stream::round_trips(count, |n| {
                    page.ping(PING, PONG, n + 1);
                    Ok(n)
                });
            }
            Block::RawPings(count) => {
                return stream::round_trips(count, |n| stream::ping::<FRAME_LEN>(raw, raw, n));
            }
            Block::Pings(count) => {
                return stream::round_trips(count, |n| {
                    connection.send(&n)?;
                    Ok(connection.recv()?)
                });
            }
            Block::RawSamples(count) => {
                (0..count).try_for_each(|n| stream::write_all(raw, &Sample::new(n).to_bytes()))?;
            }
            Block::Samples(count) => (0..count).try_for_each(|n| connection.send(&Sample::new(n)))?,
            Block::Batch(count) => {
                connection.send_all::<Sample>((0..count).map(Sample::new))?;
            }
            Block::RawBig(count) => (0..count).try_for_each(|_| stream::write_all(raw, &buffers.big))?,
            Block::Big(count) => (0..count).try_for_each(|_| connection.send_bytes(&buffers.big))?,
        }
        // All of it has arrived.
        stream::read_exactly(raw, &mut [0; 8])?;
        Ok(start.elapsed())
    }

    /// Receives, and answers. What comes of the payload, so that it is really used.
    fn second(&mut self, block: Block) -> Result<f64, Error> {
        let Side { connection, raw, page, buffers } = self;
        let mut used = 0.0;
        match block {
            Block::Lines(count) => {
                for n in 1..=count + UNTIMED {
                    page.pong(PING, n);
                    page.line(PONG).store(n, std::sync::atomic::Ordering::Release);
                }
                return Ok(used);
            }
            Block::RawPings(count) => {
                stream::echo::<FRAME_LEN>(raw, raw, count + UNTIMED)?;
                return Ok(used);
            }
            Block::Pings(count) => {
                for _ in 0..count + UNTIMED {
                    let n = connection.recv::<u64>()?;
                    connection.send(&n)?;
                }
                return Ok(used);
            }
            Block::RawSamples(count) => used += buffers.drain_samples(raw, count)?,
            Block::Samples(count) | Block::Batch(count) => {
                for _ in 0..count {
                    used += connection.recv::<Sample>()?.sum();
                }
            }
            Block::RawBig(count) => used += buffers.read_big(raw, count)?,
            Block::Big(count) => {
                for _ in 0..count {
                    let len = connection.recv_bytes_into(&mut buffers.big)?;
                    used += f64::from(buffers.big[len - 1]);
                }
            }
        }
        stream::write_all(raw, &[0; 8])?;
        Ok(used)
    }
}

/// What the other process is given: where to connect, and its ends of the rest.
type Given = (String, Fd, Found);

/// The other process. Errors end it, which ends the benchmark with the error.
fn serve(core: usize, given: Given, mut control: Receiver<Block>) -> Result<f64, String> {
    let serve = || -> Result<f64, Error> {
        pin(core)?;
        let (address, raw, found) = given;
        let connection = Options::new().connect(address.as_str())?;
        let mut side = Side { connection, raw, page: Page::open(found)?, buffers: Buffers::new() };
        let mut used = 0.0;
        while let Ok(block) = control.recv() {
            used += side.second(block)?;
        }
        Ok(used)
    };
    serve().map_err(|error| error.to_string())
}

/// This process, and the line to the other one.
struct Two {
    side: Side,
    control: Sender<Block>,
}

impl Two {
    fn timed(&mut self, block: Block) -> Result<Duration, Error> {
        self.control.send(&block)?;
        self.side.first(block)
    }
}

pub(super) fn run(bench: &mut Bench, placement: Placement) -> Result<(), Error> {
    let directory = Directory::new()?;
    for carrier in [Carrier::Unix, Carrier::Shm, Carrier::Tcp] {
        match Options::new().bind(carrier.address(&directory).as_str()) {
            Ok(listener) => between_two(bench, placement, carrier, listener)?,
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                println!("socket: {} is skipped, {}: {}", carrier.name(), placement.name, reason(&error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// An error with what it comes from.
fn reason(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", reason(source)))
}

fn between_two(
    bench: &mut Bench,
    placement: Placement,
    carrier: Carrier,
    mut listener: Listener,
) -> Result<(), Error> {
    let page = Page::new()?;
    let (raw, theirs) = carrier.raw()?;
    let (control, commands) = pipe()?;
    let given = (listener.local_address().to_string(), theirs, page.found());
    let server = Process::spawn(serve, (placement.theirs, given, commands))?;
    let connection = match listener.accept_timeout(PATIENCE) {
        Ok(connection) => connection,
        Err(error) => {
            // It knows better why.
            drop(control);
            server.join()??;
            return Err(error.into());
        }
    };
    let side = Side { connection, raw, page, buffers: Buffers::new() };
    let two = RefCell::new(Two { side, control });
    cases(bench, placement, carrier, &|block| two.borrow_mut().timed(block))?;
    // The page stays until the other one has found it. The control pipe's end tells that process to end.
    let Two { side: _side, control } = two.into_inner();
    drop(control);
    server.join()??;
    Ok(())
}

fn cases<'a>(
    bench: &mut Bench,
    placement: Placement,
    carrier: Carrier,
    run: &'a dyn Fn(Block) -> Result<Duration, Error>,
) -> Result<(), Error> {
    let block = |name, block: fn(u64) -> Block| Subject::new(name, move |count| run(block(count)));
    let case = |what: &str| format!("{}, {what}, {}", carrier.name(), placement.name);
    let two_cores = placement.ours != placement.theirs;
    let of_unix = |target| (carrier == Carrier::Unix).then_some(target);
    // It sends over Unix sockets, too.
    let peers = if carrier == Carrier::Unix { bench.peers(placement)?.map(RefCell::new) } else { None };
    let ipc_channel = |operation| peer(peers.as_ref(), "ipc-channel", "ipc-channel", operation);
    let beside_peers =
        |ours: Subject<'a>| if peers.is_some() { ours.against("ipc-channel", None) } else { ours };
    let raw = if carrier == Carrier::Tcp { "raw TCP socket" } else { "raw Unix socket" };

    if carrier == Carrier::Shm && two_cores {
        let subjects = vec![
            block("two cache lines", Block::Lines),
            block("ipc", Block::Pings).against("two cache lines", Target::AtMost(3.0)),
        ];
        bench.compare(&case("ping-pong u64, both awake"), Unit::Nanoseconds, 50_000, 1, subjects)?;
    } else {
        // About 30 ms a block, in which wake-ups of a sleeper on another core cost some 60 µs a round trip.
        let round_trips = if two_cores { 500 } else { 8_000 };
        let target = of_unix(Target::AtMost(if two_cores { 1.05 } else { 1.15 }));
        let mut subjects =
            vec![block(raw, Block::RawPings), beside_peers(block("ipc", Block::Pings).against(raw, target))];
        subjects.extend(ipc_channel("ping-pong-u64"));
        bench.compare(&case("ping-pong u64"), Unit::Microseconds, round_trips, 1, subjects)?;
    }

    let raw_writes = if carrier == Carrier::Tcp { "raw TCP socket, a write each" } else { RAW_UNIX_WRITES };
    let target = match carrier {
        Carrier::Unix => Some(Target::AtLeast(0.95)),
        Carrier::Shm => Some(Target::AtLeast(10.0)),
        Carrier::Tcp => None,
    };
    let mut subjects = vec![
        block(raw_writes, Block::RawSamples),
        beside_peers(block("ipc, a send each", Block::Samples).against(raw_writes, target))
            .form_of_ipc(case("one way 64 B, a send each")),
        block("ipc, batch", Block::Batch)
            .form_of_ipc(case("one way 64 B, batch"))
            .against(raw_writes, of_unix(Target::AtLeast(5.0))),
    ];
    subjects.extend(ipc_channel("one-way-64"));
    bench.compare(&case("one way 64 B"), Unit::PerSecond, 30_000, 1, subjects)?;

    let mut subjects = vec![
        block(raw, Block::RawBig),
        beside_peers(block("ipc", Block::Big).against(raw, of_unix(Target::AtLeast(0.95)))),
    ];
    subjects.extend(ipc_channel("one-way-1m"));
    bench.compare(&case("one way 1 MiB"), Unit::GigabytesPerSecond, 64, BIG_LEN as u64, subjects)
}

const RAW_UNIX_WRITES: &str = "raw Unix socket, a write each";
