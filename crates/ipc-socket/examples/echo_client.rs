//! Sends its further arguments to `echo_server`, and prints what comes back: `echo_client ADDRESS WORD…`
// run: skip it wants a server: tests/it/examples.rs runs it

use ipc_socket::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "unix:/tmp/ipc-echo/socket".to_owned());
    let mut connection = Client::connect(address.as_str())?;
    for word in arguments {
        connection.send_bytes(word.as_bytes())?;
        println!("{}", String::from_utf8(connection.recv_bytes()?)?);
    }
    Ok(())
}
