//! Segments with names: how they begin, who finds them, and when they go.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use ipc_core::{Classify, ErrorKind};
use ipc_process::Process;
use ipc_shm::{Segment, SegmentError};
use ipc_testkit::data::pattern;
use ipc_testkit::processes::{assert_killed, die};
use ipc_testkit::{eventually, watchdog};

use crate::tools::Name;

#[test]
fn b60_what_exists_is_not_made_and_what_does_not_is_not_opened() {
    let name = Name::new("b60");
    let missing = Segment::open(&name).unwrap_err();
    assert!(matches!(&missing, SegmentError::NotFound { name: at } if **at == *name), "{missing:?}");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let segment = Segment::create(&name, 10).unwrap();
    let taken = Segment::create(&name, 10).unwrap_err();
    assert!(matches!(&taken, SegmentError::AlreadyExists { name: at } if **at == *name), "{taken:?}");
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    assert_eq!(segment.name(), Some(&*name));
    for none in [
        Segment::new(0),
        Segment::create(&Name::new("b60"), 0),
        Segment::open_or_create(&Name::new("b60"), 0),
    ] {
        let error = none.unwrap_err();
        assert!(matches!(error, SegmentError::NoLength), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    for bad in ["", "/", ".", "a/b", "../b", "a\0", &"n".repeat(201)] {
        let error = Segment::create(bad, 10).unwrap_err();
        assert!(matches!(error, SegmentError::BadName { .. }), "{bad:?}: {error:?}");
        assert!(matches!(Segment::open(bad), Err(SegmentError::BadName { .. })));
        assert!(matches!(Segment::unlink_name(bad), Err(SegmentError::BadName { .. })));
    }
}

#[test]
fn b61_attaching_takes_the_length_that_is_there_and_a_name_is_unlinked_once() {
    let name = Name::new("b61");
    let segment = Segment::create(&name, 5000).unwrap();
    assert_eq!(name.path().metadata().unwrap().len(), 5000, "not rounded");
    assert_eq!(Segment::open_or_create(&name, 99_999).unwrap().len(), 5000);
    // With the slash that POSIX writes in front.
    let same = Segment::open(&format!("/{}", &*name)).unwrap();
    assert_eq!((same.len(), same.name()), (5000, Some(&*name)));
    segment.set(0, &7u8).unwrap();
    same.unlink().unwrap();
    for again in [segment.unlink(), same.unlink(), Segment::unlink_name(&name)] {
        assert!(matches!(again, Err(SegmentError::NotFound { .. })), "{again:?}");
    }
    assert_eq!(same.get::<u8>(0).unwrap(), 7, "who has it keeps it");
    let next = Segment::create(&name, 10).unwrap();
    assert!(matches!(segment.unlink(), Err(SegmentError::NotFound { .. })), "the name means another one now");
    next.unlink().unwrap();
    assert!(matches!(Segment::new(10).unwrap().unlink(), Err(SegmentError::NoName)));
}

fn make_and_die(name: String, anonymous: Segment) {
    anonymous.set(0, &1u8).unwrap();
    let _anonymous = Segment::new(1 << 20).unwrap();
    let _named = Segment::options().unlink_on_drop(true).create(&name, 10).unwrap();
    die();
}

#[test]
fn b62_anonymous_segments_go_with_a_killed_owner_and_named_ones_stay_whole() {
    let name = Name::new("b62");
    let anonymous = Segment::new(4096).unwrap();
    assert_killed(Process::spawn(make_and_die, (name.0.clone(), anonymous.clone())).unwrap());
    // There is no file of an anonymous one anywhere that could stay: its users are counted by the kernel.
    assert_eq!(anonymous.get::<u8>(0).unwrap(), 1);
    // That is documented: the name is the only thing that stays, and can be taken away by anybody.
    assert_eq!(Segment::open(&name).unwrap().len(), 10);
    Segment::unlink_name(&name).unwrap();
}

fn attach_and_leave(name: String) {
    Segment::open(&name).unwrap().set(1, &2u8).unwrap();
}

#[test]
fn b63_an_attachers_end_destroys_nothing() {
    let name = Name::new("b63");
    let segment = Segment::create(&name, 10).unwrap();
    Process::spawn(attach_and_leave, (name.0.clone(),)).unwrap().join().unwrap();
    assert_eq!(Segment::open(&name).unwrap().get::<u8>(1).unwrap(), 2);
    drop(segment);
    assert!(Segment::open(&name).is_ok(), "nor does its maker's, unless it was told to");
}

#[test]
fn b64_new_memory_is_zero() {
    let name = Name::new("b64");
    let segments = || {
        [
            Segment::new(100_000).unwrap(),
            Segment::options().unlink_on_drop(true).create(&name, 100_000).unwrap(),
        ]
    };
    for segment in segments() {
        segment.fill(0, 100_000, 1).unwrap();
    }
    for segment in segments() {
        let mut bytes = vec![1; 100_000];
        segment.read_into(0, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_named_segment_is_a_bare_file_of_this_user_with_memory_behind_it() {
    let name = Name::new("bare");
    let segment = Segment::create(&name, 300_000).unwrap();
    let found = name.path().metadata().unwrap();
    assert_eq!(found.mode() & 0o7777, 0o600);
    assert!(found.blocks() * 512 >= 300_000);
    segment.write(0, &pattern(300_000)).unwrap();
    assert!(std::fs::read(name.path()).unwrap() == pattern(300_000));
}

#[test]
fn the_last_clone_takes_the_name_away_if_it_was_told_to() {
    let name = Name::new("unlinks");
    let segment = Segment::options().unlink_on_drop(true).create(&name, 10).unwrap();
    let clone = segment.clone();
    drop(segment);
    assert!(name.path().exists());
    drop(clone);
    assert!(!name.path().exists());
    // Not another one that has the name meanwhile.
    let segment = Segment::options().unlink_on_drop(true).create(&name, 10).unwrap();
    segment.unlink().unwrap();
    let _other = Segment::create(&name, 10).unwrap();
    drop(segment);
    assert!(name.path().exists());
}

#[test]
fn prefaulted_pages_are_there() {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(2).unwrap().parse::<usize>().unwrap()
    };
    let name = Name::new("prefault");
    for named in [false, true] {
        let before = resident();
        let options = Segment::options().prefault(true);
        let segment =
            if named { options.create(&name, 16 << 20) } else { options.anonymous(16 << 20) }.unwrap();
        assert!(resident() >= before + 4000, "named: {named}");
        drop(segment);
    }
}

#[test]
fn a_name_without_a_length_is_waited_for() {
    let _watchdog = watchdog("a_name_without_a_length_is_waited_for");
    let name = Name::new("late");
    std::fs::write(name.path(), "").unwrap();
    let begin = Instant::now();
    let error = Segment::open(&name).unwrap_err();
    assert!(matches!(error, SegmentError::Unfinished { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(begin.elapsed() >= Duration::from_millis(250));
    let file = name.file();
    let sizing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        file.set_len(4096).unwrap();
    });
    assert_eq!(Segment::open(&name).unwrap().len(), 4096);
    sizing.join().unwrap();
}

#[test]
fn what_is_no_file_is_no_segment() {
    let name = Name::new("link");
    std::os::unix::fs::symlink("/dev/zero", name.path()).unwrap();
    assert!(matches!(Segment::open(&name), Err(SegmentError::BadName { .. })));
}

/// Opens as soon as there is something, and says how long it is.
fn open_at_once(name: String) -> usize {
    loop {
        match Segment::open(&name) {
            Ok(segment) => return segment.len(),
            Err(SegmentError::NotFound { .. }) => {}
            // Whoever sees the name sees the length.
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn nobody_sees_a_half_made_one() {
    let _watchdog = watchdog("nobody_sees_a_half_made_one");
    for _ in 0..10 {
        let name = Name::new("half");
        let opening: Vec<_> =
            (0..3).map(|_| Process::spawn(open_at_once, (name.0.clone(),)).unwrap()).collect();
        std::thread::sleep(Duration::from_millis(5));
        let _segment = Segment::create(&name, 1 << 20).unwrap();
        for process in opening {
            assert_eq!(process.join().unwrap(), 1 << 20);
        }
    }
}

/// Adds one in the segment that all have, whoever has made it.
fn open_or_create_and_add(name: String) {
    let segment = Segment::open_or_create(&name, 64).unwrap();
    let word = segment.view_mut::<u64>(0, 1).unwrap();
    word.atomic(0).unwrap().fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}

#[test]
fn of_many_that_open_or_create_one_makes_it() {
    for _ in 0..5 {
        let name = Name::new("race");
        let all: Vec<_> =
            (0..8).map(|_| Process::spawn(open_or_create_and_add, (name.0.clone(),)).unwrap()).collect();
        all.into_iter().for_each(|process| process.join().unwrap());
        assert_eq!(Segment::open(&name).unwrap().get::<u64>(0).unwrap(), 8);
    }
}

fn create_for_ever(name: String) {
    loop {
        let _ = Segment::options().unlink_on_drop(true).create(&name, 1 << 18);
    }
}

#[test]
fn a_creator_that_is_killed_leaves_a_whole_one_or_none() {
    let _watchdog = watchdog("a_creator_that_is_killed_leaves_a_whole_one_or_none");
    let mut left = 0;
    for round in 0..40 {
        let name = Name::new("killed");
        let process = Process::spawn(create_for_ever, (name.0.clone(),)).unwrap();
        // A name that comes and goes shows that it is at work.
        eventually("it is at work", || name.path().exists());
        std::thread::sleep(Duration::from_micros(round * 37));
        process.kill().unwrap();
        assert_killed(process);
        if let Ok(found) = name.path().metadata() {
            assert_eq!(found.len(), 1 << 18);
            left += 1;
        }
    }
    println!("{left} of 40 were left behind");
}
