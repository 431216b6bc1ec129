//! Starting a program without copying the parent, and with no descriptors but those named.
//!
//! `posix_spawn(3)` of glibc and musl starts the child with `CLONE_VM | CLONE_VFORK`: its cost does not grow with
//! the parent's memory, and no code of ours runs between fork and exec, so it may be called from any thread. (A
//! closure for `pre_exec` would force the standard library to a real fork.)

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::fd::duplicate;
use crate::pidfd::PidFd;

/// What to start, and how.
#[derive(Debug)]
pub struct Spawn<'a> {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    descriptors: Vec<(BorrowedFd<'a>, i32)>,
}

/// A process that was started.
#[derive(Debug)]
pub struct Spawned {
    /// Its number.
    pub pid: u32,
    /// Its descriptor.
    pub pidfd: PidFd,
}

impl<'a> Spawn<'a> {
    /// The program at this path (`PATH` is not searched), with its name as the only argument, an empty
    /// environment, this process's directory and standard streams, and no other descriptor.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        let args = vec![program.clone().into_os_string()];
        Spawn { program, args, env: Vec::new(), directory: None, descriptors: Vec::new() }
    }

    /// Sets the name that the program sees as its own (the argument with index 0).
    pub fn arg0(mut self, name: impl Into<OsString>) -> Self {
        self.args[0] = name.into();
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the whole environment.
    pub fn env(mut self, env: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.env = env.into_iter().collect();
        self
    }

    /// Sets the directory that it starts in.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Gives it `fd` as the descriptor with number `number`, standard streams (0 to 2) included.
    pub fn descriptor(mut self, fd: BorrowedFd<'a>, number: i32) -> Self {
        self.descriptors.push((fd, number));
        self
    }

    /// Starts it. Signals are unblocked and SIGPIPE is at its default in it, as `std::process` does.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied` and what else `posix_spawn(3)` reports of the program; `InvalidInput` for a
    /// zero byte in a name, or a negative descriptor number.
    pub fn start(&self) -> io::Result<Spawned> {
        let program = c_string(self.program.as_os_str())?;
        let args = self.args.iter().map(c_string).collect::<io::Result<Vec<_>>>()?;
        let env = self
            .env
            .iter()
            .map(|(key, value)| Ok(CString::new([key.as_bytes(), b"=", value.as_bytes()].concat())?))
            .collect::<io::Result<Vec<_>>>()?;
        let directory = self.directory.as_deref().map(Path::as_os_str).map(c_string).transpose()?;

        if self.descriptors.iter().any(|(_, number)| *number < 0) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // First to numbers above all targets, so that no target is overwritten before it has been a source.
        let first_free = self.descriptors.iter().map(|(_, number)| number + 1).max().unwrap_or(0).max(3);
        let staged = self
            .descriptors
            .iter()
            .map(|(fd, number)| Ok((duplicate(fd.as_fd(), first_free)?, *number)))
            .collect::<io::Result<Vec<_>>>()?;

        let mut actions = Actions::new()?;
        for (fd, number) in &staged {
            actions.dup2(fd.as_raw_fd(), *number)?;
        }
        if let Some(directory) = &directory {
            actions.chdir(directory)?;
        }
        // Numbers between the standard streams and the highest named one are closed one by one.
        for number in (3..first_free).filter(|n| !self.descriptors.iter().any(|(_, named)| named == n)) {
            actions.close(number)?;
        }
        actions.close_from(first_free)?;
        let attributes = Attributes::new()?;
        let pid = spawn(&program, &actions, &attributes, &args, &env)?;
        // Nobody but us reaps it, usually, so the number is still its own.
        match PidFd::open(pid) {
            Ok(pidfd) => Ok(Spawned { pid, pidfd }),
            // It has ended already and was reaped by somebody else (SIGCHLD is ignored, say). It was started, though.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                Ok(Spawned { pid, pidfd: PidFd::of_gone()? })
            }
            Err(error) => {
                end_unwatched(pid);
                Err(error)
            }
        }
    }
}

/// Without a pidfd (no descriptor left, or an old kernel) a child could not be watched: it must not be left behind.
fn end_unwatched(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    }
}

fn c_string(text: impl AsRef<OsStr>) -> io::Result<CString> {
    Ok(CString::new(text.as_ref().as_bytes())?)
}

