//! What a program without this project would do with a pipe or a socket: the same system calls through the same thin
//! layer, on buffers of the same size; it writes and reads the same payload.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::harness::Error;
use crate::sample::{SAMPLE_LEN, Sample};

/// As much as one read takes at a time, of ours as well.
const READ_MAX: usize = 64 << 10;

pub(crate) const BIG_LEN: usize = 1 << 20;

/// Round trips before the clock starts: the other process has been told of the block and is awake.
pub(crate) const UNTIMED: u64 = 16;

/// Times so many round trips, each of which is given a number and has to bring it back.
pub(crate) fn round_trips(
    count: u64,
    mut round_trip: impl FnMut(u64) -> Result<u64, Error>,
) -> Result<Duration, Error> {
    let mut start = Instant::now();
    for number in 0..count + UNTIMED {
        if number == UNTIMED {
            start = Instant::now();
        }
        if round_trip(number)? != number {
            return Err("a round trip brought something else back".into());
        }
    }
    Ok(start.elapsed())
}

/// Reads until the buffer is full. A short message comes with one read.
pub(crate) fn read_exactly(fd: &impl AsFd, buf: &mut [u8]) -> Result<(), Error> {
    let mut at = 0;
    while at < buf.len() {
        at += read(fd, &mut buf[at..])?;
    }
    Ok(())
}

fn read(fd: &impl AsFd, buf: &mut [u8]) -> Result<usize, Error> {
    match rustix::io::read(fd, buf)? {
        0 => Err("the other process has closed its end".into()),
        count => Ok(count),
    }
}

pub(crate) fn write_all(fd: &impl AsFd, bytes: &[u8]) -> Result<(), Error> {
    let mut at = 0;
    while at < bytes.len() {
        at += rustix::io::write(fd, &bytes[at..])?;
    }
    Ok(())
}

/// A number there and back, at the front of `LEN` bytes.
pub(crate) fn ping<const LEN: usize>(to: &impl AsFd, from: &impl AsFd, number: u64) -> Result<u64, Error> {
    let mut message = [0; LEN];
    message[..8].copy_from_slice(&number.to_le_bytes());
    write_all(to, &message)?;
    read_exactly(from, &mut message)?;
    Ok(u64::from_le_bytes(message[..8].try_into()?))
}

/// The other side of so many of those.
pub(crate) fn echo<const LEN: usize>(from: &impl AsFd, to: &impl AsFd, count: u64) -> Result<(), Error> {
    let mut message = [0; LEN];
    for _ in 0..count {
        read_exactly(from, &mut message)?;
        write_all(to, &message)?;
    }
    Ok(())
}

/// What one-way messages are read into.
pub(crate) struct Buffers {
    small: Vec<u8>,
    pub(crate) big: Vec<u8>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Buffers { small: vec![0; READ_MAX], big: vec![7; BIG_LEN] }
    }

    /// Reads so many samples, and uses them. Drains: one read takes all that is there, with the rest of a sample at its
    /// end kept for the next.
    pub(crate) fn drain_samples(&mut self, fd: &impl AsFd, count: u64) -> Result<f64, Error> {
        let buf = &mut self.small;
        let (mut left, mut kept, mut used) = (count as usize * SAMPLE_LEN, 0, 0.0);
        while left > 0 {
            let read = read(fd, &mut buf[kept..])?;
            left -= read;
            let (samples, rest) = buf[..kept + read].as_chunks();
            used += samples.iter().map(|sample| Sample::from_bytes(sample).sum()).sum::<f64>();
            kept = rest.len();
            let from = samples.len() * SAMPLE_LEN;
            buf.copy_within(from..from + kept, 0);
        }
        Ok(used)
    }

    /// Reads so many mebibytes, each into the same memory.
    pub(crate) fn read_big(&mut self, fd: &impl AsFd, count: u64) -> Result<f64, Error> {
        let mut used = 0.0;
        for _ in 0..count {
            read_exactly(fd, &mut self.big)?;
            used += f64::from(self.big[BIG_LEN - 1]);
        }
        Ok(used)
    }
}
