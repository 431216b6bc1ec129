//! Where a listener is.

mod error;
mod text;

use std::borrow::Cow;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use error::AddressError;

/// How many bytes the path of a Unix socket has at the most: the kernel's `sun_path` less the zero at the end. The same
/// number is the most that an abstract name has, less the zero at its beginning.
const SUN_PATH_MAX: usize = 107;

/// The longest name of a host.
const HOST_LEN_MAX: usize = 253;

/// Where a listener is, and by what one talks to it:
///
/// | text | what it is |
/// |---|---|
/// | `unix:/path` | a Unix socket in the file system |
/// | `unix:@name` | a Unix socket in the abstract namespace, which has no permissions: anybody on the machine (in the network namespace, to be exact) can connect, and take the name before the one it is meant for |
/// | `tcp:host:port` | TCP; the host is a name, an IPv4 address, or an IPv6 address in brackets. Nothing is encrypted |
/// | `shm:/path` | a Unix socket that hands over a pair of rings in shared memory |
///
/// Paths and abstract names are bytes. In the text a byte may be written as `%` and two hexadecimal digits; `%` itself,
/// control characters, what is no UTF-8, and an `@` that begins a path are written so. A relative path is looked up by
/// each process from where it is.
///
/// The text of an address is an address again, the same one; serde sees the text.
///
/// ```
/// use ipc_socket::{Address, AddressParts, Carrier};
/// let address: Address = "tcp:[::1]:7000".parse()?;
/// assert_eq!(address.parts(), AddressParts::Tcp { host: "::1", port: 7000 });
/// assert!(address.is_loopback() && !address.is_local());
///
/// let address = Address::unix("/run/user/1000/app/100%.socket")?;
/// assert_eq!(address.carrier(), Carrier::Unix);
/// assert_eq!(address.to_string(), "unix:/run/user/1000/app/100%25.socket");
/// assert_eq!(address, address.to_string().parse()?);
///
/// let error = "localhost:7000".parse::<Address>().unwrap_err();
/// assert!(error.to_string().contains("tcp:host:port"), "{error}");
/// # Ok::<(), ipc_socket::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(Kind);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Unix(PathBuf),
    Abstract(Vec<u8>),
    Tcp { host: String, port: u16 },
    Shm(PathBuf),
}

/// What the bytes between the two ends of a connection go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Carrier {
    /// A Unix socket, with a path or an abstract name.
    Unix,
    /// TCP.
    Tcp,
    /// Two rings in shared memory, and a Unix socket beside them.
    Shm,
}

/// What an [`Address`] is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AddressParts<'a> {
    /// `unix:/path`
    Unix(&'a Path),
    /// `unix:@name`, without the `@`.
    Abstract(&'a [u8]),
    /// `tcp:host:port`
    Tcp {
        /// A name or an address, which is without brackets.
        host: &'a str,
        /// The port; 0 for a listener that takes any.
        port: u16,
    },
    /// `shm:/path`
    Shm(&'a Path),
}

impl Address {
    /// A Unix socket in the file system.
    ///
    /// # Errors
    /// [`AddressError`] if the path is empty, longer than 107 bytes, ends in no name or holds a zero.
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self, AddressError> {
        Ok(Address(Kind::Unix(checked_path(path.into())?)))
    }

    /// A Unix socket in the abstract namespace: the name is exactly these bytes, any bytes, after the zero that marks it
    /// for the kernel.
    ///
    /// # Errors
    /// [`AddressError`] if it is empty or longer than 107 bytes.
    pub fn abstract_name(name: impl Into<Vec<u8>>) -> Result<Self, AddressError> {
        let name = name.into();
        match name.len() {
            0 => Err(AddressError::Empty { scheme: "unix:@" }),
            1..=SUN_PATH_MAX => Ok(Address(Kind::Abstract(name))),
            len => Err(AddressError::AbstractTooLong { len }),
        }
    }

    /// TCP. The host is a name or an address; an IPv6 address may be in brackets.
    ///
    /// # Errors
    /// [`AddressError`] if that can be no host.
    pub fn tcp(host: impl AsRef<str>, port: u16) -> Result<Self, AddressError> {
        Ok(Address(Kind::Tcp { host: checked_host(host.as_ref())?, port }))
    }

    /// A Unix socket that hands over rings in shared memory.
    ///
    /// # Errors
    /// As of [`Address::unix`].
    pub fn shm(path: impl Into<PathBuf>) -> Result<Self, AddressError> {
        Ok(Address(Kind::Shm(checked_path(path.into())?)))
    }

    /// What it is made of.
    pub fn parts(&self) -> AddressParts<'_> {
        match &self.0 {
            Kind::Unix(path) => AddressParts::Unix(path),
            Kind::Abstract(name) => AddressParts::Abstract(name),
            Kind::Tcp { host, port } => AddressParts::Tcp { host, port: *port },
            Kind::Shm(path) => AddressParts::Shm(path),
        }
    }

    /// What a connection to it goes through.
    pub fn carrier(&self) -> Carrier {
        match self.0 {
            Kind::Unix(_) | Kind::Abstract(_) => Carrier::Unix,
            Kind::Tcp { .. } => Carrier::Tcp,
            Kind::Shm(_) => Carrier::Shm,
        }
    }

    /// The path of the socket, if it has one.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Unix(path) | Kind::Shm(path) => Some(path),
            Kind::Abstract(_) | Kind::Tcp { .. } => None,
        }
    }

    /// Whether it is a Unix socket (`unix:` and `shm:`): on this machine, with the peer's credentials known from the
    /// kernel, and able to pass descriptors.
    pub fn is_local(&self) -> bool {
        self.carrier() != Carrier::Tcp
    }

    /// Whether nothing that is sent there leaves the machine: it [is local](Address::is_local), or TCP, and all that the
    /// host's name means at the moment are loopback addresses. False if the name means nothing. A name is looked up,
    /// which may take time.
    pub fn is_loopback(&self) -> bool {
        let Kind::Tcp { .. } = &self.0 else { return true };
        self.resolve().is_ok_and(|all| !all.is_empty() && all.iter().all(is_loopback))
    }

    /// All that a TCP address means at the moment, in the order of the system's resolver.
    pub(crate) fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.0 {
            Kind::Tcp { host, port } => Ok((host.as_str(), *port).to_socket_addrs()?.collect()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// Whether what is sent there does not leave the machine.
pub(crate) fn is_loopback(address: &SocketAddr) -> bool {
    // An IPv4 address may be written as an IPv6 one.
    address.ip().to_canonical().is_loopback()
}

fn checked_path(path: PathBuf) -> Result<PathBuf, AddressError> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err(AddressError::Empty { scheme: "unix:" });
    }
    if bytes.contains(&0) {
        return Err(AddressError::ZeroInPath { path });
    }
    if matches!(bytes.rsplit(|b| *b == b'/').next(), None | Some(b"" | b"." | b"..")) {
        return Err(AddressError::NoFileName { path });
    }
    if bytes.len() > SUN_PATH_MAX {
        return Err(AddressError::PathTooLong { path });
    }
    Ok(path)
}

