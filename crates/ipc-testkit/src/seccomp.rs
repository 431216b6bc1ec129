//! A kernel that lacks some system calls, for tests of what is done without them.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// `futex_waitv(2)`, the same number on every architecture.
pub const FUTEX_WAITV: i64 = 449;

/// `get_robust_list(2)`.
pub const GET_ROBUST_LIST: i64 = if cfg!(target_arch = "x86_64") { 274 } else { 100 };

/// From now on these system calls fail with `ENOSYS` in this process: in the calling thread, in threads and processes
/// that it starts, and in the programs that those run. It cannot be undone.
///
/// # Errors
/// Where the kernel has no seccomp filters, or this library does not know the architecture.
pub fn deny(calls: &[i64]) -> io::Result<()> {
    const ENOSYS: u32 = 38;
    let arch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(ENOSYS), arch);
    let program: BpfProgram = filter.and_then(BpfProgram::try_from).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_denied_call_does_not_exist_for_the_thread_and_its_children() {
        std::thread::spawn(|| {
            const SYMLINK: i64 = if cfg!(target_arch = "x86_64") { 88 } else { 36 };
            const SYMLINKAT: i64 = if cfg!(target_arch = "x86_64") { 266 } else { 36 };
            super::deny(&[SYMLINK, SYMLINKAT]).unwrap();
            let error = std::os::unix::fs::symlink("a", "/b/c").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(38));
            std::fs::metadata("/").unwrap();
            let child = std::process::Command::new("ln").args(["-s", "a", "/b/c"]).output().unwrap();
            assert!(!child.status.success());
        })
        .join()
        .unwrap();
        let error = std::os::unix::fs::symlink("a", "/no/such/place").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
}
