//! Made-up messages and numbers.

/// The bytes of message `n`, of that length: each tells where it is, and in which message.
pub fn payload(n: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (n.wrapping_mul(31) ^ i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

/// Bytes of which each tells where it is, and how many there are.
pub fn pattern(len: usize) -> Vec<u8> {
    payload(len, len)
}

/// Text of that length.
pub fn text(len: usize) -> String {
    (0..len).map(|i| char::from(b'a' + (i % 26) as u8)).collect()
}

/// Numbers that look random, the same each time (xorshift, G. Marsaglia 2003). The seed is not zero.
#[derive(Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    /// Any number but zero.
    pub fn any(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number from zero on, less than `end`.
    ///
    /// # Panics
    /// If `end` is zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.any() % end
    }

    /// So many bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.any() as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_differ_in_all_their_bytes() {
        let differ = |a: &[u8], b: &[u8]| a.iter().zip(b).all(|(a, b)| a != b);
        let bytes = payload(1, 1000);
        assert!(differ(&bytes, &payload(2, 1000)), "of another message");
        assert!(differ(&bytes[1..256], &bytes), "of another place");
        assert!(differ(&pattern(1000), &pattern(999)), "of another length");
        assert_eq!((pattern(1000).len(), text(1000).len()), (1000, 1000));
    }

    #[test]
    fn numbers_are_the_same_each_time() {
        let draw = || {
            let mut numbers = Numbers(5);
            (numbers.any(), numbers.bytes(3), (0..100).map(|_| numbers.below(3)).collect::<Vec<_>>())
        };
        assert_eq!(draw(), draw());
        let (_, bytes, below) = draw();
        assert_eq!(bytes.len(), 3);
        assert!((0..3).all(|n| below.contains(&n)) && below.iter().all(|n| *n < 3));
    }
}
