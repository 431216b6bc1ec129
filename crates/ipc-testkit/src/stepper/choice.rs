//! At which moments to kill.

use super::KillPoints;
use super::trace::Trace;

/// The indices of the moments that are chosen, rising.
pub(super) fn choose(trace: &Trace, kill_points: KillPoints) -> Vec<usize> {
    let all: Vec<usize> = (0..trace.moments.len()).collect();
    let max = match kill_points {
        KillPoints::All => return all,
        KillPoints::Sample(max) if max >= all.len() => return all,
        KillPoints::Sample(max) => max,
    };
    let calls: Vec<usize> = all.iter().copied().filter(|&at| trace.moments[at].kind.is_in_call()).collect();
    let (visible, rest): (Vec<usize>, Vec<usize>) = all.into_iter().partition(|&at| is_visible(trace, at));
    let accesses: Vec<usize> =
        visible.into_iter().filter(|&at| !trace.moments[at].kind.is_in_call()).collect();

    // What others can see comes first, but never takes everything: the rest is where nobody thought of looking.
    let mut chosen = evenly(&calls, max / 2);
    chosen.extend(evenly(&accesses, (max - chosen.len()) * 3 / 4));
    chosen.extend(evenly(&rest, max - chosen.len()));
    chosen.sort_unstable();
    chosen
}

/// The chosen moments in the order in which they are tried, rising in each pass: if the time is over before they are
/// through, the last pass suffers and not the last part of the operation.
pub(super) fn passes(trace: &Trace, chosen: &[usize]) -> Vec<Vec<usize>> {
    let (visible, rest): (Vec<usize>, Vec<usize>) = chosen.iter().partition(|&&at| is_visible(trace, at));
    let every_second =
        |of: &[usize], first: usize| of.iter().skip(first).step_by(2).copied().collect::<Vec<_>>();
    let (even, odd) = (every_second(&rest, 0), every_second(&rest, 1));
    vec![visible, every_second(&even, 0), every_second(&even, 1), odd]
}

/// Whether others can tell this moment from the one before or after: it is of a system call, or right before or after
/// an access to shared memory.
pub(super) fn is_visible(trace: &Trace, at: usize) -> bool {
    let moments = &trace.moments;
    let moment = &moments[at];
    moment.kind.is_in_call() || moment.touches_shared || (at > 0 && moments[at - 1].touches_shared)
}

/// Up to `max` of these, the first and the last among them, and the same distance apart.
fn evenly(all: &[usize], max: usize) -> Vec<usize> {
    match max {
        _ if all.len() <= max => all.to_vec(),
        0 => Vec::new(),
        1 => vec![all[0]],
        _ => (0..max).map(|i| all[i * (all.len() - 1) / (max - 1)]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stepper::trace::{Kind, Moment};

    /// A thousand moments: a system call every hundred, an access to shared memory every fifty.
    fn trace() -> Trace {
        let moment = |i: u64| Moment {
            kind: match i % 100 {
                10 => Kind::Entry(1),
                11 => Kind::Exit(1),
                _ => Kind::Step,
            },
            rip: i,
            touches_shared: i % 50 == 30,
            is_syscall: false,
        };
        Trace { moments: (0..1000).map(moment).collect(), ..Trace::default() }
    }

    #[test]
    fn all_and_more_than_all_are_all() {
        let all: Vec<usize> = (0..1000).collect();
        assert_eq!(choose(&trace(), KillPoints::All), all);
        assert_eq!(choose(&trace(), KillPoints::Sample(1000)), all);
    }

    #[test]
    fn a_sample_prefers_what_others_can_see() {
        let trace = trace();
        let chosen = choose(&trace, KillPoints::Sample(100));
        assert_eq!(chosen.len(), 100);
        assert!(chosen.is_sorted_by(|a, b| a < b));
        assert!((0..1000).filter(|&at| is_visible(&trace, at)).all(|at| chosen.contains(&at)));
        assert!(chosen.contains(&0) && chosen.contains(&999));
        assert_eq!(chosen, choose(&trace, KillPoints::Sample(100)));
    }

    #[test]
    fn passes_are_the_sample_in_another_order() {
        let trace = trace();
        let chosen = choose(&trace, KillPoints::Sample(100));
        let passes = passes(&trace, &chosen);
        assert!(passes.iter().all(|pass| !pass.is_empty() && pass.is_sorted()));
        assert!(passes[0].iter().all(|&at| is_visible(&trace, at)));
        let mut all = passes.concat();
        all.sort_unstable();
        assert_eq!(all, chosen);
    }

    #[test]
    fn a_small_sample_has_something_of_everything() {
        let trace = trace();
        let chosen = choose(&trace, KillPoints::Sample(8));
        assert_eq!(chosen.len(), 8);
        let count = |wanted: &dyn Fn(&Moment) -> bool| {
            chosen.iter().filter(|&&at| wanted(&trace.moments[at])).count()
        };
        assert_eq!(count(&|moment| moment.kind.is_in_call()), 4);
        assert!(count(&|moment| moment.kind == Kind::Step) == 4);
        assert_eq!(choose(&trace, KillPoints::Sample(0)), []);
    }
}
