//! The deserializer that finds the structure of a type: it notes what each visitor asks for, and answers
//! with samples.
//!
//! A pass is one run of the type's `Deserialize`. It rarely gets to the end, and need not: an error stops it
//! once there is nothing more to find on its way, or when a part refuses its sample, and the next one goes
//! elsewhere. What a derived struct reads is asked for by name, in any order that suits, so a field of which
//! no value can be made hides none of the others.

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, Visitor};

use super::access::{Elements, Nothing, Variant, Visit};
use super::graph::{Graph, Id, Key, Kind, ROOT, Slot, Why};
use super::samples;

/// How the names of handles begin, as [`crate::handle`] passes them to `deserialize_newtype_struct`.
const HANDLE_PREFIX: &str = "\u{1}ipc-handle:";

/// What a pass stops with. Why is in the graph, as visitors may replace an error by one of their own.
#[derive(Debug)]
pub(super) struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the structure is being traced, not read")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Stop
    }
}

/// Finds the structure of `T`.
pub(super) fn trace<T: Deserialize<'static>>() -> Graph {
    let mut graph = Graph::new(typeid::of::<PhantomData<T>>());
    graph.run(|graph| {
        let _ = seed(graph, ROOT, PhantomData::<T>, true);
    });
    graph
}

/// Visits the node of a seed.
fn seed<S: DeserializeSeed<'static>>(
    graph: &mut Graph,
    id: Id,
    seed: S,
    explore: bool,
) -> Result<S::Value, Stop> {
    let explore = graph.open(id, explore)?;
    let result = seed.deserialize(Tracer { graph, parent: id, slot: 0, explore });
    graph.close(id, result)
}

/// Reads what is in a slot of `parent` by a seed, exploring it if that leads anywhere.
pub(super) fn part<S: DeserializeSeed<'static>>(
    graph: &mut Graph,
    parent: Id,
    slot: usize,
    part: S,
    explore: bool,
) -> Result<S::Value, Stop> {
    let key = Key { kind: Kind::Seed, of: typeid::of::<S>(), len: 1, names: 0 };
    let id = graph.read(parent, slot, key, &[])?;
    seed(graph, id, part, explore)
}

/// Reads one node, into a slot of `parent`.
pub(super) struct Tracer<'g> {
    pub(super) graph: &'g mut Graph,
    pub(super) parent: Id,
    pub(super) slot: usize,
    pub(super) explore: bool,
}

impl<'g> Tracer<'g> {
    /// Opens the node that a visitor of the type `of` asks for.
    fn open(
        self,
        kind: Kind,
        of: TypeId,
        names: &'static [&'static str],
        len: usize,
    ) -> Result<Visit<'g>, Stop> {
        let key = Key { kind, of, len, names: names.as_ptr().addr() };
        let id = self.graph.read(self.parent, self.slot, key, names)?;
        let explore = self.graph.open(id, self.explore)?;
        Ok(Visit { graph: self.graph, id, explore, next: 0 })
    }

    /// Answers with one value, which `feed` makes of the number of a sample.
    fn leaf<V: Visitor<'static>>(
        self,
        name: &'static str,
        visitor: V,
        feed: impl FnOnce(V, usize) -> Result<V::Value, Stop>,
    ) -> Result<V::Value, Stop> {
        self.one(Kind::Leaf(name), visitor, feed)
    }

    fn one<V: Visitor<'static>>(
        self,
        kind: Kind,
        visitor: V,
        feed: impl FnOnce(V, usize) -> Result<V::Value, Stop>,
    ) -> Result<V::Value, Stop> {
        let visit = self.open(kind, typeid::of::<V>(), &[], 0)?;
        let sample = visit.graph.sample();
        let result = feed(visitor, sample);
        visit.graph.close(visit.id, result)
    }

    /// Answers with whatever the visitor takes.
    fn any<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.one(Kind::Any, visitor, |visitor, sample| match sample % 8 {
            0 => visitor.visit_unit(),
            1 => visitor.visit_borrowed_str("a"),
            2 => visitor.visit_u64(0),
            3 => visitor.visit_bool(false),
            4 => visitor.visit_seq(Nothing),
            5 => visitor.visit_map(Nothing),
            6 => visitor.visit_f64(0.0),
            _ => visitor.visit_none(),
        })
    }

    pub(super) fn tuple<V: Visitor<'static>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        let mut visit = self.open(Kind::Tuple, typeid::of::<V>(), &[], len)?;
        let result = visit.in_order(visitor);
        visit.graph.close(visit.id, result)
    }

    pub(super) fn fields<V: Visitor<'static>>(
        self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let mut visit = self.open(Kind::Struct, typeid::of::<V>(), names, names.len())?;
        let result =
            if visit.node().in_order { visit.in_order(visitor) } else { visit.by_name(names, visitor) };
        visit.graph.close(visit.id, result)
    }
}

