//! Tests with real processes.
mod smoke;
