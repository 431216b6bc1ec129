//! Values and arrays in shared memory beside bare atomics, memcpy and CPython.

use std::sync::atomic::Ordering::AcqRel;
use std::time::{Duration, Instant};

use ipc::shm::{Array, Value};

use crate::harness::{Bench, Error, Subject, Target, Unit};
use crate::python::Python;
use crate::raw::Page;

pub(crate) fn run(bench: &mut Bench) -> Result<(), Error> {
    let mut python = match Python::start(PROGRAM) {
        Ok(python) => Some(python),
        Err(error) => {
            println!("shm: CPython is not measured: {error}");
            None
        }
    };
    values(bench, python.as_mut())?;
    for (name, bytes) in [("1 KiB", 1 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("64 MiB", 64 << 20)]
    {
        arrays(bench, name, bytes, python.as_mut())?;
    }
    Ok(())
}

fn timed(f: impl FnOnce()) -> Result<Duration, Error> {
    let start = Instant::now();
    f();
    Ok(start.elapsed())
}

fn values(bench: &mut Bench, python: Option<&mut Python>) -> Result<(), Error> {
    let page = Page::new()?;
    let value = Value::new(0_u64)?;
    let mut subjects = vec![
        Subject::new("bare atomic", |count| {
            timed(|| (0..count).for_each(|_| _ = std::hint::black_box(page.line(0).fetch_add(1, AcqRel))))
        }),
        Subject::new("ipc", |count| {
            timed(|| (0..count).for_each(|_| _ = std::hint::black_box(value.fetch_add(1))))
        })
        .against("bare atomic", Target::AtMost(1.1)),
    ];
    if let Some(python) = python {
        subjects.push(Subject::new("CPython Value += 1", move |count| {
            Ok(python.block("value", count / 100)? * 100)
        }));
    }
    bench.compare("add 1 to a u64", Unit::Nanoseconds, 1_000_000, 1, subjects)
}

fn arrays(bench: &mut Bench, name: &str, bytes: usize, python: Option<&mut Python>) -> Result<(), Error> {
    let len = bytes / 8;
    let array = Array::<f64>::new(len)?;
    let ours = std::cell::RefCell::new(vec![1.5_f64; len]);
    let (from, to) = (vec![2.5_f64; len], std::cell::RefCell::new(vec![0.5_f64; len]));
    array.write(0, &from)?;
    // A block of about 20 ms.
    let count = ((200 << 20) / bytes as u64).max(2);
    let mut subjects = vec![
        Subject::new("memcpy", |count| {
            timed(|| {
                for _ in 0..count {
                    to.borrow_mut().copy_from_slice(std::hint::black_box(&from));
                    std::hint::black_box(&to);
                }
            })
        }),
        Subject::new("ipc, write", |count| {
            timed(|| {
                for _ in 0..count {
                    let _fits = array.write(0, std::hint::black_box(&from));
                }
            })
        })
        .form_of_ipc(format!("array of {name}, copied in"))
        .against("memcpy", (bytes > 1024).then_some(Target::AtLeast(0.9))),
        Subject::new("ipc, read", |count| {
            timed(|| {
                for _ in 0..count {
                    let _fits = array.read_into(0, &mut ours.borrow_mut());
                    std::hint::black_box(&ours);
                }
            })
        })
        .form_of_ipc(format!("array of {name}, copied out"))
        .against("memcpy", (bytes > 1024).then_some(Target::AtLeast(0.9))),
    ];
    if let Some(python) = python
        && bytes == 64 << 10
    {
        // Copied through a list of floats, as its Array does it.
        subjects.push(Subject::new("CPython Array, slice", move |count| {
            Ok(python.block("array", count.div_ceil(1_000))? * 1_000)
        }));
    }
    bench.compare(&format!("array of {name}"), Unit::GigabytesPerSecond, count, bytes as u64, subjects)
}

/// Adds to a value with its lock, or copies an array of 64 KiB out, so often.
const PROGRAM: &str = "\
import multiprocessing, sys, time
value = multiprocessing.Value('Q', 0)
array = multiprocessing.Array('d', 8192)
for line in sys.stdin:
    operation, count = line.split()
    start = time.perf_counter()
    if operation == 'value':
        for _ in range(int(count)):
            with value.get_lock():
                value.value += 1
    else:
        for _ in range(int(count)):
            array[:]
    print(time.perf_counter() - start, flush=True)
";
