//! ipc-channel: a channel for each kind of message, blocking calls.

use std::time::Duration;

use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender};
use serde::{Deserialize, Serialize};

use crate::message::{BIG_LEN, Message, Operation, check};
use crate::second::{self, Second};
use crate::settings::Settings;
use crate::{Error, Peer};

pub(crate) const NAME: &str = "ipc-channel";

/// The ends of the second process.
#[derive(Serialize, Deserialize)]
struct Ends {
    numbers: IpcReceiver<u64>,
    answers: IpcSender<u64>,
    messages: IpcReceiver<Message>,
    big: IpcBytesReceiver,
}

/// The side that sends, or begins.
pub(crate) struct IpcChannels {
    second: Second,
    numbers: IpcSender<u64>,
    answers: IpcReceiver<u64>,
    messages: IpcSender<Message>,
    big: IpcBytesSender,
    buffer: Vec<u8>,
}

impl IpcChannels {
    pub(crate) fn start(settings: Settings) -> Result<Self, Error> {
        let (second, server) = Second::start(NAME, settings)?;
        let (numbers, their_numbers) = ipc::channel()?;
        let (their_answers, answers) = ipc::channel()?;
        let (messages, their_messages) = ipc::channel()?;
        let (big, their_big) = ipc::bytes_channel()?;
        IpcSender::connect(server)?.send(Ends {
            numbers: their_numbers,
            answers: their_answers,
            messages: their_messages,
            big: their_big,
        })?;
        Ok(IpcChannels { second, numbers, answers, messages, big, buffer: vec![0; BIG_LEN] })
    }
}

impl Peer for IpcChannels {
    fn block(&mut self, operation: Operation, count: u64) -> Result<Duration, Error> {
        let IpcChannels { second, numbers, answers, messages, big, buffer } = self;
        match operation {
            Operation::PingPong => second.block(operation, count, || {
                for number in 0..count {
                    numbers.send(number)?;
                    check(answers.recv()?, number)?;
                }
                Ok(())
            }),
            Operation::OneWay64 => second.block(operation, count, || {
                for number in 0..count {
                    messages.send(Message::new(number))?;
                }
                Ok(())
            }),
            Operation::OneWay1M => second.block(operation, count, || {
                for number in 0..count {
                    buffer[..8].copy_from_slice(&number.to_ne_bytes());
                    buffer[BIG_LEN - 8..].copy_from_slice(&number.to_ne_bytes());
                    big.send(buffer)?;
                }
                Ok(())
            }),
            Operation::Loan8 | Operation::Loan1M | Operation::TwoTwo => Err(operation.unknown_to(NAME)),
        }
    }
}

/// The other side.
pub(crate) fn serve() -> Result<(), Error> {
    let (server, name) = IpcOneShotServer::<Ends>::new()?;
    second::say(name)?;
    let (_, Ends { numbers, answers, messages, big }) = server.accept()?;
    second::serve(|operation, count| {
        for expected in 0..count {
            match operation {
                Operation::PingPong => answers.send(numbers.recv()?)?,
                Operation::OneWay64 => messages.recv()?.check(expected)?,
                Operation::OneWay1M => {
                    // It has no way to receive into memory that is there already.
                    let bytes = big.recv()?;
                    let ends = bytes.first_chunk().zip(bytes.last_chunk()).ok_or("too few bytes")?;
                    check(bytes.len() as u64, BIG_LEN as u64)?;
                    check(u64::from_ne_bytes(*ends.0), expected)?;
                    check(u64::from_ne_bytes(*ends.1), expected)?;
                }
                Operation::Loan8 | Operation::Loan1M | Operation::TwoTwo => {
                    return Err(operation.unknown_to(NAME));
                }
            }
        }
        Ok(())
    })
}
