//! The CPythons of this machine.

use std::collections::BTreeSet;
use std::io::Seek;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A CPython.
#[derive(Debug)]
pub(crate) struct Interpreter {
    pub(crate) path: PathBuf,
    pub(crate) version: (u32, u32, u32),
    /// Whether its challenges name a digest; some distributions have that in versions that did not.
    pub(crate) modern: bool,
}

const PROBE: &str = "
import os, platform, sys
import multiprocessing.connection as c
print(' '.join([platform.python_implementation()] + [str(n) for n in sys.version_info[:3]]
    + [str(int(hasattr(c, '_ALLOWED_DIGESTS'))), os.path.realpath(sys.executable)]))
";

impl Interpreter {
    fn probe(path: &Path) -> Option<(PathBuf, Self)> {
        let output = Command::new(path).args(["-c", PROBE]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let mut words = text.trim_end().splitn(6, ' ');
        let python = words.next()?;
        let numbers: Vec<u32> = words.by_ref().take(4).filter_map(|word| word.parse().ok()).collect();
        let [major, minor, micro, modern] = numbers[..] else { return None };
        let real = PathBuf::from(words.next()?);
        (python == "CPython").then(|| {
            let path = path.to_owned();
            (real, Interpreter { path, version: (major, minor, micro), modern: modern == 1 })
        })
    }

    /// What a script prints that is given `input` to read.
    pub(crate) fn run(&self, script: &str, input: &str) -> Vec<u8> {
        let mut stdin = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
        stdin.rewind().unwrap();
        let Output { status, stdout, stderr } = Command::new(&self.path)
            .args(["-c", script])
            .env("PYTHONIOENCODING", "utf-8")
            .stdin(stdin)
            .output()
            .unwrap();
        assert!(status.success(), "{self:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
        stdout
    }
}

/// All that are on `PATH` and among pyenv's versions, each once. CI must have one of them.
fn all() -> &'static [Interpreter] {
    static ALL: OnceLock<Vec<Interpreter>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut candidates = Vec::new();
        let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
        let versions = root.and_then(|root| std::fs::read_dir(root.join("versions")).ok());
        for version in versions.into_iter().flatten().flatten() {
            candidates.push(version.path().join("bin/python"));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        for directory in std::env::split_paths(&path) {
            let names = (6..30).map(|minor| format!("python3.{minor}"));
            let names = ["python3".to_owned(), "python".to_owned()].into_iter().chain(names);
            candidates.extend(names.map(|name| directory.join(name)).filter(|path| path.exists()));
        }
        let mut seen = BTreeSet::new();
        let mut all: Vec<_> = candidates
            .iter()
            .filter_map(|path| Interpreter::probe(path))
            .filter_map(|(real, interpreter)| seen.insert(real).then_some(interpreter))
            .collect();
        all.sort_by_key(|interpreter| interpreter.version);
        all
    })
}

/// Those of version 3, or of version 2; says which ones.
pub(crate) fn of_major(major: u32) -> Vec<&'static Interpreter> {
    assert!(
        std::env::var_os("CI").is_none() || all().iter().any(|python| python.version.0 == 3),
        "CI needs a CPython on PATH or under PYENV_ROOT"
    );
    let found: Vec<_> = all().iter().filter(|python| python.version.0 == major).collect();
    if found.is_empty() {
        println!("skipped: no CPython {major} on PATH or under PYENV_ROOT/versions");
    }
    for Interpreter { path, version: (major, minor, micro), modern } in &found {
        let dialect = if *modern { "modern" } else { "legacy" };
        println!("uses CPython {major}.{minor}.{micro} ({dialect} challenges): {}", path.display());
    }
    found
}
