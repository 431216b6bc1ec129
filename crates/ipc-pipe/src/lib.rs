#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod batch;
mod carrier;
mod duplex;
pub mod fifo;
mod pipe;
mod raw;
mod travel;

pub use batch::Batch;
pub use carrier::PipeChannel;
pub use duplex::{Duplex, duplex};
pub use fifo::Fifo;
pub use pipe::{Iter, Receiver, Sender, pipe};
pub use raw::{RawReceiver, RawSender};

pub use ipc_core::{Limits, RecvError, SendAllError, SendError};
pub use ipc_os::{Readiness, Waitable, wait};
