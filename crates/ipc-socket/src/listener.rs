//! The end that is connected to.

mod error;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ipc_os::epoll::Epoll;
use ipc_os::{Readiness, Waitable, wait};
use ipc_stream::Transport;
use ipc_sync::object::Spin;

use crate::address::{Address, AddressError, Carrier};
use crate::auth::{AuthError, Role};
use crate::bind::{BindError, Bound, TakeError};
use crate::client::{about, check_user};
use crate::connection::Connection;
use crate::credentials::Credentials;
use crate::handshake::{HandshakeError, LOOK_COST, Machine, Pending, Progress};
use crate::options::Options;
use crate::rings;
use crate::server::Server;
pub use error::AcceptError;

/// So many handshakes go on at once.
const PENDING_MAX: usize = 64;

/// When all of those are taken, one who has said nothing for so long makes room for the next.
const SILENT_MAX: Duration = Duration::from_millis(50);

/// If there is none, one who has begun and then has said nothing more for so long does: it takes no key to begin.
const UNFINISHED_MAX: Duration = Duration::from_millis(500);

/// So long nobody is taken after there was no descriptor or memory for somebody.
const PAUSE: Duration = Duration::from_millis(50);

/// Listens at an address, and accepts connections.
///
/// - *Handshakes*: up to 64 go on at once inside of [`accept`](Self::accept), each for its [time](Options::handshake_timeout)
///   at most; nobody waits for one who is silent. With 64 under way, one who has said nothing for 50 ms, or nothing more for
///   half a second, makes room for the next. Who fails is an error of one `accept`, and the listener goes on.
/// - *Strangers* cost a descriptor each (over Unix sockets another one, which says who it is) and some hundred bytes, for that
///   time, and 64 at most at once; the others wait in the kernel.
/// - *Death*: the path of a listener that was killed is taken over by the next one.
/// - *Fork*: a forked child's copy keeps the address in use; only the process that made it takes its path away.
#[derive(Debug)]
pub struct Listener {
    bound: Bound,
    options: Options,
    pending: Vec<Arriving>,
    last: Option<Last>,
    /// When there was no descriptor or memory for somebody.
    exhausted: Option<Instant>,
    /// Of waits for somebody, and of those in the middle of handshakes.
    arrivals: Spin,
    handshakes: Spin,
    all: OnceLock<All>,
}

/// The socket and all of the pending as one, once somebody waits for that beside other things.
#[derive(Debug)]
struct All {
    epoll: Epoll,
    /// The socket is among them: it is not while nobody would be taken.
    with_socket: bool,
}

/// Somebody whose handshake is under way.
#[derive(Debug)]
struct Arriving {
    pending: Pending,
    transport: Transport,
    peer: Option<Credentials>,
    from: Option<Address>,
    since: Instant,
}

impl Arriving {
    /// When it makes room for another one, if there is no place left.
    fn gives_way(&self) -> Instant {
        self.pending.heard().map_or(self.since + SILENT_MAX, |heard| heard + UNFINISHED_MAX)
    }
}

/// Who was accepted last.
#[derive(Debug)]
struct Last {
    from: Option<Address>,
}

