//! Those of the behaviours in [the table](crate::carriers) that need more than two ends in one process.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use ipc_core::frame::{FrameKind, Header};
use ipc_core::{Fd, FrameError, Schema};
use ipc_process::Process;
use ipc_socket::{ConnectError, Limits, Options, RecvError, SendError, Waitable, wait};
use ipc_testkit::data::payload;
use ipc_testkit::processes::{alone, done, kill, park};
use ipc_testkit::{LONG, watchdog};

use crate::carriers::{
    CARRIERS, KEY, Over, connect, everywhere, listen, options, pair, where_handles_move, with_process,
};

#[test]
fn b16_what_exceeds_a_limit_is_refused_and_the_next_message_is_intact() {
    let _watchdog = watchdog("b16_what_exceeds_a_limit_is_refused_and_the_next_message_is_intact");
    let long = "x".repeat(2000);
    everywhere(|mut a, mut b| {
        a.set_limits(Limits::new().frame_len_max(1000));
        for error in [a.send_bytes(&[1; 1001]).unwrap_err(), a.send(&long).unwrap_err()] {
            let is_told =
                matches!(error, SendError::Frame(FrameError::TooLong { .. }) | SendError::Encode(_));
            assert!(is_told, "{error:?}");
        }
        a.send_bytes(&[2; 1000]).unwrap();
        assert_eq!(b.recv_bytes().unwrap(), [2; 1000]);

        // What is decoded: the message is gone, and the next one is there.
        a.set_limits(Limits::new());
        b.set_limits(Limits::new().memory_max(1000));
        a.send(&long).unwrap();
        a.send(&"short".to_owned()).unwrap();
        let error = b.recv::<String>().unwrap_err();
        assert!(matches!(error, RecvError::Decode(_)), "{error:?}");
        assert_eq!(b.recv::<String>().unwrap(), "short");
        b.set_limits(Limits::new().depth_max(2));
        a.send(&vec![vec![vec![1_u8]]]).unwrap();
        a.send(&vec![1_u8]).unwrap();
        let error = b.recv::<Vec<Vec<Vec<u8>>>>().unwrap_err();
        assert!(matches!(error, RecvError::Decode(_)), "{error:?}");
        assert_eq!(b.recv::<Vec<u8>>().unwrap(), [1]);

        // A frame that this end would have to hold: those before it are there, and this one stays an error.
        b.set_limits(Limits::new().frame_len_max(1000));
        a.send_bytes(&[3; 1000]).unwrap();
        a.send_bytes(&[4; 1001]).unwrap();
        assert_eq!(b.recv_bytes().unwrap(), [3; 1000]);
        for _ in 0..2 {
            let error = b.recv_bytes().unwrap_err();
            assert!(matches!(error, RecvError::Frame(FrameError::TooLong { len: 1001, limit: 1000 })));
        }
        b.send_bytes(&[5; 1000]).unwrap();
        assert_eq!(a.recv_bytes().unwrap(), [5; 1000], "the other direction goes on");
    });
}

#[test]
fn b23_a_direction_that_is_closed_is_an_error_and_the_other_goes_on() {
    let _watchdog = watchdog("b23_a_direction_that_is_closed_is_an_error_and_the_other_goes_on");
    everywhere(|mut a, b| {
        a.close_sending().unwrap();
        for error in [a.send(&1_u8).unwrap_err(), a.send_bytes(b"x").unwrap_err()] {
            assert!(matches!(error, SendError::Disconnected), "{error:?}");
        }
        let (mut to_a, mut from_a) = b.split();
        assert!(from_a.poll(LONG).unwrap(), "the news that there will be nothing");
        assert!(matches!(from_a.recv::<u8>(), Err(RecvError::Disconnected)));
        drop(from_a);
        to_a.send(&2_u8).unwrap();
        assert_eq!(a.recv::<u8>().unwrap(), 2);
        drop(to_a);
        assert!(matches!(a.recv::<u8>(), Err(RecvError::Disconnected)));
    });
}

/// Sends back what comes through the socket that is in the first message.
fn echo_through_a_socket(address: String, (): ()) {
    let mut connection = connect(&address);
    let mut socket = UnixStream::from(connection.recv::<Fd>().unwrap().into_owned().unwrap());
    connection.send(&true).unwrap();
    let mut buf = [0; 100];
    loop {
        let count = socket.read(&mut buf).unwrap();
        socket.write_all(&buf[..count]).unwrap();
    }
}

