#![doc = include_str!("../README.md")]

mod bootstrap;
mod builder;
mod children;
mod error;
mod function;
mod handover;
mod panics;
mod process;
mod worker;

pub use builder::{Builder, Stdio};
pub use children::{ChildInfo, active_children};
pub use error::{HandOverError, JoinError, Location, NeverStarted, PanicReport, SpawnError};
pub use function::WorkerFn;
pub use handover::{Program, handed_over};
pub use ipc_os::pidfd::{Exit, PidFd};
pub use ipc_os::{Readiness, Waitable, wait};
pub use process::Process;
pub use worker::{Current, Parent, current, init, parent};
