//! `cargo xtask tour`: builds the tour for speed and becomes it.

use std::ffi::OsString;

use clap::Args;

use crate::cargo;
use crate::failure::Outcome;

/// The package of the programs that use several crates.
pub(crate) const PACKAGE: &str = "ipc-examples";

/// The tour's binary.
pub(crate) const BINARY: &str = "tour";

/// Count words of real files in worker processes, and check the result.
#[derive(Args)]
#[command(override_usage = "cargo xtask tour [PATH…] [--workers N] [--kill]")]
pub(crate) struct Flags {
    /// Go to the tour as they are: [PATH…] files and directories to count (default: the workspace's own
    /// sources); [--workers N] how many processes; [--kill] SIGKILL one of them in mid-run
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<OsString>,
}

/// Builds the tour in release mode and runs it where the caller stands.
pub(crate) fn run(flags: &Flags) -> Outcome {
    let program = cargo::build_binary(PACKAGE, BINARY, &["--release", "--quiet"])?;
    Err(cargo::become_program(&program, &flags.arguments))
}