#[test]
fn b25_the_parent_closes_its_copy_as_soon_as_it_is_sent() {
    let _watchdog = watchdog("b25_the_parent_closes_its_copy_as_soon_as_it_is_sent");
    // In a process of its own: those that other tests start would have copies for a moment.
    alone(|| {
        for over in CARRIERS.into_iter().filter(|over| over.moves_handles()) {
            let (mut listener, _directory) = listen(over);
            let address = listener.local_address().to_string();
            let child = Process::spawn(echo_through_a_socket, (address, ())).unwrap();
            let mut connection = listener.accept_timeout(LONG).unwrap();
            drop(listener);
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            connection.send(&Fd::new(theirs)).unwrap();
            assert!(connection.recv::<bool>().unwrap());
            let mut buf = [0; 5];
            ours.write_all(b"hello").unwrap();
            ours.read_exact(&mut buf).unwrap();
            assert_eq!(&buf, b"hello");
            // Nobody else has it: with the child it has ended.
            kill(child);
            assert_eq!(ours.read(&mut buf).unwrap(), 0);
            assert!(matches!(connection.recv::<u8>(), Err(RecvError::Disconnected)));
        }
    });
}

/// As long as it takes to be split by the kernel, and short ones.
fn len_of(n: usize) -> usize {
    if n.is_multiple_of(10) { 300_000 } else { n }
}

fn poll_and_take(address: String, count: usize) -> usize {
    let mut connection = connect(&address);
    let mut polls = 0;
    for n in 0..count {
        let mut isthere = false;
        while !isthere {
            let time = if polls % 2 == 0 { Duration::ZERO } else { Duration::from_micros(100) };
            isthere = connection.poll(time).unwrap();
            polls += 1;
        }
        assert!(connection.poll(Duration::ZERO).unwrap() && connection.poll(LONG).unwrap());
        assert!(connection.recv_bytes().unwrap() == payload(n, len_of(n)), "message {n}");
    }
    polls
}

#[test]
fn b26_a_childs_poll_never_eats_part_of_a_message() {
    let _watchdog = watchdog("b26_a_childs_poll_never_eats_part_of_a_message");
    for over in CARRIERS {
        let (mut connection, child) = with_process(over, poll_and_take, 200);
        for n in 0..200 {
            if n % 50 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
            connection.send_bytes(&payload(n, len_of(n))).unwrap();
        }
        assert!(done(child) > 200, "{over:?}");
    }
}

#[test]
fn b28_descriptors_with_large_numbers_travel() {
    let _watchdog = watchdog("b28_descriptors_with_large_numbers_travel");
    alone(|| {
        where_handles_move(|mut a, mut b| {
            let mut many: Vec<_> = (0..300).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            assert!(theirs.as_raw_fd() > 256);
            many.clear();
            a.send(&Fd::new(theirs)).unwrap();
            let mut theirs = UnixStream::from(b.recv::<Fd>().unwrap().into_owned().unwrap());
            theirs.write_all(b"x").unwrap();
            drop(theirs);
            let mut text = String::new();
            ours.read_to_string(&mut text).unwrap();
            assert_eq!(text, "x");
        });
    });
}

/// What a client without a key says in a handshake. It need not wait for the answers.
fn hello_by_hand() -> Vec<u8> {
    let hello = [&b"H\x01\x00\x00"[..], &[7; 32]].concat();
    [&hello[..], b"P"].into_iter().flat_map(|said| frame_by_hand(FrameKind::Control, said)).collect()
}

fn frame_by_hand(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    let header = Header::new(kind, payload.len(), 0, payload.len()).unwrap().to_bytes();
    [&header[..], payload].concat()
}

pub(crate) fn say_hello_by_hand(client: &mut UnixStream) {
    client.write_all(&hello_by_hand()).unwrap();
}

/// What it hears.
pub(crate) fn be_welcome_by_hand(client: &mut UnixStream) {
    let mut answers = [0; 8 + 36 + 8 + 1];
    client.read_exact(&mut answers).unwrap();
    assert_eq!(answers.last(), Some(&b'W'));
}

#[test]
fn b28_descriptors_that_were_announced_and_did_not_come_are_an_error() {
    let _watchdog = watchdog("b28_descriptors_that_were_announced_and_did_not_come_are_an_error");
    let directory = tempfile::tempdir().unwrap();
    let address = Over::Unix.address(directory.path());
    let mut listener = Options::new().bind(address.as_str()).unwrap();
    let mut client = UnixStream::connect(directory.path().join("socket")).unwrap();
    say_hello_by_hand(&mut client);
    let mut connection = listener.accept_timeout(LONG).unwrap();
    be_welcome_by_hand(&mut client);
    let frame = |announced| {
        let id = Schema::of::<u8>().fingerprint().to_u64();
        let header = Header::new(FrameKind::Message, 9, announced, 9).unwrap().to_bytes();
        [&header[..], &id.to_le_bytes(), &[5]].concat()
    };
    // Of the type that is asked for, of another one, and none.
    client.write_all(&[frame(3), frame(1), frame(0)].concat()).unwrap();
    for error in [connection.recv::<u8>().unwrap_err(), connection.recv::<u64>().unwrap_err()] {
        assert!(matches!(error, RecvError::MissingHandles { arrived: 0, .. }), "{error:?}");
    }
    assert_eq!(connection.recv::<u8>().unwrap(), 5, "the next message is intact");
}

