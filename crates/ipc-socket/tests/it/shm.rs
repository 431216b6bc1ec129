//! What is peculiar to connections over shared memory; the suites of all carriers run over them too.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use ipc_core::Fd;
use ipc_process::Process;
use ipc_socket::{
    AcceptError, AuthError, BindError, ConnectError, Connection, HandshakeError, Limits, Options, RecvError,
    SendError,
};
use ipc_testkit::data::payload;
use ipc_testkit::processes::park;
use ipc_testkit::{LONG, SHORT, watchdog};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

fn address() -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("shm:{}/s", directory.path().display());
    (directory, address)
}

fn pair(options: Options) -> (Connection, Connection) {
    let (_directory, address) = address();
    let mut listener = options.clone().bind(address.as_str()).unwrap();
    let client = std::thread::spawn(move || options.connect(address.as_str()).unwrap());
    let ours = listener.accept_timeout(LONG).unwrap();
    (ours, client.join().unwrap())
}

fn answer(address: String) {
    let mut connection = Options::new().authkey("k").connect(address.as_str()).unwrap();
    while let Ok(number) = connection.recv::<u64>() {
        if number % 64 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        connection.send(&(number + 1)).unwrap();
    }
    let long = connection.recv_bytes().unwrap();
    connection.send_bytes(&long).unwrap();
    park();
}

#[test]
fn two_processes_talk_until_one_is_killed() {
    let _watchdog = watchdog("two_processes_talk_until_one_is_killed");
    let (_directory, address) = address();
    let mut listener = Options::new().authkey("k").bind(address.as_str()).unwrap();
    let process = Process::spawn(answer, (address,)).unwrap();
    let mut connection = listener.accept_timeout(LONG).unwrap();
    assert_eq!(connection.peer().unwrap().pid(), Some(process.id()));
    for number in 0..2000_u64 {
        if number % 50 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        connection.send(&number).unwrap();
        assert_eq!(connection.recv::<u64>().unwrap(), number + 1);
    }
    let long = payload(1, 5 << 20);
    connection.send_bytes(&long).unwrap();
    assert!(connection.recv_bytes().unwrap() == long);
    process.kill().unwrap();
    assert!(matches!(connection.recv::<u64>(), Err(RecvError::Disconnected)));
    // What it had room for goes to nobody; not many times.
    let told = (0..10_000).find_map(|_| connection.send(&1_u64).err());
    assert!(matches!(told, Some(SendError::Disconnected)), "{told:?}");
}

#[derive(Serialize, Deserialize)]
struct WithFds {
    number: u32,
    fds: Vec<Fd>,
    more: Vec<u8>,
}

fn with_fds(number: u32, fds: usize, more: usize) -> (Vec<UnixStream>, WithFds) {
    let (ours, theirs): (Vec<_>, Vec<_>) =
        (0..fds).map(|_| UnixStream::pair().unwrap()).map(|(ours, theirs)| (ours, Fd::new(theirs))).unzip();
    (ours, WithFds { number, fds: theirs, more: payload(number as usize, more) })
}

fn check(ours: Vec<UnixStream>, arrived: WithFds, number: u32, more: usize) {
    assert_eq!((arrived.number, arrived.fds.len()), (number, ours.len()));
    assert!(arrived.more == payload(number as usize, more));
    for (at, (mut ours, fd)) in ours.into_iter().zip(arrived.fds).enumerate() {
        UnixStream::from(fd.into_owned().unwrap()).write_all(&[at as u8]).unwrap();
        let mut byte = [0xff];
        ours.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [at as u8]);
    }
}

#[test]
fn messages_with_handles_keep_their_place_among_others() {
    let _watchdog = watchdog("messages_with_handles_keep_their_place_among_others");
    let (mut a, mut b) = pair(Options::new());
    // Longer than the socket and the ring hold, and more descriptors than go with one call.
    for (fds, more) in [(1, 0), (3, 100), (260, 3 << 20)] {
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                a.send(&1_u8).unwrap();
                let (ours, message) = with_fds(2, fds, more);
                a.send(&message).unwrap();
                a.send_bytes(b"3").unwrap();
                ours
            });
            assert_eq!(b.recv::<u8>().unwrap(), 1);
            assert!(b.poll(LONG).unwrap());
            // What it is not stays, and is told with both structures.
            assert!(matches!(b.recv::<u16>(), Err(RecvError::Mismatch(_))));
            assert!(matches!(b.recv_bytes(), Err(RecvError::WrongKind { .. })));
            let arrived = b.recv::<WithFds>().unwrap();
            assert_eq!(b.recv_bytes().unwrap(), b"3");
            check(sender.join().unwrap(), arrived, 2, more);
        });
    }
    let batch: Vec<_> = (0..100).map(|n| with_fds(n, usize::from(n % 3 == 0), 1000)).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(a.send_all::<WithFds>(batch.iter().map(|(_, message)| message)).unwrap(), 100)
        });
        for n in 0..100 {
            let arrived = b.recv::<WithFds>().unwrap();
            assert_eq!((arrived.number, arrived.fds.len()), (n, usize::from(n % 3 == 0)));
        }
    });
}

