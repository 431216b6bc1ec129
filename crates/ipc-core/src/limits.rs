//! What one message may cost, at most.

/// Bounds on a message, for the one who encodes it and above all for the one who decodes it.
///
/// A program that receives bytes from another one should never trust the lengths in them. These are the
/// bounds that [`Codec`](crate::Codec) holds to, whatever the bytes say. Every error that comes of them
/// names the field and how to raise it.
///
/// Both ends should use the same limits. The sender checks `frame_len_max` and `depth_max`; what a message
/// takes in the memory of the receiver is known to the receiver alone.
///
/// ```
/// use ipc_core::{Codec, Limits};
///
/// const LIMITS: Limits = Limits::new().frame_len_max(1 << 20).memory_max(4 << 20);
/// let codec = Codec::new(LIMITS);
/// assert_eq!(codec.limits().frame_len_max, 1 << 20);
/// assert_eq!(codec.limits().depth_max, Limits::default().depth_max);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest encoding of one message, in bytes. 64 MiB unless told otherwise.
    pub frame_len_max: usize,
    /// How deep sequences, maps, structs, tuples, enums, `Some` and newtypes may nest. 128 unless told
    /// otherwise, which fits into the stack of a thread (2 MiB) even in a debug build.
    pub depth_max: usize,
    /// How many bytes of heap one message may take while it is decoded, and when it has been. 256 MiB
    /// unless told otherwise. [`Codec::decode`](crate::Codec::decode) says how this is reckoned.
    pub memory_max: usize,
}

impl Limits {
    /// The default limits: what the fields say.
    ///
    /// ```
    /// # use ipc_core::Limits;
    /// assert_eq!(Limits::new(), Limits::default());
    /// ```
    pub const fn new() -> Self {
        Limits { frame_len_max: 64 << 20, depth_max: 128, memory_max: 256 << 20 }
    }

    /// The same limits with another [`frame_len_max`](Limits#structfield.frame_len_max).
    ///
    /// ```
    /// # use ipc_core::Limits;
    /// assert_eq!(Limits::new().frame_len_max(1 << 20).frame_len_max, 1 << 20);
    /// ```
    #[must_use]
    pub const fn frame_len_max(mut self, bytes: usize) -> Self {
        self.frame_len_max = bytes;
        self
    }

    /// The same limits with another [`depth_max`](Limits#structfield.depth_max).
    ///
    /// A level of nesting takes a few kilobytes of stack in a debug build. Who raises this much has to
    /// decode on a thread with a larger stack.
    ///
    /// ```
    /// # use ipc_core::Limits;
    /// assert_eq!(Limits::new().depth_max(64).depth_max, 64);
    /// ```
    #[must_use]
    pub const fn depth_max(mut self, levels: usize) -> Self {
        self.depth_max = levels;
        self
    }

    /// The same limits with another [`memory_max`](Limits#structfield.memory_max).
    ///
    /// ```
    /// # use ipc_core::Limits;
    /// assert_eq!(Limits::new().memory_max(1 << 20).memory_max, 1 << 20);
    /// ```
    #[must_use]
    pub const fn memory_max(mut self, bytes: usize) -> Self {
        self.memory_max = bytes;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::new()
    }
}
