//! Connections: what was sent before a death comes, in its order and as a whole; who is left is told, and a listener lets the
//! next one in.

use std::time::Duration;

use ipc_core::Fd;
use ipc_process::WorkerFn;
use ipc_socket::{AcceptError, Connection, HandshakeError, Listener, Options, RecvError, SendError};
use ipc_testkit::stepper::{BoxError, Outcome, Steps, operation};
use tempfile::TempDir;

use crate::tools::{DEADLINE, Seen, is_killed, must, scenario, timed, wrong};

/// A number, bytes that are all that, and handles.
type Message = (u64, Vec<u8>, Vec<Fd>);

/// Longer than what a ring of these tests holds.
const LONG: usize = 6000;
const RING: usize = 4096;

fn message(id: u64, len: usize, handles: usize) -> Message {
    let fd = || Fd::new(std::fs::File::open("/dev/null").expect("it is there"));
    (id, vec![id as u8; len], (0..handles).map(|_| fd()).collect())
}

fn intact((id, bytes, handles): &Message) -> Result<u64, BoxError> {
    let is_whole = bytes.iter().all(|byte| *byte == *id as u8)
        && (bytes.len() == LONG || bytes.len() <= 1)
        && (*id != 2 || handles.len() <= 1);
    must(is_whole, || format!("message {id} is torn: {} bytes, {} handles", bytes.len(), handles.len()))?;
    Ok(*id)
}

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    let mut all = Vec::new();
    for carrier in ["unix", "tcp", "shm"] {
        all.extend(senders(carrier));
        all.extend(receivers(carrier));
        all.push(client(carrier));
    }
    all
}

fn options() -> Options {
    Options::new().authkey("crash").handshake_timeout(DEADLINE).ring_len(RING)
}

fn bind(carrier: &str) -> Result<(Listener, TempDir), BoxError> {
    let directory = tempfile::tempdir()?;
    let address = match carrier {
        "tcp" => "tcp:127.0.0.1:0".to_owned(),
        _ => format!("{carrier}:{}/s", directory.path().display()),
    };
    Ok((options().bind(address.as_str())?, directory))
}

fn pair(carrier: &str) -> Result<(Connection, Connection), BoxError> {
    let (mut listener, _directory) = bind(carrier)?;
    let address = listener.local_address().clone();
    let client = std::thread::spawn(move || options().connect(&address));
    let ours = listener.accept_timeout(DEADLINE)?;
    Ok((ours, client.join().expect("it does not panic")?))
}

fn send(mut connection: Connection, second: Message) {
    connection.send(&message(1, 1, 0)).expect("there is room");
    operation(|| connection.send(&second)).expect("a survivor makes room");
}

fn senders(carrier: &'static str) -> Vec<Box<dyn Steps>> {
    let short = |connection: Connection| send(connection, message(2, 1, 0));
    let long = |connection: Connection| send(connection, message(2, LONG, 0));
    let drops = |mut connection: Connection| {
        connection.send(&message(1, 1, 0)).expect("there is room");
        operation(|| drop(connection));
    };
    let mut all = vec![
        sender(carrier, "send", short, 2),
        sender(carrier, "send of a long one", long, 2),
        sender(carrier, "drop", drops, 1),
    ];
    if carrier != "tcp" {
        let handle = |connection: Connection| send(connection, message(2, 1, 1));
        all.push(sender(carrier, "send with a handle", handle, 2));
    }
    all
}

