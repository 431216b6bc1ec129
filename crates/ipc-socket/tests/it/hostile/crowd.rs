//! Many who connect and never speak.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use ipc_process::Process;
use ipc_socket::{AcceptError, HandshakeError, Options};
use ipc_testkit::processes::alone;
use ipc_testkit::{LONG, open_descriptors, watchdog};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::relay::{Dialect, Stage, dial};
use crate::behaviours::{be_welcome_by_hand, say_hello_by_hand};
use crate::carriers::{KEY, Over};

/// So many connect.
const CROWD: usize = 10_000;

/// So many of them at a time, in two generations: less than what an ordinary process may have open.
const BATCH: usize = 400;

/// Connects again and again, and keeps the last of them open: whoever is let in finds many before it.
fn crowd(path: String) -> usize {
    let mut last: Vec<UnixStream> = Vec::new();
    let mut count = 0;
    while count < CROWD {
        let batch = (0..BATCH).map(|_| UnixStream::connect(&path).unwrap()).collect();
        count += BATCH;
        last = batch;
    }
    drop(last);
    count
}

/// The memory that this process has touched, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// How many honest clients have to get in while the crowd is there.
const HONEST: usize = 5;

fn withstand() {
    // What a process has ordinarily, wherever the tests run.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(1024), hard).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let address = Over::Unix.address(directory.path());
    let options = Options::new().authkey(KEY).handshake_timeout(LONG);
    let mut listener = options.clone().bind(address.as_str()).unwrap();
    let path = directory.path().join("socket").display().to_string();
    let (descriptors, memory) = (open_descriptors(), resident());
    let mut crowd = Process::spawn(crowd, (path,)).unwrap();
    let is_over = AtomicBool::new(false);
    let (mut descriptors_max, mut memory_max, mut gone) = (0, 0, 0);
    let honest = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut count = 0;
            while count < HONEST || !is_over.load(Relaxed) {
                let mut connection = options.connect(address.as_str()).unwrap();
                connection.send(&count).unwrap();
                assert_eq!(connection.recv::<usize>().unwrap(), count);
                count += 1;
            }
            // One that says that there will be none.
            options.connect(address.as_str()).unwrap().send(&usize::MAX).unwrap();
            count
        });
        let mut before_the_end = 0;
        loop {
            match listener.accept_timeout(LONG) {
                Ok(mut connection) => match connection.recv::<usize>().unwrap() {
                    usize::MAX => break,
                    count => {
                        before_the_end += usize::from(!is_over.load(Relaxed));
                        connection.send(&count).unwrap();
                    }
                },
                Err(AcceptError::Handshake { source: HandshakeError::Disconnected, .. }) => gone += 1,
                Err(error) => panic!("{error:?}"),
            }
            if !is_over.load(Relaxed) && !crowd.is_alive() {
                is_over.store(true, Relaxed);
            }
            descriptors_max = descriptors_max.max(open_descriptors());
            memory_max = memory_max.max(resident());
        }
        assert!(before_the_end >= 1, "nobody was let in while there was a crowd");
        client.join().unwrap()
    });
    assert_eq!(crowd.join_timeout(LONG).unwrap(), CROWD);
    assert!(honest >= HONEST && gone > 0, "{honest}, {gone}");
    // 64 at once, each with a descriptor and another one that says who it is; and those of the honest one and its process.
    assert!(descriptors_max <= descriptors + 2 * 64 + 20, "{descriptors_max}, {descriptors} before");
    assert!(memory_max <= memory + (16 << 20), "{memory_max}, {memory} before");
}

#[test]
fn ten_thousand_who_never_speak_keep_nobody_out() {
    let _watchdog = watchdog("ten_thousand_who_never_speak_keep_nobody_out");
    alone(withstand);
}

/// Those who know how to begin, but have no key.
#[test]
fn who_says_hello_and_nothing_more_keeps_nobody_out() {
    let _watchdog = watchdog("who_says_hello_and_nothing_more_keeps_nobody_out");
    for dialect in Dialect::native() {
        let mut stage = Stage::new(dialect);
        let hello = dialect.message(&[&[b'H', 1, 0, 1][..], &[9; 32]].concat());
        let strangers: Vec<_> = (0..200)
            .map(|_| {
                let mut stranger = dial(stage.listener.local_address());
                stranger.write_all(&hello).unwrap();
                stranger
            })
            .collect();
        // Who is honest has no more time than the strangers do.
        stage.is_well();
        drop(strangers);
    }
}

/// Who had not spoken yet when the listener last looked, and has since.
#[test]
fn of_those_who_wait_for_a_listener_that_is_busy_nobody_is_dropped() {
    let _watchdog = watchdog("of_those_who_wait_for_a_listener_that_is_busy_nobody_is_dropped");
    let directory = tempfile::tempdir().unwrap();
    let mut listener =
        Options::new().handshake_timeout(LONG).bind(Over::Unix.address(directory.path())).unwrap();
    let address = listener.local_address().clone();
    let mut clients: Vec<_> = (0..100).map(|_| dial(&address)).collect();
    // It has taken 64 of them.
    assert!(matches!(listener.accept_timeout(Duration::from_millis(1)), Err(AcceptError::Timeout)));
    clients.iter_mut().for_each(say_hello_by_hand);
    std::thread::sleep(Duration::from_millis(100));
    for _ in 0..100 {
        listener.accept_timeout(LONG).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    clients.iter_mut().for_each(be_welcome_by_hand);
}
