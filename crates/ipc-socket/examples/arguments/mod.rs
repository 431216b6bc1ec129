//! What `listener` and `client` are told: ADDRESS [--authkey KEY] [--python] [--legacy-md5] [MESSAGE…]

use std::error::Error;

use ipc_socket::Options;

pub(crate) struct Arguments {
    pub(crate) address: String,
    pub(crate) options: Options,
    /// Those of the client.
    #[allow(dead_code, reason = "the listener has none")]
    pub(crate) messages: Vec<String>,
}

pub(crate) fn read(program: &str) -> Result<Arguments, String> {
    let usage = format!(
        "usage: {program} unix:/path | unix:@name | tcp:host:port [--authkey KEY] [--python] [--legacy-md5] [MESSAGE…]"
    );
    let mut arguments = std::env::args().skip(1);
    let (mut address, mut options, mut messages) = (None, Options::new(), Vec::new());
    while let Some(argument) = arguments.next() {
        options = match argument.as_str() {
            "--authkey" => options.authkey(arguments.next().ok_or_else(|| usage.clone())?),
            "--python" => options.python(),
            "--legacy-md5" => options.allow_legacy_md5(),
            _ if address.is_none() => {
                address = Some(argument);
                options
            }
            _ => {
                messages.push(argument);
                options
            }
        };
    }
    Ok(Arguments { address: address.ok_or(usage)?, options, messages })
}

/// An error, and what led to it.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
