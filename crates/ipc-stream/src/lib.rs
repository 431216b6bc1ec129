#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod end;
mod pace;
mod rx;
mod tx;

pub use end::{End, Part, Transport, Until};
pub use rx::Rx;
pub use tx::Tx;
