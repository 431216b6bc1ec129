//! Whether two counts of the same agree.

use crate::count::{Tally, Totals};
use crate::show::{grouped, shown};

/// So many words that differ are named.
const WORDS_NAMED: usize = 5;

/// What is different between the count by workers and the one by a single process; nothing, if all is well.
pub(crate) fn differences(workers: &Tally, single: &Tally) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |what: String, ours: u64, theirs: u64| {
        if ours != theirs {
            differences.push(format!(
                "{what}: {} by the workers, {} by one process",
                grouped(ours),
                grouped(theirs)
            ));
        }
    };
    let Totals { lines, words, bytes } = workers.totals;
    compare("lines".to_owned(), lines, single.totals.lines);
    compare("words".to_owned(), words, single.totals.words);
    compare("bytes".to_owned(), bytes, single.totals.bytes);
    for (index, (ours, theirs)) in workers.lengths.iter().zip(&single.lengths).enumerate() {
        compare(format!("words of {} bytes", index + 1), *ours, *theirs);
    }

    let count = |tally: &Tally, word: &[u8]| tally.words.get(word).copied().unwrap_or_default();
    let differing = workers.words.iter().filter(|(word, ours)| count(single, word) != **ours);
    let missing = single.words.keys().filter(|word| !workers.words.contains_key(*word));
    let mut words: Vec<&[u8]> = differing.map(|(word, _)| word).chain(missing).map(|word| &**word).collect();
    words.sort_unstable();
    for word in words.iter().take(WORDS_NAMED) {
        compare(format!("the word `{}`", shown(word)), count(workers, word), count(single, word));
    }
    if words.len() > WORDS_NAMED {
        differences.push(format!("and {} more words", grouped((words.len() - WORDS_NAMED) as u64)));
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::Word;

    fn tally(lines: u64, words: &[(&str, u64)]) -> Tally {
        let mut tally = Tally::default();
        let words = words.iter().map(|(word, count)| Word(word.as_bytes().into(), *count)).collect();
        tally.merge(Totals { lines, words: 3, bytes: 9 }, words);
        tally.lengths[4] = lines;
        tally
    }

    #[test]
    fn equal_counts_do_not_differ() {
        let words = [("a", 2), ("b", 1)];
        assert_eq!(differences(&tally(1, &words), &tally(1, &words)), [""; 0]);
    }

    #[test]
    fn each_difference_is_found() {
        let single = tally(1, &[("a", 2), ("b", 1)]);
        let found = |workers: &Tally| differences(workers, &single);
        assert_eq!(
            found(&tally(2, &[("a", 2), ("b", 1)])),
            [
                "lines: 2 by the workers, 1 by one process",
                "words of 5 bytes: 2 by the workers, 1 by one process"
            ]
        );
        assert_eq!(
            found(&tally(1, &[("a", 1), ("b", 1), ("c", 1)])),
            [
                "the word `a`: 1 by the workers, 2 by one process",
                "the word `c`: 1 by the workers, 0 by one process"
            ]
        );
        assert_eq!(found(&tally(1, &[("a", 2)])), ["the word `b`: 0 by the workers, 1 by one process"]);
        let many: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        let many: Vec<(&str, u64)> = many.iter().map(|word| (word.as_str(), 1)).collect();
        let found = found(&tally(1, &many));
        assert_eq!((found.len(), found[5].as_str()), (6, "and 7 more words"));
    }
}
