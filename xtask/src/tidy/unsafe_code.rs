//! Where unsafe code stands, and that crates without it forbid it.

use std::path::Path;

use super::Finding;
use super::rust_text::{code_only, line_of, words};
use super::tree::{File, relative};
use crate::cargo::Package;

/// Finds unsafe code outside of the listed places, crates without any that do not forbid it, and places in the
/// list that have none. `roots` are the root files of libraries and binaries.
pub(super) fn check(files: &[File], roots: &[String], allowed: &[(&str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut places = Vec::new();
    for file in files {
        let code = code_only(&file.text);
        let Some(offset) = words(&code, "unsafe").next() else {
            continue;
        };
        places.push(file.path.as_str());
        if !allowed.iter().any(|(place, reason)| covers(place, &file.path) && !reason.is_empty()) {
            let place = format!("{}:{}", file.path, line_of(&code, offset));
            findings.push(Finding::new(place, "unsafe code in a file that is not on tidy's list"));
        }
    }
    for root in roots {
        let dir = root.rsplit_once('/').map_or("", |(dir, _)| dir);
        let has_unsafe = places.iter().any(|path| covers(&format!("{dir}/"), path));
        let file = files.iter().find(|file| file.path == *root);
        if !has_unsafe && !file.is_some_and(|file| forbids(&file.text)) {
            findings.push(Finding::new(root, "has no unsafe code, but no `#![forbid(unsafe_code)]` either"));
        }
    }
    for (place, _) in allowed.iter().filter(|(place, _)| !places.iter().any(|path| covers(place, path))) {
        findings.push(Finding::new(*place, "is on tidy's list of unsafe code without need"));
    }
    findings
}

/// The root files of all libraries and binaries.
pub(super) fn roots(packages: &[Package], root: &Path) -> Vec<String> {
    let targets = packages.iter().flat_map(|package| &package.targets);
    targets
        .filter(|target| ["lib", "bin", "proc-macro"].iter().any(|kind| target.is(kind)))
        .map(|target| relative(root, &target.source))
        .collect()
}

/// Whether `place`, a file or a directory with `/` at its end, is or holds `path`.
fn covers(place: &str, path: &str) -> bool {
    if place.ends_with('/') { path.starts_with(place) } else { path == place }
}

fn forbids(text: &str) -> bool {
    let code: String = code_only(text).split_whitespace().collect();
    code.contains("#![forbid(unsafe_code)]")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAFE: &str = "//! No unsafe code.\n#![forbid(unsafe_code)]\nfn f() { \"unsafe\"; }";
    const UNSAFE: &str = "fn f() {\n unsafe { g() }\n}";

    fn found(files: &[(&str, &str)], allowed: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> = files.iter().map(|(path, text)| File::new(path, text)).collect();
        let roots: Vec<String> =
            files.iter().map(|file| file.path.clone()).filter(|path| path.ends_with("lib.rs")).collect();
        check(&files, &roots, allowed).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn unsafe_code_only_where_it_is_listed() {
        assert_eq!(found(&[("a/src/lib.rs", SAFE)], &[]), [""; 0]);
        let files = [("a/src/lib.rs", SAFE), ("a/tests/it/alloc.rs", UNSAFE)];
        let finding = "a/tests/it/alloc.rs:2: unsafe code in a file that is not on tidy's list";
        assert_eq!(found(&files, &[]), [finding]);
        assert_eq!(found(&files, &[("a/tests/it/alloc.rs", "")]), [finding], "no reason given");
        assert_eq!(found(&files, &[("a/tests/it/alloc.rs", "an allocator")]), [""; 0]);
        assert_eq!(found(&files, &[("a/tests/", "allocators")]), [""; 0]);
    }

    #[test]
    fn attributes_and_functions_count_as_well() {
        for text in ["#[unsafe(no_mangle)]\nfn f() {}", "unsafe fn f() {}", "unsafe impl Send for A {}"] {
            assert_eq!(found(&[("a/tests/x.rs", text)], &[]).len(), 1, "{text}");
        }
    }

    #[test]
    fn a_safe_crate_has_to_forbid_it() {
        let finding = "a/src/lib.rs: has no unsafe code, but no `#![forbid(unsafe_code)]` either";
        for text in ["fn f() {}", "#![deny(unsafe_code)]", "// #![forbid(unsafe_code)]"] {
            assert_eq!(found(&[("a/src/lib.rs", text)], &[]), [finding], "{text}");
        }
        let files = [("a/src/lib.rs", "mod b;"), ("a/src/b.rs", UNSAFE)];
        assert_eq!(found(&files, &[("a/src/b.rs", "system calls")]), [""; 0]);
    }

    #[test]
    fn an_entry_without_need_is_found() {
        let finding = "a/src/: is on tidy's list of unsafe code without need";
        assert_eq!(found(&[("a/src/lib.rs", SAFE)], &[("a/src/", "system calls")]), [finding]);
    }
}
