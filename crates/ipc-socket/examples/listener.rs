//! Listens at an address, and prints each message that comes, until one is `close`:
//!
//! ```sh
//! cargo run -p ipc-socket --example listener -- unix:/tmp/hello.sock --authkey secret
//! cargo run -p ipc-socket --example client -- unix:/tmp/hello.sock --authkey secret hello close
//! ```
//!
//! With `--python` CPython can be the client: `python_client.py` beside this.
// run: skip it waits for clients: tests/it/examples.rs runs it

mod arguments;

use ipc_socket::RecvError;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments::Arguments { address, options, .. } = arguments::read("listener")?;
    let mut listener = options.bind(address.as_str())?;
    eprintln!("listening at {}", listener.local_address());
    for connection in listener.incoming() {
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                eprintln!("{}", arguments::with_causes(&error));
                continue;
            }
        };
        loop {
            match connection.recv::<String>() {
                Ok(message) if message == "close" => return Ok(()),
                Ok(message) => println!("{message}"),
                Err(RecvError::Disconnected) => break,
                Err(error) => {
                    eprintln!("{}", arguments::with_causes(&error));
                    break;
                }
            }
        }
    }
    Ok(())
}
