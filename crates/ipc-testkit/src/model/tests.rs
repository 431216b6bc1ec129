use super::*;

/// A graph: an edge is (from, to, sure). States above 99 are not allowed; a step to 255 is wrong.
struct Graph {
    edges: &'static [(u8, u8, bool)],
    ends: &'static [u8],
    twins: bool,
}

impl Model for Graph {
    type State = u8;

    fn initial(&self) -> Vec<u8> {
        vec![0]
    }

    fn steps(&self, state: &u8, out: &mut Steps<u8>) {
        for (from, to, sure) in self.edges.iter().filter(|edge| edge.0 == *state) {
            match (to, sure) {
                (255, _) => out.wrong(usize::from(*from), "falls", "over the edge"),
                (_, true) => out.go(usize::from(*from), "goes", *to),
                (_, false) => out.may(usize::from(*from), "may go", *to),
            }
        }
    }

    fn check(&self, state: &u8) -> Result<(), String> {
        if *state > 99 { Err(format!("{state} is not allowed")) } else { Ok(()) }
    }

    fn is_end(&self, state: &u8) -> bool {
        self.ends.contains(state)
    }

    fn canonical(&self, state: u8) -> u8 {
        if self.twins { state & !1 } else { state }
    }
}

fn graph(edges: &'static [(u8, u8, bool)], ends: &'static [u8]) -> Graph {
    Graph { edges, ends, twins: false }
}

fn way(violation: &Violation<u8>) -> Vec<u8> {
    violation.trace.iter().map(|(_, state)| *state).collect()
}

#[test]
fn all_is_well() {
    let edges = &[(0, 1, true), (0, 2, true), (1, 3, true), (2, 3, true), (3, 0, false)];
    let report = explore(&graph(edges, &[3]), 4).unwrap();
    assert_eq!(report, Report { states: 4, steps: 5, ends: 1, depth: 2 });
}

#[test]
fn the_shortest_trace_is_told() {
    let edges = &[(0, 1, true), (1, 2, true), (2, 100, true), (0, 3, true), (3, 100, true)];
    let violation = explore(&graph(edges, &[]), 100).unwrap_err();
    assert_eq!(violation.fault, Fault::Unsafe("100 is not allowed".to_owned()));
    assert_eq!(way(&violation), [3, 100]);
    let text = violation.to_string();
    assert!(text.contains("100 is not allowed, after 2 steps"), "{text}");
    assert!(text.contains("  1. 0: goes\n  2. 3: goes\n"), "{text}");
    assert!(format!("{violation:#}").contains("  1. 0: goes\n     3\n"));
}

#[test]
fn an_initial_state_is_checked() {
    struct Bad;
    impl Model for Bad {
        type State = ();
        fn initial(&self) -> Vec<()> {
            vec![()]
        }
        fn steps(&self, _: &(), _: &mut Steps<()>) {}
        fn check(&self, _: &()) -> Result<(), String> {
            Err("bad".to_owned())
        }
        fn is_end(&self, _: &()) -> bool {
            true
        }
    }
    assert!(explore(&Bad, 1).unwrap_err().trace.is_empty());
}

#[test]
fn a_wrong_step_is_the_end_of_the_trace() {
    let violation = explore(&graph(&[(0, 1, true), (1, 255, true)], &[]), 100).unwrap_err();
    assert_eq!(violation.fault, Fault::Unsafe("over the edge".to_owned()));
    assert_eq!(violation.trace.last().unwrap().0, Step { actor: 1, what: "falls" });
    assert_eq!(way(&violation), [1, 1]);
}

#[test]
fn strands_are_found() {
    let violation = explore(&graph(&[(0, 1, true), (0, 2, true)], &[1]), 100).unwrap_err();
    assert_eq!((&violation.fault, way(&violation)), (&Fault::Stranded, vec![2]));
    assert!(violation.to_string().starts_with("stranded"));
}

