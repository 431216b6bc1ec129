//! A file that only one process may open is read by another one, to which it is sent over a Unix socket.

use std::io::{Read, Seek, Write};

use ipc_core::Fd;
use ipc_socket::{Listener, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let address = format!("unix:{}", directory.path().join("socket").display());
    let mut listener = Listener::bind(address.as_str())?;
    let reader = std::thread::spawn(move || {
        let mut connection = Options::new().connect(address.as_str()).expect("it listens");
        let file: Fd = connection.recv().expect("a file is sent");
        let mut file = std::fs::File::from(file.into_owned().expect("there is no other copy"));
        let mut text = String::new();
        file.read_to_string(&mut text).expect("it can be read");
        text
    });
    let mut connection = listener.accept()?;
    let mut file = tempfile::tempfile()?;
    file.write_all(b"read by another one")?;
    file.rewind()?;
    connection.send(&Fd::new(file))?;
    println!("{}", reader.join().expect("it does not panic"));
    Ok(())
}
