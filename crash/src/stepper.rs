//! The stepper itself, by operations whose every state in between is known: it has to see all of them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::atomic::Ordering::SeqCst;

use ipc_os::map::{Access, Mapping};
use ipc_os::memfd;
use ipc_pipe::{Receiver, RecvError, Sender};
use ipc_testkit::stepper::{
    BoxError, Failure, Outcome, Progress, Report, Scenario, Stepper, Steps, operation,
};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    vec![
        Box::new(two_words("stepper/two system calls", write_both)),
        Box::new(two_words("stepper/two stores", store_both)),
        Box::new(MustFail(two_words_at_once())),
        Box::new(message()),
        Box::new(sleep()),
    ]
}

/// Two words in a memory file, and a path by which another process can open it.
fn words() -> Result<(OwnedFd, String), BoxError> {
    let fd = memfd::shared("crash", 16)?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
    Ok((fd, path))
}

fn open(path: &str) -> File {
    File::options().read(true).write(true).open(path).expect("the survivor's memory file")
}

fn read(fd: &OwnedFd) -> Result<(u64, u64), BoxError> {
    let map = Mapping::new(fd, 16, Access::Read)?;
    Ok((map.u64(0)?.load(SeqCst), map.u64(8)?.load(SeqCst)))
}

fn write_both(path: String) {
    let file = open(&path);
    operation(|| {
        for offset in [0, 8] {
            file.write_all_at(&1_u64.to_ne_bytes(), offset).expect("room in the memory file");
        }
    });
}

fn store_both(path: String) {
    let map = Mapping::new(open(&path), 16, Access::ReadWrite).expect("the memory file can be mapped");
    operation(|| {
        for offset in [0, 8] {
            map.u64(offset).expect("within the memory file").store(1, SeqCst);
        }
    });
}

type Words<F> = Scenario<F, OwnedFd, String, ()>;

/// One word, then the other: the oracle must find each of the three states, and no other.
fn two_words<F: Fn(String) + Copy + Send + Sync + 'static>(name: &str, process: F) -> Words<F> {
    let seen = Rc::new(RefCell::new(BTreeSet::new()));
    let noted = Rc::clone(&seen);
    let oracle = move |fd: &mut OwnedFd, outcome| {
        let words = read(fd)?;
        noted.borrow_mut().insert(words);
        match (words, outcome) {
            ((1, 1), _) | ((0 | 1, 0), Outcome::Killed) => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    };
    Scenario::new(name, words, process, oracle).finally(move |_| {
        let all = BTreeSet::from([(0, 0), (1, 0), (1, 1)]);
        if *seen.borrow() == all { Ok(()) } else { Err(format!("only {:?} were seen", seen.borrow()).into()) }
    })
}

/// Says of two stores that they are one.
fn two_words_at_once() -> impl Steps {
    let oracle = |fd: &mut OwnedFd, _: Outcome<()>| match read(fd)? {
        (0, 0) | (1, 1) => Ok(()),
        torn => Err(format!("torn: {torn:?}").into()),
    };
    Scenario::new("stepper/two stores at once (must fail)", words, store_both, oracle)
}

/// A message has gone as a whole or not at all, and what was said to be sent can be received.
fn message() -> impl Steps {
    let prepare = || {
        let (sender, receiver) = ipc_pipe::pipe::<String>()?;
        Ok((receiver, sender))
    };
    let send = |mut sender: Sender<String>| operation(|| sender.send(&"a message".to_owned()).is_ok());
    let oracle = |receiver: &mut Receiver<String>, outcome| match (receiver.recv(), outcome) {
        (Ok(message), _) if message == "a message" => Ok(()),
        (Err(RecvError::Disconnected), Outcome::Killed) => Ok(()),
        other => Err(format!("{other:?}").into()),
    };
    Scenario::new("stepper/send a message", prepare, send, oracle)
}

/// Receives what the survivor sends only when it sees the process asleep.
fn sleep() -> impl Steps {
    let prepare = || {
        let (sender, receiver) = ipc_pipe::pipe::<u32>()?;
        Ok((sender, receiver))
    };
    let receive = |mut receiver: Receiver<u32>| operation(|| receiver.recv().ok());
    let oracle = |_: &mut Sender<u32>, outcome| match outcome {
        Outcome::Killed | Outcome::Completed(Some(7)) => Ok(()),
        other => Err(format!("{other:?}").into()),
    };
    let wake = |sender: &mut Sender<u32>, _| {
        // Should it fail, the process does not wake, which is told.
        let _ = sender.send(&7);
    };
    let has_slept = |report: &Report| match report.blocked {
        0 => Err("it never slept".into()),
        _ => Ok(()),
    };
    Scenario::new("stepper/sleep and be woken", prepare, receive, oracle)
        .while_blocked(wake)
        .finally(has_slept)
}

/// A scenario with a wrong oracle: it is a failure if that is never found.
struct MustFail<S>(S);

impl<S: Steps> Steps for MustFail<S> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn step(&self, stepper: &Stepper, progress: &mut dyn FnMut(Progress)) -> Report {
        let mut report = self.0.step(stepper, progress);
        let is_expected = |failure: &Failure| failure.at.is_some() && failure.message.contains("torn");
        if report.failures.is_empty() {
            return Report::impossible(self.name(), "a wrong oracle has passed");
        }
        report.failures.retain(|failure| !is_expected(failure));
        report.is_cut_short = false;
        report
    }
}