/// The first message was sent before the operation.
fn sender<F>(carrier: &'static str, name: &str, process: F, after: u64) -> Box<dyn Steps>
where
    F: WorkerFn<(Connection,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(if after == 1 { &["after"] } else { &["before", "after"] });
    let prepare = move || {
        let (ours, theirs) = pair(carrier)?;
        Ok(((ours, Vec::new()), theirs))
    };
    let while_blocked = |(connection, ids): &mut (Connection, Vec<u64>), _| {
        if let Ok(message) = connection.try_recv::<Message>() {
            ids.push(intact(&message).expect("nobody has died"));
        }
    };
    let oracle = move |(connection, ids): &mut (Connection, Vec<u64>), outcome: Outcome<()>| {
        let told = loop {
            match timed(|| connection.recv_timeout::<Message>(DEADLINE)) {
                Ok(message) => ids.push(intact(&message)?),
                // It was killed in the middle of the one that goes in pieces.
                Err(RecvError::Truncated { .. }) if is_killed(&outcome) && ids.len() == 1 => {}
                Err(error) => break error,
            }
        };
        must(matches!(told, RecvError::Disconnected), || format!("no sender, and {told:?}"))?;
        let count = ids.len() as u64;
        let is_right = count == after || is_killed(&outcome) && count == 1;
        must(is_right && ids.iter().copied().eq(1..count + 1), || format!("{ids:?} came"))?;
        seen.note(if count == after { "after" } else { "before" });
        is_told(connection)
    };
    let name = format!("connection/{carrier}, {name}");
    Box::new(scenario(&name, prepare, process, oracle).while_blocked(while_blocked).finally(finally))
}

/// Sooner or later it is told that nobody receives any more, and never has to wait for that.
fn is_told(connection: &mut Connection) -> Result<(), BoxError> {
    for _ in 0..1000 {
        match timed(|| connection.send_timeout(&message(9, 1, 0), DEADLINE)) {
            Ok(()) => {}
            Err(SendError::Disconnected) => return Ok(()),
            Err(other) => return wrong(format!("no receiver, and {other:?}")),
        }
    }
    wrong("nobody receives, and it can send without end")
}

fn receive(mut connection: Connection, id: u64) {
    let received = operation(|| connection.recv::<Message>());
    assert_eq!(intact(&received.expect("there are some")).expect("as it was sent"), id);
}

fn receivers(carrier: &'static str) -> Vec<Box<dyn Steps>> {
    let first = |connection: Connection| receive(connection, 1);
    let sleeps = |mut connection: Connection| {
        let first = connection.recv::<Message>().expect("there is one");
        assert_eq!(first.0, 1);
        receive(connection, 2);
    };
    let handle = if carrier == "tcp" { 0 } else { 1 };
    vec![receiver(carrier, "recv", first, handle), receiver(carrier, "recv that sleeps", sleeps, handle)]
}

/// One message with so many handles is there; the second comes when the process sleeps.
fn receiver<F>(carrier: &'static str, name: &str, process: F, handles: usize) -> Box<dyn Steps>
where
    F: WorkerFn<(Connection,), Out = ()>,
{
    let prepare = move || {
        let (mut ours, theirs) = pair(carrier)?;
        ours.try_send(&message(1, 1, handles))?;
        Ok(((ours, false), theirs))
    };
    let while_blocked = move |(connection, is_sent): &mut (Connection, bool), _| {
        if !std::mem::replace(is_sent, true) {
            connection.try_send(&message(2, 1, handles)).expect("there is room");
        }
    };
    let oracle = |(connection, _): &mut (Connection, bool), _: Outcome<()>| {
        let told = timed(|| connection.recv_timeout::<Message>(DEADLINE));
        must(matches!(told, Err(RecvError::Disconnected)), || format!("nobody sends, and {told:?}"))?;
        is_told(connection)
    };
    let name = format!("connection/{carrier}, {name}");
    Box::new(scenario(&name, prepare, process, oracle).while_blocked(while_blocked))
}

/// The survivor: its listener, its directory, and whom it has let in while the process waited.
type Accepting = (Listener, TempDir, Option<Connection>);

/// A client in its handshake.
fn client(carrier: &'static str) -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["in", "out"]);
    let prepare = move || {
        let (listener, directory) = bind(carrier)?;
        let address = listener.local_address().to_string();
        Ok(((listener, directory, None), address))
    };
    let process = |address: String| {
        let connection = operation(|| options().connect(address.as_str()));
        drop(connection.expect("the survivor lets it in"));
    };
    let while_blocked = |(listener, _, accepted): &mut Accepting, _| match listener
        .accept_timeout(Duration::from_millis(1))
    {
        Ok(connection) => *accepted = Some(connection),
        Err(AcceptError::Timeout) => {}
        Err(error) => panic!("nobody has died, and {error:?}"),
    };
    let oracle = move |(listener, _, accepted): &mut Accepting, _: Outcome<()>| {
        let address = listener.local_address().clone();
        let honest = std::thread::spawn(move || {
            let mut connection = options().connect(&address).map_err(ipc_core::Error::from)?;
            connection.send(&7_u8)?;
            Ok::<_, ipc_core::Error>(connection)
        });
        let mut next = accepted.take().map(Ok);
        loop {
            match next.take().unwrap_or_else(|| timed(|| listener.accept_timeout(DEADLINE))) {
                Ok(mut connection) => match timed(|| connection.recv_timeout::<u8>(DEADLINE)) {
                    Ok(7) => break,
                    Err(RecvError::Disconnected) => seen.note("in"),
                    other => return wrong(format!("an honest client, or a dead one: {other:?}")),
                },
                Err(AcceptError::Handshake { source: HandshakeError::Disconnected, .. }) => seen.note("out"),
                Err(error) => return Err(error.into()),
            }
        }
        honest.join().expect("it does not panic")?;
        Ok(())
    };
    let name = format!("connection/{carrier}, connect");
    Box::new(scenario(&name, prepare, process, oracle).while_blocked(while_blocked).finally(finally))
}
