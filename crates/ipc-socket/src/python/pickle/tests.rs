use ipc_core::{Classify, ErrorKind, Limits};
use proptest::prelude::*;

use super::super::{BigInt, Object, ObjectError};
use super::*;

fn read(bytes: &[u8]) -> Result<Object, PickleError> {
    decode(bytes, &Limits::default())
}

fn written(object: &Object) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(object, &mut bytes).unwrap();
    bytes
}

fn list<const N: usize>(elements: [Object; N]) -> Object {
    Object::List(elements.into())
}

#[test]
fn golden_messages_of_a_manager() {
    let request = b"\x80\x04\x95\x10\0\0\0\0\0\0\0(N\x8c\x05dummy\x94)}\x94t\x94.";
    assert_eq!(request.len(), 27);
    let object =
        Object::Tuple(vec![Object::None, "dummy".into(), Object::Tuple(vec![]), Object::Dict(vec![])]);
    assert_eq!(read(request).unwrap(), object);
    // The same without the frame and without the memo.
    assert_eq!(written(&object), b"\x80\x04(N\x8c\x05dummy)}t.");

    let reply = b"\x80\x04\x95\x0e\0\0\0\0\0\0\0\x8c\x07#RETURN\x94N\x86\x94.";
    let object = Object::Tuple(vec!["#RETURN".into(), Object::None]);
    assert_eq!(read(reply).unwrap(), object);
    assert_eq!(written(&object), b"\x80\x04\x8c\x07#RETURNN\x86.");
}

#[test]
fn golden_bytes_of_each_type() {
    for (object, bytes) in [
        (Object::None, &b"N"[..]),
        (true.into(), b"\x88"),
        (false.into(), b"\x89"),
        (0.into(), b"K\0"),
        (255.into(), b"K\xff"),
        (256.into(), b"M\0\x01"),
        (65_536.into(), b"J\0\0\x01\0"),
        ((-1).into(), b"J\xff\xff\xff\xff"),
        (Object::from(1_i64 << 31), b"\x8a\x05\0\0\0\x80\0"),
        (Object::from(-(1_i64 << 31) - 1), b"\x8a\x05\xff\xff\xff\x7f\xff"),
        (1.5.into(), b"G\x3f\xf8\0\0\0\0\0\0"),
        ("é".into(), b"\x8c\x02\xc3\xa9"),
        (b"\xff"[..].into(), b"C\x01\xff"),
        (list([]), b"]"),
        (list([1.into()]), b"](K\x01e"),
        (Object::Tuple(vec![]), b")"),
        (Object::Tuple(vec![1.into()]), b"K\x01\x85"),
        (Object::Tuple(vec![1.into(); 4]), b"(K\x01K\x01K\x01K\x01t"),
        (Object::Dict(vec![]), b"}"),
        (Object::Dict(vec![(1.into(), 2.into())]), b"}(K\x01K\x02u"),
        (Object::Set(vec![]), b"\x8f"),
        (Object::Set(vec![1.into()]), b"\x8f(K\x01\x90"),
        (Object::FrozenSet(vec![1.into()]), b"(K\x01\x91"),
    ] {
        let whole = [b"\x80\x04", bytes, b"."].concat();
        assert_eq!(written(&object), whole, "{object}");
        assert_eq!(read(&whole), Ok(object));
    }
}

#[test]
fn long_lengths() {
    for len in [255, 256, 65_535, 65_536, 100_000] {
        let text = Object::from("x".repeat(len));
        let bytes = Object::from(vec![0x80_u8; len]);
        let number = Object::from(BigInt::from_le_bytes(&vec![0x7f; len]));
        for object in [text, bytes, number] {
            assert_eq!(read(&written(&object)), Ok(object));
        }
    }
}

#[test]
fn nothing_that_is_not_data_is_read() {
    for (pickle, module, name) in [
        (&b"cos\nsystem\n(S'true'\ntR."[..], "os", "system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os", "system"),
        (b"cbuiltins\neval\n.", "builtins", "eval"),
        (b"cbuiltins\nset.__class__\n.", "builtins", "set.__class__"),
        (b"cbuiltins\nbytearray\n.", "builtins", "bytearray"),
        (b"ccodecs\nencode\n.", "codecs", "encode"),
        (b"c__builtin__ \nset\n.", "__builtin__ ", "set"),
        // Known, but for being called and not for being had.
        (b"cbuiltins\nset\n.", "builtins", "set"),
        (b"c_codecs\nencode\n\x85.", "_codecs", "encode"),
    ] {
        let error = read(pickle).unwrap_err();
        assert_eq!(error, PickleError::Global { module: module.into(), name: name.into() });
        assert!(error.to_string().contains(&format!("{module}.{name}")));
        assert_eq!(error.kind(), ErrorKind::Decode);
    }
    let long = [b"c".as_slice(), &[b'm'; 1000], b"\n", &[0xff; 1000], b"\n."].concat();
    let Err(PickleError::Global { module, name }) = read(&long) else { panic!() };
    assert_eq!((module.len(), name.chars().count()), (64, 64));
}

