//! CPython at the other end.
