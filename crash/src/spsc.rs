//! Channels from one process to another: what was sent before a death comes, in its order and as a whole, and who is left
//! is told.

use ipc_pipe::{Duplex, duplex};
use ipc_process::WorkerFn;
use ipc_queue::spsc::{Receiver, Sender};
use ipc_queue::{RecvError, SendError, spsc};
use ipc_testkit::stepper::{BoxError, Outcome, Steps, operation};
use serde::{Deserialize, Serialize};

use crate::queue::{Message, intact, long, longer, many, short};
use crate::tools::{DEADLINE, Seen, is_killed, must, scenario, timed, wrong};
use crate::worker::{Caller, Crew, Hired, Say, Sleeper};

/// A message of [`longer`] goes through it in pieces.
const BYTES: usize = 4096;

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    let mut all = senders();
    all.extend(receivers());
    all.extend(with_sleepers());
    all.extend(moved());
    all
}

/// As many as there is room for, of the numbers from 1 on. How many those were.
fn fill(tx: &mut Sender<Message>) -> u64 {
    (1..1000).take_while(|id| tx.try_send(&short(*id)).is_ok()).count() as u64
}

/// What comes until there is an error, each message as it was sent.
fn drain(rx: &mut Receiver<Message>, ids: &mut Vec<u64>) -> Result<RecvError, BoxError> {
    while ids.len() < 1000 {
        match timed(|| rx.recv_timeout(DEADLINE)) {
            Ok(message) => ids.push(intact(&message)?),
            Err(error) => return Ok(error),
        }
    }
    wrong("messages without end")
}

/// The survivor's end, and what it received while the process slept.
struct Receiving {
    rx: Receiver<Message>,
    ids: Vec<u64>,
    was_asleep: bool,
}

fn senders() -> Vec<Box<dyn Steps>> {
    let first = |mut tx: Sender<Message>| operation(|| tx.send(&short(1))).expect("there is room");
    let sends = |mut tx: Sender<Message>| {
        tx.send(&short(1)).expect("there is room");
        operation(|| tx.send(&long(2))).expect("there is room");
    };
    let around = |mut tx: Sender<Message>| {
        let count = fill(&mut tx);
        // The survivor makes room at the front.
        operation(|| tx.send(&long(count + 1))).expect("a survivor makes room");
    };
    let in_pieces = |mut tx: Sender<Message>| {
        tx.send(&short(1)).expect("there is room");
        operation(|| tx.send(&longer(2))).expect("a survivor makes room");
    };
    let begins = |mut tx: Sender<Message>| {
        operation(|| {
            let sent = tx.try_send(&longer(1));
            assert!(matches!(sent, Err(SendError::Begun { .. })), "{sent:?}");
            tx.flush().expect("a survivor makes room");
        });
    };
    let full = |mut tx: Sender<Message>| {
        fill(&mut tx);
        let sent = operation(|| tx.try_send(&short(1)));
        assert!(matches!(sent, Err(SendError::Full)), "{sent:?}");
    };
    let sends_many = |mut tx: Sender<Message>| {
        operation(|| tx.send_all(many(short, 1..9))).expect("there is room");
    };
    let drops = |mut tx: Sender<Message>| {
        tx.send(&short(1)).expect("there is room");
        operation(|| drop(tx));
    };
    let capacity = {
        let (mut tx, _rx) = spsc(BYTES).expect("there is memory");
        fill(&mut tx)
    };
    vec![
        sender("queue_spsc/send, first use", first, 0, 1, false),
        sender("queue_spsc/send", sends, 1, 2, false),
        sender("queue_spsc/send that sleeps", around, capacity, capacity + 1, true),
        sender("queue_spsc/send, in pieces", in_pieces, 1, 2, true),
        sender("queue_spsc/try_send that begins, and flush", begins, 0, 1, true),
        sender("queue_spsc/try_send, full", full, capacity, capacity, false),
        sender("queue_spsc/send_all", sends_many, 0, 8, false),
        sender("queue_spsc/drop of the sender", drops, 1, 1, false),
    ]
}

