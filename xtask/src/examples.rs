//! Runs every example, so that none of them rots.
//!
//! An example needs no registration. Lines at its head (before the first line that is no comment) may say
//! how to run it:
//!
//! ```text
//! // run: ARGUMENTS        once with these arguments; several such lines are several runs
//! // run: skip REASON      not at all, for example because a person has to type at it
//! ```
//!
//! and a file `NAME.expected` beside it holds what it must print to stdout, byte for byte.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, io};

use crate::cargo::{self, Metadata, Target};
use crate::failure::{Failure, Outcome};
use crate::tour;
use crate::watchdog::{self, Run};

/// After this a run is taken to hang.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What an example's head says about running it.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// One run for each list of arguments.
    Runs(Vec<Vec<String>>),
    Skip(String),
}

/// Builds and runs the examples of every crate, and the programs of the package of examples.
pub(crate) fn run() -> Outcome {
    let metadata = Metadata::workspace()?;
    let examples: Vec<(&str, &Target)> = metadata
        .packages
        .iter()
        .flat_map(|package| package.targets.iter().map(|target| (package.name.as_str(), target)))
        .filter(|(_, target)| target.is("example"))
        .collect();
    if examples.is_empty() {
        return Err(Failure::new("no crate has an example: the way they are found is broken"));
    }
    // With the features that the tests are built with: nothing is compiled twice.
    let all = cargo::build(&["--workspace", "--examples"])?;
    for (package, target) in &examples {
        // Two crates may have an example of one name: both are built to one path, and each again before it is run.
        let is_shared = examples.iter().filter(|(_, other)| other.name == target.name).count() > 1;
        let one = || cargo::build(&["-p", package, "--example", &target.name]);
        let again = is_shared.then(one).transpose()?;
        let built = again.as_ref().unwrap_or(&all);
        let program = built.iter().find(|program| program.source == target.source).ok_or_else(|| {
            Failure::new(format!(
                "example `{}` of {package} was not built: its required features are off",
                target.name
            ))
        })?;
        let label = format!("{package}::{}", target.name);
        run_all(&label, &program.path, &target.source, None)?;
    }

    let programs = metadata
        .package(tour::PACKAGE)
        .ok_or_else(|| Failure::new(format!("the workspace has no package {}", tour::PACKAGE)))?;
    let built = cargo::build(&["-p", tour::PACKAGE, "--bins", "--release"])?;
    for target in programs.targets.iter().filter(|target| target.is("bin")) {
        let program = built
            .iter()
            .find(|program| program.source == target.source)
            .ok_or_else(|| Failure::new(format!("`{}` of {} was not built", target.name, tour::PACKAGE)))?;
        let runs = (target.name == tour::BINARY).then(|| vec![vec![], vec!["--kill".to_owned()]]);
        run_all(&target.name, &program.path, &target.source, runs)?;
    }
    Ok(())
}

