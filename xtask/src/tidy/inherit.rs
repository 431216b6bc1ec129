//! What every manifest takes over from the workspace.

use std::path::Path;

use super::Finding;
use super::tree::{File, read, relative};
use crate::cargo::Package;
use crate::failure::Outcome;

/// Section and key of what has to be inherited.
const INHERITED: [(&str, &str); 5] = [
    ("package", "version"),
    ("package", "edition"),
    ("package", "rust-version"),
    ("package", "license"),
    ("lints", ""),
];

/// Finds manifests that set for themselves what the workspace sets for all.
pub(super) fn check(manifests: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for manifest in manifests {
        for (section, key) in INHERITED {
            if !inherits(&manifest.text, section, key) {
                let what = if key.is_empty() { section } else { key };
                findings.push(Finding::new(
                    &manifest.path,
                    format!("does not inherit `{what}` from the workspace"),
                ));
            }
        }
    }
    findings
}

/// Whether `[section]` has `key.workspace = true`, or `workspace = true` if there is no key.
fn inherits(manifest: &str, section: &str, key: &str) -> bool {
    let mut current = "";
    for line in manifest.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            current = header.trim();
            continue;
        }
        let squeezed: String = line.split_whitespace().collect();
        let wanted = if key.is_empty() {
            squeezed == "workspace=true"
        } else {
            squeezed == format!("{key}.workspace=true") || squeezed == format!("{key}={{workspace=true}}")
        };
        if current == section && wanted {
            return true;
        }
    }
    false
}

/// The manifests of all packages.
pub(super) fn manifests(packages: &[Package], root: &Path) -> Outcome<Vec<File>> {
    packages
        .iter()
        .map(|package| {
            let path = relative(root, &package.dir.join("Cargo.toml"));
            Ok(File { text: read(root, &path)?, path })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"a\"\nversion.workspace = true\nedition.workspace = true\n\
        rust-version = { workspace = true }\nlicense.workspace = true # both\n\n[lints]\nworkspace = true\n";

    fn found(text: &str) -> Vec<String> {
        check(&[File::new("a/Cargo.toml", text)]).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_manifest_that_goes_its_own_way_is_found() {
        assert_eq!(found(GOOD), [""; 0]);
        let own_edition = GOOD.replace("edition.workspace = true", "edition = \"2021\"");
        assert_eq!(found(&own_edition), ["a/Cargo.toml: does not inherit `edition` from the workspace"]);
        let own_lints = GOOD.replace("[lints]", "[features]");
        assert_eq!(found(&own_lints), ["a/Cargo.toml: does not inherit `lints` from the workspace"]);
        assert_eq!(found("# [package]\n# edition.workspace = true\n").len(), INHERITED.len());
    }
}
