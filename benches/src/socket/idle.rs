//! The memory of connections that are open and idle.

use std::time::Duration;

use ipc::pipe::{Receiver, Sender, pipe};
use ipc::process::Process;
use ipc::socket::{Connection, Options};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::KEY;
use crate::directory::Directory;
use crate::harness::{Bench, Error, Unit};

/// So many are open at once, if the limit of descriptors allows it.
const MANY: u64 = 5_000;

/// Each has two descriptors: its socket, and the process at the other end.
const DESCRIPTORS: u64 = 2;

/// What a process has open beside them, and more.
const SPARE: u64 = 100;

/// How long a process that has failed may take to say why.
const PATIENCE: Duration = Duration::from_secs(1);

/// The listener's process: accepts so many, takes a message from each and answers it, and says each time, and at first,
/// how much memory it has, in KiB.
fn hold(address: String, count: u64, mut tell: Sender<f64>, mut go: Receiver<()>) -> Result<(), String> {
    let mut hold = || -> Result<(), Error> {
        raise_limit()?;
        let mut listener = Options::new().authkey(KEY).bind(address.as_str())?;
        tell.send(&private_kib()?)?;
        let accepted = (0..count).map(|_| listener.accept()).collect::<Result<Vec<_>, _>>();
        let mut connections = accepted?;
        tell.send(&private_kib()?)?;
        for connection in &mut connections {
            let n = connection.recv::<u64>()?;
            connection.send(&n)?;
        }
        tell.send(&private_kib()?)?;
        // They stay open until the other end has looked.
        let _ends_with_the_sender = go.recv();
        Ok(())
    };
    hold().map_err(|error| error.to_string())
}

/// Raises the limit of descriptors as far as it goes; how far that is.
fn raise_limit() -> nix::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// The memory that is this process's alone.
fn private_kib() -> Result<f64, Error> {
    sum_of_lines("/proc/self/smaps_rollup", &["Private_Clean:", "Private_Dirty:"])
}

/// The kernel's own memory: of everything on this machine, so a difference is right as far as the rest is quiet.
fn kernel_kib() -> Result<f64, Error> {
    sum_of_lines("/proc/meminfo", &["Slab:"])
}

fn sum_of_lines(file: &str, names: &[&str]) -> Result<f64, Error> {
    let text = std::fs::read_to_string(file)?;
    let mut sum = 0.0;
    for name in names {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let line = line.ok_or_else(|| format!("{file} has no {name}"))?;
        sum += line.trim().trim_end_matches(" kB").parse::<f64>()?;
    }
    Ok(sum)
}

pub(super) fn run(bench: &mut Bench) -> Result<(), Error> {
    let what = "memory of an idle connection";
    if !bench.wants(what) {
        return Ok(());
    }
    let count = MANY.min(raise_limit()?.saturating_sub(SPARE) / DESCRIPTORS);
    if count < MANY {
        println!(
            "socket: {count} idle connections instead of {MANY}: the limit of descriptors (`ulimit -Hn`)"
        );
    }
    let directory = Directory::new()?;
    let address = format!("unix:{}/socket", directory.path().display());
    let (tell, mut told) = pipe()?;
    let (stay, go) = pipe::<()>()?;
    let mut holder = Process::spawn(hold, (address.clone(), count, tell, go))?;
    let measured = measure(&address, count, &mut told);
    drop(stay);
    let [idle, used, kernel] = match measured {
        Ok(measured) => measured,
        // Its own error, if it has one, says why. It may also wait for connections that do not come.
        Err(error) => match holder.join_timeout(PATIENCE) {
            Ok(Err(theirs)) => return Err(theirs.into()),
            _ => return Err(error),
        },
    };
    holder.join()??;
    let case = |which: &str| format!("{what}, of {count}: {which}");
    bench.record_plain(&case("the listener's process"), Unit::Kibibytes, idle);
    bench.record_plain(&case("the same, after a message each way"), Unit::Kibibytes, used);
    bench.record_plain(&case("the kernel, both ends"), Unit::Kibibytes, kernel);
    Ok(())
}

/// What each connection takes: in the other process when it is made, there when it was used, and in the kernel.
fn measure(address: &str, count: u64, told: &mut Receiver<f64>) -> Result<[f64; 3], Error> {
    let options = Options::new().authkey(KEY);
    let empty = told.recv()?;
    let kernel = kernel_kib()?;
    let connections = (0..count).map(|_| options.connect(address)).collect::<Result<Vec<_>, _>>();
    let mut connections: Vec<Connection> = connections?;
    let idle = told.recv()? - empty;
    let kernel = kernel_kib()? - kernel;
    for connection in &mut connections {
        connection.send(&1_u64)?;
        if connection.recv::<u64>()? != 1 {
            return Err("a connection brought something else back".into());
        }
    }
    let used = told.recv()? - empty;
    Ok([idle, used, kernel].map(|kib| kib / count as f64))
}
