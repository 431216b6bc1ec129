//! Answers each client with what it sends, a thread for each: `echo_server ADDRESS`, then `echo_client ADDRESS`.
// run: skip it waits for clients: tests/it/examples.rs runs it

use ipc_socket::{Connection, Listener, RecvError};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "unix:/tmp/ipc-echo/socket".to_owned());
    let mut listener = Listener::bind(address.as_str())?;
    eprintln!("listening at {}", listener.local_address());
    for connection in listener.incoming() {
        match connection {
            Ok(connection) => drop(std::thread::spawn(move || echo(connection))),
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}

fn echo(mut connection: Connection) {
    loop {
        match connection.recv_bytes() {
            Ok(bytes) => {
                if connection.send_bytes(&bytes).is_err() {
                    return;
                }
            }
            Err(RecvError::Disconnected) => return,
            Err(error) => return eprintln!("{error}"),
        }
    }
}