/// The messages from 1 to `before` were sent before the operation, and those to `after` are with it.
fn sender<F>(name: &str, process: F, before: u64, after: u64, sleeps: bool) -> Box<dyn Steps>
where
    F: WorkerFn<(Sender<Message>,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(match (sleeps, before == after) {
        (true, _) => &["asleep", "before", "after"],
        (false, true) => &["after"],
        (false, false) => &["before", "after"],
    });
    let prepare = || {
        let (tx, rx) = spsc(BYTES)?;
        Ok((Receiving { rx, ids: Vec::new(), was_asleep: false }, tx))
    };
    let while_blocked = |survivor: &mut Receiving, _| {
        survivor.was_asleep = true;
        if let Ok(message) = survivor.rx.try_recv() {
            survivor.ids.push(intact(&message).expect("nobody has died"));
        }
    };
    let oracle = move |survivor: &mut Receiving, outcome: Outcome<()>| {
        let is_killed = is_killed(&outcome);
        if survivor.was_asleep {
            seen.note("asleep");
        }
        let Receiving { rx, ids, .. } = survivor;
        let mut told = drain(rx, ids)?;
        if is_killed && matches!(told, RecvError::Truncated { .. }) {
            // It was killed in the middle of the one that goes in pieces.
            must(ids.len() as u64 == before, || format!("one is torn after {ids:?}"))?;
            told = drain(rx, ids)?;
        }
        must(matches!(told, RecvError::Disconnected), || format!("no sender, and {told:?}"))?;
        let count = ids.len() as u64;
        let is_right = (before..after + 1).contains(&count) && (is_killed || count == after);
        must(is_right && ids.iter().copied().eq(1..count + 1), || {
            format!("{ids:?} came, of {before} and then {after}; killed: {is_killed}")
        })?;
        seen.note(if count == after { "after" } else { "before" });
        Ok(())
    };
    Box::new(scenario(name, prepare, process, oracle).while_blocked(while_blocked).finally(finally))
}

/// Sooner or later it is told that nobody receives any more, and never has to wait for that.
fn is_told(tx: &mut Sender<Message>) -> Result<(), BoxError> {
    for id in 0..1000 {
        match timed(|| tx.send_timeout(&short(id), DEADLINE)) {
            Ok(()) => {}
            Err(SendError::Disconnected) => return Ok(()),
            Err(other) => return wrong(format!("no receiver, and {other:?}")),
        }
    }
    wrong("nobody receives, and it can send without end")
}

fn receivers() -> Vec<Box<dyn Steps>> {
    let recv = |mut rx: Receiver<Message>| {
        assert_eq!(operation(|| rx.recv()).expect("there are two").0, 1);
    };
    let recv_second = |mut rx: Receiver<Message>| {
        rx.recv().expect("there are two");
        assert_eq!(operation(|| rx.recv()).expect("there are two").0, 2);
    };
    let recv_many = |mut rx: Receiver<Message>| {
        let mut messages = Vec::new();
        assert_eq!(operation(|| rx.recv_many(9, &mut messages)).expect("there are two"), 2);
    };
    let sleeps = |mut rx: Receiver<Message>| {
        for id in 1..3 {
            assert_eq!(rx.recv().expect("there are two").0, id);
        }
        assert_eq!(operation(|| rx.recv()).expect("a survivor sends one").0, 3);
    };
    let drops = |mut rx: Receiver<Message>| {
        rx.recv().expect("there are two");
        operation(|| drop(rx));
    };
    vec![
        receiver("queue_spsc/recv, first use", recv, short, false),
        receiver("queue_spsc/recv", recv_second, long, false),
        receiver("queue_spsc/recv_many", recv_many, short, false),
        receiver("queue_spsc/recv that sleeps", sleeps, short, true),
        receiver("queue_spsc/recv that sleeps, in pieces", sleeps, longer, true),
        receiver("queue_spsc/drop of the receiver", drops, short, false),
    ]
}

/// The survivor's end; whether the process was asleep, and the third message could be sent.
type Sending = (Sender<Message>, bool);

/// Two messages are there; the third, of that kind, comes when the process sleeps.
fn receiver<F>(name: &str, process: F, make: fn(u64) -> Message, sleeps: bool) -> Box<dyn Steps>
where
    F: WorkerFn<(Receiver<Message>,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(if sleeps { &["asleep"] } else { &[] });
    let prepare = || {
        let (mut tx, rx) = spsc(BYTES)?;
        many(short, 1..3).iter().try_for_each(|message| tx.try_send(message))?;
        Ok(((tx, false), rx))
    };
    let while_blocked = move |(tx, was_asleep): &mut Sending, _| {
        if !*was_asleep {
            *was_asleep = true;
            match tx.try_send(&make(3)) {
                Ok(()) | Err(SendError::Begun { .. }) => {}
                Err(error) => panic!("it is empty, and {error:?}"),
            }
        } else if tx.has_begun() {
            // The process wakes when there is more; what is left then is for the next time.
            let _still_begun = tx.flush_timeout(std::time::Duration::ZERO);
        }
    };
    let oracle = move |(tx, was_asleep): &mut Sending, _: Outcome<()>| {
        if *was_asleep {
            seen.note("asleep");
        }
        is_told(tx)
    };
    Box::new(scenario(name, prepare, process, oracle).while_blocked(while_blocked).finally(finally))
}

