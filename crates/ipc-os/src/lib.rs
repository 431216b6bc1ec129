#![doc = include_str!("../README.md")]

#[cfg(not(target_os = "linux"))]
compile_error!("ipc-os speaks to Linux (5.10 or newer); other systems have no implementation yet");

pub mod epoll;
pub mod fd;
pub mod fifo;
pub mod fork;
pub mod futex;
pub mod image;
pub mod map;
pub mod memfd;
pub mod names;
pub mod ofd;
pub mod pidfd;
pub mod pipe;
pub mod robust;
pub mod sigbus;
pub mod signals;
mod sigpipe;
pub mod socket;
pub mod spawn;
pub mod threads;
mod wait;
pub mod wiped;

pub use sigpipe::ignore_sigpipe;
pub use wait::{Readiness, Waitable, poll_readable, poll_writable, wait};
