//! Both sides of a handshake, without I/O.

use super::*;

fn key(key: &[u8]) -> Option<Key> {
    Some(Key::new(key))
}

fn pair(client: Option<Key>, listener: Option<Key>) -> (Handshake, Handshake) {
    let client = Handshake::with_nonce(Role::Client, client, [1; 32]);
    (client, Handshake::with_nonce(Role::Listener, listener, [2; 32]))
}

type Ended = Result<(), AuthError>;

/// Carries messages from one to the other, changed by `on_the_way`, until both have ended.
fn run(
    (mut client, mut listener): (Handshake, Handshake),
    mut on_the_way: impl FnMut(usize, &mut Vec<u8>),
) -> (Ended, Ended) {
    let mut ended: [Option<Ended>; 2] = [None, None];
    let mut boxes: [Option<Vec<u8>>; 2] = [None, None];
    let mut count = 0;
    for _ in 0..20 {
        for side in 0..2 {
            if ended[side].is_some() {
                continue;
            }
            let machine = if side == 0 { &mut client } else { &mut listener };
            let mut step = machine.next(None);
            if step == Ok(Step::Receive)
                && let Some(message) = boxes[side].take()
            {
                step = machine.next(Some(&message));
            }
            let mut put = |mut message: Vec<u8>| {
                assert!(message.len() <= MESSAGE_MAX);
                on_the_way(count, &mut message);
                count += 1;
                boxes[1 - side] = Some(message);
            };
            match step {
                Ok(Step::Send(message)) => put(message),
                Ok(Step::Receive) => {}
                Ok(Step::Done) => ended[side] = Some(Ok(())),
                Ok(Step::Refuse(message, error)) => {
                    put(message);
                    ended[side] = Some(Err(error));
                }
                Err(error) => ended[side] = Some(Err(error)),
            }
        }
    }
    let unheard = || Err(AuthError::Protocol("the other one has given up"));
    let [client, listener] = ended.map(|ended| ended.unwrap_or_else(unheard));
    (client, listener)
}

fn undisturbed(client: Option<Key>, listener: Option<Key>) -> (Ended, Ended) {
    run(pair(client, listener), |_, _| {})
}

#[test]
fn the_same_key_or_none_on_both_sides() {
    assert_eq!(undisturbed(key(b"secret"), key(b"secret")), (Ok(()), Ok(())));
    assert_eq!(undisturbed(key(b""), key(b"")), (Ok(()), Ok(())), "an empty key is one");
    assert_eq!(undisturbed(None, None), (Ok(()), Ok(())));
}

#[test]
fn each_is_told_what_is_wrong() {
    let both = |error: AuthError| (Err(error.clone()), Err(error));
    assert_eq!(undisturbed(key(b"a"), key(b"b")), both(AuthError::WrongKey));
    assert_eq!(undisturbed(key(b""), key(b"b")), both(AuthError::WrongKey));
    assert_eq!(undisturbed(None, key(b"b")), (Err(AuthError::KeyWanted), Err(AuthError::NoKey)));
    assert_eq!(undisturbed(key(b"a"), None), (Err(AuthError::NoKey), Err(AuthError::KeyWanted)));
}

#[test]
fn any_changed_bit_of_any_message_is_found() {
    for message in 0..4 {
        for byte in 0..HELLO_LEN {
            for bit in 0..8 {
                let (client, listener) = run(pair(key(b"k"), key(b"k")), |count, bytes| {
                    if count == message
                        && let Some(byte) = bytes.get_mut(byte)
                    {
                        *byte ^= 1 << bit;
                    }
                });
                let is_there = byte < if message < 2 { HELLO_LEN } else { 1 + MAC_LEN };
                assert_eq!(client.is_err(), is_there, "message {message}, byte {byte}, bit {bit}");
                // The last one tells the listener nothing any more.
                assert_eq!(listener.is_err(), is_there && message < 3);
            }
        }
    }
}

#[test]
fn any_cut_or_lengthened_message_is_found() {
    for message in 0..4 {
        for len in (0..HELLO_LEN).chain([HELLO_LEN + 1, MESSAGE_MAX]) {
            let mut is_same = false;
            let (client, _) = run(pair(key(b"k"), key(b"k")), |count, bytes| {
                if count == message {
                    is_same = bytes.len() == len;
                    bytes.resize(len, 0);
                }
            });
            assert_eq!(client.is_err(), !is_same, "message {message} of {len} bytes");
        }
    }
}

#[test]
fn what_is_reflected_or_replayed_is_refused() {
    // A client that is sent its own messages back.
    let mut client = Handshake::with_nonce(Role::Client, key(b"k"), [1; 32]);
    let Ok(Step::Send(own)) = client.next(None) else { panic!("it begins") };
    assert!(matches!(client.next(Some(&own)), Err(AuthError::Protocol(_))));

    // What a client has said to one listener, said to another one, whose nonce is its own.
    let mut said = Vec::new();
    let _both_fine = run(pair(key(b"k"), key(b"k")), |count, bytes| {
        if count.is_multiple_of(2) {
            said.push(bytes.clone());
        }
    });
    let mut listener = Handshake::with_nonce(Role::Listener, key(b"k"), [3; 32]);
    assert!(matches!(listener.next(Some(&said[0])), Ok(Step::Send(_))));
    assert!(matches!(listener.next(Some(&said[1])), Ok(Step::Refuse(_, AuthError::WrongKey))));

    // The listener's proof is none for the client's, nor the other way round.
    let (mut client, mut listener) = pair(key(b"k"), key(b"k"));
    let Ok(Step::Send(hello)) = client.next(None) else { panic!("it begins") };
    let Ok(Step::Send(answer)) = listener.next(Some(&hello)) else { panic!("it answers") };
    let Ok(Step::Send(mut proof)) = client.next(Some(&answer)) else { panic!("it proves") };
    proof[0] = WELCOME;
    assert!(matches!(client.next(Some(&proof)), Err(AuthError::WrongKey)));
}

#[test]
fn a_machine_that_has_failed_stays_so() {
    let mut listener = Handshake::with_nonce(Role::Listener, None, [3; 32]);
    assert!(listener.next(Some(b"GET / HTTP/1.1\r\n")).is_err());
    let hello = hello(Role::Client, false, [1; 32]);
    assert!(listener.next(Some(&hello)).is_err());
}

#[test]
fn the_bytes_of_a_handshake() {
    let mut seen = Vec::new();
    let ended = run(pair(key(b"secret"), key(b"secret")), |_, bytes| seen.push(bytes.clone()));
    assert_eq!(ended, (Ok(()), Ok(())));
    let nonce = |byte: u8| [byte; 32];
    assert_eq!(seen[0], [&[b'H', 1, 0, 1][..], &nonce(1)].concat());
    assert_eq!(seen[1], [&[b'H', 1, 1, 1][..], &nonce(2)].concat());
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&seen[2]), PROOF_HEX);
    assert_eq!(hex(&seen[3]), WELCOME_HEX);
}

/// As Python's `hmac` computes them.
const PROOF_HEX: &str = "509811efb4d3d4e0420d8fec7824dec38c47130d400593ecf3f7946faf0b5153c9";
const WELCOME_HEX: &str = "572d80f4958bf3e0d651c94fe726c0a4f2a2fd255dc4f51a40f03e8a7af3494764";
