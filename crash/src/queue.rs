//! Queues: a message is there or it is not, each comes once and in its turn, and all of the memory can be used again.

use std::cell::Cell;
use std::time::Duration;

use ipc_process::WorkerFn;
use ipc_queue::{Options, Receiver, RecvError, SendError, Sender};
use ipc_sync::{OpenError, reclaim};
use ipc_testkit::stepper::{BoxError, Outcome, Steps, operation};

use crate::named;
use crate::tools::{DEADLINE, Seen, both, is_killed, must, scenario, timed, wrong};
use crate::worker::{Sleeper, asleep_and_killed};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    let mut all = alone_with_it();
    all.extend(helped());
    all.extend(with_a_name());
    all.push(sweeps());
    all
}

/// A number, and as many bytes as it takes, all of the number's.
pub(crate) type Message = (u64, Vec<u8>);
pub(crate) type Ends = (Sender<Message>, Receiver<Message>);

pub(crate) const CAPACITY: u64 = 4;

/// Three pages for long messages.
pub(crate) fn options() -> Options {
    Options::new(CAPACITY as usize).bytes(3 * 4096)
}

const LENGTHS: [usize; 4] = [20, 150, 5_000, 10_000];

fn message(id: u64, kind: usize) -> Message {
    (id, vec![id as u8; LENGTHS[kind]])
}

/// One that goes into its slot.
pub(crate) fn short(id: u64) -> Message {
    message(id, 0)
}

/// One of a page.
pub(crate) fn long(id: u64) -> Message {
    message(id, 1)
}

/// One of two pages.
pub(crate) fn longer(id: u64) -> Message {
    message(id, 2)
}

/// One of all pages.
pub(crate) fn whole(id: u64) -> Message {
    message(id, 3)
}

/// Its number, if it is as it was sent.
pub(crate) fn intact((id, bytes): &Message) -> Result<u64, String> {
    let is_whole = LENGTHS.contains(&bytes.len()) && bytes.iter().all(|byte| *byte == *id as u8);
    if is_whole { Ok(*id) } else { Err(format!("message {id} is torn: {} bytes", bytes.len())) }
}

/// Messages with these numbers.
pub(crate) fn many(make: fn(u64) -> Message, ids: impl IntoIterator<Item = u64>) -> Vec<Message> {
    ids.into_iter().map(make).collect()
}

pub(crate) fn fill(tx: &Sender<Message>, messages: &[Message]) {
    messages.iter().for_each(|message| tx.try_send(message).expect("there is room"));
}

/// Both have been used, and what is to be there is there.
pub(crate) fn warm((tx, rx): &Ends, messages: &[Message]) {
    tx.send(&short(0)).expect("there is room");
    rx.recv().expect("there is one");
    fill(tx, messages);
}

/// What is there now, in its order.
pub(crate) fn rest(rx: &Receiver<Message>) -> Result<Vec<u64>, BoxError> {
    let mut ids = Vec::new();
    loop {
        match timed(|| rx.try_recv()) {
            Ok(message) => ids.push(intact(&message)?),
            Err(RecvError::Empty) => return Ok(ids),
            other => return wrong(format!("after {ids:?}: {other:?}")),
        }
        must(ids.len() <= 100, || "messages without end".into())?;
    }
}

thread_local! {
    /// Which end is dropped first.
    static TURN: Cell<bool> = const { Cell::new(false) };
}

