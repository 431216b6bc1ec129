//! That tracing ends, within its bounds, for types made to prevent it; and what it makes of handles and of
//! visitors that were not derived.

#![allow(dead_code, reason = "what the fields hold is of no interest, only that they are there")]

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Fingerprint, Schema};

fn text<T: Deserialize<'static>>() -> String {
    Schema::trace::<T>().text
}

#[track_caller]
fn texts(expected: &[(String, &str)]) {
    for (text, expected) in expected {
        assert_eq!(text, expected);
    }
}

/// The published values of FNV-1a.
#[test]
fn the_hash_is_the_one_it_says() {
    assert_eq!(Fingerprint::of_text(""), Fingerprint(0xcbf2_9ce4_8422_2325));
    assert_eq!(Fingerprint::of_text("a"), Fingerprint(0xaf63_dc4c_8601_ec8c));
    assert_eq!(Fingerprint::of_text("foobar"), Fingerprint(0x8594_4171_f739_67e8));
}

#[derive(Deserialize)]
struct List {
    value: u32,
    next: Option<Box<List>>,
}
#[derive(Deserialize)]
struct Forest(Vec<Forest>);
#[derive(Deserialize)]
struct Index {
    below: HashMap<String, Index>,
}

// Whichever variant one takes that is not being visited already, one may end in the other type's first.
#[derive(Deserialize)]
enum Ping {
    A(Box<Pong>),
}
#[derive(Deserialize)]
enum Pong {
    X(Box<Ping>),
    Y,
}
#[derive(Deserialize)]
enum First {
    Second(Box<Second>),
    Third(Box<Third>),
}
#[derive(Deserialize)]
enum Second {
    First(Box<First>),
    Third(Box<Third>, u8),
}
#[derive(Deserialize)]
enum Third {
    First(Box<First>, Box<Second>),
    Second(Box<Second>),
    End(String),
}

#[test]
fn recursion_ends() {
    assert_eq!(text::<List>(), "{ value: u32, next: ?^1 }");
    assert_eq!(text::<Forest>(), "[^0]");
    assert_eq!(text::<Index>(), "{ below: map<str, ^1> }");
    // In a tuple a value has to be made of the first, to see the second.
    assert_eq!(text::<(Ping, u8)>(), "(enum<A: enum<X: ^1 | Y>>, u8)");
    assert_eq!(text::<(Pong, Ping)>(), "(enum<X: #1=enum<A: ^1> | Y>, #1)");
    assert_eq!(
        text::<(First, bool)>(),
        "(enum<Second: enum<First: ^1 | Third: (#1=enum<First: (^4, ^3) | Second: ^2 | End: str>, u8)> \
         | Third: #1>, bool)"
    );
}

/// The text is of what the type unfolds to, not of how it was written down.
#[test]
fn the_text_is_canonical() {
    #[derive(Deserialize)]
    struct Odd {
        value: u32,
        next: Option<Box<Even>>,
    }
    #[derive(Deserialize)]
    struct Even {
        value: u32,
        next: Option<Box<Odd>>,
    }
    #[derive(Deserialize)]
    struct Unrolled {
        value: u32,
        next: Option<Box<List>>,
    }
    assert_eq!(text::<Odd>(), text::<List>());
    assert_eq!(text::<Unrolled>(), text::<List>());
    assert_eq!(text::<(Even, Unrolled, List)>(), text::<[List; 3]>());
    // It does not depend on where a type is met first either.
    let inner = text::<Third>();
    assert_eq!(text::<Vec<Third>>(), format!("[{inner}]"));
    assert_eq!(text::<(u8, Third)>(), format!("(u8, {inner})"));
}

#[test]
fn parts_that_occur_again_are_labelled_if_they_are_large() {
    assert_eq!(text::<([u8; 7], bool, [u8; 7])>(), "((u8; 7), bool, (u8; 7))");
    assert_eq!(text::<([u8; 8], bool, [u8; 8])>(), "(#1=(u8; 8), bool, #1)");
}

/// Within a time that no bound of the tracer takes, on a busy machine: tracing that is exponential takes years.
fn soon<R>(what: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = what();
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    result
}

macro_rules! chain {
    ($($name:ident: $below:ident)*) => {$(
        #[derive(Deserialize)]
        struct $name {
            a: $below,
            b: $below,
        }
    )*};
}

#[derive(Deserialize)]
struct P0 {
    end: (),
}
chain! {
    P1: P0 P2: P1 P3: P2 P4: P3 P5: P4 P6: P5 P7: P6 P8: P7 P9: P8 P10: P9
    P11: P10 P12: P11 P13: P12 P14: P13 P15: P14 P16: P15 P17: P16 P18: P17 P19: P18 P20: P19
    P21: P20 P22: P21 P23: P22 P24: P23 P25: P24 P26: P25 P27: P26 P28: P27 P29: P28 P30: P29
}

