//! The codec: what goes in comes out, and what cannot is told apart.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use ipc_core::{Classify, Codec, DecodeError, EncodeError, ErrorKind, Limits};
use proptest::prelude::*;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::ser::{Error as _, SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    Codec::default().encode(value, &mut bytes).unwrap();
    bytes
}

fn assert_round_trip<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: T) {
    let bytes = encode(&value);
    assert_eq!(bytes, postcard::to_stdvec(&value).unwrap(), "the format is postcard's");
    assert_eq!(Codec::default().decode::<T>(&bytes), Ok(value));
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
enum Shape {
    Point,
    Circle(f64),
    Line(i32, i32),
    Named { name: String, inner: Option<Box<Shape>> },
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
struct Unit;

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
struct Newtype(u16);

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
struct Record {
    unit: Unit,
    newtype: Newtype,
    signed: (i8, i16, i32, i64, i128),
    unsigned: (u8, u16, u32, u64, u128),
    floats: [f32; 3],
    text: (char, String),
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    options: (Option<()>, Option<Option<u8>>),
    shapes: Vec<Shape>,
    map: BTreeMap<String, HashMap<u8, bool>>,
}

fn record() -> Record {
    let named = Shape::Named { name: "line".into(), inner: Some(Box::new(Shape::Line(-1, i32::MAX))) };
    Record {
        unit: Unit,
        newtype: Newtype(300),
        signed: (i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN),
        unsigned: (u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX),
        floats: [0.0, -1.5, f32::INFINITY],
        text: ('é', "日本".into()),
        bytes: vec![0, 127, 255],
        options: (Some(()), Some(None)),
        shapes: vec![Shape::Point, Shape::Circle(0.5), named],
        map: [("a".to_owned(), [(1, true)].into())].into(),
    }
}

#[test]
fn what_goes_in_comes_out_and_is_postcards() {
    assert_round_trip(());
    assert_round_trip(u64::MAX);
    assert_round_trip(record());
    assert_round_trip(vec![Ok::<u8, String>(1), Err("no".into())]);
    assert_round_trip(std::time::Duration::new(3, 4));
    assert_round_trip(std::net::IpAddr::from([127, 0, 0, 1]));
    assert_round_trip([[1_u8; 32]; 4]);
}

#[test]
fn what_is_decoded_may_borrow() {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Borrowed<'a> {
        text: &'a str,
        bytes: &'a [u8],
    }
    let bytes = encode(&("text", serde_bytes::Bytes::new(b"bytes")));
    let value: Borrowed = Codec::default().decode(&bytes).unwrap();
    assert_eq!(value, Borrowed { text: "text", bytes: b"bytes" });
    assert!(bytes.as_ptr_range().contains(&value.text.as_ptr()));
}

#[test]
fn encoding_appends_and_an_error_leaves_nothing_behind() {
    let codec = Codec::new(Limits::new().frame_len_max(4));
    let mut out = b"before".to_vec();
    codec.encode(&[1_u8, 2, 3, 4], &mut out).unwrap();
    assert_eq!(out, b"before\x01\x02\x03\x04");
    let error = codec.encode(&[1_u8; 5], &mut out).unwrap_err();
    assert_eq!(error, EncodeError::TooLong { len_at_least: 5, limit: 4 });
    assert_eq!(out, b"before\x01\x02\x03\x04");
}

#[test]
fn too_long_is_the_senders_error_and_names_the_limit() {
    let codec = Codec::new(Limits::new().frame_len_max(100));
    let mut out = Vec::new();
    let error = codec.encode(&"x".repeat(1 << 20), &mut out).unwrap_err();
    assert_eq!(error, EncodeError::TooLong { len_at_least: (1 << 20) + 3, limit: 100 });
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("`Limits::frame_len_max`"), "{error}");
    assert!(out.capacity() < 1 << 20, "nothing is allocated for what cannot be sent");
    // Displayed values as well.
    let error = codec.encode(&Displayed("x".repeat(200)), &mut out).unwrap_err();
    assert!(matches!(error, EncodeError::TooLong { limit: 100, .. }), "{error}");
    assert_eq!(Codec::new(Limits::new().frame_len_max(0)).encode(&(), &mut out), Ok(()));
}

