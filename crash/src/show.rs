//! What a person sees: bars while it runs, a line for each operation, and the total.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use ipc_testkit::stepper::{Progress, Report};

use crate::jobs::Reported;

/// Everything that is shown.
pub(crate) struct Show {
    bars: MultiProgress,
    overall: ProgressBar,
}

/// The bar of one operation, for as long as it runs.
pub(crate) struct Bar(ProgressBar);

impl Show {
    /// Bars on standard error, if that is a terminal; lines on standard output.
    pub(crate) fn new(operation_count: usize) -> Show {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bars = MultiProgress::with_draw_target(target);
        let overall = bars.add(styled(ProgressBar::new(operation_count as u64), "operations"));
        println!(
            "{:<40} {:>12} {:>8} {:>8} {:>7} {:>9} {:>8} {:>8} {:>8} {:>8}",
            "operation",
            "instructions",
            "moments",
            "visible",
            "kills",
            "completed",
            "strayed",
            "failures",
            "seconds",
            "worst ms"
        );
        Show { bars, overall }
    }

    /// A bar for an operation that begins.
    pub(crate) fn operation(&self, name: &str) -> Bar {
        Bar(self.bars.add(styled(ProgressBar::no_length(), name)))
    }

    /// An operation has ended.
    pub(crate) fn report(&self, (report, worst): &Reported) {
        let Report { name, instructions, moments, visible, kills, completed, strayed, .. } = report;
        let (failures, seconds) = (report.failures.len(), report.seconds);
        let mut lines = format!(
            "{name:<40} {instructions:>12} {moments:>8} {visible:>8} {kills:>7} {completed:>9} {strayed:>8} \
             {failures:>8} {seconds:>8.1} {:>8.1}",
            worst.as_secs_f64() * 1e3
        );
        if report.is_cut_short {
            lines += &format!("\n  cut short: {kills} of {} kills were made", report.chosen);
        }
        for failure in &report.failures {
            lines += &format!("\n  {failure}");
        }
        self.bars.suspend(|| println!("{lines}"));
        self.overall.inc(1);
    }

    /// The end.
    pub(crate) fn total(&self, reports: &[Reported], took: Duration) {
        self.overall.finish_and_clear();
        let sum = |of: fn(&Report) -> usize| reports.iter().map(|(report, _)| of(report)).sum::<usize>();
        let stepping: f64 = reports.iter().map(|(report, _)| report.seconds).sum();
        let worst = reports.iter().map(|(_, worst)| *worst).max().unwrap_or_default();
        println!(
            "operations {}, instructions {}, moments {}, kills {}, completed {}, failures {}, {:.1} s ({:.2} ms a run), \
             a survivor waited {:.1} ms at most",
            reports.len(),
            sum(|report| report.instructions),
            sum(|report| report.moments),
            sum(|report| report.kills),
            sum(|report| report.completed),
            sum(|report| report.failures.len()),
            took.as_secs_f64(),
            stepping * 1e3 / (sum(|report| report.kills + report.completed).max(1) as f64),
            worst.as_secs_f64() * 1e3,
        );
    }
}

impl Bar {
    /// So far it has come.
    pub(crate) fn progress(&self, progress: Progress) {
        if progress.of > 0 {
            self.0.set_length(progress.of as u64);
        }
        self.0.set_position(progress.done as u64);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn styled(bar: ProgressBar, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>40} [{bar:30}] {pos} of {len}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style.progress_chars("=> ")).with_prefix(what.to_owned())
}
