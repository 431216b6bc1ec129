//! Raw bytes through an end, for peers that do not speak in frames.

use std::io::{self, Read, Write};

use ipc_core::SendError;

use ipc_stream::{Rx, Tx, Until};

/// Writes raw bytes into a pipe, from [`Sender::raw`](crate::Sender::raw). The rest of a message that has begun goes
/// out first.
#[derive(Debug)]
pub struct RawSender<'a> {
    tx: &'a mut Tx,
}

impl<'a> RawSender<'a> {
    pub(crate) fn new(tx: &'a mut Tx) -> Self {
        RawSender { tx }
    }
}

impl Write for RawSender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        loop {
            match self.tx.end().write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    use std::os::fd::AsFd;
                    ipc_os::poll_writable(self.tx.end().as_fd(), None)?;
                }
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tx.flush(Until::Forever).map_err(|error| match error {
            SendError::Disconnected => io::ErrorKind::BrokenPipe.into(),
            SendError::Io(error) => error,
            error => io::Error::other(error),
        })
    }
}

/// Reads raw bytes out of a pipe, from [`Receiver::raw`](crate::Receiver::raw): first those that the receiver had
/// read ahead.
#[derive(Debug)]
pub struct RawReceiver<'a> {
    rx: &'a mut Rx,
}

impl<'a> RawReceiver<'a> {
    pub(crate) fn new(rx: &'a mut Rx) -> Self {
        RawReceiver { rx }
    }
}

impl Read for RawReceiver<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.rx.read_raw(buf)
    }
}
