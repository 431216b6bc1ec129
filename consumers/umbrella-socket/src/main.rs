//! Uses connections through the umbrella, with that feature alone.

fn main() -> ipc::Result<()> {
    let mut listener = ipc::socket::Listener::bind("tcp:127.0.0.1:0")?;
    let address = listener.local_address().clone();
    let client = std::thread::spawn(move || ipc::socket::Client::connect(&address));
    let mut connection = listener.accept()?;
    client.join().expect("it does not panic")?.send(&42_u32)?;
    assert_eq!(connection.recv::<u32>()?, 42);
    Ok(())
}
