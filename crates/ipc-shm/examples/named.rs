//! Objects that processes find by name, checked to be what they are taken for, and gone with their last user.

use std::error::Error;

use ipc_process::Process;
use ipc_shm::{Array, Value};
use ipc_sync::OpenError;

/// A process that knows nothing but the name.
fn visitor(name: String) -> f64 {
    let array = Array::<f64>::open(&name).expect("the parent has it");
    array.set(1, 2.5).expect("within the array");
    array.iter().sum()
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();

    // A name of its own for each run.
    let name = format!("example-{}", std::process::id());
    let array = Array::<f64>::create(&name, 3)?;
    array.set(0, 1.0)?;
    println!("the visitor sees a sum of {}", Process::spawn(visitor, (name.clone(),))?.join()?);
    println!("and has left {:?}", array.to_vec());

    match Array::<f64>::create(&name, 3) {
        Err(OpenError::AlreadyExists { .. }) => println!("the name is taken"),
        other => println!("unexpected: {other:?}"),
    }
    match Array::<i32>::open(&name) {
        Err(OpenError::Mismatch { what, .. }) => println!("{what}"),
        other => println!("unexpected: {other:?}"),
    }
    // Another kind, another object: this is not the array.
    let value = Value::open_or_create(&name, 7_u64)?;
    println!("a value of the same name: {}", value.get());

    drop(array);
    match Array::<f64>::open(&name) {
        Err(OpenError::NotFound { .. }) => println!("with its last user it is gone"),
        other => println!("unexpected: {other:?}"),
    }
    Ok(())
}
