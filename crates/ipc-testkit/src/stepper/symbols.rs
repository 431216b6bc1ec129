//! Names of this program's functions, which is the stepped process's program too.

use std::sync::OnceLock;

/// The name of the function at a distance from the program's load address, and the distance from its beginning.
pub(super) fn name(offset: u64) -> Option<String> {
    static SYMBOLS: OnceLock<Vec<Symbol>> = OnceLock::new();
    let symbols = SYMBOLS
        .get_or_init(|| std::fs::read("/proc/self/exe").ok().and_then(|elf| read(&elf)).unwrap_or_default());
    let after = symbols.partition_point(|symbol| symbol.start <= offset);
    let symbol = symbols[..after].last().filter(|symbol| offset < symbol.start + symbol.len)?;
    Some(format!("{}+{:#x}", readable(&symbol.name), offset - symbol.start))
}

#[derive(Debug)]
struct Symbol {
    start: u64,
    len: u64,
    name: String,
}

/// The functions in the symbol table of an ELF file of 64 bits, little-endian, sorted (System V ABI, chapter 4).
fn read(elf: &[u8]) -> Option<Vec<Symbol>> {
    const FUNCTION: u8 = 2;
    const SYMBOL_TABLE: u64 = 2;
    let number = |at: usize, len: usize| -> Option<u64> {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(elf.get(at..at.checked_add(len)?)?);
        Some(u64::from_le_bytes(bytes))
    };
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (headers, size, count) = (number(40, 8)? as usize, number(58, 2)? as usize, number(60, 2)? as usize);
    let header = |index: usize| headers.checked_add(index * size);
    let section = |header: usize| Some((number(header + 24, 8)? as usize, number(header + 32, 8)? as usize));
    let table = (0..count).filter_map(header).find(|&at| number(at + 4, 4) == Some(SYMBOL_TABLE))?;
    let (symbols, symbols_len) = section(table)?;
    let (names, _) = section(header(number(table + 40, 4)? as usize)?)?;
    let symbol = |at: usize| {
        let name = elf.get(names.checked_add(number(at, 4)? as usize)?..)?;
        let name = String::from_utf8_lossy(name.split(|&byte| byte == 0).next()?).into_owned();
        Some(Symbol { start: number(at + 8, 8)?, len: number(at + 16, 8)?, name })
    };
    let mut found: Vec<Symbol> = (0..symbols_len / 24)
        .filter_map(|index| symbols.checked_add(index * 24))
        .filter(|&at| elf.get(at + 4).is_some_and(|info| info & 15 == FUNCTION))
        .filter_map(symbol)
        .collect();
    found.sort_by_key(|symbol| symbol.start);
    Some(found)
}

/// Undoes the older of Rust's two ways to mangle names, `_ZN3std2io5Write…17h0123456789abcdefE`; others stay.
fn readable(name: &str) -> String {
    fn parts(name: &str) -> Option<Vec<&str>> {
        let mut rest = name.strip_prefix("_ZN")?;
        let mut parts = Vec::new();
        while !rest.starts_with('E') {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let len: usize = rest[..digits].parse().ok()?;
            let part = rest.get(digits..digits.checked_add(len)?)?;
            // An underscore keeps an escape from being the first character.
            parts.push(part.strip_prefix('_').filter(|part| part.starts_with('$')).unwrap_or(part));
            rest = &rest[digits + len..];
        }
        let is_hash = |part: &str| part.len() == 17 && part.starts_with('h');
        if parts.last().is_some_and(|last| is_hash(last)) {
            parts.pop();
        }
        Some(parts)
    }
    let Some(parts) = parts(name) else { return name.to_owned() };
    let escapes = [("$LT$", "<"), ("$GT$", ">"), ("$u20$", " "), ("$RF$", "&"), ("$C$", ","), ("..", "::")];
    let escapes = escapes.into_iter().chain([
        ("$LP$", "("),
        ("$RP$", ")"),
        ("$BP$", "*"),
        ("$u7b$", "{"),
        ("$u7d$", "}"),
    ]);
    escapes
        .fold(parts.join("::"), |name, (escaped, plain)| name.replace(escaped, plain))
        .replace("::_<", "::<")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_this_program_have_names() {
        let symbols = read(&std::fs::read("/proc/self/exe").unwrap()).unwrap();
        let here = symbols.iter().find(|symbol| symbol.name.contains("functions_of_this_program")).unwrap();
        let named = name(here.start + 1).unwrap();
        assert!(named.contains("functions_of_this_program") && named.ends_with("+0x1"), "{named}");
    }

    #[test]
    fn mangled_names_are_made_readable() {
        let mangled = "_ZN34_$LT$a..Lock$u20$as$u20$b..Raw$GT$4lock17h0123456789abcdefE";
        assert_eq!(readable("_ZN3std2io5Write17h0123456789abcdefE"), "std::io::Write");
        assert_eq!(readable(mangled), "<a::Lock as b::Raw>::lock");
        assert_eq!(readable("main"), "main");
    }

    #[test]
    fn what_is_no_elf_has_no_symbols() {
        assert!(read(b"").is_none());
        assert!(read(b"\x7fELF\x02\x01").is_none());
    }
}