/// Empty by now, it is as good as a new one, and each side is told of the other's end.
pub(crate) fn settle((tx, rx): Ends) -> Result<(), BoxError> {
    must(rx.is_empty() && tx.is_empty(), || {
        format!("nothing is left, and there are said to be {} messages", tx.len())
    })?;
    for lap in 0..2 {
        let ids: Vec<u64> = (10 * lap..10 * lap + CAPACITY).collect();
        for id in &ids {
            timed(|| tx.send_timeout(&short(*id), DEADLINE))
                .map_err(|error| format!("as good as new, and {error:?}"))?;
        }
        let full = timed(|| tx.try_send(&short(9)));
        must(matches!(full, Err(SendError::Full)), || format!("one too many: {full:?}"))?;
        let received = rest(&rx)?;
        must(received == ids, || format!("{ids:?} were sent, and {received:?} received"))?;
    }
    for id in 1..3 {
        timed(|| tx.send_timeout(&whole(id), DEADLINE)).map_err(|error| format!("of all pages: {error}"))?;
        let full = timed(|| tx.try_send(&long(9)));
        must(matches!(full, Err(SendError::Full)), || format!("all pages are in use: {full:?}"))?;
        let received = rest(&rx)?;
        must(received == [id], || format!("of all pages {received:?} came"))?;
    }
    if TURN.replace(!TURN.get()) {
        drop(tx);
        let told = timed(|| rx.recv_timeout(DEADLINE));
        must(matches!(told, Err(RecvError::Disconnected)), || format!("no sender, and {told:?}"))
    } else {
        drop(rx);
        let told = timed(|| tx.send_timeout(&short(1), DEADLINE));
        must(matches!(told, Err(SendError::Disconnected)), || format!("no receiver, and {told:?}"))
    }
}

/// What is left is this; or that, if it was killed.
pub(crate) fn judge(
    left: &[u64],
    is_killed: bool,
    before: &[u64],
    after: &[u64],
    seen: &Seen,
) -> Result<(), BoxError> {
    if left == after {
        seen.note("after");
    } else if is_killed && left == before {
        seen.note("before");
    } else {
        return wrong(format!("{left:?} came, of {before:?} and then {after:?}; killed: {is_killed}"));
    }
    Ok(())
}

fn wanted(before: &[u64], after: &[u64]) -> &'static [&'static str] {
    if before == after { &["after"] } else { &["before", "after"] }
}

fn alone_with_it() -> Vec<Box<dyn Steps>> {
    let first = |ends: Ends| operation(|| ends.0.send(&short(1))).expect("there is room");
    let sends = |ends: Ends| {
        warm(&ends, &[]);
        operation(|| ends.0.send(&short(1))).expect("there is room");
    };
    let sends_last = |ends: Ends| {
        warm(&ends, &many(short, 1..3));
        operation(|| ends.0.send(&short(3))).expect("there is room");
    };
    let sends_long = |ends: Ends| {
        warm(&ends, &[]);
        operation(|| ends.0.send(&long(1))).expect("there is room");
    };
    let sends_pages = |ends: Ends| {
        warm(&ends, &[]);
        operation(|| ends.0.send(&whole(1))).expect("there is room");
    };
    let recv_pages = |ends: Ends| {
        warm(&ends, &[whole(1), short(2)]);
        assert_eq!(operation(|| ends.1.recv()).expect("there are two").0, 1);
    };
    let full = |ends: Ends| {
        warm(&ends, &many(short, 1..5));
        let sent = operation(|| ends.0.try_send(&short(5)));
        assert!(matches!(sent, Err(SendError::Full)), "{sent:?}");
    };
    let full_store = |ends: Ends| {
        warm(&ends, &many(long, 1..4));
        let sent = operation(|| ends.0.try_send(&long(5)));
        assert!(matches!(sent, Err(SendError::Full)), "{sent:?}");
    };
    let full_long = |ends: Ends| {
        warm(&ends, &many(short, 1..5));
        let sent = operation(|| ends.0.send_timeout(&long(5), Duration::from_millis(15)));
        assert!(matches!(sent, Err(SendError::Timeout)), "{sent:?}");
    };
    let recv_first = |ends: Ends| _ = operation(|| ends.1.recv()).expect("there are two");
    let recv = |ends: Ends| {
        warm(&ends, &many(short, 1..3));
        assert_eq!(operation(|| ends.1.recv()).expect("there are two").0, 1);
    };
    let recv_long = |ends: Ends| {
        warm(&ends, &many(long, 1..3));
        assert_eq!(operation(|| ends.1.recv()).expect("there are two").0, 1);
    };
    let empty = |ends: Ends| {
        warm(&ends, &[]);
        let received = operation(|| ends.1.recv_timeout(Duration::from_millis(15)));
        assert!(matches!(received, Err(RecvError::Timeout)), "{received:?}");
    };
    let drops = |ends: Ends| {
        warm(&ends, &[short(1)]);
        operation(|| drop(ends));
    };
    vec![
        alone("queue/send", sends, &[], &[], &[1]),
        alone("queue/send, first use", first, &[], &[], &[1]),
        alone("queue/send into the last slot", sends_last, &[], &[1, 2], &[1, 2, 3]),
        alone("queue/send, a long one", sends_long, &[], &[], &[1]),
        alone("queue/send, a message of all pages", sends_pages, &[], &[], &[1]),
        alone("queue/try_send, full", full, &[], &[1, 2, 3, 4], &[1, 2, 3, 4]),
        alone("queue/try_send, no pages", full_store, &[], &[1, 2, 3], &[1, 2, 3]),
        alone("queue/send_timeout, a long one, full", full_long, &[], &[1, 2, 3, 4], &[1, 2, 3, 4]),
        alone("queue/recv", recv, &[], &[1, 2], &[2]),
        alone("queue/recv, first use", recv_first, &[1, 2], &[1, 2], &[2]),
        alone("queue/recv, a long one", recv_long, &[], &[1, 2], &[2]),
        alone("queue/recv, a message of all pages", recv_pages, &[], &[1, 2], &[2]),
        full_again(),
        alone("queue/recv_timeout that times out", empty, &[], &[], &[]),
        alone("queue/drop", drops, &[], &[1], &[1]),
    ]
}