#[test]
fn an_exponential_type_is_traced_without_making_a_value() {
    let schema = soon(Schema::trace::<P30>);
    assert!(schema.complete && schema.text.len() < 2000, "{schema}");
    // Each level but the small ones is written once.
    assert!(schema.text.starts_with("{ a: #1={ a: #2={ a: #3={"), "{schema}");
    assert!(schema.text.ends_with("b: #3 }, b: #2 }, b: #1 }"), "{schema}");
}

/// Doubles a type.
type Two<T> = (T, T);
type Four<T> = Two<Two<T>>;
type Sixteen<T> = Four<Four<T>>;

#[test]
fn an_exponential_tuple_is_visibly_unknown_beyond_the_bound() {
    // The second part of a tuple is seen only after a value of the first was made.
    let small = soon(Schema::trace::<Sixteen<Four<()>>>);
    assert!(small.complete && !small.text.contains("opaque"), "{small}");
    let large = soon(Schema::trace::<Sixteen<Sixteen<Sixteen<Sixteen<Sixteen<()>>>>>>);
    assert!(!large.complete && large.text.contains("opaque<limit>"), "{large}");
}

type Nest4<T> = Inner<Inner<Inner<Inner<T>>>>;
type Nest20<T> = Nest4<Nest4<Nest4<Nest4<Nest4<T>>>>>;
type Nest100<T> = Nest20<Nest20<Nest20<Nest20<Nest20<T>>>>>;

#[derive(Deserialize)]
struct Inner<T> {
    inner: Option<Box<T>>,
}

#[derive(Deserialize)]
struct Plain<T> {
    x: T,
}
type Plain10<T> = Plain<Plain<Plain<Plain<Plain<Plain<Plain<Plain<Plain<Plain<T>>>>>>>>>>;
type Plain50<T> = Plain10<Plain10<Plain10<Plain10<Plain10<T>>>>>;

#[test]
fn deep_types_do_not_overflow_the_stack() {
    let hundred = Schema::trace::<Plain50<Plain50<u8>>>();
    assert_eq!(hundred.text, format!("{}u8{}", "{ x: ".repeat(100), " }".repeat(100)));
    // A level of these takes three visitors, so this is beyond the bound, and says so.
    let deeper = soon(Schema::trace::<Nest100<u8>>);
    assert!(!deeper.complete && deeper.text.contains("?opaque<limit> }"), "{deeper}");
    assert!(deeper.text.starts_with(&"{ inner: ?".repeat(80)), "{deeper}");
}

macro_rules! wide {
    ($($name:ident)*) => {
        #[derive(Deserialize)]
        #[allow(non_camel_case_types, reason = "one list of names serves fields and variants")]
        enum WideEnum { $($name(Option<Box<WideEnum>>, u8),)* Unit, Last { x: Box<WideStruct> } }
        #[derive(Deserialize)]
        struct WideStruct { $($name: Vec<WideEnum>),* }
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}
wide! {
    n000 n001 n002 n003 n004 n005 n006 n007 n008 n009 n010 n011 n012 n013 n014 n015 n016 n017 n018 n019
    n020 n021 n022 n023 n024 n025 n026 n027 n028 n029 n030 n031 n032 n033 n034 n035 n036 n037 n038 n039
    n040 n041 n042 n043 n044 n045 n046 n047 n048 n049 n050 n051 n052 n053 n054 n055 n056 n057 n058 n059
    n060 n061 n062 n063 n064 n065 n066 n067 n068 n069 n070 n071 n072 n073 n074 n075 n076 n077 n078 n079
    n080 n081 n082 n083 n084 n085 n086 n087 n088 n089 n090 n091 n092 n093 n094 n095 n096 n097 n098 n099
    n100 n101 n102 n103 n104 n105 n106 n107 n108 n109 n110 n111 n112 n113 n114 n115 n116 n117 n118 n119
    n120 n121 n122 n123 n124 n125 n126 n127 n128 n129 n130 n131 n132 n133 n134 n135 n136 n137 n138 n139
    n140 n141 n142 n143 n144 n145 n146 n147 n148 n149 n150 n151 n152 n153 n154 n155 n156 n157 n158 n159
    n160 n161 n162 n163 n164 n165 n166 n167 n168 n169 n170 n171 n172 n173 n174 n175 n176 n177 n178 n179
    n180 n181 n182 n183 n184 n185 n186 n187 n188 n189 n190 n191 n192 n193 n194 n195 n196 n197 n198 n199
    n200 n201 n202 n203 n204 n205 n206 n207 n208 n209 n210 n211 n212 n213 n214 n215 n216 n217 n218 n219
    n220 n221 n222 n223 n224 n225 n226 n227 n228 n229 n230 n231 n232 n233 n234 n235 n236 n237 n238 n239
    n240 n241 n242 n243 n244 n245 n246 n247 n248 n249 n250 n251 n252 n253 n254 n255 n256 n257 n258 n259
    n260 n261 n262 n263 n264 n265 n266 n267 n268 n269 n270 n271 n272 n273 n274 n275 n276 n277 n278 n279
    n280 n281 n282 n283 n284 n285 n286 n287 n288 n289 n290 n291 n292 n293 n294 n295 n296 n297 n298 n299
}

#[test]
fn wide_types_are_traced_whole() {
    let wide = soon(Schema::trace::<WideEnum>);
    let fields: Vec<String> = NAMES.iter().map(|name| format!("{name}: ")).collect();
    assert!(wide.complete);
    for (field, next) in fields.iter().zip(&fields[1..]) {
        let (at, then): (Vec<_>, Vec<_>) =
            (wide.text.match_indices(field).collect(), wide.text.match_indices(next).collect());
        assert!(at.len() == 2 && then.len() == 2 && at[0] < then[0] && at[1] < then[1], "{field}");
    }
    assert!(wide.text.starts_with("enum<n000: #1=(?^2, u8) | n001: #1 | "), "{wide}");
    assert!(wide.text.contains(" | n299: #1 | Unit | Last: { x: { n000: #2=[^3], n001: #2, "), "{wide}");
}

/// A handle as the crates above make them; `MAKE` says whether there is a value to be had without one.
struct Handle<const MAKE: bool>;

impl<'de, const MAKE: bool> Deserialize<'de> for Handle<MAKE> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Claim<const MAKE: bool>;
        impl<'de, const MAKE: bool> Visitor<'de> for Claim<MAKE> {
            type Value = Handle<MAKE>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a handle")
            }
            fn visit_unit<E: serde::de::Error>(self) -> Result<Handle<MAKE>, E> {
                if MAKE { Ok(Handle) } else { Err(E::custom("not a message")) }
            }
        }
        from.deserialize_newtype_struct(
            if MAKE { "\u{1}ipc-handle:pipe.sender" } else { "\u{1}ipc-handle:file" },
            Claim,
        )
    }
}