#[test]
fn what_may_happen_rescues_nobody() {
    let violation = explore(&graph(&[(0, 1, true), (1, 2, false)], &[2]), 100).unwrap_err();
    assert_eq!((&violation.fault, way(&violation)), (&Fault::Stranded, vec![1]));
    // Nor does it count as a way to an end, where there are others that lead nowhere.
    let violation = explore(&graph(&[(0, 1, true), (1, 0, true), (1, 2, false)], &[2]), 100).unwrap_err();
    assert_eq!((&violation.fault, way(&violation)), (&Fault::Endless, vec![]));
    // But it is explored.
    let violation = explore(&graph(&[(0, 100, false)], &[0]), 100).unwrap_err();
    assert_eq!(way(&violation), [100]);
}

#[test]
fn endless_circles_are_found() {
    let edges = &[(0, 1, true), (0, 2, true), (2, 4, true), (4, 2, true)];
    let violation = explore(&graph(edges, &[1]), 100).unwrap_err();
    assert_eq!((&violation.fault, way(&violation)), (&Fault::Endless, vec![2]));
    // A circle that can be left is none.
    assert!(explore(&graph(&[(0, 2, true), (2, 0, true), (2, 1, true)], &[1]), 100).is_ok());
}

#[test]
fn a_limit_is_never_silent() {
    let edges = &[(0, 1, true), (1, 2, true), (2, 3, true)];
    let violation = explore(&graph(edges, &[3]), 3).unwrap_err();
    assert_eq!(violation.fault, Fault::TooMany(3));
    assert_eq!(violation.to_string(), "more than 3 states: nothing is proven");
    assert!(explore(&graph(edges, &[3]), 4).is_ok());
}

#[test]
fn twins_are_visited_once() {
    let edges = &[(0, 2, true), (0, 3, true), (2, 4, true), (2, 5, true)];
    assert_eq!(explore(&graph(edges, &[4, 5, 3]), 100).unwrap().states, 5);
    assert_eq!(explore(&Graph { edges, ends: &[4], twins: true }, 100).unwrap().states, 3);
}

#[test]
fn traces_keep_the_names() {
    /// Two who count to two, in whatever order.
    struct Pair;
    impl Model for Pair {
        type State = [u8; 2];
        fn initial(&self) -> Vec<[u8; 2]> {
            vec![[0, 0]]
        }
        fn steps(&self, state: &[u8; 2], out: &mut Steps<[u8; 2]>) {
            for i in 0..2 {
                let mut next = *state;
                next[i] += 1;
                out.go(i, "counts", next);
            }
        }
        fn check(&self, state: &[u8; 2]) -> Result<(), String> {
            if state.contains(&2) { Err("two".to_owned()) } else { Ok(()) }
        }
        fn is_end(&self, _: &[u8; 2]) -> bool {
            true
        }
        fn canonical(&self, mut state: [u8; 2]) -> [u8; 2] {
            state.sort_unstable();
            state
        }
    }
    let violation = explore(&Pair, 100).unwrap_err();
    assert_eq!(violation.states, 4);
    let [(first, _), (second, state)] = violation.trace[..] else { panic!("{violation}") };
    assert_eq!(first.actor, second.actor);
    assert_eq!(state[first.actor], 2);
}

#[test]
fn many_states_keep_their_numbers() {
    struct Count;
    impl Model for Count {
        type State = (u16, u8);
        fn initial(&self) -> Vec<(u16, u8)> {
            vec![(0, 0)]
        }
        fn steps(&self, &(a, b): &(u16, u8), out: &mut Steps<(u16, u8)>) {
            if a < 4999 {
                out.go(0, "up", (a + 1, b));
            }
            out.go(1, "around", (a, (b + 1) % 8));
        }
        fn check(&self, _: &(u16, u8)) -> Result<(), String> {
            Ok(())
        }
        fn is_end(&self, state: &(u16, u8)) -> bool {
            state.0 == 4999
        }
    }
    let report = explore(&Count, 40_000).unwrap();
    assert_eq!(report, Report { states: 40_000, steps: 79_992, ends: 8, depth: 5006 });
}
