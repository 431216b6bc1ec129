//! Handles beside messages: the table's scopes, its limits, and indices that lie.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use ipc_core::handle::{self, Bundle, HANDLES_MAX, Kind, Outgoing};
use ipc_core::{Codec, DecodeError, EncodeError, handle_kind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

fn null() -> Arc<OwnedFd> {
    Arc::new(File::open("/dev/null").unwrap().into())
}

/// Whether nobody has this descriptor any more; `other` keeps the number from being used again meanwhile.
fn is_closed(fd: &std::sync::Weak<OwnedFd>) -> bool {
    fd.upgrade().is_none()
}

/// A handle of which there may be many.
#[derive(Debug)]
struct Shared(Arc<OwnedFd>);

/// A handle with a single owner.
#[derive(Debug)]
struct Single(Arc<OwnedFd>);

const SHARED: Kind = handle_kind!("test.shared");
const SINGLE: Kind = handle_kind!("test.single");

fn bundle(fds: &[&Arc<OwnedFd>], exclusive: bool) -> Bundle {
    let mut bundle = Bundle::default();
    bundle.descriptors = fds.iter().map(|fd| Arc::clone(fd)).collect();
    bundle.exclusive = exclusive;
    bundle
}

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        bundle(&[&self.0], false).serialize(SHARED, serializer)
    }
}

impl Serialize for Single {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        bundle(&[&self.0], true).serialize(SINGLE, serializer)
    }
}

fn only<E: serde::de::Error>(bundle: Bundle) -> Result<Arc<OwnedFd>, E> {
    bundle.descriptors.into_iter().next().ok_or_else(|| E::custom("no descriptor"))
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        only(Bundle::deserialize(SHARED, false, deserializer)?).map(Shared)
    }
}

impl<'de> Deserialize<'de> for Single {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        only(Bundle::deserialize(SINGLE, true, deserializer)?).map(Single)
    }
}

fn encode<T: Serialize>(message: &T) -> Result<(Vec<u8>, Outgoing), EncodeError> {
    let mut bytes = Vec::new();
    let ((), handles) = handle::outgoing(|| Codec::default().encode(message, &mut bytes))?;
    Ok((bytes, handles))
}

/// What a carrier does with the descriptors of a message: the receiver has duplicates.
fn carried(handles: &Outgoing) -> Vec<OwnedFd> {
    handles.descriptors().iter().map(|fd| fd.try_clone().unwrap()).collect()
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8], came: Vec<OwnedFd>) -> Result<T, DecodeError> {
    handle::incoming(came, || Codec::default().decode(bytes))
}

fn text<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

#[test]
fn a_bundle_arrives_as_it_was() {
    let kind = handle_kind!("test.everything");
    assert_eq!(kind.name(), "test.everything");
    struct Everything(Bundle);
    impl Serialize for Everything {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.serialize(handle_kind!("test.everything"), serializer)
        }
    }
    impl<'de> Deserialize<'de> for Everything {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Bundle::deserialize(handle_kind!("test.everything"), false, deserializer).map(Everything)
        }
    }
    let (first, second) = (null(), null());
    let mut sent = bundle(&[&first, &second, &first], false);
    (sent.version, sent.fingerprint) = (3, u64::MAX);
    (sent.offset, sent.length, sent.metadata) = (1 << 40, 7, vec![0, 1, 255]);
    let (bytes, handles) = encode(&Everything(sent)).unwrap();
    assert_eq!(handles.descriptors().len(), 2, "the same one travels once");
    let Everything(got) = decode(&bytes, carried(&handles)).unwrap();
    assert_eq!((got.version, got.fingerprint, got.offset, got.length), (3, u64::MAX, 1 << 40, 7));
    assert_eq!(got.metadata, [0, 1, 255]);
    assert_eq!(got.descriptors.len(), 3);
    assert!(Arc::ptr_eq(&got.descriptors[0], &got.descriptors[2]));
    assert!(!Arc::ptr_eq(&got.descriptors[0], &got.descriptors[1]));
}

#[test]
fn without_a_message_a_handle_is_an_error() {
    let error = Codec::default().encode(&Shared(null()), &mut Vec::new()).unwrap_err();
    assert!(text(&error).contains("a test.shared handle can only be serialised inside a message"), "{error}");
    let (bytes, _handles) = encode(&Shared(null())).unwrap();
    let error = Codec::default().decode::<Shared>(&bytes).unwrap_err();
    assert!(text(&error).contains("can only be deserialised inside a message"), "{error}");
    assert!(!handle::on_commit(|| unreachable!()));
}

