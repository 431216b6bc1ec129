//! Rings of frames between processes.

mod death;
mod frames;
mod hostile;
mod tools;
mod travel;
mod waiting;