#[test]
fn without_waiting_nothing_or_all_of_it_goes() {
    let _watchdog = watchdog("without_waiting_nothing_or_all_of_it_goes");
    let (mut a, mut b) = pair(Options::new().ring_len(4096));
    let mut sent = 0;
    let mut begun = false;
    while !begun {
        let (_ours, message) = with_fds(sent, 1, 30_000);
        match a.try_send(&message) {
            Ok(()) => sent += 1,
            Err(SendError::Begun { .. }) => (sent, begun) = (sent + 1, true),
            Err(SendError::Full) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    let (_ours, message) = with_fds(sent, 1, 10);
    assert!(matches!(a.try_send(&message), Err(SendError::Full)));
    assert!(matches!(a.send_timeout(&message, SHORT), Err(SendError::Timeout)));
    if begun {
        assert!(matches!(a.try_send(&1_u8), Err(SendError::Full)), "it would overtake what has begun");
    }
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            a.flush().unwrap();
            a.send(&message).unwrap();
            a.send(&7_u8).unwrap();
        });
        for n in 0..=sent {
            let arrived = b.recv::<WithFds>().unwrap();
            assert_eq!((arrived.number, arrived.fds.len()), (n, 1));
            assert!(arrived.more == payload(n as usize, if n < sent { 30_000 } else { 10 }));
        }
        assert_eq!(b.recv::<u8>().unwrap(), 7);
        sender.join().unwrap();
    });
    while a.try_send_bytes(b"").is_ok() {}
    assert!(matches!(a.try_send(&message), Err(SendError::Full)));
    assert!(matches!(a.try_send_bytes(b""), Err(SendError::Full)));
    assert!(matches!(a.try_send(&1_u64), Err(SendError::Full)));
    assert!(matches!(a.send_timeout(&1_u64, SHORT), Err(SendError::Timeout)));
}

#[test]
fn each_direction_ends_by_itself() {
    let _watchdog = watchdog("each_direction_ends_by_itself");
    let (mut a, mut b) = pair(Options::new());
    a.send(&1_u8).unwrap();
    a.close_sending().unwrap();
    assert!(matches!(a.send(&2_u8), Err(SendError::Disconnected)));
    assert!(matches!(a.send_all::<u8>([2, 3]), Err(error) if error.sent == 0));
    assert!(matches!(a.flush(), Err(SendError::Disconnected)));
    assert_eq!(b.recv::<u8>().unwrap(), 1);
    assert!(matches!(b.recv::<u8>(), Err(RecvError::Disconnected)));
    b.send(&3_u8).unwrap();
    assert_eq!(a.recv::<u8>().unwrap(), 3);
    let (_sending, mut receiving) = a.split();
    drop(b);
    assert!(matches!(receiving.recv::<u8>(), Err(RecvError::Disconnected)));
}

#[test]
fn limits_hold() {
    let _watchdog = watchdog("limits_hold");
    let mut limits = Limits::default();
    limits.frame_len_max = 1000;
    let (mut a, mut b) = pair(Options::new());
    a.set_limits(limits);
    assert!(matches!(a.send_bytes(&[0; 1001]), Err(SendError::Frame(_))));
    assert!(matches!(a.send(&vec![1_u8; 1001]), Err(SendError::Frame(_) | SendError::Encode(_))));
    a.send(&7_u8).unwrap();
    assert_eq!(b.recv::<u8>().unwrap(), 7);
}

/// The end of a process shows on the socket, for those who look at nothing but descriptors.
#[test]
fn the_socket_stays_as_a_sign_of_life() {
    let _watchdog = watchdog("the_socket_stays_as_a_sign_of_life");
    let (a, mut b) = pair(Options::new());
    b.send(&1_u8).unwrap();
    assert!(!ipc_os::poll_readable(a.as_fd(), Some(SHORT)).unwrap(), "messages do not show on it");
    drop(b);
    assert!(ipc_os::poll_readable(a.as_fd(), Some(LONG)).unwrap());
}

#[test]
fn unlike_ends_are_told_so() {
    let _watchdog = watchdog("unlike_ends_are_told_so");
    let (_directory, shm) = address();
    let unix = shm.replace("shm:", "unix:");
    for (of_listener, of_client) in [(&shm, &unix), (&unix, &shm)] {
        let mut listener = Options::new().bind(of_listener.as_str()).unwrap();
        std::thread::scope(|scope| {
            let client = scope.spawn(|| Options::new().connect(of_client.as_str()).unwrap_err());
            let told = listener.accept_timeout(LONG).unwrap_err();
            assert!(
                matches!(
                    told,
                    AcceptError::Handshake { source: HandshakeError::Auth(AuthError::Carrier), .. }
                ),
                "{told:?}"
            );
            let error = client.join().unwrap();
            assert!(
                matches!(
                    error,
                    ConnectError::Handshake { source: HandshakeError::Auth(AuthError::Carrier), .. }
                ),
                "{error:?}"
            );
        });
    }
    let python = Options::new().python();
    let error = python.clone().bind(shm.as_str()).unwrap_err();
    assert!(matches!(error, BindError::Io { source, .. } if source.to_string().contains("unix:")));
    let error = python.connect(shm.as_str()).unwrap_err();
    assert!(matches!(error, ConnectError::Io { source, .. } if source.to_string().contains("unix:")));
}
