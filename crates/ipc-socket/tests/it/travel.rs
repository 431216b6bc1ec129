//! Connections inside of messages.

use std::cell::RefCell;

use ipc_core::{Codec, handle};
use ipc_process::Process;
use ipc_socket::{Connection, RecvError, SendError};
use ipc_testkit::data::payload;
use ipc_testkit::messages::{echo, taken_for};
use ipc_testkit::watchdog;
use serde::{Deserialize, Serialize};

use crate::carriers::{Over, everywhere, pair, where_handles_move};

fn answer(mut connection: Connection, told: u32) {
    assert_eq!(connection.recv_bytes().unwrap(), b"ahead");
    while let Ok(number) = connection.recv::<u32>() {
        connection.send(&(number + told)).unwrap();
    }
}

#[test]
fn b29_a_connection_goes_on_in_another_process() {
    let _watchdog = watchdog("b29_a_connection_goes_on_in_another_process");
    everywhere(|mut a, mut b| {
        // Some is read ahead, some was looked at and left, and some comes later.
        b.send(&1_u8).unwrap();
        b.send_bytes(b"ahead").unwrap();
        b.send(&5_u32).unwrap();
        assert_eq!(a.recv::<u8>().unwrap(), 1);
        assert!(matches!(a.recv::<u8>(), Err(RecvError::WrongKind { .. })));
        let process = Process::spawn(answer, (a, 100_u32)).unwrap();
        b.send(&6_u32).unwrap();
        assert_eq!((b.recv::<u32>().unwrap(), b.recv::<u32>().unwrap()), (105, 106));
        b.close_sending().unwrap();
        process.join().unwrap();
        assert!(matches!(b.recv::<u32>(), Err(RecvError::Disconnected)));
    });
}

#[test]
fn b29_connections_travel_over_connections() {
    let _watchdog = watchdog("b29_connections_travel_over_connections");
    where_handles_move(|a, b| {
        let (a, b) = (RefCell::new(a), RefCell::new(b));
        everywhere(|c, mut d| {
            d.send(&"before".to_owned()).unwrap();
            a.borrow_mut().send(&Twice(7_u8, c)).unwrap();
            let Twice(seven, mut c) = b.borrow_mut().recv::<Twice<u8, Connection>>().unwrap();
            assert_eq!(seven, 7);
            assert_eq!(c.recv::<String>().unwrap(), "before");
            c.send(&"after".to_owned()).unwrap();
            assert_eq!(d.recv::<String>().unwrap(), "after");
        });
    });
    let ((mut a, _b), (mut c, mut d)) = (pair(Over::Tcp), pair(Over::Memory));
    assert!(matches!(a.send(&c), Err(SendError::Handles { .. })));
    c.send(&1_u8).unwrap();
    assert_eq!(d.recv::<u8>().unwrap(), 1);
}

#[derive(Serialize, Deserialize)]
struct Twice<A, B>(A, B);

#[test]
fn what_has_begun_to_go_out_goes_along() {
    let _watchdog = watchdog("what_has_begun_to_go_out_goes_along");
    everywhere(|mut a, mut b| {
        let long = payload(3, 8 << 20);
        assert!(matches!(a.try_send_bytes(&long), Err(SendError::Begun { .. })));
        let mut a: Connection = echo(&a);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                a.flush().unwrap();
                a.send(&1_u8).unwrap();
            });
            assert!(b.recv_bytes().unwrap() == long);
            assert_eq!(b.recv::<u8>().unwrap(), 1);
        });
    });
}

#[test]
fn it_stays_if_its_message_does_not_go_and_goes_once() {
    let _watchdog = watchdog("it_stays_if_its_message_does_not_go_and_goes_once");
    everywhere(|mut a, mut b| {
        let mut bytes = Vec::new();
        drop(handle::outgoing(|| Codec::default().encode(&a, &mut bytes)).unwrap());
        assert!(handle::outgoing(|| Codec::default().encode(&Twice(&a, &a), &mut bytes)).is_err());
        assert!(
            Codec::default().encode(&a, &mut bytes).is_err(),
            "outside of messages there is no room for it"
        );
        a.send(&1_u8).unwrap();
        assert_eq!(b.recv::<u8>().unwrap(), 1);
        let _elsewhere: Connection = echo(&a);
        assert!(matches!(a.send(&1_u8), Err(SendError::Moved)));
        assert!(matches!(a.recv::<u8>(), Err(RecvError::Moved)));
        assert!(matches!(a.flush(), Err(SendError::Moved)));
        assert!(handle::outgoing(|| Codec::default().encode(&a, &mut bytes)).is_err());
    });
}

#[test]
fn each_half_that_was_closed_stays_so() {
    let _watchdog = watchdog("each_half_that_was_closed_stays_so");
    everywhere(|mut a, mut b| {
        a.close_sending().unwrap();
        b.send(&1_u8).unwrap();
        let mut a: Connection = echo(&a);
        assert!(matches!(a.send(&1_u8), Err(SendError::Disconnected)));
        assert_eq!(a.recv::<u8>().unwrap(), 1);
        assert!(matches!(b.recv::<u8>(), Err(RecvError::Disconnected)));
    });
}

#[test]
fn a_connection_to_python_stays_one() {
    let _watchdog = watchdog("a_connection_to_python_stays_one");
    let options = ipc_socket::Options::new().python();
    let mut listener = options.clone().bind("tcp:127.0.0.1:0").unwrap();
    let address = listener.local_address().clone();
    let client = std::thread::spawn(move || options.connect(&address).unwrap());
    let (mut a, mut b) = (listener.accept().unwrap(), client.join().unwrap());
    b.send(&("one", 2)).unwrap();
    b.send_bytes(b"raw").unwrap();
    assert_eq!(a.recv::<(String, u32)>().unwrap(), ("one".to_owned(), 2));
    let mut a: Connection = echo(&a);
    assert_eq!(a.recv_bytes().unwrap(), b"raw");
    a.send(&vec![1, 2]).unwrap();
    assert_eq!(b.recv::<Vec<i32>>().unwrap(), [1, 2]);
}

/// A pipe's end that moves by itself is a handle too, of another kind; and so is any descriptor.
#[test]
fn what_is_no_connection_does_not_arrive_as_one() {
    let fd = ipc_core::Fd::new(std::fs::File::open("/dev/null").unwrap());
    assert!(taken_for::<_, Connection>(&fd).is_err());
    let (_tx, rx) = ipc_pipe::pipe::<u8>().unwrap();
    assert!(taken_for::<_, Connection>(&rx).is_err());
}
