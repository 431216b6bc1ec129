//! `cargo xtask soak [--seconds N] [FILTER…]`: processes that share objects of every kind and are killed at random times,
//! for as long as one likes; then everything is counted.
//!
//! # The rule
//! A worker owns a row of counters in every object. Before each operation it counts an *attempt*, in a journal that only it
//! writes, and after it that it is *done*. The operation itself adds one to its row of the object and to the object's total;
//! under a lock, or in one step. So for each row of each object
//!
//! ```text
//! done ≤ row ≤ attempts,     attempts − done ≤ how often the process of this row was killed,
//! total = sum of the rows    (exactly)
//! ```
//!
//! which means: nothing is lost, and nothing happens twice, but for the one operation that each kill cut off, which is
//! done as a whole or not at all. Whoever takes a lock checks the sum as well, unless it is told of a death.
//!
//! What goes through queues has the number of its attempt to be sent: nothing comes twice, to nobody out of turn, and what
//! was sent is missing only where somebody was killed while it received. A job is never missing; it comes again only before
//! somebody has acknowledged it, with its own id and a count of more than one delivery.
#![forbid(unsafe_code)]

mod check;
mod parent;
mod shared;
mod traffic;
mod work;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Kills processes that share objects, again and again, and counts whether anything is lost.
#[derive(Parser)]
#[command(name = "cargo xtask soak")]
struct Args {
    /// Parts of names of what workers do; everything, if nothing is named.
    filters: Vec<String>,
    /// How long.
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u64,
    /// How many processes work at the same time, 2 to 8.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u8).range(2..=8))]
    workers: u8,
    /// What the times of the kills are drawn from (default: the clock).
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only name what workers do.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    ipc_process::init();
    let args = Args::parse();
    let is_wanted = |name: &&str| {
        args.filters.is_empty() || args.filters.iter().any(|filter| name.contains(filter.as_str()))
    };
    let kinds: Vec<&str> = work::KINDS.iter().map(|kind| kind.name).filter(is_wanted).collect();
    if args.list {
        kinds.iter().for_each(|name| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    if kinds.is_empty() {
        eprintln!("workers do nothing of such a name: --list names what they do");
        return ExitCode::FAILURE;
    }
    let seed = args.seed.unwrap_or_else(shared::now).max(1);
    match parent::run(&kinds, Duration::from_secs(args.seconds), usize::from(args.workers), seed) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
