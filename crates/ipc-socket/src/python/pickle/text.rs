//! What protocol 0 writes as text.

use std::borrow::Cow;

use super::super::bigint::{BigInt, DIGITS_MAX};
use super::PickleError;

type Result<T> = std::result::Result<T, PickleError>;

/// An integer in decimal: as an `i64`, or otherwise as its bytes.
pub(super) enum Number {
    Small(i64),
    Big(BigInt),
}

/// Reads an integer. `at` is where it stands.
pub(super) fn number(line: &[u8], at: usize) -> Result<Number> {
    let malformed = PickleError::Malformed { what: "no decimal number", at };
    let Ok(text) = str::from_utf8(line) else { return Err(malformed) };
    // Fewer digits than an `i64` has need no other care; `parse` would take a `+` too.
    if !text.starts_with('+')
        && let Ok(small) = text.parse()
    {
        return Ok(Number::Small(small));
    }
    if text.len() > DIGITS_MAX && text.trim_start_matches('-').len() > DIGITS_MAX {
        return Err(PickleError::IntTooLong);
    }
    BigInt::from_decimal(text).map(Number::Big).ok_or(malformed)
}

/// Reads a float.
pub(super) fn float(line: &[u8], at: usize) -> Result<f64> {
    str::from_utf8(line)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(PickleError::Malformed { what: "no float", at })
}

/// Reads the number of an entry of the memo.
pub(super) fn index(line: &[u8], at: usize) -> Result<u32> {
    str::from_utf8(line)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(PickleError::Malformed { what: "no number of an entry of the memo", at })
}

/// Reads what Python calls `raw-unicode-escape`: Latin-1 with `\u` and `\U`.
pub(super) fn raw_unicode_escape(line: &[u8], at: usize) -> Result<Cow<'_, str>> {
    if line.is_ascii()
        && !line.contains(&b'\\')
        && let Ok(text) = str::from_utf8(line)
    {
        return Ok(Cow::Borrowed(text));
    }
    let malformed = |what| PickleError::Malformed { what, at };
    // Not more than twice as long: a Latin-1 character takes two bytes of UTF-8, and an escaped one no more than before.
    let mut text = String::with_capacity(line.len() * 2);
    let mut rest = line;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            text.push(char::from(*byte));
            continue;
        }
        let digits = match rest.first() {
            Some(b'u') => 4,
            Some(b'U') => 8,
            // Any other backslash stands for itself, and so does what follows it.
            other => {
                text.push('\\');
                if let Some(byte) = other {
                    text.push(char::from(*byte));
                    rest = rest.get(1..).unwrap_or_default();
                }
                continue;
            }
        };
        let code = hex(rest.get(1..=digits)).ok_or_else(|| malformed("a broken \\u"))?;
        // What is left out here are the surrogates, and codes beyond Unicode.
        text.push(char::from_u32(code).ok_or(PickleError::NotText { at })?);
        rest = rest.get(1 + digits..).unwrap_or_default();
    }
    Ok(Cow::Owned(text))
}

/// Reads a `str` of Python 2 in quotes: ASCII, or it is no text.
pub(super) fn quoted(line: &[u8], at: usize) -> Result<Cow<'_, str>> {
    let malformed = || PickleError::Malformed { what: "no string in quotes", at };
    let inner = match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return Err(malformed()),
    };
    if !inner.contains(&b'\\') {
        return ascii(inner, at).map(Cow::Borrowed);
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let mut byte = *byte;
        if byte == b'\\' {
            let (escaped, after) = rest.split_first().ok_or_else(malformed)?;
            rest = after;
            byte = match escaped {
                b'\\' | b'\'' | b'"' => *escaped,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let code = hex(rest.get(..2)).and_then(|code| u8::try_from(code).ok());
                    rest = rest.get(2..).unwrap_or_default();
                    code.ok_or_else(malformed)?
                }
                _ => return Err(malformed()),
            };
        }
        if !byte.is_ascii() {
            return Err(PickleError::NotText { at });
        }
        text.push(char::from(byte));
    }
    Ok(Cow::Owned(text))
}

/// A `str` of Python 2, as it is: ASCII, or it is no text.
pub(super) fn ascii(bytes: &[u8], at: usize) -> Result<&str> {
    match str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Ok(text),
        _ => Err(PickleError::NotText { at }),
    }
}

/// UTF-8, which in Python may contain surrogates.
pub(super) fn utf8(bytes: &[u8], at: usize) -> Result<&str> {
    str::from_utf8(bytes).map_err(|_| PickleError::NotText { at })
}

fn hex(digits: Option<&[u8]>) -> Option<u32> {
    digits?
        .iter()
        .try_fold(0_u32, |code, digit| Some(code.checked_mul(16)? | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_unicode_escape_as_python_reads_it() {
        for (line, text) in [
            (&b"plain"[..], "plain"),
            (b"\xe9", "é"),
            (br"a\u005c\u000a\U0001f600", "a\\\n😀"),
            (br"\\u0041", r"\\u0041"),
            (br"\x41\", r"\x41\"),
            (b"", ""),
        ] {
            assert_eq!(raw_unicode_escape(line, 7).unwrap(), text);
        }
        for line in [&br"\ud800"[..], br"\ud83d\ude00", br"\U00110000", br"\Uffffffff"] {
            assert_eq!(raw_unicode_escape(line, 7), Err(PickleError::NotText { at: 7 }));
        }
        for line in [&br"\u"[..], br"\u12", br"\uzzzz", br"\u+123", br"\U1234567"] {
            assert!(
                matches!(raw_unicode_escape(line, 7), Err(PickleError::Malformed { at: 7, .. })),
                "{line:?}"
            );
        }
    }

    #[test]
    fn strings_of_python_2() {
        for (line, text) in
            [(&b"''"[..], ""), (br#""it's""#, "it's"), (br"'a\\\'\n\r\t\x00\x7f'", "a\\'\n\r\t\0\u{7f}")]
        {
            assert_eq!(quoted(line, 7).unwrap(), text);
        }
        for line in [&br"'\xff'"[..], b"'\xff'", br"'\x80\n'"] {
            assert_eq!(quoted(line, 7), Err(PickleError::NotText { at: 7 }), "{line:?}");
        }
        for line in [&b""[..], b"'", b"'a\"", br"'\q'", br"'\'", br"'\x1'"] {
            assert!(matches!(quoted(line, 7), Err(PickleError::Malformed { .. })), "{line:?}");
        }
    }
}
