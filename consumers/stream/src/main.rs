//! Uses `ipc-stream` alone: frames over a pipe.

use std::error::Error;
use std::os::fd::OwnedFd;

use ipc_stream::{End, Part, Rx, Transport, Tx, Until};

fn main() -> Result<(), Box<dyn Error>> {
    let (reader, writer) = std::io::pipe()?;
    let mut tx = Tx::new(End::new(OwnedFd::from(writer), Transport::Pipe, Part::Whole));
    let mut rx = Rx::new(End::new(OwnedFd::from(reader), Transport::Pipe, Part::Whole));
    tx.send(&("one", 1_u32), Until::Forever)?;
    assert_eq!(rx.recv::<(String, u32)>(Until::Forever)?, ("one".to_owned(), 1));
    Ok(())
}