#[test]
fn calls_have_the_arguments_that_picklers_write() {
    for (pickle, call) in [
        (&b"cbuiltins\nset\nK\x01\x85R."[..], "set"),
        (b"cbuiltins\nset\n]]\x86R.", "set"),
        (b"cbuiltins\nfrozenset\n]R.", "frozenset"),
        (b"cbuiltins\nbytes\nK\x01\x85R.", "bytes"),
        (b"c_codecs\nencode\nX\x01\0\0\0aX\x05\0\0\0rot13\x86R.", "_codecs.encode"),
        (b"c_codecs\nencode\nX\x03\0\0\0\xe2\x82\xacX\x06\0\0\0latin1\x86R.", "_codecs.encode"),
        (b"c_codecs\nencode\nX\x01\0\0\0a\x85R.", "_codecs.encode"),
    ] {
        assert_eq!(read(pickle), Err(PickleError::Call(call)));
    }
    assert!(matches!(read(b"N)R."), Err(PickleError::Malformed { at: 2, .. })));
}

#[test]
fn refused_opcodes_are_named() {
    let named = b"2Pbio\x81\x82\x83\x84Q\x92\x96\x97\x98".map(|opcode| (opcode, opcode::refused(opcode)));
    assert!(named.iter().all(|(_, name)| *name != "?"));
    for (opcode, name) in named.into_iter().chain([(b'!', "?"), (0, "?"), (0xff, "?")]) {
        let error = read(&[b'N', opcode, b'.']).unwrap_err();
        assert_eq!(error, PickleError::Opcode { name, opcode, at: 1 });
        assert!(error.to_string().contains(name));
    }
    assert_eq!(read(b"\x80\x06N."), Err(PickleError::Protocol(6)));
}

#[test]
fn a_pickle_ends_where_it_ends() {
    assert_eq!(read(b"N.N"), Err(PickleError::Trailing { len: 1 }));
    let all = Object::Tuple(vec![
        list([1.into(), 300.into(), 70_000.into(), u128::MAX.into(), 0.5.into()]),
        Object::Dict(vec![("key".into(), b"bytes"[..].into())]),
        Object::Set(vec![Object::Tuple(vec![true.into()])]),
        "x".repeat(300).into(),
    ]);
    let bytes = written(&all);
    for cut in 0..bytes.len() {
        assert_eq!(read(&bytes[..cut]), Err(PickleError::Truncated), "{cut}");
    }
    // A frame that says more than there is.
    assert_eq!(read(b"\x80\x04\x95\x03\0\0\0\0\0\0\0N."), Err(PickleError::Truncated));
}

#[test]
fn lengths_that_lie_allocate_nothing() {
    let limits = Limits::new().memory_max(1 << 16);
    for pickle in [
        &b"X\xff\xff\xff\xff."[..],
        b"B\xff\xff\xff\xff.",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x8b\xff\xff\xff\x7f.",
        b"T\xff\xff\xff\x7f.",
        b"\x95\xff\xff\xff\xff\xff\xff\xff\xffN.",
        b"\x8c\xff.",
        b"C\xff.",
        b"\x8a\xff.",
    ] {
        assert_eq!(decode(pickle, &limits), Err(PickleError::Truncated), "{pickle:?}");
    }
    for pickle in [&b"\x8b\xff\xff\xff\xff."[..], b"T\0\0\0\x80."] {
        assert!(matches!(decode(pickle, &limits), Err(PickleError::Malformed { .. })));
    }
    // A memo as large as its largest number would take 100 GiB.
    assert_eq!(
        decode(b"Nr\xff\xff\xff\xffj\xff\xff\xff\xff\x86.", &limits).unwrap().to_string(),
        "(None, None)"
    );
    assert_eq!(decode(b"Nr\xff\xff\xff\xffh\x00\x86.", &limits), Err(PickleError::Memo(0)));
    assert_eq!(decode(b"Ng4294967296\n.", &limits).unwrap_err().kind(), ErrorKind::Decode);
}

