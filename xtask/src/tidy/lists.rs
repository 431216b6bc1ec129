//! What tidy allows. A change here is a decision: it is reviewed by itself, with its reason.

use super::edges::Edges;

/// The dependencies between the packages of the workspace. An arrow points from the upper to the lower layer;
/// a package may only use what stands above it in this list, in its tests too.
/// `ipc-testkit`, which only tests use, is allowed as a development dependency everywhere.
pub(super) const EDGES: &[Edges] = &[
    Edges { package: "ipc-core", normal: &[], dev: &[] },
    Edges { package: "ipc-os", normal: &[], dev: &[] },
    Edges { package: "ipc-stream", normal: &["ipc-core", "ipc-os"], dev: &[] },
    Edges { package: "ipc-pipe", normal: &["ipc-core", "ipc-os", "ipc-stream"], dev: &["ipc-process"] },
    Edges { package: "ipc-process", normal: &["ipc-core", "ipc-os"], dev: &["ipc-pipe"] },
    Edges { package: "ipc-sync", normal: &["ipc-core", "ipc-os"], dev: &["ipc-pipe", "ipc-process"] },
    Edges {
        package: "ipc-shm",
        normal: &["ipc-core", "ipc-os", "ipc-sync"],
        dev: &["ipc-pipe", "ipc-process"],
    },
    Edges {
        package: "ipc-queue",
        normal: &["ipc-core", "ipc-os", "ipc-shm", "ipc-sync"],
        dev: &["ipc-pipe", "ipc-process"],
    },
    Edges {
        package: "ipc-socket",
        normal: &["ipc-core", "ipc-os", "ipc-shm", "ipc-stream", "ipc-sync"],
        dev: &["ipc-pipe", "ipc-process"],
    },
    Edges {
        package: "ipc",
        normal: &["ipc-core", "ipc-pipe", "ipc-process", "ipc-queue", "ipc-shm", "ipc-socket", "ipc-sync"],
        dev: &[],
    },
    Edges { package: "ipc-testkit", normal: &["ipc-core", "ipc-os", "ipc-pipe", "ipc-process"], dev: &[] },
    Edges {
        package: "ipc-examples",
        normal: &["ipc", "ipc-core", "ipc-os", "ipc-pipe", "ipc-process", "ipc-shm", "ipc-sync"],
        dev: &[],
    },
    Edges {
        package: "ipc-benches",
        normal: &[
            "ipc",
            "ipc-core",
            "ipc-os",
            "ipc-pipe",
            "ipc-process",
            "ipc-shm",
            "ipc-sync",
            "ipc-testkit",
        ],
        dev: &[],
    },
    Edges {
        package: "ipc-crash",
        normal: &[
            "ipc",
            "ipc-core",
            "ipc-os",
            "ipc-pipe",
            "ipc-process",
            "ipc-queue",
            "ipc-shm",
            "ipc-socket",
            "ipc-sync",
            "ipc-testkit",
        ],
        dev: &[],
    },
    Edges { package: "xtask", normal: &[], dev: &[] },
];

/// How many packages from outside each public crate may bring along on Linux, with all its features on and
/// everything they depend on counted. Where fewer than this minus [`super::dependencies::SLACK`] are left,
/// the number has to be lowered.
pub(super) const DEPENDENCIES_MAX: &[(&str, usize)] = &[
    ("ipc-core", 12),
    ("ipc-os", 6),
    ("ipc-stream", 20),
    ("ipc-pipe", 23),
    ("ipc-process", 23),
    ("ipc-sync", 23),
    ("ipc-shm", 26),
    ("ipc-queue", 26),
    ("ipc-socket", 44),
    ("ipc", 44),
];

/// Rust files that may be longer than [`super::length::LINES_MAX`], and why they are not split.
pub(super) const LONG_FILES: &[(&str, &str)] = &[];

/// Left-overs that are none: the file, the text that is allowed in it, and why.
pub(super) const LEFT_OVERS: &[(&str, &str, &str)] = &[];

/// Where unsafe code may stand (a file, or a directory with a `/` at its end), and for what.
pub(super) const UNSAFE: &[(&str, &str)] = &[
    ("crates/ipc-os/src/", "system calls behind safe types"),
    ("crates/ipc-sync/src/", "words whose address outlives what points there"),
    ("crates/ipc-shm/src/view.rs", "slices over memory that others may write, which the caller answers for"),
    ("crates/ipc-shm/tests/it/rival.rs", "the memory of another crate's segment"),
    ("crates/ipc-shm/tests/it/views.rs", "slices that nobody else writes meanwhile"),
    ("crates/ipc-sync/tests/it/fork.rs", "fork"),
    ("benches/peers/src/iceoryx.rs", "borrowed memory of iceoryx2 of which only a part is written"),
    ("benches/src/pthread.rs", "a mutex of the C library in shared memory, to measure against"),
    ("crates/ipc-process/src/function.rs", "an address of this image becomes a function again"),
    ("crates/ipc-process/src/worker.rs", "an entry in .init_array, for test binaries"),
    ("crates/ipc-core/tests/it/budget.rs", "an allocator that counts"),
    ("crates/ipc-pipe/tests/it/signals.rs", "signal handlers and dispositions"),
    ("crates/ipc-socket/tests/it/signals.rs", "signal handlers"),
    ("crates/ipc-process/tests/it/signals.rs", "signal handlers, and a change of the environment"),
];
