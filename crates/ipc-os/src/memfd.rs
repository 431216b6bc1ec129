//! Sealed memory files: bytes that travel as a descriptor and that nobody can change or cut short any more.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

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

/// What makes the length of a memory file fixed for ever.
const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// A memory file of `len` zero bytes that can be mapped and written by all who have it, and whose length nobody can
/// change any more: no access to a mapping of it can fault for having been cut short. Its pages are taken as they are
/// touched; see [`reserve`].
///
/// # Errors
/// What `memfd_create(2)`, `ftruncate(2)` or sealing report.
pub fn shared(name: &str, len: usize) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&fd, len as u64)?;
    fcntl_add_seals(&fd, FIXED)?;
    Ok(fd)
}

/// The length of a shared memory file that came from somebody else; `None` if it is not one, or not sealed so that it
/// keeps its length.
pub fn fixed_len(fd: impl AsFd) -> Option<u64> {
    let fd = fd.as_fd();
    let seals = fcntl_get_seals(fd).ok()?;
    let len = rustix::fs::fstat(fd).ok()?.st_size;
    if !seals.contains(FIXED) { None } else { u64::try_from(len).ok() }
}

/// How many bytes of memory and swap the machine could give to memory files now, as it says itself. What is given out
/// beyond that is not refused: the kernel ends processes instead.
///
/// # Errors
/// Without `/proc`.
pub fn room() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let kilobytes = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
    };
    Ok((kilobytes("MemAvailable") + kilobytes("SwapFree")).saturating_mul(1024))
}

/// Takes the pages of a range now, so that a system without memory for them says so here and not by a signal at the
/// first touch.
///
/// # Errors
/// `ENOSPC` (`StorageFull`) when there is no room; what else `fallocate(2)` reports.
pub fn reserve(fd: impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(fd.as_fd(), rustix::fs::FallocateFlags::empty(), offset, len) {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// Gives the pages of a range back to the system, whoever has them mapped: they read as zeros, and are taken again as they
/// are touched.
///
/// # Errors
/// What `fallocate(2)` reports for a hole.
pub fn give_back(fd: impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    loop {
        match rustix::fs::fallocate(fd.as_fd(), flags, offset, len) {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
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
    // The length is the sender's word: what it asks for need not be there.
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    while bytes.len() < len {
        let at = bytes.len() as u64;
        match rustix::io::pread(&file, rustix::buffer::spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(fd: impl AsFd, len_max: usize) -> String {
        let error = read_sealed(fd, len_max).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        error.to_string()
    }

    #[test]
    fn a_sealed_file_cannot_be_changed() {
        let file = File::from(sealed("fixed", b"fixed").unwrap());
        assert!((&file).write_all(b"x").is_err());
        assert!(file.set_len(0).is_err() && file.set_len(9).is_err());
        assert!(fcntl_add_seals(&file, SealFlags::empty()).is_err(), "further seals are refused");
        assert_eq!(read_sealed(&file, 5).unwrap(), b"fixed");
        assert_eq!(read_sealed(&file, 5).unwrap(), b"fixed", "reading moves no shared position");
    }

    #[test]
    fn a_shared_file_keeps_its_length() {
        let file = File::from(shared("shared", 10_000).unwrap());
        assert!(file.set_len(0).is_err() && file.set_len(20_000).is_err());
        assert_eq!(fixed_len(&file), Some(10_000));
        reserve(&file, 4096, 4096).unwrap();
        assert!((1 << 20..1 << 50).contains(&room().unwrap()));
        assert!(reserve(&file, 8192, 8192).is_err(), "beyond its end");
        let open = memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert_eq!(fixed_len(open), None);
        assert_eq!(fixed_len(File::open("/dev/null").unwrap()), None);
    }

    #[test]
    fn empty_and_large_ones_come_back() {
        assert_eq!(read_sealed(sealed("empty", b"").unwrap(), 0).unwrap(), b"");
        let bytes: Vec<u8> = (0..5_000_000u32).map(|n| n as u8).collect();
        assert!(read_sealed(sealed("large", &bytes).unwrap(), bytes.len()).unwrap() == bytes);
    }

    #[test]
    fn what_can_still_be_changed_is_not_read() {
        let all = [SealFlags::SHRINK, SealFlags::GROW, SealFlags::WRITE];
        for missing in all {
            let fd = memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
            fcntl_add_seals(&fd, IMMUTABLE - missing).unwrap();
            assert!(refused(fd, 100).contains("not sealed"), "{missing:?}");
        }
        assert!(refused(File::open("/dev/null").unwrap(), 100).contains("not a memory file"));
    }

    #[test]
    fn more_than_the_limit_is_not_read() {
        assert!(refused(sealed("long", &[0; 11]).unwrap(), 10).contains("limit of 10"));
        // Nothing is behind such a length but zeros that take no memory.
        let file =
            File::from(memfd_create("sparse", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap());
        file.set_len(i64::MAX as u64 & !0xfff).unwrap();
        fcntl_add_seals(&file, IMMUTABLE).unwrap();
        assert!(refused(&file, 1 << 30).contains("limit"));
        assert_eq!(read_sealed(&file, usize::MAX).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
    }
}
