//! Decoding never holds more heap than the limit says: what the allocator saw, not what the budget thinks.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};

use ipc_core::{Codec, DecodeError, Limits, Value};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[path = "../../fuzz/shapes.rs"]
#[allow(unreachable_pub, reason = "it is a file of the fuzz target too")]
mod shapes;

use shapes::{Chain, Forest, Newtype, Padded, Tree, Wide};

/// Counts what each thread holds: tests run in parallel.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: every call goes to the system's allocator as it came. The counters are plain thread-local cells
// without a destructor, so that touching them neither allocates nor fails. `realloc` is left to the trait,
// which allocates, copies and deallocates: so both blocks are counted, as in the worst case.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps to the same contract, and the block is from `alloc` above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most heap that was held at once during `work`, beyond what was held before.
fn peak_of<R>(work: impl FnOnce() -> R) -> (usize, R) {
    let before = HELD.get();
    PEAK.set(before);
    let out = work();
    ((PEAK.get() - before) as usize, out)
}

/// What the documentation of `Codec::decode` allows beyond the limit.
const SLACK: usize = 4 << 10;

const MEMORY_MAX: usize = 64 << 10;

fn small() -> Codec {
    Codec::new(Limits::new().memory_max(MEMORY_MAX))
}

/// Decodes `bytes` as every shape with several limits, and returns how often the memory ran out.
fn decode_as_everything(bytes: &[u8]) -> usize {
    let mut refused = 0;
    for name in shapes::NAMES {
        for limit in [0, 1 << 10, 8 << 10, MEMORY_MAX] {
            let codec = Codec::new(Limits::new().memory_max(limit));
            let (peak, result) = peak_of(|| shapes::decode(name, &codec, bytes));
            // What decodes leaves no error behind, which alone is beyond the limit.
            let slack = if result.is_ok() { 0 } else { SLACK };
            assert!(peak <= limit + slack, "{name} took {peak} bytes of {limit}, from {bytes:?}");
            if let Err(DecodeError::TooMuchMemory { limit: reported, needed_at_least }) = result {
                assert_eq!(reported, limit);
                assert!(needed_at_least > limit);
                refused += 1;
            }
        }
    }
    refused
}

/// Bytes that say what they mean: a number of elements, then elements.
fn with_len(len: u64, elements: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Codec::default().encode(&len, &mut bytes).unwrap();
    bytes.extend_from_slice(elements);
    bytes
}

/// Numbers as distinct as can be, since equal keys take no room in a map.
fn counting_up(count: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..count {
        Codec::default().encode(&number, &mut bytes).unwrap();
    }
    bytes
}

#[test]
fn every_shape_stays_within_the_limit_when_one_byte_repeats() {
    let mut refused = 0;
    for byte in (0..=9).chain([63, 127, 128, 255]) {
        for len in [1000, 65_535, u64::MAX] {
            refused += decode_as_everything(&with_len(len, &[byte; 24_000]));
        }
        refused += decode_as_everything(&[byte; 3000]);
    }
    assert!(refused > 2000, "these inputs are meant to be too large, and only {refused} were");
}

#[test]
fn every_shape_stays_within_the_limit_when_keys_are_distinct() {
    for count in (0..300).step_by(7).chain([449, 897, 1793, 3585, 7169, 14_337, 20_000]) {
        decode_as_everything(&with_len(count.into(), &counting_up(count)));
        // The same inside of an outer collection, and with a zero for the value of each key.
        let inner = with_len(count.min(200).into(), &counting_up(count.min(200)));
        decode_as_everything(&with_len(10_000, &inner.repeat(60)));
        let spaced: Vec<u8> = counting_up(count.min(128)).into_iter().flat_map(|key| [key, 0]).collect();
        decode_as_everything(&with_len(count.min(128).into(), &spaced));
        let inner = with_len(count.min(128).into(), &spaced);
        decode_as_everything(&with_len(10_000, &inner.repeat(100)));
    }
}

