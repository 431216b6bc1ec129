//! Uses `ipc-core` alone: a message goes through the codec and comes back.

use std::error::Error;

use ipc_core::Codec;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Message {
    id: u64,
    name: String,
    values: Vec<i32>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let message = Message { id: 7, name: "seven".to_owned(), values: vec![-1, 0, 1] };
    let codec = Codec::default();
    let mut bytes = Vec::new();
    codec.encode(&message, &mut bytes)?;
    let back: Message = codec.decode(&bytes)?;
    assert_eq!(back, message);
    assert!(codec.decode::<Message>(&bytes[..bytes.len() - 1]).is_err(), "a cut message is an error");
    Ok(())
}
