//! Handles in messages, arguments and results.

use std::fs::File;
use std::sync::Arc;

use ipc_core::handle::Bundle;
use ipc_os::memfd;
use ipc_pipe::{Duplex, Sender, duplex};
use ipc_process::Process;
use ipc_sync::object::Object;
use ipc_sync::{Barrier, BoundedSemaphore, Condition, Event, Lock, ReentrantLock, RwLock, Semaphore};
use ipc_testkit::data::Numbers;
use ipc_testkit::messages::{echo, taken_for};
use ipc_testkit::processes::{alone, done, park, ready, started};
use ipc_testkit::{PATIENCE, open_descriptors, watchdog};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use crate::tools::{Fd, KINDS, Raw, Scratch};

/// One of each kind.
#[derive(Clone, Serialize, Deserialize)]
struct All {
    lock: Lock,
    reentrant: ReentrantLock,
    rwlock: RwLock,
    semaphore: Semaphore,
    bounded: BoundedSemaphore,
    event: Event,
    condition: Condition,
    on: Condition,
    barrier: Barrier,
}

fn all() -> All {
    let lock = Lock::new().unwrap();
    All {
        on: Condition::on(&lock).unwrap(),
        lock,
        reentrant: ReentrantLock::new().unwrap(),
        rwlock: RwLock::with_readers(7).unwrap(),
        semaphore: Semaphore::new(3).unwrap(),
        bounded: BoundedSemaphore::new(2).unwrap(),
        event: Event::new().unwrap(),
        condition: Condition::new().unwrap(),
        barrier: Barrier::new(2).unwrap(),
    }
}

/// Takes all that there is, and leaves traces that the other side sees.
fn leave_traces(all: &All) {
    std::mem::forget(all.lock.lock().unwrap());
    std::mem::forget(all.reentrant.lock().unwrap());
    std::mem::forget(all.rwlock.write().unwrap());
    all.semaphore.acquire().unwrap().forget();
    all.bounded.acquire().unwrap().forget();
    all.event.set();
    std::mem::forget(all.condition.lock().lock().unwrap());
    all.barrier.abort().unwrap();
}

fn see_traces(all: &All) {
    assert!(
        all.lock.try_lock().is_err() && all.reentrant.try_lock().is_err() && all.rwlock.try_read().is_err()
    );
    assert_eq!((all.semaphore.available(), all.bounded.available(), all.bounded.bound()), (2, 1, 2));
    assert!(all.event.is_set() && all.barrier.is_broken() && all.barrier.parties() == 2);
    assert!(all.condition.lock().try_lock().is_err());
    assert!(all.on.lock().is(&all.lock) && !all.condition.lock().is(&all.lock));
}

#[test]
fn it_is_the_same_object_there_and_back_again() {
    let _watchdog = watchdog("it_is_the_same_object_there_and_back_again");
    let ours = all();
    let back = done(Process::spawn(|all: All| all, (ours.clone(),)).unwrap());
    assert!(back.lock.is(&ours.lock) && back.on.lock().is(&ours.lock));
    let _holder = started(
        |all: All, mut up: Sender<u32>| {
            leave_traces(&all);
            ready(&mut up);
            park();
        },
        back.clone(),
    );
    drop(back);
    see_traces(&ours);
    see_traces(&done(Process::spawn(|all: All| all, (ours.clone(),)).unwrap()));
    done(Process::spawn(|all: All| see_traces(&all), (ours.clone(),)).unwrap());
}

#[test]
fn it_is_the_same_object_through_a_grandchild() {
    let _watchdog = watchdog("it_is_the_same_object_through_a_grandchild");
    fn child(all: All, depth: u32) -> All {
        if depth == 0 {
            all.event.set();
            return all;
        }
        done(Process::spawn(child, (all, depth - 1)).unwrap())
    }
    let ours = all();
    let back = done(Process::spawn(child, (ours.clone(), 3)).unwrap());
    assert!(ours.event.is_set() && back.event.clear() && !ours.event.is_set());
    assert!(back.lock.is(&ours.lock));
    // And what a grandchild has made.
    fn make(depth: u32) -> (Lock, Event, Event) {
        if depth == 0 {
            let event = Event::new().unwrap();
            return (Lock::new().unwrap(), event.clone(), event);
        }
        done(Process::spawn(make, (depth - 1,)).unwrap())
    }
    let (lock, event, same) = done(Process::spawn(make, (2,)).unwrap());
    drop(lock.lock_timeout(PATIENCE).unwrap());
    event.set();
    assert!(same.is_set());
}

