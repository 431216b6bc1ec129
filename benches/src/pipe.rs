//! Typed pipes beside raw pipe(2).
//!
//! Two processes, and between them for each subject a pair of pipes. A control pipe says which subject serves the next
//! block, so that all subjects are measured between the same two processes. The raw side is `stream`'s.

use std::time::{Duration, Instant};

use ipc::pipe::{Receiver, Sender, pipe};
use ipc::process::Process;
use serde::{Deserialize, Serialize};

use crate::harness::{Bench, Error, Subject, Target, Unit};
use crate::place::{Placement, pin, pinned, placements};
use crate::sample::{Packet, Sample};
use crate::stream::{self, BIG_LEN, Buffers, UNTIMED};

/// What the other process does next, so many times.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Block {
    RawEcho(u64),
    TypedEcho(u64),
    RawSamples(u64),
    TypedSamples(u64),
    TypedPackets(u64),
    RawBig(u64),
    TypedBig(u64),
}

/// The ends of one side. Raw pipes are typed ones whose descriptors alone are used.
#[derive(Serialize, Deserialize)]
struct Ends {
    raw_in: Receiver<()>,
    raw_out: Sender<()>,
    numbers_in: Receiver<u64>,
    numbers_out: Sender<u64>,
    samples_in: Receiver<Sample>,
    packets_in: Receiver<Packet>,
    big_in: Receiver<()>,
    control: Receiver<Block>,
}

/// The other process. Errors end it, which ends the benchmark with the error.
fn serve(core: usize, ends: Ends) -> Result<f64, String> {
    serve_blocks(core, ends).map_err(|error| error.to_string())
}

fn serve_blocks(core: usize, mut ends: Ends) -> Result<f64, Error> {
    pin(core)?;
    let mut buffers = Buffers::new();
    let mut used = 0.0;
    while let Ok(block) = ends.control.recv() {
        match block {
            Block::RawEcho(count) => {
                stream::echo::<8>(&ends.raw_in, &ends.raw_out, count)?;
                continue;
            }
            Block::TypedEcho(count) => {
                for _ in 0..count {
                    let number = ends.numbers_in.recv()?;
                    ends.numbers_out.send(&number)?;
                }
                continue;
            }
            Block::RawSamples(count) => used += buffers.drain_samples(&ends.raw_in, count)?,
            Block::TypedSamples(count) => {
                for _ in 0..count {
                    used += ends.samples_in.recv()?.sum();
                }
            }
            Block::TypedPackets(count) => {
                for _ in 0..count {
                    used += ends.packets_in.recv()?.sum();
                }
            }
            Block::RawBig(count) => used += buffers.read_big(&ends.raw_in, count)?,
            Block::TypedBig(count) => {
                for _ in 0..count {
                    let len = ends.big_in.recv_bytes_into(&mut buffers.big)?;
                    used += f64::from(buffers.big[len - 1]);
                }
            }
        }
        // Everything of the block has arrived.
        stream::write_all(&ends.raw_out, &[0; 8])?;
    }
    Ok(used)
}

/// This process's ends.
struct Ours {
    raw_out: Sender<()>,
    raw_in: Receiver<()>,
    numbers_out: Sender<u64>,
    numbers_in: Receiver<u64>,
    samples_out: Sender<Sample>,
    packets_out: Sender<Packet>,
    big_out: Sender<()>,
    control: Sender<Block>,
    big: Vec<u8>,
}

impl Ours {
    fn raw_echo(&mut self, count: u64) -> Result<Duration, Error> {
        self.control.send(&Block::RawEcho(count + UNTIMED))?;
        stream::round_trips(count, |number| stream::ping::<8>(&self.raw_out, &self.raw_in, number))
    }

    fn typed_echo(&mut self, count: u64) -> Result<Duration, Error> {
        self.control.send(&Block::TypedEcho(count + UNTIMED))?;
        stream::round_trips(count, |number| {
            self.numbers_out.send(&number)?;
            Ok(self.numbers_in.recv()?)
        })
    }

