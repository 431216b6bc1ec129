//! Counting. A worker and the single process that it is checked against both use this.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::{AddAssign, Range};
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use crate::files::Unit;

/// Words that are the same this far are counted as one word: otherwise a file without white space would have
/// to be held in memory as a whole. The totals do not depend on it.
const WORD_LEN_MAX: usize = 1024;

/// Words are told apart by length up to this many bytes; those that are longer count as if they were so long.
pub(crate) const LENGTHS: usize = 32;

/// How many words there are of 1 byte, of 2, and so on.
pub(crate) type Lengths = [u64; LENGTHS];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Newline bytes.
    pub(crate) lines: u64,
    /// Runs of bytes that are not white space.
    pub(crate) words: u64,
    pub(crate) bytes: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.lines += other.lines;
        self.words += other.words;
        self.bytes += other.bytes;
    }
}

/// This word was there so many times.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Word(#[serde(with = "serde_bytes")] pub(crate) Box<[u8]>, pub(crate) u64);

/// What has been counted: the totals, how often there was which word, and how long they were. Words are bytes, as in
/// files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) totals: Totals,
    pub(crate) words: HashMap<Box<[u8]>, u64>,
    pub(crate) lengths: Lengths,
}

impl Tally {
    /// Adds what another process has counted, but for the lengths, which are counted in shared memory.
    pub(crate) fn merge(&mut self, totals: Totals, words: Vec<Word>) {
        self.totals += totals;
        for Word(word, count) in words {
            *self.words.entry(word).or_default() += count;
        }
    }

    /// Counts the lines, the bytes and the words that *begin* in `range` of `text`, so that ranges that lie
    /// side by side count each word once. `text` has to hold, as far as the file does, one byte before the
    /// range and `WORD_LEN_MAX` after it.
    fn count(&mut self, text: &[u8], range: Range<usize>) {
        self.totals.bytes += range.len() as u64;
        self.totals.lines += text[range.clone()].iter().filter(|byte| **byte == b'\n').count() as u64;
        let mut at = range.start;
        if at > 0 && !is_space(text[at - 1]) {
            // In the middle of a word: it belongs to the range where it began.
            at += word_len(&text[at..]);
        }
        while at < range.end {
            if is_space(text[at]) {
                at += 1;
                continue;
            }
            let len = word_len(&text[at..]);
            self.add_word(&text[at..at + len.min(WORD_LEN_MAX)]);
            at += len;
        }
    }

    fn add_word(&mut self, word: &[u8]) {
        self.totals.words += 1;
        self.lengths[word.len().min(LENGTHS) - 1] += 1;
        // Not `entry`, which would need an owned word each time.
        match self.words.get_mut(word) {
            Some(count) => *count += 1,
            None => _ = self.words.insert(word.into(), 1),
        }
    }
}

/// White space in the C locale: space, tab, newline, vertical tab, form feed, carriage return.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn word_len(text: &[u8]) -> usize {
    text.iter().position(|byte| is_space(*byte)).unwrap_or(text.len())
}

/// Counts one unit after another into a [`Tally`].
#[derive(Debug, Default)]
pub(crate) struct Counter {
    pub(crate) tally: Tally,
    buffer: Vec<u8>,
}

