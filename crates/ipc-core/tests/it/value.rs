//! Values that say what they are: to them, from them, and through every format.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use ipc_core::{Classify, Codec, ErrorKind, Value, ValueError, from_value, to_value};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// There and back, directly and through both kinds of format.
fn assert_round_trip<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(original: &T) {
    let value = to_value(original).unwrap();
    assert_eq!(&from_value::<T>(value.clone()).unwrap(), original, "{value}");
    assert_eq!(to_value(&value).unwrap(), value);
    assert_eq!(from_value::<Value>(value.clone()).unwrap(), value);
    let mut bytes = Vec::new();
    Codec::default().encode(&value, &mut bytes).unwrap();
    assert_eq!(Codec::default().decode::<Value>(&bytes).unwrap(), value);
}

fn show<T: Serialize>(value: &T) -> String {
    to_value(value).unwrap().to_string()
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
struct Unit;

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Newtype(u16);

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
enum External {
    Unit,
    Newtype(u8),
    Optional(Option<u8>),
    Tuple(u8, String),
    Struct { a: u8, b: Option<Box<External>> },
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(tag = "kind")]
enum Internal {
    Unit,
    Struct { a: u8, b: f64 },
    Newtype(Inner),
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
struct Inner {
    list: Vec<i64>,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(tag = "kind", content = "content")]
enum Adjacent {
    Unit,
    Tuple(u8, u8),
    Struct { a: u8 },
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
    Many(Vec<Untagged>),
    Struct { a: u8 },
    Nothing,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
struct Flattened {
    id: u8,
    #[serde(flatten)]
    inner: Inner,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(deny_unknown_fields)]
struct Attributes {
    #[serde(skip_serializing_if = "Option::is_none")]
    maybe: Option<u8>,
    #[serde(rename = "other")]
    renamed: u8,
    #[serde(default)]
    defaulted: u8,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    #[serde(skip)]
    skipped: u8,
}

#[test]
fn every_kind_of_type_comes_back() {
    assert_round_trip(&());
    assert_round_trip(&true);
    assert_round_trip(&(i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN));
    assert_round_trip(&(u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX));
    assert_round_trip(&(i128::MAX, i128::MAX as u128 + 1, 0_i128, 0_u128, -1_i128));
    assert_round_trip(&(f32::MIN_POSITIVE, f64::MAX, 0.1_f32, -0.0_f64));
    assert_round_trip(&('é', "text".to_owned()));
    assert_round_trip(&(Some(1), None::<u8>));
    assert_round_trip(&(Unit, Newtype(7), vec![Newtype(8)]));
    assert_round_trip(&[[1, 2], [3, 4]]);
    assert_round_trip(&HashMap::from([(1_u32, "one".to_owned()), (2, "two".to_owned())]));
    assert_round_trip(&BTreeMap::from([(Newtype(3), BTreeSet::from(["x".to_owned()]))]));
    assert_round_trip(&BTreeMap::from([((1, true), 'c')]));
    assert_round_trip(&Duration::new(1, 2));
    assert_round_trip(&std::net::IpAddr::from([10, 0, 0, 1]));
    assert_round_trip(&vec![Ok(1), Err("no".to_owned())]);
    assert_round_trip(&serde_bytes::ByteBuf::from(vec![1, 2, 255]));
}

#[test]
fn enums_of_all_representations_come_back() {
    let inner = Some(Box::new(External::Struct { a: 1, b: None }));
    for value in [
        External::Unit,
        External::Newtype(1),
        External::Optional(None),
        External::Optional(Some(2)),
        External::Tuple(3, "x".into()),
        External::Struct { a: 4, b: inner },
    ] {
        assert_round_trip(&value);
    }
    let list = Inner { list: vec![-1, i64::MAX] };
    for value in [Internal::Unit, Internal::Struct { a: 1, b: 0.5 }, Internal::Newtype(list.clone())] {
        assert_round_trip(&value);
    }
    for value in [Adjacent::Unit, Adjacent::Tuple(1, 2), Adjacent::Struct { a: 3 }] {
        assert_round_trip(&value);
    }
    let some = vec![Untagged::Number(-1), Untagged::Text("x".into()), Untagged::Nothing];
    for value in [Untagged::Many(some), Untagged::Struct { a: 1 }] {
        assert_round_trip(&value);
    }
    let rest = [("more".to_owned(), Value::from(vec![Value::from(1), Value::Null]))].into();
    assert_round_trip(&Flattened { id: 1, inner: list, rest });
    for maybe in [None, Some(1)] {
        let bytes = vec![1, 2];
        assert_round_trip(&Attributes { maybe, renamed: 2, defaulted: 3, bytes, skipped: 0 });
    }
}

#[test]
fn the_shape_is_as_documented() {
    assert_eq!(show(&Unit), "null");
    assert_eq!(show(&Newtype(7)), "7");
    assert_eq!(show(&(1, 1.0, 'c', Some("s"), None::<u8>)), r#"[1, 1.0, "c", "s", null]"#);
    assert_eq!(show(&External::Unit), r#""Unit""#);
    assert_eq!(show(&External::Newtype(1)), r#"{"Newtype": 1}"#);
    assert_eq!(show(&External::Tuple(1, "x".into())), r#"{"Tuple": [1, "x"]}"#);
    assert_eq!(show(&External::Struct { a: 1, b: None }), r#"{"Struct": {"a": 1, "b": null}}"#);
    assert_eq!(show(&BTreeMap::from([(1, true)])), "{1: true}");
    assert_eq!(show(&serde_bytes::Bytes::new(b"a\0\"")), r#"b"a\x00\"""#);
    assert_eq!(show(&"\"\\\n\r\t\u{1}é"), r#""\"\\\n\r\t\u0001é""#);
    assert_eq!(show(&[f64::NAN, f64::NEG_INFINITY]), "[NaN, -inf]");
    assert_eq!(to_value(&u128::MAX).unwrap(), Value::UInt(u128::MAX));
    assert_eq!(to_value(&(i128::MAX as u128)).unwrap(), Value::Int(i128::MAX));
    assert_eq!(to_value(&0.1_f32).unwrap(), Value::Float(f64::from(0.1_f32)));
}

#[test]
fn what_does_not_survive_is_as_documented() {
    assert_eq!(from_value::<Option<Option<u8>>>(to_value(&Some(None::<u8>)).unwrap()), Ok(None));
    assert_eq!(from_value::<Option<()>>(to_value(&Some(())).unwrap()), Ok(None));
    let large = Value::Int(i128::MAX);
    assert!(matches!(from_value::<Untagged>(large), Err(ValueError::Decode(_))));
}

#[test]
fn what_is_unknown_is_ignored_and_what_is_missing_or_wrong_is_named() {
    let entry = |name: &str, value: Value| (Value::from(name), value);
    let map = |entries| Value::Map(entries);
    let list = || entry("list", Value::List(vec![Value::from(1)]));
    let unknown = map(vec![list(), entry("else", map(vec![list()]))]);
    assert_eq!(from_value(unknown), Ok(Inner { list: vec![1] }));

    fn reason<T: DeserializeOwned + fmt::Debug>(value: Value) -> String {
        let error = from_value::<T>(value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        error.to_string()
    }
    assert!(reason::<Inner>(map(vec![])).contains("missing field `list`"));
    assert!(reason::<u8>(Value::from(256)).contains("256"));
    assert!(reason::<u8>(Value::from("x")).contains("string \"x\""));
    assert!(reason::<(u8, u8)>(vec![Value::from(1)].into()).contains("length 1"));
    assert!(reason::<(u8,)>(vec![Value::from(1), Value::from(2)].into()).contains("invalid length 2"));
    assert!(reason::<External>(Value::from("Other")).contains("unknown variant `Other`"));
    assert!(reason::<External>(map(vec![list(), list()])).contains("one variant"));
    assert!(reason::<External>(map(vec![entry("Unit", Value::from(1))])).contains("unit variant"));
    assert!(reason::<External>(Value::from("Tuple")).contains("tuple variant"));
}

#[test]
fn a_variant_has_an_index_too_and_its_payload_may_come_otherwise() {
    let of = |variant: Value, payload: Value| from_value::<External>(Value::Map(vec![(variant, payload)]));
    let list = || Value::List(vec![Value::from(1), Value::Null]);
    assert_eq!(from_value(Value::from(0)), Ok(External::Unit));
    assert_eq!(from_value(Value::from("Optional")), Ok(External::Optional(None)));
    assert_eq!(of("Unit".into(), Value::Null), Ok(External::Unit));
    assert_eq!(of(Value::from(1), Value::from(5)), Ok(External::Newtype(5)));
    assert_eq!(of("Struct".into(), list()), Ok(External::Struct { a: 1, b: None }));
    assert_eq!(
        from_value(Value::List(vec![list()])).map(|inner: (Option<(u8, ())>,)| inner.0),
        Ok(Some((1, ())))
    );
    assert_eq!(from_value(Value::List(vec![Value::List(vec![])])), Ok(Inner { list: vec![] }));
    for refused in [
        from_value(Value::from("Struct")),
        from_value(Value::from(-1)),
        from_value(list()),
        of("Newtype".into(), list()),
        of("Tuple".into(), Value::from(1)),
        of("Tuple".into(), Value::Map(vec![])),
        of("Struct".into(), Value::from(1)),
    ] {
        assert!(matches!(refused, Err(ValueError::Decode(_))), "{refused:?}");
    }
    // What is larger than it would have to be is looked at as what it is.
    assert_eq!(from_value(Value::UInt(5)), Ok(5_u128));
    assert!(from_value::<u8>(Value::UInt(5)).is_err());
    assert_eq!(from_value(Value::from(7)), Ok(7.0_f32));
    assert_eq!(from_value::<serde_bytes::ByteBuf>(vec![Value::from(1)].into()), Ok(vec![1].into()));
}

#[test]
fn a_value_without_a_key_is_refused() {
    struct Backwards;
    impl Serialize for Backwards {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeMap;
            let mut map = serializer.serialize_map(None)?;
            map.serialize_value(&1)?;
            map.end()
        }
    }
    assert!(matches!(to_value(&Backwards), Err(ValueError::Encode(_))));
}

#[test]
fn the_refusal_of_a_serialize_arrives() {
    struct Refusing;
    impl Serialize for Refusing {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not this one"))
        }
    }
    let error = to_value(&[Refusing]).unwrap_err();
    assert_eq!(error, ValueError::Encode("not this one".into()));
    assert_eq!(error.kind(), ErrorKind::Encode);
}

#[derive(Serialize, Deserialize, Debug)]
struct Chain(Option<Box<Chain>>);

#[test]
fn depth_is_bounded_before_the_stack_is() {
    let work = || {
        let nested = |levels| (0..levels).fold(Value::Null, |value, _| Value::List(vec![value]));
        let keyed = |levels| (0..levels).fold(Value::Null, |value, _| Value::Map(vec![(value, Value::Null)]));
        assert_eq!(to_value(&nested(128)).unwrap(), nested(128));
        assert_eq!(from_value::<Value>(nested(128)).unwrap(), nested(128));
        for deep in [nested(129), keyed(129), nested(2000)] {
            assert_eq!(to_value(&deep).unwrap_err(), ValueError::TooDeep { limit: 128 });
            let error = from_value::<Value>(deep).unwrap_err();
            assert_eq!(error, ValueError::TooDeep { limit: 128 });
            assert_eq!(error.kind(), ErrorKind::Limit);
        }
        let chain = (0..1000).fold(Chain(None), |chain, _| Chain(Some(Box::new(chain))));
        assert_eq!(to_value(&chain).unwrap_err(), ValueError::TooDeep { limit: 128 });
        // A `Chain` that comes from anything but null never ends.
        assert_eq!(from_value::<Chain>(Value::from(1)).unwrap_err(), ValueError::TooDeep { limit: 128 });
        let passed = (0..60).fold(Value::Null, |value, _| Value::List(vec![value]));
        let mut bytes = Vec::new();
        Codec::default().encode(&passed, &mut bytes).unwrap();
        assert_eq!(Codec::default().decode::<Value>(&bytes).unwrap(), passed);
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn how_deep_each_kind_of_type_goes() {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    enum Nest {
        End,
        One(Box<Nest>),
        Tuple(Box<Nest>, u8),
        Struct { inner: Box<Nest> },
        Optional(Option<Box<Nest>>),
    }
    type Wrap = fn(Box<Nest>) -> Nest;
    let nested = |levels: usize, wrap: Wrap| (0..levels).fold(Nest::End, |nest, _| wrap(Box::new(nest)));
    let wraps: [(Wrap, usize, usize); 4] = [
        (Nest::One, 128, 127),
        (|nest| Nest::Tuple(nest, 1), 64, 63),
        (|inner| Nest::Struct { inner }, 64, 63),
        (|nest| Nest::Optional(Some(nest)), 64, 63),
    ];
    for (wrap, to, from) in wraps {
        let value = to_value(&nested(to, wrap)).unwrap();
        assert_eq!(to_value(&nested(to + 1, wrap)), Err(ValueError::TooDeep { limit: 128 }));
        assert_eq!(from_value::<Nest>(value), Err(ValueError::TooDeep { limit: 128 }));
        let value = to_value(&nested(from, wrap)).unwrap();
        assert_eq!(from_value(value), Ok(nested(from, wrap)));
    }
}

#[test]
fn json_is_natural() {
    let json = r#"{"a":[null,true,-1,18446744073709551615,1.5,"text"],"b":{}}"#;
    let value: Value = serde_json::from_str(json).unwrap();
    assert_eq!(value.get("a").unwrap().as_list().unwrap()[3], Value::Int(u64::MAX.into()));
    assert_eq!(value.get("b"), Some(&Value::Map(vec![])));
    assert_eq!(serde_json::to_string(&value).unwrap(), json);
    let huge = Value::from(vec![Value::from(u128::MAX), Value::from(i128::MIN)]);
    assert_eq!(serde_json::to_string(&huge).unwrap(), format!("[{},{}]", u128::MAX, i128::MIN));
}

#[test]
fn conversions_and_accessors_agree() {
    assert_eq!(Value::default(), Value::Null);
    assert_eq!(Value::from(None::<u8>), Value::Null);
    assert_eq!(Value::from(Some("x")), Value::from("x".to_owned()));
    assert_eq!(Value::from('x').as_str(), Some("x"));
    assert_eq!(Value::from(usize::MAX).as_u64(), Some(usize::MAX as u64));
    assert_eq!(Value::from(isize::MIN).as_i64(), Some(isize::MIN as i64));
    assert_eq!(Value::UInt(5).as_i64(), Some(5));
    assert_eq!(Value::UInt(5).as_u64(), Some(5));
    assert_eq!(Value::from(u128::MAX).as_f64(), Some(u128::MAX as f64));
    assert_eq!(Value::from(&b"x"[..]).as_bytes(), Some(&b"x"[..]));
    let null = Value::Null;
    assert!(null.is_null() && !Value::from(false).is_null());
    assert_eq!((null.as_bool(), null.as_i64(), null.as_u64(), null.as_f64()), (None, None, None, None));
    assert_eq!((null.as_str(), null.as_bytes(), null.as_list(), null.as_map()), (None, None, None, None));
}

/// Any value as conversions make them: no NaN, and `UInt` only where it is needed.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i128>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u128>().prop_map(Value::from),
        any::<f64>().prop_filter("a NaN is not equal to itself", |it| !it.is_nan()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        any::<Vec<u8>>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((inner.clone(), inner), 0..5).prop_map(Value::from),
        ]
    })
}

fn any_external() -> impl Strategy<Value = External> {
    let leaf = prop_oneof![
        Just(External::Unit),
        any::<u8>().prop_map(External::Newtype),
        any::<Option<u8>>().prop_map(External::Optional),
        any::<(u8, String)>().prop_map(|(a, b)| External::Tuple(a, b)),
    ];
    leaf.prop_recursive(8, 8, 1, |inner| {
        (any::<u8>(), inner).prop_map(|(a, b)| External::Struct { a, b: Some(Box::new(b)) })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_is_itself_everywhere(value in any_value()) {
        assert_round_trip(&value);
    }

    #[test]
    fn any_data_comes_back(
        data in (
            prop::collection::btree_map(any::<i32>(), any::<[Option<String>; 2]>(), 0..4),
            any::<(u128, i128)>(),
            any::<Result<char, f32>>(),
            prop::collection::vec(any::<Option<u64>>(), 0..4),
            any::<bool>(),
        )
            .prop_filter("a NaN is not equal to itself", |it| !matches!(it.2, Err(x) if x.is_nan()))
    ) {
        assert_round_trip(&data);
    }

    #[test]
    fn any_enum_comes_back(
        external in any_external(),
        numbers in any::<(u8, Vec<i64>)>(),
        text in any::<String>(),
    ) {
        assert_round_trip(&external);
        assert_round_trip(&Internal::Newtype(Inner { list: numbers.1.clone() }));
        assert_round_trip(&Adjacent::Tuple(numbers.0, numbers.0));
        let many = numbers.1.into_iter().map(Untagged::Number).chain([Untagged::Text(text)]).collect();
        assert_round_trip(&Untagged::Many(many));
    }

    #[test]
    fn any_json_text_comes_back(text in any::<Vec<(String, Option<i64>)>>()) {
        let value = to_value(&text).unwrap();
        let json = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Value>(&json).unwrap(), &value);
        // And what a value prints is JSON here, since there is nothing in it that JSON has not.
        prop_assert_eq!(&serde_json::from_str::<Value>(&value.to_string()).unwrap(), &value);
    }
}
