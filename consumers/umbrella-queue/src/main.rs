//! Uses queues through the umbrella, with that feature alone.

fn main() -> ipc::Result<()> {
    let (tx, rx) = ipc::queue::bounded(4)?;
    tx.send(&42_u32)?;
    assert_eq!(rx.recv()?, 42);
    Ok(())
}
