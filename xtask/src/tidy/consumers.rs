//! That every public crate is used from outside the workspace, alone.

use std::path::Path;

use super::Finding;
use crate::cargo::{Metadata, Package};
use crate::consumers;
use crate::failure::Outcome;

/// The crate whose features are the mechanisms.
const UMBRELLA: &str = "ipc";

/// Features of the umbrella that are no mechanism.
const NO_MECHANISMS: [&str; 3] = ["default", "full", "test"];

/// Finds crates that no program in `consumers/` uses alone, features of the umbrella that none turns on alone,
/// and programs that are not called as they are found.
pub(super) fn check(packages: &[Package], consumers: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| package.public) {
        if package.name != UMBRELLA {
            if !consumers.iter().any(|consumer| uses_alone(consumer, &package.name, None)) {
                findings.push(Finding::new(&package.name, "no program in consumers/ uses it alone"));
            }
            continue;
        }
        for feature in package.features.iter().filter(|feature| !NO_MECHANISMS.contains(&feature.as_str())) {
            if !consumers.iter().any(|consumer| uses_alone(consumer, UMBRELLA, Some(feature))) {
                let text = format!("no program in consumers/ uses it with the feature `{feature}` alone");
                findings.push(Finding::new(UMBRELLA, text));
            }
        }
    }
    for consumer in consumers {
        let dir = consumer.dir.file_name().unwrap_or_default().to_string_lossy();
        if consumer.name != format!("consumer-{dir}")
            || !consumer.targets.iter().any(|target| target.is("bin"))
        {
            let text = format!("has to be a program called `consumer-{dir}`");
            findings.push(Finding::new(format!("consumers/{dir}"), text));
        }
    }
    findings
}

/// Whether `name` is all that `consumer` takes from the workspace, with just this feature.
fn uses_alone(consumer: &Package, name: &str, feature: Option<&str>) -> bool {
    let mut by_path = consumer.dependencies.iter().filter(|dependency| dependency.path.is_some());
    let (Some(only), None) = (by_path.next(), by_path.next()) else {
        return false;
    };
    only.name == name && only.features.iter().map(String::as_str).eq(feature)
}

/// What the manifests of all consumers say.
pub(super) fn read(root: &Path) -> Outcome<Vec<Package>> {
    let mut packages = Vec::new();
    for dir in consumers::all(root)? {
        packages.extend(Metadata::of(&dir.join("Cargo.toml"))?.packages);
    }
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::{Dependency, Kind, Target};

    fn public(name: &str, features: &[&str]) -> Package {
        Package {
            name: name.into(),
            description: String::new(),
            dir: name.into(),
            public: true,
            dependencies: vec![],
            targets: vec![Target { name: name.into(), kinds: vec!["bin".into()], source: "main.rs".into() }],
            features: features.iter().map(|feature| String::from(*feature)).collect(),
        }
    }

    fn consumer(dir: &str, uses: &[(&str, &[&str])]) -> Package {
        let dependencies = uses.iter().map(|(name, features)| Dependency {
            name: String::from(*name),
            kind: Kind::Normal,
            path: Some(Path::new("crates").join(name)),
            features: features.iter().map(|feature| String::from(*feature)).collect(),
        });
        Package {
            dir: Path::new("consumers").join(dir),
            dependencies: dependencies.collect(),
            ..public(&format!("consumer-{dir}"), &[])
        }
    }

    fn found(consumers: &[Package]) -> Vec<String> {
        let packages = [public("ipc-a", &["test"]), public("ipc", &["default", "full", "a"])];
        check(&packages, consumers).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn each_crate_and_each_feature_has_a_consumer() {
        let alone = consumer("a", &[("ipc-a", &[])]);
        let umbrella = consumer("umbrella-a", &[("ipc", &["a"])]);
        assert_eq!(found(&[alone.clone(), umbrella.clone()]), [""; 0]);
        let no_alone = "ipc-a: no program in consumers/ uses it alone";
        assert_eq!(found(std::slice::from_ref(&umbrella)), [no_alone]);
        let both = consumer("a", &[("ipc-a", &[]), ("ipc-b", &[])]);
        assert_eq!(found(&[both, umbrella.clone()]), [no_alone]);
        assert_eq!(found(&[consumer("a", &[("ipc-a", &["test"])]), umbrella]), [no_alone]);
        let no_feature = "ipc: no program in consumers/ uses it with the feature `a` alone";
        assert_eq!(found(std::slice::from_ref(&alone)), [no_feature]);
        assert_eq!(found(&[alone, consumer("umbrella-a", &[("ipc", &["a", "full"])])]), [no_feature]);
    }

    #[test]
    fn a_program_of_another_name_is_found() {
        let mut alone = consumer("a", &[("ipc-a", &[])]);
        alone.name = "a".into();
        let findings = found(&[alone, consumer("umbrella-a", &[("ipc", &["a"])])]);
        assert_eq!(findings, ["consumers/a: has to be a program called `consumer-a`"]);
    }
}
