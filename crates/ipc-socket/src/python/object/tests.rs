use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipc_core::{Classify, ErrorKind};
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Unit;

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Newtype(u8);

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Pair(u8, String);

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
enum Shape {
    Nothing,
    Circle(f64),
    Nil(()),
    Line(i8, i8),
    Rect { w: u16, h: u16 },
}

/// `value` becomes an object that prints as `text`, and comes back from it.
#[track_caller]
fn both_ways<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug>(value: T, text: &str) {
    let object = to_object(&value).unwrap();
    assert_eq!(object.to_string(), text);
    assert_eq!(from_object::<T>(object).unwrap(), value);
}

#[test]
fn every_kind_of_type_goes_both_ways() {
    both_ways((), "None");
    both_ways(Unit, "None");
    both_ways(true, "True");
    both_ways(-7_i8, "-7");
    both_ways(u64::MAX, "18446744073709551615");
    both_ways(i128::MIN, "-170141183460469231731687303715884105728");
    both_ways(u128::MAX, "340282366920938463463374607431768211455");
    both_ways(i128::from(u64::MAX) + 1, "18446744073709551616");
    both_ways(0.1_f32, "0.10000000149011612");
    both_ways(1e300, "1e300");
    both_ways('é', "'é'");
    both_ways("it's".to_owned(), r"'it\'s'");
    both_ways(serde_bytes::ByteBuf::from(vec![0, 255]), r"b'\x00\xff'");
    both_ways(vec![1_u8, 2], "[1, 2]");
    both_ways([1_u8, 2], "(1, 2)");
    both_ways((1_u8,), "(1,)");
    both_ways((1_u8, "a".to_owned(), None::<u8>), "(1, 'a', None)");
    both_ways(Newtype(3), "3");
    both_ways(Pair(3, "b".into()), "(3, 'b')");
    both_ways(Some(5_u8), "5");
    both_ways(BTreeSet::from([1, 2]), "[1, 2]");
    both_ways(BTreeMap::from([((1, 2), "x".to_owned())]), "{(1, 2): 'x'}");
    both_ways(Shape::Nothing, "'Nothing'");
    both_ways(Shape::Circle(0.5), "{'Circle': 0.5}");
    both_ways(Shape::Nil(()), "{'Nil': None}");
    both_ways(Shape::Line(1, -1), "{'Line': (1, -1)}");
    both_ways(Shape::Rect { w: 1, h: 2 }, "{'Rect': {'w': 1, 'h': 2}}");
}

#[test]
fn what_python_would_send_instead() {
    let line = |payload| Object::Dict(vec![("Line".into(), payload)]);
    let numbers = vec![Object::from(1), Object::from(-1)];
    assert_eq!(from_object::<Shape>(line(Object::List(numbers.clone()))), Ok(Shape::Line(1, -1)));
    assert_eq!(from_object::<Vec<i8>>(Object::FrozenSet(numbers.clone())), Ok(vec![1, -1]));
    assert_eq!(from_object::<BTreeSet<i8>>(Object::Set(numbers)), Ok(BTreeSet::from([1, -1])));
    assert_eq!(from_object::<f64>(Object::from(3)), Ok(3.0));
    assert_eq!(
        from_object::<Shape>(Object::Dict(vec![("Nothing".into(), Object::None)])),
        Ok(Shape::Nothing)
    );
    assert_eq!(from_object::<u128>(Object::from(7)), Ok(7));
    assert_eq!(from_object::<i128>(Object::BigInt(5.into())), Ok(5));
}

