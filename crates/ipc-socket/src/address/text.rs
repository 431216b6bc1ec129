//! Bytes as text, and back.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::AddressError;

/// The text of bytes: as they are, but for `%`, control characters and what is no UTF-8.
pub(super) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || c.is_control() {
                escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

/// The text of a path: one that begins with an `@` must not look like an abstract name.
pub(super) fn of_path(path: &Path) -> String {
    let text = escaped(path.as_os_str().as_bytes());
    match text.strip_prefix('@') {
        Some(rest) => format!("%40{rest}"),
        None => text,
    }
}

fn escape(text: &mut String, bytes: &[u8]) {
    use std::fmt::Write;
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "%{byte:02X}");
    }
}

/// The bytes that a text stands for.
pub(super) fn unescaped(text: &str) -> Result<Vec<u8>, AddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let digit = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(AddressError::BadEscape { text: text.to_owned() });
        };
        bytes.push((high << 4 | low) as u8);
        rest = &after[2..];
    }
    Ok(bytes)
}
