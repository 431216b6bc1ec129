//! The search itself.

use super::table::Table;
use super::{Fault, Model, Report, Step, Steps, To, Violation};

/// Who found a state: the state before it, and the step; `None` for an initial state.
type Origin = Option<(u32, Step)>;

type Trace<S> = Vec<(Step, S)>;

struct Search<'a, M: Model> {
    model: &'a M,
    states_max: usize,
    visited: Table<M::State>,
    origins: Vec<Origin>,
}

/// Visits every state of the model that can be reached.
///
/// # Errors
/// What the model violates, with one of the shortest traces to it; or that there are more than `states_max` states.
///
/// # Panics
/// When `states_max` is beyond what a state's number can be (2^32 − 1).
pub fn explore<M: Model>(model: &M, states_max: usize) -> Result<Report, Box<Violation<M::State>>> {
    assert!(u32::try_from(states_max).is_ok(), "states are numbered with 32 bits");
    Search { model, states_max, visited: Table::new(), origins: Vec::new() }.run()
}

impl<M: Model> Search<'_, M> {
    fn run(mut self) -> Result<Report, Box<Violation<M::State>>> {
        for state in self.model.initial() {
            self.visit(state, None)?;
        }
        // Where the sure steps of a state lead; those of state n are `targets[starts[n]..starts[n + 1]]`.
        let (mut targets, mut starts) = (Vec::new(), vec![0]);
        let (mut steps, mut ends, mut depth) = (0, Vec::new(), 0);
        let mut level_end = self.visited.len();
        // Found in order, visited in order: breadth first without a queue.
        let mut number = 0;
        while number < self.visited.len() {
            if number == level_end {
                depth += 1;
                level_end = self.visited.len();
            }
            let mut out = Steps::new();
            self.model.steps(self.visited.get(number), &mut out);
            let is_end = self.model.is_end(self.visited.get(number));
            if is_end {
                ends.push(number as u32);
            } else if out.is_quiet() {
                return Err(self.violation(Fault::Stranded, number, None));
            }
            steps += out.list.len();
            for (step, to) in out.list {
                match to {
                    To::Sure(next) => targets.push(self.visit(next, Some((number as u32, step)))?),
                    To::Unsure(next) => _ = self.visit(next, Some((number as u32, step)))?,
                    To::Wrong(why) => return Err(self.violation(Fault::Unsafe(why), number, Some(step))),
                }
            }
            starts.push(targets.len());
            number += 1;
        }
        if let Some(lost) = lost(&starts, &targets, &ends) {
            return Err(self.violation(Fault::Endless, lost, None));
        }
        Ok(Report { states: self.visited.len(), steps, ends: ends.len(), depth })
    }

    /// Notes a state; gives its number.
    fn visit(&mut self, state: M::State, origin: Origin) -> Result<u32, Box<Violation<M::State>>> {
        let (number, new) = self.visited.insert(self.model.canonical(state));
        if new {
            self.origins.push(origin);
            if let Err(why) = self.model.check(self.visited.get(number)) {
                return Err(self.violation(Fault::Unsafe(why), number, None));
            }
            if self.visited.len() > self.states_max {
                return Err(self.violation(Fault::TooMany(self.states_max), number, None));
            }
        }
        Ok(number as u32)
    }

    fn violation(&self, fault: Fault, number: usize, wrong: Option<Step>) -> Box<Violation<M::State>> {
        let mut trace: Vec<_> =
            wrong.map(|step| (step, self.visited.get(number).clone())).into_iter().collect();
        let mut at = number;
        while let Some((before, step)) = self.origins[at] {
            trace.push((step, self.visited.get(at).clone()));
            at = before as usize;
        }
        trace.reverse();
        let canonical = self.visited.get(at);
        let initial = self.model.initial().into_iter().find(|state| self.canonical(state) == *canonical);
        let initial = initial.expect("a trace begins in an initial state");
        let trace = self.replay(&initial, &trace).unwrap_or(trace);
        Box::new(Violation { fault, initial, trace, states: self.visited.len() })
    }

    fn canonical(&self, state: &M::State) -> M::State {
        self.model.canonical(state.clone())
    }

    /// The same way with everybody under one name throughout: canonical states rename them at every step. `None` if
    /// the model's canonical states do not have the steps of those that they stand for.
    fn replay(&self, initial: &M::State, trace: &Trace<M::State>) -> Option<Trace<M::State>> {
        let mut at = initial.clone();
        let mut replayed = Vec::new();
        for (step, target) in trace {
            let mut out = Steps::new();
            self.model.steps(&at, &mut out);
            let step = out.list.into_iter().find_map(|(candidate, to)| {
                let next = match to {
                    To::Sure(next) | To::Unsure(next) => next,
                    To::Wrong(_) => at.clone(),
                };
                (candidate.what == step.what && self.canonical(&next) == *target).then_some((candidate, next))
            })?;
            at = step.1.clone();
            replayed.push(step);
        }
        Some(replayed)
    }
}

/// The first state from which none of `ends` can be reached: found from the ends, backwards.
fn lost(starts: &[usize], targets: &[u32], ends: &[u32]) -> Option<usize> {
    let states = starts.len() - 1;
    // Sources by target, in one array: counted, summed up, filled in from behind.
    let mut into = vec![0_usize; states + 1];
    for target in targets {
        into[*target as usize] += 1;
    }
    for at in 1..=states {
        into[at] += into[at - 1];
    }
    let mut sources = vec![0_u32; targets.len()];
    for source in 0..states {
        for target in &targets[starts[source]..starts[source + 1]] {
            into[*target as usize] -= 1;
            sources[into[*target as usize]] = source as u32;
        }
    }
    let mut reaches = vec![false; states];
    let mut open = ends.to_vec();
    for end in ends {
        reaches[*end as usize] = true;
    }
    while let Some(target) = open.pop() {
        for source in &sources[into[target as usize]..into[target as usize + 1]] {
            if !std::mem::replace(&mut reaches[*source as usize], true) {
                open.push(*source);
            }
        }
    }
    reaches.iter().position(|reaches| !reaches)
}