#[test]
fn too_deep_is_the_senders_error_and_what_passes_can_be_read() {
    #[derive(Serialize, Deserialize)]
    struct Chain(Option<Box<Chain>>);
    let chain = |links| (1..links).fold(Chain(None), |chain, _| Chain(Some(Box::new(chain))));
    for depth_max in 0..10 {
        let codec = Codec::new(Limits::new().depth_max(depth_max));
        for links in 1..8 {
            let mut out = Vec::new();
            match codec.encode(&chain(links), &mut out) {
                Ok(()) => assert!(codec.decode::<Chain>(&out).is_ok(), "{depth_max} {links}"),
                Err(error) => {
                    assert_eq!(error, EncodeError::TooDeep { limit: depth_max });
                    assert!(2 * links > depth_max, "{depth_max} {links}");
                }
            }
        }
    }
    // Every other kind of nesting is counted the same at both ends.
    fn assert_same_depth<T: Serialize + DeserializeOwned>(value: T) {
        let depth = (0..10)
            .find(|&depth| Codec::new(Limits::new().depth_max(depth)).encode(&value, &mut Vec::new()).is_ok())
            .unwrap();
        let bytes = encode(&value);
        let limits = Limits::new();
        assert!(Codec::new(limits.depth_max(depth)).decode::<T>(&bytes).is_ok());
        if let Some(less) = depth.checked_sub(1) {
            let error = Codec::new(limits.depth_max(less)).decode::<T>(&bytes).map(drop).unwrap_err();
            assert_eq!(error, DecodeError::TooDeep { limit: less });
        }
    }
    assert_same_depth(7);
    assert_same_depth(Unit);
    assert_same_depth(Newtype(1));
    assert_same_depth(Some(Newtype(1)));
    assert_same_depth(vec![(1, 2)]);
    assert_same_depth(BTreeMap::from([(1, [2, 3])]));
    assert_same_depth(Shape::Point);
    assert_same_depth(Shape::Circle(0.0));
    assert_same_depth(Shape::Line(1, 2));
    assert_same_depth(Shape::Named { name: String::new(), inner: Some(Box::new(Shape::Point)) });
}

/// Serializes with `Serializer::collect_str`, as addresses and dates do.
struct Displayed(String);

impl Serialize for Displayed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}{}", self.0, self.0))
    }
}

#[test]
fn displayed_values_are_strings() {
    for len in [0, 1, 63, 64, 100, 8191, 8192, 20_000] {
        let text = "é".repeat(len);
        let bytes = encode(&(1_u8, Displayed(text.clone()), 2_u8));
        assert_eq!(Codec::default().decode(&bytes), Ok((1_u8, text.repeat(2), 2_u8)));
    }
}

/// Refuses, as a handle does that cannot travel.
struct Refusing;

impl Serialize for Refusing {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("this handle has been moved"))
    }
}

impl<'de> Deserialize<'de> for Refusing {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("there is no descriptor 3"))
    }
}

#[test]
fn the_messages_of_custom_errors_arrive() {
    let refused = EncodeError::Custom("this handle has been moved".into());
    let mut out = vec![1];
    assert_eq!(Codec::default().encode(&Refusing, &mut out), Err(refused.clone()));
    assert_eq!(Codec::default().encode(&vec![Some((1, Refusing))], &mut out), Err(refused.clone()));
    assert_eq!(Codec::default().encode(&HashMap::from([(1, Refusing)]), &mut out), Err(refused.clone()));
    assert_eq!(refused.to_string(), "this handle has been moved");
    assert_eq!(refused.kind(), ErrorKind::Encode);
    assert_eq!(out, [1]);

    for error in [
        Codec::default().decode::<Refusing>(&[]).map(drop).unwrap_err(),
        Codec::default().decode::<Vec<Option<(u8, Refusing)>>>(&[1, 1, 1]).map(drop).unwrap_err(),
        Codec::default().decode::<HashMap<u8, Refusing>>(&[1, 1]).map(drop).unwrap_err(),
    ] {
        assert_eq!(error, DecodeError::Invalid("there is no descriptor 3".into()));
        assert_eq!(error.kind(), ErrorKind::Decode);
    }
}

#[derive(Serialize, Deserialize, Debug)]
#[serde(untagged)]
enum Untagged {
    Number(u32),
}

#[derive(Serialize, Deserialize, Debug)]
#[serde(tag = "kind")]
enum Tagged {
    Circle { radius: u32 },
}

#[derive(Serialize, Deserialize, Debug)]
struct Flattened {
    #[serde(flatten)]
    rest: BTreeMap<String, u32>,
}

#[derive(Serialize, Deserialize, Debug)]
struct Skipping {
    #[serde(skip_serializing_if = "Option::is_none")]
    maybe: Option<u8>,
}

