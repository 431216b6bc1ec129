//! Frames over a pipe: messages and bytes, each as it was sent.

use std::os::fd::OwnedFd;

use ipc_stream::{End, Part, Rx, Transport, Tx, Until};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (reader, writer) = std::io::pipe()?;
    let mut tx = Tx::new(End::new(OwnedFd::from(writer), Transport::Pipe, Part::Whole));
    let mut rx = Rx::new(End::new(OwnedFd::from(reader), Transport::Pipe, Part::Whole));
    tx.send(&(1_u8, "a message"), Until::Forever)?;
    tx.send_bytes(b"bytes", Until::Forever)?;
    drop(tx);
    println!("{:?}", rx.recv::<(u8, String)>(Until::Forever)?);
    println!("{:?}", String::from_utf8(rx.recv_bytes(Until::Forever)?)?);
    println!("{}", rx.recv_bytes(Until::Forever).unwrap_err());
    Ok(())
}