#[test]
fn hundreds_travel_in_one_message_and_twice() {
    let _watchdog = watchdog("hundreds_travel_in_one_message_and_twice");
    fn pass_on(mut end: Duplex<Vec<Lock>, Vec<Lock>>) -> (usize, usize) {
        let mut before = 0;
        while let Ok(locks) = end.recv() {
            end.send(&locks).unwrap();
            drop(locks);
            if before == 0 {
                before = open_descriptors();
            }
        }
        (before, open_descriptors())
    }
    alone(|| {
        let (mut ours, theirs) = duplex::<Vec<Lock>, Vec<Lock>>().unwrap();
        let other = Process::spawn(pass_on, (theirs,)).unwrap();
        let mut locks: Vec<_> = (0..300).map(|_| Lock::new().unwrap()).collect();
        locks.push(locks[0].clone());
        let mut before = 0;
        for _ in 0..5 {
            ours.send(&locks).unwrap();
            let back = ours.recv().unwrap();
            assert!(back.iter().zip(&locks).all(|(back, lock)| back.is(lock)));
            assert!(back[300].is(&back[0]) && !back[1].is(&back[0]));
            // Each can be used, by whichever handle.
            for (back, lock) in back.iter().zip(&locks) {
                let guard = back.try_lock().unwrap();
                assert!(lock.try_lock().is_err());
                drop(guard);
            }
            drop(back);
            if before == 0 {
                before = open_descriptors();
            }
        }
        assert_eq!(open_descriptors(), before, "a message leaves nothing behind");
        drop(ours);
        let (before, after) = done(other);
        assert!(after <= before, "{before} descriptors, then {after}");
    });
}

#[test]
fn objects_come_and_go_and_leave_no_descriptor() {
    let _watchdog = watchdog("objects_come_and_go_and_leave_no_descriptor");
    fn use_them(mut end: Duplex<(), All>) -> Vec<usize> {
        let mut counts = Vec::new();
        while let Ok(all) = end.recv() {
            drop(all.lock.lock().unwrap());
            drop(all.rwlock.read().unwrap());
            drop(all.semaphore.acquire().unwrap());
            drop(all);
            end.send(&()).unwrap();
            counts.push(open_descriptors());
        }
        counts
    }
    alone(|| {
        let (mut ours, theirs) = duplex::<All, ()>().unwrap();
        let other = Process::spawn(use_them, (theirs,)).unwrap();
        let mut counts = Vec::new();
        for _ in 0..20 {
            let all = all();
            ours.send(&all).unwrap();
            ours.recv().unwrap();
            // What is large has a file of its own.
            let large = RwLock::with_readers(4096).unwrap();
            drop(large.read().unwrap());
            drop(echo(&large));
            drop((all, large));
            counts.push(open_descriptors());
        }
        drop(ours);
        assert!(counts.iter().skip(1).all(|count| *count == counts[1]), "{counts:?}");
        let theirs = done(other);
        assert!(theirs.iter().skip(1).all(|count| *count == theirs[1]), "{theirs:?}");
    });
}

