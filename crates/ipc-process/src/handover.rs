//! Handing handles to a different program, and picking them up there.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

use ipc_core::{Fingerprint, Schema, handle};
use ipc_os::pidfd::PidFd;
use ipc_os::socket::Mode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bootstrap::{self, HANDOVER_MARKER, HandOver, VERSION};
use crate::builder::{Command, Stdio, Surroundings};
use crate::error::{HandOverError, SpawnError};
use crate::process::Process;
use crate::worker::{self, Parent};

/// A different program to start, with a value of any type, handles included, handed over to it. The program picks it
/// up with [`handed_over`].
///
/// Unlike a [worker](crate::Process::spawn) it is another executable, so the type is checked by its structure; and it
/// has no result: [`Process::join`] succeeds if it exits with code 0.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let events = std::collections::BTreeMap::<u32, u32>::new();
/// let plugin = ipc_process::Program::new("/usr/lib/app/plugin").arg("--verbose").start(&events)?;
/// // … and in the plugin's main: let events: BTreeMap<u32, u32> = ipc_process::handed_over()?;
/// plugin.join()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    surroundings: Surroundings,
    outlives_parent: bool,
}

impl Program {
    /// The program at this path. `PATH` is not searched.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let surroundings = Surroundings::default();
        Program { path: path.into(), args: Vec::new(), surroundings, outlives_parent: false }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable in its environment, which is otherwise a copy of this process's.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.surroundings.env.insert(key.into(), Some(value.into()));
        self
    }

    /// Sets the directory it starts in.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.surroundings.directory = Some(directory.into());
        self
    }

    /// Sets where its standard input, output and error lead.
    pub fn stdio(mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Self {
        self.surroundings.stdio = [stdin, stdout, stderr];
        self
    }

    /// Lets it go on when this process ends. By default it is killed then, from the moment it has picked up what was
    /// handed over.
    pub fn outlives_parent(mut self, yes: bool) -> Self {
        self.outlives_parent = yes;
        self
    }

    /// Starts the program and hands `value` over. Handles with a single owner in it have moved when this returns.
    ///
    /// # Errors
    /// [`SpawnError::Arguments`] when the value cannot be encoded; [`SpawnError::Program`],
    /// [`SpawnError::Directory`], [`SpawnError::Io`].
    pub fn start<T: Serialize + DeserializeOwned>(self, value: &T) -> Result<Process<()>, SpawnError> {
        let mut payload = Vec::new();
        let ((), handles) = handle::outgoing(|| bootstrap::codec().encode(value, &mut payload))?;
        let schema = Schema::of::<T>();
        let head = HandOver {
            version: VERSION,
            fingerprint: schema.fingerprint().to_u64(),
            schema: schema.text().chars().take(SCHEMA_MAX).collect(),
            parent_id: std::process::id(),
            outlives_parent: self.outlives_parent,
        };
        let name = self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let command =
            Command { program: self.path, arg0: None, args: self.args, marker: HANDOVER_MARKER, name };
        let child = self.surroundings.launch(command, &head, payload, handles)?;
        Ok(Process::of_program(child))
    }
}

/// Picks up what the program that [started](Program::start) this one has handed over, once. From then on this process
/// ends with that one, unless it was told to outlive it.
///
/// # Errors
/// [`HandOverError::Nothing`] when this program was started in another way, or at the second call;
/// [`HandOverError::Mismatch`] when the other program handed over something of another structure (both are shown);
/// [`HandOverError::Decode`], [`HandOverError::Protocol`], [`HandOverError::Io`].
pub fn handed_over<T: DeserializeOwned>() -> Result<T, HandOverError> {
    let socket: OwnedFd = bootstrap::inherited(HANDOVER_MARKER).ok_or(HandOverError::Nothing)?;
    let received = bootstrap::receive::<HandOver>(socket.as_fd(), Mode::Wait)?;
    let mut received = received.ok_or_else(|| HandOverError::Protocol("the other program is gone".into()))?;
    let head = received.head;
    if head.version != VERSION {
        return Err(HandOverError::Protocol(format!("version {}, expected {VERSION}", head.version)));
    }
    let parent = received.descriptors.pop_front().map(PidFd::from_descriptor);
    let pidfd =
        parent.ok_or_else(|| HandOverError::Protocol("the other program's descriptor is missing".into()))?;
    let giver = GIVER.get_or_init(|| Parent { id: head.parent_id, pidfd });
    if !head.outlives_parent {
        worker::end_with(giver)?;
    }
    Schema::of::<T>()
        .check(Fingerprint::from_u64(head.fingerprint), &head.schema)
        .map_err(|mismatch| HandOverError::Mismatch(Box::new(mismatch)))?;
    let decode = || bootstrap::codec().decode(&received.payload);
    Ok(handle::incoming(received.descriptors, decode)?)
}

/// The structure is for an error message: of a longer one the beginning has to do.
const SCHEMA_MAX: usize = 4 << 10;

static GIVER: OnceLock<Parent> = OnceLock::new();

/// The process that handed something over to this one.
pub(crate) fn giver() -> Option<&'static Parent> {
    GIVER.get()
}
