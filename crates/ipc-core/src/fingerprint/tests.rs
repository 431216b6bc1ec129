//! That tracing ends, within its bounds, for types made to prevent it; and that nothing is lost for it.

#![allow(dead_code, reason = "what the fields hold is of no interest, only that they are there")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Fingerprint, Schema};

fn text<T: Deserialize<'static>>() -> String {
    Schema::trace::<T>().text
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
    assert_eq!(text::<(Pong, Ping)>(), "(#1=enum<X: #2=enum<A: ^1> | Y>, #2)");
    assert_eq!(
        text::<(First, bool)>(),
        "(enum<Second: #1=enum<First: ^1 | Third: (#2=enum<First: (^3, ^2) | Second: ^2 | End: str>, u8)> \
         | Third: #2>, bool)"
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

macro_rules! three_hundred {
    ($with:ident) => { three_hundred!(@ $with 0 1 2 3 4 5 6 7 8 9) };
    (@ $with:ident $($a:tt)*) => { three_hundred!(@@ $with [$($a)*] [$($a)*]) };
    (@@ $with:ident [$($a:tt)*] $b:tt) => { $with! { $($a $b)* } };
}
