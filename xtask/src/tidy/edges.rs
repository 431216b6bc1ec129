//! The dependencies between the packages of the workspace, held against a list.

use super::Finding;
use crate::cargo::{Kind, Package};

/// The package that only tests use: allowed as a development dependency of every package.
const TEST_SUPPORT: &str = "ipc-testkit";

/// What one package may depend on inside the workspace.
pub(super) struct Edges {
    pub(super) package: &'static str,
    pub(super) normal: &'static [&'static str],
    /// Allowed in its tests and examples, beyond what is allowed anyway.
    pub(super) dev: &'static [&'static str],
}

/// Finds dependencies that the list does not name, packages that it does not know and entries without package.
pub(super) fn check(packages: &[Package], allowed: &[Edges]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_ours = |name: &str| packages.iter().any(|package| package.name == name);
    for package in packages {
        let Some(edges) = allowed.iter().find(|edges| edges.package == package.name) else {
            findings.push(Finding::new(&package.name, "is not in tidy's list of dependency edges"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| is_ours(&dependency.name)) {
            let name = dependency.name.as_str();
            let fine = match dependency.kind {
                Kind::Normal | Kind::Build => edges.normal.contains(&name),
                Kind::Dev => {
                    let itself = name == package.name;
                    itself
                        || name == TEST_SUPPORT
                        || edges.normal.contains(&name)
                        || edges.dev.contains(&name)
                }
            };
            if !fine {
                let kind = if dependency.kind == Kind::Dev { "in its tests " } else { "" };
                findings.push(Finding::new(&package.name, format!("must not {kind}depend on {name}")));
            }
        }
    }
    for edges in allowed.iter().filter(|edges| !is_ours(edges.package)) {
        findings.push(Finding::new(
            edges.package,
            "is in tidy's list of dependency edges, but there is no such package",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::Dependency;
    use crate::tidy::lists;

    fn package(name: &str, dependencies: &[(&str, Kind)]) -> Package {
        let dependencies = dependencies.iter().map(|&(name, kind)| Dependency {
            name: name.into(),
            kind,
            path: None,
            features: vec![],
        });
        Package {
            name: name.into(),
            description: String::new(),
            dir: name.into(),
            public: true,
            dependencies: dependencies.collect(),
            targets: vec![],
            features: vec![],
        }
    }

    const ALLOWED: &[Edges] = &[
        Edges { package: "low", normal: &[], dev: &["side"] },
        Edges { package: "side", normal: &[], dev: &[] },
        Edges { package: "high", normal: &["low"], dev: &[] },
        Edges { package: TEST_SUPPORT, normal: &["low"], dev: &[] },
    ];

    fn found(low: &[(&str, Kind)], high: &[(&str, Kind)]) -> Vec<String> {
        let packages =
            [package("low", low), package("side", &[]), package("high", high), package(TEST_SUPPORT, &[])];
        check(&packages, ALLOWED).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn allowed_edges_pass() {
        let low =
            [("serde", Kind::Normal), (TEST_SUPPORT, Kind::Dev), ("side", Kind::Dev), ("low", Kind::Dev)];
        let high = [("low", Kind::Normal), ("low", Kind::Dev)];
        assert_eq!(found(&low, &high), [""; 0]);
    }

    #[test]
    fn an_arrow_that_points_up_is_found() {
        assert_eq!(found(&[("high", Kind::Normal)], &[]), ["low: must not depend on high"]);
        assert_eq!(found(&[("high", Kind::Build)], &[]), ["low: must not depend on high"]);
        assert_eq!(found(&[("high", Kind::Dev)], &[]), ["low: must not in its tests depend on high"]);
    }

    #[test]
    fn a_test_edge_does_not_allow_a_normal_one() {
        assert_eq!(found(&[("side", Kind::Normal)], &[]), ["low: must not depend on side"]);
        assert_eq!(found(&[(TEST_SUPPORT, Kind::Normal)], &[]), ["low: must not depend on ipc-testkit"]);
    }

    #[test]
    fn packages_and_entries_match_one_another() {
        let findings = check(&[package("new", &[])], &[Edges { package: "gone", normal: &[], dev: &[] }]);
        let places: Vec<&str> = findings.iter().map(|finding| finding.place.as_str()).collect();
        assert_eq!(places, ["new", "gone"]);
    }

    #[test]
    fn the_list_itself_has_no_arrow_that_points_up() {
        for (index, edges) in lists::EDGES.iter().enumerate() {
            for lower in edges.normal {
                let stands_above = lists::EDGES[..index].iter().any(|other| other.package == *lower);
                assert!(stands_above, "{} -> {lower}", edges.package);
            }
        }
    }
}
