//! Connects to an address, and sends its other arguments as messages: see `listener`.
// run: skip it wants a listener: tests/it/examples.rs runs it

mod arguments;

use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments::Arguments { address, options, messages } = arguments::read("client")?;
    let options = options.retry().timeout(Duration::from_secs(10));
    let mut connection = options.connect(address.as_str()).map_err(|error| arguments::with_causes(&error))?;
    for message in &messages {
        connection.send(message)?;
    }
    Ok(())
}
