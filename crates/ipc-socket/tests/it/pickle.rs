//! Pickles of real CPythons, and pickles for them.

use ipc_core::Limits;
use ipc_socket::python::pickle::{PickleError, decode, encode};
use ipc_socket::python::{BigInt, Object};
use ipc_testkit::watchdog;

use crate::interpreters::of_major;

fn list<const N: usize>(elements: [Object; N]) -> Object {
    Object::List(elements.into())
}

fn tuple<const N: usize>(elements: [Object; N]) -> Object {
    Object::Tuple(elements.into())
}

fn numbers(count: usize) -> Vec<Object> {
    (0..count).map(Object::from).collect()
}

/// 2 to that power, or what is below it, negative or not.
fn power(exponent: usize, plus: i8) -> Object {
    let mut bytes = vec![0; exponent / 8 + 2];
    bytes[exponent / 8] = 1 << (exponent % 8);
    if plus < 0 {
        bytes[exponent / 8] -= 1;
        bytes[..exponent / 8].fill(0xff);
    }
    BigInt::from_le_bytes(&bytes).into()
}

fn negative(object: &Object) -> Object {
    let (Object::BigInt(_) | Object::Int(_)) = object else { panic!() };
    let bytes = match object {
        Object::BigInt(big) => big.as_le_bytes().to_vec(),
        Object::Int(value) => value.to_le_bytes().to_vec(),
        _ => unreachable!(),
    };
    let mut bytes: Vec<u8> = bytes.iter().chain(&[0]).map(|byte| !byte).collect();
    for byte in &mut bytes {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    BigInt::from_le_bytes(&bytes).into()
}

/// Expressions of Python 3, and the objects that they are. None has more than 4300 digits, which some versions refuse
/// to write in protocols 0 and 1.
fn corpus() -> Vec<(String, Object)> {
    let mut all: Vec<(String, Object)> = Vec::new();
    let mut add = |text: &str, object: Object| all.push((text.to_owned(), object));
    add("None", Object::None);
    add("True", true.into());
    add("False", false.into());
    for exponent in
        [0, 7, 8, 15, 16, 31, 32, 62, 63, 64, 126, 127, 128, 2030, 2031, 2032, 2039, 2040, 2048, 14_000]
    {
        for plus in [0, -1] {
            let object = power(exponent, plus);
            add(&format!("2**{exponent}+{plus}"), object.clone());
            add(&format!("-(2**{exponent}+{plus})"), negative(&object));
        }
    }
    add("10**37", 10_i128.pow(37).into());
    for float in
        [0.0, -0.0, 1.5, -1e300, 5e-324, 1e16, 0.1, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]
    {
        add(&format!("float('{float:?}')"), float.into());
    }
    for text in [
        "",
        "a",
        "\\",
        "\\u0041",
        "it's \"it\"",
        "\0",
        "\n",
        "\r\n\t\u{1a}",
        "é",
        "\u{80}\u{ff}\u{100}",
        "€",
        "\u{2028}",
        "\u{feff}bom",
        "\u{d7ff}\u{e000}\u{ffff}",
        "😀 mixed é",
        "\u{10ffff}",
        "combining e\u{301}",
    ] {
        let escaped: String = text.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect();
        add(&format!("'{escaped}'"), text.into());
    }
    for len in [254, 255, 256, 257, 65_536] {
        add(&format!("'x'*{len}"), "x".repeat(len).into());
        add(&format!("b'y'*{len}"), vec![b'y'; len].into());
    }
    add("'\\xe9'*33000", "é".repeat(33_000).into());
    add("'\\\\\\n'*1000", "\\\n".repeat(1000).into());
    add("b''", Object::Bytes(vec![]));
    add("bytes(range(256))", (0..=255).collect::<Vec<u8>>().into());
    add("bytes(range(256))*300", (0..=255).collect::<Vec<u8>>().repeat(300).into());
    add("[]", list([]));
    add("()", tuple([]));
    add("{}", Object::Dict(vec![]));
    add("set()", Object::Set(vec![]));
    add("frozenset()", Object::FrozenSet(vec![]));
    for len in 1..6 {
        add(&format!("tuple(range({len}))"), Object::Tuple(numbers(len)));
        add(&format!("list(range({len}))"), Object::List(numbers(len)));
    }
    for len in [1000, 1001, 2100] {
        add(&format!("list(range({len}))"), Object::List(numbers(len)));
        add(&format!("set(range({len}))"), Object::Set(numbers(len)));
        add(&format!("frozenset(range({len}))"), Object::FrozenSet(numbers(len)));
        let entries = (0..len).map(|n| (n.into(), n.to_string().into())).collect();
        add(&format!("{{n: str(n) for n in range({len})}}"), Object::Dict(entries));
    }
    add(
        "{'a': [1, (2.0, None), {b'k': {True}}], (1, 'x'): frozenset([frozenset(), (None,)])}",
        Object::Dict(vec![
            (
                "a".into(),
                list([
                    1.into(),
                    tuple([2.0.into(), Object::None]),
                    Object::Dict(vec![(b"k"[..].into(), Object::Set(vec![true.into()]))]),
                ]),
            ),
            (
                tuple([1.into(), "x".into()]),
                Object::FrozenSet(vec![Object::FrozenSet(vec![]), tuple([Object::None])]),
            ),
        ]),
    );
    add("(None, 'create', ('list', [1]), {})", {
        let arguments = tuple(["list".into(), list([1.into()])]);
        tuple([Object::None, "create".into(), arguments, Object::Dict(vec![])])
    });
    let deep = |make: fn(Vec<Object>) -> Object| (1..80).fold(make(vec![]), |inner, _| make(vec![inner]));
    add(&format!("{}{}", "[".repeat(80), "]".repeat(80)), deep(Object::List));
    add(&format!("{}(){}", "(".repeat(79), ",)".repeat(79)), deep(Object::Tuple));
    // Shared, and therefore in the memo.
    let x = || list(["x".into()]);
    add("(lambda s: [s, s, (s, s), {1: s}])(['x'])", {
        list([x(), x(), tuple([x(), x()]), Object::Dict(vec![(1.into(), x())])])
    });
    add("(lambda s, b, t: {s: [s, b, t], b: (t, t), t: b})('shared', b'bytes', ('t', 1))", {
        let (s, b) = (Object::from("shared"), Object::from(&b"bytes"[..]));
        let t = tuple(["t".into(), 1.into()]);
        Object::Dict(vec![
            (s.clone(), list([s, b.clone(), t.clone()])),
            (b.clone(), tuple([t.clone(), t.clone()])),
            (t, b),
        ])
    });
    add("(lambda s: [s, s])({1})", list([Object::Set(vec![1.into()]), Object::Set(vec![1.into()])]));
    add(
        "(lambda s: [s, s])(frozenset([1]))",
        list([Object::FrozenSet(vec![1.into()]), Object::FrozenSet(vec![1.into()])]),
    );
    add("(lambda s: [s, s, b''])(2**100)", list([power(100, 0), power(100, 0), Object::Bytes(vec![])]));
    // More than 256 things in the memo.
    add("[[str(n)] * 2 for n in range(600)]", {
        Object::List((0..600).map(|n| list([n.to_string().into(), n.to_string().into()])).collect())
    });
    all
}

/// Whether both are the same, where 0.0 is not -0.0 and NaN is NaN; sets may come in any order.
fn same(a: &Object, b: &Object) -> bool {
    let all = |a: &[Object], b: &[Object]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b));
    let sorted = |elements: &[Object]| {
        let mut elements = elements.to_vec();
        elements.sort_by_cached_key(|element| format!("{element:?}"));
        elements
    };
    match (a, b) {
        (Object::Float(a), Object::Float(b)) => a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
        (Object::List(a), Object::List(b)) | (Object::Tuple(a), Object::Tuple(b)) => all(a, b),
        (Object::Set(a), Object::Set(b)) | (Object::FrozenSet(a), Object::FrozenSet(b)) => {
            all(&sorted(a), &sorted(b))
        }
        (Object::Dict(a), Object::Dict(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(&a.0, &b.0) && same(&a.1, &b.1))
        }
        (a, b) => a == b,
    }
}

