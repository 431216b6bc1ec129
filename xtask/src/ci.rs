//! `cargo xtask ci`: everything a change has to pass, one step after another.

use std::time::{Duration, Instant};

use clap::Args;

use crate::failure::{Failure, Outcome};
use crate::{cargo, consumers, crash, examples, soak, tidy};

/// Run every check: formatting, lints, docs, tidy, examples, consumers, a sample of the crash scenarios, a short soak,
/// tests.
#[derive(Args)]
pub(crate) struct Flags {
    /// Leave out the last step, `cargo test --workspace`
    #[arg(long)]
    skip_tests: bool,
}

/// One step, what to type to see it alone, and how it is done.
struct Step {
    name: &'static str,
    by_hand: &'static str,
    run: fn() -> Outcome,
}

const FORMAT: Step = Step {
    name: "format",
    by_hand: "cargo fmt --all   (and `cargo fmt` in each of consumers/)",
    run: format,
};
const LINTS: Step = Step {
    name: "clippy",
    by_hand: "cargo clippy --workspace --all-targets --all-features -- -D warnings",
    run: lints,
};
const DOCS: Step = Step {
    name: "docs",
    by_hand: "RUSTDOCFLAGS=\"-D warnings\" cargo doc --workspace --no-deps --all-features",
    run: docs,
};
const TIDY: Step = Step { name: "tidy", by_hand: "cargo xtask tidy", run: tidy::check_all };
const EXAMPLES: Step = Step {
    name: "examples",
    by_hand: "cargo run -p CRATE --example NAME   (the tour: cargo xtask tour [--kill])",
    run: examples::run,
};
const CONSUMERS: Step = Step {
    name: "consumers",
    by_hand: "cargo run --manifest-path consumers/NAME/Cargo.toml",
    run: consumers::run,
};
const CRASH: Step = Step { name: "crash", by_hand: "cargo xtask crash", run: crash::sample };
const SOAK: Step = Step { name: "soak", by_hand: "cargo xtask soak --seconds 10", run: soak::short };
const TESTS: Step = Step { name: "tests", by_hand: "cargo test --workspace", run: tests };

/// Runs the steps in order up to the first that fails, then shows where the time went.
pub(crate) fn run(flags: &Flags) -> Outcome {
    let mut steps = vec![FORMAT, LINTS, DOCS, TIDY, EXAMPLES, CONSUMERS, CRASH, SOAK];
    if !flags.skip_tests {
        steps.push(TESTS);
    }
    let mut times = Vec::new();
    let result = run_steps(&steps, &mut times);
    println!("\n{}", table(&times));
    result
}

fn run_steps(steps: &[Step], times: &mut Vec<(&'static str, Duration)>) -> Outcome {
    for (index, step) in steps.iter().enumerate() {
        println!("\n=== {}/{} {}", index + 1, steps.len(), step.name);
        let begin = Instant::now();
        let result = (step.run)();
        let elapsed = begin.elapsed();
        times.push((step.name, elapsed));
        if let Err(failure) = result {
            println!("=== {} FAILED after {:.1} s", step.name, elapsed.as_secs_f64());
            return Err(Failure::new(format!(
                "{failure}\n{} failed; to see it alone: {}",
                step.name, step.by_hand
            )));
        }
        println!("=== {} ok, {:.1} s", step.name, elapsed.as_secs_f64());
    }
    Ok(())
}

fn table(times: &[(&str, Duration)]) -> String {
    let mut text = String::from("step         seconds\n");
    for (name, time) in times {
        text += &format!("{name:<12} {:>7.1}\n", time.as_secs_f64());
    }
    let total: Duration = times.iter().map(|(_, time)| time).sum();
    text + &format!("{:<12} {:>7.1}", "total", total.as_secs_f64())
}

fn format() -> Outcome {
    cargo::run(cargo::cargo(["fmt", "--all", "--check"]))?;
    // The consumers are no members: cargo does not reach them.
    for consumer in consumers::all(cargo::root())? {
        let mut command = cargo::cargo(["fmt", "--check", "--manifest-path"]);
        command.arg(consumer.join("Cargo.toml"));
        cargo::run(command)?;
    }
    Ok(())
}

fn lints() -> Outcome {
    let flags = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    cargo::run(cargo::cargo(flags))
}

fn docs() -> Outcome {
    let mut command = cargo::cargo(["doc", "--workspace", "--no-deps", "--all-features"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    cargo::run(command)
}

fn tests() -> Outcome {
    cargo::run(cargo::cargo(["test", "--workspace"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failing_step_ends_the_run_and_says_what_to_do() {
        let good = || Step { name: "good", by_hand: "true", run: || Ok(()) };
        let bad = Step { name: "bad", by_hand: "try this", run: || Err(Failure::new("it broke")) };
        let mut times = Vec::new();
        let failure = run_steps(&[good(), bad, good()], &mut times).unwrap_err().to_string();
        assert!(failure.contains("it broke") && failure.contains("try this"), "{failure}");
        assert_eq!(times.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["good", "bad"]);
        assert!(run_steps(&[good(), good()], &mut Vec::new()).is_ok());
    }

    #[test]
    fn the_table_ends_with_the_sum() {
        let text = table(&[("a", Duration::from_secs(1)), ("b", Duration::from_millis(2500))]);
        assert_eq!(text.lines().last(), Some("total            3.5"));
    }
}