/// What a worker is to sleep in.
#[derive(Serialize, Deserialize)]
enum Task {
    /// Until there is an error.
    RecvAll(Receiver<Message>, Sleeper),
    /// Until the ring is full, and then one more.
    SendAll(Sender<Message>, Sleeper),
}

/// What it received or sent, and the error.
type Said = (Vec<u64>, String);

fn work(task: Task, mut say: Say<'_, Said>) {
    let mut ids = Vec::new();
    let error = match task {
        Task::RecvAll(mut rx, mut sleeper) => {
            sleeper.wait_for_caller();
            loop {
                match rx.recv() {
                    Ok(message) => match intact(&message) {
                        Ok(id) => ids.push(id),
                        Err(torn) => break torn,
                    },
                    Err(error) => break format!("{error:?}"),
                }
            }
        }
        Task::SendAll(mut tx, mut sleeper) => {
            let count = fill(&mut tx);
            sleeper.wait_for_caller();
            (count + 1..)
                .find_map(|id| match tx.send(&short(id)) {
                    Ok(()) => {
                        ids.push(id);
                        None
                    }
                    Err(error) => Some(format!("{error:?}")),
                })
                .unwrap_or_default()
        }
    };
    say.say((ids, error));
}

type Worker = Hired<Task, Said>;

fn with_sleepers() -> Vec<Box<dyn Steps>> {
    let sends = |(mut tx, caller): (Sender<Message>, Caller)| {
        caller.wait_for_sleeper();
        operation(|| tx.send(&short(1))).expect("there is room");
    };
    let in_pieces = |(mut tx, caller): (Sender<Message>, Caller)| {
        caller.wait_for_sleeper();
        operation(|| tx.send(&longer(1))).expect("a worker receives");
    };
    let drops = |(tx, caller): (Sender<Message>, Caller)| {
        caller.wait_for_sleeper();
        operation(|| drop(tx));
    };
    let receives = |(mut rx, caller): (Receiver<Message>, Caller)| {
        caller.wait_for_sleeper();
        assert_eq!(operation(|| rx.recv()).expect("it is full").0, 1);
    };
    let receives_all = |(mut rx, caller): (Receiver<Message>, Caller)| {
        caller.wait_for_sleeper();
        operation(|| rx.recv_many(20, &mut Vec::new())).expect("it is full");
    };
    let drops_rx = |(rx, caller): (Receiver<Message>, Caller)| {
        caller.wait_for_sleeper();
        operation(|| drop(rx));
    };
    vec![
        receiver_sleeps("queue_spsc/send, with a sleeper", sends, 1),
        receiver_sleeps("queue_spsc/send, in pieces, with a sleeper", in_pieces, 1),
        receiver_sleeps("queue_spsc/drop of the sender, with a sleeper", drops, 0),
        sender_sleeps("queue_spsc/recv, with a sleeper", receives),
        sender_sleeps("queue_spsc/recv_many, with a sleeper", receives_all),
        sender_sleeps("queue_spsc/drop of the receiver, with a sleeper", drops_rx),
    ]
}

