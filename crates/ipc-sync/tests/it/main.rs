//! Between real processes.
mod lock;