#[test]
fn what_is_noted_twice_is_noted_anew() {
    // Numbers out of turn, numbers again, and the next one by itself.
    let pickle = b"(K\x01q\x05K\x02q\x00K\x03\x94K\x04q\x00h\x05h\x00h\x02t.";
    assert_eq!(read(pickle).unwrap().to_string(), "(1, 2, 3, 4, 1, 4, 3)");
}

#[test]
fn things_that_are_shared_are_copied() {
    let pickle = b"](]q\x01K\x01ah\x01h\x01e.";
    assert_eq!(read(pickle).unwrap().to_string(), "[[1], [1], [1]]");
    // Noted first and filled later, as picklers do.
    let pickle = b"]q\x00(]q\x01h\x01e.";
    assert_eq!(read(pickle).unwrap().to_string(), "[[], []]");
    let pickle = b"(]q\x00h\x00K\x07a0h\x00t.";
    assert_eq!(read(pickle).unwrap().to_string(), "([7], [7])");
}

#[test]
fn what_contains_itself_is_refused() {
    for pickle in [
        // l = []; l.append(l)
        &b"\x80\x04]\x94h\x00a."[..],
        // d = {}; d[1] = d
        b"\x80\x04}\x94K\x01h\x00s.",
        // t = ([],); t[0].append(t), as CPython writes it
        b"\x80\x04]\x94h\x00\x85\x94a0h\x01.",
        // Through two others.
        b"]q\x00]q\x01}q\x02K\x01h\x00sah\x01a.",
        b"\x8f\x94(h\x00\x85\x90.",
    ] {
        assert_eq!(read(pickle), Err(PickleError::SelfReference), "{pickle:?}");
    }
    // Thrown away, it does no harm.
    assert_eq!(read(b"]q\x00h\x00a0N."), Ok(Object::None));
}

#[test]
fn billions_of_laughs() {
    // Each level has ten of the level below.
    let mut pickle = b"\x80\x04\x8c\x03lol\x94".to_vec();
    for level in 0_u8..40 {
        pickle.extend(b"0](");
        for _ in 0..10 {
            pickle.extend([b'h', level]);
        }
        pickle.extend(b"e\x94");
    }
    pickle.push(b'.');
    let limit = 256 << 20;
    assert_eq!(read(&pickle), Err(PickleError::TooLarge { limit }));
    // Up to where it fits, it is an object: a thousand here.
    let thousand = [&pickle[..8 + 3 * 25], b"."].concat();
    let elements = read(&thousand).unwrap();
    assert_eq!(elements.elements().unwrap().len(), 10);
    let limits = Limits::new().memory_max(8 << 10);
    assert_eq!(decode(&thousand, &limits), Err(PickleError::TooLarge { limit: 8 << 10 }));
}

/// A pickle of text, and of many things that are made of the same text.
fn again_and_again(len: usize, first: &[u8], again: &[u8], times: usize) -> Vec<u8> {
    let mut pickle = b"X".to_vec();
    pickle.extend((len as u32).to_le_bytes());
    pickle.extend(vec![b'a'; len]);
    pickle.extend(b"q\x00");
    pickle.extend(first);
    for _ in 0..times {
        pickle.extend(again);
    }
    pickle.extend(b"N.");
    pickle
}

#[test]
fn the_same_again_and_again_is_counted_each_time() {
    let limits = Limits::new().memory_max(1 << 20);
    let too_large = Err(PickleError::TooLarge { limit: 1 << 20 });
    // The same text a hundred times.
    let pickle = again_and_again(20_000, b"(", b"h\x00", 100);
    assert_eq!(decode(&[&pickle[..pickle.len() - 2], b"l."].concat(), &limits), too_large);
    // Bytes of the same text, thrown away each time.
    let first = b"c_codecs\nencode\nq\x01X\x06\0\0\0latin1q\x02";
    let pickle = again_and_again(20_000, first, b"h\x01h\x00h\x02\x86R0", 100);
    assert_eq!(decode(&pickle, &limits), too_large);
    assert_eq!(read(&pickle), Ok(Object::None));
    // Sets of the same list.
    let list = [b"cbuiltins\nset\nq\x03](", [b'N'; 1000].as_slice(), b"eq\x04"].concat();
    let pickle = again_and_again(1, &list, b"h\x03h\x04\x85R0", 100);
    assert_eq!(decode(&pickle, &limits), too_large);
    assert_eq!(read(&pickle), Ok(Object::None));
}