/// Messages of these numbers are there when it begins; what is left is `before`, or `after`. What the process puts there
/// itself before the operation is in both.
fn alone<F>(
    name: &str,
    process: F,
    filled: &'static [u64],
    before: &'static [u64],
    after: &'static [u64],
) -> Box<dyn Steps>
where
    F: WorkerFn<(Ends,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(wanted(before, after));
    let prepare = move || {
        let (ours, theirs) = both(options().bounded()?);
        fill(&ours.0, &many(short, filled.iter().copied()));
        Ok((Some(ours), theirs))
    };
    let oracle = move |ends: &mut Option<Ends>, outcome| {
        let ends = ends.take().ok_or("the survivor's own")?;
        judge(&rest(&ends.1)?, is_killed(&outcome), before, after, &seen)?;
        settle(ends)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

fn receiving_from_full(ends: Ends) {
    warm(&ends, &many(short, 1..5));
    assert_eq!(operation(|| ends.1.recv()).expect("it is full").0, 1);
}

/// The room that was made is used before anybody else receives.
fn full_again() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["before", "after"]);
    let prepare = || {
        let (ours, theirs) = both(options().bounded()?);
        Ok((Some(ours), theirs))
    };
    let oracle = move |ends: &mut Option<Ends>, outcome| {
        let ends = ends.take().ok_or("the survivor's own")?;
        let is_killed = is_killed(&outcome);
        match timed(|| ends.0.try_send(&short(5))) {
            Ok(()) => judge(&rest(&ends.1)?, false, &[], &[2, 3, 4, 5], &seen)?,
            Err(SendError::Full) if is_killed => judge(&rest(&ends.1)?, true, &[1, 2, 3, 4], &[], &seen)?,
            other => return wrong(format!("the next one: {other:?}; killed: {is_killed}")),
        }
        settle(ends)
    };
    let name = "queue/recv, full, and a survivor sends";
    Box::new(scenario(name, prepare, receiving_from_full, oracle).finally(finally))
}

/// What the survivors did while the process slept: which they took, or how many they sent.
struct Helped {
    ends: Option<Ends>,
    ids: Vec<u64>,
}

