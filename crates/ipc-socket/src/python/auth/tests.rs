use super::*;

const KEY: &[u8] = b"secret";
const LEGACY: Options = Options::new().allow_legacy_md5(true);
const MODERN: Options = Options::new();

fn hex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// 0, 1, 2, …
fn count(len: u8) -> Vec<u8> {
    (0..len).collect()
}

/// `{sha256}` and the bytes 00 to 27.
fn modern() -> Vec<u8> {
    [OURS, &count(40)].concat()
}

fn challenge(rest: &[u8]) -> Vec<u8> {
    [CHALLENGE, rest].concat()
}

/// A listener that has sent the challenge of `modern`, instead of a random one.
fn listener(key: &[u8], options: Options) -> Auth {
    let mut auth = Auth::listener(key, options);
    assert_eq!(auth.challenge(&count(40)), Step::Send(challenge(&modern())));
    auth
}

fn answer_to(rest: &[u8], key: &[u8], options: Options) -> Result<Step, AuthError> {
    let mut client = Auth::client(key, options);
    assert!(matches!(client.next(None), Ok(Step::Receive)));
    client.next(Some(&challenge(rest)))
}

/// Lets both speak in turn until one fails or both are done; what became of each.
fn converse(listener: &mut Auth, client: &mut Auth) -> [Result<(), AuthError>; 2] {
    let ends = [listener, client];
    let mut mail: [Option<Vec<u8>>; 2] = [None, None];
    let mut results = [None, None];
    while results.iter().any(Option::is_none) {
        let mut moved = false;
        for me in 0..2 {
            while results[me].is_none() {
                let heard = mail[me].take();
                moved |= heard.is_some();
                match ends[me].next(heard.as_deref()) {
                    Ok(Step::Send(message)) => {
                        moved = true;
                        assert_eq!(
                            mail[1 - me].replace(message),
                            None,
                            "nobody speaks twice in a row unheard"
                        );
                    }
                    Ok(Step::Receive) if mail[me].is_some() => {}
                    Ok(Step::Receive) => break,
                    Ok(Step::Done) => results[me] = Some(Ok(())),
                    Err(error) => results[me] = Some(Err(error)),
                }
            }
        }
        assert!(moved || results.iter().all(Option::is_some), "both wait: {ends:?}");
    }
    results.map(Option::unwrap)
}

#[test]
fn golden_legacy() {
    let Ok(Step::Send(answer)) = answer_to(&count(20), KEY, LEGACY) else { panic!() };
    assert_eq!(answer, hex("7defa9cc46abc3583325d17ccda75190"));
    let Ok(Step::Send(answer)) = answer_to(&count(20), b"", LEGACY) else { panic!() };
    assert_eq!(answer, hex("eee7e8c8fa6d98a59d76c44ce7018548"));
}

#[test]
fn golden_modern() {
    let sent = challenge(&modern());
    assert_eq!(sent.len(), 0x3b);
    let Ok(Step::Send(answer)) = answer_to(&modern(), KEY, MODERN) else { panic!() };
    let digest = hex("fc57fbe650d6124b98215e7b5d197d5807ad69982d275a9735ea2d56f1fa6989");
    assert_eq!(answer, [b"{sha256}", digest.as_slice()].concat());
    assert_eq!(answer.len(), 0x28);
}

/// The digest that a challenge asks for, and the key; then the answer.
const ANSWERS: [(&str, &[u8], &str); 8] = [
    ("sha256", b"secret", "fc57fbe650d6124b98215e7b5d197d5807ad69982d275a9735ea2d56f1fa6989"),
    ("sha3_256", b"secret", "82e8fa62f363295b6655abecf0e98e510224c559e9745af9741c357aec358f90"),
    ("sha256", b"", "d18b190a737f779d3125c4a2dfddcebf933e2f2713bc92fbe386ca25df9fd7af"),
    ("sha3_256", b"", "eb7f7cc26247f61662c4e683bdd7275ab4b15c1a6d1c3494b56e982bf7fe359d"),
    ("md5", b"secret", "e8928e8cca3ace2d777017168dc6a0b2"),
    ("md5", b"", "53a69d30c85951faa3c8cdad1d7dd275"),
    (
        "sha384",
        b"secret",
        "bae78a3376369f7b803a8473318a9b7062495b47434159ac84fc92ddb33c51b277c44c3edd9a5f9cb7d628f21abe2665",
    ),
    (
        "sha3_384",
        b"secret",
        "bfbe71d4e622f58ebf6cbe049af4c8fe518645b482915af0940d678c37c0b46dd1a2a448f9ee5141c91bba42b46a7862",
    ),
];