#[test]
fn depth_is_bounded_without_recursion() {
    let nested = |levels: usize, open: &[u8], close: &[u8]| {
        [open.repeat(levels), close.repeat(levels - 1), b".".to_vec()].concat()
    };
    for (open, close) in [(&b"]"[..], &b"a"[..]), (b"}K\x01", b"s")] {
        let close_last = if open == b"]" { &b""[..] } else { b"Ns" };
        let pickle = |levels| {
            let mut bytes = nested(levels, open, close);
            let at = open.len() * levels;
            bytes.splice(at..at, close_last.iter().copied());
            bytes
        };
        assert!(read(&pickle(128)).is_ok());
        assert_eq!(read(&pickle(129)), Err(PickleError::TooDeep { limit: 128 }));
        assert_eq!(read(&pickle(1_000_000)), Err(PickleError::TooDeep { limit: 128 }));
        assert!(decode(&pickle(10), &Limits::new().depth_max(9)).is_err());
    }
    let tuples = |levels: usize| [b")".to_vec(), b"\x85".repeat(levels - 1), b".".to_vec()].concat();
    assert!(read(&tuples(128)).is_ok());
    assert_eq!(read(&tuples(500_000)), Err(PickleError::TooDeep { limit: 128 }));
    // Not deep where it is met first, but at the second place.
    let mut pickle = b"(".to_vec();
    pickle.extend(&tuples(100)[..100]);
    pickle.extend(b"q\x00h\x00");
    pickle.extend(b"\x85".repeat(28));
    pickle.extend(b"t.");
    assert_eq!(read(&pickle), Err(PickleError::TooDeep { limit: 128 }));
}

#[test]
fn a_depth_of_nothing_takes_flat_values_only() {
    let limits = Limits::new().depth_max(0);
    assert_eq!(decode(b"K\x01.", &limits), Ok(Object::from(1)));
    assert_eq!(decode(b").", &limits), Err(PickleError::TooDeep { limit: 0 }));
}

#[test]
fn what_python_cannot_hash_is_no_key() {
    for pickle in
        [&b"}]Ns."[..], b"}]\x85Ns.", b"\x8f(}\x90.", b"(]\x91.", b"}\x8fNs.", b"cbuiltins\nset\n](]e\x85R."]
    {
        assert_eq!(read(pickle), Err(PickleError::Unhashable), "{pickle:?}");
    }
    assert_eq!(read(b"}(K\x01\x91\x85]s.").unwrap().to_string(), "{(frozenset({1}),): []}");
    let bad = list([]);
    for object in [
        Object::Dict(vec![(bad.clone(), Object::None)]),
        Object::Set(vec![Object::Tuple(vec![bad.clone()])]),
        Object::FrozenSet(vec![Object::Dict(vec![])]),
        list([Object::FrozenSet(vec![Object::Set(vec![])])]),
    ] {
        let mut out = b"before".to_vec();
        assert!(matches!(encode(&object, &mut out), Err(ObjectError::Encode(_))), "{object}");
        assert_eq!(out, b"before");
    }
}

#[test]
fn what_is_too_deep_is_not_written() {
    let nested = |levels| (1..levels).fold(list([]), |deep, _| list([deep]));
    assert_eq!(read(&written(&nested(128))), Ok(nested(128)));
    let mut out = Vec::new();
    assert_eq!(encode(&nested(129), &mut out), Err(ObjectError::TooDeep { limit: 128 }));
    assert!(out.is_empty());
}

#[test]
fn text_that_is_none_in_rust() {
    for pickle in
        [&b"X\x03\0\0\0\xed\xa0\x80."[..], b"\x8c\x01\xff.", b"V\\ud800\n.", b"U\x01\xff.", b"S'\\xff'\n."]
    {
        assert_eq!(read(pickle), Err(PickleError::NotText { at: 0 }), "{pickle:?}");
    }
}

#[test]
fn decimal_numbers_have_an_end() {
    let digits = |len: usize| [b"L-".to_vec(), vec![b'9'; len], b"L\n.".to_vec()].concat();
    assert_eq!(read(&digits(4300)).unwrap().to_string().len(), 4301);
    assert_eq!(read(&digits(4301)), Err(PickleError::IntTooLong));
    assert_eq!(read(&digits(10_000_000)), Err(PickleError::IntTooLong));
    for pickle in [&b"I\n."[..], b"I+1\n.", b"L1LL\n.", b"I0x1\n.", b"I1_0\n.", b"F\n.", b"Fx\n.", b"gx\n."] {
        assert!(matches!(read(pickle), Err(PickleError::Malformed { at: 0, .. })), "{pickle:?}");
    }
    assert_eq!(read(b"I00\n."), Ok(false.into()));
    assert_eq!(read(b"L00L\n."), Ok(0.into()));
}

