//! One wait over what usually needs several: a pipe, a socket and the end of a process.

use std::error::Error;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ipc_os::pidfd::Exit;
use ipc_os::spawn::Spawn;
use ipc_os::{Waitable, pipe, wait};

const NAMES: [&str; 3] = ["pipe", "socket", "process"];

fn main() -> Result<(), Box<dyn Error>> {
    let (reader, writer) = pipe::pipe()?;
    let (here, there) = UnixStream::pair()?;
    // It reads its standard input to the end, and is given no descriptor but that.
    let (gate, open_gate) = pipe::pipe()?;
    let child =
        Spawn::new("/bin/sh").args(["-c", "read line; exit 7"]).descriptor(gate.as_fd(), 0).start()?;

    let sources: [&dyn Waitable; 3] = [&reader, &here, &child.pidfd];
    let show = |ready: Vec<usize>| {
        let names: Vec<_> = ready.into_iter().map(|index| NAMES[index]).collect();
        println!("ready: {}", if names.is_empty() { "nothing".to_owned() } else { names.join(", ") });
    };
    show(wait(&sources, Some(Duration::from_millis(10)))?);

    pipe::write(writer.as_fd(), b"something")?;
    show(wait(&sources, None)?);

    // A peer that has gone is news as well.
    drop(there);
    show(wait(&sources, None)?);

    drop(open_gate);
    assert!(child.pidfd.wait_ended(Some(Duration::from_secs(30)))?);
    show(wait(&sources, None)?);
    assert_eq!(child.pidfd.wait_and_reap()?, Exit::Code(7));
    println!("the process exited with code 7");
    Ok(())
}
