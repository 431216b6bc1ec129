//! What can go wrong with processes.

use std::fmt;
use std::io;
use std::path::PathBuf;

use ipc_core::{Classify, DecodeError, EncodeError, ErrorKind, Mismatch};
use ipc_os::pidfd::Exit;
use serde::{Deserialize, Serialize};

/// Why a process was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The program's `main` has not called [`init`](crate::init), so that a worker would run `main` again instead.
    #[error(
        "call `ipc_process::init()` at the start of `main` (in tests: the feature `test`) before spawning"
    )]
    NotInitialised,
    /// The function's code is not in the main program.
    #[error("the function cannot be named to another process")]
    Function(#[source] io::Error),
    /// The arguments could not be encoded.
    #[error("the arguments could not be encoded")]
    Arguments(#[from] EncodeError),
    /// The program could not be executed.
    #[error("{} could not be executed", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process could not be started in that directory.
    #[error("no process can be started in {}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system reported something else: no descriptor, process or memory left, usually.
    #[error("a process could not be started")]
    Io(#[from] io::Error),
}

impl Classify for SpawnError {
    fn kind(&self) -> ErrorKind {
        match self {
            SpawnError::NotInitialised | SpawnError::Function(_) => ErrorKind::InvalidInput,
            SpawnError::Arguments(error) => error.kind(),
            SpawnError::Program { source, .. }
            | SpawnError::Directory { source, .. }
            | SpawnError::Io(source) => ErrorKind::of_io(source),
        }
    }
}

/// Why there is no result of a process: how else it ended, or that it has not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// It is still running.
    #[error("the process is still running")]
    Running,
    /// The function panicked.
    #[error("the process panicked: {0}")]
    Panicked(Box<PanicReport>),
    /// It called `exit` with this code instead of returning (from another thread, perhaps).
    #[error("the process exited with code {code} instead of returning")]
    Exited {
        /// The exit code.
        code: i32,
    },
    /// A signal ended it.
    #[error("the process was killed by {}", signal_name(*signal))]
    Killed {
        /// The signal's number.
        signal: i32,
        /// It left a core dump.
        core_dumped: bool,
    },
    /// The function was never called.
    #[error("the process never started: {0}")]
    NeverStarted(NeverStarted),
    /// The function returned, but its result could not be encoded there.
    #[error("the result could not be encoded: {0}")]
    ResultNotEncoded(String),
    /// The function returned, but its result could not be decoded here.
    #[error("the result could not be decoded")]
    Result(#[from] DecodeError),
    /// The result has been taken by an earlier call.
    #[error("the process was joined before, its result is gone")]
    AlreadyJoined,
    /// It left neither a result nor a panic, and somebody else has taken the exit status: another part of the program waits for any child, or SIGCHLD is ignored.
    #[error(
        "the exit status was taken by another part of the program (a wait for any child, or SIGCHLD is ignored)"
    )]
    StatusTaken,
    /// The system reported something else.
    #[error("waiting for the process failed")]
    Io(#[from] io::Error),
}

impl Classify for JoinError {
    fn kind(&self) -> ErrorKind {
        match self {
            JoinError::Running => ErrorKind::Timeout,
            JoinError::Result(error) => error.kind(),
            JoinError::ResultNotEncoded(_) => ErrorKind::Encode,
            JoinError::NeverStarted(NeverStarted::AnotherImage) => ErrorKind::Mismatch,
            JoinError::Panicked(_)
            | JoinError::Exited { .. }
            | JoinError::Killed { .. }
            | JoinError::NeverStarted(_) => ErrorKind::Failed,
            JoinError::AlreadyJoined | JoinError::StatusTaken => ErrorKind::Moved,
            JoinError::Io(error) => ErrorKind::of_io(error),
        }
    }
}

/// Why a worker never called its function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum NeverStarted {
    /// It runs another program, or another build of this one.
    #[error("it runs another program or another build of this one")]
    AnotherImage,
    /// It ended with this code before it called [`init`](crate::init).
    #[error("it exited with code {0} before `ipc_process::init()`: does its `main` call that first?")]
    Exited(i32),
    /// A signal ended it before it called [`init`](crate::init).
    #[error("it was killed by {} before `ipc_process::init()`", signal_name(*.0))]
    Killed(i32),
    /// It could not take over what it was given.
    #[error("{0}")]
    Failed(String),
}

/// A panic in another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PanicReport {
    /// What it said.
    pub message: String,
    /// Where it happened.
    pub location: Option<Location>,
    /// The thread it happened in.
    pub thread: String,
    /// The stack at that time, as text; long ones are cut.
    pub backtrace: String,
}

impl PanicReport {
    pub(crate) fn new(
        message: String,
        location: Option<Location>,
        thread: String,
        backtrace: String,
    ) -> Self {
        PanicReport { message, location, thread, backtrace }
    }
}

impl fmt::Display for PanicReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.location {
            Some(at) => write!(f, " (at {at})"),
            None => Ok(()),
        }
    }
}

/// A place in the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The file, as the compiler was given it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Why nothing was picked up from the program that started this one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandOverError {
    /// This program was not started with anything handed over, or it was picked up before.
    #[error("nothing was handed over to this process")]
    Nothing,
    /// The other program handed over something of another structure.
    #[error(transparent)]
    Mismatch(Box<Mismatch>),
    /// It could not be decoded.
    #[error("what was handed over could not be decoded")]
    Decode(#[from] DecodeError),
    /// What came is not understood: the two programs use versions of this crate that do not fit.
    #[error("what was handed over is not understood: {0}")]
    Protocol(String),
    /// The system reported something.
    #[error("what was handed over could not be received")]
    Io(#[from] io::Error),
}

impl Classify for HandOverError {
    fn kind(&self) -> ErrorKind {
        match self {
            HandOverError::Nothing => ErrorKind::NotFound,
            HandOverError::Mismatch(_) => ErrorKind::Mismatch,
            HandOverError::Decode(error) => error.kind(),
            HandOverError::Protocol(_) => ErrorKind::Decode,
            HandOverError::Io(error) => ErrorKind::of_io(error),
        }
    }
}

/// A signal for a person to read.
pub(crate) fn signal_name(number: i32) -> String {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return format!("signal {number}"),
    };
    name.to_owned()
}

pub(crate) fn ended_before_start(exit: Exit) -> NeverStarted {
    match exit {
        Exit::Code(code) => NeverStarted::Exited(code),
        Exit::Signal { number, .. } => NeverStarted::Killed(number),
    }
}