#[test]
fn every_shape_stays_within_the_limit_on_random_bytes() {
    // A fixed seed, so that a failure can be looked at again (xorshift: Marsaglia, 2003).
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..2000 {
        let len = random() % 300;
        // Small numbers are what lengths, tags and options look like.
        let range = [2, 3, 8, 64, 256][(random() % 5) as usize];
        let bytes: Vec<u8> = (0..len).map(|_| (random() % range) as u8).collect();
        decode_as_everything(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn every_shape_stays_within_the_limit_on_proptests_bytes(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..600),
            prop::collection::vec(0_u8..6, 0..600),
            (any::<u64>(), prop::collection::vec(0_u8..6, 0..600)).prop_map(|(len, rest)| with_len(len, &rest)),
        ]
    ) {
        decode_as_everything(&bytes);
    }
}

/// Decodes `value` within the tightest limit that lets it pass.
fn assert_tight<T: Serialize + DeserializeOwned>(value: T) {
    let mut bytes = Vec::new();
    Codec::default().encode(&value, &mut bytes).unwrap();
    let passes = |limit| Codec::new(Limits::new().memory_max(limit)).decode::<T>(&bytes).is_ok();
    let (mut refused, mut passed) = (0, 64 << 20);
    assert!(passes(passed));
    while refused + 1 < passed {
        let middle = usize::midpoint(refused, passed);
        if passes(middle) {
            passed = middle;
        } else {
            refused = middle;
        }
    }
    let codec = Codec::new(Limits::new().memory_max(passed));
    let (peak, _) = peak_of(|| codec.decode::<T>(&bytes).map(drop));
    assert!(peak <= passed, "{} took {peak} bytes of {passed}", std::any::type_name::<T>());
}

#[test]
fn every_collection_stays_within_the_tightest_limit_while_it_grows() {
    // Where vectors double, and where hash tables do.
    for count in (0..20).chain([29, 33, 57, 65, 113, 129, 225, 257, 449, 513, 897, 1025]) {
        let numbers = 0..count;
        let bytes = || (0..count.min(256)).map(|n| n as u8);
        let large = |n: u16| [u64::from(n); 32];
        assert_tight(numbers.clone().collect::<Vec<u16>>());
        assert_tight(numbers.clone().map(large).collect::<Vec<_>>());
        assert_tight(numbers.clone().map(large).collect::<VecDeque<_>>());
        assert_tight(numbers.clone().map(large).collect::<LinkedList<_>>());
        assert_tight(numbers.clone().map(large).collect::<HashSet<_>>());
        assert_tight(numbers.clone().map(large).collect::<BTreeSet<_>>());
        assert_tight(numbers.clone().map(large).collect::<BinaryHeap<_>>());
        assert_tight(numbers.clone().map(|n| (n, large(n))).collect::<HashMap<_, _>>());
        assert_tight(numbers.clone().map(|n| (n, large(n))).collect::<BTreeMap<_, _>>());
        assert_tight(numbers.clone().map(|n| (large(n), ())).collect::<HashMap<_, _>>());
        assert_tight(numbers.clone().map(|n| (large(n), ())).collect::<BTreeMap<_, _>>());
        assert_tight(numbers.clone().map(|n| (n, u64::from(n))).collect::<HashMap<_, _>>());
        assert_tight(numbers.clone().map(|n| (n, ())).collect::<HashMap<_, _>>());
        assert_tight(bytes().map(|n| (n, u128::from(n))).collect::<HashMap<_, _>>());
        assert_tight(bytes().map(|n| (n, u64::from(n))).collect::<BTreeMap<_, _>>());
        assert_tight(bytes().map(|n| (n, ())).collect::<HashMap<_, _>>());
        assert_tight(bytes().collect::<HashSet<_>>());
        assert_tight(bytes().collect::<BTreeSet<_>>());
        assert_tight(bytes().collect::<LinkedList<_>>());
        assert_tight(numbers.clone().map(|n| BTreeSet::from([n])).collect::<Vec<_>>());
        assert_tight(numbers.clone().map(|n| HashMap::from([(n, large(n))])).collect::<Vec<_>>());
        assert_tight(numbers.clone().map(|n| Some(Box::new(n))).collect::<Vec<_>>());
        assert_tight(numbers.clone().map(|n| Newtype(Box::new(n))).collect::<Vec<_>>());
        assert_tight(numbers.clone().map(|n| n.to_string()).collect::<Vec<_>>());
        assert_tight(numbers.clone().map(|n| n.to_string().into_boxed_str()).collect::<Box<[_]>>());
        assert_tight(numbers.map(Value::from).collect::<Vec<_>>());
    }
}