fn helped() -> Vec<Box<dyn Steps>> {
    let sends = |ends: Ends| {
        warm(&ends, &many(short, 1..5));
        operation(|| ends.0.send(&short(5))).expect("a survivor makes room");
    };
    let sends_long = |ends: Ends| {
        warm(&ends, &many(long, 1..4));
        operation(|| ends.0.send(&long(4))).expect("a survivor makes room");
    };
    let stores_and_sends = |ends: Ends| {
        warm(&ends, &many(short, 1..5));
        operation(|| ends.0.send(&long(5))).expect("a survivor makes room");
    };
    vec![
        makes_room("queue/send that sleeps", sends, 4),
        makes_room("queue/send that sleeps for pages", sends_long, 3),
        makes_room("queue/send, a long one, that sleeps", stores_and_sends, 4),
        sends_one("queue/recv that sleeps", short),
        sends_one("queue/recv that sleeps, a long one", long),
    ]
}

/// `count` messages are there, and the process waits for room for one more: a survivor takes one.
fn makes_room<F>(name: &str, process: F, count: u64) -> Box<dyn Steps>
where
    F: WorkerFn<(Ends,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(&["asleep", "before", "after"]);
    let prepare = || {
        let (ours, theirs) = both(options().bounded()?);
        Ok((Helped { ends: Some(ours), ids: Vec::new() }, theirs))
    };
    let while_blocked = |Helped { ends, ids }: &mut Helped, turn| {
        if turn == 0
            && let Some((_, rx)) = ends
        {
            ids.push(intact(&rx.try_recv().expect("it is full")).expect("nobody has died"));
        }
    };
    let oracle = move |Helped { ends, ids }: &mut Helped, outcome| {
        let ends = ends.take().ok_or("the survivor's own")?;
        if !ids.is_empty() {
            seen.note("asleep");
        }
        ids.extend(rest(&ends.1)?);
        let all: Vec<u64> = (1..count + 2).collect();
        judge(ids, is_killed(&outcome), &all[..count as usize], &all, &seen)?;
        settle(ends)
    };
    Box::new(scenario(name, prepare, process, oracle).while_blocked(while_blocked).finally(finally))
}

fn receiving(ends: Ends) {
    warm(&ends, &[]);
    assert_eq!(operation(|| ends.1.recv()).expect("a survivor sends one").0, 1);
}

/// The process waits for a message: a survivor sends it.
fn sends_one(name: &str, make: fn(u64) -> Message) -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["asleep", "before", "after"]);
    let prepare = || {
        let (ours, theirs) = both(options().bounded()?);
        Ok((Helped { ends: Some(ours), ids: Vec::new() }, theirs))
    };
    let while_blocked = move |Helped { ends, ids }: &mut Helped, turn| {
        if turn == 0
            && let Some((tx, _)) = ends
        {
            tx.try_send(&make(1)).expect("it is empty");
            ids.push(1);
        }
    };
    let oracle = move |Helped { ends, ids }: &mut Helped, outcome: Outcome<()>| {
        let ends = ends.take().ok_or("the survivor's own")?;
        if !ids.is_empty() {
            seen.note("asleep");
        }
        judge(&rest(&ends.1)?, is_killed(&outcome), ids, &[], &seen)?;
        settle(ends)
    };
    Box::new(scenario(name, prepare, receiving, oracle).while_blocked(while_blocked).finally(finally))
}

const NAME: &str = "crash";

