//! What was meant to go before the change was done, and what names the machine it was made on.

use super::Finding;
use super::rust_text::{code_only, line_of, words};
use super::tree::File;

/// Macros that mark unfinished code or debugging. Looked for in code only.
const MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// Notes to oneself. In two parts, here and below, so that this file does not contain them.
const NOTES: [&str; 3] = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("X", "XX")];

/// Directories of one person or one machine.
const PLACES: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// Directories that hold one directory a person.
const HOMES: [&str; 2] = [concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// Hosts and settings of package registries: which one is used is the user's business.
const REGISTRIES: [&str; 9] = [
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("crates", ".io-index"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("registry.npmjs", ".org"),
    concat!("sparse+", "http"),
    concat!("registry+", "http"),
    concat!("replace", "-with"),
];

/// Finds left-overs in any text, and allowances that nothing needs.
pub(super) fn check(files: &[File], allowed: &[(&str, &str, &str)]) -> Vec<Finding> {
    let mut needed = vec![false; allowed.len()];
    let mut findings = Vec::new();
    for file in files {
        for (offset, what) in find(file) {
            let allowance = allowed.iter().position(|(path, text, reason)| {
                *path == file.path && what.contains(text) && !text.is_empty() && !reason.is_empty()
            });
            match allowance {
                Some(index) => needed[index] = true,
                None => {
                    let place = format!("{}:{}", file.path, line_of(&file.text, offset));
                    findings.push(Finding::new(place, format!("left over: {what}")));
                }
            }
        }
    }
    for ((path, text, _), _) in allowed.iter().zip(&needed).filter(|(_, needed)| !**needed) {
        findings.push(Finding::new(*path, format!("`{text}` is in tidy's list of left-overs without need")));
    }
    findings
}

fn find(file: &File) -> Vec<(usize, String)> {
    let text = file.text.as_str();
    let mut found = Vec::new();
    if file.path.ends_with(".rs") {
        let code = code_only(text);
        for name in MACROS {
            let calls = words(&code, name).filter(|at| code[at + name.len()..].starts_with('!'));
            found.extend(calls.map(|at| (at, format!("{name}!"))));
        }
        found.extend(ignored_without_reason(text, &code));
    }
    for note in NOTES {
        found.extend(words(text, note).map(|at| (at, note.to_owned())));
    }
    for place in PLACES {
        let hits = text.match_indices(place).filter(|(at, _)| begins_a_path(text, *at));
        found.extend(hits.map(|(at, _)| (at, place.to_owned())));
    }
    for home in HOMES {
        for (at, _) in text.match_indices(home).filter(|(at, _)| begins_a_path(text, *at)) {
            let rest = &text[at + home.len()..];
            let name = rest.split(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c))).next();
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                found.push((at, format!("{home}{name}")));
            }
        }
    }
    for registry in REGISTRIES {
        found.extend(text.match_indices(registry).map(|(at, _)| (at, registry.to_owned())));
    }
    found.sort();
    found
}

/// Whether a path begins at `at`, rather than going on.
fn begins_a_path(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    !before.is_some_and(|c| c.is_alphanumeric() || "_-.~/}".contains(c))
}

/// Tests that are switched off without saying why.
fn ignored_without_reason(text: &str, code: &str) -> Vec<(usize, String)> {
    let silent = |at: usize| {
        let rest = text[at..].trim_start_matches("#[ignore").trim_start();
        rest.starts_with(']') || rest.trim_start_matches('=').trim_start().starts_with("\"\"")
    };
    let attributes = code.match_indices("#[ignore").map(|(at, _)| at);
    attributes.filter(|&at| silent(at)).map(|at| (at, "a test ignored without a reason".to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&[File::new(path, text)], &[]).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn each_left_over_is_found() {
        for name in MACROS {
            assert_eq!(
                found("a.rs", &format!("fn f() {{\n{name}!()\n}}")),
                [format!("a.rs:2: left over: {name}!")]
            );
        }
        for note in NOTES {
            assert_eq!(found("a.md", &format!("x\n\n{note}: later")), [format!("a.md:3: left over: {note}")]);
            assert_eq!(found("a.rs", &format!("// {note}")).len(), 1);
        }
        for place in PLACES {
            assert_eq!(found("a.toml", &format!("dir = \"{place}main\"")).len(), 1, "{place}");
        }
        for home in HOMES {
            assert_eq!(found("run", &format!("cd {home}someone/src")).len(), 1, "{home}");
        }
        for registry in REGISTRIES {
            assert_eq!(found("config.toml", &format!("x = \"{registry}\"")).len(), 1, "{registry}");
        }
        assert_eq!(found("a.rs", "#[test]\n#[ignore]\nfn f() {}").len(), 1);
        assert_eq!(found("a.rs", "#[test]\n#[ignore = \"\"]\nfn f() {}").len(), 1);
    }

    #[test]
    fn what_only_looks_like_one_is_not() {
        for macro_like in ["my_dbg!()", "dbg", "// say todo!() in a comment", "\"todo!()\"", "fn dbg() {}"] {
            assert_eq!(found("a.rs", macro_like), [""; 0], "{macro_like}");
        }
        assert_eq!(found("a.rs", "#[ignore = \"takes a minute\"]\nfn f() {}"), [""; 0]);
        assert_eq!(found("a.rs", &format!("\"name.{0}{0}\"", NOTES[2])), [""; 0], "a template of mkstemp");
        assert_eq!(found("a.md", &format!("crates{}x and ${{dir}}{}", PLACES[0], PLACES[0])), [""; 0]);
        assert_eq!(found("a.md", &format!("{}<name>/x", HOMES[0])), [""; 0]);
        assert_eq!(found("a.md", concat!("https://crates", ".io/crates/serde")), [""; 0]);
    }

    #[test]
    fn an_allowance_holds_for_its_file_and_must_be_needed() {
        let text = format!("cd {}someone", HOMES[0]);
        let allowance = [("a.md", "someone", "an example of a path")];
        assert!(check(&[File::new("a.md", &text)], &allowance).is_empty());
        assert_eq!(check(&[File::new("b.md", &text)], &allowance).len(), 2, "the text, and the allowance");
        assert_eq!(
            check(&[File::new("a.md", &text)], &[("a.md", "someone", "")]).len(),
            2,
            "no reason given"
        );
    }
}
