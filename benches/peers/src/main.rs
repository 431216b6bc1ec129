//! Runs blocks of operations of other crates that exchange messages: each line of standard input names one, and is
//! answered with the seconds that it took.
#![deny(unsafe_code)]

mod crossbeam;
mod iceoryx;
mod ipc_channels;
mod message;
mod place;
mod scratch;
mod second;
mod settings;

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::AcqRel;
use std::time::Duration;

use message::Operation;
use settings::{Settings, Task};

type Error = Box<dyn std::error::Error>;

/// Another crate, with what it needs for its operations.
trait Peer {
    /// Does so many operations and says how long they took.
    fn block(&mut self, operation: Operation, count: u64) -> Result<Duration, Error>;
}

/// So many operations of a kind are done before the first block of it is timed: what is allocated or mapped at the
/// first use is there by then.
const WARM_UP: u64 = 1_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => {
            scratch::remove();
            ExitCode::SUCCESS
        }
        Err(error) => fail(error),
    }
}

/// Ends this process with an error, whatever its other threads wait for.
fn fail(error: impl Display) -> ! {
    static FAILED: AtomicBool = AtomicBool::new(false);
    // Only the first has something to say: what fails after it, fails because of it.
    while FAILED.swap(true, AcqRel) {
        std::thread::park();
    }
    eprintln!("peers: {error}");
    scratch::remove();
    std::process::exit(1);
}

fn run() -> Result<(), Error> {
    let (task, settings) = Settings::parse(std::env::args().skip(1))?;
    match task {
        Task::First => first(settings),
        Task::Second { peer, scratch } => {
            second::end_with_the_first()?;
            place::pin(settings.cores.1)?;
            match peer.as_str() {
                iceoryx::NAME => iceoryx::serve(&scratch, settings),
                ipc_channels::NAME => ipc_channels::serve(),
                _ => Err(format!("{peer} needs no second process").into()),
            }
        }
    }
}

/// The process that is told what to do.
fn first(settings: Settings) -> Result<(), Error> {
    place::pin(settings.cores.0)?;
    let mut peers: HashMap<String, Box<dyn Peer>> = HashMap::new();
    let mut warm = HashSet::new();
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, operation, count] = words[..] else {
            return Err(format!("expected `<peer> <operation> <count>`, not `{line}`").into());
        };
        let operation: Operation = operation.parse()?;
        let count = count.parse().map_err(|_| format!("no number of operations: `{count}`"))?;
        if !peers.contains_key(name) {
            peers.insert(name.to_owned(), start(name, settings)?);
        }
        let peer = peers.get_mut(name).ok_or("it was started above")?;
        if warm.insert((name.to_owned(), operation)) {
            peer.block(operation, WARM_UP.min(count))?;
        }
        let time = peer.block(operation, count)?;
        second::say(format_args!("{:.9}", time.as_secs_f64()))?;
    }
    Ok(())
}

fn start(name: &str, settings: Settings) -> Result<Box<dyn Peer>, Error> {
    Ok(match name {
        iceoryx::NAME => Box::new(iceoryx::Iceoryx2::start(settings)?),
        ipc_channels::NAME => Box::new(ipc_channels::IpcChannels::start(settings)?),
        crossbeam::NAME => Box::new(crossbeam::Crossbeam::new(settings)),
        _ => return Err(format!("no peer is called `{name}`").into()),
    })
}
