//! Where two things meet: each of these was wrong once.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ipc_core::{Classify, ErrorKind, Fd, Schema};
use ipc_socket::{Client, Connection, Limits, Listener, Options, RecvError, SendError, wait};
use ipc_testkit::processes::{alone, park};
use ipc_testkit::{LONG, SHORT, open_descriptors, watchdog};
use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize};

use crate::carriers::{Over, everywhere, pair, where_handles_move, with_process};

#[derive(Debug, Serialize, Deserialize)]
struct Parcel {
    number: u32,
    fds: Vec<Fd>,
    more: Vec<u8>,
}

fn parcel(number: u32, fds: usize, more: usize) -> Parcel {
    let null = || Fd::new(std::fs::File::open("/dev/null").unwrap());
    Parcel { number, fds: (0..fds).map(|_| null()).collect(), more: vec![7; more] }
}

#[test]
fn one_that_exceeds_a_limit_stays_and_keeps_its_place() {
    let _watchdog = watchdog("one_that_exceeds_a_limit_stays_and_keeps_its_place");
    where_handles_move(|mut a, mut b| {
        b.set_limits(Limits::default().frame_len_max(1000));
        a.send(&parcel(1, 1, 2000)).unwrap();
        a.send(&parcel(2, 1, 10)).unwrap();
        for _ in 0..2 {
            assert!(matches!(b.recv::<Parcel>(), Err(RecvError::Frame(_))));
        }
        b.set_limits(Limits::default());
        assert_eq!((b.recv::<Parcel>().unwrap().number, b.recv::<Parcel>().unwrap().number), (1, 2));
    });
}

#[test]
fn who_sends_handles_is_told_that_nobody_receives() {
    let _watchdog = watchdog("who_sends_handles_is_told_that_nobody_receives");
    where_handles_move(|mut a, b| {
        let (sending, receiving) = b.split();
        std::thread::scope(|scope| {
            let sends = scope.spawn(|| {
                loop {
                    if let Err(error) = a.send(&parcel(1, 1, 30_000)) {
                        break error;
                    }
                }
            });
            std::thread::sleep(SHORT);
            drop(receiving);
            assert!(matches!(sends.join().unwrap(), SendError::Disconnected));
        });
        drop(sending);
    });
}

#[test]
fn what_was_looked_at_moves_and_does_not_stay() {
    let _watchdog = watchdog("what_was_looked_at_moves_and_does_not_stay");
    everywhere(|mut a, mut b| {
        b.send(&"once".to_owned()).unwrap();
        assert!(matches!(a.recv::<u32>(), Err(RecvError::Mismatch(_))));
        let mut arrived: Connection = ipc_testkit::messages::echo(&a);
        assert_eq!(arrived.recv::<String>().unwrap(), "once");
        assert!(matches!(a.poll(Duration::ZERO), Err(RecvError::Moved)));
        assert!(matches!(a.recv::<String>(), Err(RecvError::Moved)));
        assert!(matches!(a.skip(), Err(RecvError::Moved)));
    });
}

/// How often a wait returned in some time in which it had nothing to return for but once or twice.
fn turns(mut turn: impl FnMut()) -> usize {
    let start = Instant::now();
    (0..).take_while(|_| start.elapsed() < Duration::from_millis(300)).map(|_| turn()).count()
}

/// One that does would take tens of thousands.
const TURNS_MAX: usize = 1000;

#[test]
fn a_wait_for_what_is_not_whole_does_not_go_in_circles() {
    let _watchdog = watchdog("a_wait_for_what_is_not_whole_does_not_go_in_circles");
    where_handles_move(|mut a, mut b| {
        assert!(matches!(a.try_send(&parcel(1, 1, 3_000_000)), Err(SendError::Begun { .. })));
        let turns = turns(|| {
            if !wait(&[&b], Some(SHORT)).unwrap().is_empty() {
                assert!(matches!(b.try_recv::<Parcel>(), Err(RecvError::Empty)));
            }
        });
        assert!(turns < TURNS_MAX, "{turns}");
        std::thread::scope(|scope| {
            scope.spawn(|| a.flush().unwrap());
            while wait(&[&b], Some(LONG)).unwrap() != [0] || b.try_recv::<Parcel>().is_err() {}
        });
    });
}

#[test]
fn a_listener_with_all_places_taken_does_not_go_in_circles() {
    let _watchdog = watchdog("a_listener_with_all_places_taken_does_not_go_in_circles");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let mut listener = Options::new().authkey("k").bind(format!("unix:{}", path.display())).unwrap();
    let hello = [&[36, 0, 0, 0, 0, 0, 2, 0xa9, b'H', 1, 0, 1][..], &[9; 32]].concat();
    let _strangers: Vec<_> = (0..70)
        .map(|_| {
            let mut stranger = UnixStream::connect(&path).unwrap();
            stranger.write_all(&hello).unwrap();
            stranger
        })
        .collect();
    let turns = turns(|| {
        if !wait(&[&listener], Some(SHORT)).unwrap().is_empty() {
            assert!(listener.accept_timeout(Duration::ZERO).is_err());
        }
    });
    assert!(turns < TURNS_MAX, "{turns}");
    let nanoseconds = || {
        let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        statistics.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = nanoseconds();
    assert!(listener.accept_timeout(Duration::from_millis(300)).is_err());
    let used = Duration::from_nanos(nanoseconds() - before);
    assert!(used < Duration::from_millis(200), "{used:?} of the processor for nothing");
}

/// Its structure is long, as text (a name in it is all of this file); a message of it is not.
struct Wide;

const FIELDS: [&str; 2] = [include_str!("corners.rs"), "and a second one"];

impl Serialize for Wide {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Wide", FIELDS.len())?;
        FIELDS.iter().try_for_each(|name| fields.serialize_field(name, &true))?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Wide {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Wide;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("two fields")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Wide, A::Error> {
                while fields.next_element::<bool>()?.is_some() {}
                Ok(Wide)
            }
        }
        deserializer.deserialize_struct("Wide", &FIELDS, Fields)
    }
}

