//! `cargo xtask tidy`: what no compiler checks about the workspace as a whole.
//!
//! Each check is a function from data (paths, texts, what manifests say) to findings, in a file of its own,
//! and has a test with a bad input that it must find. What is allowed is written in [`lists`] and nowhere
//! else, so that a change to it is seen in review. The whole also runs as a test of this package.

mod consumers;
mod crates;
mod dependencies;
mod edges;
mod index;
mod inherit;
mod left_overs;
mod length;
mod links;
mod lists;
mod lock;
mod rust_text;
mod tree;
mod unsafe_code;

use std::fmt;

use clap::Args;

use crate::cargo::{self, Metadata};
use crate::failure::{Failure, Outcome};
use tree::File;

/// Check the workspace as a whole: dependencies between crates, left-overs, lengths, links, what each crate
/// must have.
#[derive(Args)]
pub(crate) struct Flags {}

/// One thing that is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    place: String,
    text: String,
}

impl Finding {
    fn new(place: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding { place: place.into(), text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// Runs every check.
pub(crate) fn run(_: &Flags) -> Outcome {
    check_all()?;
    println!("tidy");
    Ok(())
}

/// Fails with all findings of all checks; prints the notes, which are no errors.
pub(crate) fn check_all() -> Outcome {
    let root = cargo::root();
    let workspace = Metadata::workspace()?;
    let packages = &workspace.packages;
    let files = tree::files(root)?;
    let rust: Vec<File> = files.iter().filter(|file| file.path.ends_with(".rs")).cloned().collect();
    for note in length::notes(&rust, lists::LONG_FILES) {
        println!("note: {note}");
    }

    let mut findings = edges::check(packages, lists::EDGES);
    findings.extend(dependencies::check(&dependencies::count_all(packages)?, lists::DEPENDENCIES_MAX));
    findings.extend(length::check(&rust, lists::LONG_FILES));
    findings.extend(left_overs::check(&files, lists::LEFT_OVERS));
    findings.extend(lock::check(&tree::read(root, "Cargo.lock")?));
    findings.extend(crates::check(&crates::facts(packages, root)));
    // An index that is not there is one without links.
    let index = tree::read(root, index::PATH).unwrap_or_default();
    findings.extend(index::check(&index::examples(packages, root), &index));
    findings.extend(unsafe_code::check(&rust, &unsafe_code::roots(packages, root), lists::UNSAFE));
    findings.extend(inherit::check(&inherit::manifests(packages, root)?));
    findings.extend(links::check(&files, |path| root.join(path).exists()));
    findings.extend(consumers::check(packages, &consumers::read(root)?));
    verdict(&findings)
}

fn verdict(findings: &[Finding]) -> Outcome {
    if findings.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    Err(Failure::new(format!("{} things are not tidy\n{}", findings.len(), lines.join("\n"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        if let Err(failure) = check_all() {
            panic!("{failure}");
        }
    }

    #[test]
    fn any_finding_fails() {
        assert!(verdict(&[]).is_ok());
        let failure = verdict(&[Finding::new("a.rs:3", "bad")]).unwrap_err().to_string();
        assert!(failure.contains("a.rs:3: bad"), "{failure}");
    }
}
