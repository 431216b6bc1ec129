//! `cargo xtask bench [TARGET…] [--quick] [--case TEXT]… [--json FILE] [--peers]`: the `ipc` crates beside the limits
//! of the machine (and beside other crates), measured between processes on named cores, the things compared taken in
//! turns in one run.
#![deny(unsafe_code)]

mod directory;
mod driven;
mod harness;
mod peers;
mod pipe;
mod place;
mod producers;
mod provenance;
mod pthread;
mod python;
mod queue;
mod raw;
mod report;
mod sample;
mod shm;
mod socket;
mod spawn;
mod stats;
mod stream;
mod sync;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use harness::Bench;

/// Measures the ipc crates between processes, beside the limits of the machine.
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Args {
    /// What to measure; everything, if nothing is named.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS.map(|(name, _)| name)))]
    targets: Vec<String>,
    /// Fewer and shorter blocks: about half a minute a target.
    #[arg(long)]
    quick: bool,
    /// Measures only the cases whose names contain it.
    #[arg(long, value_name = "TEXT")]
    case: Vec<String>,
    /// Writes the results there, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measures other crates as well, with that program; `cargo xtask bench --peers` builds it and fills it in.
    #[arg(long, value_name = "PROGRAM")]
    peers: Option<PathBuf>,
}

type Target = fn(&mut Bench) -> ipc::Result<(), Box<dyn std::error::Error>>;

const TARGETS: [(&str, Target); 6] = [
    ("pipe", pipe::run),
    ("spawn", spawn::run),
    ("sync", sync::run),
    ("shm", shm::run),
    ("queue", |bench| queue::run(bench).and_then(|()| producers::run(bench))),
    ("socket", socket::run),
];

fn main() -> ExitCode {
    // What `spawn` compares with: this executable, ending at once in `main`.
    if std::env::args().nth(1).as_deref() == Some(spawn::EXIT_AT_ONCE) {
        return ExitCode::SUCCESS;
    }
    ipc::init();
    let args = Args::parse();
    let mut bench = Bench::new(args.quick, args.case, args.peers);
    for (name, target) in TARGETS {
        if args.targets.is_empty() || args.targets.iter().any(|wanted| wanted == name) {
            bench.begin(name);
            if let Err(error) = target(&mut bench) {
                eprintln!("bench {name}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let results = bench.finish();
    if results.is_empty() {
        eprintln!("bench: no case of that name here");
        return ExitCode::FAILURE;
    }
    report::print(&results);
    if let Some(path) = args.json {
        if let Err(error) = report::write_json(&path, &results) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
        println!("\nwritten to {}", path.display());
    }
    ExitCode::SUCCESS
}
