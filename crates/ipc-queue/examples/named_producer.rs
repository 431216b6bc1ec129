//! Sends to whoever finds the queue by its name: start `named_consumer` in another terminal.
// run: skip it waits for named_consumer, which starts it in its own run

use std::error::Error;

use ipc_queue::Sender;

fn main() -> Result<(), Box<dyn Error>> {
    // Of the two programs either may come first. One place only: the producer goes no further than its consumer.
    let tx = Sender::<(u32, String)>::open_or_create("example-numbers", 1)?;
    for (n, name) in ["zero", "one", "two", "three"].into_iter().enumerate() {
        tx.send(&(n as u32, name.to_owned()))?;
    }
    Ok(())
}