#[test]
fn a_stack_that_does_not_work_out_is_an_error() {
    for pickle in [
        &b"."[..],
        b"0.",
        b"1.",
        b"a.",
        b"e.",
        b"Na.",
        b"NNa.",
        b"(.",
        b"(a.",
        b"](a.",
        b"]K\x01(e.",
        b"t.",
        b"K\x01\x86.",
        b"(\x85.",
        b"K\x01(\x86.",
        b"}K\x01s.",
        b"}(K\x01u.",
        b"(K\x01d.",
        b"\x8fK\x01a.",
        b"](K\x01\x90.",
        b"](K\x01K\x02u.",
        b"(q\x00.",
        b"q\x00.",
        b"\x94.",
        b"R.",
        b"N\x93.",
        b"NN\x93.",
        b"(e.",
        // Nothing reaches below a mark.
        b"cbuiltins\nset\n)(R.",
        b"K\x01K\x02(\x86.",
        b"K\x01(K\x02\x86.",
        b"](K\x01a0.",
        b"}(K\x01K\x02s.",
        b"N(.",
        b"N(e.",
    ] {
        match read(pickle) {
            Err(PickleError::Malformed { what, at }) => {
                assert!(at < pickle.len());
                assert!(!what.is_empty());
            }
            other => panic!("{pickle:?}: {other:?}"),
        }
    }
}

fn objects() -> impl Strategy<Value = Object> {
    let hashable = prop_oneof![
        Just(Object::None),
        any::<bool>().prop_map(Object::from),
        any::<i8>().prop_map(Object::from),
        any::<i64>().prop_map(Object::from),
        any::<u128>().prop_map(Object::from),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|b| Object::from(BigInt::from_le_bytes(&b))),
        any::<f32>().prop_filter("NaN is not equal to itself", |f| !f.is_nan()).prop_map(Object::from),
        any::<String>().prop_map(Object::from),
        any::<Vec<u8>>().prop_map(Object::from),
    ]
    .prop_recursive(3, 12, 4, |inner| {
        let some = prop::collection::vec(inner, 0..5);
        prop_oneof![some.clone().prop_map(Object::Tuple), some.prop_map(Object::FrozenSet)]
    });
    hashable.clone().prop_recursive(4, 48, 6, move |inner| {
        let some = prop::collection::vec(inner.clone(), 0..6);
        let keys = prop::collection::vec(hashable.clone(), 0..4);
        let entries = prop::collection::vec((hashable.clone(), inner), 0..4);
        prop_oneof![
            some.clone().prop_map(Object::List),
            some.prop_map(Object::Tuple),
            keys.prop_map(Object::Set),
            entries.prop_map(Object::Dict),
        ]
    })
}

/// Bytes of which many are opcodes, and few lead to the end at once.
fn programs() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop::sample::select(
        b"(.01FIJKLMNRSTUVXacd}egjlhpqrst)]uGBC\x80\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8f\x90\x91\x93\x94"
            .to_vec(),
    )
    .prop_map(|opcode| vec![opcode]);
    let word = prop::sample::select(
        [
            &b"K\x01"[..],
            b"X\x01\0\0\0a",
            b"](",
            b"]q\x00",
            b"h\x00",
            b"h\x01",
            b"h\x00a",
            b"N\x94",
            b"I7\n",
            b"cbuiltins\nset\n",
            b"c_codecs\nencode\n",
            b"X\x06\0\0\0latin1",
            b"\x85R",
            b"\x86R",
            b"p1\n",
            b"g1\n",
            b"l",
        ]
        .map(<[u8]>::to_vec)
        .to_vec(),
    );
    let rest = prop::collection::vec(any::<u8>(), 0..3);
    prop::collection::vec(prop_oneof![3 => opcode, 6 => word, 1 => rest], 0..60)
        .prop_map(|parts| [parts.concat(), b".".to_vec()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_is_read(object in objects()) {
        prop_assert_eq!(read(&written(&object)), Ok(object));
    }

    #[test]
    fn any_bytes_may_come(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn any_program_may_come(bytes in programs()) {
        if let Ok(object) = read(&bytes) {
            // What has been read can be written.
            prop_assert_eq!(encode(&object, &mut Vec::new()), Ok(()), "{}", object);
        }
    }

    #[test]
    fn any_bytes_of_a_pickle_may_be_wrong(
        object in objects(),
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = written(&object);
        for (at, byte) in wrong {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = read(&bytes);
    }

    #[test]
    fn the_budget_says_yes_or_no(object in objects(), memory_max in 0_usize..4000) {
        let bytes = written(&object);
        match decode(&bytes, &Limits::new().memory_max(memory_max)) {
            Ok(read) => prop_assert_eq!(read, object),
            Err(error) => prop_assert_eq!(error, PickleError::TooLarge { limit: memory_max }),
        }
    }
}