#[test]
fn a_variant_has_an_index_too_and_its_payload_may_come_otherwise() {
    let of = |variant: Object, payload: Object| from_object::<Shape>(Object::Dict(vec![(variant, payload)]));
    let pair = || vec![Object::from(1), Object::from(2)];
    assert_eq!(from_object(Object::from(0)), Ok(Shape::Nothing));
    assert_eq!(from_object(Object::from("Nil")), Ok(Shape::Nil(())));
    assert_eq!(of(Object::from(1), 0.5.into()), Ok(Shape::Circle(0.5)));
    for make in [Object::List, Object::Tuple] {
        assert_eq!(of("Line".into(), make(pair())), Ok(Shape::Line(1, 2)));
        assert_eq!(of("Rect".into(), make(pair())), Ok(Shape::Rect { w: 1, h: 2 }));
    }
    for make in [Object::Set, Object::FrozenSet] {
        assert_eq!(from_object(make(pair())), Ok((1, 2)));
        assert!(of("Line".into(), make(pair())).is_err());
        assert!(of("Rect".into(), make(pair())).is_err());
    }
    for refused in [
        from_object(Object::from("Line")),
        from_object(Object::Tuple(pair())),
        of("Nothing".into(), 1.into()),
        of("Line".into(), Object::Dict(vec![])),
        of(BigInt::from_le_bytes(&[1; 20]).into(), Object::None),
    ] {
        assert!(matches!(refused, Err(ObjectError::Decode(_))), "{refused:?}");
    }
}

#[test]
fn what_is_larger_than_any_type_is_only_ignored() {
    let huge = || Object::from(BigInt::from_le_bytes(&[1; 20]));
    let error = from_object::<Option<u8>>(huge()).unwrap_err();
    assert_eq!(error.to_string(), "invalid type: an integer of more than 128 bits, expected u8");
    assert!(from_object::<BTreeMap<u8, u8>>(Object::Dict(vec![(huge(), 1.into())])).is_err());
    #[derive(Deserialize, Debug, PartialEq)]
    struct One {
        one: u8,
    }
    let dict = Object::Dict(vec![("other".into(), huge()), ("one".into(), 1.into())]);
    assert_eq!(from_object(dict), Ok(One { one: 1 }));
}

#[test]
fn what_is_not_of_the_type_is_refused() {
    let huge = Object::from(BigInt::from_le_bytes(&[1; 20]));
    for error in [
        from_object::<u8>(Object::from(256)).unwrap_err(),
        from_object::<u128>(Object::from(-1)).unwrap_err(),
        from_object::<u128>(huge.clone()).unwrap_err(),
        from_object::<f64>(huge.clone()).unwrap_err(),
        from_object::<String>(Object::from(&b"\xff"[..])).map(drop).unwrap_err(),
        from_object::<(u8, u8)>(Object::List(vec![1.into()])).map(drop).unwrap_err(),
        from_object::<(u8,)>(Object::List(vec![1.into(), 2.into()])).map(drop).unwrap_err(),
        from_object::<Shape>(Object::from("Elsewhere")).map(drop).unwrap_err(),
        from_object::<Shape>(Object::Dict(vec![])).map(drop).unwrap_err(),
        from_object::<Shape>(Object::Dict(vec![("Line".into(), Object::Set(vec![1.into(), 2.into()]))]))
            .map(drop)
            .unwrap_err(),
    ] {
        assert!(matches!(error, ObjectError::Decode(_)), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Decode);
    }
}

#[test]
fn depth_is_bounded_both_ways() {
    #[derive(Serialize, Deserialize)]
    struct Deep(Vec<Deep>);
    // Each level is a newtype and a list.
    let nested = |levels: usize| (0..levels).fold(Deep(vec![]), |deep, _| Deep(vec![deep]));
    assert!(to_object(&nested(63)).is_ok());
    assert_eq!(to_object(&nested(64)), Err(ObjectError::TooDeep { limit: 128 }));
    let list = |levels| (1..levels).fold(Object::List(vec![]), |deep, _| Object::List(vec![deep]));
    assert!(from_object::<Deep>(list(64)).is_ok());
    assert_eq!(from_object::<Deep>(list(65)).err(), Some(ObjectError::TooDeep { limit: 128 }));
    assert_eq!(from_object::<Deep>(list(65)).err().unwrap().kind(), ErrorKind::Limit);
}

#[test]
fn a_refusal_of_serialize_is_passed_on() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    assert_eq!(to_object(&vec![Refuses]), Err(ObjectError::Encode("not today".into())));
}

#[test]
fn the_later_of_two_equal_keys_counts() {
    let dict = Object::Dict(vec![("a".into(), 1.into()), ("a".into(), 2.into())]);
    assert_eq!(dict.get("a"), Some(&Object::Int(2)));
    assert_eq!(from_object::<BTreeMap<String, u8>>(dict), Ok(BTreeMap::from([("a".to_owned(), 2)])));
}
