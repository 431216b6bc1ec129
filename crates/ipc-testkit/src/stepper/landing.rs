//! How to get to a moment quickly: by a breakpoint at an instruction that is seldom executed, and single steps from
//! there.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::trace::{Moment, Trace};

/// What an unwanted visit of a breakpoint costs, in single steps: taking it out, stepping over it, putting it back.
const VISIT: usize = 4;

/// How far back to look for a place.
const LOOK_BACK: usize = 4096;

/// How far behind a landing that failed others are not tried.
const DISTRUST: usize = 200;

/// A breakpoint, and the moment it brings the process to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Landing {
    /// The index of the moment.
    pub(super) moment: usize,
    /// Where the breakpoint is.
    pub(super) rip: u64,
    /// At which visit the process is there.
    pub(super) visit: usize,
}

/// The ways to moments, which are asked for from the first to the last, once or several times.
///
/// A process that runs fast may not do what it did step by step: it has waited for less long, say, and does not look
/// after others. Then it does not come by a breakpoint in that part, and is stepped there from the last breakpoint that
/// it did come by.
#[derive(Debug, Default)]
pub(super) struct Landings {
    /// For each moment, how often its instruction had been come to; 0 where no breakpoint will do.
    visits: Vec<usize>,
    /// The last landing that succeeded.
    good: usize,
    /// Where none is tried.
    distrusted: Range<usize>,
}

impl Landings {
    /// Looks at the whole trace once.
    pub(super) fn of(trace: &Trace) -> Landings {
        let moments = &trace.moments;
        // A repeated string instruction is at its own address after each round, but comes to it only once.
        let repeats = |i: usize| {
            i > 0 && moments[i].rip == moments[i - 1].rip && moments[i - 1].kind.is_at_instruction()
        };
        let repeated: HashSet<u64> =
            (0..moments.len()).filter(|&i| repeats(i)).map(|i| moments[i].rip).collect();
        let mut counts: HashMap<u64, usize> = HashMap::new();
        let visit = |(i, moment): (usize, &Moment)| {
            if !moment.kind.is_at_instruction() || repeats(i) {
                return 0;
            }
            let count = counts.entry(moment.rip).or_default();
            *count += 1;
            // From the second visit on, the first has to be stepped over, which must be one step.
            let cannot_step_over = moment.is_syscall || repeated.contains(&moment.rip);
            if *count > 1 && cannot_step_over { 0 } else { *count }
        };
        Landings { visits: moments.iter().enumerate().map(visit).collect(), ..Landings::default() }
    }

    /// From here on they are asked for from the first again.
    pub(super) fn begin_again(&mut self) {
        (self.good, self.distrusted) = (0, 0..0);
    }

    /// The cheapest way to a moment; `None` where stepping from the beginning is.
    pub(super) fn for_moment(&self, trace: &Trace, target: usize) -> Option<Landing> {
        let cost = |moment: usize| target - moment + (self.visits[moment] - 1) * VISIT;
        let is_place = |moment: &usize| self.visits[*moment] > 0 && !self.distrusted.contains(moment);
        let places = (target.saturating_sub(LOOK_BACK).max(1)..=target).filter(is_place);
        let best = places.min_by_key(|&moment| cost(moment))?;
        let landing = Landing { moment: best, rip: trace.moments[best].rip, visit: self.visits[best] };
        (cost(best) + VISIT < target).then_some(landing)
    }

    /// The process came by that breakpoint.
    pub(super) fn succeeded(&mut self, landing: Landing) {
        self.good = self.good.max(landing.moment);
    }

    /// The process ended and had not come by.
    pub(super) fn failed(&mut self, landing: Landing) {
        self.distrusted = self.good.min(landing.moment.saturating_sub(1)) + 1..landing.moment + DISTRUST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stepper::trace::{Kind, Moment};

    fn trace(rips: &[u64]) -> Trace {
        let moment = |&rip| Moment { kind: Kind::Step, rip, touches_shared: false, is_syscall: false };
        Trace { moments: rips.iter().map(moment).collect(), ..Trace::default() }
    }

    #[test]
    fn a_first_visit_close_by_is_best() {
        let trace = trace(&[100, 101, 102, 103, 104, 105, 106, 107, 108, 109]);
        let landings = Landings::of(&trace);
        assert_eq!(landings.for_moment(&trace, 9), Some(Landing { moment: 9, rip: 109, visit: 1 }));
        assert_eq!(landings.for_moment(&trace, 2), None, "stepping is as quick");
    }

    #[test]
    fn in_a_loop_visits_are_counted_when_that_is_cheaper() {
        // Thirty instructions, four times.
        let rips: Vec<u64> = (0..120).map(|i| i % 30).collect();
        let trace = trace(&rips);
        let landings = Landings::of(&trace);
        let landing = landings.for_moment(&trace, 115).unwrap();
        assert_eq!((landing.moment, landing.visit), (115, 4));
        let landing = landings.for_moment(&trace, 31).unwrap();
        assert_eq!((landing.moment, landing.visit), (29, 1));
    }

    #[test]
    fn behind_a_failure_the_last_success_is_used() {
        let rips: Vec<u64> = (0..1000).collect();
        let trace = trace(&rips);
        let mut landings = Landings::of(&trace);
        let mut moment = |target| {
            let landing = landings.for_moment(&trace, target).unwrap();
            if landing.moment == 400 {
                landings.failed(landing)
            } else {
                landings.succeeded(landing)
            }
            landing.moment
        };
        assert_eq!([300, 400, 400, 450, 599, 600].map(&mut moment), [300, 400, 300, 300, 300, 600]);
    }

    #[test]
    fn repeated_string_instructions_are_come_to_once() {
        let trace = trace(&[0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 8]);
        let landings = Landings::of(&trace);
        assert_eq!(landings.visits[7..], [1, 0, 0, 0, 1]);
        assert_eq!(landings.for_moment(&trace, 10), Some(Landing { moment: 7, rip: 7, visit: 1 }));
    }
}
