//! iceoryx2: services of its own for each kind of message, nothing lost (overflow off, senders wait), receivers poll.
#![expect(unsafe_code, reason = "it has no safe way to send borrowed memory of which only a part is written")]

use std::path::Path;
use std::time::Duration;

use iceoryx2::node::Node;
use iceoryx2::port::ReceiveError;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::builder::publish_subscribe::Builder;

use crate::message::{BIG_LEN, Message, Operation, check};
use crate::second::{self, Second};
use crate::settings::Settings;
use crate::{Error, Peer, scratch};

pub(crate) const NAME: &str = "iceoryx2";

/// For use by one thread each, which is its fastest.
type Service = ipc::Service;

/// A cache line of a big message.
type Line = [u64; LINE_LEN / 8];

const LINE_LEN: usize = 64;
const LINES: usize = BIG_LEN / LINE_LEN;

fn line(sequence: u64) -> Line {
    [sequence; LINE_LEN / 8]
}

/// A line that is another one in each message: what is there was copied just now.
fn one_of(sequence: u64) -> usize {
    sequence as usize % LINES
}

/// The first and the last line are those of the message expected.
fn check_lines(lines: &[Line], expected: u64) -> Result<(), Error> {
    check(lines[0][0], expected)?;
    check(lines[LINES - 1][7], expected)
}

type Sending<T> = Publisher<Service, T, ()>;
type Receiving<T> = Subscriber<Service, T, ()>;

/// What both processes make in the same way.
struct Services {
    node: Node<Service>,
    settings: Settings,
}

/// What is told to a service of either kind: places for exactly the two processes, and nothing that is lost.
macro_rules! service {
    ($services:expr, $name:literal, $payload:ty, $capacity:expr) => {
        lossless(
            $services.node.service_builder(&$name.try_into()?).publish_subscribe::<$payload>(),
            $capacity,
        )
        .open_or_create()?
    };
}

fn lossless<T: IceoryxSend + std::fmt::Debug + ?Sized>(
    builder: Builder<T, (), Service>,
    capacity: usize,
) -> Builder<T, (), Service> {
    builder
        // Its memory has no padding else: a message would lie in two lines.
        .payload_alignment(Alignment::ALIGN_64)
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(capacity)
        .subscriber_max_borrowed_samples(1)
        .history_size(0)
        .max_publishers(1)
        .max_subscribers(1)
        .max_nodes(2)
}

const WAITS: BackpressureStrategy = BackpressureStrategy::RetryUntilDelivered;

impl Services {
    /// Joins the run whose files are in `scratch`.
    fn new(scratch: &Path, settings: Settings) -> Result<Self, Error> {
        // Errors come back as values; what it would print besides is not for whoever reads our output.
        set_log_level(LogLevel::Fatal);
        let mut config = Config::default();
        let root = scratch.to_str().ok_or("the directory for temporary files is not UTF-8")?;
        config.global.set_root_path(&iceoryx2::prelude::Path::new(root.as_bytes())?);
        config.global.prefix = FileName::new(scratch::prefix(scratch).as_bytes())?;
        let node = NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<Service>()?;
        Ok(Services { node, settings })
    }
}

/// Sends to the other process.
macro_rules! sending {
    ($services:expr, $name:literal, $payload:ty) => {{
        let service = service!($services, $name, $payload, $services.settings.capacity);
        service.publisher_builder().max_loaned_samples(1).backpressure_strategy(WAITS).create()?
    }};
}

/// Receives from the other process.
macro_rules! receiving {
    ($services:expr, $name:literal, $payload:ty, $capacity:expr) => {
        service!($services, $name, $payload, $capacity).subscriber_builder().create()?
    };
}

/// Polls until there is something.
fn next<T>(receive: impl Fn() -> Result<Option<T>, ReceiveError>) -> Result<T, ReceiveError> {
    loop {
        if let Some(sample) = receive()? {
            return Ok(sample);
        }
        std::hint::spin_loop();
    }
}

