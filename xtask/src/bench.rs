//! `cargo xtask bench`: builds the measurements with the profile `bench` and becomes them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::cargo::{self, Metadata};
use crate::failure::{Failure, Outcome};

/// The package of the measurements, and its binary.
const NAME: &str = "ipc-benches";

/// The program that measures other crates, a workspace of its own.
const PEERS: &str = "peers";
const PEERS_MANIFEST: &str = "benches/peers/Cargo.toml";

/// Measure the crates against the limits of the machine.
#[derive(Args)]
#[command(override_usage = "cargo xtask bench [TARGET…] [--quick] [--case TEXT]… [--json FILE] [--peers]")]
pub(crate) struct Flags {
    /// Go to the program as they are: [TARGET…] what to measure (default: everything); [--quick] fewer
    /// rounds; [--json FILE] also write the results there (a relative FILE counts from where you stand).
    /// For [--peers], which measures other crates as well, a program is built first (this may need the network)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<OsString>,
}

/// Builds the measurements and runs them in the caller's directory, from which a relative FILE counts.
pub(crate) fn run(flags: &Flags) -> Outcome {
    let arguments = with_peers(&flags.arguments, build_peers)?;
    let program = cargo::build_binary(NAME, NAME, &["--profile", "bench"])?;
    Err(cargo::become_program(&program, &arguments))
}

/// The arguments, with the path to the program that measures other crates after `--peers`.
fn with_peers(arguments: &[OsString], build: impl Fn() -> Outcome<PathBuf>) -> Outcome<Vec<OsString>> {
    let mut all = Vec::with_capacity(arguments.len() + 1);
    for argument in arguments {
        all.push(argument.clone());
        if argument == "--peers" {
            all.push(build()?.into());
        }
    }
    Ok(all)
}

fn build_peers() -> Outcome<PathBuf> {
    let directory = Metadata::workspace()?.target_dir.join(PEERS);
    let directory = directory.to_str().ok_or_else(|| Failure::new("the target directory is not UTF-8"))?;
    let arguments = ["--manifest-path", PEERS_MANIFEST, "--target-dir", directory, "--release"];
    cargo::build_binary(PEERS, PEERS, &arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_built_only_when_asked_for() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let without = with_peers(&words("pipe --quick"), || panic!("nobody asked for it"));
        assert_eq!(without.unwrap(), words("pipe --quick"));
        let with = with_peers(&words("pipe --peers --quick"), || Ok("t/peers".into()));
        assert_eq!(with.unwrap(), words("pipe --peers t/peers --quick"));
        let failed = with_peers(&words("--peers"), || Err(Failure::new("no network")));
        assert_eq!(failed.unwrap_err().to_string(), "no network");
    }
}
