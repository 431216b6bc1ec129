//! A number and an array that processes share: set and doubled by a worker, and counted up by three of them.

use std::error::Error;

use ipc_process::Process;
use ipc_shm::{Array, Value};

fn set_and_double(number: Value<i32>, array: Array<f64>) {
    number.set(5).expect("four bytes need no lock");
    array.lock().expect("nobody dies here").update_all(|_, x| x * 2.0);
}

/// Reads and writes in two steps: right only because nobody else does so in between.
fn increment(array: Array<i64>) {
    let guard = array.lock().expect("nobody dies here");
    for index in 0..guard.len() {
        let value = guard.get(index).expect("within the array");
        std::thread::yield_now();
        guard.set(index, value + 1).expect("within the array");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();

    let number = Value::new(0_i32)?;
    let array = Array::from_slice(&[0.5, 1.0, 1.5])?;
    Process::spawn(set_and_double, (number.clone(), array.clone()))?.join()?;
    println!("{} {:?}", number.get(), array.to_vec());

    let counts = Array::from_slice(&[0_i64, 1, 2, 3, 4])?;
    let workers: Vec<Process<()>> =
        (0..3).map(|_| Process::spawn(increment, (counts.clone(),))).collect::<Result<_, _>>()?;
    for worker in workers {
        worker.join()?;
    }
    println!("{:?}", counts.to_vec());
    Ok(())
}
