//! How many packages from outside each public crate brings along.

use std::collections::BTreeSet;

use super::Finding;
use crate::cargo::{self, Package};
use crate::failure::Outcome;

/// How far a limit may lie above what is used.
pub(super) const SLACK: usize = 3;

/// Finds crates that bring more than their limit or have none, and limits that are too generous.
pub(super) fn check(counts: &[(String, usize)], limits: &[(&str, usize)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, count) in counts {
        let text = match limits.iter().find(|(limited, _)| limited == name) {
            None => format!("brings {count} packages along and has no limit in tidy's list"),
            Some((_, max)) if count > max => format!("brings {count} packages along, {max} are allowed"),
            Some((_, max)) if count + SLACK < *max => {
                format!("brings {count} packages along: lower its limit of {max}")
            }
            Some(_) => continue,
        };
        findings.push(Finding::new(name, text));
    }
    for (limited, _) in limits.iter().filter(|(limited, _)| !counts.iter().any(|(name, _)| name == limited)) {
        findings.push(Finding::new(*limited, "has a limit of dependencies, but is no public crate"));
    }
    findings
}

/// Asks cargo what each public crate depends on, on this platform, with all its features.
pub(super) fn count_all(packages: &[Package]) -> Outcome<Vec<(String, usize)>> {
    packages
        .iter()
        .filter(|package| package.public)
        .map(|package| {
            let shape = ["tree", "--edges", "normal", "--prefix", "none", "--all-features", "--package"];
            let mut command = cargo::cargo(shape);
            command.arg(&package.name);
            Ok((package.name.clone(), external(&cargo::output(command)?).len()))
        })
        .collect()
}

/// The packages in cargo's flat list that do not come from a directory.
fn external(tree: &str) -> BTreeSet<(&str, &str)> {
    tree.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, version) = (words.next()?, words.next()?);
            words.next().is_none_or(|origin| !origin.starts_with("(/")).then_some((name, version))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(count: usize, limits: &[(&str, usize)]) -> Vec<String> {
        check(&[("a".to_owned(), count)], limits).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn counts_every_package_once_and_none_of_ours() {
        let tree = "a v0.1.0 (/src/a)\nserde v1.0.1\nderive v1.0.1 (proc-macro)\nb v0.1.0 (/src/b)\n\
                    serde v1.0.1\nserde v2.0.0 (*)\nb v0.1.0 (/src/b) (*)\n";
        assert_eq!(external(tree).len(), 3);
    }

    #[test]
    fn counts_what_is_there() {
        let metadata = crate::cargo::Metadata::workspace().unwrap();
        let core: Vec<Package> = metadata.package("ipc-core").cloned().into_iter().collect();
        let counts = count_all(&core).unwrap();
        assert_eq!(counts.len(), 1);
        assert!(counts[0].1 > 0, "serde at least: {counts:?}");
    }

    #[test]
    fn limits_hold_in_both_directions() {
        assert_eq!(found(5, &[("a", 5)]), [""; 0]);
        assert_eq!(found(5, &[("a", 8)]), [""; 0]);
        assert_eq!(found(5, &[("a", 4)]), ["a: brings 5 packages along, 4 are allowed"]);
        assert_eq!(found(5, &[("a", 9)]), ["a: brings 5 packages along: lower its limit of 9"]);
    }

    #[test]
    fn crates_and_limits_match_one_another() {
        assert_eq!(found(5, &[]), ["a: brings 5 packages along and has no limit in tidy's list"]);
        let stale = found(5, &[("a", 5), ("gone", 1)]);
        assert_eq!(stale, ["gone: has a limit of dependencies, but is no public crate"]);
    }
}