#[test]
fn the_table_is_the_threads_own() {
    let (bytes, handles) = encode(&Shared(null())).unwrap();
    let inner = || {
        assert!(!handle::on_commit(|| unreachable!()));
        assert!(Codec::default().encode(&Shared(null()), &mut Vec::new()).is_err());
        assert!(Codec::default().decode::<Shared>(&bytes).is_err());
    };
    let ((), _) = handle::outgoing(|| -> Result<(), EncodeError> {
        handle::incoming(carried(&handles), || {
            std::thread::scope(|scope| scope.spawn(inner).join().unwrap());
            Codec::default().decode::<Shared>(&bytes).unwrap();
        });
        Ok(())
    })
    .unwrap();
}

/// A message that holds another one, encoded: as a carrier over a carrier would.
struct Nested<'a> {
    before: Shared,
    inner: &'a Single,
    after: Shared,
    inside: std::cell::RefCell<Option<(Vec<u8>, Outgoing)>>,
}

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple;
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&self.before)?;
        *self.inside.borrow_mut() = Some(encode(self.inner).unwrap());
        tuple.serialize_element(&self.after)?;
        tuple.end()
    }
}

#[test]
fn scopes_nest() {
    let (before, inner, after) = (null(), Single(null()), null());
    let nested = Nested {
        before: Shared(Arc::clone(&before)),
        inner: &inner,
        after: Shared(Arc::clone(&after)),
        inside: None.into(),
    };
    let (outer_bytes, outer) = encode(&nested).unwrap();
    let (inner_bytes, inner_handles) = nested.inside.take().unwrap();
    let numbers =
        |handles: &Outgoing| -> Vec<i32> { handles.descriptors().iter().map(|fd| fd.as_raw_fd()).collect() };
    assert_eq!(numbers(&outer), [before.as_raw_fd(), after.as_raw_fd()]);
    assert_eq!(numbers(&inner_handles), [inner.0.as_raw_fd()]);

    // And in the other direction.
    handle::incoming(carried(&outer), || {
        let single: Single = decode(&inner_bytes, carried(&inner_handles)).unwrap();
        let none = handle::incoming([], || Codec::default().decode::<Single>(&inner_bytes).map(drop));
        assert!(text(none.unwrap_err()).contains("only 0 came with it"), "not those of the outer message");
        let (a, b): (Shared, Shared) = Codec::default().decode(&outer_bytes).unwrap();
        assert!(single.0.as_raw_fd() != a.0.as_raw_fd() && a.0.as_raw_fd() != b.0.as_raw_fd());
    });
}

#[test]
fn an_error_leaves_nothing_behind() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    let fd = null();
    let weak = Arc::downgrade(&fd);
    let error = encode(&(Single(fd), Refuses)).unwrap_err();
    assert_eq!(error, EncodeError::Custom("no".into()));
    assert!(is_closed(&weak));
    assert!(!handle::on_commit(|| unreachable!()), "the scope is gone");
    let single = Single(null());
    encode(&(&single, Refuses)).unwrap_err();
    let (_, handles) = encode(&single).unwrap();
    assert_eq!(handles.descriptors().len(), 1, "and it counts from the beginning");
}

#[test]
fn a_panic_leaves_nothing_behind() {
    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("in the middle")
        }
    }
    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("in the middle")
        }
    }
    let fd = null();
    let weak = Arc::downgrade(&fd);
    assert!(catch_unwind(AssertUnwindSafe(|| encode(&(Single(fd), Panics)))).is_err());
    assert!(is_closed(&weak));
    assert!(!handle::on_commit(|| unreachable!()));

    let (bytes, handles) = encode(&Single(null())).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let came = vec![OwnedFd::from(writer)];
    let panicked = catch_unwind(AssertUnwindSafe(|| decode::<(Single, Panics)>(&bytes, came).map(drop)));
    assert!(panicked.is_err());
    assert_eq!(std::io::Read::read(&mut &reader, &mut [0]).unwrap(), 0, "the descriptor was closed");
    assert!(text(Codec::default().decode::<Single>(&bytes).unwrap_err()).contains("inside a message"));
    decode::<Single>(&bytes, carried(&handles)).unwrap();

    // A panic in a nested message leaves the outer one as it was.
    let ((), handles) = handle::outgoing(|| -> Result<(), EncodeError> {
        let mut bytes = Vec::new();
        Codec::default().encode(&Shared(null()), &mut bytes)?;
        assert!(catch_unwind(AssertUnwindSafe(|| encode(&(Shared(null()), Panics)))).is_err());
        Codec::default().encode(&Shared(null()), &mut bytes)
    })
    .unwrap();
    assert_eq!(handles.descriptors().len(), 2);
}

/// A handle that counts how often it has gone.
struct Counted(Arc<AtomicU32>);

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let count = Arc::clone(&self.0);
        assert!(handle::on_commit(move || {
            count.fetch_add(1, Relaxed);
        }));
        serializer.serialize_unit()
    }
}

