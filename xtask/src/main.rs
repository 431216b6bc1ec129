//! The workspace's own tasks, run as `cargo xtask TASK`: this file only dispatches, each task is a file.

#![forbid(unsafe_code)]

mod bench;
mod cargo;
mod ci;
mod consumers;
mod crash;
mod examples;
mod failure;
mod soak;
mod tidy;
mod tour;
mod watchdog;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "The workspace's own tasks", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Tour(tour::Flags),
    Bench(bench::Flags),
    Crash(crash::Flags),
    Soak(soak::Flags),
    Ci(ci::Flags),
    Tidy(tidy::Flags),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Tour(flags) => tour::run(&flags),
        Task::Bench(flags) => bench::run(&flags),
        Task::Crash(flags) => crash::run(&flags),
        Task::Soak(flags) => soak::run(&flags),
        Task::Ci(flags) => ci::run(&flags),
        Task::Tidy(flags) => tidy::run(&flags),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn programs_get_their_flags_untouched() {
        let cli = Cli::try_parse_from(["xtask", "tour", "--kill", "--workers", "3", "src"]).unwrap();
        let Task::Tour(tour) = cli.task else { panic!("not the tour") };
        assert_eq!(tour.arguments, ["--kill", "--workers", "3", "src"]);

        let cli = Cli::try_parse_from(["xtask", "bench", "pipe", "--quick", "--json", "out.json"]).unwrap();
        let Task::Bench(bench) = cli.task else { panic!("not the bench") };
        assert_eq!(bench.arguments, ["pipe", "--quick", "--json", "out.json"]);
    }

    #[test]
    fn unknown_flags_of_own_tasks_are_refused() {
        assert!(Cli::try_parse_from(["xtask", "ci", "--skip-test"]).is_err());
        assert!(Cli::try_parse_from(["xtask", "tidy", "everything"]).is_err());
    }
}
