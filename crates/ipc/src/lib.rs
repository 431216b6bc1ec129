#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub use ipc_core as core;
pub use ipc_core::{Error, ErrorKind};

#[cfg(feature = "pipe")]
pub use ipc_pipe as pipe;

#[cfg(feature = "process")]
pub use ipc_process as process;
#[cfg(feature = "process")]
pub use ipc_process::{Process, init};

#[cfg(feature = "queue")]
pub use ipc_queue as queue;

#[cfg(feature = "shm")]
pub use ipc_shm as shm;

#[cfg(feature = "socket")]
pub use ipc_socket as socket;

#[cfg(feature = "sync")]
pub use ipc_sync as sync;

/// A result with the error of any of the crates.
pub type Result<T, E = Error> = std::result::Result<T, E>;
