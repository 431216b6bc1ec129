//! Waiting for something to become true under a lock: a table with room for two dishes, a cook and two guests.

use std::error::Error;

use ipc_process::Process;
use ipc_sync::{Condition, LockGuard, Semaphore};

/// A table that processes stand around. What is on it is counted by permits that nobody owns.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Table {
    changed: Condition,
    dishes: Semaphore,
}

const ROOM: u32 = 2;

impl Table {
    /// With the lock, once it holds.
    fn when(&self, holds: impl Fn(u32) -> bool) -> LockGuard<'_> {
        let guard = self.changed.lock().lock().expect("nobody dies here");
        self.changed.wait_for(guard, || holds(self.dishes.available())).expect("nobody dies here")
    }

    fn put(&self) {
        let guard = self.when(|dishes| dishes < ROOM);
        self.dishes.release().expect("far from the bound");
        self.changed.notify_all(&guard).expect("its own guard");
    }

    fn take(&self) {
        let guard = self.when(|dishes| dishes > 0);
        self.dishes.try_acquire().expect("there is one").forget();
        self.changed.notify_all(&guard).expect("its own guard");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();

    let table = Table { changed: Condition::new()?, dishes: Semaphore::new(0)? };
    let guests: Vec<Process<()>> = (0..2)
        .map(|_| Process::spawn(|table: Table| (0..100).for_each(|_| table.take()), (table.clone(),)))
        .collect::<Result<_, _>>()?;
    let cook = Process::spawn(|table: Table| (0..200).for_each(|_| table.put()), (table.clone(),))?;
    cook.join()?;
    for guest in guests {
        guest.join()?;
    }
    println!("200 dishes were cooked and eaten, and {} are left", table.dishes.available());
    Ok(())
}
