//! What the command line says.

use std::path::PathBuf;

use crate::Error;

/// What holds for all blocks of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Where the two sides run: who sends, or begins, and who receives.
    pub(crate) cores: (usize, usize),
    /// How many small messages a queue holds.
    pub(crate) capacity: usize,
    /// How many messages of 1 MiB a queue holds.
    pub(crate) big_capacity: usize,
}

/// Which of the two processes this is.
#[derive(Debug)]
pub(crate) enum Task {
    First,
    /// The other side of `peer`, whose files are in `scratch`.
    Second {
        peer: String,
        scratch: PathBuf,
    },
}

const USAGE: &str = "usage: peers --cores A,B [--capacity N] [--big-capacity N]";

impl Settings {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(Task, Settings), Error> {
        let (mut task, mut cores, mut capacity, mut big_capacity) = (Task::First, None, 1024, 8);
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(USAGE);
            match flag.as_str() {
                "--cores" => cores = Some(pair(&value()?).ok_or(USAGE)?),
                "--capacity" => capacity = value()?.parse()?,
                "--big-capacity" => big_capacity = value()?.parse()?,
                "--second" => task = Task::Second { peer: value()?, scratch: value()?.into() },
                _ => return Err(USAGE.into()),
            }
        }
        let cores = cores.ok_or(USAGE)?;
        if capacity == 0 || big_capacity == 0 {
            return Err("a queue holds at least one message".into());
        }
        Ok((task, Settings { cores, capacity, big_capacity }))
    }

    /// The arguments that say the same.
    pub(crate) fn arguments(&self) -> [String; 6] {
        let (first, second) = self.cores;
        [
            "--cores".into(),
            format!("{first},{second}"),
            "--capacity".into(),
            self.capacity.to_string(),
            "--big-capacity".into(),
            self.big_capacity.to_string(),
        ]
    }
}

/// Two numbers with a comma between them.
fn pair(text: &str) -> Option<(usize, usize)> {
    let (first, second) = text.split_once(',')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}
