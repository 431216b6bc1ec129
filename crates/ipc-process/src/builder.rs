//! How a process is started.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use ipc_core::handle;
use ipc_os::pidfd::PidFd;
use ipc_os::socket::{self, Style};
use ipc_os::spawn::Spawn;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bootstrap::{self, MARKER, NUMBER, Start, VERSION};
use crate::children::{self, Child};
use crate::error::SpawnError;
use crate::function::{self, WorkerFn};
use crate::process::Process;
use crate::worker;

/// Where a standard stream of a new process leads.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// Where this process's leads.
    #[default]
    Inherit,
    /// Nowhere: `/dev/null`.
    Null,
    /// Here.
    Descriptor(OwnedFd),
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Stdio::Descriptor(fd)
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        Stdio::Descriptor(file.into())
    }
}

/// What a new process gets besides its function; made by [`Process::builder`].
#[derive(Debug, Default)]
pub struct Builder {
    name: Option<String>,
    pub(crate) surroundings: Surroundings,
    executable: Option<PathBuf>,
    outlives_parent: bool,
}

/// Names are shown to people: longer ones are cut.
const NAME_MAX: usize = 100;

/// What every new process gets, workers and other programs alike.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) clear_env: bool,
    /// `None` removes a variable.
    pub(crate) env: BTreeMap<OsString, Option<OsString>>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) stdio: [Stdio; 3],
}

/// What is started, and what it is called.
pub(crate) struct Command {
    pub(crate) program: PathBuf,
    pub(crate) arg0: Option<OsString>,
    pub(crate) args: Vec<OsString>,
    /// The variable that names its end of the sockets.
    pub(crate) marker: &'static str,
    pub(crate) name: String,
}

impl Surroundings {
    /// Starts a program with `head`, `payload` and `handles` waiting for it; the handles have moved when this returns.
    pub(crate) fn launch(
        &self,
        command: Command,
        head: &impl Serialize,
        payload: Vec<u8>,
        handles: handle::Outgoing,
    ) -> Result<Arc<Child>, SpawnError> {
        children::reap_forgotten();
        let (ours, theirs) = socket::pair(Style::Packets)?;
        let parent = PidFd::of_self()?;
        let descriptors: Vec<BorrowedFd<'_>> = std::iter::once(parent.as_fd())
            .chain(handles.descriptors().iter().map(|fd| fd.as_fd()))
            .collect();
        // Queued before the process exists: nobody has to wait for anybody.
        bootstrap::send(ours.as_fd(), head, &payload, &descriptors)?;
        drop(payload);
        let Command { program, arg0, args, marker, name } = command;
        let spawned = self.start(program, arg0, args, marker, &theirs)?;
        drop(theirs);
        drop(descriptors);
        handles.commit();
        let child = Arc::new(Child::new(spawned, name, Some(ours)));
        children::add(&child);
        Ok(child)
    }

    /// Starts `program` with these surroundings; `socket` becomes its descriptor [`NUMBER`], named by `marker`.
    fn start(
        &self,
        program: PathBuf,
        arg0: Option<OsString>,
        args: Vec<OsString>,
        marker: &str,
        socket: &OwnedFd,
    ) -> Result<ipc_os::spawn::Spawned, SpawnError> {
        let mut env: BTreeMap<OsString, OsString> =
            if self.clear_env { BTreeMap::new() } else { std::env::vars_os().collect() };
        for stale in [MARKER, bootstrap::HANDOVER_MARKER] {
            env.remove(OsStr::new(stale));
        }
        for (key, value) in &self.env {
            match value {
                Some(value) => env.insert(key.clone(), value.clone()),
                None => env.remove(key),
            };
        }
        env.insert(marker.into(), bootstrap::marker(socket)?.into());

        // In the new process it is looked up after the change of directory.
        let program = std::path::absolute(program)?;
        let null = self.stdio.iter().any(|s| matches!(s, Stdio::Null)).then(open_null).transpose()?;
        let mut spawn = Spawn::new(&program).args(args).env(env).descriptor(socket.as_fd(), NUMBER);
        if let Some(arg0) = arg0 {
            spawn = spawn.arg0(arg0);
        }
        for (number, stdio) in (0..).zip(&self.stdio) {
            let fd: Option<BorrowedFd<'_>> = match stdio {
                Stdio::Inherit => None,
                Stdio::Null => null.as_ref().map(AsFd::as_fd),
                Stdio::Descriptor(fd) => Some(fd.as_fd()),
            };
            if let Some(fd) = fd {
                spawn = spawn.descriptor(fd, number);
            }
        }
        if let Some(directory) = &self.directory {
            spawn = spawn.directory(directory);
        }
        spawn.start().map_err(|source| match &self.directory {
            Some(directory) if !directory.is_dir() => {
                SpawnError::Directory { directory: directory.clone(), source }
            }
            _ if is_of_program(&source) => SpawnError::Program { program, source },
            _ => SpawnError::Io(source),
        })
    }
}