#[test]
fn what_comes_in_one_piece_with_a_handshake_is_received() {
    let _watchdog = watchdog("what_comes_in_one_piece_with_a_handshake_is_received");
    let directory = tempfile::tempdir().unwrap();
    let mut listener = Options::new().bind(Over::Unix.address(directory.path())).unwrap();
    let mut client = UnixStream::connect(directory.path().join("socket")).unwrap();
    let frames = [&b"first"[..], b"", b"third"].map(|bytes| frame_by_hand(FrameKind::Bytes, bytes));
    client.write_all(&[hello_by_hand(), frames.concat()].concat()).unwrap();
    let mut connection = listener.accept_timeout(LONG).unwrap();
    for expected in [&b"first"[..], b"", b"third"] {
        assert_eq!(connection.recv_bytes().unwrap(), expected);
    }
    be_welcome_by_hand(&mut client);
}

#[test]
fn b29_files_and_sockets_travel() {
    let _watchdog = watchdog("b29_files_and_sockets_travel");
    where_handles_move(|mut a, mut b| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"in the file").unwrap();
        let remote = TcpListener::bind("127.0.0.1:0").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let local = UnixListener::bind(directory.path().join("s")).unwrap();
        let mut calls = TcpStream::connect(remote.local_addr().unwrap()).unwrap();
        let (mut here, there) = UnixStream::pair().unwrap();
        a.send(&(Fd::new(file), vec![Fd::new(remote), Fd::new(local)], Some(Fd::new(there)))).unwrap();
        let (file, listeners, stream) = b.recv::<(Fd, Vec<Fd>, Option<Fd>)>().unwrap();

        let mut file = std::fs::File::from(file.into_owned().unwrap());
        let mut text = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "in the file");
        let [remote, local]: [OwnedFd; 2] =
            listeners.into_iter().map(|fd| fd.into_owned().unwrap()).collect::<Vec<_>>().try_into().unwrap();
        let mut called = TcpListener::from(remote).accept().unwrap().0;
        calls.write_all(b"call").unwrap();
        let _calls = UnixStream::connect(directory.path().join("s")).unwrap();
        UnixListener::from(local).accept().unwrap();
        let mut stream = UnixStream::from(stream.unwrap().into_owned().unwrap());
        stream.write_all(b"pair").unwrap();
        for (from, expected) in [(&mut called as &mut dyn Read, b"call"), (&mut here, b"pair")] {
            let mut buf = [0; 4];
            from.read_exact(&mut buf).unwrap();
            assert_eq!(&buf, expected);
        }

        // The one that was received can be sent on, and back.
        b.send(&Fd::new(stream)).unwrap();
        let mut stream = UnixStream::from(a.recv::<Fd>().unwrap().into_owned().unwrap());
        here.write_all(b"back").unwrap();
        let mut buf = [0; 4];
        stream.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"back");
    });
}

/// Says one thing after each that it hears, and returns with the third.
fn answer_twice(address: String, (): ()) -> u8 {
    let mut connection = connect(&address);
    for _ in 0..2 {
        let heard = connection.recv::<u8>().unwrap();
        connection.send(&heard).unwrap();
    }
    connection.recv::<u8>().unwrap()
}

