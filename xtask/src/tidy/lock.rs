//! Where the packages in `Cargo.lock` come from.

use super::Finding;

/// The only registry that the lock file may name, in two parts: see [`super::left_overs`].
const REGISTRY: &str = concat!("registry+", "https://github.com/rust-lang/crates", ".io-index");

/// Finds packages that come from another registry, or from a repository.
pub(super) fn check(lock: &str) -> Vec<Finding> {
    let sources = lock.lines().zip(1..).filter_map(|(line, number)| {
        let source = line.strip_prefix("source = ")?.trim_matches('"');
        (source != REGISTRY).then_some((number, source))
    });
    sources
        .map(|(line, source)| Finding::new(format!("Cargo.lock:{line}"), format!("comes from {source}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_source_is_found() {
        assert!(check(&format!("[[package]]\nname = \"a\"\nsource = \"{REGISTRY}\"\n")).is_empty());
        let bad = "[[package]]\nname = \"a\"\nsource = \"git+https://example.org/a\"\n";
        assert_eq!(check(bad), [Finding::new("Cargo.lock:3", "comes from git+https://example.org/a")]);
    }
}