/// Whether an error of `posix_spawn` says something of the file that was to be executed.
fn is_of_program(error: &io::Error) -> bool {
    const ENOEXEC: i32 = 8;
    const ELIBBAD: i32 = 80;
    const ELOOP: i32 = 40;
    use io::ErrorKind::{ExecutableFileBusy, IsADirectory, NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | PermissionDenied | NotADirectory | IsADirectory | ExecutableFileBusy)
        || matches!(error.raw_os_error(), Some(ENOEXEC | ELOOP | ELIBBAD))
}

fn open_null() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

impl Builder {
    /// Names the process (with up to 100 characters), for its own [`current`](crate::current), for [`active_children`](crate::active_children)
    /// and (15 bytes of it) for `ps`. By default it is named after its function.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().chars().take(NAME_MAX).collect());
        self
    }

    /// Sets a variable in its environment, which is otherwise a copy of this process's.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.surroundings.env.insert(key.into(), Some(value.into()));
        self
    }

    /// Takes a variable out of its environment.
    pub fn env_remove(mut self, key: impl Into<OsString>) -> Self {
        self.surroundings.env.insert(key.into(), None);
        self
    }

    /// Starts with an empty environment instead of a copy of this process's.
    pub fn env_clear(mut self) -> Self {
        self.surroundings.clear_env = true;
        self.surroundings.env.clear();
        self
    }

    /// Sets the directory it starts in, instead of this process's.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.surroundings.directory = Some(directory.into());
        self
    }

    /// Sets where its standard input comes from.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.surroundings.stdio[0] = stdio.into();
        self
    }

    /// Sets where its standard output goes.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.surroundings.stdio[1] = stdio.into();
        self
    }

    /// Sets where its standard error goes.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.surroundings.stdio[2] = stdio.into();
        self
    }

    /// Lets it go on when this process ends. By default it is killed then, however this process ends.
    pub fn outlives_parent(mut self, yes: bool) -> Self {
        self.outlives_parent = yes;
        self
    }

    /// Starts this file instead of `/proc/self/exe`, where that cannot be used (no `/proc`). It must be the same
    /// build of the same program: another one is refused by the new process. A relative path is looked up from this
    /// process's directory.
    pub fn executable(mut self, path: impl Into<PathBuf>) -> Self {
        self.executable = Some(path.into());
        self
    }

    /// Starts the process: see [`Process::spawn`].
    ///
    /// # Errors
    /// As there; [`SpawnError::Directory`] for one that it cannot start in.
    pub fn spawn<F, A>(self, function: F, args: A) -> Result<Process<F::Out>, SpawnError>
    where
        F: WorkerFn<A>,
        A: Serialize + DeserializeOwned,
        F::Out: Serialize + DeserializeOwned,
    {
        // Only the type is needed: its value has no content.
        let _ = function;
        let offset = function::offset_of::<F, A>().map_err(SpawnError::Function)?;
        let mut payload = Vec::new();
        let ((), handles) = handle::outgoing(|| bootstrap::codec().encode(&args, &mut payload))?;
        let name = self.name.unwrap_or_else(|| short_name(std::any::type_name::<F>()));
        let start = Start {
            version: VERSION,
            image: ipc_os::image::identity().to_vec(),
            function: offset,
            name: name.clone(),
            parent_id: std::process::id(),
            outlives_parent: self.outlives_parent,
        };
        worker::check_may_spawn()?;

        let program = Command {
            program: self.executable.unwrap_or_else(|| "/proc/self/exe".into()),
            arg0: std::env::args_os().next(),
            // Seen in `ps`; and should it reach a test harness in spite of all, that finds no test of this name.
            args: vec![format!("ipc-worker:{name}").into()],
            marker: MARKER,
            name,
        };
        let child = self.surroundings.launch(program, &start, payload, handles)?;
        // The ends that were given away are closed here now.
        drop(args);
        Ok(Process::new(child))
    }
}

/// A function's type name without its modules: `demo::worker<alloc::string::String>` becomes `worker<String>`.
fn short_name(type_name: &str) -> String {
    let mut short = String::new();
    let mut segment = String::new();
    for c in type_name.chars() {
        if c.is_alphanumeric() || c == '_' {
            segment.push(c);
        } else if c == ':' {
            segment.clear();
        } else {
            short.push_str(&segment);
            segment.clear();
            short.push(c);
        }
    }
    short.push_str(&segment);
    if short.contains("{{") { "closure".to_owned() } else { short.chars().take(NAME_MAX).collect() }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_lose_their_modules() {
        assert_eq!(super::short_name("a::b::worker"), "worker");
        assert_eq!(super::short_name("a::sum<alloc::vec::Vec<u8>>"), "sum<Vec<u8>>");
        assert_eq!(super::short_name("a::main::{{closure}}"), "closure");
    }
}