impl Listener {
    /// Listens at an address, without a key: those may connect whom the system lets, which is this user for a path.
    ///
    /// # Errors
    /// As of [`Options::bind`].
    pub fn bind<A>(address: A) -> Result<Self, BindError>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        Options::new().bind(address)
    }

    pub(crate) fn over(bound: Bound, options: Options) -> Self {
        Listener {
            bound,
            options,
            pending: Vec::new(),
            last: None,
            exhausted: None,
            arrivals: Spin::new(),
            handshakes: Spin::new(),
            all: OnceLock::new(),
        }
    }

    /// Where it listens: what it was bound to, but for TCP with the port that it has.
    pub fn local_address(&self) -> &Address {
        self.bound.local_address()
    }

    /// Where the connection came from that was accepted last, if over TCP.
    pub fn last_accepted(&self) -> Option<&Address> {
        self.last.as_ref()?.from.as_ref()
    }

    /// Waits for somebody who connects and proves to have the key.
    ///
    /// # Errors
    /// As the variants of [`AcceptError`] say; call it again after each of them.
    pub fn accept(&mut self) -> Result<Connection, AcceptError> {
        self.accept_until(None)
    }

    /// As [`accept`](Self::accept), for that time at most.
    ///
    /// # Errors
    /// [`AcceptError::Timeout`]; else the same.
    pub fn accept_timeout(&mut self, timeout: Duration) -> Result<Connection, AcceptError> {
        // A time too far ahead for the clock is for ever.
        self.accept_until(Instant::now().checked_add(timeout))
    }

    /// The connections as they come, without end.
    pub fn incoming(&mut self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// To run a handler for each connection, in a thread of its own.
    ///
    /// # Errors
    /// `EMFILE` when the process has no descriptor left for what stops it.
    pub fn server(self) -> io::Result<Server> {
        Server::new(self)
    }

    fn accept_until(&mut self, deadline: Option<Instant>) -> Result<Connection, AcceptError> {
        // `None` comes of a descriptor that there is none of.
        self.accept_unless(deadline, None)?.ok_or(AcceptError::Timeout)
    }

    /// As [`accept`](Self::accept), or `None` as soon as that descriptor is readable.
    ///
    /// Asks only those that have something to say: to accept where nobody connects is as dear as to accept somebody.
    pub(crate) fn accept_unless(
        &mut self,
        deadline: Option<Instant>,
        stop: Option<BorrowedFd<'_>>,
    ) -> Result<Option<Connection>, AcceptError> {
        let accepted = self.accept_or_stop(deadline, stop);
        self.settle();
        accepted
    }

    fn accept_or_stop(
        &mut self,
        deadline: Option<Instant>,
        stop: Option<BorrowedFd<'_>>,
    ) -> Result<Option<Connection>, AcceptError> {
        loop {
            let now = Instant::now();
            let News { ready, is_called, is_stopped } =
                self.wait_awake(deadline, now, stop).map_err(AcceptError::Io)?;
            if is_stopped {
                return Ok(None);
            }
            let is_due = |at: usize, arriving: &Arriving| {
                ready.binary_search(&at).is_ok() || arriving.pending.deadline <= now
            };
            for at in 0..self.pending.len() {
                if is_due(at, &self.pending[at])
                    && let Some(connection) = self.advance(at)?
                {
                    return Ok(Some(connection));
                }
            }
            if is_called
                && self.take()?
                && let Some(connection) = self.advance(self.pending.len() - 1)?
            {
                return Ok(Some(connection));
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(AcceptError::Timeout);
            }
        }
    }

    /// Takes one that the kernel has, if there is room for it. Whether there was one.
    fn take(&mut self) -> Result<bool, AcceptError> {
        if self.pending.len() >= PENDING_MAX && !self.make_room() {
            return Ok(false);
        }
        let taken = self.bound.accept_nonblocking();
        if matches!(taken, Err(TakeError::Exhausted(_))) {
            // Whoever waits is still there: a caller that goes on at once would go on in circles.
            self.exhausted = Some(Instant::now());
        }
        let Some((fd, from)) = taken? else { return Ok(false) };
        let failed = |from, source| Err(AcceptError::Handshake { from, source });
        let carrier = self.bound.local_address().carrier();
        let (transport, peer) = match about(carrier, &fd) {
            Ok(about) => about,
            Err(HandshakeError::Io(error)) => {
                return match TakeError::from(error) {
                    TakeError::Io(error) => failed(from, HandshakeError::Io(error)),
                    exhausted => {
                        self.exhausted = Some(Instant::now());
                        Err(exhausted.into())
                    }
                };
            }
            Err(source) => return failed(from, source),
        };
        let machine = self.options.machine(Role::Listener, carrier);
        let machine = match (machine, check_user(peer.as_ref(), &self.options)) {
            (Ok(machine), Ok(())) => machine,
            (Ok(Machine::Native(machine)), Err(AuthError::User(user))) => {
                Machine::Native(machine.refusing(user))
            }
            (Ok(_), Err(refused)) => return failed(from, refused.into()),
            (Err(source), _) => return failed(from, source),
        };
        let pending = Pending::new(fd, machine, self.options.handshake_deadline());
        if let Some(all) = self.all.get() {
            // Without room for it in there it goes on with the next one who connects.
            let _nothing_lost = all.epoll.add(&pending.fd);
        }
        self.pending.push(Arriving { pending, transport, peer, from, since: Instant::now() });
        Ok(true)
    }

    /// When somebody is taken again after there was no descriptor or memory; `None` for now.
    fn pause(&self) -> Option<Instant> {
        let until = self.exhausted? + PAUSE;
        (until > Instant::now()).then_some(until)
    }

    /// Drops one that has been silent for long enough, if there is one: rather the oldest that has said nothing at all.
    fn make_room(&mut self) -> bool {
        let now = Instant::now();
        // The first is the oldest.
        let first = |has_begun: bool| {
            let is_it = |arriving: &Arriving| {
                arriving.pending.heard().is_some() == has_begun && arriving.gives_way() <= now
            };
            self.pending.iter().position(is_it)
        };
        let Some(at) = first(false).or_else(|| first(true)) else { return false };
        self.remove(at);
        true
    }

    fn remove(&mut self, at: usize) -> Arriving {
        let arriving = self.pending.remove(at);
        if let Some(all) = self.all.get() {
            let _was_there_if_there_was_room = all.epoll.remove(&arriving.pending.fd);
        }
        arriving
    }

    /// All that may have something to say, as one.
    fn all(&self) -> io::Result<&Epoll> {
        if let Some(all) = self.all.get() {
            return Ok(&all.epoll);
        }
        let epoll = Epoll::new()?;
        epoll.add(&self.bound)?;
        self.pending.iter().try_for_each(|arriving| epoll.add(&arriving.pending.fd))?;
        Ok(&self.all.get_or_init(|| All { epoll, with_socket: true }).epoll)
    }

    /// What is to end a wait for all of them from now on.
    fn settle(&mut self) {
        if self.all.get().is_none() {
            return;
        }
        let now = Instant::now();
        let (takes, first) = (self.takes(now), self.first(now));
        let Some(All { epoll, with_socket }) = self.all.get_mut() else { return };
        if takes != *with_socket {
            let changed = if takes { epoll.add(&self.bound) } else { epoll.remove(&self.bound) };
            *with_socket = takes == changed.is_ok();
        }
        // Without the timer they are given up with the next news.
        let _later = epoll.wake_at(first);
    }

    /// Whether somebody who connects would be taken now.
    fn takes(&self, now: Instant) -> bool {
        let has_room = || {
            self.pending.len() < PENDING_MAX
                || self.pending.iter().any(|arriving| arriving.gives_way() <= now)
        };
        self.pause().is_none() && has_room()
    }

    /// When there is something to do though nobody says anything.
    fn first(&self, now: Instant) -> Option<Instant> {
        let room = || self.pending.iter().map(Arriving::gives_way).min();
        let deadlines = self.pending.iter().map(|arriving| arriving.pending.deadline);
        let more = self.pause().or_else(|| if self.takes(now) { None } else { room() });
        deadlines.chain(more).min()
    }

    /// Lets a handshake go on. With a connection or an error it is none of the pending any more.
    fn advance(&mut self, at: usize) -> Result<Option<Connection>, AcceptError> {
        let done = match self.pending[at].pending.advance() {
            Ok(Progress::Waiting) => return Ok(None),
            Ok(Progress::Done) => Ok(()),
            Err(source) => Err(source),
        };
        let Arriving { pending, transport, peer, from, .. } = self.remove(at);
        match done.and_then(|()| self.connection(pending.fd, transport, peer)) {
            Ok(connection) => {
                self.last = Some(Last { from });
                Ok(Some(connection))
            }
            Err(source) => Err(AcceptError::Handshake { from, source }),
        }
    }

    /// The connection to somebody who was let in.
    fn connection(
        &self,
        fd: OwnedFd,
        transport: Transport,
        peer: Option<Credentials>,
    ) -> Result<Connection, HandshakeError> {
        let mut connection = if self.local_address().carrier() == Carrier::Shm {
            let agree = |tx, rx| rings::offer(tx, rx, self.options.ring_len);
            Connection::of_rings(fd, transport, peer, agree)?
        } else {
            Connection::of(fd, transport, peer, self.options.python)
        };
        connection.set_limits(self.options.limits);
        Ok(connection)
    }

    /// Waits until something is to be done, awake where that pays: while many connect, or in the middle of a handshake, for each
    /// message of which the other end has little to do.
    fn wait_awake(
        &self,
        deadline: Option<Instant>,
        now: Instant,
        stop: Option<BorrowedFd<'_>>,
    ) -> io::Result<News> {
        if deadline.is_none_or(|deadline| deadline > now) {
            let spin = if self.pending.is_empty() { &self.arrivals } else { &self.handshakes };
            let mut news = Ok(News::default());
            let cost = LOOK_COST + self.pending.len() as u32;
            let is_over = spin.spin_by(cost, || {
                news = self.wait(Some(now), now, stop);
                !matches!(&news, Ok(news) if *news == News::default())
            });
            if is_over {
                return news;
            }
        }
        self.wait(deadline, now, stop)
    }

    /// Waits until something is to be done.
    fn wait(
        &self,
        deadline: Option<Instant>,
        now: Instant,
        stop: Option<BorrowedFd<'_>>,
    ) -> io::Result<News> {
        let fds: Vec<BorrowedFd<'_>> =
            self.pending.iter().map(|arriving| arriving.pending.fd.as_fd()).collect();
        let mut sources: Vec<&dyn Waitable> = fds.iter().map(|fd| fd as &dyn Waitable).collect();
        let first = self.first(now).into_iter().chain(deadline).min();
        sources.extend(stop.iter().map(|fd| fd as &dyn Waitable));
        let (at_stop, at_listener) = (fds.len(), sources.len());
        let listener = self.bound.as_fd();
        if self.takes(now) {
            sources.push(&listener);
        }
        // A millisecond more than that, as clocks are rounded; what is over is over.
        let left = first.map(|first| match first.saturating_duration_since(now) {
            Duration::ZERO => Duration::ZERO,
            left => left + Duration::from_millis(1),
        });
        let ready = wait(&sources, left)?;
        let is_stopped = stop.is_some() && ready.binary_search(&at_stop).is_ok();
        let is_called = ready.last() == Some(&at_listener);
        Ok(News { ready, is_called, is_stopped })
    }
}

/// What there is to be done.
#[derive(Default, PartialEq, Eq)]
struct News {
    /// Those of the pending who have said something, by their places; and others behind them.
    ready: Vec<usize>,
    /// Somebody connects, or may.
    is_called: bool,
    is_stopped: bool,
}

/// Readable when [`accept_timeout`](Listener::accept_timeout) has something to do: somebody connects, or goes on with a
/// handshake. Without a descriptor for that it is the listening socket's, which tells of the former.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.all() {
            Ok(all) => all.as_fd(),
            Err(_) => self.bound.as_fd(),
        }
    }
}

/// Ready when [`accept_timeout`](Listener::accept_timeout) has something to do: with a time of zero it does that and does
/// not wait, and perhaps has nobody yet.
impl Waitable for Listener {
    fn readiness(&self) -> Readiness<'_> {
        Readiness::Descriptor(self.as_fd())
    }
}

/// The connections of a [`Listener`] as they come.
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a mut Listener,
}

impl Iterator for Incoming<'_> {
    type Item = Result<Connection, AcceptError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept())
    }
}
