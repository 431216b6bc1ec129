//! A segment that a Python program uses, too: both halves square the numbers that the other one has put there.

use std::process::{Command, Stdio};

use ipc_shm::Segment;

/// The other half, beside this file.
const PYTHON: &str = include_str!("python.py");

/// 100 numbers that are to be squared, and room for their squares.
const COUNT: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let has_python =
        Command::new("python3").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !has_python.is_ok_and(|status| status.success()) {
        println!("there is no python3 here: nothing to show");
        return Ok(());
    }

    // The name is for Python; it is gone when this program ends.
    let name = format!("example-python-{}", std::process::id());
    let segment = Segment::options().unlink_on_drop(true).create(&name, 2 * COUNT * 8)?;
    let numbers: Vec<i64> = (0..COUNT as i64).collect();
    segment.write_slice(0, &numbers)?;
    println!("rust: made a segment of {} bytes", segment.len());

    let ended = Command::new("python3").args(["-c", PYTHON, &name]).status()?;
    assert!(ended.success(), "python ended with {ended}");

    let mut squares = [0i64; COUNT];
    segment.read_slice(COUNT * 8, &mut squares)?;
    assert!(numbers.iter().zip(squares).all(|(n, square)| n * n == square));
    println!("rust: found {} squares, of which the last is {}", squares.len(), squares[COUNT - 1]);
    Ok(())
}
