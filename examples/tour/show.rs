//! What a person sees: a progress bar while it runs, and the result.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::count::{LENGTHS, Lengths, Tally, Totals};
use crate::supervise::{Loss, Outcome, Repair};

const TOP_COUNT: usize = 10;

/// Where starting takes a larger part of the time than this, the speed-up says little.
const TINY: f64 = 0.2;

/// The lengths at which groups of words begin.
const GROUPS: [usize; 6] = [1, 3, 5, 9, 17, LENGTHS];

/// A word is shown as far as this, in characters.
const WORD_SHOWN_MAX: usize = 40;

/// A bar on standard error, if that is a terminal; otherwise one that shows nothing.
pub(crate) fn bar(what: &str, byte_count: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    const TEMPLATE: &str =
        "{prefix:>12} [{bar:40}] {percent:>3} % of {decimal_total_bytes}, {decimal_bytes_per_sec}";
    let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(byte_count).with_style(style.progress_chars("=> ")).with_prefix(what.to_owned())
}

/// `1 worker`, `2 workers`.
pub(crate) fn several(count: usize, noun: &str) -> String {
    let ending = match count {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{ending}", grouped(count as u64))
}

/// How a worker was lost.
fn loss(loss: &Loss, outcome: &Outcome) -> String {
    let Loss { pid, how, replaced } = loss;
    let killed = match outcome.victim {
        Some((victim, unit)) if victim == *pid => {
            format!(" (--kill), half way through adding unit {unit} to the histogram")
        }
        _ => String::new(),
    };
    let then = if *replaced { "; it was the last one, and another was started" } else { "" };
    format!("worker {pid} was lost{killed}: {how}{then}")
}

/// Who repaired what after whose death.
fn repair(repair: &Repair) -> String {
    let died = repair.died.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
    format!(
        "process {} was told that {died} had died with the lock of the histogram, half changed: it finished that from \
         the journal, and went on",
        repair.by
    )
}

/// Which units came to somebody else after a worker's death.
fn again(outcome: &Outcome) -> String {
    let all = &outcome.again;
    let units = several(all.len(), "unit");
    let mut text = format!("{units} that a lost worker had and had not acknowledged: delivered again");
    if let Some((unit, again)) = outcome.victim.and_then(|(_, unit)| all.get_key_value(&unit)) {
        text += &format!(
            "\n  unit {unit}, half way through which it was: delivery {} of it, to process {}",
            again.attempts, again.by
        );
    }
    let twice = all.values().filter(|again| again.was_here).count();
    if twice > 0 {
        text += &format!(
            "\n  {} of these had been counted by then, and did not count twice",
            several(twice, "unit")
        );
    }
    text
}

/// Words by their lengths, in a few groups.
fn groups(lengths: &Lengths) -> Vec<(String, u64)> {
    let group = |pair: &[usize]| {
        (format!("{} to {} bytes", pair[0], pair[1] - 1), lengths[pair[0] - 1..pair[1] - 1].iter().sum())
    };
    let mut groups: Vec<(String, u64)> = GROUPS.windows(2).map(group).collect();
    groups.push((format!("{LENGTHS} bytes and more"), lengths[LENGTHS - 1]));
    groups
}

/// What is printed of a run.
pub(crate) struct Summary<'a> {
    pub(crate) file_count: usize,
    pub(crate) unit_count: usize,
    pub(crate) worker_count: usize,
    pub(crate) outcome: &'a Outcome,
    /// How long one process took for the same; `None` if what it counted was not the same.
    pub(crate) single: Option<Duration>,
}