/// A worker sleeps until something comes, or nobody is left to send it.
fn receiver_sleeps<F>(name: &str, process: F, count: u64) -> Box<dyn Steps>
where
    F: WorkerFn<((Sender<Message>, Caller),), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(if count == 0 { &["after"] } else { &["before", "after"] });
    let crew = Crew::new(work);
    let prepare = move || {
        let (tx, rx) = spsc(BYTES)?;
        let (worker, caller) = crew.sleeper(|sleeper| Task::RecvAll(rx, sleeper))?;
        Ok((worker, (tx, caller)))
    };
    let oracle = move |worker: &mut Worker, outcome: Outcome<()>| {
        let is_killed = is_killed(&outcome);
        let (ids, error) = worker.told()?;
        let is_right = ids.iter().copied().eq(1..count + 1) || is_killed && ids.is_empty();
        must(is_right, || format!("the sleeper got {ids:?}; killed: {is_killed}"))?;
        let is_torn = is_killed && ids.is_empty() && error.starts_with("Truncated");
        must(error == "Disconnected" || is_torn, || format!("the sleeper was told {error}"))?;
        seen.note(if ids.len() as u64 == count { "after" } else { "before" });
        Ok(())
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

/// A worker sleeps until there is room, or nobody is left to make some.
fn sender_sleeps<F>(name: &str, process: F) -> Box<dyn Steps>
where
    F: WorkerFn<((Receiver<Message>, Caller),), Out = ()>,
{
    let crew = Crew::new(work);
    let prepare = move || {
        let (tx, rx) = spsc(BYTES)?;
        let (worker, caller) = crew.sleeper(|sleeper| Task::SendAll(tx, sleeper))?;
        Ok((worker, (rx, caller)))
    };
    let oracle = move |worker: &mut Worker, _: Outcome<()>| {
        let (ids, error) = worker.told()?;
        must(error == "Disconnected", || format!("the sleeper sent {ids:?}, and was told {error}"))
    };
    Box::new(scenario(name, prepare, process, oracle))
}

fn moved() -> Vec<Box<dyn Steps>> {
    vec![
        Box::new(scenario(
            "queue_spsc/new and drop",
            || Ok(((), ())),
            makes_and_drops,
            |(), _: Outcome<()>| Ok(()),
        )),
        sends_receiver(),
        sends_sender(),
        takes_receiver(),
    ]
}

fn makes_and_drops((): ()) {
    drop(spsc::<Message>(BYTES));
    operation(|| drop(spsc::<Message>(BYTES).expect("there is memory")));
}

type ReceiverPeer = Duplex<(), Receiver<Message>>;
type SenderPeer = Duplex<(), Sender<Message>>;

fn sending_receiver((rx, mut peer): (Receiver<Message>, Duplex<Receiver<Message>, ()>)) {
    operation(|| peer.send(&rx)).expect("the survivor lives");
}

/// The receiver comes to the survivor with all that is in the ring, or nobody has it.
fn sends_receiver() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["arrived", "not sent"]);
    let prepare = || {
        let (mut tx, rx) = spsc(BYTES)?;
        many(long, 1..3).iter().try_for_each(|message| tx.try_send(message))?;
        let (ours, theirs) = duplex()?;
        Ok(((tx, ours), (rx, theirs)))
    };
    let oracle = move |(tx, peer): &mut (Sender<Message>, ReceiverPeer), outcome: Outcome<()>| {
        match timed(|| peer.recv_timeout(DEADLINE)) {
            Ok(mut rx) => {
                seen.note("arrived");
                timed(|| tx.send_timeout(&short(3), DEADLINE))?;
                for id in 1..4 {
                    let got = intact(&timed(|| rx.recv_timeout(DEADLINE))?)?;
                    must(got == id, || format!("{got} came instead of {id}"))?;
                }
                drop(rx);
            }
            Err(RecvError::Disconnected) if is_killed(&outcome) => seen.note("not sent"),
            other => return wrong(format!("what arrived is {other:?}")),
        }
        is_told(tx)
    };
    Box::new(scenario("queue_spsc/send of the receiver", prepare, sending_receiver, oracle).finally(finally))
}

fn sending_sender((mut tx, mut peer): (Sender<Message>, Duplex<Sender<Message>, ()>)) {
    tx.send(&short(1)).expect("there is room");
    operation(|| peer.send(&tx)).expect("the survivor lives");
}

/// The sender comes to the survivor, or nobody has it.
fn sends_sender() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["arrived", "not sent"]);
    let prepare = || {
        let (tx, rx) = spsc(BYTES)?;
        let (ours, theirs) = duplex()?;
        Ok(((rx, ours), (tx, theirs)))
    };
    let oracle = move |(rx, peer): &mut (Receiver<Message>, SenderPeer), outcome: Outcome<()>| {
        let count = match timed(|| peer.recv_timeout(DEADLINE)) {
            Ok(mut tx) => {
                seen.note("arrived");
                timed(|| tx.send_timeout(&long(2), DEADLINE))?;
                2
            }
            Err(RecvError::Disconnected) if is_killed(&outcome) => {
                seen.note("not sent");
                1
            }
            other => return wrong(format!("what arrived is {other:?}")),
        };
        let mut ids = Vec::new();
        let told = drain(rx, &mut ids)?;
        let is_right = matches!(told, RecvError::Disconnected) && ids.iter().copied().eq(1..count + 1);
        must(is_right, || format!("{ids:?} came, and then {told:?}"))
    };
    Box::new(scenario("queue_spsc/send of the sender", prepare, sending_sender, oracle).finally(finally))
}

fn taking_receiver(mut peer: Duplex<(), Receiver<Message>>) {
    operation(|| {
        let mut rx = peer.recv().expect("it was sent before");
        rx.recv().expect("there are two")
    });
}

/// The process takes the receiver out of a message, and uses it.
fn takes_receiver() -> Box<dyn Steps> {
    let prepare = || {
        let (mut tx, rx) = spsc(BYTES)?;
        many(short, 1..3).iter().try_for_each(|message| tx.try_send(message))?;
        let (mut ours, theirs) = duplex::<Receiver<Message>, ()>()?;
        ours.send(&rx)?;
        Ok(((tx, ours), theirs))
    };
    let oracle = |(tx, _): &mut (Sender<Message>, Duplex<Receiver<Message>, ()>), _: Outcome<()>| is_told(tx);
    Box::new(scenario("queue_spsc/receive the receiver, and recv", prepare, taking_receiver, oracle))
}