fn check(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

fn spawn(
    program: &CStr,
    actions: &Actions,
    attributes: &Attributes,
    args: &[CString],
    env: &[CString],
) -> io::Result<u32> {
    let pointers = |strings: &[CString]| -> Vec<*mut libc::c_char> {
        strings.iter().map(|s| s.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect()
    };
    let (argv, envp) = (pointers(args), pointers(env));
    let mut pid = 0;
    // SAFETY: `actions` and `attributes` were initialised; `argv` and `envp` are null-terminated arrays of strings
    // that outlive the call; `posix_spawn` does not write through them in spite of its C type.
    let code = unsafe {
        libc::posix_spawn(&mut pid, program.as_ptr(), &actions.0, &attributes.0, argv.as_ptr(), envp.as_ptr())
    };
    check(code)?;
    Ok(pid.unsigned_abs())
}

/// File actions, destroyed with this value.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut actions = std::mem::MaybeUninit::uninit();
        // SAFETY: the call initialises what it is given.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: initialised above. It holds no pointer to itself, so it may be moved (POSIX allows no copies in
        // use, and there are none).
        Ok(Actions(unsafe { actions.assume_init() }))
    }

    fn dup2(&mut self, from: i32, to: i32) -> io::Result<()> {
        // SAFETY: the actions are initialised; the numbers are only recorded.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&mut self.0, from, to) })
    }

    fn close(&mut self, fd: i32) -> io::Result<()> {
        // SAFETY: as above. Closing a number that is not open is no error in glibc and musl.
        check(unsafe { libc::posix_spawn_file_actions_addclose(&mut self.0, fd) })
    }

    fn chdir(&mut self, directory: &CStr) -> io::Result<()> {
        // SAFETY: as above; the string is copied.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&mut self.0, directory.as_ptr()) })
    }

    #[cfg(target_env = "gnu")]
    fn close_from(&mut self, lowest: i32) -> io::Result<()> {
        // SAFETY: as above.
        check(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(&mut self.0, lowest) })
    }

    /// musl has no such action: what is open now and lacks close-on-exec is closed by number.
    #[cfg(not(target_env = "gnu"))]
    fn close_from(&mut self, lowest: i32) -> io::Result<()> {
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
            if let Some(number) = number.filter(|n| *n >= lowest) {
                self.close(number)?;
            }
        }
        Ok(())
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}

