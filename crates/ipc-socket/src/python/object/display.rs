//! How an object prints: as Python would write it.

use std::fmt::{self, Write as _};

use super::Object;

/// An expression that Python evaluates to the same, with two exceptions, which `repr` makes as well: the floats `nan`
/// and `inf`. Control characters are escaped. An [`Object::BigInt`] of more than 4300 digits is in hexadecimal.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::None => f.write_str("None"),
            Object::Bool(true) => f.write_str("True"),
            Object::Bool(false) => f.write_str("False"),
            Object::Int(value) => write!(f, "{value}"),
            Object::BigInt(value) => write!(f, "{value}"),
            Object::Float(value) if value.is_nan() => f.write_str("nan"),
            // Debug prints a float so that it is recognised as one: 1.0 rather than 1.
            Object::Float(value) => write!(f, "{value:?}"),
            Object::Str(text) => quote(text, f),
            Object::Bytes(bytes) => write!(f, "b'{}'", bytes.escape_ascii()),
            Object::List(elements) => list(f, "[", elements, "]"),
            Object::Tuple(elements) if elements.len() == 1 => list(f, "(", elements, ",)"),
            Object::Tuple(elements) => list(f, "(", elements, ")"),
            Object::Set(elements) if elements.is_empty() => f.write_str("set()"),
            Object::Set(elements) => list(f, "{", elements, "}"),
            Object::FrozenSet(elements) if elements.is_empty() => f.write_str("frozenset()"),
            Object::FrozenSet(elements) => list(f, "frozenset({", elements, "})"),
            Object::Dict(entries) => {
                f.write_char('{')?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { ", " })?;
                    write!(f, "{key}: {value}")?;
                }
                f.write_char('}')
            }
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, open: &str, elements: &[Object], close: &str) -> fmt::Result {
    f.write_str(open)?;
    for (index, element) in elements.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { ", " })?;
        write!(f, "{element}")?;
    }
    f.write_str(close)
}

/// A string of Python.
fn quote(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('\'')?;
    for c in text.chars() {
        match c {
            '\'' => f.write_str("\\'")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            // All of these are below 0x100.
            c if c.is_control() => write!(f, "\\x{:02x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('\'')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_print_as_python_writes_them() {
        let one = || vec![Object::from(1)];
        let two = || vec![Object::from(1), Object::from("it's\n\u{7f}é")];
        for (object, text) in [
            (Object::None, "None"),
            (true.into(), "True"),
            (Object::from(-5), "-5"),
            (u128::MAX.into(), "340282366920938463463374607431768211455"),
            (1.0.into(), "1.0"),
            (f64::NAN.into(), "nan"),
            (f64::NEG_INFINITY.into(), "-inf"),
            (b"a\0'\xff"[..].into(), r"b'a\x00\'\xff'"),
            (Object::Tuple(vec![]), "()"),
            (Object::Tuple(one()), "(1,)"),
            (Object::Tuple(two()), r"(1, 'it\'s\n\x7fé')"),
            (Object::List(one()), "[1]"),
            (Object::Set(vec![]), "set()"),
            (Object::Set(one()), "{1}"),
            (Object::FrozenSet(vec![]), "frozenset()"),
            (Object::FrozenSet(one()), "frozenset({1})"),
            (Object::Dict(vec![]), "{}"),
            (Object::Dict(vec![(1.into(), Object::None)]), "{1: None}"),
        ] {
            assert_eq!(object.to_string(), text);
        }
    }
}
