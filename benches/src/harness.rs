//! How things are compared: in short blocks, taken in turns.
//!
//! A machine's speed drifts from second to second, and two programs measured one after the other are measured on two
//! different machines. So the subjects of a comparison take turns, a block of some tens of milliseconds each, the
//! order reversed every time; what is reported of a comparison is the median of the ratios within the turns. The
//! first turn warms up and does not count.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::peers::Peers;
use crate::place::Placement;
use crate::stats::{median, median_interval};

/// One line of the results.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Measured {
    pub(crate) bench: String,
    pub(crate) case: String,
    pub(crate) subject: String,
    pub(crate) unit: &'static str,
    /// The median of the blocks.
    pub(crate) value: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    pub(crate) compared: Option<Compared>,
}

/// A subject beside another one, block by block.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Compared {
    pub(crate) against: String,
    /// The median of value / value of the other, and its 95 % interval.
    pub(crate) ratio: f64,
    pub(crate) ratio_low: f64,
    pub(crate) ratio_high: f64,
    /// What the project promises of the ratio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<Target>,
}

/// A promise about a ratio.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    pub(crate) fn is_met(self, ratio: f64) -> bool {
        match self {
            Target::AtMost(limit) => ratio <= limit,
            Target::AtLeast(limit) => ratio >= limit,
        }
    }
}

/// What is measured of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Unit {
    /// Time for one operation.
    Microseconds,
    /// Time for one that is very short.
    Nanoseconds,
    /// Operations in a second.
    PerSecond,
    /// Bytes in a second.
    GigabytesPerSecond,
    /// Memory.
    Kibibytes,
    /// Of one core.
    Percent,
    /// A share of what each would have if all had the same.
    Share,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Microseconds => "us",
            Unit::Nanoseconds => "ns",
            Unit::PerSecond => "1/s",
            Unit::GigabytesPerSecond => "GB/s",
            Unit::Kibibytes => "KiB",
            Unit::Percent => "%",
            Unit::Share => "",
        }
    }

    /// The value for so many operations (or bytes) in that time.
    fn value(self, count: u64, time: Duration) -> f64 {
        let (count, seconds) = (count as f64, time.as_secs_f64());
        match self {
            Unit::Microseconds => seconds * 1e6 / count,
            Unit::Nanoseconds => seconds * 1e9 / count,
            Unit::PerSecond => count / seconds,
            Unit::GigabytesPerSecond => count / seconds / 1e9,
            Unit::Kibibytes | Unit::Percent | Unit::Share => unreachable!("not a matter of time"),
        }
    }
}

/// One of the things compared: what it is called, what it is held against, and a block of it.
pub(crate) struct Subject<'a> {
    name: &'static str,
    against: Vec<(&'static str, Option<Target>)>,
    /// The case under which it is reported as `ipc`, where several forms of ours take turns.
    form: Option<String>,
    /// Does so many operations and says how long they took.
    block: Box<dyn FnMut(u64) -> Result<Duration, Error> + 'a>,
}

pub(crate) type Error = Box<dyn std::error::Error>;

impl<'a> Subject<'a> {
    pub(crate) fn new(name: &'static str, block: impl FnMut(u64) -> Result<Duration, Error> + 'a) -> Self {
        Subject { name, against: Vec::new(), form: None, block: Box::new(block) }
    }

    /// Reports it as `ipc`, in a case of its own.
    pub(crate) fn form_of_ipc(mut self, case: impl Into<String>) -> Self {
        self.form = Some(case.into());
        self
    }

    /// Holds it against another subject of the same turns; against several, it has a line for each.
    pub(crate) fn against(mut self, other: &'static str, target: impl Into<Option<Target>>) -> Self {
        self.against.push((other, target.into()));
        self
    }
}

/// A run of benchmarks.
pub(crate) struct Bench {
    quick: bool,
    /// Only cases whose names contain one of these are measured; all, if there are none.
    only: Vec<String>,
    /// The program that measures other crates, if they are to be measured.
    peers: Option<PathBuf>,
    bench: &'static str,
    results: Vec<Measured>,
}

impl Bench {
    pub(crate) fn new(quick: bool, only: Vec<String>, peers: Option<PathBuf>) -> Self {
        Bench { quick, only, peers, bench: "", results: Vec::new() }
    }

    /// Other crates, on those cores; `None` without `--peers`.
    pub(crate) fn peers(&self, placement: Placement) -> Result<Option<Peers>, Error> {
        self.peers.as_deref().map(|program| Peers::start(program, placement)).transpose()
    }

