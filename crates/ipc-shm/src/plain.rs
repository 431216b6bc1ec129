//! What can lie in shared memory.

/// Plain data: any bytes are a value of it, and it has no bytes that mean nothing. All integers and floats, arrays of
/// such, and structs that derive `FromBytes`, `IntoBytes` and `Immutable` of the [`zerocopy`](crate::zerocopy) crate.
///
/// A peer may write anything into shared memory, so `bool`, `char`, enums and references are none: not every byte is
/// one of theirs. The derives check that at compile time, and that there is no padding.
///
/// ```
/// use ipc_shm::zerocopy::{FromBytes, Immutable, IntoBytes};
/// use ipc_shm::{Plain, Segment};
///
/// #[derive(FromBytes, IntoBytes, Immutable, Clone, Copy, Debug, PartialEq)]
/// #[zerocopy(crate = "ipc_shm::zerocopy")] // not needed by who depends on `zerocopy` itself
/// #[repr(C)]
/// struct Sample {
///     time: u64,
///     value: f64,
/// }
///
/// let segment = Segment::new(4096)?;
/// segment.set(64, &Sample { time: 7, value: 0.5 })?;
/// assert_eq!(segment.get::<Sample>(64)?.value, 0.5);
///
/// fn is_plain<T: Plain>() {}
/// is_plain::<[Sample; 3]>();
/// # Ok::<(), ipc_shm::SegmentError>(())
/// ```
///
/// ```compile_fail,E0277
/// fn is_plain<T: ipc_shm::Plain>() {}
/// is_plain::<bool>();
/// ```
///
/// ```compile_fail,E0277
/// fn is_plain<T: ipc_shm::Plain>() {}
/// is_plain::<&'static str>();
/// ```
pub trait Plain: Copy + 'static + zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable {}

impl<T: Copy + 'static + zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable> Plain for T {}
