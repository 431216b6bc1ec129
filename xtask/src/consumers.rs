//! Builds and runs the programs in `consumers/`: each stands outside the workspace and depends on one crate
//! by path, as a user's program would.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, str};

use crate::cargo::{self, Metadata};
use crate::failure::{Failure, Outcome};
use crate::watchdog::{self, Run};

/// After this a run is taken to hang.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The directories of all consumers, in order.
pub(crate) fn all(root: &Path) -> Outcome<Vec<PathBuf>> {
    let dir = root.join("consumers");
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).map_err(Failure::io(dir.display()))? {
        let path = entry.map_err(Failure::io(dir.display()))?.path();
        if path.join("Cargo.toml").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Builds each consumer into one directory, which they share, and runs it.
pub(crate) fn run() -> Outcome {
    let root = cargo::root();
    let consumers = all(root)?;
    if consumers.is_empty() {
        return Err(Failure::new("there are no consumers: the way they are found is broken"));
    }
    let target_dir = Metadata::workspace()?.target_dir.join("consumers");
    for consumer in consumers {
        let name = consumer.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let begin = Instant::now();
        // Its dependencies in the versions that the workspace was built and tested with, which are on this
        // machine by now: that is why it builds offline. Cargo drops from the copy what it does not need.
        fs::copy(root.join("Cargo.lock"), consumer.join("Cargo.lock")).map_err(Failure::io(&name))?;
        compile(&name, &consumer, &target_dir)?;
        start(&name, &target_dir.join("debug").join(format!("consumer-{name}")))?;
        println!("    {name}: {:.2} s", begin.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Builds a consumer, without the network if that is possible.
fn compile(name: &str, consumer: &Path, target_dir: &Path) -> Outcome {
    let output = build(consumer, target_dir, true).output().map_err(Failure::io(name))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    if !wants_network(&errors) {
        return Err(Failure::new(format!("consumer {name} does not build\n{errors}")));
    }
    println!("    {name}: needs packages that are not on this machine, once more with the network");
    cargo::run(build(consumer, target_dir, false))
}

/// Whether cargo gave up because it was told to stay offline.
fn wants_network(errors: &str) -> bool {
    errors.contains("--offline")
}

fn build(consumer: &Path, target_dir: &Path, offline: bool) -> Command {
    let mut command = cargo::cargo(["build", "--quiet"]);
    command.args(offline.then_some("--offline"));
    command.arg("--manifest-path").arg(consumer.join("Cargo.toml"));
    command.arg("--target-dir").arg(target_dir);
    command
}

/// Runs a consumer's program; it must end well, in time.
fn start(name: &str, program: &Path) -> Outcome {
    let mut command = Command::new(program);
    cargo::forget_this_package(&mut command);
    match watchdog::run(command, TIMEOUT).map_err(Failure::io(program.display()))? {
        Run::Ended { status, .. } if status.success() => Ok(()),
        Run::Ended { status, stderr, .. } => Err(Failure::new(format!(
            "consumer {name} ended with {status}\n{}",
            str::from_utf8(&stderr).unwrap_or("(its stderr is not UTF-8)")
        ))),
        Run::TimedOut => Err(Failure::new(format!("consumer {name} did not end within {TIMEOUT:?}"))),
        Run::LeftOutputOpen => Err(Failure::new(format!("consumer {name} left a process behind"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_consumers() {
        let names: Vec<_> = all(cargo::root()).unwrap();
        assert!(names.iter().any(|path| path.ends_with("consumers/core")), "{names:?}");
        assert!(all(Path::new("no/such/root")).is_err());
    }

    #[test]
    fn only_a_missing_package_is_worth_the_network() {
        let missing = "error: attempting to make an HTTP request, but --offline was specified";
        assert!(wants_network(missing));
        assert!(!wants_network("error[E0425]: cannot find function `open` in this scope"));
    }

    #[test]
    fn a_consumer_that_does_not_build_is_reported() {
        let nowhere = Path::new("no/such/consumer");
        let failure = compile("absent", nowhere, Path::new("no/such/target")).unwrap_err().to_string();
        assert!(failure.contains("consumer absent does not build"), "{failure}");
    }

    #[test]
    fn a_consumer_that_fails_is_reported() {
        assert!(start("good", Path::new("true")).is_ok());
        let failure = start("bad", Path::new("false")).unwrap_err().to_string();
        assert!(failure.contains("consumer bad ended with exit status: 1"), "{failure}");
        assert!(start("absent", Path::new("no/such/program")).is_err());
    }
}
