//! Views of a part of a segment.

use std::sync::atomic::Ordering;

use ipc_process::Process;
use ipc_shm::{Segment, SegmentError};
use ipc_testkit::watchdog;

#[track_caller]
fn assert_outside<T: std::fmt::Debug>(done: Result<T, SegmentError>) {
    assert!(matches!(done, Err(SegmentError::OutOfBounds { .. })), "{done:?}");
}

#[test]
fn a_view_is_a_part_of_the_segment() {
    let segment = Segment::new(4096).unwrap();
    let view = segment.view_mut::<u32>(40, 10).unwrap();
    assert!(view.len() == 10 && !view.is_empty());
    view.copy_from(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).unwrap();
    assert_eq!(segment.get::<u32>(40).unwrap(), 1);
    let part = view.subview(2..5).unwrap();
    part.set(0, &33).unwrap();
    let mut three = [0; 3];
    part.copy_to(&mut three).unwrap();
    assert_eq!(three, [33, 4, 5]);
    assert_eq!(part.subview(1..3).unwrap().get(1).unwrap(), 5);
    assert!(view.subview(10..10).unwrap().is_empty());
    assert_eq!(segment.view::<u8>(40, 40).unwrap().get(8).unwrap(), 33);
}

#[test]
fn nothing_outside_of_a_view_is_touched() {
    let segment = Segment::new(4096).unwrap();
    let view = segment.view_mut::<u32>(40, 10).unwrap();
    assert_outside(view.get(10));
    assert_outside(view.set(usize::MAX, &1));
    assert_outside(view.subview(3..11));
    assert_outside(view.subview(11..12));
    #[expect(clippy::reversed_empty_ranges, reason = "as a computed one may be")]
    let reversed = view.subview(5..4);
    assert_outside(reversed);
    assert_outside(view.copy_to(&mut [0; 9]));
    assert_outside(view.copy_from(&[0; 11]));
    assert_outside(view.load(10, Ordering::Relaxed));
    assert_outside(view.atomic(10));
    assert_outside(segment.view::<u64>(4, 1));
    assert_outside(segment.view::<u64>(4096, 1));
    assert_outside(segment.view::<u64>(0, usize::MAX));
    assert_outside(segment.view_mut::<u8>(usize::MAX, 1));
    assert!(segment.view::<u64>(4096, 0).is_ok());
}

fn count_up(segment: Segment) {
    let words = segment.view_mut::<u64>(64, 2).unwrap();
    for _ in 0..10_000 {
        words.atomic(1).unwrap().fetch_add(1, Ordering::Relaxed);
    }
    segment.view_mut::<u32>(0, 1).unwrap().atomic(0).unwrap().fetch_add(1, Ordering::Release);
}

#[test]
fn atomic_words_count_exactly_in_several_processes() {
    let _watchdog = watchdog("atomic_words_count_exactly_in_several_processes");
    let segment = Segment::new(4096).unwrap();
    let children: Vec<_> = (0..4).map(|_| Process::spawn(count_up, (segment.clone(),)).unwrap()).collect();
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(segment.view::<u32>(0, 1).unwrap().load(0, Ordering::Acquire).unwrap(), 4);
    let reader = segment.read_only().unwrap();
    assert_eq!(reader.view::<u64>(64, 2).unwrap().load(1, Ordering::Relaxed).unwrap(), 40_000);
}

#[test]
#[allow(unsafe_code)]
fn slices_are_the_memory_itself() {
    let segment = Segment::new(4096).unwrap();
    let view = segment.view_mut::<u16>(6, 3).unwrap();
    // SAFETY: nobody else has the segment, and the slice is not used beside anything else.
    unsafe { view.as_mut_slice() }.copy_from_slice(&[1, 2, 3]);
    assert_eq!(segment.get::<u16>(8).unwrap(), 2);
    // SAFETY: as above, and nothing writes.
    assert_eq!(unsafe { view.as_slice() }, [1, 2, 3]);
    // SAFETY: as above.
    assert!(unsafe { view.subview(3..3).unwrap().as_slice() }.is_empty());
}
