//! Types that a hostile sender would like its receiver to have. The fuzz target and the tests of the budget
//! (`tests/it/budget.rs`) decode the same bytes as each of them.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::ffi::{CString, OsString};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use ipc_core::{Codec, DecodeError, Value};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Much larger in memory than in a message.
#[derive(Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
pub struct Padded {
    pub seen: u8,
    #[serde(skip)]
    pub unseen: [u64; 32],
}

/// Nothing in a message.
#[derive(Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
pub struct Unseen {
    #[serde(skip)]
    pub unseen: [u64; 8],
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct Newtype<T>(pub T);

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(transparent)]
pub struct Transparent {
    pub inner: Box<Padded>,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(from = "u8", into = "u8")]
pub struct Converted(pub u16);

impl From<u8> for Converted {
    fn from(value: u8) -> Self {
        Converted(value.into())
    }
}

impl From<Converted> for u8 {
    fn from(value: Converted) -> Self {
        value.0 as u8
    }
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub enum Tree {
    Leaf,
    Node(Box<Tree>, Box<Tree>),
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct Chain {
    pub next: Option<Box<Chain>>,
    #[serde(skip)]
    pub unseen: [u64; 16],
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct Forest {
    pub name: String,
    pub trees: Vec<Forest>,
    pub favourite: Option<Box<Forest>>,
}

/// Behind a pointer with counters, as `Rc` deserializes where serde's feature `rc` is on.
#[derive(Debug, Clone, PartialEq)]
pub struct Shared(pub Rc<u8>);

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u8::deserialize(deserializer).map(Rc::new).map(Shared)
    }
}

/// A fixed number of fields that are not kept in place.
#[derive(Debug, Clone, PartialEq)]
pub struct Gathered(pub Vec<u64>);

impl<'de> Deserialize<'de> for Gathered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Gather;

        impl<'de> Visitor<'de> for Gather {
            type Value = Gathered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("100 numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Gathered, A::Error> {
                let mut numbers = Vec::new();
                while let Some(number) = seq.next_element()? {
                    numbers.push(number);
                }
                Ok(Gathered(numbers))
            }
        }

        deserializer.deserialize_tuple(100, Gather)
    }
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "it is meant to be costly")]
pub enum Wide {
    Unit,
    Byte(u8),
    Large([u64; 32]),
    Behind(Box<Padded>),
    List(Vec<Wide>),
    Map(HashMap<u8, Wide>),
    Sorted { entries: BTreeMap<u16, Wide>, rest: Option<Box<Wide>> },
}

macro_rules! shapes {
    ($($shape:ty,)*) => {
        /// The names of the shapes.
        pub const NAMES: &[&str] = &[$(stringify!($shape)),*];

        /// Decodes `bytes` as the shape of this name.
        pub fn decode(name: &str, codec: &Codec, bytes: &[u8]) -> Result<(), DecodeError> {
            match name {
                $(stringify!($shape) => codec.decode::<$shape>(bytes).map(drop),)*
                _ => unreachable!("{name} is not a shape"),
            }
        }
    };
}

shapes! {
    (),
    bool,
    char,
    i8,
    u64,
    i128,
    f64,
    NonZeroU32,
    Duration,
    IpAddr,
    String,
    Box<str>,
    Cow<'static, str>,
    CString,
    OsString,
    PathBuf,
    Vec<u8>,
    Vec<u16>,
    Vec<u64>,
    Vec<[u64; 32]>,
    Vec<()>,
    Vec<[u8; 0]>,
    Vec<Unseen>,
    Vec<String>,
    Vec<CString>,
    Vec<PathBuf>,
    Vec<Vec<u8>>,
    Vec<Vec<()>>,
    Vec<Vec<Vec<u16>>>,
    Box<[u16]>,
    Box<[Box<[u8]>]>,
    Cow<'static, [u16]>,
    Vec<Cow<'static, [u8]>>,
    VecDeque<u8>,
    VecDeque<Padded>,
    BinaryHeap<u32>,
    LinkedList<()>,
    LinkedList<u8>,
    Vec<LinkedList<u8>>,
    HashSet<u8>,
    HashSet<u16>,
    HashSet<[u8; 2]>,
    Vec<HashSet<u8>>,
    HashMap<u8, u8>,
    HashMap<u16, ()>,
    HashMap<u8, u64>,
    HashMap<u16, u64>,
    HashMap<u16, Padded>,
    HashMap<String, Vec<u8>>,
    Vec<HashMap<u8, u8>>,
    Vec<HashMap<u8, [u64; 32]>>,
    BTreeSet<u8>,
    BTreeSet<u16>,
    Vec<BTreeSet<u8>>,
    BTreeMap<u8, [u64; 32]>,
    BTreeMap<u16, u64>,
    BTreeMap<u32, Vec<u8>>,
    Vec<BTreeMap<u8, u8>>,
    Vec<BTreeMap<u8, Padded>>,
    Box<Padded>,
    Vec<Box<u8>>,
    Vec<Box<u64>>,
    Vec<Box<Box<u8>>>,
    Vec<Box<Padded>>,
    Vec<Option<Box<u8>>>,
    Vec<Option<Box<Padded>>>,
    Vec<Newtype<Box<u8>>>,
    Vec<Newtype<Option<Box<Padded>>>>,
    Vec<Option<Newtype<Box<Padded>>>>,
    Vec<Transparent>,
    Vec<Shared>,
    Gathered,
    Vec<Gathered>,
    Vec<Converted>,
    Vec<Cell<u8>>,
    Vec<(Box<u8>, Box<Padded>)>,
    Vec<Result<Box<u8>, Box<Padded>>>,
    [Option<Box<Padded>>; 16],
    (String, Vec<u16>, Option<Box<Wide>>),
    Vec<HashMap<String, BTreeMap<u16, Vec<Option<u8>>>>>,
    Tree,
    Chain,
    Forest,
    Wide,
    Vec<Wide>,
    Value,
    Vec<Value>,
    HashMap<u8, Value>,
}
