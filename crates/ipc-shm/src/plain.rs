//! What can lie in shared memory.

/// Plain data: any bytes are a value of it, and it has no bytes that mean nothing. All integers and floats, arrays of
/// such, and structs that derive `FromBytes`, `IntoBytes` and `Immutable` of the `zerocopy` crate.
///
/// A peer may write anything into shared memory, so `bool`, `char`, enums and references are none: not every byte is
/// one of theirs.
pub trait Plain: Copy + 'static + zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable {}

impl<T: Copy + 'static + zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable> Plain for T {}
