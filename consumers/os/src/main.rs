//! Uses `ipc-os` alone: bytes go through a pipe, and a wait says when.

use std::error::Error;
use std::os::fd::AsFd;
use std::time::Duration;

use ipc_os::pipe;

fn main() -> Result<(), Box<dyn Error>> {
    let (reader, writer) = pipe::pipe()?;
    assert!(!ipc_os::poll_readable(reader.as_fd(), Some(Duration::ZERO))?, "nothing has been written");
    assert_eq!(pipe::write(writer.as_fd(), b"ready")?, 5);
    assert!(ipc_os::poll_readable(reader.as_fd(), Some(Duration::from_secs(10)))?);
    let mut buffer = [0; 16];
    assert_eq!(pipe::read(reader.as_fd(), &mut buffer)?, 5);
    assert_eq!(&buffer[..5], b"ready");
    drop(writer);
    assert_eq!(pipe::read(reader.as_fd(), &mut buffer)?, 0, "the writer is gone");
    Ok(())
}
