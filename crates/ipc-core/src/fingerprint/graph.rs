//! What is known of a type so far: a graph of nodes, and the plan of where to look next.
//!
//! A node is one visitor type (or one seed type) asked in one way; a slot of it is a place where another
//! node is read. Tracing fills the slots. Two numbers steer it, both least fixpoints over the graph, so that
//! recursion needs no special case:
//!
//! * `cost`: how many nodes it takes to make a value, [`FAR`] if no way is known. Building always takes the
//!   cheapest way, whose parts cost less than the whole, so it ends whatever the types refer to.
//! * `dist`: how many nodes it takes to reach a slot that is still empty, counting what must be built first.
//!   A pass follows it, so that every pass finds something, or the place it went for is given up.

use std::any::TypeId;
use std::collections::HashMap;

use super::trace::Stop;

/// An index into [`Graph::nodes`].
pub(super) type Id = usize;

/// The node that every part which takes no bytes shares.
pub(super) const UNIT: Id = 0;
/// The node of the seed of the whole type.
pub(super) const ROOT: Id = 1;

/// Larger than any cost or distance.
pub(super) const FAR: u64 = u64::MAX;

/// How deep visitors and seeds may nest; a struct in a struct takes two, and the compiler itself takes no
/// more than 128 of those. Unoptimised code of large structs stays within the 2 MiB of a spawned thread.
const OPEN_MAX: usize = 264;
/// How much deeper a pass goes than the slot that it is for. Recursive types refer to each other in long
/// chains, which nobody needs to follow as each of them is near the root in some other way.
const OPEN_SLACK: usize = 48;
/// How many nodes and slots a type may have. The widest real messages stay far below.
const NODES_MAX: usize = 16 * 1024;
const SLOTS_MAX: usize = 128 * 1024;
/// How many nodes one pass may have to visit before it reaches what it is for.
const PASS_MAX: u64 = 256 * 1024;
/// How far a pass may go on after that, in the hope of finding more.
const PASS_SLACK: u64 = 1024;
/// How much work there may be in all. At some tens of nanoseconds a unit this is a second, at worst.
const WORK_MAX: u64 = 16 * 1024 * 1024;

/// Samples up to this one are the same for every value of a part; later ones are mixed.
const UNIFORM: u32 = 32;
/// How many samples a part may refuse before it counts as one that cannot be made.
const ATTEMPTS_MAX: u32 = 48;

/// What a visitor asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// One value, by the name that the text gives it.
    Leaf(&'static str),
    /// A handle of that kind.
    Handle(&'static str),
    /// Whatever there is, which only a self-describing format knows.
    Any,
    /// A seed, which reads nothing itself.
    Seed,
    /// A newtype struct, which reads nothing itself either.
    Newtype,
    Option,
    Seq,
    Map,
    Tuple,
    Struct,
    Enum,
}

/// What is known of a place where a node is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// Nothing yet.
    Pending,
    /// This node is read there.
    Known(Id),
    /// Nothing is read there: an alias of another field, an index that names no variant.
    Absent,
    /// It will not be known.
    Opaque(Why),
}

/// Why a part is opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Why {
    /// It comes after a part of which no value could be made.
    Unreached,
    /// A bound of the tracer was exceeded.
    Limit,
    /// Its shape depends on the values read before.
    Varies,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) names: &'static [&'static str],
    pub(super) slots: Vec<Slot>,
    /// A struct whose visitor takes no map: its fields are read in their order, as of a tuple.
    pub(super) in_order: bool,
    /// What the visitor of a struct made of each name, as far as it was asked: the same for aliases.
    pub(super) idents: Vec<Option<u64>>,
    /// Whether that is so; a visitor may also leave names as they are, which look the same, all of them.
    pub(super) idents_differ: Option<bool>,
    dist: u64,
    cost: u64,
    /// How many samples it refused.
    attempt: u32,
    /// It refused too many.
    refused: bool,
    /// It makes a value although one of its parts cannot be made.
    lenient: bool,
    /// The pass that visited it last.
    seen: u32,
    /// How often it is being visited right now.
    open: u32,
}

/// What tells one node from another: how it was asked, by which type, and with which names or length.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) of: TypeId,
    pub(super) len: usize,
    /// Names are compared by address, as they are constants of the code that passes them; two addresses for
    /// one list of names make two nodes, which the text merges again.
    pub(super) names: usize,
}

