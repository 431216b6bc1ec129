//! Addresses: what is one, what is none and why, and that text and address are the same thing.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ipc_core::{Classify, Codec, ErrorKind};
use ipc_socket::{Address, AddressError, AddressParts, Carrier};

fn parse(text: &str) -> Result<Address, AddressError> {
    text.parse()
}

/// What reading that text refuses, with a message that says all of these.
#[track_caller]
fn refused(text: &str, says: &[&str]) -> AddressError {
    let error = parse(text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    for what in says {
        assert!(error.to_string().contains(what), "{text:?}: {error}");
    }
    error
}

#[test]
fn the_forms_are_read_and_written() {
    let tcp = |host, port| AddressParts::Tcp { host, port };
    for (text, parts, carrier) in [
        ("unix:/run/x.socket", AddressParts::Unix(Path::new("/run/x.socket")), Carrier::Unix),
        ("unix:x", AddressParts::Unix(Path::new("x")), Carrier::Unix),
        ("unix:../a b/ü", AddressParts::Unix(Path::new("../a b/ü")), Carrier::Unix),
        ("unix:@name", AddressParts::Abstract(b"name"), Carrier::Unix),
        ("unix:@@/", AddressParts::Abstract(b"@/"), Carrier::Unix),
        ("unix:@%00%FFx", AddressParts::Abstract(b"\0\xFFx"), Carrier::Unix),
        ("unix:%40name", AddressParts::Unix(Path::new("@name")), Carrier::Unix),
        ("unix:/100%25", AddressParts::Unix(Path::new("/100%")), Carrier::Unix),
        ("shm:/dev/shm/x", AddressParts::Shm(Path::new("/dev/shm/x")), Carrier::Shm),
        ("tcp:127.0.0.1:80", tcp("127.0.0.1", 80), Carrier::Tcp),
        ("tcp:localhost:0", tcp("localhost", 0), Carrier::Tcp),
        ("tcp:a-b.example_1.org:65535", tcp("a-b.example_1.org", 65535), Carrier::Tcp),
        ("tcp:[::1]:80", tcp("::1", 80), Carrier::Tcp),
        ("tcp:[fe80::1%eth0]:80", tcp("fe80::1%eth0", 80), Carrier::Tcp),
    ] {
        let address = parse(text).unwrap();
        assert_eq!((address.parts(), address.carrier()), (parts, carrier), "{text}");
        assert_eq!(address.to_string(), text);
        assert_eq!(address.is_local(), carrier != Carrier::Tcp);
        assert_eq!(format!("{address:?}"), format!("Address({text})"));
        let has_path = matches!(parts, AddressParts::Unix(_) | AddressParts::Shm(_));
        assert_eq!(address.path().is_some(), has_path);
    }
}

#[test]
fn one_address_has_one_text() {
    for (text, same) in [
        ("unix:%2Ftmp%2fx", "unix:/tmp/x"),
        ("unix:@%6eame", "unix:@name"),
        ("tcp:[0:0::0001]:080", "tcp:[::1]:80"),
    ] {
        assert_eq!(parse(text).unwrap(), parse(same).unwrap());
        assert_eq!(parse(text).unwrap().to_string(), same);
    }
    assert_ne!(parse("unix:/x").unwrap(), parse("shm:/x").unwrap());
}

#[test]
fn what_is_none_says_how_to_write_one() {
    let forms = ["unix:/path", "unix:@abstract-name", "tcp:host:port", "tcp:[::1]:port", "shm:/path"];
    for text in ["", "x", "/tmp/x", "localhost:80", "UNIX:/x", "http://x:80", "[::1]:80"] {
        assert!(matches!(refused(text, &forms), AddressError::UnknownScheme { .. }));
    }
    for text in ["unix:", "shm:", "unix:@"] {
        assert!(matches!(refused(text, &["unix:/path"]), AddressError::Empty { .. }));
    }
    for text in ["unix:/", "unix:/a/", "unix:.", "shm:..", "unix:a/.", "unix:/a/.."] {
        assert!(matches!(refused(text, &["directory"]), AddressError::NoFileName { .. }));
    }
    assert!(matches!(refused("unix:/a%00b", &["zero"]), AddressError::ZeroInPath { .. }));
    assert!(matches!(refused("shm:@x", &["shm:/path"]), AddressError::ShmAbstract { .. }));
    for text in ["unix:/100%", "unix:/%", "unix:@%1", "shm:/%G0", "unix:/%0", "unix:/%+1"] {
        assert!(matches!(refused(text, &["%25"]), AddressError::BadEscape { .. }));
    }
    for text in ["tcp:", "tcp:localhost", "tcp:[::1]"] {
        assert!(matches!(refused(text, &["tcp:host:port"]), AddressError::NoPort { .. }));
    }
    for text in ["tcp:x:", "tcp:x:65536", "tcp:x:-1", "tcp:x:+1", "tcp:x: 1", "tcp:x:http", "tcp:[::1]:"] {
        assert!(matches!(refused(text, &["0"]), AddressError::BadPort { .. }));
    }
    for text in ["tcp:::1:80", "tcp::::80", "tcp:a:b:80"] {
        assert!(matches!(refused(text, &["[::1]"]), AddressError::NoBrackets { .. }));
    }
    let long = format!("tcp:{}:1", "h".repeat(254));
    for text in [
        "tcp::80",
        "tcp://host:80",
        "tcp:a b:80",
        "tcp:ü:80",
        "tcp:[]:80",
        "tcp:[name]:80",
        "tcp:[127.0.0.1]:80",
        "tcp:[::1%]:80",
        "tcp:[::1%a/b]:80",
        "tcp:[::g]:80",
        "tcp:a%b:80",
        &long,
    ] {
        assert!(matches!(refused(text, &["0.0.0.0"]), AddressError::BadHost { .. }), "{text}");
    }
}

#[test]
fn paths_and_names_end_where_the_kernel_says() {
    let path = |len: usize| format!("/tmp/{}", "p".repeat(len - 5));
    assert!(Address::unix(path(107)).is_ok() && Address::shm(path(107)).is_ok());
    for error in [Address::unix(path(108)).unwrap_err(), parse(&format!("shm:{}", path(108))).unwrap_err()] {
        assert!(matches!(error, AddressError::PathTooLong { .. }));
        let text = error.to_string();
        assert!(
            ["108", "107", "shorter", "XDG_RUNTIME_DIR"].iter().all(|what| text.contains(what)),
            "{text}"
        );
    }
    assert!(Address::abstract_name([b'n'; 107]).is_ok());
    let error = Address::abstract_name([b'n'; 108]).unwrap_err();
    assert_eq!(error, AddressError::AbstractTooLong { len: 108 });
}

#[test]
fn any_bytes_make_the_way_through_text() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    // Those that mean something to the text are more frequent.
    let special = b"%@/:[].%4\0\n\x7f\xff\xc3\xbc\xe2\x80\xa8";
    let mut paths = 0;
    for _ in 0..20_000 {
        let len = 1 + random() as usize % 12;
        let bytes: Vec<u8> = (0..len)
            .map(|_| match random() % 3 {
                0 => random() as u8,
                _ => special[random() as usize % special.len()],
            })
            .collect();
        let mut all = vec![Address::abstract_name(&*bytes).unwrap()];
        if let Ok(address) = Address::unix(OsStr::from_bytes(&bytes)) {
            assert_eq!(address.path(), Some(Path::new(OsStr::from_bytes(&bytes))));
            all.extend([address, Address::shm(OsStr::from_bytes(&bytes)).unwrap()]);
            paths += 1;
        }
        for address in all {
            let text = address.to_string();
            assert_eq!(parse(&text).as_ref(), Ok(&address), "{text:?}");
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
    }
    assert!(paths > 1000, "{paths}");
}

#[test]
fn conversions() {
    fn taken<A: TryInto<Address, Error: Into<AddressError>>>(address: A) -> Result<Address, AddressError> {
        address.try_into().map_err(Into::into)
    }
    let address = parse("unix:/x").unwrap();
    let text = String::from("unix:/x");
    for same in [
        taken("unix:/x"),
        taken(&text),
        taken(Cow::Borrowed("unix:/x")),
        taken(text.clone()),
        taken(&address),
        taken(address.clone()),
    ] {
        assert_eq!(same.as_ref(), Ok(&address));
    }
    assert!(taken("x").is_err());
    assert_eq!(String::from(address), text);
    for text in ["127.0.0.1:7", "[::1]:7", "[fe80::1%3]:7"] {
        let socket: SocketAddr = text.parse().unwrap();
        let address = Address::from(socket);
        assert_eq!(address.to_string(), format!("tcp:{text}"));
        assert_eq!(parse(&address.to_string()), Ok(address));
    }
    assert_eq!(Address::tcp("[::1]", 7), Address::tcp("::1", 7));
}

#[test]
fn serde_sees_the_text() {
    let codec = Codec::default();
    for text in ["unix:/x", "unix:@%00", "tcp:[::1]:9", "shm:/y"] {
        let address = parse(text).unwrap();
        let (mut of_address, mut of_text) = (Vec::new(), Vec::new());
        codec.encode(&address, &mut of_address).unwrap();
        codec.encode(text, &mut of_text).unwrap();
        assert_eq!(of_address, of_text);
        assert_eq!(codec.decode::<Address>(&of_address).unwrap(), address);
    }
    let mut none = Vec::new();
    codec.encode("tcp:x", &mut none).unwrap();
    assert!(codec.decode::<Address>(&none).is_err());
}

#[test]
fn loopback_is_what_stays_on_the_machine() {
    for (text, is) in [
        ("tcp:127.0.0.1:1", true),
        ("tcp:127.9.9.9:1", true),
        ("tcp:[::1]:1", true),
        ("tcp:[::ffff:127.0.0.1]:1", true),
        ("tcp:localhost:1", true),
        ("tcp:0.0.0.0:1", false),
        ("tcp:[::]:1", false),
        ("tcp:192.0.2.1:1", false),
        ("tcp:[2001:db8::1]:1", false),
        ("tcp:[::ffff:192.0.2.1]:1", false),
        // Never resolves (RFC 6761).
        ("tcp:no-such-host.invalid:1", false),
        ("unix:/x", true),
        ("unix:@x", true),
        ("shm:/x", true),
    ] {
        assert_eq!(parse(text).unwrap().is_loopback(), is, "{text}");
    }
}