/// Spawn attributes, destroyed with this value.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut attributes = std::mem::MaybeUninit::uninit();
        // SAFETY: the call initialises what it is given.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: initialised above.
        let mut attributes = Attributes(unsafe { attributes.assume_init() });
        let mut default = nix::sys::signal::SigSet::empty();
        default.add(nix::sys::signal::Signal::SIGPIPE);
        let none = nix::sys::signal::SigSet::empty();
        // SAFETY: the attributes are initialised, the set outlives the call, which copies it.
        check(unsafe { libc::posix_spawnattr_setsigdefault(&mut attributes.0, default.as_ref()) })?;
        // SAFETY: as above.
        check(unsafe { libc::posix_spawnattr_setsigmask(&mut attributes.0, none.as_ref()) })?;
        let flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        // SAFETY: as above.
        check(unsafe { libc::posix_spawnattr_setflags(&mut attributes.0, flags as libc::c_short) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pidfd::Exit;
    use std::io::Read;

    fn shell(script: &str) -> Spawn<'static> {
        Spawn::new("/bin/sh").args(["-c", script])
    }

    #[test]
    fn a_program_gets_what_it_was_given_and_nothing_else() {
        let (reader, writer) = crate::pipe::pipe().unwrap();
        // A descriptor without close-on-exec, as a careless C library would leave it behind.
        let stray = duplicate(&reader, 40).unwrap();
        rustix::io::fcntl_setfd(&stray, rustix::io::FdFlags::empty()).unwrap();
        let spawned = shell("ls /proc/self/fd | tr '\\n' ' ' >&7; echo \"$X in $PWD\" >&7")
            .env([("X".into(), "yes".into()), ("PATH".into(), "/usr/bin:/bin".into())])
            .directory("/")
            .descriptor(writer.as_fd(), 7)
            .start()
            .unwrap();
        drop((writer, stray));
        assert_eq!(spawned.pidfd.wait_and_reap().unwrap(), Exit::Code(0));
        let mut text = String::new();
        std::fs::File::from(reader).read_to_string(&mut text).unwrap();
        // `ls` itself holds 3, the directory it lists.
        assert_eq!(text, "0 1 2 3 7 yes in /\n");
    }

    #[test]
    fn exchanged_numbers_do_not_overwrite_each_other() {
        let (a_reader, a) = crate::pipe::pipe().unwrap();
        let (b_reader, b) = crate::pipe::pipe().unwrap();
        let (to_a, to_b) = (b.as_raw_fd(), a.as_raw_fd());
        let spawned = shell(&format!("printf a >/proc/self/fd/{to_a}; printf b >/proc/self/fd/{to_b}"))
            .descriptor(a.as_fd(), to_a)
            .descriptor(b.as_fd(), to_b)
            .start()
            .unwrap();
        drop((a, b));
        spawned.pidfd.wait_and_reap().unwrap();
        let read = |fd| std::io::read_to_string(std::fs::File::from(fd)).unwrap();
        assert_eq!((read(a_reader), read(b_reader)), ("a".into(), "b".into()));
    }

    #[test]
    fn a_large_parent_is_not_copied() {
        // A fork would copy the tables of this memory, and write-protect each page, which is a fault when it is
        // written next.
        ipc_testkit::alone("spawn::tests::a_large_parent_is_not_copied", || {
            rustix::thread::disable_transparent_huge_pages(true).unwrap();
            let mut memory = vec![1u8; 256 << 20];
            let mut faults_by = |start: fn()| {
                let before = minor_faults();
                start();
                memory.chunks_mut(4096).for_each(|page| page[0] += 1);
                std::hint::black_box(&memory);
                minor_faults() - before
            };
            let spawned = faults_by(|| {
                let spawned = shell("exit 3").start().unwrap();
                assert_eq!(spawned.pidfd.wait_and_reap().unwrap(), Exit::Code(3));
            });
            assert!(spawned < 1000, "{spawned} page faults");
            // That this would be seen.
            let forked = faults_by(|| {
                let mut command = std::process::Command::new("true");
                // SAFETY: the closure does nothing.
                unsafe { std::os::unix::process::CommandExt::pre_exec(&mut command, || Ok(())) };
                assert!(command.status().unwrap().success());
            });
            assert!(forked > 60_000, "{forked} page faults");
        });
    }

    /// The pages that this process had to be given without reading a file (field 10 of `/proc/self/stat`).
    fn minor_faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(7).unwrap().parse().unwrap()
    }

    #[test]
    fn signals_are_unblocked_and_sigpipe_is_at_its_default() {
        let (reader, writer) = crate::pipe::pipe().unwrap();
        let spawned = crate::signals::with_all_blocked(|| {
            shell("grep -E 'SigBlk|SigIgn' /proc/self/status >&3").descriptor(writer.as_fd(), 3).start()
        });
        drop(writer);
        assert_eq!(spawned.unwrap().unwrap().pidfd.wait_and_reap().unwrap(), Exit::Code(0));
        let text = std::io::read_to_string(std::fs::File::from(reader)).unwrap();
        let mask = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
        };
        assert_eq!(mask("SigBlk"), 0, "{text}");
        assert_eq!(mask("SigIgn") & (1 << (libc::SIGPIPE - 1)), 0, "{text}");
    }

    #[test]
    fn nothing_is_left_open_by_a_spawn_that_fails() {
        ipc_testkit::alone("spawn::tests::nothing_is_left_open_by_a_spawn_that_fails", || {
            let (reader, _writer) = crate::pipe::pipe().unwrap();
            let before = ipc_testkit::open_descriptors();
            assert!(Spawn::new("/no/such/program").descriptor(reader.as_fd(), 5).start().is_err());
            assert!(shell("").descriptor(reader.as_fd(), -1).start().is_err());
            assert!(shell("").directory("/no/such/directory").start().is_err());
            assert_eq!(ipc_testkit::open_descriptors(), before);
        });
    }

    #[test]
    fn a_missing_program_is_an_error_here() {
        let error = Spawn::new("/no/such/program").start().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