impl Summary<'_> {
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Summary { file_count, unit_count, worker_count, outcome, single } = *self;
        let Totals { lines, words, bytes } = outcome.tally.totals;
        let files = several(file_count, "file");
        let units = several(unit_count, "unit");
        writeln!(out, "{files}, {units} of work, {}", several(worker_count, "worker process"))?;
        writeln!(out)?;
        for (word, count) in top(&outcome.tally) {
            writeln!(out, "{:>15}  {}", grouped(count), shown(word))?;
        }
        let different = outcome.tally.words.len() as u64;
        writeln!(out)?;
        writeln!(out, "{:>15}  lines", grouped(lines))?;
        writeln!(out, "{:>15}  words, {} different ones", grouped(words), grouped(different))?;
        writeln!(out, "{:>15}  bytes", grouped(bytes))?;
        writeln!(out)?;
        for (of, count) in groups(&outcome.tally.lengths) {
            writeln!(out, "{:>15}  words of {of}", grouped(count))?;
        }
        if let Some(single) = single {
            writeln!(out)?;
            self.print_times(single, out)?;
        }
        for lost in &outcome.losses {
            writeln!(out, "\n{}", loss(lost, outcome))?;
        }
        for repaired in &outcome.repairs {
            writeln!(out, "\n{}", repair(repaired))?;
        }
        if !outcome.again.is_empty() {
            writeln!(out, "\n{}", again(outcome))?;
        }
        if single.is_some() {
            let same = "the workers and one process have counted the same, in total, of every word and of every length";
            writeln!(out, "\n{same}")?;
        }
        out.flush()
    }

    fn print_times(&self, single: Duration, out: &mut impl Write) -> io::Result<()> {
        let Outcome { tally, again, took, starting, .. } = self.outcome;
        let rate = |time| rate(tally.totals.bytes, time);
        let workers = several(self.worker_count, "worker");
        writeln!(out, "{workers:>15}  {}, {}", time(*took), rate(*took))?;
        writeln!(out, "{:>15}  {}, {}", "1 process", time(single), rate(single))?;
        let speed_up = single.as_secs_f64() / took.as_secs_f64();
        let again = if again.is_empty() { "" } else { ", with a part counted twice" };
        writeln!(out, "{:>15}  {speed_up:.2}{again}", "speed-up")?;
        writeln!(out, "{:>15}  {} until all workers ran", "of this", time(*starting))?;
        if starting.as_secs_f64() > TINY * took.as_secs_f64() {
            writeln!(out, "{:>15}  too little was counted to gain by more processes", "")?;
        }
        Ok(())
    }
}

/// The most frequent words, the frequent ones first, and those equally so in the order of their bytes.
fn top(tally: &Tally) -> Vec<(&[u8], u64)> {
    let mut words: Vec<(&[u8], u64)> = tally.words.iter().map(|(word, count)| (&**word, *count)).collect();
    let order = |a: &(&[u8], u64), b: &(&[u8], u64)| b.1.cmp(&a.1).then(a.0.cmp(b.0));
    if words.len() > TOP_COUNT {
        // Sorting millions for ten would take longer than counting them did.
        words.select_nth_unstable_by(TOP_COUNT, order);
        words.truncate(TOP_COUNT);
    }
    words.sort_unstable_by(order);
    words
}

/// A word so that it does no harm to a terminal.
pub(crate) fn shown(word: &[u8]) -> String {
    let text = match std::str::from_utf8(word) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => word.escape_ascii().to_string(),
    };
    match text.char_indices().nth(WORD_SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}

fn rate(byte_count: u64, time: Duration) -> String {
    format!("{:.1} MB/s", byte_count as f64 / 1e6 / time.as_secs_f64())
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let all = [0, 7, 999, 1_000, 12_345, 123_456, 1_234_567, u64::MAX].map(grouped);
        let expected =
            ["0", "7", "999", "1,000", "12,345", "123,456", "1,234,567", "18,446,744,073,709,551,615"];
        assert_eq!(all, expected);
    }

    #[test]
    fn each_length_is_in_one_group() {
        let groups = groups(&std::array::from_fn(|n| n as u64 + 1));
        let names: Vec<&str> = groups.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..3], ["1 to 2 bytes", "3 to 4 bytes", "5 to 8 bytes"]);
        assert_eq!(groups.iter().map(|(_, count)| count).sum::<u64>(), (1..=LENGTHS as u64).sum());
    }

    #[test]
    fn words_are_shown_harmlessly() {
        assert_eq!(shown(b"plain"), "plain");
        assert_eq!(shown("größer".as_bytes()), "größer");
        assert_eq!(shown(b"\x1b[31mred\xff"), "\\x1b[31mred\\xff");
        assert_eq!(shown("\u{9b}31m".as_bytes()), "\\xc2\\x9b31m");
        assert_eq!(shown(&[b'x'; 1000]), format!("{}…", "x".repeat(40)));
    }

    #[test]
    fn the_most_frequent_words_come_first() {
        let mut tally = Tally::default();
        for (word, count) in (0..1000_u32).map(|n| (n.to_string(), u64::from(n / 10))) {
            tally.words.insert(word.into_bytes().into(), count);
        }
        let words: Vec<_> = top(&tally).into_iter().map(|(word, _)| shown(word)).collect();
        assert_eq!(words, ["990", "991", "992", "993", "994", "995", "996", "997", "998", "999"]);
        assert_eq!(top(&Tally::default()), []);
    }
}