/// An object, but not so long that nobody reads it.
fn brief(object: &Object) -> String {
    format!("{object:?}").chars().take(300).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// For each line with an expression, a line for each protocol and pickler, with the length of the pickle, which follows;
/// and a line with a dot.
const DUMP: &str = r#"
import collections, datetime, fractions, pickle, re, signal, sys
try:
    import cPickle
    picklers = [('C', cPickle.dumps), ('Python', pickle.dumps)]
except ImportError:
    picklers = [('C', pickle.dumps), ('Python', pickle._dumps)]
def circle(x, add):
    add(x)
    return x
sys.setrecursionlimit(10000)
out = getattr(sys.stdout, 'buffer', sys.stdout)
for line in sys.stdin:
    value = eval(line)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for name, dumps in picklers:
            data = dumps(value, protocol)
            out.write(('%d %s %d\n' % (protocol, name, len(data))).encode() + data)
    out.write(b'.\n')
"#;

/// The pickles of an expression: protocol, pickler, bytes.
type Pickles = Vec<(u32, String, Vec<u8>)>;

fn dumps(python: &crate::interpreters::Interpreter, expressions: &[&str]) -> Vec<Pickles> {
    let output = python.run(DUMP, &expressions.iter().map(|line| format!("{line}\n")).collect::<String>());
    let mut rest = output.as_slice();
    let mut all = vec![Vec::new()];
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = str::from_utf8(&rest[..end]).unwrap();
        rest = &rest[end + 1..];
        if line == "." {
            all.push(Vec::new());
            continue;
        }
        let words: Vec<_> = line.split(' ').collect();
        let [protocol, pickler, len] = words[..] else { panic!("{line}") };
        let (pickle, after) = rest.split_at(len.parse().unwrap());
        all.last_mut().unwrap().push((protocol.parse().unwrap(), pickler.to_owned(), pickle.to_vec()));
        rest = after;
    }
    assert_eq!(all.pop(), Some(vec![]));
    assert_eq!(all.len(), expressions.len());
    all
}