#[test]
fn b30_to_b32_connections_sockets_and_sentinels_mix_and_all_that_are_ready_are_told() {
    let _watchdog = watchdog("b30_to_b32_connections_sockets_and_sentinels_mix");
    for over in CARRIERS {
        let (mut connection, child) = with_process(over, answer_twice, ());
        let (mut here, mut there) = pair(over);
        let (mut tells, told) = UnixStream::pair().unwrap();
        let (mut listener, _directory) = listen(over);
        let look = |connection: &ipc_socket::Connection, listener: &ipc_socket::Listener, time| {
            let sources: [&dyn Waitable; 5] = [connection, &told, child.sentinel(), &there, listener];
            wait(&sources, Some(time)).unwrap()
        };
        assert!(look(&connection, &listener, Duration::ZERO).is_empty());
        assert!(look(&connection, &listener, Duration::from_millis(5)).is_empty());
        connection.send(&1_u8).unwrap();
        assert_eq!(look(&connection, &listener, LONG), [0]);
        tells.write_all(b"x").unwrap();
        here.send(&1_u8).unwrap();
        assert_eq!(look(&connection, &listener, LONG), [0, 1, 3], "all, and not the first of them");
        let address = listener.local_address().clone();
        let client = std::thread::spawn(move || options().connect(&address).unwrap());
        ipc_testkit::eventually("somebody connects", || {
            look(&connection, &listener, Duration::ZERO) == [0, 1, 3, 4]
        });
        listener.accept_timeout(LONG).unwrap();
        client.join().unwrap();
        assert_eq!(connection.recv::<u8>().unwrap(), 1);
        assert_eq!(look(&connection, &listener, LONG), [1, 3]);
        connection.send(&2_u8).unwrap();
        assert_eq!(connection.recv::<u8>().unwrap(), 2);
        connection.send(&3_u8).unwrap();
        assert!(child.sentinel().wait_ended(Some(LONG)).unwrap());
        assert_eq!(
            look(&connection, &listener, LONG),
            [0, 1, 2, 3],
            "its end is news of the connection, too"
        );
        assert!(matches!(connection.recv::<u8>(), Err(RecvError::Disconnected)));
        assert_eq!(done(child), 3);
        // Also where this process has read the next message ahead, and the kernel knows nothing of it any more.
        here.send(&2_u8).unwrap();
        assert_eq!(there.recv::<u8>().unwrap(), 1);
        assert_eq!(wait(&[&here, &there, &told], Some(LONG)).unwrap(), [1, 2]);
    }
}

#[test]
fn b36_what_was_sent_by_one_who_has_closed_before_it_was_accepted_is_readable() {
    let _watchdog = watchdog("b36_what_was_sent_by_one_who_has_closed_before_it_was_accepted");
    for over in CARRIERS {
        // With a key the client is in once the listener has let it in: it is gone before anybody reads.
        let (mut listener, _directory) = listen(over);
        let address = listener.local_address().clone();
        let client = std::thread::spawn(move || {
            let mut client = options().connect(&address).unwrap();
            client.send(&"hello".to_owned()).unwrap();
        });
        let mut accepted = listener.accept_timeout(LONG).unwrap();
        client.join().unwrap();
        assert_eq!(accepted.recv::<String>().unwrap(), "hello");
        assert!(matches!(accepted.recv::<String>(), Err(RecvError::Disconnected)));

        // Where nothing is said at first, before it is accepted.
        if over.speaks_python() {
            let directory = tempfile::tempdir().unwrap();
            let mut listener = Options::new().python().bind(over.address(directory.path())).unwrap();
            let mut client = Options::new().python().connect(listener.local_address()).unwrap();
            client.send(&"hello".to_owned()).unwrap();
            drop(client);
            let mut accepted = listener.accept_timeout(LONG).unwrap();
            assert_eq!(accepted.recv::<String>().unwrap(), "hello");
            assert!(matches!(accepted.recv::<String>(), Err(RecvError::Disconnected)));
        }
    }
}

fn hold_a_connection(address: String, (): ()) {
    let mut connection = connect(&address);
    while let Ok(heard) = connection.recv::<u8>() {
        connection.send(&heard).unwrap();
    }
    park();
}

#[test]
fn b39_after_a_listener_was_closed_nobody_connects_and_who_is_in_stays() {
    let _watchdog = watchdog("b39_after_a_listener_was_closed_nobody_connects_and_who_is_in_stays");
    // In a process of its own: those that other tests start would have copies of the listener for a moment.
    alone(|| {
        for over in CARRIERS {
            let (mut listener, directory) = listen(over);
            let address = listener.local_address().clone();
            let child = Process::spawn(hold_a_connection, (address.to_string(), ())).unwrap();
            let mut connection = listener.accept_timeout(LONG).unwrap();
            drop(listener);
            assert!(!directory.path().join("socket").exists());
            let error = Options::new().authkey(KEY).connect(&address).unwrap_err();
            let is_told = match error {
                ConnectError::NotFound { .. } => over.has_path(),
                ConnectError::Refused { .. } => !over.has_path(),
                _ => false,
            };
            assert!(is_told, "{over:?}: {error:?}");
            for n in 0..3 {
                connection.send(&n).unwrap();
                assert_eq!(connection.recv::<u8>().unwrap(), n);
            }
            kill(child);
        }
    });
}
