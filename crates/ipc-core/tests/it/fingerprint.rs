//! Structural fingerprints: what counts, what does not, what is visible as unknown, and that it ends.

#![allow(dead_code, reason = "what the fields hold is of no interest, only that they are there")]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::marker::PhantomData;
use std::num::{NonZeroI8, NonZeroU32, NonZeroU64, Wrapping};
use std::ops::Range;
use std::time::{Duration, SystemTime};

use ipc_core::{Classify, Error, ErrorKind, Fingerprint, Schema};
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};

fn text<T: Deserialize<'static>>() -> String {
    Schema::of::<T>().to_string()
}

fn same<A: Deserialize<'static>, B: Deserialize<'static>>() -> bool {
    let (a, b) = (Schema::of::<A>(), Schema::of::<B>());
    assert_eq!(a.text() == b.text(), a.fingerprint() == b.fingerprint());
    a.fingerprint() == b.fingerprint()
}

#[track_caller]
fn texts(expected: &[(String, &str)]) {
    for (text, expected) in expected {
        assert_eq!(text, expected);
    }
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Task {
    id: u64,
    name: String,
    tags: Vec<String>,
    next: Option<Box<Task>>,
}

#[derive(Deserialize)]
enum Tree {
    Leaf(i32),
    Node(Vec<Tree>, Option<Box<Tree>>),
    Named { name: String, inner: Box<Tree> },
}

mod elsewhere {
    use super::*;

    /// Another type of the same name, and of another structure.
    #[derive(Deserialize)]
    pub(super) struct Task {
        id: u32,
    }

    /// The same structure under another name, cut into other types, of other types.
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    #[serde(rename = "Job")]
    pub(super) struct Renamed {
        id: usize,
        name: Cow<'static, str>,
        tags: VecDeque<Label>,
        next: Option<Box<Other>>,
    }

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    pub(super) struct Other {
        id: Wrapping<u64>,
        #[serde(rename = "name")]
        title: std::path::PathBuf,
        tags: BTreeSet<Box<str>>,
        next: Option<Box<Renamed>>,
    }

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    pub(super) struct Label(String);
}

/// The numbers were computed by another program from the texts: a change of either is a change of the protocol.
#[test]
fn golden_texts_and_fingerprints() {
    let golden: &[(std::sync::Arc<Schema>, &str, u64)] = &[
        (Schema::of::<u64>(), "u64", 0x4d35d3193e8d66f2),
        (Schema::of::<String>(), "str", 0x826e83195d0d60f0),
        (Schema::of::<Vec<u8>>(), "bytes", 0x2f2ec0474f1c4fe4),
        (Schema::of::<()>(), "()", 0x07e11f07b4a6665a),
        (Schema::of::<Vec<String>>(), "[str]", 0x1a3d8b2fdc0d7210),
        (Schema::of::<Option<u32>>(), "?u32", 0xf2f7c524c61b862c),
        (Schema::of::<HashMap<String, u64>>(), "map<str, u64>", 0xf11681ac8587183b),
        (Schema::of::<(u8, &str, Option<bool>)>(), "(u8, str, ?bool)", 0xf8d7c7439989e549),
        (Schema::of::<[u16; 4]>(), "(u16; 4)", 0x0453dd9dd19bb1c1),
        (Schema::of::<Result<u32, String>>(), "enum<Ok: u32 | Err: str>", 0xd9705f06b03b961c),
        (Schema::of::<Duration>(), "{ secs: u64, nanos: u32 }", 0x094e6b3003e22301),
        (Schema::of::<std::net::IpAddr>(), "enum<V4: (u8; 4) | V6: (u8; 16)>", 0x3a06906c7a78138d),
        (Schema::of::<Task>(), "{ id: u64, name: str, tags: [str], next: ?^1 }", 0xbdc31a92450fba32),
        (
            Schema::of::<Tree>(),
            "enum<Leaf: i32 | Node: ([^2], ?^2) | Named: { name: str, inner: ^1 }>",
            0x47b9e5b1888ef034,
        ),
    ];
    for (schema, text, fingerprint) in golden {
        assert_eq!(schema.text(), *text);
        assert_eq!(schema.fingerprint(), Fingerprint::from_u64(*fingerprint), "{text}");
        assert!(schema.is_complete(), "{text}");
    }
    assert_eq!(Schema::of::<u64>().fingerprint().to_string(), "4d35d3193e8d66f2");
}

#[test]
fn std_types() {
    texts(&[
        (text::<(i8, i16, i32, i64, i128, isize)>(), "(i8, i16, i32, i64, i128, i64)"),
        (text::<(u8, u16, u32, u64, u128, usize)>(), "(u8, u16, u32, u64, u128, u64)"),
        (text::<(f32, f64, bool, char, (), u8, u8, u8, u8)>(), "(f32, f64, bool, char, (), u8, u8, u8, u8)"),
        (text::<BTreeMap<u16, BTreeSet<i64>>>(), "map<u16, [i64]>"),
        (text::<SystemTime>(), "{ secs_since_epoch: u64, nanos_since_epoch: u32 }"),
        (text::<std::net::SocketAddr>(), "enum<V4: ((u8; 4), u16) | V6: ((u8; 16), u16)>"),
        (text::<Range<i8>>(), "{ start: i8, end: i8 }"),
        (text::<std::ops::Bound<u8>>(), "enum<Unbounded | Included: u8 | Excluded: u8>"),
        (text::<(NonZeroI8, NonZeroU64, NonZeroU32)>(), "(i8, u64, u32)"),
        (text::<HashMap<NonZeroU32, Vec<NonZeroU32>>>(), "map<u32, [u32]>"),
        (text::<PhantomData<u32>>(), "()"),
        (text::<Option<Option<()>>>(), "??()"),
        (text::<[u8; 32]>(), "(u8; 32)"),
        (text::<std::ffi::CString>(), "bytes"),
        (
            text::<Box<Vec<Option<Result<HashMap<String, (Cow<'static, str>, [f32; 2])>, ()>>>>>(),
            "[?enum<Ok: map<str, (str, (f32; 2))> | Err>]",
        ),
    ]);
    #[cfg(unix)]
    assert_eq!(
        text::<(std::ffi::OsString, NonZeroU32, u8)>(),
        "(enum<Unix: bytes | Windows: opaque>, u32, u8)"
    );
}

#[test]
fn what_the_wire_does_not_tell_apart_is_equal() {
    assert!(
        same::<String, &'static str>() && same::<String, Cow<'static, str>>() && same::<String, Box<str>>()
    );
    assert!(same::<Vec<u8>, serde_bytes::ByteBuf>() && same::<Vec<u8>, &'static [u8]>());
    assert!(same::<(u8, u8), [u8; 2]>() && same::<HashSet<u32>, Vec<u32>>() && !same::<(u8, u8), Vec<u8>>());

    #[derive(Deserialize)]
    struct Unit;
    #[derive(Deserialize)]
    struct Pair(u8, u8);
    #[derive(Deserialize)]
    struct Meters(Box<f64>);
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Wrapped {
        inner: f64,
    }
    assert!(same::<Unit, ()>() && same::<Pair, [u8; 2]>());
    assert!(
        same::<Meters, f64>() && same::<Wrapped, f64>() && same::<(f64,), f64>() && same::<[f64; 1], f64>()
    );

    #[derive(Deserialize)]
    struct Point {
        x: u8,
    }
    #[derive(Deserialize)]
    enum Holds {
        A(Point),
        B((u8, u16)),
        C(()),
    }
    #[derive(Deserialize)]
    enum Is {
        A { x: u8 },
        B(u8, u16),
        C,
    }
    assert!(same::<Holds, Is>());
    assert_eq!(text::<Is>(), "enum<A: { x: u8 } | B: (u8, u16) | C>");

    // Lifetimes are no part of a type.
    fn borrowed<'a>(_: &'a str) -> String
    where
        (&'a str, u8): Deserialize<'static>,
    {
        text::<(&'a str, u8)>()
    }
    assert_eq!(borrowed("a"), "(str, u8)");
}

#[test]
fn renamed_or_moved_types_are_equal() {
    assert!(same::<Task, elsewhere::Renamed>() && same::<Task, elsewhere::Other>());
    assert!(!same::<Task, elsewhere::Task>());
    assert_eq!(text::<(Task, elsewhere::Task)>(), format!("({}, {{ id: u32 }})", text::<Task>()));
}

#[test]
fn each_change_of_structure_is_seen() {
    #[derive(Deserialize)]
    struct Is<T> {
        x: T,
    }
    #[derive(Deserialize)]
    struct Other<T> {
        y: T,
    }
    macro_rules! structs {
        ($($name:ident { $($field:ident: $type:ty),* })*) => {{
            $(#[derive(Deserialize)] struct $name { $($field: $type),* })*
            vec![$(text::<$name>()),*]
        }};
    }
    macro_rules! enums {
        ($($name:ident { $($body:tt)* })*) => {{
            $(#[derive(Deserialize)] enum $name { $($body)* })*
            vec![$(text::<$name>()),*]
        }};
    }
    let mut all = structs! {
        Original { a: u32, b: String }
        FieldRenamed { a: u32, c: String }
        Reordered { b: String, a: u32 }
        TypeChanged { a: u64, b: String }
        Signed { a: i32, b: String }
        Optional { a: Option<u32>, b: String }
        Many { a: u32, b: Vec<String> }
        Bytes { a: u32, b: Vec<u8> }
        Added { a: u32, b: String, c: () }
        Removed { a: u32 }
        Empty {}
        Nested { a: u32, b: (String, ()) }
    };
    all.extend(enums! {
        OriginalEnum { A(u32), B }
        VariantRenamed { A(u32), C }
        VariantsReordered { B, A(u32) }
        VariantAdded { A(u32), B, C }
        PayloadChanged { A(u64), B }
        PayloadNamed { A { x: u32 }, B }
        PayloadAdded { A(u32), B(u8) }
        NoneOfThem {}
    });
    all.extend([text::<Vec<u32>>(), text::<Option<u32>>(), text::<HashMap<u32, u32>>(), text::<[u32; 2]>()]);
    // Within one type too, where parts that are equal are merged.
    assert_eq!(text::<(Is<u8>, Other<u8>, Is<u16>)>(), "({ x: u8 }, { y: u8 }, { x: u16 })");
    let distinct: HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "{all:#?}");
}

#[test]
fn serde_attributes() {
    #[derive(Deserialize, Default)]
    #[serde(default, deny_unknown_fields)]
    struct Fields {
        #[serde(rename = "type")]
        kind: u8,
        #[serde(skip)]
        skipped: u32,
        #[serde(default)]
        optional: String,
        #[serde(with = "seconds")]
        span: Duration,
        #[serde(alias = "number", alias = "id")]
        key: u16,
        #[serde(rename = "odd name: \"x\"\n")]
        odd: (),
    }
    mod seconds {
        use super::*;
        pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
            u32::deserialize(from).map(|seconds| Duration::from_secs(seconds.into()))
        }
    }
    let fields = r#"{ type: u8, optional: str, span: u32, id|key|number: u16, "odd name: \"x\"\u{a}": () }"#;
    assert_eq!(text::<Fields>(), fields);
    // In company too, where a value must be made of it.
    assert_eq!(text::<(Fields, NonZeroU32, bool)>(), format!("({fields}, u32, bool)"));

    #[derive(Deserialize)]
    enum Variants {
        #[serde(rename = "first")]
        A,
        #[serde(skip)]
        B,
        #[serde(other)]
        C,
    }
    #[derive(Deserialize)]
    enum Aliased {
        A(u8),
        #[serde(alias = "Z")]
        B(String),
    }
    #[derive(Deserialize)]
    #[serde(from = "(u8, String)")]
    struct From_;
    impl From<(u8, String)> for From_ {
        fn from(_: (u8, String)) -> Self {
            From_
        }
    }
    texts(&[
        (text::<Variants>(), "enum<first | C>"),
        (text::<(Aliased, u8)>(), "(enum<A, B, Z = u8 | str | !>, u8)"),
        (text::<From_>(), "(u8, str)"),
    ]);
}

#[derive(Deserialize, PartialEq, Eq, Hash)]
#[serde(try_from = "String")]
struct Date;

impl TryFrom<String> for Date {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() == 10 && text.as_bytes()[4] == b'-' { Ok(Date) } else { Err("not a date") }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "u8")]
struct Refuses;

impl TryFrom<u8> for Refuses {
    type Error = &'static str;

    fn try_from(_: u8) -> Result<Self, Self::Error> {
        Err("never")
    }
}

#[derive(Deserialize)]
#[serde(try_from = "(u32, u32)")]
struct Increasing;

impl TryFrom<(u32, u32)> for Increasing {
    type Error = &'static str;

    fn try_from((low, high): (u32, u32)) -> Result<Self, Self::Error> {
        if low < high { Ok(Increasing) } else { Err("not increasing") }
    }
}

/// Takes a task only if there is another after it, of which the cheapest way to make one has none.
#[derive(Deserialize)]
#[serde(try_from = "Task")]
struct Followed;

impl TryFrom<Task> for Followed {
    type Error = &'static str;

    fn try_from(task: Task) -> Result<Self, Self::Error> {
        if task.next.is_some() { Ok(Followed) } else { Err("alone") }
    }
}

#[test]
fn validating_types_show_what_they_read() {
    #[derive(Deserialize)]
    struct Report {
        never: Refuses,
        many: Vec<Refuses>,
        date: Option<Date>,
        after: String,
    }
    #[derive(Deserialize)]
    enum Choice {
        A(Refuses),
        B(bool),
    }
    texts(&[
        (text::<Date>(), "str"),
        (text::<(Date, Increasing, [u8; 3], Date)>(), "(str, (u32; 2), (u8; 3), str)"),
        (text::<(Followed, u8)>(), "({ id: u64, name: str, tags: [str], next: ?^1 }, u8)"),
        (text::<HashMap<Date, NonZeroU32>>(), "map<str, u32>"),
        (text::<(serde_bytes::ByteArray<16>, u32)>(), "(bytes, u32)"),
        (text::<Report>(), "{ never: u8, many: bytes, date: ?str, after: str }"),
        // A variant, an option or a vector of it can still be made, so it hides nothing.
        (text::<(Choice, u32)>(), "(enum<A: u8 | B: bool>, u32)"),
        (text::<(Vec<Refuses>, Option<Refuses>, u32)>(), "(bytes, ?u8, u32)"),
    ]);
}

#[test]
fn opaque_parts_are_visible() {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        A(u8),
    }
    #[derive(Deserialize)]
    #[serde(tag = "t", content = "c")]
    enum Adjacent {
        A(u8),
        B(String),
    }
    #[derive(Deserialize)]
    struct Flat {
        a: u8,
        #[serde(flatten)]
        rest: HashMap<String, u8>,
    }
    #[derive(Deserialize)]
    struct Endless(Box<Endless>);
    #[derive(Deserialize)]
    enum Endless2 {
        Again(Box<Endless2>),
    }
    let opaque = [
        (text::<(Refuses, u32)>(), "(u8, opaque)"),
        (text::<BTreeMap<String, serde_json::Value>>(), "map<str, opaque<any>>"),
        (text::<Untagged>(), "opaque<any>"),
        (text::<Adjacent>(), "{ t: enum<A | B>, c: opaque<varies> }"),
        (text::<Flat>(), "map<opaque<any>, opaque<any>>"),
        (text::<Endless>(), "opaque"),
        (text::<(Endless2, u8)>(), "(enum<Again: ^0>, opaque)"),
    ];
    texts(&opaque);
    assert!(!Schema::of::<(Refuses, u32)>().is_complete() && !Schema::of::<Vec<Flat>>().is_complete());
    assert!(Schema::of::<(u32, Refuses)>().is_complete() && Schema::of::<Endless2>().is_complete());
}

/// Encodes values of `A`, decodes them as `B` and back: equal schemas mean that this is the identity.
#[track_caller]
fn interchange<A, B>(values: impl IntoIterator<Item = A>)
where
    A: Serialize + DeserializeOwned + PartialEq + fmt::Debug,
    B: Serialize + DeserializeOwned,
{
    assert_eq!(text::<A>(), text::<B>());
    for value in values {
        let bytes = postcard::to_stdvec(&value).unwrap();
        let other: B = postcard::from_bytes(&bytes).unwrap();
        let again = postcard::to_stdvec(&other).unwrap();
        assert_eq!(again, bytes);
        assert_eq!(postcard::from_bytes::<A>(&again).unwrap(), value);
    }
}

#[test]
fn equal_schemas_interchange_on_the_wire() {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Point {
        x: u8,
        y: i64,
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    enum Holds {
        A(Point),
        B((u8, u16)),
        C(()),
    }
    #[derive(Serialize, Deserialize)]
    enum Is {
        A { x: Wrapping<u8>, y: isize },
        B(u8, u16),
        C,
    }
    #[derive(Serialize, Deserialize)]
    struct Unit;
    #[derive(Serialize, Deserialize)]
    struct Triple(u32, (u32,), [u32; 1]);

    interchange::<u64, usize>([0, 1, 127, 128, u64::MAX]);
    interchange::<i64, Wrapping<isize>>([0, -1, i64::MIN, i64::MAX]);
    interchange::<String, std::path::PathBuf>(["".into(), "a/ü".into()]);
    interchange::<Vec<u8>, serde_bytes::ByteBuf>([vec![], vec![0, 255], vec![1; 300]]);
    interchange::<serde_bytes::ByteBuf, VecDeque<u8>>([serde_bytes::ByteBuf::from(vec![7; 200])]);
    interchange::<[u32; 3], Triple>([[0, 1, u32::MAX]]);
    interchange::<NonZeroU32, u32>([NonZeroU32::MIN, NonZeroU32::MAX]);
    interchange::<Vec<(String, u8)>, Vec<(Box<str>, [u8; 1])>>([
        vec![],
        vec![("a".into(), 1), ("b".into(), 2)],
    ]);
    interchange::<(), Unit>([()]);
    interchange::<Option<Box<Point>>, Option<Point>>([None, Some(Box::new(Point { x: 1, y: -2 }))]);
    interchange::<Holds, Is>([Holds::A(Point { x: 9, y: i64::MIN }), Holds::B((1, 2)), Holds::C(())]);
    interchange::<Result<u8, String>, Result<(u8,), Box<str>>>([Ok(3), Err("no".into())]);
    let task = |id, next| Task { id, name: "n".into(), tags: vec!["a".into(), "b".into()], next };
    interchange::<Task, elsewhere::Renamed>([task(1, None), task(2, Some(Box::new(task(3, None))))]);
    interchange::<elsewhere::Renamed, elsewhere::Other>([]);
}

#[test]
fn a_mismatch_shows_both_structures() {
    let (ours, theirs) = (Schema::of::<Task>(), Schema::of::<elsewhere::Task>());
    assert_eq!(ours.check(ours.fingerprint(), "whatever it says"), Ok(()));
    let mismatch = ours.check(theirs.fingerprint(), theirs.text()).unwrap_err();
    assert_eq!(mismatch.kind(), ErrorKind::Mismatch);
    assert_eq!((mismatch.ours.as_str(), mismatch.theirs.as_str()), (ours.text(), theirs.text()));
    assert_eq!(
        mismatch.to_string(),
        "the two ends disagree on the structure of the messages: \
         ours is `{ id: u64, name: str, tags: [str], next: ?^1 }`, theirs is `{ id: u32 }`"
    );
    assert_eq!(Error::from(mismatch).kind(), ErrorKind::Mismatch);
    let unexplained = ours.check(theirs.fingerprint(), "").unwrap_err().to_string();
    assert!(unexplained.ends_with(&format!("theirs is {}", theirs.fingerprint())), "{unexplained}");
}

#[test]
fn a_long_mismatch_is_cut_around_the_difference() {
    let ours = Schema::of::<Task>();
    let (before, after) = ("é".repeat(5000), "z".repeat(5000));
    let mismatch = ours.check(Fingerprint::from_u64(0), &format!("\u{1b}[31m{before}{after}")).unwrap_err();
    let shown = mismatch.to_string();
    assert!(shown.contains(ours.text()) && shown.chars().count() < 500, "{shown}");
    assert!(!shown.contains('\u{1b}'), "a peer must not speak to the terminal");

    type Wide<T> = ([Duration; 12], (SystemTime, Task, T), [Result<Task, Tree>; 9]);
    let (ours, theirs) =
        (Schema::of::<(Wide<u8>, Wide<u16>, u8)>(), Schema::of::<(Wide<u8>, Wide<u16>, u16)>());
    let shown = ours.check(theirs.fingerprint(), theirs.text()).unwrap_err().to_string();
    assert!(shown.contains("u8)`") && shown.contains("u16)`"), "{shown}");
    assert!(shown.matches('…').count() == 2 && (550..700).contains(&shown.chars().count()), "{shown}");
}

#[test]
fn later_calls_only_look_it_up() {
    assert!(std::sync::Arc::ptr_eq(&Schema::of::<Tree>(), &Schema::of::<Tree>()));
    let bytes = postcard::to_stdvec(&Schema::of::<Tree>().fingerprint()).unwrap();
    assert_eq!(postcard::from_bytes::<Fingerprint>(&bytes).unwrap(), Schema::of::<Tree>().fingerprint());
}
