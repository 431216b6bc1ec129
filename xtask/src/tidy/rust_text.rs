//! Rust source reduced to its code, for checks that must not trip over comments and strings.

/// `text` with comments and the contents of literals blanked out; every byte keeps its place.
pub(super) fn code_only(text: &str) -> String {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0, out: Vec::with_capacity(text.len()) };
    scanner.run();
    String::from_utf8(scanner.out).expect("only whole runs of bytes are blanked")
}

/// The byte offsets at which `word` stands by itself, not as a part of a longer identifier.
pub(super) fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = text.as_bytes();
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).map(|at| bytes[at]);
        let after = bytes.get(at + word.len()).copied();
        !before.is_some_and(is_ident) && !after.is_some_and(is_ident)
    })
}

/// The number of the line that holds the byte at `offset`, from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count()
}

fn is_ident(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

impl Scanner<'_> {
    fn run(&mut self) {
        while let Some(byte) = self.peek(0) {
            match byte {
                b'/' if self.peek(1) == Some(b'/') => self.blank_while(|s| s.peek(0) != Some(b'\n')),
                b'/' if self.peek(1) == Some(b'*') => self.block_comment(),
                b'"' => self.string(),
                b'\'' => self.quote(),
                _ if is_ident(byte) => self.identifier(),
                _ => self.keep(1),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn keep(&mut self, count: usize) {
        let end = (self.at + count).min(self.bytes.len());
        self.out.extend_from_slice(&self.bytes[self.at..end]);
        self.at = end;
    }

    fn blank(&mut self, count: usize) {
        let end = (self.at + count).min(self.bytes.len());
        self.out.extend(self.bytes[self.at..end].iter().map(|&b| if b == b'\n' { b } else { b' ' }));
        self.at = end;
    }

    fn blank_while(&mut self, more: impl Fn(&Self) -> bool) {
        while self.at < self.bytes.len() && more(self) {
            self.blank(1);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.bytes.len() {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.blank(2);
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.blank(2);
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.blank(1),
            }
        }
    }

    fn string(&mut self) {
        self.keep(1);
        while let Some(byte) = self.peek(0) {
            match byte {
                b'"' => return self.keep(1),
                b'\\' => self.blank(2),
                _ => self.blank(1),
            }
        }
    }

    /// A character or a lifetime: `'a'`, `'\n'`, `'ü'` or `'a`.
    fn quote(&mut self) {
        self.keep(1);
        let is_char = match self.peek(0) {
            Some(b'\\') => true,
            Some(first) if !first.is_ascii() => true,
            Some(_) => self.peek(1) == Some(b'\''),
            None => false,
        };
        if is_char {
            if self.peek(0) == Some(b'\\') {
                self.blank(2);
            } else {
                self.blank(1);
            }
            self.blank_while(|s| s.peek(0) != Some(b'\''));
            self.keep(1);
        }
    }

    /// An identifier, which may turn out to be the prefix of a raw string.
    fn identifier(&mut self) {
        let length = self.bytes[self.at..].iter().take_while(|&&b| is_ident(b)).count();
        let name = &self.bytes[self.at..self.at + length];
        let hashes = self.bytes[self.at + length..].iter().take_while(|&&b| b == b'#').count();
        let raw = matches!(name, b"r" | b"br" | b"cr") && self.peek(length + hashes) == Some(b'"');
        self.keep(length);
        if raw {
            self.keep(hashes + 1);
            let end = [&b"\""[..], &vec![b'#'; hashes]].concat();
            self.blank_while(|s| !s.bytes[s.at..].starts_with(&end));
            self.keep(end.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_go_and_code_stays() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            ("f(\"x \\\" y\") z", "f(\"      \") z"),
            ("r#\"a \" b\"# c", "r#\"     \"# c"),
            ("br\"a\\\" b", "br\"  \" b"),
            ("r#match x", "r#match x"),
            ("'a' 'b x", "' ' 'b x"),
            ("'\\'' y", "'  ' y"),
            ("'\"' z", "' ' z"),
            ("'ü' w", "'  ' w"),
            ("b'\\\\' v", "b'  ' v"),
            ("\"open", "\"    "),
        ];
        for (text, expected) in cases {
            assert_eq!(code_only(text), expected, "{text}");
            assert_eq!(code_only(text).len(), text.len(), "{text}");
        }
    }

    #[test]
    fn words_stand_alone() {
        let text = "unsafe unsafe_code not_unsafe (unsafe)";
        assert_eq!(words(text, "unsafe").collect::<Vec<_>>(), [0, 31]);
    }

    #[test]
    fn lines_count_from_one() {
        assert_eq!([0, 1, 2, 3].map(|offset| line_of("a\nb\n", offset)), [1, 1, 2, 2]);
    }
}