fn with_a_name() -> Vec<Box<dyn Steps>> {
    let creates = || {
        let made = operation(|| Sender::<Message>::create_with(NAME, options()));
        std::mem::forget(made.expect("it is free"));
    };
    let makes_and_uses = || {
        operation(|| {
            let tx = Sender::open_or_create(NAME, CAPACITY as usize).expect("it is free");
            tx.send(&long(1)).expect("there is room");
        });
    };
    let opens_and_uses = || {
        operation(|| {
            let tx = Sender::open_or_create(NAME, CAPACITY as usize).expect("it is there");
            tx.send(&long(1)).expect("there is room");
        });
    };
    let opens_and_uses_small = || {
        operation(|| {
            let tx = Sender::open(NAME).expect("it is there");
            tx.send(&long(1)).expect("there is room");
        });
    };
    let small = || Ok((Sender::create_with(NAME, options())?, Receiver::open(NAME)?));
    let usual = || Ok((Sender::create(NAME, CAPACITY as usize)?, Receiver::open(NAME)?));
    vec![
        named("queue/create", creates, None),
        named("queue/open_or_create, a new one", makes_and_uses, None),
        named("queue/open_or_create, that is there", opens_and_uses, Some(usual)),
        named("queue/open, use and drop", opens_and_uses_small, Some(small)),
    ]
}

type Make = fn() -> Result<Ends, OpenError>;

/// A survivor has it all the time, or nobody but the process.
fn named<F>(name: &str, process: F, make: Option<Make>) -> Box<dyn Steps>
where
    F: Fn() + Copy + Send + Sync + 'static,
{
    let prepare = move || Ok((make.map(|make| make()).transpose()?, ()));
    let oracle = |ends: &mut Option<Ends>, outcome: Outcome<()>| {
        if let Some((tx, rx)) = ends.take() {
            judge(&rest(&rx)?, is_killed(&outcome), &[], &[1], &Seen::default())?;
            timed(|| tx.send_timeout(&long(2), DEADLINE))?;
            let left = rest(&rx)?;
            must(left == [2], || format!("one was sent, and {left:?} came"))?;
            drop((tx, rx));
            // The dead one is no user of it.
            named::is_empty("after the last user has gone")?;
        }
        let opened = Sender::<Message>::open(NAME);
        must(matches!(opened, Err(OpenError::NotFound { .. })), || {
            format!("nobody has it, and it is {opened:?}")
        })?;
        settle((Sender::create_with(NAME, options())?, Receiver::open(NAME)?))?;
        reclaim()?;
        named::is_empty("after reclaim")
    };
    Box::new(scenario(name, prepare, move |_: ()| process(), oracle))
}

fn stuck((tx, mut sleeper): (Sender<Message>, Sleeper)) {
    sleeper.wait_for_caller();
    let _never = tx.send(&longer(99));
}

type Sweeping = (Ends, Ends);

/// One that was killed has two of three pages, and a message the other: who sends a long one finds those of the dead.
fn sweeps() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["before", "after"]);
    let prepare = || {
        let (ours, theirs) = both(options().bounded()?);
        fill(&ours.0, &many(short, 1..4));
        fill(&ours.0, &[long(4)]);
        asleep_and_killed(|sleeper| (ours.0.clone(), sleeper), stuck)?;
        let first = intact(&ours.1.recv_timeout(DEADLINE)?)?;
        must(first == 1, || format!("the first is {first}"))?;
        Ok((Some(ours), (theirs, options().bounded()?)))
    };
    let sending = |(ends, other): Sweeping| {
        warm(&other, &[]);
        operation(|| ends.0.try_send(&long(5))).expect("what the dead had is free");
    };
    let oracle = move |ends: &mut Option<Ends>, outcome| {
        let ends = ends.take().ok_or("the survivor's own")?;
        let is_killed = is_killed(&outcome);
        let received = timed(|| ends.1.recv_timeout(DEADLINE))?;
        must(intact(&received)? == 2, || "not the second".into())?;
        // The one beside it is not harmed, and there is a page for another.
        timed(|| ends.0.send_timeout(&long(6), DEADLINE))?;
        judge(&rest(&ends.1)?, is_killed, &[3, 4, 6], &[3, 4, 5, 6], &seen)?;
        settle(ends)
    };
    Box::new(scenario("queue/send that sweeps", prepare, sending, oracle).finally(finally))
}
