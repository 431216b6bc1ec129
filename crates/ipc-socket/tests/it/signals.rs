//! Signals that interrupt every call: none of them shows.
//!
//! In processes of their own, since dispositions belong to processes.

use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use ipc_process::Process;
use ipc_socket::{AcceptError, ConnectError, Connection, Options, RecvError, RecvHalf, SendHalf, wait};
use ipc_testkit::data::{payload, text};
use ipc_testkit::processes::{alone, done};
use ipc_testkit::{LONG, watchdog};
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::carriers::{CARRIERS, Over, connect, listen, options, with_process};

static CAUGHT: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_signal: i32) {
    CAUGHT.fetch_add(1, Relaxed);
}

/// Runs `f` while signals rain on this thread, without `SA_RESTART`: some have come while it ran.
fn in_a_storm<R>(f: impl FnOnce() -> R) -> R {
    let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler touches nothing but an atomic, which is safe at any moment.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    let stop = AtomicBool::new(false);
    let target = pthread_self();
    let before = CAUGHT.load(Relaxed);
    let result = std::thread::scope(|scope| {
        scope.spawn(|| storm(target, &stop));
        let _stops = AtTheEnd(&stop);
        let result = f();
        // However quick it was.
        while CAUGHT.load(Relaxed) < before + 10 {
            std::thread::yield_now();
        }
        result
    });
    assert!(CAUGHT.load(Relaxed) >= before + 10);
    result
}

/// Ends the storm, also where what is done in it panics.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn storm(target: Pthread, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        pthread_kill(target, Signal::SIGUSR1).unwrap();
        std::thread::sleep(Duration::from_micros(50));
    }
}

const COUNT: usize = 4;
const LEN: usize = 1 << 20;

/// Both directions at once: what is sent here is not read there before this end has something to read, too.
fn exchange(connection: Connection) -> (SendHalf, RecvHalf) {
    let (mut tx, mut rx) = connection.split();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            in_a_storm(|| {
                for n in 0..COUNT {
                    tx.send_bytes(&payload(n, LEN)).unwrap();
                    tx.send_timeout(&text(LEN), LONG).unwrap();
                    tx.send(&n).unwrap();
                }
            });
        });
        in_a_storm(|| {
            let mut buf = vec![0; LEN];
            for n in 0..COUNT {
                if n % 2 == 0 {
                    assert!(rx.recv_bytes().unwrap() == payload(n, LEN));
                } else {
                    assert_eq!(rx.recv_bytes_into(&mut buf).unwrap(), LEN);
                    assert!(buf == payload(n, LEN));
                }
                assert!(rx.poll(LONG).unwrap());
                assert!(rx.recv_timeout::<String>(LONG).unwrap() == text(LEN));
                assert_eq!(wait(&[&rx], Some(LONG)).unwrap(), [0]);
                assert_eq!(rx.recv::<usize>().unwrap(), n);
            }
        });
    });
    (tx, rx)
}

fn exchange_in_a_process(address: String, (): ()) {
    let (_tx, mut rx) = exchange(connect(&address));
    assert!(rx.recv::<bool>().unwrap(), "it stays for as long as its silence is waited for");
}

#[test]
fn b27_signals_are_invisible_to_send_and_recv() {
    let _watchdog = watchdog("b27_signals_are_invisible_to_send_and_recv");
    alone(|| {
        for over in CARRIERS {
            let (connection, child) = with_process(over, exchange_in_a_process, ());
            let (mut tx, mut rx) = exchange(connection);
            // Nothing comes: the waits are as long as they are told to be.
            let time = Duration::from_millis(20);
            in_a_storm(|| {
                assert!(matches!(rx.recv_timeout::<u8>(time), Err(RecvError::Timeout)));
                assert!(!rx.poll(time).unwrap());
                assert!(wait(&[&rx], Some(time)).unwrap().is_empty());
            });
            tx.send(&true).unwrap();
            done(child);
        }
    });
}

