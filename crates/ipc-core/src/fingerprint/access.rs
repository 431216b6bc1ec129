//! What visitors of types with parts are given: elements, fields, entries, variants.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;

use serde::de::value::{BorrowedStrDeserializer, U32Deserializer};
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::graph::{Graph, Id, Node, Slot, UNIT};
use super::samples;
use super::trace::{Stop, Tracer, part};

/// A node being visited that has parts.
pub(super) struct Visit<'g> {
    pub(super) graph: &'g mut Graph,
    pub(super) id: Id,
    pub(super) explore: bool,
    /// How many parts were asked for.
    pub(super) next: usize,
}

impl Visit<'_> {
    pub(super) fn node(&mut self) -> &mut Node {
        &mut self.graph.nodes[self.id]
    }

    fn part<S: DeserializeSeed<'static>>(&mut self, slot: usize, seed: S) -> Result<S::Value, Stop> {
        part(self.graph, self.id, slot, seed, self.explore)
    }

    /// Whether there is something to find by way of this node.
    pub(super) fn hot(&self) -> bool {
        self.explore && self.graph.nearest(self.id).is_some()
    }

    /// Lets the visitor read the parts in their order.
    pub(super) fn in_order<V: Visitor<'static>>(&mut self, visitor: V) -> Result<V::Value, Stop> {
        let order: Vec<usize> = (0..self.node().slots.len()).collect();
        let mut parts = Parts { visit: self, order: &order, names: &[] };
        let value = visitor.visit_seq(&mut parts)?;
        self.absent(&order);
        Ok(value)
    }

    /// Lets the visitor read the fields by name, those first that lead somewhere.
    pub(super) fn by_name<V: Visitor<'static>>(
        &mut self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let slots = &self.graph.nodes[self.id].slots;
        let mut order: Vec<usize> = (0..names.len()).filter(|&slot| slots[slot] != Slot::Absent).collect();
        if self.explore {
            let ways: Vec<u64> = self.graph.ways(self.id).collect();
            order.sort_by_key(|&slot| ways[slot]);
        }
        let mut parts = Parts { visit: self, order: &order, names };
        let result = visitor.visit_map(&mut parts);
        match result {
            Ok(_) => self.absent(&order),
            // It takes no map, so it must be one of those that read by position only.
            Err(_) if self.next == 0 && !self.graph.fault => {
                self.node().in_order = true;
                self.graph.changed = true;
                self.graph.fault = true;
            }
            Err(_) => {}
        }
        result
    }

    /// Whether the field that is asked for may be read, given what the visitor made of its name: not if
    /// it is an alias of another, which the list of fields has too.
    fn identified(&mut self, slot: usize, ident: u64) -> bool {
        let node = self.node();
        node.idents[slot] = Some(ident);
        let same = node.idents.iter().filter(|other| **other == Some(ident)).count();
        if same < 2 || node.slots[slot] != Slot::Pending {
            return true;
        }
        match node.idents_differ {
            Some(true) => self.graph.fill(self.id, slot, Slot::Absent),
            Some(false) => return true,
            // The next visit will ask.
            None => self.graph.changed = true,
        }
        self.graph.fault = true;
        false
    }

    /// Notes that nothing is read in the slots that a visitor which is content did not ask for.
    fn absent(&mut self, order: &[usize]) {
        for &slot in &order[self.next.min(order.len())..] {
            if self.node().slots[slot] == Slot::Pending {
                self.graph.fill(self.id, slot, Slot::Absent);
            }
        }
    }
}

/// The parts of a tuple or a struct, in the order in which they are given out.
struct Parts<'v, 'g> {
    visit: &'v mut Visit<'g>,
    order: &'v [usize],
    names: &'static [&'static str],
}

impl SeqAccess<'static> for Parts<'_, '_> {
    type Error = Stop;

    fn next_element_seed<S: DeserializeSeed<'static>>(&mut self, seed: S) -> Result<Option<S::Value>, Stop> {
        let Some(&slot) = self.order.get(self.visit.next) else {
            return Ok(None);
        };
        // Counted before it is read, so that a visitor which goes on after an error gets to the end.
        self.visit.next += 1;
        self.visit.part(slot, seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.order.len() - self.visit.next)
    }
}

