//! The index of all examples, `examples/README.md`: complete, and true.

use std::path::Path;

use super::Finding;
use super::links;
use super::tree::{relative, resolve};
use crate::cargo::{Package, Target};
use crate::tour;

/// The index.
pub(super) const PATH: &str = "examples/README.md";

/// An example that exists.
#[derive(Clone, Debug)]
pub(super) struct Example {
    package: String,
    name: String,
    /// Where its `main` is, from the root.
    source: String,
}

/// Finds examples that the index does not link to, and commands in the index that run an example which does not exist. That its links lead somewhere is checked with all other links.
pub(super) fn check(examples: &[Example], index: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let linked: Vec<String> =
        links::targets(index).into_iter().filter_map(|(_, target)| resolve(PATH, target)).collect();
    for example in examples {
        let dir = example.source.strip_suffix("/main.rs");
        if !linked.iter().any(|link| *link == example.source || Some(link.as_str()) == dir) {
            let text =
                format!("has no link to {}, `{}` of {}", example.source, example.name, example.package);
            findings.push(Finding::new(PATH, text));
        }
    }
    for (line, number) in index.lines().zip(1..) {
        let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || "`|".contains(c)).collect();
        for pair in words.windows(2).filter(|pair| pair[0] == "--example") {
            if !examples.iter().any(|example| example.name == pair[1]) {
                findings.push(Finding::new(
                    format!("{PATH}:{number}"),
                    format!("no example is called `{}`", pair[1]),
                ));
            }
        }
    }
    findings
}

/// The examples of all crates, and the programs of the package of examples.
pub(super) fn examples(packages: &[Package], root: &Path) -> Vec<Example> {
    let all = packages.iter().flat_map(|package| package.targets.iter().map(move |target| (package, target)));
    all.filter(|(package, target)| is_example(package, target))
        .map(|(package, target)| Example {
            package: package.name.clone(),
            name: target.name.clone(),
            source: relative(root, &target.source),
        })
        .collect()
}

fn is_example(package: &Package, target: &Target) -> bool {
    target.is("example") || package.name == tour::PACKAGE && target.is("bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(name: &str, source: &str) -> Example {
        Example { package: "ipc-a".into(), name: name.into(), source: source.into() }
    }

    fn found(index: &str) -> Vec<String> {
        let examples =
            [example("hello", "crates/ipc-a/examples/hello.rs"), example("tour", "examples/tour/main.rs")];
        check(&examples, index).iter().map(Finding::to_string).collect()
    }

    const GOOD: &str = "- [hello](../crates/ipc-a/examples/hello.rs): `cargo run -p ipc-a --example hello`\n\
                        - [tour](tour/): the tour\n";

    #[test]
    fn a_complete_index_passes() {
        assert_eq!(found(GOOD), [""; 0]);
        assert_eq!(found(&GOOD.replace("(tour/)", "(tour/main.rs)")), [""; 0]);
    }

    #[test]
    fn an_example_that_is_not_in_the_index_is_found() {
        let missing = ["examples/README.md: has no link to crates/ipc-a/examples/hello.rs, `hello` of ipc-a"];
        assert_eq!(found("hello and [tour](tour)"), missing);
        assert_eq!(found("[hello](../crates/ipc-b/examples/hello.rs), [tour](tour)"), missing);
        assert_eq!(found("").len(), 2);
    }

    #[test]
    fn a_command_for_an_example_that_is_gone_is_found() {
        let index = format!("{GOOD}\nor `cargo run -p ipc-a --example goodbye`\n");
        assert_eq!(found(&index), ["examples/README.md:4: no example is called `goodbye`"]);
    }
}