impl Counter {
    /// Counts a unit, or nothing of it.
    ///
    /// # Errors
    /// When the file cannot be read, or has become shorter.
    pub(crate) fn count(&mut self, unit: &Unit) -> io::Result<()> {
        let from = unit.start.saturating_sub(1);
        let to = unit.file_len.min(unit.end + WORD_LEN_MAX as u64);
        self.buffer.resize((to - from) as usize, 0);
        let file = File::open(&unit.path)?;
        file.read_exact_at(&mut self.buffer, from).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(error.kind(), "it has become shorter while it was counted")
            }
            _ => error,
        })?;
        self.tally.count(&self.buffer, (unit.start - from) as usize..(unit.end - from) as usize);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::files;

    /// The same in the plainest way.
    fn naive(text: &[u8]) -> Tally {
        let mut tally = Tally::default();
        tally.totals.bytes = text.len() as u64;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            tally.totals.lines += u64::from(line.ends_with(b"\n"));
        }
        for word in text.split(|byte| b" \t\n\x0b\x0c\r".contains(byte)).filter(|word| !word.is_empty()) {
            tally.totals.words += 1;
            tally.lengths[word.len().clamp(1, LENGTHS) - 1] += 1;
            *tally.words.entry(word[..word.len().min(WORD_LEN_MAX)].into()).or_default() += 1;
        }
        tally
    }

    /// Bytes that look like nothing in particular, the same ones for a seed (xorshift64*).
    fn random(seed: u64, len: usize, alphabet: &[u8]) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize
        };
        (0..len).map(|_| alphabet[next() % alphabet.len()]).collect()
    }

    /// A text's part `range`, with no more around it than a unit reads.
    fn count_part(tally: &mut Tally, text: &[u8], range: Range<usize>) {
        let from = range.start.saturating_sub(1);
        let to = text.len().min(range.end + WORD_LEN_MAX);
        tally.count(&text[from..to], range.start - from..range.end - from);
    }

    fn check_split_everywhere(text: &[u8]) {
        let expected = naive(text);
        for middle in 0..=text.len() {
            let mut tally = Tally::default();
            count_part(&mut tally, text, 0..middle);
            count_part(&mut tally, text, middle..text.len());
            assert_eq!(tally, expected, "split at {middle}: {}", text.escape_ascii());
        }
        // And into parts of each small length.
        for len in 1..=9 {
            let mut tally = Tally::default();
            for start in (0..text.len()).step_by(len) {
                count_part(&mut tally, text, start..text.len().min(start + len));
            }
            assert_eq!(tally, expected, "parts of {len}: {}", text.escape_ascii());
        }
    }

    #[test]
    fn the_count_is_the_same_wherever_a_text_is_split() {
        let all: Vec<u8> = (0..=255).collect();
        for alphabet in [b"a b\n".as_slice(), b"ab \t\n\x0b\x0c\r", b" ", b"a", b"\0\x1c\x85\xa0 \n", &all] {
            for seed in 0..40 {
                check_split_everywhere(&random(seed, seed as usize * 5, alphabet));
            }
        }
    }

    #[test]
    fn words_longer_than_the_limit_are_split_anywhere_too() {
        for extra in [0, 1, 700] {
            let mut text = b"one ".to_vec();
            text.extend(vec![b'x'; WORD_LEN_MAX + extra]);
            text.extend(b" two xx\n");
            check_split_everywhere(&text);
            let words = naive(&text).words;
            assert!(words.keys().all(|word| word.len() <= WORD_LEN_MAX) && words.len() == 4);
        }
        // Two that differ only behind the limit are one.
        let mut text = vec![b'x'; WORD_LEN_MAX];
        text.extend(b"1 ");
        text.extend(vec![b'x'; WORD_LEN_MAX]);
        text.extend(b"2");
        let mut tally = Tally::default();
        count_part(&mut tally, &text, 0..text.len());
        assert_eq!((tally.totals.words, tally.words.len()), (2, 1));
    }

    #[test]
    fn tallies_of_several_processes_add_up() {
        let text = random(7, 4000, b"abc \n");
        let mut sum = Tally::default();
        for start in (0..text.len()).step_by(333) {
            let mut part = Tally::default();
            count_part(&mut part, &text, start..text.len().min(start + 333));
            let words = part.words.into_iter().map(|(word, count)| Word(word, count));
            sum.merge(part.totals, words.collect());
            sum.lengths = std::array::from_fn(|n| sum.lengths[n] + part.lengths[n]);
        }
        assert_eq!(sum, naive(&text));
    }

    #[test]
    fn units_of_a_file_make_up_the_file() {
        let text = random(3, 3 * files::UNIT_LEN as usize + 12_345, b"etaoin shrdlu\n\t,.");
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all_at(&text, 0).unwrap();
        let units = files::units(&files::find(&[file.path().to_owned()]).unwrap());
        assert_eq!(units.len(), 4);
        let mut counter = Counter::default();
        units.iter().rev().for_each(|unit| counter.count(unit).unwrap());
        assert_eq!(counter.tally, naive(&text));

        // A unit that cannot be counted leaves the tally as it was.
        file.as_file().set_len(files::UNIT_LEN + 5).unwrap();
        let error = counter.count(&units[1]).unwrap_err();
        assert_eq!(error.to_string(), "it has become shorter while it was counted");
        drop(file);
        assert_eq!(counter.count(&units[0]).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(counter.tally, naive(&text));
    }

    #[test]
    fn wc_counts_the_same() {
        let alphabet: Vec<u8> = (b' '..=b'~').chain(*b"      \n\n\t\t\x0b\x0c\r").collect();
        for seed in 0..10 {
            let text = random(seed, 20_000, &alphabet);
            let wc = Command::new("wc")
                .env("LC_ALL", "C")
                .arg("-lwc")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn();
            let Ok(mut wc) = wc else {
                println!("skipped: there is no `wc` here");
                return;
            };
            wc.stdin.take().unwrap().write_all(&text).unwrap();
            let printed = String::from_utf8(wc.wait_with_output().unwrap().stdout).unwrap();
            let counts: Vec<u64> = printed.split_whitespace().map(|count| count.parse().unwrap()).collect();
            let mut tally = Tally::default();
            tally.count(&text, 0..text.len());
            let Totals { lines, words, bytes } = tally.totals;
            assert_eq!([lines, words, bytes], *counts);
        }
    }
}