#[test]
fn a_message_that_is_not_received_leaves_nothing_behind() {
    alone(|| {
        let lock = Lock::new().unwrap();
        drop(lock.lock().unwrap());
        let before = open_descriptors();
        for _ in 0..10 {
            let (mut tx, rx) = duplex::<Lock, ()>().unwrap();
            tx.send(&lock).unwrap();
            drop((tx, rx));
        }
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn places_are_used_again_and_are_clean() {
    let _watchdog = watchdog("places_are_used_again_and_are_clean");
    alone(|| {
        let mut seen = Vec::new();
        for turn in 0..50_000 {
            let event = Event::new().unwrap();
            assert!(!event.is_set(), "turn {turn}");
            event.set();
            if turn % 1000 == 0 {
                seen.push(open_descriptors());
                // Somebody else lets it go, long after this process.
                let kept = echo(&event);
                drop(event);
                assert!(kept.is_set());
            }
        }
        assert!(seen.iter().all(|count| *count == seen[0]), "{seen:?}");
    });
}

// What no sender of this crate would write

/// A bundle as a stranger may make it.
struct Forged {
    kind: usize,
    version: u8,
    descriptors: Vec<Fd>,
    offset: u64,
    length: u64,
}

impl Serialize for Forged {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bundle = Bundle::default();
        bundle.version = self.version;
        bundle.descriptors = self.descriptors.clone();
        bundle.offset = self.offset;
        bundle.length = self.length;
        bundle.serialize(KINDS[self.kind], serializer)
    }
}

const LOCK: usize = 1;
const BOARD_LEN: usize = 528_384;

fn memory(len: usize, content: &[u8]) -> Fd {
    let fd = memfd::shared("forged", len).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&File::from(fd.try_clone().unwrap()), content, 0).unwrap();
    Arc::new(fd)
}

fn board() -> Fd {
    memory(BOARD_LEN, b"ipcboard\x01\0\0\0\0\x04\0\0")
}

fn forged() -> Forged {
    Forged { kind: LOCK, version: 1, descriptors: vec![memory(4096, &[]), board()], offset: 128, length: 64 }
}

#[track_caller]
fn refused(forged: &Forged, why: &str) {
    let error = taken_for::<_, Lock>(forged).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn a_forged_bundle_is_an_error() {
    alone(|| {
        drop(Lock::new().unwrap().lock().unwrap());
        // The forger can do it right. The first is kept, so that what every process has of a board is there.
        let right: Lock = taken_for(&forged()).unwrap();
        drop(right.lock_timeout(PATIENCE).unwrap());
        let before = open_descriptors();
        refused(&Forged { version: 2, ..forged() }, "another version");
        refused(&Forged { kind: 5, ..forged() }, "expected a sync.lock");
        for (offset, length) in
            [(4096, 64), (4032, 128), (1 << 40, 64), (u64::MAX - 63, 64), (64, u64::MAX - 64)]
        {
            refused(&Forged { offset, length, ..forged() }, "");
        }
        for (offset, length) in [(1, 64), (8, 64), (32, 64), (64, 63), (64, 8), (64, 0)] {
            refused(&Forged { offset, length, ..forged() }, "too small, or not aligned");
        }
        let null: Fd = Arc::new(File::open("/dev/null").unwrap().into());
        let (read, write) = ipc_os::pipe::pipe().unwrap();
        let file: Fd = Arc::new(tempfile::tempfile().unwrap().into());
        File::from(file.try_clone().unwrap()).set_len(BOARD_LEN as u64).unwrap();
        let unsealed = nix::sys::memfd::memfd_create(
            c"open",
            nix::sys::memfd::MFdFlags::MFD_CLOEXEC | nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING,
        );
        let unsealed: Fd = Arc::new(unsealed.unwrap());
        File::from(unsealed.try_clone().unwrap()).set_len(BOARD_LEN as u64).unwrap();
        let immutable: Fd = Arc::new(memfd::sealed("fixed", &[0; 4096]).unwrap());
        for other in [null, Arc::new(read), file, unsealed] {
            refused(&Forged { descriptors: vec![Arc::clone(&other), board()], ..forged() }, "");
            refused(&Forged { descriptors: vec![memory(4096, &[]), other], ..forged() }, "not a board");
        }
        drop(write);
        // Of a fixed length, but not to be written.
        refused(&Forged { descriptors: vec![immutable, board()], ..forged() }, "");
        refused(
            &Forged { descriptors: vec![memory(4096, &[]), memory(4096, b"ipcboard\x01")], ..forged() },
            "not a board",
        );
        refused(
            &Forged { descriptors: vec![memory(4096, &[]), memory(BOARD_LEN, b"ipcbored\x01")], ..forged() },
            "no magic",
        );
        refused(
            &Forged { descriptors: vec![memory(4096, &[]), memory(BOARD_LEN, b"ipcboard\x02")], ..forged() },
            "version",
        );
        // One alone is a file with a name that has a board in it.
        for other in [board(), memory(4096, &[])] {
            refused(&Forged { descriptors: vec![other], ..forged() }, "");
        }
        for count in [0, 3] {
            let descriptors = (0..count).map(|_| board()).collect();
            refused(&Forged { descriptors, ..forged() }, "descriptors");
        }
        assert_eq!(open_descriptors(), before, "what is refused is closed");
    });
}

#[test]
fn an_object_of_another_kind_is_an_error() {
    let ours = all();
    fn is_refused<A: Serialize, B: DeserializeOwned>(value: &A) -> bool {
        taken_for::<A, B>(value).is_err_and(|error| error.to_string().contains("expected a "))
    }
    assert!(is_refused::<_, ReentrantLock>(&ours.lock) && is_refused::<_, Lock>(&ours.reentrant));
    assert!(is_refused::<_, Semaphore>(&ours.bounded) && is_refused::<_, BoundedSemaphore>(&ours.semaphore));
    assert!(is_refused::<_, Event>(&ours.barrier) && is_refused::<_, Barrier>(&ours.event));
    assert!(is_refused::<_, RwLock>(&ours.lock) && is_refused::<_, Scratch>(&ours.event));
}

#[test]
fn a_place_that_somebody_took_meanwhile_is_an_error() {
    let object = Object::new(64).unwrap();
    let scratch = Raw::<0>(object);
    // A lock for writing over the bytes that stand for it, as one has who makes a new object there.
    let (fd, offset) = place_of(&scratch);
    drop(scratch);
    let far = (1_u64 << 41) + offset;
    let own = ipc_os::fd::reopen(&fd).unwrap();
    assert!(ipc_os::ofd::try_lock(&own, far..far + 64, ipc_os::ofd::Mode::Write).unwrap());
    let forged = Forged { kind: 0, descriptors: vec![Arc::new(fd), board()], offset, ..forged() };
    let error = taken_for::<_, Scratch>(&forged).unwrap_err().to_string();
    assert!(error.contains("no such object any more"), "{error}");
}

/// Where an object is: a copy of the descriptor that its message would have, without the locks that are on it, and the
/// offset.
fn place_of(object: &Scratch) -> (std::os::fd::OwnedFd, u64) {
    let mut bytes = Vec::new();
    let ((), handles) =
        ipc_core::handle::outgoing(|| ipc_core::Codec::default().encode(object, &mut bytes)).unwrap();
    let fd = ipc_os::fd::reopen(&*handles.descriptors()[0]).unwrap();
    let copies: Vec<_> = handles.descriptors().iter().map(|fd| fd.try_clone().unwrap()).collect();
    let bundle =
        ipc_core::handle::incoming(copies, || ipc_core::Codec::default().decode::<Place>(&bytes).unwrap());
    (fd, bundle.0)
}

struct Place(u64);

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Place(Bundle::deserialize(KINDS[0], false, deserializer)?.offset))
    }
}

#[test]
fn random_bundles_are_errors_or_objects() {
    let _watchdog = watchdog("random_bundles_are_errors_or_objects");
    alone(|| {
        let mut numbers = Numbers(7);
        let mut good = 0;
        for _ in 0..300 {
            let mut any = |good: u64| match numbers.below(4) {
                0 => numbers.any() >> numbers.below(64),
                _ => good,
            };
            let (offset, length, version) = (any(128), any(64), any(1) as u8);
            let descriptors = match any(0) % 3 {
                0 => vec![memory(4096, &[]), board()],
                1 => vec![memory(BOARD_LEN, b"ipcboard\x01"), memory(BOARD_LEN, b"ipcboard\x01")],
                _ => vec![board(), memory(4096, &[1; 4096])],
            };
            let forged = Forged { kind: LOCK, version, descriptors, offset, length };
            if let Ok(lock) = taken_for::<_, Lock>(&forged) {
                drop(lock.try_lock());
                good += 1;
            }
        }
        assert!(good > 0);
    });
}
