//! A process is killed while it holds the lock. The next one is told, repairs, and goes on.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipc_pipe::{Sender, pipe};
use ipc_process::Process;
use ipc_sync::{Lock, LockError};

/// Two accounts in two files: together they always have 100, for whoever has the lock.
fn balance(accounts: &Path) -> Result<(i64, i64), Box<dyn Error>> {
    let read = |name: &str| -> Result<i64, Box<dyn Error>> {
        Ok(fs::read_to_string(accounts.join(name))?.trim().parse()?)
    };
    Ok((read("a")?, read("b")?))
}

/// Moves 30 from the one to the other, and is killed in between.
fn transfer(lock: Lock, accounts: PathBuf, half_way: Sender<()>) {
    let mut half_way = half_way;
    let _guard = lock.lock().expect("nobody has died yet");
    fs::write(accounts.join("a"), "20").expect("it can be written");
    half_way.send(&()).expect("the parent listens");
    std::thread::sleep(Duration::from_secs(60));
    fs::write(accounts.join("b"), "80").expect("it can be written");
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();

    let accounts = std::env::temp_dir().join(format!("ipc-sync-owner-died-{}", std::process::id()));
    fs::create_dir_all(&accounts)?;
    fs::write(accounts.join("a"), "50")?;
    fs::write(accounts.join("b"), "50")?;

    let lock = Lock::new()?;
    let (tx, mut rx) = pipe()?;
    let clerk = Process::spawn(transfer, (lock.clone(), accounts.clone(), tx))?;
    rx.recv()?;
    let pid = clerk.id();
    clerk.kill()?;

    let start = Instant::now();
    match lock.lock() {
        Err(LockError::OwnerDied { owner }) => {
            println!("told that the clerk died holding the lock: {}", owner.pid() == Some(pid));
            eprintln!("after {:?}", start.elapsed());
        }
        other => println!("unexpected: {other:?}"),
    }
    let guard = lock.recover()?;
    let (a, b) = balance(&accounts)?;
    println!("found {a} and {b}");
    if a + b != 100 {
        fs::write(accounts.join("b"), (100 - a).to_string())?;
    }
    guard.repaired();
    drop(guard);

    let _guard = lock.lock()?;
    let (a, b) = balance(&accounts)?;
    println!("repaired to {a} and {b}");
    fs::remove_dir_all(&accounts)?;
    Ok(())
}
