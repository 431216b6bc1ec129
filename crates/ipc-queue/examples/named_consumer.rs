//! Receives from whoever finds the queue by its name: start `named_producer` in another terminal, or have it started.
// run: --start-producer

use std::error::Error;
use std::process::Command;

use ipc_queue::Receiver;

fn main() -> Result<(), Box<dyn Error>> {
    let rx = Receiver::<(u32, String)>::open_or_create("example-numbers", 1)?;
    let start = std::env::args().any(|argument| argument == "--start-producer");
    let producer = std::env::current_exe()?.with_file_name("named_producer");
    let producer = start.then(|| Command::new(producer).spawn()).transpose()?;

    // Waits for a first producer, and ends when the last one is gone. Then the name is free again, too.
    for (n, name) in &rx {
        println!("{n} is {name}");
    }
    if let Some(mut producer) = producer {
        producer.wait()?;
    }
    Ok(())
}
