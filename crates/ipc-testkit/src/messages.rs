//! Messages that nobody sends: encoded and decoded in this process, with the handles inside.

use ipc_core::{Codec, DecodeError, handle};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The value as its message has it, taken for one of another type. The message counts as one that was never sent: what
/// would have moved with it stays.
///
/// # Errors
/// If the message is none of the other type.
///
/// # Panics
/// If the value cannot be encoded.
#[track_caller]
pub fn taken_for<A: Serialize, B: DeserializeOwned>(value: &A) -> Result<B, DecodeError> {
    taken(value, false)
}

/// As [`taken_for`], but the message counts as sent: what moves with it has moved.
///
/// # Errors
/// If the message is none of the other type.
///
/// # Panics
/// If the value cannot be encoded.
#[track_caller]
pub fn moved_for<A: Serialize, B: DeserializeOwned>(value: &A) -> Result<B, DecodeError> {
    taken(value, true)
}

/// The value, sent and received in this process.
///
/// # Panics
/// If it does not arrive.
#[track_caller]
pub fn echo<T: Serialize + DeserializeOwned>(value: &T) -> T {
    moved_for(value).expect("it is of the same type")
}

#[track_caller]
fn taken<A: Serialize, B: DeserializeOwned>(value: &A, sent: bool) -> Result<B, DecodeError> {
    let mut bytes = Vec::new();
    let encoded = handle::outgoing(|| Codec::default().encode(value, &mut bytes));
    let ((), handles) = encoded.expect("the value can be encoded");
    let copies: Vec<_> =
        handles.descriptors().iter().map(|fd| fd.try_clone().expect("a descriptor is free")).collect();
    if sent {
        handles.commit();
    }
    handle::incoming(copies, || Codec::default().decode(&bytes))
}

#[cfg(test)]
mod tests {
    use ipc_pipe::{Receiver, RecvError, pipe};

    use super::*;

    #[test]
    fn what_is_not_sent_stays_and_what_is_sent_moves() {
        let (mut tx, mut rx) = pipe::<u32>().unwrap();
        assert!(taken_for::<_, String>(&7_u32).is_err());
        drop(taken_for::<_, Receiver<u32>>(&rx).unwrap());
        tx.send(&1).unwrap();
        assert_eq!(rx.recv().unwrap(), 1);
        let mut there = echo(&rx);
        assert!(matches!(rx.recv(), Err(RecvError::Moved)));
        tx.send(&2).unwrap();
        assert_eq!(there.recv().unwrap(), 2);
    }
}