#[test]
fn an_answer_about_types_takes_no_message_away() {
    let _watchdog = watchdog("an_answer_about_types_takes_no_message_away");
    let len = Schema::of::<Wide>().text().len();
    assert!(len > 4096, "{len}: the answer is longer than the ring");
    let directory = tempfile::tempdir().unwrap();
    let address = format!("shm:{}/s", directory.path().display());
    let mut listener = Options::new().ring_len(4096).bind(address.as_str()).unwrap();
    let client = std::thread::spawn(move || Client::connect(address.as_str()).unwrap());
    let (mut tx, mut rx) = listener.accept().unwrap().split();
    let mut b = client.join().unwrap();
    tx.send(&Wide).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(matches!(b.recv::<u32>(), Err(RecvError::Mismatch(_)))));
        // The question is noted.
        assert!(matches!(rx.recv_timeout::<u32>(SHORT), Err(RecvError::Timeout)));
    });
    let sent = tx.try_send(&77_u32);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            match sent {
                Ok(()) => {}
                Err(SendError::Full) => tx.send(&77_u32).unwrap(),
                Err(error) => panic!("{error:?}"),
            }
            tx.send(&78_u32).unwrap();
        });
        b.recv::<Wide>().unwrap();
        assert_eq!((b.recv::<u32>().unwrap(), b.recv::<u32>().unwrap()), (77, 78));
    });
}

#[test]
fn a_panic_in_on_error_stops_a_server() {
    let _watchdog = watchdog("a_panic_in_on_error_stops_a_server");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address = format!("unix:{}", path.display());
    let server = Listener::bind(address.as_str()).unwrap().server().unwrap().grace(SHORT);
    let server = server.on_error(|_| panic!("the test wants this panic"));
    let serving =
        std::thread::spawn(move || server.serve(|mut connection: Connection| drop(connection.recv::<u32>())));
    let mut idle = Client::connect(address.as_str()).unwrap();
    UnixStream::connect(&path).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(serving.join().is_err());
    assert!(matches!(idle.recv::<u8>(), Err(RecvError::Disconnected)));
}

fn stop_late() {
    let directory = tempfile::tempdir().unwrap();
    let server = Listener::bind(format!("unix:{}/s", directory.path().display())).unwrap().server().unwrap();
    let stopper = server.stopper();
    drop(server);
    // Where SIGPIPE is not ignored this would be the end.
    stopper.stop();
    assert!(stopper.is_stopping());
}

#[test]
fn to_stop_what_is_gone_costs_nothing() {
    alone(stop_late);
}

fn stay(address: String, (): ()) {
    let _connection = crate::carriers::connect(&address);
    park();
}

#[test]
fn who_sends_in_batches_is_told_of_a_death_too() {
    let _watchdog = watchdog("who_sends_in_batches_is_told_of_a_death_too");
    for over in [Over::Unix, Over::Memory] {
        let (mut connection, process) = with_process(over, stay, ());
        process.kill().unwrap();
        let told = (0..10_000).find_map(|_| connection.send_all::<u64>(0..100).err());
        assert!(matches!(told.unwrap().source, SendError::Disconnected));
    }
}

#[test]
fn who_waits_for_an_answer_about_types_takes_in_no_crowd_of_descriptors() {
    let _watchdog = watchdog("who_waits_for_an_answer_about_types_takes_in_no_crowd_of_descriptors");
    alone(|| {
        let (mut a, mut b) = pair(Over::Unix);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..40).for_each(|number| b.send(&parcel(number, 100, 0)).unwrap()));
            let before = open_descriptors();
            assert!(matches!(a.recv::<u32>(), Err(RecvError::Mismatch(_))));
            let more = open_descriptors() - before;
            // What the sender makes meanwhile counts too.
            assert!(more < 1000, "{more}");
            (0..40).for_each(|number| assert_eq!(a.recv::<Parcel>().unwrap().number, number));
        });
    });
}

/// A peer that lives, but takes nothing, over the network: it counts as gone, and not as a time-out of a call.
#[test]
fn a_network_peer_that_takes_nothing_is_given_up() {
    let _watchdog = watchdog("a_network_peer_that_takes_nothing_is_given_up");
    let options = Options::new().tcp_give_up(Duration::from_secs(1));
    let mut listener = options.clone().bind("tcp:127.0.0.1:0").unwrap();
    let address = listener.local_address().clone();
    let client = std::thread::spawn(move || options.connect(&address).unwrap());
    let (mut a, _b) = (listener.accept().unwrap(), client.join().unwrap());
    while a.try_send_bytes(&[1; 100_000]).is_ok() {}
    let error = a.recv::<u32>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error:?}");
    assert!(matches!(a.send_bytes(&[1; 100_000]), Err(SendError::Disconnected)));
}
