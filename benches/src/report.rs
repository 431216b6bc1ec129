//! Results for people and for programs.

use std::io;
use std::path::Path;

use crate::harness::{Measured, Target};
use crate::provenance::{Provenance, provenance};

#[derive(serde::Serialize)]
struct Report<'a> {
    provenance: Provenance,
    results: &'a [Measured],
}

pub(crate) fn write_json(path: &Path, results: &[Measured]) -> io::Result<()> {
    let report = Report { provenance: provenance(), results };
    let mut text = serde_json::to_string_pretty(&report)?;
    text.push('\n');
    std::fs::write(path, text)
}

/// A table, a block a case: the figure, its range over the blocks, and the ratio where there is one.
pub(crate) fn print(results: &[Measured]) {
    let mut case = ("", "");
    for measured in results {
        if case != (&measured.bench, &measured.case) {
            case = (&measured.bench, &measured.case);
            println!("\n{}: {}", measured.bench, measured.case);
        }
        let range = format!("{} … {}", figure(measured.min), figure(measured.max));
        print!("  {:<24} {:>9} {:<5} {:<20}", measured.subject, figure(measured.value), measured.unit, range);
        if let Some(c) = &measured.compared {
            print!("  {:.3} of {} ({:.3} … {:.3})", c.ratio, c.against, c.ratio_low, c.ratio_high);
            if let Some(target) = c.target {
                let met = if target.is_met(c.ratio) { "met" } else { "NOT MET" };
                match target {
                    Target::AtMost(limit) => print!("  at most {limit}: {met}"),
                    Target::AtLeast(limit) => print!("  at least {limit}: {met}"),
                }
            }
        }
        println!();
    }
}

/// Three digits that mean something, and a suffix for large numbers.
fn figure(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e4 => format!("{:.1} k", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
