//! `cargo xtask bench`: builds the measurements with the profile `bench` and becomes them.

use std::ffi::OsString;

use clap::Args;

use crate::cargo;
use crate::failure::Outcome;

/// The package of the measurements, and its binary.
const NAME: &str = "ipc-benches";

/// Measure the crates against the limits of the machine.
#[derive(Args)]
#[command(override_usage = "cargo xtask bench [TARGET…] [--quick] [--case TEXT]… [--json FILE]")]
pub(crate) struct Flags {
    /// Go to the program as they are: [TARGET…] what to measure (default: everything); [--quick] fewer
    /// rounds; [--json FILE] also write the results there (a relative FILE counts from where you stand)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<OsString>,
}

/// Builds the measurements and runs them in the caller's directory, from which a relative FILE counts.
pub(crate) fn run(flags: &Flags) -> Outcome {
    let program = cargo::build_binary(NAME, NAME, &["--profile", "bench"])?;
    Err(cargo::become_program(&program, &flags.arguments))
}