#[test]
fn handles_hide_no_fields() {
    #[derive(Deserialize)]
    struct Job {
        file: Handle<false>,
        id: u32,
        input: Option<Box<Job>>,
        files: Vec<Handle<false>>,
        reply: (Handle<true>, String),
    }
    #[derive(Deserialize)]
    enum Request {
        Open(Handle<false>),
        Copy { from: Handle<false>, to: Handle<true>, len: u64 },
        Both(Handle<false>, u64),
    }
    texts(&[
        (
            text::<Job>(),
            "{ file: handle<file>, id: u32, input: ?^1, files: [handle<file>], reply: (handle<pipe.sender>, str) }",
        ),
        (
            text::<Request>(),
            "enum<Open: handle<file> | Copy: { from: handle<file>, to: handle<pipe.sender>, len: u64 } \
             | Both: (handle<file>, opaque)>",
        ),
    ]);
}

/// What reads by position only, stops early, or asks nothing, shows what it does read.
#[test]
fn hand_written_visitors() {
    struct ByPosition(u8, String);
    impl<'de> Deserialize<'de> for ByPosition {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            struct Fields;
            impl<'de> Visitor<'de> for Fields {
                type Value = ByPosition;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("two fields")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<ByPosition, A::Error> {
                    let missing = || serde::de::Error::custom("missing");
                    Ok(ByPosition(
                        from.next_element()?.ok_or_else(missing)?,
                        from.next_element()?.ok_or_else(missing)?,
                    ))
                }
            }
            from.deserialize_struct("ByPosition", &["a", "b"], Fields)
        }
    }
    /// Keys that are read as text look all the same, and still are no aliases.
    struct TextKeys;
    impl<'de> Deserialize<'de> for TextKeys {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            struct Fields;
            impl<'de> Visitor<'de> for Fields {
                type Value = TextKeys;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("fields")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<TextKeys, A::Error> {
                    while let Some(key) = from.next_key::<String>()? {
                        if key == "a" {
                            from.next_value::<u8>().map(|_| ())?
                        } else {
                            from.next_value::<char>().map(|_| ())?
                        }
                    }
                    Ok(TextKeys)
                }
            }
            from.deserialize_struct("TextKeys", &["a", "b"], Fields)
        }
    }
    /// The list of fields need not be right.
    struct StopsEarly;
    impl<'de> Deserialize<'de> for StopsEarly {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            struct Parts;
            impl<'de> Visitor<'de> for Parts {
                type Value = StopsEarly;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("one part")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<StopsEarly, A::Error> {
                    from.next_element::<bool>().map(|_| StopsEarly)
                }
            }
            from.deserialize_tuple(2, Parts)
        }
    }
    /// An error on the way may be taken for granted.
    struct Lenient;
    impl<'de> Deserialize<'de> for Lenient {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            Ok(Handle::<false>::deserialize(from).map_or(Lenient, |_| Lenient))
        }
    }
    texts(&[
        (text::<(ByPosition, u8)>(), "({ a: u8, b: str }, u8)"),
        (text::<(TextKeys, u8)>(), "({ a: u8, b: char }, u8)"),
        (text::<(Lenient, NonZeroU32, u16)>(), "(handle<file>, u32, u16)"),
        (text::<(StopsEarly, u16)>(), "(bool, u16)"),
    ]);
}
