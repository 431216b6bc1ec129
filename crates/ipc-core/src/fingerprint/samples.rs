//! The values that visitors are answered with.
//!
//! Number 0 of each list suits nearly every type; the others are for types that check what they read, in
//! the order in which they are likely to pass.

const NUMBERS: [i64; 32] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 24, 30, 42, 60, 64, 80, 100, 127, 128, 255, 256, 1000,
    1024, 2020, 4096, 65_535, 1_000_000, -1,
];

const STRINGS: [&str; 32] = [
    "",
    "a",
    "1",
    "0",
    "127.0.0.1",
    "127.0.0.1:80",
    "::1",
    "[::1]:80",
    "2020-01-01T00:00:00Z",
    "2020-01-01",
    "00:00:00",
    "2020-01-01T00:00:00",
    "00000000-0000-4000-8000-000000000000",
    "http://localhost/",
    "localhost",
    "a@example.org",
    "1.0.0",
    "/",
    "/a",
    "A",
    "AA",
    "AAAA",
    "aa",
    "00",
    "true",
    "en",
    "UTC",
    "0.5",
    "#000000",
    "a.b",
    "{}",
    "10.0.0.0/8",
];

const CHARS: [char; 12] = ['a', '0', 'A', '\0', ' ', '1', '/', '.', 'z', '-', '\n', '\u{1F600}'];

const FLOATS: [f64; 8] = [0.0, 1.0, 0.5, -1.0, 2.0, 10.0, 100.0, 1e6];

const LENGTHS: [usize; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64];

static ZEROS: [u8; 64] = [0; 64];

/// A number, to be cut to the size that is asked for.
pub(super) fn number(sample: usize) -> i64 {
    NUMBERS[sample % NUMBERS.len()]
}

pub(super) fn string(sample: usize) -> &'static str {
    STRINGS[sample % STRINGS.len()]
}

pub(super) fn char(sample: usize) -> char {
    CHARS[sample % CHARS.len()]
}

pub(super) fn float(sample: usize) -> f64 {
    FLOATS[sample % FLOATS.len()]
}

/// How many elements a sequence has.
pub(super) fn length(sample: usize) -> usize {
    LENGTHS[sample % LENGTHS.len()]
}

/// Zeros are what fixed-size identifiers and hashes take; text is what a C string or a path does.
pub(super) fn bytes(sample: usize) -> &'static [u8] {
    match sample {
        0 => &[],
        1 => b"a",
        sample => &ZEROS[..length(sample)],
    }
}
