use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use ipc_core::{Classify, ErrorKind, SendError};
use ipc_stream::{End, Part, Transport};

use super::*;
use crate::auth::AuthError;
use ipc_core::RecvError;

fn ends(socket: UnixStream) -> (Tx, Rx) {
    let end = End::new(OwnedFd::from(socket), Transport::Unix, Part::Whole);
    (Tx::new(Arc::clone(&end)), Rx::new(end))
}

fn pair() -> ((Tx, Rx), (Tx, Rx)) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ends(ours), ends(theirs))
}

fn soon() -> Until {
    Until::after(Duration::from_millis(20))
}

/// What the client says to what a listener has sent.
fn told(send: impl FnOnce(&mut Tx) -> Result<(), SendError>) -> HandshakeError {
    let ((mut tx, _rx), (their_tx, their_rx)) = pair();
    send(&mut tx).unwrap();
    accept(their_tx, their_rx, soon()).expect_err("it was no offer")
}

#[test]
fn offers_that_are_none() {
    assert!(matches!(told(|_| Ok(())), HandshakeError::Timeout));
    let ((tx, rx), (their_tx, their_rx)) = pair();
    drop((tx, rx));
    assert!(matches!(accept(their_tx, their_rx, soon()), Err(HandshakeError::Disconnected)));

    let memory = |error: HandshakeError| matches!(error, HandshakeError::Memory(_));
    assert!(memory(told(|tx| tx.send_bytes(b"no rings", Until::Forever))));
    assert!(memory(told(|tx| tx.send(&(1_u8, "no rings"), Until::Forever))));
    // A descriptor that is no ring, and rings the wrong way round.
    let fd = || ipc_core::Fd::new(std::fs::File::open("/dev/null").unwrap());
    assert!(memory(told(
        |tx| tx.send(&Offer { version: VERSION, writer: fd(), reader: fd() }, Until::Forever)
    )));
    let (writer, reader) = ring(4096).unwrap();
    let swapped = Offer { version: VERSION, writer: reader, reader: writer };
    assert!(memory(told(|tx| tx.send(&swapped, Until::Forever))));
    let ((one, _), (_, other)) = (ring(4096).unwrap(), ring(4096).unwrap());
    let version = Offer { version: 9, writer: one, reader: other };
    let error = told(|tx| tx.send(&version, Until::Forever));
    assert!(matches!(error, HandshakeError::Auth(AuthError::Version(9))), "{error:?}");
}

#[test]
fn a_client_that_is_gone_costs_its_listener_an_error_at_most() {
    let ((tx, rx), theirs) = pair();
    drop(theirs);
    match offer(tx, rx, 4096) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Disconnected),
        Ok(_) => panic!("the socket is closed"),
    }
}

/// Frames that no sender of this version makes.
#[test]
fn what_is_no_frame_of_a_connection_is_an_error() {
    let (mut writer, reader) = ring(4096).unwrap();
    let ((mut tx, _ours), (_theirs, rx)) = pair();
    let mut rings = RingRx::new(reader, rx);
    writer.write(17, b"?").unwrap();
    assert!(matches!(rings.recv_bytes(Until::Now), Err(RecvError::Frame(_))));
    assert!(matches!(
        rings.recv_frame(&mut Vec::new(), &mut Vec::new(), Until::Now),
        Err(RecvError::Frame(_))
    ));
    assert!(rings.poll(Until::Now).unwrap() && rings.kind().is_none());

    // A place for a message that does not come, or comes late, or is something else.
    let (mut writer, reader) = ring(4096).unwrap();
    let mut rings = RingRx::new(reader, rings.rx);
    writer.write(ON_THE_SOCKET, b"").unwrap();
    writer.write(MESSAGE, &[0; 7]).unwrap();
    assert!(!rings.poll(soon()).unwrap());
    assert!(matches!(rings.recv_behind::<u8>(&[1; 8], Until::Now), Err(RecvError::Empty)));
    assert!(matches!(rings.recv_behind::<u8>(&[1; 8], soon()), Err(RecvError::Timeout)));
    tx.send_behind(&[1; 8], &7_u8, Until::Forever).unwrap();
    assert_eq!(rings.recv_behind::<u8>(&[1; 8], Until::Now).unwrap(), Some(7));
    // A message without room for its fingerprint is of no type.
    assert_eq!(rings.recv_behind::<u8>(&[0; 8], Until::Now).unwrap(), None);
    let mut payload = Vec::new();
    assert_eq!(
        rings.recv_frame(&mut payload, &mut Vec::new(), Until::Now).unwrap(),
        ipc_core::frame::FrameKind::Message
    );
    assert_eq!(payload, [0; 7]);
    writer.write(ON_THE_SOCKET, b"").unwrap();
    drop((tx, _ours));
    assert!(matches!(rings.recv_behind::<u8>(&[1; 8], Until::Forever), Err(RecvError::Disconnected)));
    assert!(matches!(rings.recv_behind::<u8>(&[1; 8], Until::Now), Err(RecvError::Empty)));
}
