//! A lock between processes: three of them write lines into one file, and no line is mixed with another.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use ipc_process::Process;
use ipc_sync::{Lock, LockError};

fn write_lines(lock: Lock, path: PathBuf, letter: char) {
    let mut file = OpenOptions::new().append(true).open(path).expect("the parent has made it");
    for _ in 0..100 {
        let _guard = lock.lock().expect("nobody dies here");
        // One byte at a time: without the lock, the letters would be mixed.
        for _ in 0..20 {
            write!(file, "{letter}").expect("a file can be written");
        }
        writeln!(file).expect("a file can be written");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();

    let lock = Lock::new()?;
    let path = std::env::temp_dir().join(format!("ipc-sync-lock-{}", std::process::id()));
    std::fs::write(&path, "")?;
    let writers: Vec<Process<()>> = ['a', 'b', 'c']
        .into_iter()
        .map(|letter| Process::spawn(write_lines, (lock.clone(), path.clone(), letter)))
        .collect::<Result<_, _>>()?;
    for writer in writers {
        writer.join()?;
    }
    let text = std::fs::read_to_string(&path)?;
    std::fs::remove_file(&path)?;
    let whole = text.lines().filter(|line| line.len() == 20 && line.chars().all(|c| line.starts_with(c)));
    println!("{} of {} lines are whole", whole.count(), text.lines().count());

    // Every wait has a form that does not wait, and one with a time.
    let guard = lock.lock()?;
    match lock.try_lock() {
        Err(LockError::Deadlock) => println!("this thread has it already"),
        other => println!("unexpected: {other:?}"),
    }
    drop(guard);
    drop(lock.lock_timeout(Duration::from_secs(1))?);
    println!("and now it is free");
    Ok(())
}
