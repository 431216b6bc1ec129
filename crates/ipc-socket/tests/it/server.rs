//! Servers: a handler for each connection.

use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ipc_socket::{
    AcceptError, Client, ConnectError, Connection, Listener, Options, RecvError, Served, Server, Stopper,
};
use ipc_testkit::{LONG, SHORT, eventually, watchdog};

use crate::carriers::{CARRIERS, connect, listen};

/// Runs the server while `clients` goes on, and what it has done in the end.
fn serve(
    server: Server,
    handler: impl Fn(Connection) + Sync,
    clients: impl FnOnce(&str, &Stopper),
) -> Result<Served, AcceptError> {
    let (address, stopper) = (server.local_address().to_string(), server.stopper());
    std::thread::scope(|scope| {
        let handler = &handler;
        let running = scope.spawn(move || server.serve(handler));
        clients(&address, &stopper);
        stopper.stop();
        running.join().unwrap()
    })
}

fn double(mut connection: Connection) {
    while let Ok(number) = connection.recv::<u32>() {
        connection.send(&(2 * number)).unwrap();
    }
}

#[test]
fn each_connection_has_a_handler_and_so_many_at_once() {
    let _watchdog = watchdog("each_connection_has_a_handler_and_so_many_at_once");
    for over in CARRIERS {
        let (listener, _directory) = listen(over);
        let (running, most) = (AtomicU32::new(0), AtomicU32::new(0));
        let handler = |connection| {
            most.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
            double(connection);
            running.fetch_sub(1, Relaxed);
        };
        let served = serve(listener.server().unwrap().limit(2), handler, |address, _| {
            std::thread::scope(|scope| {
                for client in 0..6_u32 {
                    scope.spawn(move || {
                        let mut connection = connect(address);
                        for number in 0..20 {
                            connection.send(&(client + number)).unwrap();
                            assert_eq!(connection.recv::<u32>().unwrap(), 2 * (client + number));
                        }
                    });
                }
            });
        });
        let served = served.unwrap();
        assert_eq!((served.connections, served.refused, served.panicked, served.cut_off), (6, 0, 0, 0));
        assert!((1..=2).contains(&most.load(Relaxed)), "{over:?}: {most:?}");
    }
}

/// What has begun is done; nobody new is let in.
#[test]
fn a_stop_lets_handlers_finish() {
    let _watchdog = watchdog("a_stop_lets_handlers_finish");
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/s", directory.path().display());
    let server = Listener::bind(address.as_str()).unwrap().server().unwrap().grace(LONG);
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let handler = |mut connection: Connection| {
        assert_eq!(connection.recv::<u8>().unwrap(), 1);
        wait.lock().unwrap().recv().unwrap();
        connection.send(&2_u8).unwrap();
    };
    let served = serve(server, handler, |address, stopper| {
        let mut client = Client::connect(address).unwrap();
        client.send(&1_u8).unwrap();
        assert!(!client.poll(SHORT).unwrap() && !stopper.is_stopping());
        stopper.stop();
        assert!(stopper.is_stopping());
        eventually("the address is free", || {
            matches!(
                Client::connect(address),
                Err(ConnectError::NotFound { .. } | ConnectError::Refused { .. })
            )
        });
        go.send(()).unwrap();
        assert_eq!(client.recv::<u8>().unwrap(), 2);
    });
    let served = served.unwrap();
    assert_eq!((served.connections, served.cut_off), (1, 0));
}