/// Runs one program as its head says, or with `runs` if that is given.
fn run_all(label: &str, program: &Path, source: &Path, runs: Option<Vec<Vec<String>>>) -> Outcome {
    let text = fs::read_to_string(source).map_err(Failure::io(source.display()))?;
    let plan = plan(&text).map_err(|wrong| Failure::new(format!("{}: {wrong}", source.display())))?;
    let runs = match (runs, plan) {
        (Some(runs), _) | (None, Plan::Runs(runs)) => runs,
        (None, Plan::Skip(reason)) => {
            println!("    {label}: skipped, {reason}");
            return Ok(());
        }
    };
    let expected = expected(source)?;
    for arguments in runs {
        let label =
            if arguments.is_empty() { label.to_owned() } else { format!("{label} {}", arguments.join(" ")) };
        let begin = Instant::now();
        run_one(program, &arguments, expected.as_deref(), TIMEOUT)
            .map_err(|wrong| Failure::new(format!("example {label}: {wrong}")))?;
        println!("    {label}: {:.2} s", begin.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Runs `program` once; it must end well, in time, and print what is expected.
fn run_one(
    program: &Path,
    arguments: &[String],
    expected: Option<&[u8]>,
    timeout: Duration,
) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(cargo::root());
    cargo::forget_this_package(&mut command);
    match watchdog::run(command, timeout).map_err(|error| error.to_string())? {
        Run::TimedOut => Err(format!("still running after {} s, killed", timeout.as_secs_f64())),
        Run::LeftOutputOpen => Err("ended, but left a process behind that holds its output".to_owned()),
        Run::Ended { status, stdout, stderr } if !status.success() => Err(format!(
            "ended with {status}\n--- stdout\n{}--- stderr\n{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        )),
        Run::Ended { stdout, .. } => match expected {
            Some(expected) if expected != stdout => Err(format!(
                "printed something else\n--- expected\n{}--- printed\n{}",
                String::from_utf8_lossy(expected),
                String::from_utf8_lossy(&stdout)
            )),
            _ => Ok(()),
        },
    }
}

/// What the example has to print, if there is a file that says so: `NAME.expected` beside `NAME.rs`, or
/// `NAME.expected` beside the directory `NAME` that holds its `main.rs`.
fn expected(source: &Path) -> Outcome<Option<Vec<u8>>> {
    let path = expected_path(source);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::io(path.display())(error)),
    }
}

fn expected_path(source: &Path) -> PathBuf {
    if source.file_name().is_some_and(|name| name == "main.rs") {
        source.parent().unwrap_or(source).with_extension("expected")
    } else {
        source.with_extension("expected")
    }
}

/// Reads the `run:` lines at the head of an example.
fn plan(text: &str) -> Result<Plan, String> {
    let mut runs = Vec::new();
    for line in text.lines().take_while(|line| line.starts_with("//") || line.trim().is_empty()) {
        let comment = line.trim_start_matches("//").trim_start_matches('!').trim();
        let Some(arguments) = comment.strip_prefix("run:") else {
            continue;
        };
        let words: Vec<String> = arguments.split_whitespace().map(String::from).collect();
        if words.first().is_some_and(|word| word == "skip") {
            return match words[1..].join(" ") {
                reason if reason.is_empty() => Err("`run: skip` without a reason".to_owned()),
                reason => Ok(Plan::Skip(reason)),
            };
        }
        runs.push(words);
    }
    if runs.is_empty() {
        runs.push(Vec::new());
    }
    Ok(Plan::Runs(runs))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str, expected: Option<&[u8]>, timeout: Duration) -> Result<(), String> {
        run_one(Path::new("sh"), &["-c".to_owned(), script.to_owned()], expected, timeout)
    }

    #[test]
    fn heads_say_how_to_run() {
        let once = Ok(Plan::Runs(vec![vec![]]));
        assert_eq!(plan("//! Says hello.\n\nfn main() {}\n"), once);
        assert_eq!(plan("fn main() {}\n// run: not at the head\n"), once);
        let twice = Plan::Runs(vec![vec!["--fast".into(), "3".into()], vec![]]);
        assert_eq!(plan("//! Says hello.\n//\n// run: --fast 3\n//! run:\nfn main() {}"), Ok(twice));
        assert_eq!(plan("// run: skip needs a terminal\n"), Ok(Plan::Skip("needs a terminal".into())));
        assert!(plan("// run: skip\n").is_err());
    }

    #[test]
    fn the_expected_output_lies_beside_the_example() {
        assert_eq!(expected_path(Path::new("a/examples/hello.rs")), Path::new("a/examples/hello.expected"));
        assert_eq!(
            expected_path(Path::new("a/examples/hello/main.rs")),
            Path::new("a/examples/hello.expected")
        );
    }

    #[test]
    fn a_good_run_passes() {
        assert_eq!(shell("echo hello", None, LONG), Ok(()));
        assert_eq!(shell("echo hello; echo noise >&2", Some(b"hello\n"), LONG), Ok(()));
    }

    #[test]
    fn each_kind_of_bad_run_fails() {
        let status = shell("echo before; exit 4", None, LONG).unwrap_err();
        assert!(status.contains("exit status: 4") && status.contains("before"), "{status}");
        let signal = shell("kill -9 $$", None, LONG).unwrap_err();
        assert!(signal.contains("signal: 9"), "{signal}");
        let output = shell("echo goodbye", Some(b"hello\n"), LONG).unwrap_err();
        assert!(output.contains("hello") && output.contains("goodbye"), "{output}");
        let hang = shell("exec sleep 600", None, Duration::from_millis(100)).unwrap_err();
        assert!(hang.contains("killed"), "{hang}");
    }
}