    /// Whether a case is to be measured.
    pub(crate) fn wants(&self, case: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| case.contains(only.as_str()))
    }

    pub(crate) fn begin(&mut self, bench: &'static str) {
        self.bench = bench;
    }

    pub(crate) fn is_quick(&self) -> bool {
        self.quick
    }

    /// How many turns are taken.
    fn turns(&self) -> usize {
        if self.quick { 24 } else { 100 }
    }

    /// Measures subjects in turns. A block is of `count` operations, each of `weight` units (bytes, say).
    pub(crate) fn compare(
        &mut self,
        case: &str,
        unit: Unit,
        count: u64,
        weight: u64,
        subjects: Vec<Subject<'_>>,
    ) -> Result<(), Error> {
        self.compare_turns(self.turns(), case, unit, count, weight, subjects)
    }

    /// [`Bench::compare`] with a number of turns of one's own, for what takes long.
    pub(crate) fn compare_turns(
        &mut self,
        turns: usize,
        case: &str,
        unit: Unit,
        count: u64,
        weight: u64,
        mut subjects: Vec<Subject<'_>>,
    ) -> Result<(), Error> {
        if !self.wants(case) {
            return Ok(());
        }
        let mut values = vec![Vec::with_capacity(turns); subjects.len()];
        let began = Instant::now();
        for turn in 0..=turns {
            progress(self.bench, case, turn, turns, began);
            let mut order: Vec<usize> = (0..subjects.len()).collect();
            if turn % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let time = (subjects[index].block)(count)?;
                if turn > 0 {
                    values[index].push(unit.value(count * weight, time));
                }
            }
        }
        progress_done();
        for (index, subject) in subjects.iter().enumerate() {
            let own = &values[index];
            let compare = |(against, target): &(&'static str, Option<Target>)| {
                let other = subjects.iter().position(|s| s.name == *against).unwrap_or(index);
                let ratios: Vec<f64> = own.iter().zip(&values[other]).map(|(a, b)| a / b).collect();
                let (ratio_low, ratio_high) = median_interval(&ratios);
                Compared {
                    against: (*against).to_owned(),
                    ratio: median(&ratios),
                    ratio_low,
                    ratio_high,
                    target: *target,
                }
            };
            let mut compared: Vec<_> = subject.against.iter().map(|other| Some(compare(other))).collect();
            if compared.is_empty() {
                compared.push(None);
            }
            self.results.extend(compared.into_iter().map(|compared| Measured {
                bench: self.bench.to_owned(),
                case: subject.form.clone().unwrap_or_else(|| case.to_owned()),
                subject: if subject.form.is_some() { "ipc" } else { subject.name }.to_owned(),
                unit: unit.name(),
                value: median(own),
                min: own.iter().copied().fold(f64::INFINITY, f64::min),
                max: own.iter().copied().fold(0.0, f64::max),
                compared,
            }));
        }
        Ok(())
    }

    /// Reports values that were measured one by one: `value` is what is held against a limit.
    pub(crate) fn record(&mut self, case: &str, values: &[f64], value: f64, limit: f64, limit_is: String) {
        let ratio = value / limit;
        self.results.push(Measured {
            bench: self.bench.to_owned(),
            case: case.to_owned(),
            subject: "ipc".to_owned(),
            unit: Unit::Microseconds.name(),
            value,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(0.0, f64::max),
            compared: Some(Compared {
                against: limit_is,
                ratio,
                ratio_low: ratio,
                ratio_high: ratio,
                target: Some(Target::AtMost(1.0)),
            }),
        });
    }

    /// Reports the smallest of values that are each held against a limit themselves.
    pub(crate) fn record_smallest(
        &mut self,
        case: &str,
        unit: Unit,
        values: &[f64],
        of: &str,
        target: Target,
    ) {
        let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
        self.results.push(Measured {
            bench: self.bench.to_owned(),
            case: case.to_owned(),
            subject: "ipc, the smallest".to_owned(),
            unit: unit.name(),
            value: smallest,
            min: smallest,
            max: values.iter().copied().fold(0.0, f64::max),
            compared: Some(Compared {
                against: of.to_owned(),
                ratio: smallest,
                ratio_low: smallest,
                ratio_high: smallest,
                target: Some(target),
            }),
        });
    }

    /// Reports a figure by itself.
    pub(crate) fn record_plain(&mut self, case: &str, unit: Unit, value: f64) {
        self.results.push(Measured {
            bench: self.bench.to_owned(),
            case: case.to_owned(),
            subject: "ipc".to_owned(),
            unit: unit.name(),
            value,
            min: value,
            max: value,
            compared: None,
        });
    }

    pub(crate) fn progress(&self, case: &str, done: usize, of: usize, began: Instant) {
        if done == of {
            progress_done();
        } else {
            progress(self.bench, case, done, of, began);
        }
    }

    pub(crate) fn finish(self) -> Vec<Measured> {
        self.results
    }
}

/// On a terminal, what is being measured; nothing otherwise.
fn progress(bench: &str, case: &str, turn: usize, turns: usize, began: Instant) {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        let seconds = began.elapsed().as_secs();
        let _ = write!(err, "\r\x1b[K{bench}: {case}: turn {turn} of {turns}, {seconds} s");
    }
}

fn progress_done() {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[K");
    }
}
