//! Where a listener is.
