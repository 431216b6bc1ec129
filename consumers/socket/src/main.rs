//! Uses `ipc-socket` alone: a connection with a key.

use std::error::Error;

use ipc_socket::Options;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::new().authkey(b"a key");
    let mut listener = options.clone().bind("tcp:127.0.0.1:0")?;
    let address = listener.local_address().clone();
    let client = std::thread::spawn(move || -> Result<String, String> {
        let mut connection = options.connect(&address).map_err(|error| error.to_string())?;
        connection.send(&42_u32).map_err(|error| error.to_string())?;
        connection.recv::<String>().map_err(|error| error.to_string())
    });
    let mut connection = listener.accept()?;
    assert_eq!(connection.recv::<u32>()?, 42);
    connection.send(&"thanks".to_owned())?;
    assert_eq!(client.join().map_err(|_| "the client panicked")??, "thanks");
    Ok(())
}
