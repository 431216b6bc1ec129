//! Uses `ipc-shm` alone: a value and an array in shared memory.

use std::error::Error;

use ipc_shm::{Array, Value};

fn main() -> Result<(), Box<dyn Error>> {
    let (value, array) = (Value::new(40_u32)?, Array::from_slice(&[1.5, 2.5])?);
    assert_eq!(value.fetch_add(2), 40);
    array.lock()?.update(1, |x| x * 2.0)?;
    assert_eq!((value.get(), array.to_vec()), (42, vec![1.5, 5.0]));
    Ok(())
}