#[test]
fn python_writes_and_we_read() {
    let corpus = corpus();
    let expressions: Vec<_> = corpus.iter().map(|(text, _)| text.as_str()).collect();
    for python in of_major(3) {
        let _watchdog = watchdog("python_writes_and_we_read");
        for (pickles, (text, expected)) in dumps(python, &expressions).iter().zip(&corpus) {
            assert!(pickles.len() >= 10, "two picklers, at least protocols 0 to 4");
            for (protocol, pickler, pickle) in pickles {
                let of = || format!("{text}, protocol {protocol} of {pickler}, {:?}", python.version);
                let read =
                    decode(pickle, &Limits::default()).unwrap_or_else(|error| panic!("{}: {error}", of()));
                assert!(same(&read, expected), "{}: {} != {}", of(), brief(&read), brief(expected));
            }
        }
    }
}

#[test]
fn python_writes_what_is_not_data() {
    use PickleError::{Global, NotText, Opcode, SelfReference};
    type Right = fn(&PickleError) -> bool;
    let surrogates: Right = |error| matches!(error, NotText { .. });
    let circle: Right = |error| *error == SelfReference;
    let code: Right = |error| matches!(error, Global { .. } | Opcode { .. });
    let cases: &[(&str, Right)] = &[
        (r"'\ud800'", surrogates),
        (r"['ok', 'a\udfff']", surrogates),
        (r"'\ud83d\ude00'", surrogates),
        ("(lambda l: circle(l, l.append))([])", circle),
        ("(lambda d: circle(d, lambda d: d.update(x=d)))({})", circle),
        ("(lambda l: circle((l, 1), l.append))([])", circle),
        ("(lambda l: circle((l, 1, 2, 3), l.append))([])", circle),
        ("object()", code),
        ("bytearray(b'x')", code),
        ("1j", code),
        ("range(3)", code),
        ("Ellipsis", code),
        ("NotImplemented", code),
        ("int", code),
        ("print", code),
        ("set", code),
        ("slice(1)", code),
        ("KeyError('x')", code),
        ("collections.OrderedDict(a=1)", code),
        ("collections.deque([1])", code),
        ("collections.Counter('a')", code),
        ("datetime.date(2020, 1, 1)", code),
        ("fractions.Fraction(1, 3)", code),
        ("re.compile('x')", code),
        ("signal.SIGINT", code),
        ("[1, {'a': object()}]", code),
    ];
    let expressions: Vec<_> = cases.iter().map(|(text, _)| *text).collect();
    for python in of_major(3) {
        let _watchdog = watchdog("python_writes_what_is_not_data");
        for (pickles, (text, right)) in dumps(python, &expressions).iter().zip(cases) {
            for (protocol, pickler, pickle) in pickles {
                let error = decode(pickle, &Limits::default()).unwrap_err();
                assert!(
                    right(&error),
                    "{text}, protocol {protocol} of {pickler}, {:?}: {error:?}",
                    python.version
                );
            }
        }
    }
}

