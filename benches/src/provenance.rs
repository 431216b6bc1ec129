//! What a figure is worth nothing without: what was measured, where.

use std::process::Command;

#[derive(serde::Serialize)]
pub(crate) struct Provenance {
    pub(crate) commit: String,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) rustc: String,
}

pub(crate) fn provenance() -> Provenance {
    Provenance {
        commit: commit(),
        kernel: read("/proc/sys/kernel/osrelease"),
        cpu: cpu(),
        cores: std::thread::available_parallelism().map_or(1, Into::into),
        rustc: output("rustc", &["--version"]),
    }
}

fn commit() -> String {
    let here = env!("CARGO_MANIFEST_DIR");
    let commit = output("git", &["-C", here, "rev-parse", "--short=12", "HEAD"]);
    let changed = output("git", &["-C", here, "status", "--porcelain", "--untracked-files=no"]);
    if changed.is_empty() || changed == UNKNOWN { commit } else { format!("{commit} and changes") }
}

fn cpu() -> String {
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or(UNKNOWN.to_owned(), |(_, name)| name.to_owned())
}

const UNKNOWN: &str = "unknown";

fn read(path: &str) -> String {
    std::fs::read_to_string(path).map_or(UNKNOWN.to_owned(), |text| text.trim().to_owned())
}

fn output(program: &str, args: &[&str]) -> String {
    match Command::new(program).args(args).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}
