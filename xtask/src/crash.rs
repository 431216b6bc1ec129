//! `cargo xtask crash`: builds the crash scenarios in release mode and becomes them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::cargo;
use crate::failure::Outcome;

/// The package of the scenarios.
const PACKAGE: &str = "ipc-crash";

/// Their binary.
const BINARY: &str = "crash";

/// Kill a process at every instruction of an operation, and let the survivors say whether all is well.
#[derive(Args)]
#[command(override_usage = "cargo xtask crash [FILTER…] [--full] [--sample N] [--list]")]
pub(crate) struct Flags {
    /// Go to the program as they are: [FILTER…] parts of names of operations (default: all); [--full] at every
    /// instruction, not at a sample; [--sample N] of how many; [--list] only name them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<OsString>,
}

/// Builds what people would run, which is optimised code, and runs it.
pub(crate) fn run(flags: &Flags) -> Outcome {
    Err(cargo::become_program(&build()?, &flags.arguments))
}

/// As the check of a change runs it.
pub(crate) fn sample() -> Outcome {
    cargo::run(cargo::to_run(&build()?))
}

fn build() -> Outcome<PathBuf> {
    cargo::build_binary(PACKAGE, BINARY, &["--release", "--quiet"])
}
