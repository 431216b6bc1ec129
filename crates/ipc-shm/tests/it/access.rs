//! Bytes and values at offsets.

use ipc_core::{Classify, ErrorKind};
use ipc_shm::zerocopy::{FromBytes, Immutable, IntoBytes};
use ipc_shm::{Segment, SegmentError};
use ipc_testkit::data::pattern;

use crate::tools::Name;

#[derive(FromBytes, IntoBytes, Immutable, Clone, Copy, Debug, PartialEq)]
#[zerocopy(crate = "ipc_shm::zerocopy")]
#[repr(C)]
struct Sample {
    time: u64,
    value: f64,
    flags: [u8; 8],
}

fn both(test: &str, len: usize) -> (Name, [Segment; 2]) {
    let name = Name::new(test);
    let named = Segment::create(&name, len).unwrap();
    (name, [Segment::new(len).unwrap(), named])
}

#[track_caller]
fn assert_outside<T: std::fmt::Debug>(done: Result<T, SegmentError>) {
    let error = done.unwrap_err();
    assert!(matches!(error, SegmentError::OutOfBounds { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn bytes_are_copied_in_and_out() {
    let (_name, segments) = both("bytes", 100_001);
    for segment in segments {
        let bytes = pattern(100_001);
        segment.write(0, &bytes).unwrap();
        let mut back = vec![0; 100_001];
        segment.read_into(0, &mut back).unwrap();
        assert!(back == bytes);
        segment.fill(10, 90_000, 9).unwrap();
        segment.fill(100_001, 0, 9).unwrap();
        segment.read_into(0, &mut back).unwrap();
        assert!(back[..10] == bytes[..10] && back[10..90_010].iter().all(|byte| *byte == 9));
        assert!(back[90_010..] == bytes[90_010..]);
        segment.read_into(100_001, &mut []).unwrap();
    }
}

#[test]
fn nothing_outside_is_touched() {
    let (_name, segments) = both("outside", 5000);
    for segment in segments {
        segment.fill(0, 5000, 7).unwrap();
        // The page goes on behind the segment: that is no part of it.
        for offset in [4997, 5000, 8192, usize::MAX - 2, usize::MAX] {
            let mut bytes = [1; 4];
            assert_outside(segment.read_into(offset, &mut bytes));
            assert_eq!(bytes, [1; 4]);
            assert_outside(segment.write(offset, &bytes));
            assert_outside(segment.fill(offset, 4, 1));
            assert_outside(segment.get::<u32>(offset));
            assert_outside(segment.set(offset, &1u32));
            assert_outside(segment.read_slice(offset, &mut bytes));
            assert_outside(segment.read_slice(offset, &mut [[0u8; 4096]; 2]));
            assert_outside(segment.write_slice(offset, &[1u16, 2]));
        }
        let mut all = [0; 5000];
        segment.read_into(0, &mut all).unwrap();
        assert!(all.iter().all(|byte| *byte == 7));
    }
}

#[test]
fn values_are_their_bytes_at_any_offset() {
    let segment = Segment::new(100_000).unwrap();
    let sample = Sample { time: 1, value: -0.5, flags: *b"abcdefgh" };
    segment.set(3, &sample).unwrap();
    assert_eq!(segment.get::<Sample>(3).unwrap(), sample);
    assert_eq!(segment.get::<[u8; 4]>(19).unwrap(), *b"abcd");

    let samples: Vec<_> = (0..2000).map(|n| Sample { time: n, ..sample }).collect();
    segment.write_slice(5, &samples).unwrap();
    let mut back = vec![sample; 2000];
    segment.read_slice(5, &mut back).unwrap();
    assert_eq!(back, samples);
    let mut large = [[0u8; 6000]; 3];
    segment.read_slice(5, &mut large).unwrap();
    let mut bytes = vec![0; 18_000];
    segment.read_into(5, &mut bytes).unwrap();
    assert!(large.concat() == bytes);
    assert_eq!(segment.get::<[u8; 6000]>(5).unwrap(), large[0]);
    segment.read_slice(100_000, &mut [(); 3]).unwrap();
}

#[test]
fn a_read_only_handle_reads_and_nothing_else() {
    let (name, segments) = both("read-only", 8192);
    for segment in segments {
        let reader = segment.read_only().unwrap();
        assert!(reader.is_read_only() && !segment.is_read_only() && reader.name() == segment.name());
        segment.set(8, &7u64).unwrap();
        assert_eq!(reader.get::<u64>(8).unwrap(), 7, "it is the same memory");
        let refused = [
            reader.set(8, &8u64),
            reader.fill(0, 1, 1),
            reader.write(9000, b"x"),
            reader.view_mut::<u8>(0, 1).map(drop),
        ];
        for error in refused.map(Result::unwrap_err) {
            assert!(matches!(error, SegmentError::ReadOnly), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        }
        assert_eq!(reader.view::<u64>(8, 1).unwrap().get(0).unwrap(), 7);
        assert!(reader.read_only().is_ok());
        // Nor through the descriptor.
        let file = std::fs::File::from(std::os::fd::AsFd::as_fd(&reader).try_clone_to_owned().unwrap());
        assert!(std::os::unix::fs::FileExt::write_at(&file, b"x", 0).is_err());
    }
    assert!(Segment::open_read_only(&name).unwrap().is_read_only());
}
