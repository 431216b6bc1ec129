//! Sealed memory files: bytes that travel as a descriptor and that nobody can change or cut short any more.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// All that makes a memory file immutable.
const IMMUTABLE: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE);

/// A memory file that holds `bytes` and can no longer be changed by anyone.
///
/// # Errors
/// What `memfd_create(2)`, writing or sealing report (`ENOSPC` and `ENOMEM` when memory is short).
///
/// ```
/// let fd = ipc_os::memfd::sealed("greeting", b"hello")?;
/// assert_eq!(ipc_os::memfd::read_sealed(&fd, 1024)?, b"hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, IMMUTABLE | SealFlags::SEAL)?;
    Ok(file.into())
}

/// The content of a sealed memory file that came from somebody else: read only if nobody can change it meanwhile.
///
/// # Errors
/// `InvalidData` when the file is not sealed, or is longer than `len_max` bytes; else what reading reports.
pub fn read_sealed(fd: impl AsFd, len_max: usize) -> io::Result<Vec<u8>> {
    let fd = fd.as_fd();
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let seals =
        fcntl_get_seals(fd).map_err(|e| invalid(format!("not a memory file that can be sealed: {e}")))?;
    if !seals.contains(IMMUTABLE) {
        return Err(invalid("the memory file is not sealed against changes".into()));
    }
    let file = File::from(fd.try_clone_to_owned()?);
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if len > len_max {
        return Err(invalid(format!("the memory file holds {len} bytes, more than the limit of {len_max}")));
    }
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