impl MapAccess<'static> for Parts<'_, '_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'static>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        let Some(&slot) = self.order.get(self.visit.next) else {
            return Ok(None);
        };
        self.visit.next += 1;
        let key = |name| BorrowedStrDeserializer::new(name);
        let node = self.visit.node();
        let known = || node.idents.iter().flatten();
        if node.idents_differ.is_none() && known().count() > known().collect::<HashSet<_>>().len() {
            // A name that no field has: it is refused or taken for something else, unless all are the same.
            let other = seed.deserialize(key("\0")).map(|other| ident_of(&other));
            node.idents_differ = Some(other.map_or(true, |other| !node.idents.contains(&Some(other))));
            self.visit.graph.changed = true;
            return Err(self.visit.graph.stop());
        }
        let name = seed.deserialize(key(self.names[slot]))?;
        if !self.visit.identified(slot, ident_of(&name)) {
            return Err(Stop);
        }
        Ok(Some(name))
    }

    fn next_value_seed<S: DeserializeSeed<'static>>(&mut self, seed: S) -> Result<S::Value, Stop> {
        let Some(&slot) = self.order.get(self.visit.next.wrapping_sub(1)) else {
            return Err(Stop);
        };
        self.visit.part(slot, seed)
    }
}

/// What tells the names apart that a visitor knows: which variant of an enum it made of them.
fn ident_of<T>(name: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    mem::discriminant(name).hash(&mut hasher);
    hasher.finish()
}

/// The elements of a sequence or the entries of a map, all of which go to the same slots.
pub(super) struct Elements<'v, 'g> {
    visit: &'v mut Visit<'g>,
    left: usize,
}

impl<'v, 'g> Elements<'v, 'g> {
    pub(super) fn new(visit: &'v mut Visit<'g>) -> Self {
        let sample = visit.graph.choice(visit.id);
        let possible = (0..visit.node().slots.len()).all(|slot| visit.graph.can_build(visit.id, slot));
        let left = if visit.hot() {
            samples::length(sample).max(1)
        } else if possible {
            samples::length(sample)
        } else {
            0
        };
        Elements { visit, left }
    }
}

impl SeqAccess<'static> for Elements<'_, '_> {
    type Error = Stop;

    fn next_element_seed<S: DeserializeSeed<'static>>(&mut self, seed: S) -> Result<Option<S::Value>, Stop> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.visit.part(0, seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl MapAccess<'static> for Elements<'_, '_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'static>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'static>>(&mut self, seed: S) -> Result<S::Value, Stop> {
        self.visit.part(1, seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// No elements, for a visitor that would take anything.
pub(super) struct Nothing;

impl SeqAccess<'static> for Nothing {
    type Error = Stop;

    fn next_element_seed<S: DeserializeSeed<'static>>(&mut self, _: S) -> Result<Option<S::Value>, Stop> {
        Ok(None)
    }
}

impl MapAccess<'static> for Nothing {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'static>>(&mut self, _: K) -> Result<Option<K::Value>, Stop> {
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'static>>(&mut self, _: S) -> Result<S::Value, Stop> {
        Err(Stop)
    }
}

/// One variant of an enum.
pub(super) struct Variant<'v, 'g> {
    pub(super) visit: &'v mut Visit<'g>,
    pub(super) slot: usize,
}

impl Variant<'_, '_> {
    fn tracer(&mut self) -> Tracer<'_> {
        let Visit { id, explore, .. } = *self.visit;
        Tracer { graph: self.visit.graph, parent: id, slot: self.slot, explore }
    }
}

impl<'v, 'g> de::EnumAccess<'static> for Variant<'v, 'g> {
    type Error = Stop;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'static>>(self, seed: S) -> Result<(S::Value, Self), Stop> {
        self.visit.next = 1;
        match seed.deserialize(U32Deserializer::<Stop>::new(self.slot as u32)) {
            Ok(variant) => Ok((variant, self)),
            Err(_) => {
                // There is no variant of that index: the list has aliases too, or the enum is empty.
                let Visit { id, .. } = *self.visit;
                if self.visit.node().slots[self.slot] == Slot::Pending {
                    self.visit.graph.fill(id, self.slot, Slot::Absent);
                }
                Err(self.visit.graph.stop())
            }
        }
    }
}

impl de::VariantAccess<'static> for Variant<'_, '_> {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        self.visit.graph.set(self.visit.id, self.slot, UNIT);
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'static>>(self, seed: S) -> Result<S::Value, Stop> {
        self.visit.part(self.slot, seed)
    }

    fn tuple_variant<V: Visitor<'static>>(mut self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.tracer().tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'static>>(
        mut self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.tracer().fields(fields, visitor)
    }
}
