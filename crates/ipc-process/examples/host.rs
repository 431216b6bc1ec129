//! Starts a different program, `plugin`, and hands pipe ends over to it.

use std::error::Error;

use ipc_process::Program;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut texts, inbox) = ipc_pipe::pipe::<String>()?;
    let (outbox, mut lengths) = ipc_pipe::pipe::<usize>()?;

    // Cargo puts the examples beside each other.
    let program = std::env::current_exe()?.with_file_name("plugin");
    let plugin = Program::new(program).start(&(inbox, outbox))?;

    for text in ["one", "three", "seventeen"] {
        texts.send(&text.to_owned())?;
        println!("{text}: {} characters", lengths.recv()?);
    }
    // Without a sender its loop ends, and with that the program.
    drop(texts);
    plugin.join()?;
    println!("the plugin has exited with code 0");
    Ok(())
}