#[test]
fn python_2_writes_and_we_read() {
    let cases = [
        ("None", Object::None),
        ("True", true.into()),
        ("5", 5.into()),
        ("-5L", (-5).into()),
        ("2**62", Object::from(1_i64 << 62)),
        ("2**100", power(100, 0)),
        ("1.5", 1.5.into()),
        (r#"'it\'s " \\ \n\r\t\x00\x7f'"#, "it's \" \\ \n\r\t\0\u{7f}".into()),
        ("'x' * 70000", "x".repeat(70_000).into()),
        (r"u'\u20ac \\ \n \U0001f600'", "€ \\ \n 😀".into()),
        ("[(), (1,), (1, 2), [], {}, {'a': u'b'}]", {
            let dict = Object::Dict(vec![("a".into(), "b".into())]);
            list([
                tuple([]),
                tuple([1.into()]),
                tuple([1.into(), 2.into()]),
                list([]),
                Object::Dict(vec![]),
                dict,
            ])
        }),
        ("set([1])", Object::Set(vec![1.into()])),
        ("frozenset()", Object::FrozenSet(vec![])),
        ("(lambda s: [s, s])(['x'])", list([list(["x".into()]), list(["x".into()])])),
        ("range(2500)", Object::List(numbers(2500))),
    ];
    let expressions: Vec<_> = cases.iter().map(|(text, _)| *text).collect();
    for python in of_major(2) {
        let _watchdog = watchdog("python_2_writes_and_we_read");
        for (pickles, (text, expected)) in dumps(python, &expressions).iter().zip(&cases) {
            for (protocol, pickler, pickle) in pickles {
                let read = decode(pickle, &Limits::default());
                assert!(read.as_ref() == Ok(expected), "{text}, protocol {protocol} of {pickler}: {read:?}");
            }
        }
        for (_, _, pickle) in &dumps(python, &[r"'\xff'"])[0] {
            assert!(matches!(decode(pickle, &Limits::default()), Err(PickleError::NotText { .. })));
        }
    }
}

/// Each line has a pickle, an expression and one that we made; all three have to be the same.
const LOAD: &str = r#"
import binascii, pickle, sys
if hasattr(sys, 'set_int_max_str_digits'):
    sys.set_int_max_str_digits(0)
def same(a, b):
    if type(a) is not type(b):
        return False
    if type(a) is float:
        return repr(a) == repr(b)
    if type(a) in (list, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    if type(a) is dict:
        return same(list(a.items()), list(b.items()))
    if type(a) in (set, frozenset):
        return a == b and same(sorted(map(repr, a)), sorted(map(repr, b)))
    return a == b
names = {'nan': float('nan'), 'inf': float('inf')}
sys.stdin.reconfigure(encoding='utf-8') if hasattr(sys.stdin, 'reconfigure') else None
for line in sys.stdin.read().split('\n')[:-1]:
    data, text, printed = line.split('\t')
    data, value = binascii.unhexlify(data), eval(text)
    loaded = [('C', pickle.loads(data)), ('Python', pickle._loads(data)), ('repr', eval(printed, names))]
    wrong = [(name, repr(x)[:200]) for name, x in loaded if not same(x, value)]
    print('%s is not %s' % (wrong, text[:100]) if wrong else 'ok')
"#;

#[test]
fn we_write_and_python_reads() {
    let mut corpus = corpus();
    // Too many digits for protocol 0, but not for this one.
    corpus.push(("2**100000".into(), power(100_000, 0)));
    corpus.push(("-(2**100000)".into(), negative(&power(100_000, 0))));
    let mut input = String::new();
    for (text, object) in &corpus {
        let mut pickle = Vec::new();
        encode(object, &mut pickle).unwrap();
        // None of them prints on more than one line, or with a tab.
        input += &format!("{}\t{text}\t{object}\n", hex(&pickle));
    }
    for python in of_major(3) {
        let _watchdog = watchdog("we_write_and_python_reads");
        let output = String::from_utf8(python.run(LOAD, &input)).unwrap();
        let wrong: Vec<_> = output.lines().filter(|line| *line != "ok").collect();
        assert!(wrong.is_empty(), "{:?}: {wrong:#?}", python.version);
        assert_eq!(output.lines().count(), corpus.len());
    }
}

/// What this process has taken in memory at most, or takes, in bytes.
fn memory(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// A pickle that would like to have much memory, by its number; `None` when there are no more.
fn hostile(number: usize) -> Option<Vec<u8>> {
    let many = |first: &[u8], again: &[u8], last: &[u8]| {
        [first, &again.repeat((16 << 20) / again.len()), last].concat()
    };
    Some(match number {
        0 => many(b"", b"N", b"."),
        1 => many(b"", b"(", b"."),
        2 => many(b"", b"]", b"."),
        3 => many(b"", b")", b"."),
        4 => many(b"N", b"\x94", b"."),
        5 => many(b"(", b"N", b"l."),
        6 => many(b"(", b"X\x01\0\0\0a", b"l."),
        7 => many(b"](", b"K\x01\x85", b"e."),
        8 => many(b"}(", b"K\x01N", b"u."),
        9 => many(b"", b"]K\x01a", b"."),
        10 => many(b"", b"\x8a\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", b"."),
        11 => many(b"", b"L99999999999999999999999\n", b"."),
        12 => many(b"", b"V\\u00e9\n", b"."),
        13 => many(b"V", b"\xe9", b"\n."),
        14 => {
            // Numbers of the memo, from the last to the first.
            let mut bytes = b"N".to_vec();
            for number in (0..1_000_000_u32).rev() {
                bytes.push(b'r');
                bytes.extend(number.to_le_bytes());
            }
            bytes
        }
        15 => {
            let text = [b"X\0\0\x10\0".as_slice(), &[b'x'; 1 << 20], b"q\x00("].concat();
            many(&text, b"h\x00", b"l.")
        }
        16 => {
            let mut laughs = b"]q\x00".to_vec();
            for level in 0_u8..12 {
                laughs
                    .extend([b"](".as_slice(), &[b'h', level].repeat(10), &[b'e', b'q', level + 1]].concat());
            }
            laughs.push(b'.');
            laughs
        }
        // These fit, if only just.
        17 => [b"(".as_slice(), &b"X\x01\0\0\0a".repeat(80_000), b"l."].concat(),
        18 => [b"X\0\0\x10\0".as_slice(), &[b'x'; 1 << 20], b"q\x00(", &b"h\x00".repeat(14), b"l."].concat(),
        _ => return None,
    })
}

const HOSTILE: &str = "IPC_SOCKET_HOSTILE";

#[test]
fn hostile_pickles_take_no_more_than_the_budget() {
    let budget = 16 << 20;
    // In a process for each, as an allocator does not give everything back.
    if let Some(number) = std::env::var(HOSTILE).ok().and_then(|number| number.parse().ok()) {
        let _watchdog = watchdog("hostile_pickles_take_no_more_than_the_budget");
        let pickle = hostile(number).unwrap();
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = memory("VmRSS:");
        let result = decode(&pickle, &Limits::new().memory_max(budget));
        let taken = memory("VmHWM:").saturating_sub(before);
        println!("number {number} takes {} KiB: {:?}", taken >> 10, result.as_ref().map(drop));
        // The pages of code that run for the first time count too.
        assert!(taken < budget + (2 << 20));
        match result {
            Ok(_) => assert!(number >= 17 && taken > budget / 2, "they are hardly a test of anything"),
            Err(error) => {
                assert!(number < 17);
                assert_eq!(error, PickleError::TooLarge { limit: budget });
            }
        }
        return;
    }
    let mut number = 0;
    while hostile(number).is_some() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["pickle::hostile_pickles_take_no_more_than_the_budget", "--exact", "--nocapture"])
            .env(HOSTILE, number.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        println!("{}", said.lines().find(|line| line.starts_with("number ")).unwrap_or(&said));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        number += 1;
    }
    assert_eq!(number, 19);
}
