//! What goes in and what comes out.

use std::collections::BTreeMap;

use ipc_core::{Classify, ErrorKind};
use ipc_process::{JoinError, NeverStarted, Process, SpawnError};
use ipc_testkit::watchdog;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[allow(clippy::too_many_arguments, reason = "eight is what may be")]
fn sum8(a: u8, b: i16, c: u32, d: i64, e: f32, f: String, g: Vec<u8>, h: Option<bool>) -> String {
    format!("{a} {b} {c} {d} {e} {f} {g:?} {h:?}")
}

fn twice<T: Clone + Serialize + DeserializeOwned>(value: T) -> (T, T) {
    (value.clone(), value)
}

trait Speaks {
    fn speak(self) -> String;
}

impl Speaks for u32 {
    fn speak(self) -> String {
        format!("number {self}")
    }
}

#[test]
fn up_to_eight_arguments() {
    let _watchdog = watchdog("up_to_eight_arguments");
    assert_eq!(Process::spawn(|| 0, ()).unwrap().join().unwrap(), 0);
    assert_eq!(Process::spawn(|a: u8| a, (1,)).unwrap().join().unwrap(), 1);
    assert_eq!(Process::spawn(|a: u8, b: u8| a + b, (1, 2)).unwrap().join().unwrap(), 3);
    let four = |a: u8, b: u8, c: u8, d: u8| [a, b, c, d];
    assert_eq!(Process::spawn(four, (1, 2, 3, 4)).unwrap().join().unwrap(), [1, 2, 3, 4]);
    let eight = (1, -2, 3, -4, 0.5, "six".to_owned(), vec![7], Some(true));
    assert_eq!(Process::spawn(sum8, eight).unwrap().join().unwrap(), "1 -2 3 -4 0.5 six [7] Some(true)");
}

#[test]
fn functions_generic_instances_methods_and_closures() {
    let _watchdog = watchdog("functions_generic_instances_methods_and_closures");
    assert_eq!(Process::spawn(twice::<u8>, (1,)).unwrap().join().unwrap(), (1, 1));
    let text = Process::spawn(twice::<String>, ("a".to_owned(),)).unwrap();
    assert_eq!(text.join().unwrap(), ("a".to_owned(), "a".to_owned()));
    assert_eq!(Process::spawn(u32::speak, (4,)).unwrap().join().unwrap(), "number 4");
    assert_eq!(Process::spawn(u32::wrapping_add, (u32::MAX, 3)).unwrap().join().unwrap(), 2);
    // Two closures of one type of arguments are two functions.
    let plus = Process::spawn(|x: i32| x + 1, (10,)).unwrap();
    let minus = Process::spawn(|x: i32| x - 1, (10,)).unwrap();
    assert_eq!((plus.join().unwrap(), minus.join().unwrap()), (11, 9));
    let map: BTreeMap<u8, ()> =
        Process::spawn(|n| (0..n).map(|k| (k, ())).collect(), (3u8,)).unwrap().join().unwrap();
    assert_eq!(map.len(), 3);
}

#[test]
fn arguments_and_results_of_all_sizes() {
    let _watchdog = watchdog("arguments_and_results_of_all_sizes");
    // About the size up to which they go in a packet, above what the kernel's buffers hold, and a hundred megabytes.
    let packet = 64 << 10;
    let mut sizes = vec![0, 1, 4095, 1 << 20, 100 << 20];
    sizes.extend(packet - 8..packet + 8);
    for len in sizes {
        let bytes = blob(len);
        let mut expected = bytes.0.clone();
        expected.push(b'!');
        let process = Process::spawn(|mut bytes: Blob| (bytes.0.push(b'!'), bytes).1, (bytes,)).unwrap();
        // Not assert_eq: it would print them.
        assert!(process.join().unwrap().0 == expected, "{len} bytes");
    }
}

/// Bytes that are encoded as such: in a debug build element by element takes long.
struct Blob(Vec<u8>);

fn blob(len: usize) -> Blob {
    let pattern: Vec<u8> = (0..251).collect();
    let mut bytes = pattern.repeat(len / pattern.len() + 1);
    bytes.truncate(len);
    Blob(bytes)
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Blob;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

/// Refuses to be encoded, decoded, or both.
#[derive(Debug)]
struct Stubborn {
    encodes: bool,
}

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.encodes {
            serializer.serialize_u8(1)
        } else {
            Err(serde::ser::Error::custom("stubborn in encoding"))
        }
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u8::deserialize(deserializer)?;
        Err(serde::de::Error::custom("stubborn in decoding"))
    }
}

#[test]
fn what_cannot_be_encoded_or_decoded_is_told_as_that() {
    let _watchdog = watchdog("what_cannot_be_encoded_or_decoded_is_told_as_that");
    let takes = |_: Stubborn| ();
    let error = Process::spawn(takes, (Stubborn { encodes: false },)).unwrap_err();
    assert!(matches!(error, SpawnError::Arguments(_)), "{error:?}");

    let error = Process::spawn(takes, (Stubborn { encodes: true },)).unwrap().join().unwrap_err();
    match &error {
        JoinError::NeverStarted(NeverStarted::Failed(why)) => {
            assert!(why.contains("stubborn in decoding"), "{why}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(error.kind(), ErrorKind::Failed);

    let error = Process::spawn(|| Stubborn { encodes: false }, ()).unwrap().join().unwrap_err();
    assert!(
        matches!(&error, JoinError::ResultNotEncoded(why) if why.contains("stubborn in encoding")),
        "{error:?}"
    );

    let error = Process::spawn(|| Stubborn { encodes: true }, ()).unwrap().join().unwrap_err();
    assert!(matches!(error, JoinError::Result(_)), "{error:?}");
}

#[test]
fn whatever_is_waited_for_first_nothing_locks_up() {
    let _watchdog = watchdog("whatever_is_waited_for_first_nothing_locks_up");
    let results: Vec<_> =
        (0..4).map(|n| Process::spawn(|n: usize| vec![n as u8; 1 << 20], (n,)).unwrap()).collect();
    for process in &results {
        assert!(process.sentinel().wait_ended(None).unwrap());
    }
    for (n, process) in results.into_iter().enumerate().rev() {
        assert!(process.join().unwrap().iter().all(|byte| usize::from(*byte) == n));
    }
}