/// Numbers are cut to their size; which one it is matters little.
macro_rules! numbers {
    ($($method:ident $visit:ident $type:ident)*) => {$(
        fn $method<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
            self.leaf(stringify!($type), visitor, |visitor, sample| visitor.$visit(samples::number(sample) as $type))
        }
    )*};
}

impl Deserializer<'static> for Tracer<'_> {
    type Error = Stop;

    numbers! {
        deserialize_i8 visit_i8 i8
        deserialize_i16 visit_i16 i16
        deserialize_i32 visit_i32 i32
        deserialize_i64 visit_i64 i64
        deserialize_i128 visit_i128 i128
        deserialize_u8 visit_u8 u8
        deserialize_u16 visit_u16 u16
        deserialize_u32 visit_u32 u32
        deserialize_u64 visit_u64 u64
        deserialize_u128 visit_u128 u128
    }

    fn deserialize_bool<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("bool", visitor, |visitor, sample| visitor.visit_bool(sample % 2 == 1))
    }

    fn deserialize_f32<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("f32", visitor, |visitor, sample| visitor.visit_f32(samples::float(sample) as f32))
    }

    fn deserialize_f64<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("f64", visitor, |visitor, sample| visitor.visit_f64(samples::float(sample)))
    }

    fn deserialize_char<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("char", visitor, |visitor, sample| visitor.visit_char(samples::char(sample)))
    }

    fn deserialize_str<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("str", visitor, |visitor, sample| visitor.visit_borrowed_str(samples::string(sample)))
    }

    fn deserialize_string<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("bytes", visitor, |visitor, sample| visitor.visit_borrowed_bytes(samples::bytes(sample)))
    }

    fn deserialize_byte_buf<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_unit<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.leaf("()", visitor, |visitor, _| visitor.visit_unit())
    }

    fn deserialize_unit_struct<V: Visitor<'static>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_option<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        let visit = self.open(Kind::Option, typeid::of::<V>(), &[], 1)?;
        let some = visit.hot() || visit.graph.choice(visit.id) % 2 == 1 && visit.graph.can_build(visit.id, 0);
        let Visit { graph, id, explore, .. } = visit;
        let result = if some {
            visitor.visit_some(Tracer { graph: &mut *graph, parent: id, slot: 0, explore })
        } else {
            visitor.visit_none()
        };
        graph.close(id, result)
    }

    fn deserialize_newtype_struct<V: Visitor<'static>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        if let Some(kind) = name.strip_prefix(HANDLE_PREFIX) {
            return self.one(Kind::Handle(kind), visitor, |visitor, _| visitor.visit_unit());
        }
        let Visit { graph, id, explore, .. } = self.open(Kind::Newtype, typeid::of::<V>(), &[], 1)?;
        let result =
            visitor.visit_newtype_struct(Tracer { graph: &mut *graph, parent: id, slot: 0, explore });
        graph.close(id, result)
    }

    fn deserialize_seq<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        let mut visit = self.open(Kind::Seq, typeid::of::<V>(), &[], 1)?;
        let result = visitor.visit_seq(Elements::new(&mut visit));
        visit.graph.close(visit.id, result)
    }

    fn deserialize_tuple<V: Visitor<'static>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.tuple(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'static>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        let mut visit = self.open(Kind::Map, typeid::of::<V>(), &[], 2)?;
        let result = visitor.visit_map(Elements::new(&mut visit));
        visit.graph.close(visit.id, result)
    }

    fn deserialize_struct<V: Visitor<'static>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.fields(fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'static>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        // One slot at least, as an empty list may be that of an enum which has no variants, or of a visitor
        // which does not care to name them.
        let mut visit = self.open(Kind::Enum, typeid::of::<V>(), variants, variants.len().max(1))?;
        let slot = match visit.graph.nearest(visit.id) {
            Some(slot) if visit.explore => Some(slot),
            _ => {
                let sample = visit.graph.choice(visit.id);
                let slots = visit.graph.buildable(visit.id);
                (!slots.is_empty()).then(|| slots[sample % slots.len()])
            }
        };
        let result = match slot {
            Some(slot) => {
                let result = visitor.visit_enum(Variant { visit: &mut visit, slot });
                if result.is_err()
                    && !visit.graph.fault
                    && visit.next > 0
                    && visit.node().slots[slot] == Slot::Pending
                {
                    // It takes the index and refuses what it stands for, whatever comes after.
                    visit.graph.fill(visit.id, slot, Slot::Opaque(Why::Unreached));
                    visit.graph.fault = true;
                }
                result
            }
            None => Err(visit.graph.stop()),
        };
        if variants.is_empty() && matches!(visit.node().slots[0], Slot::Known(_)) {
            visit.graph.fill(visit.id, 0, Slot::Opaque(Why::Unreached));
        }
        visit.graph.close(visit.id, result)
    }

    fn deserialize_any<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.any(visitor)
    }

    fn deserialize_identifier<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'static>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}
