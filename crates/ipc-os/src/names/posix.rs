//! Names of POSIX shared memory, as `shm_open(3)` and CPython's `multiprocessing.shared_memory` use them: plain files in
//! `/dev/shm`, without a word of ours in them, and without anybody who counts their users. Such a name stays until it
//! is unlinked, or the machine is started again.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{NAME_LEN_MAX, NameError};

/// Where `shm_open(3)` of the C libraries of Linux has its files, whatever the environment says.
const DIRECTORY: &str = "/dev/shm";

/// `statfs(2)` says so of a `tmpfs` and of memory files.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Makes a file of `len` zero bytes, mode 0600, with memory behind all of them. The name appears when it is ready: who
/// opens it finds all of it.
///
/// On kernels without files that have no name yet (`O_TMPFILE`), or without `/proc`, the name is there a moment before the
/// length, as with everybody else's `shm_open`; and whoever is killed in between leaves an empty file.
///
/// # Errors
/// [`NameError::AlreadyExists`], [`NameError::BadName`], [`NameError::NoSpace`], [`NameError::NoDirectory`] without
/// `/dev/shm`; `InvalidInput`, as [`NameError::Io`], for no bytes.
pub fn create(name: &str, len: u64) -> Result<OwnedFd, NameError> {
    let path = path(name)?;
    if rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        // Seen before any memory is taken for it.
        return Err(NameError::AlreadyExists { name: name.to_owned() });
    }
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, DIRECTORY, flags | OFlags::TMPFILE, mode) {
        Ok(file) => {
            take(&file, len)?;
            let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
            match rustix::fs::linkat(CWD, unnamed, CWD, &path, AtFlags::SYMLINK_FOLLOW) {
                Ok(()) => return Ok(file),
                // Without /proc; what it has taken it gives back.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(named(error, name)),
            }
        }
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
        Err(Errno::NOENT) => {
            return Err(NameError::NoDirectory { path: DIRECTORY.into(), source: Errno::NOENT.into() });
        }
        Err(error) => return Err(named(error, name)),
    }
    let exclusive = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(CWD, &path, exclusive, mode).map_err(|error| named(error, name))?;
    take(&file, len).inspect_err(|_| {
        let _left_behind = rustix::fs::unlink(&path);
    })?;
    Ok(file)
}

/// Opens a file, of whatever length it is; for reading alone unless `writable`.
///
/// # Errors
/// [`NameError::NotFound`], [`NameError::BadName`], [`NameError::WrongOwner`] if it is no regular file, or what
/// `open(2)` reports, `PermissionDenied` for example.
pub fn open(name: &str, writable: bool) -> Result<OwnedFd, NameError> {
    let path = path(name)?;
    let access = if writable { OFlags::RDWR } else { OFlags::RDONLY };
    // As shm_open does; and not to wait, or to do anything, if it is no file.
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let wrong = || NameError::WrongOwner { path: path.clone().into() };
    let file = match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(wrong()),
        Err(error) => return Err(named(error, name)),
    };
    let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(wrong());
    }
    Ok(file)
}

/// Takes a name away. Whoever has the file open keeps it.
///
/// # Errors
/// [`NameError::NotFound`], [`NameError::BadName`], or what `unlink(2)` reports.
pub fn unlink(name: &str) -> Result<(), NameError> {
    rustix::fs::unlink(path(name)?).map_err(|error| named(error, name))
}

/// Whether the name means this very file.
///
/// # Errors
/// [`NameError::BadName`], or what `stat(2)` reports of either.
pub fn means(name: &str, file: impl AsFd) -> Result<bool, NameError> {
    match rustix::fs::statat(CWD, path(name)?, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok((stat.st_dev, stat.st_ino) == crate::fd::identity(file)?),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(NameError::Io(error.into())),
    }
}

/// Whether a descriptor is a regular file in memory: of a `tmpfs`, or a memory file. A file of another kind is read
/// by whoever serves its file system, at whatever speed.
///
/// # Errors
/// What `fstat(2)` or `fstatfs(2)` report.
pub fn is_in_memory(file: impl AsFd) -> io::Result<bool> {
    let is_file = crate::fd::kind(&file)? == crate::fd::Kind::File;
    Ok(is_file && rustix::fs::fstatfs(file)?.f_type as u64 == TMPFS_MAGIC)
}

/// The length, and the memory for it.
fn take(file: &OwnedFd, len: u64) -> Result<(), NameError> {
    rustix::fs::ftruncate(file, len).map_err(io::Error::from)?;
    crate::memfd::reserve(file, 0, len).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            NameError::NoSpace { len, source: error }
        }
        _ => NameError::Io(error),
    })
}

fn named(error: Errno, name: &str) -> NameError {
    match error {
        Errno::EXIST => NameError::AlreadyExists { name: name.to_owned() },
        Errno::NOENT => NameError::NotFound { name: name.to_owned() },
        Errno::NOSPC => NameError::NoSpace { len: 0, source: error.into() },
        error => NameError::Io(error.into()),
    }
}

/// The file of a name, with or without the slash that POSIX wants in front.
fn path(name: &str) -> Result<String, NameError> {
    let plain = name.strip_prefix('/').unwrap_or(name);
    let is_good = (1..=NAME_LEN_MAX).contains(&plain.len())
        && !plain.starts_with('.')
        && plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if is_good {
        Ok(format!("{DIRECTORY}/{plain}"))
    } else {
        Err(NameError::BadName { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_name_is_what_shm_open_makes_of_it() {
        let name = format!("ipc-os-posix-{}", std::process::id());
        let path = format!("/dev/shm/{name}");
        let file = create(&name, 5000).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.len(), found.mode() & 0o777), (5000, 0o600));
        assert!(found.blocks() * 512 >= 5000, "there is memory behind it");
        assert!(matches!(create(&name, 1), Err(NameError::AlreadyExists { .. })));
        let slashed = format!("/{name}");
        assert!(means(&slashed, &file).unwrap() && means(&name, open(&slashed, false).unwrap()).unwrap());
        fs::write(&path, "changed").unwrap();
        assert_eq!(io::read_to_string(File::from(open(&name, true).unwrap())).unwrap(), "changed");
        assert!(is_in_memory(&file).unwrap());
        unlink(&slashed).unwrap();
        assert!(!means(&name, &file).unwrap());
        assert!(matches!(unlink(&name), Err(NameError::NotFound { .. })));
        assert!(matches!(open(&name, true), Err(NameError::NotFound { .. })));
    }

    #[test]
    fn what_cannot_be_made_leaves_nothing() {
        let name = format!("ipc-os-posix-no-{}", std::process::id());
        assert!(matches!(create(&name, 1 << 50), Err(NameError::NoSpace { .. })));
        assert!(matches!(create(&name, 0), Err(NameError::Io(_))));
        assert!(matches!(open(&name, true), Err(NameError::NotFound { .. })));
        for bad in ["", "/", "//a", ".a", "a/b", "a\0"] {
            assert!(matches!(create(bad, 1), Err(NameError::BadName { .. })), "{bad:?}");
        }
    }

    #[test]
    fn other_files_are_told_apart() {
        assert!(!is_in_memory(File::open("/dev/null").unwrap()).unwrap());
        assert!(!is_in_memory(File::open("/proc/self/stat").unwrap()).unwrap());
        assert!(is_in_memory(crate::memfd::shared("t", 1).unwrap()).unwrap());
    }
}