/// The side that sends, or begins. What is dropped first stands first.
pub(crate) struct Iceoryx2 {
    second: Second,
    numbers: Sending<u64>,
    answers: Receiving<u64>,
    messages: Sending<Message>,
    lines: Sending<[Line]>,
    /// What the big messages are copied from.
    big: Vec<Line>,
    _services: Services,
}

impl Iceoryx2 {
    pub(crate) fn start(settings: Settings) -> Result<Self, Error> {
        let services = Services::new(scratch::directory()?, settings)?;
        let numbers = sending!(services, "numbers", u64);
        let answers = receiving!(services, "answers", u64, settings.capacity);
        let messages = sending!(services, "messages", Message);
        let lines = service!(services, "lines", [Line], settings.big_capacity)
            .publisher_builder()
            .max_loaned_samples(1)
            .initial_max_slice_len(LINES)
            .backpressure_strategy(WAITS)
            .create()?;
        let (second, _) = Second::start(NAME, settings)?;
        let big = vec![line(0); LINES];
        Ok(Iceoryx2 { second, numbers, answers, messages, lines, big, _services: services })
    }
}

impl Peer for Iceoryx2 {
    fn block(&mut self, operation: Operation, count: u64) -> Result<Duration, Error> {
        let Iceoryx2 { second, numbers, answers, messages, lines, big, .. } = self;
        match operation {
            Operation::PingPong => second.block(operation, count, || {
                for number in 0..count {
                    numbers.send_copy(number)?;
                    let answer = next(|| answers.receive())?;
                    check(*answer.payload(), number)?;
                }
                Ok(())
            }),
            Operation::Loan8 => second.block(operation, count, || {
                for number in 0..count {
                    numbers.loan_uninit()?.write_payload(number).send()?;
                }
                Ok(())
            }),
            Operation::OneWay64 => second.block(operation, count, || {
                for number in 0..count {
                    messages.send_copy(Message::new(number))?;
                }
                Ok(())
            }),
            Operation::OneWay1M => second.block(operation, count, || {
                for number in 0..count {
                    big[0] = line(number);
                    big[one_of(number)] = line(number);
                    big[LINES - 1] = line(number);
                    lines.loan_slice_uninit(LINES)?.write_from_slice(big).send()?;
                }
                Ok(())
            }),
            Operation::Loan1M => second.block(operation, count, || {
                for number in 0..count {
                    let mut loan = lines.loan_slice_uninit(LINES)?;
                    loan.payload_mut()[0].write(line(number));
                    loan.payload_mut()[LINES - 1].write(line(number));
                    // SAFETY: the memory is a file's, which holds zeros where nobody wrote, and any bytes are numbers.
                    unsafe { loan.assume_init() }.send()?;
                }
                Ok(())
            }),
            Operation::TwoTwo => Err(operation.unknown_to(NAME)),
        }
    }
}

/// The other side.
pub(crate) fn serve(scratch: &Path, settings: Settings) -> Result<(), Error> {
    let services = Services::new(scratch, settings)?;
    let numbers = receiving!(services, "numbers", u64, settings.capacity);
    let answers = sending!(services, "answers", u64);
    let messages = receiving!(services, "messages", Message, settings.capacity);
    let lines: Receiving<[Line]> = receiving!(services, "lines", [Line], settings.big_capacity);
    let mut big = vec![line(0); LINES];
    second::say("here")?;
    second::serve(|operation, count| {
        for expected in 0..count {
            match operation {
                Operation::PingPong => {
                    let number = *next(|| numbers.receive())?.payload();
                    answers.send_copy(number)?;
                }
                Operation::Loan8 => check(*next(|| numbers.receive())?.payload(), expected)?,
                Operation::OneWay64 => next(|| messages.receive())?.payload().check(expected)?,
                Operation::OneWay1M => {
                    big.copy_from_slice(next(|| lines.receive())?.payload());
                    check(big[one_of(expected)][0], expected)?;
                    check_lines(std::hint::black_box(&big), expected)?;
                }
                Operation::Loan1M => check_lines(next(|| lines.receive())?.payload(), expected)?,
                Operation::TwoTwo => return Err(operation.unknown_to(NAME)),
            }
        }
        Ok(())
    })
}
