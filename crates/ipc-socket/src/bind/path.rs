//! The path of a listening socket: who has it, and who had it.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use interprocess::local_socket::{ListenerNonblockingMode, ListenerOptions, ToFsName};
use interprocess::os::unix::local_socket::{FilesystemUdSocket, ListenerOptionsExt};
use interprocess::os::unix::uds_local_socket::Listener;
use ipc_os::socket;

use super::{BindError, PRIVATE};
use crate::address::Address;

/// How long one who binds waits for the directory's lock, which nobody holds for long.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one who closes does: what it leaves is taken over by the next.
const PATIENCE_AT_CLOSE: Duration = Duration::from_secs(1);

/// The file that a socket of this process is bound to. Removed when this is dropped, while the socket is still open.
#[derive(Debug)]
pub(super) struct Place {
    /// Stays the same one, whatever becomes of its path and of the working directory.
    directory: File,
    name: OsString,
    identity: (u64, u64),
    /// Copies that a fork makes are not to remove anything.
    pub(super) process: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            return;
        }
        let Ok(_locked) = Locked::take(&self.directory, PATIENCE_AT_CLOSE) else { return };
        if let Ok(Some(entry)) = socket::entry(&self.directory, &self.name)
            && entry.identity == self.identity
        {
            let _left_to_the_next_one = socket::unlink(&self.directory, &self.name);
        }
    }
}

/// Binds and listens at a path; see the [table](super).
pub(super) fn bind(address: &Address, path: &Path, mode: u32) -> Result<(OwnedFd, Place), BindError> {
    let failed = |source| BindError::of(address, source);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let no_directory = |source| BindError::Directory { path: parent.to_owned(), source };
    let directory = File::from(open_or_make(parent).map_err(no_directory)?);
    let locked = Locked::take(&directory, PATIENCE).map_err(|error| match error {
        TryLockError::WouldBlock => BindError::Busy { path: parent.to_owned() },
        TryLockError::Error(source) => no_directory(source),
    })?;
    if let Some(entry) = socket::entry(&directory, name).map_err(failed)? {
        if !entry.is_socket {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        if is_alive(path).map_err(failed)? {
            return Err(BindError::AddressInUse { address: address.clone() });
        }
        match socket::unlink(&directory, name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    let listener = listener(path, mode).map_err(failed)?;
    let identity = match ours(&directory, name, mode) {
        Ok(identity) => identity,
        Err(error) => {
            let _stale_if_it_stays = socket::unlink(&directory, name);
            return Err(failed(error));
        }
    };
    drop(locked);
    let place = Place { directory, name: name.to_owned(), identity, process: std::process::id() };
    Ok((listener, place))
}

/// What has just been bound, with its permissions. The umask may have taken some of them away.
fn ours(directory: &File, name: &OsStr, mode: u32) -> io::Result<(u64, u64)> {
    let entry = socket::entry(directory, name)?.filter(|entry| entry.is_socket);
    let entry = entry.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, "somebody has taken the socket's file away meanwhile")
    })?;
    if mode != PRIVATE {
        socket::set_mode(directory, name, mode)?;
    }
    Ok(entry.identity)
}

fn listener(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let options = ListenerOptions::new()
        .name(path.to_fs_name::<FilesystemUdSocket>()?)
        .mode(mode)
        .reclaim_name(false)
        .nonblocking(ListenerNonblockingMode::Accept);
    socket::listen(options.create_sync_as::<Listener>()?.into(), u32::MAX)
}

/// Whether any process has the socket open that is bound to that file. One that cannot be asked is an error.
///
/// It is asked with a socket of another type, which the kernel tells apart from there being none, and does not connect:
/// the listener notices nothing, and one that is bound and does not listen yet is alive, too.
fn is_alive(path: &Path) -> io::Result<bool> {
    match UnixDatagram::unbound()?.connect(path) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            // A stream, or packets that somebody else gets from it.
            Some(EPROTOTYPE | EPERM) => Ok(true),
            Some(ECONNREFUSED | ENOENT) => Ok(false),
            _ => Err(error),
        },
    }
}

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EPROTOTYPE: i32 = 91;
const ECONNREFUSED: i32 = 111;

/// The directory; if it is not there it is made, with all above it that are missing, for the user alone.
fn open_or_make(path: &Path) -> io::Result<OwnedFd> {
    match socket::open_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            socket::open_directory(path)
        }
        other => other,
    }
}

/// The lock of a directory, held until it is dropped. Given back and not only closed: a child that another thread forks
/// meanwhile has a copy of the descriptor.
struct Locked<'d>(&'d File);

impl<'d> Locked<'d> {
    fn take(directory: &'d File, patience: Duration) -> Result<Self, TryLockError> {
        let start = Instant::now();
        let mut pause = Duration::from_micros(100);
        loop {
            match directory.try_lock() {
                Ok(()) => return Ok(Locked(directory)),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(TryLockError::WouldBlock) if start.elapsed() < patience => {
                    std::thread::sleep(pause);
                    pause = (2 * pause).min(Duration::from_millis(10));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let _goes_with_the_descriptor = self.0.unlock();
    }
}