fn assert_refused<T: DeserializeOwned>(bytes: &[u8]) {
    let (peak, result) = peak_of(|| small().decode::<T>(bytes).map(drop));
    let error = result.expect_err(std::any::type_name::<T>());
    assert!(matches!(error, DecodeError::TooMuchMemory { .. }), "{}: {error}", std::any::type_name::<T>());
    assert!(error.to_string().contains("Limits::memory_max"), "{error}");
    assert!(peak <= MEMORY_MAX + SLACK, "{} took {peak} bytes", std::any::type_name::<T>());
}

#[test]
fn elements_without_a_size_end_at_once() {
    for len in [1 << 20, 1 << 40, u64::MAX] {
        assert_refused::<Vec<()>>(&with_len(len, &[]));
        assert_refused::<Vec<[u8; 0]>>(&with_len(len, &[]));
        assert_refused::<LinkedList<()>>(&with_len(len, &[]));
        assert_refused::<HashSet<()>>(&with_len(len, &[]));
        assert_refused::<HashMap<(), ()>>(&with_len(len, &[]));
        assert_refused::<Vec<shapes::Unseen>>(&with_len(len, &[]));
    }
    // Before anything is allocated, even.
    let bytes = with_len(u64::MAX, &[]);
    let (peak, result) = peak_of(|| small().decode::<Vec<shapes::Unseen>>(&bytes).map(drop));
    assert!(result.is_err() && peak < 256, "{peak}");
    // Input that could be elements, but is not.
    assert_refused::<Vec<()>>(&with_len(20_000, &[0; 20_000]));
    assert_eq!(Codec::default().decode::<Vec<()>>(&[3]), Ok(vec![(); 3]));
}

#[test]
fn what_is_larger_in_memory_than_in_the_message_is_charged_in_full() {
    assert_refused::<Vec<Padded>>(&with_len(300, &[0; 300]));
    assert_refused::<Vec<Box<Padded>>>(&with_len(300, &[0; 300]));
    assert_refused::<Vec<Option<Box<Padded>>>>(&with_len(300, &[1; 600]));
    assert_refused::<Vec<Newtype<Box<Padded>>>>(&with_len(300, &[0; 300]));
    assert_refused::<Vec<shapes::Shared>>(&with_len(2000, &[0; 2000]));
    assert_refused::<Vec<shapes::Gathered>>(&with_len(10, &[0; 1000]));
    assert_refused::<BTreeMap<u16, Padded>>(&with_len(300, &[0; 600]));
    assert_refused::<Vec<Vec<u64>>>(&with_len(3000, &[1; 6000]));
    assert_refused::<String>(&with_len(60_000, &[b'a'; 60_000]));
    assert_refused::<Vec<Value>>(&with_len(2000, &[0; 2000]));
}

#[test]
fn a_message_to_the_limit_passes() {
    let mut bytes = Vec::new();
    let text = "a".repeat(MEMORY_MAX / 2 - 1);
    small().encode(&text, &mut bytes).unwrap();
    assert_eq!(small().decode::<String>(&bytes).as_deref(), Ok(&*text));
    // And one byte more does not.
    let mut bytes = Vec::new();
    small().encode(&(text + "a"), &mut bytes).unwrap();
    assert_refused::<String>(&bytes);
}

fn assert_passes_with<T: Serialize + DeserializeOwned + PartialEq>(codec: Codec, value: &T) {
    let mut bytes = Vec::new();
    codec.encode(value, &mut bytes).unwrap();
    let decoded = codec.decode::<T>(&bytes);
    assert!(matches!(&decoded, Ok(it) if it == value), "{:?}", decoded.map(|_| "another value"));
}

fn assert_passes<T: Serialize + DeserializeOwned + PartialEq>(value: &T) {
    assert_passes_with(Codec::default(), value);
}

#[test]
fn what_programs_send_passes_with_the_default_limits() {
    assert_passes(&"x".repeat(60 << 20));
    assert_passes(&(0..200_000).collect::<Vec<u64>>());
    assert_passes(&(0..20_000).map(|n| n.to_string()).collect::<Vec<String>>());
    assert_passes(&(0..20_000).map(|n| (n, n.to_string())).collect::<HashMap<u32, String>>());
    assert_passes(&(0..5000).map(|n| (n.to_string(), vec![n; 5])).collect::<BTreeMap<String, Vec<u32>>>());
    assert_passes(&vec![vec![1_u8; 50]; 5000]);
    assert_passes(&vec![Some(Box::new(Padded::default())); 5000]);
    assert_passes(&vec![Wide::List(vec![Wide::Byte(1); 10]); 2000]);
    assert_passes(&vec![(); 100_000]);
    assert_passes(&Value::List(vec![Value::from("a row"); 20_000]));
}

