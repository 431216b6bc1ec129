//! Segments in messages.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ipc_core::handle::{Bundle, Kind};
use ipc_core::handle_kind;
use ipc_process::Process;
use ipc_shm::{Segment, SegmentError};
use ipc_testkit::data::pattern;
use ipc_testkit::messages::taken_for;
use ipc_testkit::{alone, open_descriptors};
use serde::{Serialize, Serializer};

use crate::tools::Name;

fn look(segment: Segment, reader: Segment) -> (usize, Option<String>, bool, bool) {
    let mut bytes = vec![0; segment.len()];
    reader.read_into(0, &mut bytes).unwrap();
    assert!(bytes == pattern(segment.len()));
    segment.set(0, &77u8).unwrap();
    assert_eq!(reader.get::<u8>(0).unwrap(), 77);
    assert!(matches!(reader.set(0, &1u8), Err(SegmentError::ReadOnly)));
    (segment.len(), segment.name().map(str::to_owned), segment.is_read_only(), reader.is_read_only())
}

#[test]
fn a_handle_is_the_same_memory_in_another_process() {
    let name = Name::new("travels");
    for segment in [Segment::new(100_001).unwrap(), Segment::create(&name, 100_001).unwrap()] {
        segment.write(0, &pattern(100_001)).unwrap();
        let reader = segment.read_only().unwrap();
        let found = Process::spawn(look, (segment.clone(), reader)).unwrap().join().unwrap();
        assert_eq!(found, (100_001, segment.name().map(str::to_owned), false, true));
        assert_eq!(segment.get::<u8>(0).unwrap(), 77);
    }
}

fn pass_on(segment: Segment, depth: u32) -> Segment {
    segment.set(depth as usize, &(depth as u8)).unwrap();
    if depth == 0 { segment } else { Process::spawn(pass_on, (segment, depth - 1)).unwrap().join().unwrap() }
}

#[test]
fn a_handle_goes_on_and_comes_back() {
    let segment = Segment::new(4096).unwrap();
    let back = Process::spawn(pass_on, (segment.clone(), 3)).unwrap().join().unwrap();
    drop(segment);
    assert_eq!(back.get::<[u8; 4]>(0).unwrap(), [0, 1, 2, 3]);
}

#[test]
fn no_descriptor_is_left_open() {
    alone("travel::no_descriptor_is_left_open", || {
        let name = Name::new("open");
        let round = || {
            let segment = Segment::options().unlink_on_drop(true).create(&name, 4096).unwrap();
            let anonymous = Segment::new(4096).unwrap();
            let handles = (segment.clone(), anonymous.read_only().unwrap());
            assert!(Process::spawn(give_back, handles).unwrap().join().is_ok());
            assert!(Segment::create(&name, 4096).is_err() && Segment::open("ipc-shm-test-none").is_err());
        };
        round();
        let before = open_descriptors();
        (0..5).for_each(|_| round());
        assert_eq!(open_descriptors(), before);
    });
}

fn give_back(a: Segment, b: Segment) -> (Segment, Segment) {
    (a, b)
}

/// What a hostile peer might send.
struct Forged {
    kind: Kind,
    version: u8,
    fds: Vec<Arc<OwnedFd>>,
    length: u64,
    metadata: Vec<u8>,
}

impl Serialize for Forged {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bundle = Bundle::default();
        bundle.version = self.version;
        bundle.descriptors = self.fds.clone();
        bundle.length = self.length;
        bundle.metadata = self.metadata.clone();
        bundle.serialize(self.kind, serializer)
    }
}

#[test]
fn a_handle_that_is_not_what_it_says_is_refused() {
    let decode = |forged: &Forged| taken_for::<_, Segment>(forged);
    let memory = || Arc::new(ipc_os::memfd::shared("forged", 8192).unwrap());
    let good = || Forged {
        kind: handle_kind!("shm.segment"),
        version: 1,
        fds: vec![memory()],
        length: 8192,
        metadata: vec![0],
    };
    let refused = |why: &str, forged: &Forged| {
        let error = decode(forged).expect_err(why).to_string();
        println!("{why}: {error}");
    };
    assert_eq!(decode(&good()).unwrap().len(), 8192);
    assert_eq!(decode(&Forged { length: 100, ..good() }).unwrap().len(), 100);

    refused("another kind", &Forged { kind: handle_kind!("shm.other"), ..good() });
    refused("another version", &Forged { version: 2, ..good() });
    refused("no descriptor", &Forged { fds: vec![], ..good() });
    refused("two descriptors", &Forged { fds: vec![memory(), memory()], ..good() });
    refused("no length", &Forged { length: 0, ..good() });
    refused("too long", &Forged { length: 8193, ..good() });
    refused("far too long", &Forged { length: u64::MAX, ..good() });
    refused("no metadata", &Forged { metadata: vec![], ..good() });
    refused("unknown flags", &Forged { metadata: vec![2], ..good() });
    refused("no text", &Forged { metadata: vec![0, 0xff], ..good() });
    let open = |path: &str| Arc::new(OwnedFd::from(File::open(path).unwrap()));
    refused("a device", &Forged { fds: vec![open("/dev/zero")], ..good() });
    refused("a directory", &Forged { fds: vec![open("/dev/shm")], ..good() });
    refused("a file that is made as it is read", &Forged { fds: vec![open("/proc/self/maps")], ..good() });
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    refused("a socket", &Forged { fds: vec![Arc::new(socket.into())], ..good() });
    let reader = Segment::new(8192).unwrap().read_only().unwrap();
    let fd = std::os::fd::AsFd::as_fd(&reader).try_clone_to_owned().unwrap();
    refused("less rights than it says", &Forged { fds: vec![Arc::new(fd)], ..good() });

    // Memory that can be cut short is taken, with the guard.
    let name = Name::new("forged");
    let file = {
        std::fs::write(name.path(), [1; 8192]).unwrap();
        name.file()
    };
    let cut = Forged { fds: vec![Arc::new(file.try_clone().unwrap().into())], ..good() };
    let segment = decode(&cut).unwrap();
    file.set_len(0).unwrap();
    assert!(matches!(segment.get::<u8>(0), Err(SegmentError::Truncated)));
    // And a name that is not its own is not taken away with it.
    let other = Name::new("forged-other");
    let _other = Segment::create(&other, 10).unwrap();
    let metadata = [&[0], other.as_bytes()].concat();
    assert!(decode(&Forged { metadata, ..good() }).unwrap().unlink().is_err());
    assert!(other.path().exists());
}

#[test]
fn a_handle_cannot_be_stored() {
    let mut bytes = Vec::new();
    let error = ipc_core::Codec::default().encode(&Segment::new(10).unwrap(), &mut bytes).unwrap_err();
    assert!(error.to_string().contains("shm.segment"), "{error}");
}
