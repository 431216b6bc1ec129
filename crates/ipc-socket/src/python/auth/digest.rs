//! The digests that CPython allows.

use hmac::{Hmac, KeyInit, Mac, SimpleHmac};
use md5::Md5;
use sha2::{Sha256, Sha384};
use sha3::{Sha3_256, Sha3_384};

use super::AuthError;

/// A digest that an answer can be made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digest {
    Md5,
    Sha256,
    Sha384,
    Sha3_256,
    Sha3_384,
}

/// The longest name of a digest.
const NAME_LEN_MAX: usize = 8;

impl Digest {
    pub(super) const MD5_LEN: usize = 16;

    /// The digest whose name stands in braces before the message, and the message without it.
    pub(super) fn named(message: &[u8]) -> Result<(Self, &[u8]), AuthError> {
        for digest in [Digest::Md5, Digest::Sha256, Digest::Sha384, Digest::Sha3_256, Digest::Sha3_384] {
            if let Some(rest) = message.strip_prefix(digest.prefix()) {
                return Ok((digest, rest));
            }
        }
        // Nothing of a message is shown but what looks like the name of a digest.
        let name = message
            .strip_prefix(b"{")
            .and_then(|rest| rest.split(|byte| *byte == b'}').next())
            .filter(|name| name.len() <= 2 * NAME_LEN_MAX)
            .filter(|name| name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(byte)))
            .unwrap_or_default();
        Err(AuthError::UnsupportedDigest { name: String::from_utf8_lossy(name).into_owned() })
    }

    pub(super) fn prefix(self) -> &'static [u8] {
        match self {
            Digest::Md5 => b"{md5}",
            Digest::Sha256 => b"{sha256}",
            Digest::Sha384 => b"{sha384}",
            Digest::Sha3_256 => b"{sha3_256}",
            Digest::Sha3_384 => b"{sha3_384}",
        }
    }

    /// The HMAC of a message.
    pub(super) fn mac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
            keyed::<M>(key).chain_update(message).finalize().into_bytes().to_vec()
        }
        match self {
            Digest::Md5 => mac::<Hmac<Md5>>(key, message),
            Digest::Sha256 => mac::<Hmac<Sha256>>(key, message),
            Digest::Sha384 => mac::<Hmac<Sha384>>(key, message),
            Digest::Sha3_256 => mac::<SimpleHmac<Sha3_256>>(key, message),
            Digest::Sha3_384 => mac::<SimpleHmac<Sha3_384>>(key, message),
        }
    }

    /// Whether `tag` is the HMAC of a message: in a time that does not depend on where they differ.
    pub(super) fn verify(self, key: &[u8], message: &[u8], tag: &[u8]) -> bool {
        fn verify<M: Mac + KeyInit>(key: &[u8], message: &[u8], tag: &[u8]) -> bool {
            keyed::<M>(key).chain_update(message).verify_slice(tag).is_ok()
        }
        match self {
            Digest::Md5 => verify::<Hmac<Md5>>(key, message, tag),
            Digest::Sha256 => verify::<Hmac<Sha256>>(key, message, tag),
            Digest::Sha384 => verify::<Hmac<Sha384>>(key, message, tag),
            Digest::Sha3_256 => verify::<SimpleHmac<Sha3_256>>(key, message, tag),
            Digest::Sha3_384 => verify::<SimpleHmac<Sha3_384>>(key, message, tag),
        }
    }
}

fn keyed<M: KeyInit>(key: &[u8]) -> M {
    M::new_from_slice(key).expect("HMAC takes keys of any length")
}