#[test]
fn what_has_to_describe_itself_is_told_to_use_a_value() {
    let mut out = Vec::new();
    let codec = Codec::default();
    let flattened = Flattened { rest: BTreeMap::from([("a".into(), 1)]) };
    let error = codec.encode(&flattened, &mut out).unwrap_err();
    assert_eq!(error, EncodeError::UnknownLength);
    assert!(error.to_string().contains("to_value"), "{error}");

    assert_eq!(codec.encode(&Skipping { maybe: Some(1) }, &mut out), Ok(()));
    let error = codec.encode(&Skipping { maybe: None }, &mut out).unwrap_err();
    assert_eq!(error, EncodeError::SkippedField { field: "maybe" });
    assert!(error.to_string().contains("to_value"), "{error}");

    for error in [
        codec.decode::<Untagged>(&[1, 2, 3]).map(drop).unwrap_err(),
        codec.decode::<Tagged>(&[1, 2, 3]).map(drop).unwrap_err(),
        codec.decode::<Flattened>(&[1, 2, 3]).map(drop).unwrap_err(),
        codec.decode::<IgnoredAny>(&[1, 2, 3]).map(drop).unwrap_err(),
    ] {
        assert_eq!(error, DecodeError::NotSelfDescribing);
        assert!(error.to_string().contains("from_value"), "{error}");
    }
}

/// Announces so many elements, and writes so many.
struct Miscounted(usize, usize);

impl Serialize for Miscounted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0))?;
        for _ in 0..self.1 {
            seq.serialize_element(&0_u8)?;
        }
        seq.end()
    }
}

struct MiscountedMap(usize, usize);

impl Serialize for MiscountedMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0))?;
        for _ in 0..self.1 {
            map.serialize_entry(&0_u8, &0_u8)?;
        }
        map.end()
    }
}

#[test]
fn a_wrong_number_of_elements_is_the_senders_error() {
    let mut out = Vec::new();
    for (announced, written) in [(2, 1), (1, 2), (0, 1)] {
        let wrong = Err(EncodeError::WrongLength { announced, written });
        assert_eq!(Codec::default().encode(&Miscounted(announced, written), &mut out), wrong);
        assert_eq!(Codec::default().encode(&MiscountedMap(announced, written), &mut out), wrong);
    }
    assert_eq!(Codec::default().encode(&Miscounted(2, 2), &mut out), Ok(()));
}

#[test]
fn a_frame_too_long_is_not_looked_at() {
    let codec = Codec::new(Limits::new().frame_len_max(3));
    assert_eq!(codec.decode::<[u8; 3]>(&[1, 2, 3]), Ok([1, 2, 3]));
    let error = codec.decode::<Refusing>(&[1, 2, 3, 4]).map(drop).unwrap_err();
    assert_eq!(error, DecodeError::FrameTooLong { len: 4, limit: 3 });
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("`Limits::frame_len_max`"), "{error}");
}

#[test]
fn what_is_left_over_is_counted() {
    assert_eq!(Codec::default().decode::<u8>(&[1, 2, 3]), Err(DecodeError::TrailingBytes { count: 2 }));
}

#[test]
fn every_truncation_is_an_unexpected_end() {
    let bytes = encode(&record());
    for len in 0..bytes.len() {
        let error = Codec::default().decode::<Record>(&bytes[..len]).unwrap_err();
        assert_eq!(error, DecodeError::UnexpectedEnd, "after {len} bytes");
    }
}

#[test]
fn bytes_that_mean_nothing_are_refused_with_a_reason() {
    fn reason<T: DeserializeOwned>(bytes: &[u8]) -> String {
        match Codec::default().decode::<T>(bytes).map(drop) {
            Err(DecodeError::Invalid(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }
    assert!(reason::<bool>(&[2]).contains("bool"));
    assert!(reason::<Option<u8>>(&[2]).contains("Option"));
    assert!(reason::<String>(&[1, 0xff]).contains("UTF-8"));
    assert!(reason::<char>(&[1, 0xff]).contains("char"));
    assert!(reason::<u16>(&[0xff, 0xff, 0x7f]).contains("number"));
    assert!(reason::<Shape>(&[9]).contains("variant index 0 <= i < 4"));
    assert!(reason::<std::num::NonZeroU8>(&[0]).contains("nonzero"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_in_comes_out(
        value in any::<(u64, i128, f32, char, String, Vec<(i16, Option<bool>)>, BTreeMap<String, u8>)>()
    ) {
        let bytes = encode(&value);
        prop_assert_eq!(&bytes, &postcard::to_stdvec(&value).unwrap());
        prop_assert_eq!(Codec::default().decode(&bytes), Ok(value));
    }

    #[test]
    fn any_byte_may_be_wrong(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&record());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Codec::default().decode::<Record>(&bytes);
    }
}