/// Whatever a handler waits in.
#[test]
fn handlers_that_wait_are_ended_when_the_grace_is_over() {
    let _watchdog = watchdog("handlers_that_wait_are_ended_when_the_grace_is_over");
    for over in CARRIERS {
        for now in [false, true] {
            let (listener, _directory) = listen(over);
            let server = listener.server().unwrap().grace(if now { LONG } else { SHORT });
            let told = Mutex::new(Vec::new());
            let handler = |mut connection: Connection| {
                if connection.recv::<bool>().unwrap() {
                    let (_sending, mut receiving) = connection.split();
                    told.lock().unwrap().push(format!("{:?}", receiving.recv::<u8>()));
                } else {
                    let error = loop {
                        if let Err(error) = connection.send_bytes(&[0; 100_000]) {
                            break error;
                        }
                    };
                    told.lock().unwrap().push(format!("{:?}", Err::<u8, _>(error)));
                }
            };
            let served = serve(server, handler, |address, stopper| {
                let (mut a, mut b) = (connect(address), connect(address));
                a.send(&true).unwrap();
                b.send(&false).unwrap();
                // It sends, and nobody takes it.
                assert!(b.poll(LONG).unwrap());
                stopper.stop();
                if now {
                    stopper.stop_now();
                }
                assert!(matches!(a.recv::<u8>(), Err(RecvError::Disconnected)));
            });
            let served = served.unwrap();
            assert_eq!((served.connections, served.cut_off), (2, 2), "{over:?}, {now}");
            assert_eq!(
                told.into_inner().unwrap(),
                ["Err(Disconnected)", "Err(Disconnected)"],
                "{over:?}, {now}"
            );
        }
    }
}

#[test]
fn a_handler_that_panics_and_a_client_with_another_key_cost_nobody_else_anything() {
    let _watchdog = watchdog("a_handler_that_panics_and_a_client_with_another_key_cost_nobody_else_anything");
    let options = Options::new().authkey("right");
    let listener = options.clone().bind("tcp:127.0.0.1:0").unwrap();
    let (errors, told) = mpsc::channel();
    let server = listener.server().unwrap().on_error(move |error| errors.send(error.to_string()).unwrap());
    let handler = |mut connection: Connection| {
        let number = connection.recv::<u32>().unwrap();
        assert_ne!(number, 0, "the test wants this panic");
        connection.send(&number).unwrap();
    };
    let served = serve(server, handler, |address, _| {
        let mut first = options.connect(address).unwrap();
        first.send(&0_u32).unwrap();
        assert!(matches!(first.recv::<u32>(), Err(RecvError::Disconnected)));
        assert!(Options::new().authkey("wrong").connect(address).is_err());
        assert!(told.recv_timeout(LONG).unwrap().contains("not let in"));
        let mut last = options.connect(address).unwrap();
        last.send(&7_u32).unwrap();
        assert_eq!(last.recv::<u32>().unwrap(), 7);
    });
    let served = served.unwrap();
    assert_eq!((served.connections, served.refused, served.panicked), (2, 1, 1));
}

const FEW: &str = "IPC_SOCKET_FEW_DESCRIPTORS";

/// In a process of its own, with few descriptors.
#[test]
fn without_descriptors_a_listener_waits_for_some() {
    if std::env::var_os(FEW).is_none() {
        let test = "server::without_descriptors_a_listener_waits_for_some";
        let output = Command::new("sh")
            .args(["-c", "ulimit -n 48 && exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(FEW, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
        return;
    }
    let _watchdog = watchdog("without_descriptors_a_listener_waits_for_some");
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/s", directory.path().display());
    let mut listener = Listener::bind(address.as_str()).unwrap();
    let waiting = std::os::unix::net::UnixStream::connect(directory.path().join("s")).unwrap();
    let null = || std::fs::File::open("/dev/null").map(OwnedFd::from);
    let mut all: Vec<OwnedFd> = std::iter::from_fn(|| null().ok()).collect();
    assert!(matches!(listener.accept_timeout(LONG), Err(AcceptError::Exhausted(_))));
    // Not at once again, however often it is called.
    let began = Instant::now();
    let calls = (0..)
        .take_while(|_| matches!(listener.accept_timeout(Duration::ZERO), Err(AcceptError::Timeout)))
        .count();
    assert!(began.elapsed() >= SHORT && calls > 1);
    // One that goes on makes no circles.
    let errors = (0..)
        .take_while(|_| began.elapsed() < Duration::from_millis(500))
        .filter(|_| matches!(listener.accept_timeout(SHORT), Err(AcceptError::Exhausted(_))))
        .count();
    assert!((1..=10).contains(&errors), "{errors}");
    all.truncate(all.len() / 2);
    std::thread::scope(|scope| {
        scope.spawn(|| drop(waiting));
        scope.spawn(|| drop(Client::connect(address.as_str()).unwrap()));
        while listener.accept_timeout(LONG).is_err() {}
    });
}
