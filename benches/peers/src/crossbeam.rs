//! crossbeam-channel: threads of this process, bounded channels, blocking calls.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::message::{Message, Operation, check};
use crate::place::{now, pin};
use crate::settings::Settings;
use crate::{Error, Peer};

pub(crate) const NAME: &str = "crossbeam";

type Channel<T> = (Sender<T>, Receiver<T>);

pub(crate) struct Crossbeam {
    cores: (usize, usize),
    numbers: Channel<u64>,
    answers: Channel<u64>,
    messages: Channel<Message>,
}

/// Tells a receiver that all has been sent.
const END: u64 = u64::MAX;

/// Which of two senders a number comes from.
const SENDER: u64 = 1 << 63;

impl Crossbeam {
    pub(crate) fn new(settings: Settings) -> Self {
        let Settings { cores, capacity, .. } = settings;
        Crossbeam {
            cores,
            numbers: bounded(capacity),
            answers: bounded(capacity),
            messages: bounded(capacity),
        }
    }
}

/// What a thread of a block does, and on which core.
type Part<'a> = (usize, Box<dyn FnOnce() -> Result<(), Error> + Send + 'a>);

fn part<'a>(core: usize, run: impl FnOnce() -> Result<(), Error> + Send + 'a) -> Part<'a> {
    (core, Box::new(run))
}

/// Runs all parts at once; the time from the first beginning to the last end.
fn together(parts: Vec<Part<'_>>) -> Result<Duration, Error> {
    let (here, all) = (&AtomicUsize::new(0), parts.len());
    let run = move |(core, part): Part<'_>| -> Result<(Duration, Duration), Error> {
        pin(core)?;
        here.fetch_add(1, AcqRel);
        while here.load(Acquire) < all {
            // They may share a core.
            std::thread::yield_now();
        }
        let start = now()?;
        part()?;
        Ok((start, now()?))
    };
    let times: Vec<_> = std::thread::scope(|scope| {
        // The others would wait for ever for a part that has failed.
        let run = |part| run(part).unwrap_or_else(|error| crate::fail(error));
        let threads: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || run(part))).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Result<_, _>>()
    })
    .map_err(|_| "a thread panicked")?;
    let start = times.iter().map(|(start, _)| *start).min().unwrap_or_default();
    let end = times.iter().map(|(_, end)| *end).max().unwrap_or_default();
    Ok(end.saturating_sub(start))
}

impl Peer for Crossbeam {
    fn block(&mut self, operation: Operation, count: u64) -> Result<Duration, Error> {
        let Crossbeam { cores: (first, second), numbers, answers, messages } = &*self;
        let (first, second) = (*first, *second);
        match operation {
            Operation::PingPong => together(vec![
                part(first, || {
                    for number in 0..count {
                        numbers.0.send(number)?;
                        check(answers.1.recv()?, number)?;
                    }
                    Ok(())
                }),
                part(second, || {
                    for _ in 0..count {
                        answers.0.send(numbers.1.recv()?)?;
                    }
                    Ok(())
                }),
            ]),
            Operation::OneWay64 => together(vec![
                part(first, || {
                    for number in 0..count {
                        messages.0.send(Message::new(number))?;
                    }
                    Ok(())
                }),
                part(second, || {
                    for expected in 0..count {
                        messages.1.recv()?.check(expected)?;
                    }
                    Ok(())
                }),
            ]),
            Operation::TwoTwo => {
                let left = &AtomicUsize::new(2);
                let send = |sender: u64, count: u64| {
                    move || {
                        for number in 0..count {
                            numbers.0.send(sender | number)?;
                        }
                        if left.fetch_sub(1, AcqRel) == 1 {
                            numbers.0.send(END)?;
                            numbers.0.send(END)?;
                        }
                        Ok(())
                    }
                };
                // Each receiver sees some of the numbers of each sender, in the order sent.
                let sums = &[const { AtomicUsize::new(0) }; 2];
                let receive = || {
                    let (mut next, mut sum) = ([0; 2], [0; 2]);
                    loop {
                        let got = numbers.1.recv()?;
                        if got == END {
                            break;
                        }
                        let (sender, number) = (usize::from(got & SENDER != 0), got & !SENDER);
                        if number < next[sender] {
                            return Err("a sender's numbers came out of order".into());
                        }
                        next[sender] = number + 1;
                        sum[sender] += number as usize;
                    }
                    for (all, sum) in sums.iter().zip(sum) {
                        all.fetch_add(sum, AcqRel);
                    }
                    Ok(())
                };
                let counts = [count - count / 2, count / 2];
                let time = together(vec![
                    part(first, send(0, counts[0])),
                    part(second, send(SENDER, counts[1])),
                    part(first, receive),
                    part(second, receive),
                ])?;
                for (sum, count) in sums.iter().zip(counts) {
                    check(sum.load(Acquire) as u64, count * count.saturating_sub(1) / 2)?;
                }
                Ok(time)
            }
            Operation::OneWay1M | Operation::Loan8 | Operation::Loan1M => Err(operation.unknown_to(NAME)),
        }
    }
}