#[test]
fn golden_answers_of_every_digest() {
    for (name, key, digest) in ANSWERS {
        let prefix = format!("{{{name}}}").into_bytes();
        let asked = [prefix.as_slice(), &count(40)].concat();
        let Ok(Step::Send(answer)) = answer_to(&asked, key, LEGACY) else { panic!("{name}") };
        assert_eq!(answer, [prefix, hex(digest)].concat());
        match answer_to(&asked, key, MODERN) {
            Ok(Step::Send(same)) if name != "md5" => assert_eq!(same, answer),
            Err(AuthError::LegacyRefused) if name == "md5" => {}
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// Answers to the challenge of `modern` for the key `secret`.
const ACCEPTED: [(&str, &str); 5] = [
    ("sha256", "fc57fbe650d6124b98215e7b5d197d5807ad69982d275a9735ea2d56f1fa6989"),
    (
        "sha384",
        "98030e6b3d09dd7eb5b7cf5f0a8c32b12ddb22d4d698e98b35f0f4690116fa5bcd125f45b2d89a7fc2f902c009a6f961",
    ),
    ("sha3_256", "4267b9809ac390ef0e6594601ec515dd8b6c2134c01fbdcd90fcc05750ec16ce"),
    (
        "sha3_384",
        "8f7c0b025ef0a88432bc2c75e9272002839245e5afc9d59271c99679e10afcd3bffa25c63dae3cfdeab6bcf4de17d2ac",
    ),
    ("md5", "8e48d2bb349b4b72b9382999ed5b62eb"),
];

fn verdict(answer: &[u8], options: Options) -> (Vec<u8>, Auth) {
    let mut auth = listener(KEY, options);
    assert!(matches!(auth.next(None), Ok(Step::Receive)));
    match auth.next(Some(answer)) {
        Ok(Step::Send(verdict)) => (verdict, auth),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_digest_will_do_for_an_answer() {
    for (name, digest) in ACCEPTED {
        let named = [format!("{{{name}}}").as_bytes(), &hex(digest)].concat();
        let (said, mut auth) = verdict(&named, LEGACY);
        assert_eq!(said, WELCOME, "{name}");
        // Now it is the other one's turn to ask.
        assert!(matches!(auth.next(None), Ok(Step::Receive)));
        let (said, _) = verdict(&named, MODERN);
        assert_eq!(said, if name == "md5" { FAILURE } else { WELCOME }, "{name}");
    }
}

#[test]
fn a_bare_md5_answer_needs_the_option_that_the_error_names() {
    let answer = hex("8e48d2bb349b4b72b9382999ed5b62eb");
    assert_eq!(verdict(&answer, LEGACY).0, WELCOME);
    let (said, mut auth) = verdict(&answer, MODERN);
    assert_eq!(said, FAILURE);
    let error = auth.next(None).unwrap_err();
    assert!(matches!(error, AuthError::LegacyRefused));
    assert!(error.to_string().contains("allow_legacy_md5"));
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(matches!(answer_to(&count(20), KEY, MODERN), Err(AuthError::LegacyRefused)));
}

#[test]
fn no_bit_of_an_answer_may_be_wrong() {
    let right = [OURS, &hex(ACCEPTED[0].1)].concat();
    for at in 0..right.len() * 8 {
        let mut wrong = right.clone();
        wrong[at / 8] ^= 1 << (at % 8);
        let (said, mut auth) = verdict(&wrong, LEGACY);
        assert_eq!(said, FAILURE, "bit {at}");
        assert!(!auth.is_done());
        assert!(matches!(auth.next(None), Err(AuthError::WrongKey | AuthError::UnsupportedDigest { .. })));
        assert!(matches!(auth.next(None), Err(AuthError::OutOfTurn)), "it stays failed");
    }
}

#[test]
fn no_other_length_of_an_answer_is_accepted() {
    let right = [OURS, &hex(ACCEPTED[0].1), &[0; 200]].concat();
    for len in (0..right.len()).filter(|len| *len != 40) {
        let (said, _) = verdict(&right[..len], LEGACY);
        assert_eq!(said, FAILURE, "{len}");
    }
}

#[test]
fn what_is_no_challenge() {
    for message in [
        &b""[..],
        b"#CHALLENGE#",
        b"#WELCOME#",
        b"#challenge#{sha256}0123456789012345678901234567890123456789",
    ] {
        let error = Auth::client(KEY, LEGACY).next(Some(message)).unwrap_err();
        assert!(matches!(error, AuthError::NotChallenged), "{message:?}: {error:?}");
    }
    // Shorter than any that CPython knows.
    for len in 0..20 {
        assert!(matches!(answer_to(&count(len), KEY, LEGACY), Err(AuthError::NotChallenged)));
    }
}

#[test]
fn unknown_digests_are_named_if_they_look_like_it() {
    for (asked, expected) in [
        (&b"{sha1}0123456789012345678901234567890123456789"[..], "sha1"),
        (b"{sha3_512}01234567890123456789012345678901234567", "sha3_512"),
        (b"{SHA256}01234567890123456789012345678901234567", "SHA256"),
        (b"012345678901234567890", ""),
        (b"{\x1b[2J}012345678901234567890", ""),
        (b"{012345678901234567890123456789", ""),
    ] {
        match answer_to(asked, KEY, LEGACY) {
            Err(AuthError::UnsupportedDigest { name }) => assert_eq!(name, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn our_own_challenge_is_not_answered() {
    let (said, mut auth) = verdict(&[OURS, &hex(ACCEPTED[0].1)].concat(), LEGACY);
    assert_eq!(said, WELCOME);
    assert!(matches!(auth.next(Some(&challenge(&modern()))), Err(AuthError::Reflected)));
    assert!(!auth.is_done());
    assert!(matches!(auth.next(Some(&challenge(&[9; 48]))), Err(AuthError::OutOfTurn)));
}

#[test]
fn a_listener_answers_nothing_before_it_has_been_answered() {
    let mut auth = listener(KEY, LEGACY);
    let asked = [b"#CHALLENGE#{sha256}", count(40).as_slice()].concat();
    assert_eq!(auth.next(Some(&asked)).unwrap(), Step::Send(FAILURE.to_vec()));
}

#[test]
fn two_of_ours() {
    for key in [&b"secret"[..], b"", &[0; 1000]] {
        let mut listener = Auth::listener(key, MODERN);
        let mut client = Auth::client(key, MODERN);
        let [at_listener, at_client] = converse(&mut listener, &mut client);
        at_listener.unwrap();
        at_client.unwrap();
        assert!(listener.is_done() && client.is_done());
        assert_ne!(listener.sent, client.sent, "each has its own random bytes");
        assert!(matches!(listener.next(Some(b"more")), Err(AuthError::OutOfTurn)));
    }
}

#[test]
fn a_wrong_key_is_told_to_both() {
    for (mine, yours) in [(&b"secret"[..], &b"Secret"[..]), (b"secret", b""), (b"", b"secret")] {
        let mut listener = Auth::listener(mine, LEGACY);
        let mut client = Auth::client(yours, LEGACY);
        let [at_listener, at_client] = converse(&mut listener, &mut client);
        assert!(matches!(at_listener, Err(AuthError::WrongKey)), "{at_listener:?}");
        assert!(matches!(at_client, Err(AuthError::Rejected)), "{at_client:?}");
    }
}

#[test]
fn the_verdict_is_one_of_two() {
    for message in [&b""[..], b"#WELCOME", b"#WELCOME# ", b"#CHALLENGE#"] {
        let mut client = Auth::client(KEY, MODERN);
        client.next(Some(&challenge(&modern()))).unwrap();
        assert!(matches!(client.next(Some(message)), Err(AuthError::NotWelcomed)));
    }
}

#[test]
fn long_messages_are_refused() {
    let mut client = Auth::client(KEY, MODERN);
    let long = challenge(&[OURS, &[7; 245 - 8]].concat());
    assert_eq!(long.len(), MESSAGE_LEN_MAX);
    assert!(matches!(client.next(Some(&long)), Ok(Step::Send(_))));
    let mut client = Auth::client(KEY, MODERN);
    assert!(matches!(client.next(Some(&[0; 257])), Err(AuthError::TooLong { len: 257 })));
    assert!(matches!(client.next(None), Err(AuthError::OutOfTurn)));
}

#[test]
fn the_key_does_not_show() {
    let mut auth = Auth::client(b"hunter2", LEGACY);
    auth.next(Some(&challenge(&modern()))).unwrap();
    let shown = format!("{auth:?}");
    assert!(
        shown.contains("ReceiveVerdict") && !shown.contains("hunter2") && !shown.contains("104"),
        "{shown}"
    );
}
