//! Files that have grown beyond one concept.

use super::Finding;
use super::tree::File;

/// Beyond this a file needs a reason.
pub(super) const LINES_MAX: usize = 800;

/// Beyond this a file is worth a look.
const LINES_NOTED: usize = 500;

/// Finds files that are too long, and reasons that are no longer needed.
pub(super) fn check(files: &[File], reasons: &[(&str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        let lines = file.text.lines().count();
        if lines > LINES_MAX && !has_reason(reasons, &file.path) {
            findings
                .push(Finding::new(&file.path, format!("{lines} lines, {LINES_MAX} are allowed: split it")));
        }
    }
    for (path, _) in reasons {
        let long = |file: &File| file.path == *path && file.text.lines().count() > LINES_MAX;
        if !files.iter().any(long) {
            findings.push(Finding::new(*path, "is in tidy's list of long files without need"));
        }
    }
    findings
}

/// The files that are long, but not too long.
pub(super) fn notes(files: &[File], reasons: &[(&str, &str)]) -> Vec<Finding> {
    let lengths = files.iter().map(|file| (&file.path, file.text.lines().count()));
    lengths
        .filter(|(path, lines)| *lines > LINES_NOTED && *lines <= LINES_MAX || has_reason(reasons, path))
        .map(|(path, lines)| Finding::new(path, format!("{lines} lines")))
        .collect()
}

fn has_reason(reasons: &[(&str, &str)], path: &str) -> bool {
    reasons.iter().any(|(allowed, reason)| *allowed == path && !reason.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(lines: usize) -> Vec<File> {
        vec![File::new("a.rs", &"x\n".repeat(lines))]
    }

    #[test]
    fn too_long_is_found_unless_there_is_a_reason() {
        assert!(check(&file(LINES_MAX), &[]).is_empty());
        assert_eq!(check(&file(LINES_MAX + 1), &[]).len(), 1);
        assert!(check(&file(LINES_MAX + 1), &[("a.rs", "one table")]).is_empty());
        assert_eq!(check(&file(LINES_MAX + 1), &[("a.rs", "")]).len(), 1);
    }

    #[test]
    fn a_reason_without_need_is_found() {
        assert_eq!(check(&file(LINES_MAX), &[("a.rs", "one table")]).len(), 1);
        assert_eq!(check(&[], &[("gone.rs", "one table")]).len(), 1);
    }

    #[test]
    fn long_is_noted() {
        assert!(notes(&file(LINES_NOTED), &[]).is_empty());
        assert_eq!(notes(&file(LINES_NOTED + 1), &[]).len(), 1);
        assert!(notes(&file(LINES_MAX + 1), &[]).is_empty(), "an error, not a note");
        assert_eq!(notes(&file(LINES_MAX + 1), &[("a.rs", "one table")]).len(), 1);
    }
}