    /// Times one-way blocks: from the first message to the answer that all have arrived.
    fn one_way(
        &mut self,
        block: Block,
        send: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<Duration, Error> {
        self.control.send(&block)?;
        let start = Instant::now();
        send(self)?;
        stream::read_exactly(&self.raw_in, &mut [0; 8])?;
        Ok(start.elapsed())
    }
}

pub(crate) fn run(bench: &mut Bench) -> Result<(), Error> {
    for placement in placements() {
        pinned(placement.ours, || run_placed(bench, placement))??;
    }
    Ok(())
}

fn run_placed(bench: &mut Bench, placement: Placement) -> Result<(), Error> {
    let (raw_out, raw_in) = pipe()?;
    let (raw_back, raw_answers) = pipe()?;
    let (numbers_out, numbers_in) = pipe()?;
    let (numbers_back, numbers_answers) = pipe()?;
    let (samples_out, samples_in) = pipe()?;
    let (packets_out, packets_in) = pipe()?;
    let (big_out, big_in) = pipe()?;
    let (control, commands) = pipe()?;
    let theirs = Ends {
        raw_in,
        raw_out: raw_back,
        numbers_in,
        numbers_out: numbers_back,
        samples_in,
        packets_in,
        big_in,
        control: commands,
    };
    let server = Process::spawn(serve, (placement.theirs, theirs))?;
    let ours = std::cell::RefCell::new(Ours {
        raw_out,
        raw_in: raw_answers,
        numbers_out,
        numbers_in: numbers_answers,
        samples_out,
        packets_out,
        big_out,
        control,
        big: vec![7; BIG_LEN],
    });
    let two_cores = placement.ours != placement.theirs;

    // About 30 ms a block, in which wake-ups of a sleeper on another core cost some 60 µs a round trip.
    let round_trips = if two_cores { 500 } else { 8_000 };
    bench.compare(
        &format!("ping-pong u64, {}", placement.name),
        Unit::Microseconds,
        round_trips,
        1,
        vec![
            Subject::new("raw pipe", |count| ours.borrow_mut().raw_echo(count)),
            Subject::new("ipc", |count| ours.borrow_mut().typed_echo(count))
                .against("raw pipe", Target::AtMost(if two_cores { 1.05 } else { 1.15 })),
        ],
    )?;

    let samples = 60_000;
    bench.compare(
        &format!("one way 64 B, {}", placement.name),
        Unit::PerSecond,
        samples,
        1,
        vec![
            Subject::new("raw pipe, a write each", |count| {
                ours.borrow_mut().one_way(Block::RawSamples(count), |ours| {
                    (0..count).try_for_each(|n| stream::write_all(&ours.raw_out, &Sample::new(n).to_bytes()))
                })
            }),
            Subject::new("ipc, a send each", |count| {
                ours.borrow_mut().one_way(Block::TypedSamples(count), |ours| {
                    (0..count).try_for_each(|n| Ok(ours.samples_out.send(&Sample::new(n))?))
                })
            })
            .form_of_ipc(format!("one way 64 B, a send each, {}", placement.name))
            .against("raw pipe, a write each", Target::AtLeast(0.95)),
            Subject::new("ipc, a send each, bytes", |count| {
                ours.borrow_mut().one_way(Block::TypedPackets(count), |ours| {
                    (0..count).try_for_each(|n| Ok(ours.packets_out.send(&Packet::new(n))?))
                })
            })
            .form_of_ipc(format!("one way 64 B as a block of bytes, a send each, {}", placement.name))
            .against("raw pipe, a write each", Target::AtLeast(0.95)),
            Subject::new("ipc, batch", |count| {
                ours.borrow_mut().one_way(Block::TypedSamples(count), |ours| {
                    ours.samples_out.send_all((0..count).map(Sample::new))?;
                    Ok(())
                })
            })
            .form_of_ipc(format!("one way 64 B, batch, {}", placement.name))
            .against("ipc, a send each", Target::AtLeast(5.0)),
        ],
    )?;

    bench.compare(
        &format!("one way 1 MiB, {}", placement.name),
        Unit::GigabytesPerSecond,
        64,
        BIG_LEN as u64,
        vec![
            Subject::new("raw pipe", |count| {
                ours.borrow_mut().one_way(Block::RawBig(count), |ours| {
                    (0..count).try_for_each(|_| stream::write_all(&ours.raw_out, &ours.big))
                })
            }),
            Subject::new("ipc", |count| {
                ours.borrow_mut().one_way(Block::TypedBig(count), |ours| {
                    (0..count).try_for_each(|_| Ok(ours.big_out.send_bytes(&ours.big)?))
                })
            })
            .against("raw pipe", Target::AtLeast(0.9)),
        ],
    )?;

    // The control pipe's end tells the other process to end.
    drop(ours);
    server.join()??;
    Ok(())
}