fn checked_host(host: &str) -> Result<String, AddressError> {
    let bad = || AddressError::BadHost { host: host.to_owned() };
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(bad)?,
        None => host,
    };
    let is_word = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    if bare.contains(':') {
        let (address, zone) =
            bare.split_once('%').map_or((bare, None), |(address, zone)| (address, Some(zone)));
        let address: Ipv6Addr = address.parse().map_err(|_| bad())?;
        return match zone {
            None => Ok(address.to_string()),
            Some(zone) if is_word(zone) && zone.len() <= HOST_LEN_MAX => Ok(format!("{address}%{zone}")),
            Some(_) => Err(bad()),
        };
    }
    if bare.len() != host.len() || !is_word(bare) || bare.len() > HOST_LEN_MAX {
        return Err(bad());
    }
    Ok(bare.to_owned())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Unix(path) => write!(f, "unix:{}", text::of_path(path)),
            Kind::Abstract(name) => write!(f, "unix:@{}", text::escaped(name)),
            Kind::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Kind::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Kind::Shm(path) => write!(f, "shm:{}", text::of_path(path)),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(address: &str) -> Result<Self, AddressError> {
        let unknown = || AddressError::UnknownScheme { text: address.to_owned() };
        let (scheme, rest) = address.split_once(':').ok_or_else(unknown)?;
        let path = || text::unescaped(rest).map(|bytes| PathBuf::from(OsStr::from_bytes(&bytes)));
        match scheme {
            "unix" => match rest.strip_prefix('@') {
                Some(name) => Address::abstract_name(text::unescaped(name)?),
                None => Address::unix(path()?),
            },
            "shm" if rest.starts_with('@') => Err(AddressError::ShmAbstract { text: address.to_owned() }),
            "shm" => Address::shm(path()?),
            "tcp" => {
                let no_port = || AddressError::NoPort { text: address.to_owned() };
                let (host, port) = rest.rsplit_once(':').ok_or_else(no_port)?;
                if rest.ends_with(']') {
                    return Err(no_port());
                }
                let is_bare = !host.starts_with('[');
                if is_bare && host.contains(':') {
                    return Err(AddressError::NoBrackets { text: address.to_owned() });
                }
                let is_number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                let port = port.parse().ok().filter(|_| is_number);
                Address::tcp(host, port.ok_or_else(|| AddressError::BadPort { text: address.to_owned() })?)
            }
            _ => Err(unknown()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let host = match (address.ip(), address) {
            (IpAddr::V6(ip), SocketAddr::V6(v6)) if v6.scope_id() != 0 => {
                format!("{ip}%{}", v6.scope_id())
            }
            (ip, _) => ip.to_string(),
        };
        Address(Kind::Tcp { host, port: address.port() })
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Self {
        address.clone()
    }
}

macro_rules! from_text {
    ($($t:ty),*) => {$(
        impl TryFrom<$t> for Address {
            type Error = AddressError;

            fn try_from(text: $t) -> Result<Self, AddressError> {
                text.parse()
            }
        }
    )*};
}

from_text!(&str, String, &String, Cow<'_, str>);

/// So that what takes `impl TryInto<Address>`, with an error that is an [`AddressError`], takes an [`Address`] too.
impl From<Infallible> for AddressError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