/// How many connections are made and accepted in a storm.
const CONNECTIONS: u32 = 30;

fn accept_all(over: Over) {
    let (mut listener, _directory) = listen(over);
    let address = listener.local_address().to_string();
    let client = Process::spawn(connect_often, (address,)).unwrap();
    in_a_storm(|| {
        for n in 0..CONNECTIONS {
            let mut connection = match n % 2 {
                0 => listener.accept().unwrap(),
                _ => listener.accept_timeout(LONG).unwrap(),
            };
            assert_eq!(connection.recv::<u32>().unwrap(), n);
            connection.send(&n).unwrap();
        }
        let nobody = listener.accept_timeout(Duration::from_millis(20));
        assert!(matches!(nobody, Err(AcceptError::Timeout)), "{nobody:?}");
    });
    done(client);
}

fn connect_often(address: String) {
    in_a_storm(|| {
        for n in 0..CONNECTIONS {
            let options = match n % 2 {
                0 => options(),
                _ => options().timeout(LONG),
            };
            let mut connection = options.connect(address.as_str()).unwrap();
            connection.send(&n).unwrap();
            assert_eq!(connection.recv::<u32>().unwrap(), n);
        }
    });
}

#[test]
fn b27_signals_are_invisible_to_accept_and_connect() {
    let _watchdog = watchdog("b27_signals_are_invisible_to_accept_and_connect");
    alone(|| CARRIERS.into_iter().for_each(accept_all));
}

/// Waits until somebody listens, and then until it is accepted.
#[test]
fn b27_signals_are_invisible_to_a_connect_that_waits() {
    let _watchdog = watchdog("b27_signals_are_invisible_to_a_connect_that_waits");
    alone(|| {
        for over in CARRIERS.into_iter().filter(|over| over.has_path()) {
            let directory = tempfile::tempdir().unwrap();
            let address = over.address(directory.path());
            std::thread::scope(|scope| {
                let client = scope.spawn(|| {
                    in_a_storm(|| options().retry().timeout(LONG).connect(address.as_str()).unwrap())
                });
                std::thread::sleep(Duration::from_millis(30));
                let mut listener = options().bind(address.as_str()).unwrap();
                std::thread::sleep(Duration::from_millis(30));
                let mut connection = listener.accept_timeout(LONG).unwrap();
                client.join().unwrap().send(&1_u8).unwrap();
                assert_eq!(connection.recv::<u8>().unwrap(), 1);
            });
        }
    });
}

/// Each interrupted `connect(2)` is begun again, with what is left of the time.
#[test]
fn b27_signals_are_invisible_to_a_connect_that_waits_for_room() {
    let _watchdog = watchdog("b27_signals_are_invisible_to_a_connect_that_waits_for_room");
    alone(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        // None is to wait; the kernel takes one all the same.
        let listener = UnixListener::from(ipc_os::socket::listen(listener.into(), 0).unwrap());
        let address = format!("unix:{}", path.display());
        // Without a key nothing is said: who is connected is in.
        for options in [Options::new().python(), Options::new().python().timeout(LONG)] {
            let first = UnixStream::connect(&path).unwrap();
            let client = std::thread::scope(|scope| {
                let waits = scope.spawn(|| in_a_storm(|| options.connect(address.as_str()).unwrap()));
                std::thread::sleep(Duration::from_millis(50));
                assert!(!waits.is_finished());
                drop(listener.accept().unwrap());
                waits.join().unwrap()
            });
            drop((first, listener.accept().unwrap(), client));
        }
        let _first = UnixStream::connect(&path).unwrap();
        let hurried = Options::new().python().timeout(Duration::from_millis(50));
        let error = in_a_storm(|| hurried.connect(address.as_str()).unwrap_err());
        assert!(matches!(error, ConnectError::Timeout { .. }), "{error:?}");
    });
}