/// A node being visited.
struct Frame {
    id: Id,
    explore: bool,
    /// How many samples were drawn within it.
    draws: u32,
}

/// See the module documentation.
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    keys: HashMap<Key, Id>,
    slots: usize,
    frames: Vec<Frame>,
    pass: u32,
    /// Nodes from here on were met in this pass first, so the plan does not know them.
    fresh: Id,
    /// How deep this pass may go.
    depth: usize,
    /// How many more nodes this pass may visit.
    left: u64,
    work: u64,
    /// Something was learnt in this pass.
    pub(super) changed: bool,
    /// The error on its way up has been accounted for; one that has not been is a refusal.
    pub(super) fault: bool,
    /// A part was found to be one that cannot be made, so costs must be found anew.
    stale: bool,
}

impl Graph {
    /// A graph of nothing but the root, whose seed is of the type `root`.
    pub(super) fn new(root: TypeId) -> Self {
        let mut graph = Graph {
            nodes: Vec::new(),
            keys: HashMap::new(),
            slots: 0,
            frames: Vec::new(),
            pass: 0,
            fresh: 0,
            depth: 0,
            left: 0,
            work: 0,
            changed: false,
            fault: false,
            stale: false,
        };
        graph.push(Kind::Leaf("()"), &[], 0);
        let id = graph.push(Kind::Seed, &[], 1);
        graph.keys.insert(Key { kind: Kind::Seed, of: root, len: 1, names: 0 }, id);
        graph
    }

