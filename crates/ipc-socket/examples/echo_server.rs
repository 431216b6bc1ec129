//! Answers each client with what it sends, a thread for each, until a line comes in: `echo_server ADDRESS`, then
//! `echo_client ADDRESS WORD…`. Also over shared memory: `shm:/tmp/ipc-echo/socket`.
// run: skip it waits for clients: tests/it/examples.rs runs it

use ipc_socket::{Connection, Listener, RecvError};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "unix:/tmp/ipc-echo/socket".to_owned());
    let server = Listener::bind(address.as_str())?.server()?.on_error(|error| eprintln!("{error}"));
    eprintln!("listening at {}", server.local_address());
    eprintln!("Enter ends it");
    let stopper = server.stopper();
    std::thread::spawn(move || {
        if std::io::stdin().read_line(&mut String::new()).is_ok_and(|count| count > 0) {
            stopper.stop();
        }
    });
    eprintln!("{:?}", server.serve(echo)?);
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
