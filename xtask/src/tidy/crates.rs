//! What every crate has to have.

use std::fs;
use std::path::Path;

use super::Finding;
use super::rust_text::code_only;
use crate::cargo::Package;

/// What is known about one crate.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    name: String,
    /// The last part of its path.
    dir: String,
    public: bool,
    description: String,
    has_readme: bool,
    has_changelog: bool,
    /// The text of `lib.rs`, if it is a library.
    library: Option<String>,
    example_count: usize,
}

/// Finds what is missing.
pub(super) fn check(crates: &[Facts]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for facts in crates {
        let mut require = |given: bool, what: &str| {
            if !given {
                findings.push(Finding::new(&facts.name, what));
            }
        };
        let internal = ["ipc-examples", "ipc-benches", "ipc-crash"].contains(&facts.name.as_str());
        require(internal || facts.name == facts.dir, "is not called as its directory");
        require(!facts.description.trim().is_empty(), "has no description in its manifest");
        if facts.public {
            require(facts.has_readme, "has no README.md");
            require(facts.has_changelog, "has no CHANGELOG.md");
            require(facts.example_count > 0, "has no example");
            require(facts.library.as_deref().is_some_and(has_docs), "has no library with crate docs");
        }
    }
    findings
}

/// Whether the crate's root says what the crate is: in itself or by taking in the README.
fn has_docs(library: &str) -> bool {
    let first = library.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let own = first.strip_prefix("//!").is_some_and(|text| !text.trim().is_empty());
    let code: String = code_only(library).split_whitespace().collect();
    own || code.contains("#![doc=include_str!(")
}

/// Looks at the disk.
pub(super) fn facts(packages: &[Package], root: &Path) -> Vec<Facts> {
    let facts = packages.iter().map(|package| Facts {
        name: package.name.clone(),
        dir: package.dir.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned(),
        public: package.public,
        description: package.description.clone(),
        has_readme: has_text(&package.dir.join("README.md")),
        has_changelog: has_text(&package.dir.join("CHANGELOG.md")),
        library: library(package),
        example_count: package.targets.iter().filter(|target| target.is("example")).count(),
    });
    facts.collect()
}

fn library(package: &Package) -> Option<String> {
    let target = package.targets.iter().find(|target| target.is("lib") || target.is("proc-macro"))?;
    fs::read_to_string(&target.source).ok()
}

fn has_text(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            name: "ipc-a".into(),
            dir: "ipc-a".into(),
            public: true,
            description: "Does a.".into(),
            has_readme: true,
            has_changelog: true,
            library: Some("//! Does a.".into()),
            example_count: 1,
        }
    }

    fn found(spoil: impl Fn(&mut Facts)) -> Vec<String> {
        let mut facts = good();
        spoil(&mut facts);
        check(&[facts]).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn each_missing_part_is_found() {
        assert_eq!(found(|_| {}), [""; 0]);
        assert_eq!(found(|f| f.has_readme = false), ["ipc-a: has no README.md"]);
        assert_eq!(found(|f| f.has_changelog = false), ["ipc-a: has no CHANGELOG.md"]);
        assert_eq!(found(|f| f.example_count = 0), ["ipc-a: has no example"]);
        assert_eq!(found(|f| f.description = " ".into()), ["ipc-a: has no description in its manifest"]);
        assert_eq!(found(|f| f.dir = "b".into()), ["ipc-a: is not called as its directory"]);
        for library in
            [None, Some("pub fn a() {}"), Some("//!\nmod b;"), Some("// #![doc = include_str!(\"x\")]")]
        {
            let findings = found(|f| f.library = library.map(String::from));
            assert_eq!(findings, ["ipc-a: has no library with crate docs"], "{library:?}");
        }
    }

    #[test]
    fn the_readme_can_be_the_docs() {
        assert_eq!(found(|f| f.library = Some("#![doc = include_str!(\"../README.md\")]".into())), [""; 0]);
    }

    #[test]
    fn an_internal_package_needs_less() {
        let spoil = |f: &mut Facts| (f.public, f.has_readme, f.example_count) = (false, false, 0);
        assert_eq!(found(spoil), [""; 0]);
        assert_eq!(found(|f| (f.public, f.description) = (false, String::new())).len(), 1);
    }

    #[test]
    fn the_facts_are_those_on_disk() {
        let metadata = crate::cargo::Metadata::workspace().unwrap();
        let facts = facts(&metadata.packages, crate::cargo::root());
        let xtask = facts.iter().find(|facts| facts.name == "xtask").unwrap();
        assert_eq!((xtask.public, xtask.has_readme, xtask.library.as_ref()), (false, false, None));
        assert!(facts.iter().any(|facts| facts.name == "ipc-core" && facts.library.is_some()));
    }
}
