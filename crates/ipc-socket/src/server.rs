//! A thread for each connection, so many at most, until it is told to stop.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::carrier::Closer;
use crate::connection::Connection;
use crate::listener::{AcceptError, Listener};

type OnError = Box<dyn FnMut(&AcceptError) + Send>;

/// Runs a handler for each connection of a [`Listener`], in a thread of its own, from [`Listener::server`].
///
/// - *Limit*: so many handlers run at once; others who connect wait in the kernel, and are let in as places become free, as
///   long as they wait: their own [time](crate::Options::handshake_timeout) for the handshake goes by meanwhile.
/// - *Stop*: a [`Stopper`] ends it. The address is free at once; handlers that run go on until they are done, for the
///   [grace](Self::grace) at most; then their connections are closed, which ends what they wait for.
/// - *A handler that panics* loses its own connection, and is counted.
/// - *Somebody who is not let in*, or a lack of descriptors, costs nobody else anything: [`on_error`](Self::on_error) is told.
///
/// ```
/// use ipc_socket::{Client, Connection, Listener};
///
/// let directory = tempfile::tempdir()?;
/// let address = format!("unix:{}", directory.path().join("app.sock").display());
/// let server = Listener::bind(address.as_str())?.server()?.limit(8);
/// let stopper = server.stopper();
/// let running = std::thread::spawn(move || {
///     server.serve(|mut connection: Connection| {
///         while let Ok(number) = connection.recv::<u64>() {
///             let _gone = connection.send(&(2 * number));
///         }
///     })
/// });
/// let mut client = Client::connect(address.as_str())?;
/// client.send(&21_u64)?;
/// assert_eq!(client.recv::<u64>()?, 42);
/// drop(client);
/// stopper.stop();
/// assert_eq!(running.join().unwrap()?.connections, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    listener: Listener,
    limit: usize,
    grace: Duration,
    on_error: OnError,
    shared: Arc<Shared>,
    /// Readable when it is to stop.
    wake: PipeReader,
}

/// What a [`Server`] has done, once it has stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Connections that a handler was run for.
    pub connections: u64,
    /// Those who were not let in.
    pub refused: u64,
    /// Handlers that have panicked.
    pub panicked: u64,
    /// Handlers whose connection was closed as the grace was over.
    pub cut_off: u64,
}

#[derive(Debug, Default)]
struct State {
    /// What runs, by number, with what closes its connection.
    running: HashMap<u64, Closer>,
    panicked: u64,
    stop: Stop,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd)]
enum Stop {
    #[default]
    No,
    Gracefully,
    Now,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// A handler is done, or it is to stop.
    changed: Condvar,
    wake: PipeWriter,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while it is so, until the time is over.
    fn wait_while(
        &self,
        deadline: Option<Instant>,
        is_so: impl Fn(&mut State) -> bool,
    ) -> MutexGuard<'_, State> {
        match deadline {
            None => self.changed.wait_while(self.lock(), is_so).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let waited = self.changed.wait_timeout_while(self.lock(), left, is_so);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    fn stop(&self, how: Stop) {
        let mut state = self.lock();
        if state.stop < how {
            state.stop = how;
            // It is never full: there are two ways to stop.
            let _nobody_is_left_to_be_told = ipc_os::pipe::write(self.wake.as_fd(), &[0]);
            self.changed.notify_all();
        }
    }
}

/// Stops a [`Server`], from any thread; a clone does too.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// No more connections are taken, and the handlers that run have their [grace](Server::grace).
    pub fn stop(&self) {
        self.0.stop(Stop::Gracefully);
    }

    /// The same without a grace, also when that has begun.
    pub fn stop_now(&self) {
        self.0.stop(Stop::Now);
    }

    /// Whether it is to stop: for handlers that have long work.
    pub fn is_stopping(&self) -> bool {
        self.0.lock().stop != Stop::No
    }
}

impl Server {
    pub(crate) fn new(listener: Listener) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let shared = Shared { state: Mutex::default(), changed: Condvar::new(), wake: writer };
        Ok(Server {
            listener,
            limit: 256,
            grace: Duration::from_secs(5),
            on_error: Box::new(|_| {}),
            shared: Arc::new(shared),
            wake: reader,
        })
    }

    /// So many handlers at once; 256 unless told otherwise. Zero counts as one.
    #[must_use]
    pub fn limit(mut self, connections: usize) -> Self {
        self.limit = connections.max(1);
        self
    }

    /// How long handlers may go on after a stop; 5 seconds unless told otherwise.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Is told of those who were not let in, and of connections for which there was no descriptor, no memory or no thread.
    #[must_use]
    pub fn on_error(mut self, f: impl FnMut(&AcceptError) + Send + 'static) -> Self {
        self.on_error = Box::new(f);
        self
    }

    /// What stops it.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.shared))
    }

    /// Where it listens.
    pub fn local_address(&self) -> &crate::Address {
        self.listener.local_address()
    }

    /// Serves until it is stopped, and all handlers are done.
    ///
    /// # Errors
    /// [`AcceptError::Io`] when the listener itself fails; handlers that run then have their grace, as after a stop.
    pub fn serve(self, handler: impl Fn(Connection) + Sync) -> Result<Served, AcceptError> {
        let Server { mut listener, limit, grace, mut on_error, shared, wake } = self;
        let mut served = Served::default();
        let (shared, handler) = (&*shared, &handler);
        let result = thread::scope(|scope| {
            let mut accept = || loop {
                let state =
                    shared.wait_while(None, |state| state.running.len() >= limit && state.stop == Stop::No);
                if state.stop != Stop::No {
                    break Ok(());
                }
                drop(state);
                let connection = match listener.accept_unless(None, Some(wake.as_fd())) {
                    Ok(Some(connection)) => connection,
                    Ok(None) => break Ok(()),
                    Err(error @ AcceptError::Io(_)) => break Err(error),
                    Err(error) => {
                        served.refused += u64::from(matches!(error, AcceptError::Handshake { .. }));
                        on_error(&error);
                        continue;
                    }
                };
                let number = served.connections;
                shared.lock().running.insert(number, connection.closer());
                let run = move || {
                    let panicked = catch_unwind(AssertUnwindSafe(|| handler(connection))).is_err();
                    let mut state = shared.lock();
                    state.running.remove(&number);
                    state.panicked += u64::from(panicked);
                    shared.changed.notify_all();
                };
                match thread::Builder::new().name("ipc-serve".into()).spawn_scoped(scope, run) {
                    Ok(_) => served.connections += 1,
                    Err(error) => {
                        shared.lock().running.remove(&number);
                        on_error(&AcceptError::Exhausted(error));
                    }
                }
            };
            // What `on_error` panics with goes on once all handlers are done.
            let result = catch_unwind(AssertUnwindSafe(&mut accept));
            // The address is free before the last handler is done.
            drop(listener);
            // A time too far ahead for the clock is for ever.
            let deadline = Instant::now().checked_add(grace);
            let state =
                shared.wait_while(deadline, |state| !state.running.is_empty() && state.stop != Stop::Now);
            served.cut_off = state.running.len() as u64;
            state.running.values().for_each(Closer::close);
            result
        });
        let result = result.unwrap_or_else(|panic| resume_unwind(panic));
        served.panicked = shared.lock().panicked;
        result.map(|()| served)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.listener)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
