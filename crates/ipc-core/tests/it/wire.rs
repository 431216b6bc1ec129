//! The bytes of `docs/wire-format.md`: what these tests hold cannot change without a new version.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ipc_core::frame::{FrameKind, Header};
use ipc_core::handle::{self, Bundle};
use ipc_core::{Codec, handle_kind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[test]
fn a_frame_header() {
    let header = Header::new(FrameKind::Bytes, 0x0102, 3, 1 << 20).unwrap();
    assert_eq!(header.to_bytes(), [0x02, 0x01, 0, 0, 3, 0, 1, 0xA9]);
    let header = Header::new(FrameKind::Message, 0x0304_0506, 0, usize::MAX).unwrap();
    assert_eq!(header.to_bytes(), [0x06, 0x05, 0x04, 0x03, 0, 0, 0, 0xA9]);
}

#[test]
fn a_message() {
    #[derive(Serialize)]
    enum Order {
        _Stop,
        Go { speed: u32, note: Option<String> },
    }
    let mut bytes = Vec::new();
    let order = Order::Go { speed: 300, note: Some("ab".into()) };
    Codec::default().encode(&order, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 0xAC, 0x02, 1, 2, b'a', b'b']);
}

/// The smallest handle: one descriptor, and all fields of a bundle used.
struct Door(Arc<OwnedFd>);

impl Serialize for Door {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bundle = Bundle::default();
        bundle.version = 7;
        bundle.fingerprint = 0x81;
        bundle.descriptors = vec![Arc::clone(&self.0)];
        bundle.offset = 64;
        bundle.length = 8;
        bundle.metadata = vec![0xEE, 0xFF];
        bundle.serialize(handle_kind!("test.door"), serializer)
    }
}

impl<'de> Deserialize<'de> for Door {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bundle = Bundle::deserialize(handle_kind!("test.door"), false, deserializer)?;
        assert_eq!((bundle.version, bundle.fingerprint, bundle.offset, bundle.length), (7, 0x81, 64, 8));
        assert_eq!(bundle.metadata, [0xEE, 0xFF]);
        Ok(Door(Arc::clone(&bundle.descriptors[0])))
    }
}

#[test]
fn a_handle_in_a_message() {
    let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let (one, two) = (Door(Arc::new(file())), Door(Arc::new(file())));
    let mut bytes = Vec::new();
    let message = (&one, 5u8, &two, &one);
    let ((), handles) = handle::outgoing(|| Codec::default().encode(&message, &mut bytes)).unwrap();
    let door = |index: u8| {
        let name = [&[9][..], b"test.door"].concat();
        [&name[..], &[7, 0x81, 0x01, 1, index, 64, 8, 2, 0xEE, 0xFF]].concat()
    };
    assert_eq!(bytes, [&door(0)[..], &[5], &door(1), &door(0)].concat());
    assert_eq!(handles.descriptors().len(), 2, "one that stands there twice travels once");

    let arrived = [file(), file()];
    let (a, five, b, c): (Door, u8, Door, Door) =
        handle::incoming(arrived, || Codec::default().decode(&bytes)).unwrap();
    assert_eq!(five, 5);
    assert!(Arc::ptr_eq(&a.0, &c.0) && !Arc::ptr_eq(&a.0, &b.0));
}
