//! `cargo xtask soak`: builds the workers that are killed at random times in release mode, and becomes them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::cargo;
use crate::failure::Outcome;

/// The package of the workers.
const PACKAGE: &str = "ipc-crash";

/// Their binary.
const BINARY: &str = "soak";

/// Kill processes that share objects at random times, again and again, and count whether anything is lost.
#[derive(Args)]
#[command(override_usage = "cargo xtask soak [FILTER…] [--seconds N] [--workers N] [--seed N] [--list]")]
pub(crate) struct Flags {
    /// Go to the program as they are: [FILTER…] parts of names of what workers do (default: everything);
    /// [--seconds N] how long (default: 30); [--workers N] how many; [--seed N] for the same times again; [--list]
    /// only name what they do
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<OsString>,
}

/// Builds what people would run, which is optimised code, and runs it.
pub(crate) fn run(flags: &Flags) -> Outcome {
    Err(cargo::become_program(&build()?, &flags.arguments))
}

/// As the check of a change runs it.
pub(crate) fn short() -> Outcome {
    let mut command = cargo::to_run(&build()?);
    command.args(["--seconds", "10"]);
    cargo::run(command)
}

fn build() -> Outcome<PathBuf> {
    cargo::build_binary(PACKAGE, BINARY, &["--release", "--quiet"])
}
