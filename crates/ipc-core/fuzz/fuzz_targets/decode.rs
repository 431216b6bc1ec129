//! Arbitrary bytes, decoded as every shape there is: an error or a value, never a panic, and never more
//! memory than the limit says (run it with `-malloc_limit_mb=1 -rss_limit_mb=512`).

#![no_main]

use ipc_core::{Codec, Limits};
use libfuzzer_sys::fuzz_target;

#[path = "../shapes.rs"]
#[allow(dead_code, reason = "the tests construct some of these")]
mod shapes;

const CODEC: Codec = Codec::new(Limits::new().memory_max(64 << 10));

fuzz_target!(|bytes: &[u8]| {
    for name in shapes::NAMES {
        let _ = shapes::decode(name, &CODEC, bytes);
    }
});
