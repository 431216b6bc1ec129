//! Uses `ipc-sync` alone: a lock, and a permit that comes back.

use std::error::Error;

use ipc_sync::{Lock, Semaphore};

fn main() -> Result<(), Box<dyn Error>> {
    let (lock, permits) = (Lock::new()?, Semaphore::new(1)?);
    let guard = lock.lock()?;
    let permit = permits.acquire()?;
    assert!(lock.try_lock().is_err() && permits.try_acquire().is_err());
    drop((guard, permit));
    assert!(lock.try_lock().is_ok() && permits.try_acquire().is_ok());
    Ok(())
}