    fn push(&mut self, kind: Kind, names: &'static [&'static str], len: usize) -> Id {
        let id = self.nodes.len();
        self.nodes.push(Node {
            kind,
            names,
            slots: vec![Slot::Pending; len],
            in_order: false,
            idents: vec![None; if kind == Kind::Struct { len } else { 0 }],
            idents_differ: None,
            dist: FAR,
            cost: FAR,
            attempt: 0,
            refused: false,
            lenient: false,
            seen: 0,
            open: 0,
        });
        self.slots += len;
        self.nodes[id].cost = self.cost_of(id);
        id
    }

    /// The node of `key`, made with `len` slots if it is new, as what is read in `slot` of `parent`.
    ///
    /// # Errors
    ///
    /// If there are too many nodes already; the slot is opaque then.
    pub(super) fn read(
        &mut self,
        parent: Id,
        slot: usize,
        key: Key,
        names: &'static [&'static str],
    ) -> Result<Id, Stop> {
        let id = match self.keys.get(&key) {
            Some(&id) => id,
            None if self.nodes.len() >= NODES_MAX || key.len > SLOTS_MAX - self.slots.min(SLOTS_MAX) => {
                self.fill(parent, slot, Slot::Opaque(Why::Limit));
                return Err(self.stop());
            }
            None => {
                let id = self.push(key.kind, names, key.len);
                self.keys.insert(key, id);
                id
            }
        };
        self.set(parent, slot, id);
        Ok(id)
    }

    /// Notes that `child` was read in a slot.
    pub(super) fn set(&mut self, id: Id, slot: usize, child: Id) {
        match self.nodes[id].slots[slot] {
            Slot::Pending => self.fill(id, slot, Slot::Known(child)),
            // A seed or a visitor with a state of its own, or elements of more than one type.
            Slot::Known(other) if other != child => {
                self.fill(id, slot, Slot::Opaque(Why::Varies));
                self.stale = true;
            }
            Slot::Absent => self.fill(id, slot, Slot::Opaque(Why::Varies)),
            Slot::Known(_) | Slot::Opaque(_) => {}
        }
    }

    /// Changes what is known of a slot.
    pub(super) fn fill(&mut self, id: Id, slot: usize, to: Slot) {
        self.nodes[id].slots[slot] = to;
        self.changed = true;
    }

    /// An error that is nobody's refusal.
    pub(super) fn stop(&mut self) -> Stop {
        self.fault = true;
        Stop
    }

    // Visiting.

    /// Begins to visit a node, to explore it if `explore` is set and there is something to find, else to
    /// make a value of it. Returns whether it is explored.
    ///
    /// # Errors
    ///
    /// If no value can be made of it, or it would take this pass too long. [`Graph::close`] must not be
    /// called then.
    pub(super) fn open(&mut self, id: Id, explore: bool) -> Result<bool, Stop> {
        if self.frames.len() >= self.depth || self.left == 0 {
            return Err(self.stop());
        }
        let (pass, fresh, left) = (self.pass, self.fresh, self.left);
        let node = &mut self.nodes[id];
        // At the second time it is recursion, or one more occurrence, which has nothing new to show.
        let explore = explore && node.seen != pass && (id >= fresh || node.dist < FAR);
        node.seen = pass;
        if !explore && node.cost > left {
            return Err(self.stop());
        }
        node.open += 1;
        self.left -= 1;
        self.work += 1;
        self.frames.push(Frame { id, explore, draws: 0 });
        Ok(explore)
    }

    /// Ends the visit of a node.
    pub(super) fn close<R>(&mut self, id: Id, result: Result<R, Stop>) -> Result<R, Stop> {
        let explore = self.frames.pop().is_some_and(|frame| frame.explore);
        self.nodes[id].open -= 1;
        match result {
            Ok(_) => {
                // Whoever was in between may have swallowed an error.
                self.fault = false;
                let node = &self.nodes[id];
                if matches!(node.kind, Kind::Seed | Kind::Newtype) && node.slots[0] == Slot::Pending {
                    self.set(id, 0, UNIT);
                }
                if self.cost_of(id) == FAR {
                    self.nodes[id].lenient = true;
                }
                self.nodes[id].cost = self.cost_of(id).min(self.nodes[id].cost);
            }
            Err(_) if !self.fault => {
                self.fault = true;
                self.blame(id);
            }
            // It was to be built and could not be, with a sample that may be at fault.
            Err(_) if !explore && self.nodes[id].attempt > 0 => self.blame(id),
            Err(_) => {}
        }
        result
    }

    /// Notes that a node refused its sample, for the next pass to try another.
    fn blame(&mut self, id: Id) {
        let node = &mut self.nodes[id];
        if node.refused {
            return;
        }
        node.attempt += 1;
        // There is only one sample of a handle.
        if node.attempt >= ATTEMPTS_MAX || matches!(node.kind, Kind::Handle(_)) {
            node.refused = true;
            node.cost = FAR;
            self.stale = true;
        }
        self.changed = true;
    }

    /// The number of the sample to answer with: 0, unless a part being visited refused that one.
    pub(super) fn sample(&mut self) -> usize {
        for frame in self.frames.iter_mut().rev() {
            let node = &self.nodes[frame.id];
            if node.attempt == 0 {
                continue;
            }
            frame.draws += 1;
            if node.attempt < UNIFORM || node.open > 1 {
                return node.attempt as usize;
            }
            // Values that must differ from each other: any sequence will do that is the same everywhere.
            let mixed =
                (u64::from(node.attempt) << 32 | u64::from(frame.draws)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            return (mixed >> 40) as usize;
        }
        0
    }

    /// Like [`Graph::sample`], for a choice between parts. It is 0 within the same choice, as only the
    /// cheapest way is sure to end.
    pub(super) fn choice(&mut self, id: Id) -> usize {
        if self.nodes[id].open > 1 { 0 } else { self.sample() }
    }

    // Planning.

    fn slot_cost(&self, slot: Slot) -> u64 {
        match slot {
            Slot::Known(id) => self.nodes[id].cost,
            Slot::Absent => 0,
            Slot::Pending | Slot::Opaque(_) => FAR,
        }
    }

    fn cost_of(&self, id: Id) -> u64 {
        let node = &self.nodes[id];
        let slots = node.slots.iter().map(|&slot| match self.slot_cost(slot) {
            FAR if node.lenient => 1,
            cost => cost,
        });
        match node.kind {
            _ if node.refused => FAR,
            Kind::Leaf(_) | Kind::Handle(_) | Kind::Any | Kind::Option | Kind::Seq | Kind::Map => 1,
            Kind::Seed | Kind::Newtype | Kind::Tuple | Kind::Struct => slots.fold(1, u64::saturating_add),
            Kind::Enum => slots.filter(|&cost| cost > 0).min().unwrap_or(FAR).saturating_add(1),
        }
    }

    /// How far it is to an empty slot by way of each slot of a node, [`FAR`] if that way leads nowhere.
    pub(super) fn ways(&self, id: Id) -> impl Iterator<Item = u64> {
        let node = &self.nodes[id];
        let ordered = match node.kind {
            Kind::Tuple | Kind::Map => true,
            Kind::Struct => node.in_order,
            _ => false,
        };
        let mut before: u64 = 1;
        node.slots.iter().map(move |&slot| {
            let way = match slot {
                Slot::Pending => before,
                Slot::Known(child) => before.saturating_add(self.nodes[child].dist),
                Slot::Absent | Slot::Opaque(_) => FAR,
            };
            if ordered {
                before = before.saturating_add(self.slot_cost(slot));
            }
            way
        })
    }

    /// The slot of a node that leads to the nearest empty one, if any does.
    pub(super) fn nearest(&self, id: Id) -> Option<usize> {
        let (slot, way) = self.ways(id).enumerate().min_by_key(|&(_, way)| way)?;
        (way < FAR).then_some(slot)
    }

    /// The slots of an enum of which a value can be made, the cheapest first.
    pub(super) fn buildable(&self, id: Id) -> Vec<usize> {
        let cost = |slot: &usize| self.slot_cost(self.nodes[id].slots[*slot]);
        let mut slots: Vec<usize> =
            (0..self.nodes[id].slots.len()).filter(|slot| (1..FAR).contains(&cost(slot))).collect();
        slots.sort_by_key(cost);
        slots
    }

    /// Whether a value of what is read in a slot can be made.
    pub(super) fn can_build(&self, id: Id, slot: usize) -> bool {
        self.slot_cost(self.nodes[id].slots[slot]) < FAR
    }

    /// Finds costs and distances. Returns how far the nearest empty slot is from the root.
    fn plan(&mut self) -> u64 {
        if std::mem::take(&mut self.stale) {
            self.nodes.iter_mut().for_each(|node| node.cost = FAR);
        }
        self.nodes.iter_mut().for_each(|node| node.dist = FAR);
        let mut moved = true;
        while moved {
            moved = false;
            // Children mostly come after their parents, so this order takes few rounds.
            for id in (0..self.nodes.len()).rev() {
                let cost = self.cost_of(id);
                let dist = self.ways(id).min().unwrap_or(FAR);
                let node = &mut self.nodes[id];
                moved |= cost < node.cost || dist < node.dist;
                node.cost = cost.min(node.cost);
                node.dist = dist.min(node.dist);
            }
            self.work += self.nodes.len() as u64 / 4 + 8;
        }
        self.nodes[ROOT].dist
    }

    /// Runs `pass` until nothing is left that can be found.
    pub(super) fn run(&mut self, mut pass: impl FnMut(&mut Graph)) {
        let left = loop {
            let dist = self.plan();
            if dist == FAR {
                break Why::Unreached;
            }
            if self.work > WORK_MAX {
                break Why::Limit;
            }
            let (id, slot, depth) = self.target();
            // What must be built on the way may be deeper than the way is.
            let depths = [OPEN_MAX.min(depth + OPEN_SLACK), OPEN_MAX];
            let found = dist <= PASS_MAX
                && depths.into_iter().any(|depth| {
                    self.pass += 1;
                    self.fresh = self.nodes.len();
                    self.depth = depth;
                    self.left = dist.saturating_add(PASS_SLACK);
                    self.changed = false;
                    self.fault = false;
                    pass(self);
                    self.changed
                });
            if !found {
                let why = if dist > PASS_MAX || depth >= OPEN_MAX { Why::Limit } else { Why::Unreached };
                self.fill(id, slot, Slot::Opaque(why));
            }
        };
        for slot in self.nodes.iter_mut().flat_map(|node| &mut node.slots) {
            if *slot == Slot::Pending {
                *slot = Slot::Opaque(left);
            }
        }
    }

    /// The empty slot that is nearest to the root, and how deep it is. There is one: the root's distance is
    /// finite.
    fn target(&self) -> (Id, usize, usize) {
        let (mut id, mut depth) = (ROOT, 1);
        loop {
            // Distances shrink on the way, so it ends.
            let slot = self.nearest(id).expect("a node with a finite distance has a way");
            match self.nodes[id].slots[slot] {
                Slot::Known(child) => (id, depth) = (child, depth + 1),
                _ => return (id, slot, depth),
            }
        }
    }
}