#[test]
fn commits_run_once_the_message_has_gone_and_not_before() {
    let count = Arc::new(AtomicU32::new(0));
    let message = (Counted(Arc::clone(&count)), Counted(Arc::clone(&count)));
    let (_, handles) = encode(&message).unwrap();
    assert_eq!(count.load(Relaxed), 0);
    drop(handles);
    assert_eq!(count.load(Relaxed), 0, "it has not gone");
    let (_, handles) = encode(&message).unwrap();
    assert!(!handles.is_empty() && handles.descriptors().is_empty(), "it holds no descriptor, but a handle");
    handles.commit();
    assert_eq!(count.load(Relaxed), 2);
    let (_, handles) = encode(&(1, "plain")).unwrap();
    assert!(handles.is_empty());
    handles.commit();
    assert_eq!(count.load(Relaxed), 2);
}

#[test]
fn a_single_owner_stands_in_a_message_once() {
    let single = Single(null());
    let error = encode(&(&single, &single)).unwrap_err();
    assert!(text(&error).contains("a test.single handle has a single owner and stands in the message twice"));
    // One after the other is no matter of the table.
    encode(&single).unwrap();
    encode(&single).unwrap();
    let shared = Shared(null());
    let (bytes, handles) = encode(&(&shared, &shared)).unwrap();
    let (a, b): (Shared, Shared) = decode(&bytes, carried(&handles)).unwrap();
    assert!(Arc::ptr_eq(&a.0, &b.0));
}

#[test]
fn a_single_owner_claims_once_whatever_the_bytes_say() {
    // Two handles with the same index, as only a hostile sender writes them.
    let (bytes, handles) = encode(&Single(null())).unwrap();
    let twice = [bytes.clone(), bytes.clone()].concat();
    let error = decode::<(Single, Single)>(&twice, carried(&handles)).unwrap_err();
    assert!(text(&error).contains("belongs to two single owners"), "{error}");
    decode::<Single>(&bytes, carried(&handles)).unwrap();
}

#[test]
fn descriptors_that_nobody_claims_are_closed() {
    let (bytes, handles) = encode(&Shared(null())).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut came = carried(&handles);
    came.push(writer.into());
    decode::<Shared>(&bytes, came).unwrap();
    assert_eq!(std::io::Read::read(&mut &reader, &mut [0]).unwrap(), 0);
    // A claimed one lives as long as its owner.
    let (reader, writer) = std::io::pipe().unwrap();
    let claimed: Shared = decode(&bytes, vec![writer.into()]).unwrap();
    std::io::Write::write_all(&mut File::from(claimed.0.try_clone().unwrap()), b"x").unwrap();
    drop(claimed);
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut &reader, &mut all).unwrap();
    assert_eq!(all, b"x");
}

#[test]
fn no_more_descriptors_than_the_limit() {
    // Not so many files: the table goes by numbers, and each clone has its own.
    let fds: Vec<Arc<OwnedFd>> = (0..=HANDLES_MAX).map(|_| null()).collect();
    let most: Vec<Shared> = fds[..HANDLES_MAX].iter().map(|fd| Shared(Arc::clone(fd))).collect();
    let (_, handles) = encode(&most).unwrap();
    assert_eq!(handles.descriptors().len(), HANDLES_MAX);
    let more: Vec<Shared> = fds.iter().map(|fd| Shared(Arc::clone(fd))).collect();
    let error = encode(&more).unwrap_err();
    assert!(text(&error).contains("more than the 4096 descriptors"), "{error}");
}

#[test]
fn hostile_indices_are_errors() {
    let (good, handles) = encode(&Shared(null())).unwrap();
    // The index of the only descriptor is the byte behind the length of the list of indices.
    let at = good.windows(2).rposition(|two| two == [1, 0]).unwrap() + 1;
    for index in [1_u8, 2, 127] {
        let mut bad = good.clone();
        bad[at] = index;
        let error = decode::<Shared>(&bad, carried(&handles)).unwrap_err();
        let expected = format!("the message names descriptor {index}, but only 1 came with it");
        assert!(text(&error).contains(&expected), "{error}");
    }
    // A list of indices that is longer than the message.
    for len in [2_u8, 100, 0xFF] {
        let mut bad = good.clone();
        bad[at - 1] = len;
        decode::<Shared>(&bad, carried(&handles)).unwrap_err();
    }
    // Every byte wrong in every way, and every length: an error or a value, never a panic.
    for position in 0..good.len() {
        for value in 0..=255 {
            let mut bad = good.clone();
            bad[position] = value;
            let _: Result<Shared, _> = decode(&bad, carried(&handles));
        }
        decode::<Shared>(&good[..position], carried(&handles)).unwrap_err();
    }
    decode::<Shared>(&good, carried(&handles)).unwrap();
}

#[test]
fn a_handle_of_another_kind_is_an_error_that_names_both() {
    let (bytes, handles) = encode(&Shared(null())).unwrap();
    let error = decode::<Single>(&bytes, carried(&handles)).unwrap_err();
    assert!(
        text(&error).contains("expected a test.single handle, the message has a \"test.shared\""),
        "{error}"
    );
}
