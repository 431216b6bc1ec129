//! Links in Markdown files that lead to other files of the tree, or to headings.

use super::Finding;
use super::rust_text::line_of;
use super::tree::{File, resolve};

/// Finds links to files that do not exist, out of the tree, and to headings that no file has.
pub(super) fn check(files: &[File], exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (offset, target) in targets(&file.text) {
            if is_crate_docs(&file.path) && is_item(target) {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let resolved = if path.is_empty() { Some(file.path.clone()) } else { resolve(&file.path, path) };
            let text = match resolved {
                None => format!("the link {target} leads out of the tree"),
                Some(path) if !exists(&path) => format!("the link {target} leads nowhere"),
                Some(path) if !anchor.is_empty() && !has_heading(files, &path, anchor) => {
                    format!("the link {target} leads to no heading of {path}")
                }
                Some(_) => continue,
            };
            findings.push(Finding::new(format!("{}:{}", file.path, line_of(&file.text, offset)), text));
        }
    }
    findings
}

/// The targets of all relative links, with where they stand: `[text](target)` and `[name]: target`.
pub(super) fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut offset, mut fenced) = (0, false);
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            for (at, _) in line.match_indices("](").filter(|(at, _)| !in_code(line, *at)) {
                let rest = &line[at + 2..];
                found.push((offset + at, &rest[..rest.find(')').unwrap_or(rest.len())]));
            }
            if let Some((_, target)) = line.strip_prefix('[').and_then(|line| line.split_once("]: ")) {
                found.push((offset, target));
            }
        }
        offset += line.len();
    }
    found
        .into_iter()
        .map(|(at, target)| (at, target.split_whitespace().next().unwrap_or_default()))
        .filter(|(_, target)| is_relative(target))
        .collect()
}

fn is_relative(target: &str) -> bool {
    !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:")
}

/// Whether the file is taken into the docs of a crate, where links can name items.
fn is_crate_docs(path: &str) -> bool {
    path.starts_with("crates/") && path.ends_with("/README.md")
}

/// Whether rustdoc takes `target` for an item, and checks it.
fn is_item(target: &str) -> bool {
    target.contains("::") || target.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Whether the byte at `at` stands between backquotes.
fn in_code(line: &str, at: usize) -> bool {
    line[..at].matches('`').count() % 2 == 1
}

/// Whether the Markdown file `path` has the heading that `anchor` names.
fn has_heading(files: &[File], path: &str, anchor: &str) -> bool {
    let Some(file) = files.iter().find(|file| file.path == path) else {
        return false;
    };
    if !path.ends_with(".md") {
        // A line of a source file, as in `lib.rs#L10`: nothing that could be checked.
        return true;
    }
    let mut fenced = false;
    file.text.lines().any(|line| {
        fenced ^= line.starts_with("```");
        !fenced && line.starts_with('#') && slug(line.trim_start_matches('#').trim()) == anchor
    })
}

/// The name that a heading gets as the target of links.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let files = [
            File::new("docs/a.md", text),
            File::new("docs/b.md", "# Title\n```\n# not a heading\n```\n## What `it` is, and why\n"),
        ];
        let exists = |path: &str| ["docs/a.md", "docs/b.md", "crates"].contains(&path);
        check(&files, exists).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let text = "# Own\n[b](b.md) [c](../crates/) [d](b.md#what-it-is-and-why) [e](#own)\n\
            [f](https://example.org/x.md) ![i](b.md \"title\")\n\
            ```\n[j](gone.md)\n```\n`[k](gone.md)`\n[l]: b.md\n";
        assert_eq!(found(text), [""; 0]);
    }

    #[test]
    fn docs_of_crates_may_link_to_items() {
        let dead = |path: &str, text: &str| check(&[File::new(path, text)], |_| false).len();
        assert_eq!(dead("crates/a/README.md", "[g](crate::Type) [h](Type)"), 0);
        assert_eq!(dead("crates/a/README.md", "[g](LICENSE-MIT) [h](docs/)"), 2);
        assert_eq!(dead("docs/README.md", "[g](crate::Type) [h](Type)"), 2);
    }

    #[test]
    fn dead_links_are_found() {
        assert_eq!(found("x\n[b](gone.md)"), ["docs/a.md:2: the link gone.md leads nowhere"]);
        assert_eq!(found("`x` [b](gone.md#x)"), ["docs/a.md:1: the link gone.md#x leads nowhere"]);
        assert_eq!(found("[b](../../b.md)"), ["docs/a.md:1: the link ../../b.md leads out of the tree"]);
        assert_eq!(found("[b]: gone.md"), ["docs/a.md:1: the link gone.md leads nowhere"]);
        assert_eq!(
            found("[b](b.md#gone)"),
            ["docs/a.md:1: the link b.md#gone leads to no heading of docs/b.md"]
        );
        assert_eq!(found("[b](b.md#not-a-heading)").len(), 1);
        assert_eq!(found("[b](#gone)").len(), 1);
    }
}
