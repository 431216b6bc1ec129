//! Rings of frames between processes.

mod batch;
mod death;
mod frames;
mod hostile;
mod tools;
mod travel;
mod waiting;
