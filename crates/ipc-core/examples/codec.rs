//! What `ipc-core` does to a message: encodes it, decodes it within limits, tells whether two ends mean the same by
//! it, and turns it into a value that says what it is.

use ipc_core::{Codec, Limits, Schema, from_value, to_value};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Job {
    id: u64,
    path: String,
    sizes: Vec<u32>,
}

/// The same message in a newer version of the program.
#[derive(Serialize, Deserialize)]
struct NewJob {
    id: u64,
    path: String,
    sizes: Vec<u64>,
    urgent: bool,
}

/// A type that the codec does not carry: the encoding has no place for the tag.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(tag = "kind")]
enum Event {
    Moved { x: i32, y: i32 },
}

fn main() -> Result<(), ipc_core::Error> {
    // Compact: no names, no lengths but where they are needed.
    let codec = Codec::default();
    let job = Job { id: 7, path: "a.png".to_owned(), sizes: vec![64, 640] };
    let mut bytes = Vec::new();
    codec.encode(&job, &mut bytes)?;
    println!("{} bytes: {}", bytes.len(), bytes.escape_ascii());
    assert_eq!(codec.decode::<Job>(&bytes)?, job);

    // Whatever the bytes are, decoding ends with a value or an error, and memory stays within the limits.
    if let Err(error) = codec.decode::<Job>(&bytes[..9]) {
        println!("cut off: {error}");
    }
    let strict = Codec::new(Limits::new().memory_max(64 << 10));
    let mut many = Vec::new();
    codec.encode(&vec![0_u64; 100_000], &mut many)?;
    if let Err(error) = strict.decode::<Vec<u64>>(&many) {
        println!("too much: {error}");
    }

    // Two programs that disagree on a message notice before the first one is misread.
    let (ours, theirs) = (Schema::of::<Job>(), Schema::of::<NewJob>());
    println!("{}  {}", ours.fingerprint(), ours.text());
    if let Err(mismatch) = ours.check(theirs.fingerprint(), theirs.text()) {
        println!("{mismatch}");
    }

    // A value says what it is. It goes where a type is not known beforehand, or cannot be encoded by itself.
    let event = Event::Moved { x: 3, y: -4 };
    if let Err(error) = codec.decode::<Event>(&bytes) {
        println!("not by itself: {error}");
    }
    let value = to_value(&event)?;
    println!("{value}");
    let mut bytes = Vec::new();
    codec.encode(&value, &mut bytes)?;
    assert_eq!(from_value::<Event>(codec.decode(&bytes)?)?, event);
    Ok(())
}
