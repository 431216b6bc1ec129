//! What would be a SIGBUS with any other mapping.

use ipc_core::{Classify, ErrorKind};
use ipc_process::Process;
use ipc_shm::{Segment, SegmentError};
use ipc_testkit::{eventually, watchdog};

use crate::tools::Name;

const LEN: usize = 1 << 20;

fn truncate(name: String, len: u64) {
    let path = format!("/dev/shm/{name}");
    std::fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[track_caller]
fn assert_truncated<T: std::fmt::Debug>(done: Result<T, SegmentError>) {
    let error = done.unwrap_err();
    assert!(matches!(error, SegmentError::Truncated), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Truncated);
}

#[test]
fn a_peer_that_truncates_ends_in_an_error() {
    let _watchdog = watchdog("a_peer_that_truncates_ends_in_an_error");
    for writing in [false, true] {
        let name = Name::new("cut");
        let segment = Segment::create(&name, LEN).unwrap();
        let peer = Process::spawn(truncate, (name.0.clone(), 4096)).unwrap();
        let mut bytes = vec![0; LEN];
        let error = loop {
            let done = if writing { segment.write(0, &bytes) } else { segment.read_into(0, &mut bytes) };
            if let Err(error) = done {
                break error;
            }
        };
        peer.join().unwrap();
        assert_truncated::<()>(Err(error));
        // Everything says so from then on; not so a new handle, which has the new length.
        assert_truncated(segment.check());
        assert_truncated(segment.get::<u8>(0));
        assert_truncated(segment.set(0, &1u8));
        assert_truncated(segment.fill(0, 8, 1));
        assert_truncated(segment.read_slice(0, &mut [0u64; 8]));
        assert_truncated(segment.view::<u64>(0, 8).unwrap().get(0));
        assert_truncated(segment.view::<u64>(0, 8).unwrap().load(0, std::sync::atomic::Ordering::Relaxed));
        let again = Segment::open(&name).unwrap();
        assert_eq!(again.len(), 4096);
        again.set(0, &1u8).unwrap();
    }
}

fn read_until_truncated(segment: Segment, reader: Segment, started: Segment) -> bool {
    let mut bytes = vec![0; LEN];
    started.set(0, &1u8).unwrap();
    while segment.read_into(0, &mut bytes).is_ok() {}
    let cut = |segment: &Segment| matches!(segment.get::<u8>(LEN - 1), Err(SegmentError::Truncated));
    cut(&segment) && cut(&reader)
}

#[test]
fn who_has_it_as_a_handle_is_told_too() {
    let _watchdog = watchdog("who_has_it_as_a_handle_is_told_too");
    let name = Name::new("cut-handle");
    let (segment, started) = (Segment::create(&name, LEN).unwrap(), Segment::new(1).unwrap());
    let reader = segment.read_only().unwrap();
    let process = Process::spawn(read_until_truncated, (segment, reader, started.clone())).unwrap();
    eventually("it reads", || started.get::<u8>(0).unwrap() == 1);
    truncate(name.0.clone(), 0);
    assert!(process.join().unwrap());
}

#[test]
fn nobody_can_cut_an_anonymous_one() {
    let segment = Segment::new(LEN).unwrap();
    let file = std::fs::File::from(std::os::fd::AsFd::as_fd(&segment).try_clone_to_owned().unwrap());
    assert!(file.set_len(0).is_err() && file.set_len(2 * LEN as u64).is_err());
}

/// With a `/dev/shm` of its own that has room for 16 pages: what could not be made, and what is left. A text, if that
/// cannot be had.
fn fill_a_small_one() -> Result<(), String> {
    use nix::mount::{MsFlags, mount};
    let none = None::<&str>;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(|error| error.to_string())?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(|error| error.to_string())?;
    mount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), MsFlags::empty(), Some("size=64k"))
        .map_err(|error| error.to_string())?;

    let error = Segment::create("large", LEN).unwrap_err();
    assert!(matches!(error, SegmentError::NoSpace { len: LEN, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    assert!(Segment::open_or_create("large", LEN).is_err());
    assert_eq!(std::fs::read_dir("/dev/shm").unwrap().count(), 0, "nothing stays of what could not be made");
    let small = Segment::create("small", 40_000).unwrap();
    small.fill(0, 40_000, 1).unwrap();

    // As another program makes them, with nothing behind the length.
    std::fs::File::create("/dev/shm/sparse").unwrap().set_len(LEN as u64).unwrap();
    let sparse = Segment::open("sparse").unwrap();
    assert!(matches!(sparse.fill(0, LEN, 1), Err(SegmentError::Truncated)));
    small.fill(0, 40_000, 2).unwrap();
    assert!(Segment::options().prefault(true).open("sparse").is_err());
    Ok(())
}

#[test]
fn a_full_dev_shm_is_an_error_and_no_signal() {
    match Process::spawn(fill_a_small_one, ()).unwrap().join().unwrap() {
        Ok(()) => {}
        Err(reason) => println!("skipped: no small /dev/shm for a test ({reason})"),
    }
}