#[test]
fn what_fills_the_frame_passes_if_it_is_no_larger_in_memory() {
    // A 64th of the default limits, since this takes its time in a debug build.
    let defaults = Limits::default();
    let codec =
        Codec::new(defaults.frame_len_max(defaults.frame_len_max / 64).memory_max(defaults.memory_max / 64));
    assert_passes_with(codec, &vec![7_u8; (1 << 20) - 3]);
    assert_passes_with(codec, &vec![7_u16; 600_000]);
    assert_passes_with(codec, &vec![0.5_f64; (1 << 17) - 1]);
    assert_passes_with(codec, &"x".repeat((1 << 20) - 3));
    assert_passes_with(codec, &vec!["a line of text, not long".to_owned(); 30_000]);
}

/// Runs `work` on a stack as small as a thread's usually is.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn depth_is_bounded_before_the_stack_is() {
    fn too_deep<T: DeserializeOwned>(bytes: &[u8]) {
        let error = Codec::default().decode::<T>(bytes).map(drop).unwrap_err();
        assert_eq!(error, DecodeError::TooDeep { limit: 128 }, "{}", std::any::type_name::<T>());
        assert!(error.to_string().contains("Limits::depth_max"));
    }
    on_a_small_stack(|| {
        too_deep::<Chain>(&[1; 10_000]);
        too_deep::<Tree>(&[1; 10_000]);
        too_deep::<Forest>(&[0, 1].repeat(5000));
        // Wide::List, one element; Wide::Map, one entry, key 5; Wide::Sorted, no entries, something.
        too_deep::<Wide>(&[4, 1].repeat(5000));
        too_deep::<Wide>(&[5, 1, 5].repeat(5000));
        too_deep::<Wide>(&[6, 0, 1].repeat(5000));
        // Value::List, one element; Value::Map, one entry, key null.
        too_deep::<Value>(&[7, 1].repeat(5000));
        too_deep::<Value>(&[8, 1, 0].repeat(5000));
    });
}

#[test]
fn what_is_just_deep_enough_passes() {
    on_a_small_stack(|| {
        // A chain takes two levels a link, for the struct and the `Some`, but for the last, which has none.
        let chain = |links| {
            let end = Chain { next: None, unseen: [0; 16] };
            (1..links).fold(end, |chain, _| Chain { next: Some(Box::new(chain)), unseen: [0; 16] })
        };
        let mut bytes = Vec::new();
        Codec::default().encode(&chain(64), &mut bytes).unwrap();
        assert_eq!(Codec::default().decode(&bytes), Ok(chain(64)));
        let deeper = Codec::new(Limits::new().depth_max(130));
        bytes.clear();
        deeper.encode(&chain(65), &mut bytes).unwrap();
        assert_eq!(deeper.decode(&bytes), Ok(chain(65)));
        assert_eq!(Codec::default().decode::<Chain>(&bytes), Err(DecodeError::TooDeep { limit: 128 }));
    });
}

#[test]
fn an_error_message_does_not_quote_the_whole_input() {
    let text = "y".repeat(30_000);
    let mut bytes = Vec::new();
    small().encode(&text, &mut bytes).unwrap();
    // A path's text is refused as an address, with a message that quotes it.
    let (peak, result) = peak_of(|| small().decode::<Quoting>(&bytes).map(drop));
    let DecodeError::Invalid(message) = result.unwrap_err() else { panic!("not invalid") };
    assert!(message.len() <= 1024 && message.starts_with("invalid value: string \"yyy"), "{message}");
    assert!(peak <= SLACK, "{peak}");
}

struct Quoting;

impl<'de> serde::Deserialize<'de> for Quoting {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::{Error, Unexpected};
        let text = <&str>::deserialize(deserializer)?;
        Err(D::Error::invalid_value(Unexpected::Str(text), &"something else"))
    }
}
