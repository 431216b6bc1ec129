//! CPython's `multiprocessing.shared_memory`, in both directions.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use ipc_shm::{Segment, SegmentError};
use ipc_testkit::data::pattern;
use ipc_testkit::watchdog;

use crate::tools::Name;

/// Both scripts attach as what they are: no owners.
const HEAD: &str = "
import sys
from multiprocessing import resource_tracker, shared_memory
def attach(name):
    if sys.version_info >= (3, 13):
        return shared_memory.SharedMemory(name=name, track=False)
    shm = shared_memory.SharedMemory(name=name)
    resource_tracker.unregister(shm._name, 'shared_memory')
    return shm
def pattern(count):
    return bytes((31 * count ^ i ^ (i >> 8) ^ (i >> 16)) & 255 for i in range(count))
def say(*what):
    print(*what, flush=True)
";

/// A Python program that is talked to line by line.
struct Python {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Python {
    /// `None`, with a reason printed, without Python: but CI must have it.
    fn start(script: &str, name: &str) -> Option<Self> {
        let started = Command::new("python3")
            .args(["-c", &format!("{HEAD}{script}"), name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        match started {
            Ok(mut child) => {
                let out = BufReader::new(child.stdout.take().unwrap());
                Some(Python { child, out })
            }
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "CI needs python3: {error}");
                println!("skipped: python3 cannot be started ({error})");
                None
            }
        }
    }

    fn said(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn a_segment_of_ours_opens_in_python() {
    let _watchdog = watchdog("a_segment_of_ours_opens_in_python");
    let name = Name::new("for-python");
    let segment = Segment::create(&name, 5001).unwrap();
    segment.write(0, &pattern(5001)).unwrap();
    let script = "
shm = attach(sys.argv[1])
say(shm.size, bytes(shm.buf) == pattern(5001))
shm.buf[5000] = 200
shm.close()
";
    let Some(mut python) = Python::start(script, &name) else { return };
    assert_eq!(python.said(), "5001 True");
    python.end();
    assert_eq!(segment.get::<u8>(5000).unwrap(), 200);
    assert!(Segment::open(&name).is_ok(), "an attacher's end destroys nothing");
}

#[test]
fn a_segment_of_python_opens_here() {
    let _watchdog = watchdog("a_segment_of_python_opens_here");
    let name = Name::new("of-python");
    let script = "
shm = shared_memory.SharedMemory(name=sys.argv[1], create=True, size=5001)
shm.buf[:] = pattern(5001)
say(shm.size)
sys.stdin.readline()
say(shm.buf[5000])
shm.close()
shm.unlink()
say('unlinked')
";
    let Some(mut python) = Python::start(script, &name) else { return };
    assert_eq!(python.said(), "5001");
    let segment = Segment::open(&name).unwrap();
    assert_eq!(segment.len(), 5001, "not rounded to pages");
    let mut bytes = vec![0; 5001];
    segment.read_into(0, &mut bytes).unwrap();
    assert!(bytes == pattern(5001));
    segment.set(5000, &200u8).unwrap();
    assert!(matches!(Segment::create(&name, 1), Err(SegmentError::AlreadyExists { .. })));
    python.go_on();
    assert_eq!(python.said(), "200");
    assert_eq!(python.said(), "unlinked");
    assert!(matches!(segment.unlink(), Err(SegmentError::NotFound { .. })));
    assert_eq!(segment.get::<u8>(5000).unwrap(), 200, "who has it keeps it");
    python.end();
}

/// Python names what it makes itself; such names are names here.
#[test]
fn names_that_python_chooses_are_names() {
    let _watchdog = watchdog("names_that_python_chooses_are_names");
    let script = "
shm = shared_memory.SharedMemory(create=True, size=1)
say(shm.name)
sys.stdin.readline()
shm.close()
shm.unlink()
";
    let Some(mut python) = Python::start(script, "") else { return };
    let name = python.said();
    assert!(name.starts_with("psm_"), "{name}");
    assert_eq!(Segment::open(&name).unwrap().len(), 1);
    python.go_on();
    python.end();
}
