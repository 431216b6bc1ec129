//! The crate `shared_memory`, whose named segments are the same files.

use ipc_shm::{Segment, SegmentError};
use ipc_testkit::data::pattern;
use shared_memory::ShmemConf;

use crate::tools::Name;

#[test]
#[allow(unsafe_code)]
fn a_segment_of_shared_memory_opens_here() {
    let name = Name::new("theirs");
    let mut theirs = ShmemConf::new().os_id(format!("/{}", &*name)).size(10_000).create().unwrap();
    // SAFETY: nobody else has the segment yet.
    unsafe { theirs.as_slice_mut() }.copy_from_slice(&pattern(10_000));
    let ours = Segment::open(theirs.get_os_id()).unwrap();
    assert_eq!(ours.len(), 10_000);
    let mut bytes = vec![0; 10_000];
    ours.read_into(0, &mut bytes).unwrap();
    assert!(bytes == pattern(10_000));
    ours.set(7, &99u8).unwrap();
    // SAFETY: both are used by this thread alone, and the reference ends with the expression.
    assert_eq!(unsafe { theirs.as_slice() }[7], 99);
    // Its owner unlinks.
    drop(theirs);
    assert!(matches!(Segment::open(&name), Err(SegmentError::NotFound { .. })));
    assert_eq!(ours.get::<u8>(7).unwrap(), 99);
}

#[test]
#[allow(unsafe_code)]
fn a_segment_of_ours_opens_with_shared_memory() {
    let name = Name::new("ours");
    let ours = Segment::create(&name, 10_000).unwrap();
    ours.write(0, &pattern(10_000)).unwrap();
    let mut theirs = ShmemConf::new().os_id(&*name).open().unwrap();
    assert_eq!(theirs.len(), 10_000);
    // SAFETY: both are used by this thread alone, and the references end with their expressions.
    assert!(unsafe { theirs.as_slice() } == pattern(10_000));
    // SAFETY: as above.
    unsafe { theirs.as_slice_mut() }.copy_within(0..1, 9_999);
    drop(theirs);
    assert_eq!(ours.get::<u8>(9_999).unwrap(), pattern(10_000)[0]);
    assert!(name.path().exists(), "it is not the owner");
}

/// The terms of the table in the README that can be seen from outside: if one of them were met, the table would lie.
#[test]
fn shared_memory_keeps_to_the_table() {
    let name = Name::new("table");
    let theirs = ShmemConf::new().os_id(&*name).size(1 << 20).create().unwrap();
    let found = name.path().metadata().unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::blocks(&found), 0, "nothing is reserved");
    drop(theirs);
    std::fs::write(name.path(), "").unwrap();
    assert!(ShmemConf::new().os_id(&*name).open().is_err(), "one without a length yet is not waited for");
}
