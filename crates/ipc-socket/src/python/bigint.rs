//! Integers of any size.

use std::fmt;

/// More bytes than this print in hexadecimal: 4300 decimal digits, which is where CPython stops too.
const DECIMAL_BYTES_MAX: usize = 1786;

/// How many decimal digits are read. Reading them takes time with the square of their number, and CPython has the
/// same limit by default (`sys.set_int_max_str_digits`).
pub(super) const DIGITS_MAX: usize = 4300;

/// The largest power of ten in a `u64`, with which decimal digits come and go 19 at a time.
const CHUNK: u64 = 10_000_000_000_000_000_000;
const CHUNK_DIGITS: usize = 19;

/// An integer of any size, as Python has them: only what goes in and out of an [`Object`](super::Object), without
/// arithmetic.
///
/// It prints in decimal, but in hexadecimal beyond 4300 digits, since that takes time with the square of them.
///
/// ```
/// use ipc_socket::python::BigInt;
///
/// let big = BigInt::from(u128::MAX);
/// assert_eq!(big.to_string(), "340282366920938463463374607431768211455");
/// assert_eq!(big.to_u128(), Some(u128::MAX));
/// assert_eq!(big.to_i128(), None);
/// assert_eq!(BigInt::from_le_bytes(&[0xff, 0xff]), BigInt::from(-1));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BigInt {
    /// Two's complement, the least significant byte first, and no more of them than needed: none for 0.
    bytes: Vec<u8>,
}

impl BigInt {
    /// The integer with these bytes: two's complement, the least significant first, none for 0.
    ///
    /// ```
    /// # use ipc_socket::python::BigInt;
    /// assert_eq!(BigInt::from_le_bytes(&[0, 1]).to_i128(), Some(256));
    /// assert_eq!(BigInt::from_le_bytes(&[0x80]).to_i128(), Some(-128));
    /// ```
    pub fn from_le_bytes(bytes: &[u8]) -> Self {
        BigInt { bytes: shortest(bytes).to_vec() }
    }

    /// The bytes of the integer: two's complement, the least significant first, and as few as will do.
    ///
    /// ```
    /// # use ipc_socket::python::BigInt;
    /// assert_eq!(BigInt::from(255).as_le_bytes(), [0xff, 0]);
    /// ```
    pub fn as_le_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_le_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether it is less than 0.
    ///
    /// ```
    /// # use ipc_socket::python::BigInt;
    /// assert!(BigInt::from(-5).is_negative());
    /// ```
    pub fn is_negative(&self) -> bool {
        negative(&self.bytes)
    }

    /// The same as an `i128`, if it fits.
    ///
    /// ```
    /// # use ipc_socket::python::BigInt;
    /// assert_eq!(BigInt::from(i128::MIN).to_i128(), Some(i128::MIN));
    /// ```
    pub fn to_i128(&self) -> Option<i128> {
        small(&self.bytes)
    }

    /// The same as a `u128`, if it fits.
    ///
    /// ```
    /// # use ipc_socket::python::BigInt;
    /// assert_eq!(BigInt::from(-1).to_u128(), None);
    /// ```
    pub fn to_u128(&self) -> Option<u128> {
        // A seventeenth byte may be needed to say that the number is positive.
        if self.is_negative() || self.bytes.len() > 17 || self.bytes.get(16).is_some_and(|&top| top != 0) {
            return None;
        }
        let mut word = [0; 16];
        for (to, from) in word.iter_mut().zip(&self.bytes) {
            *to = *from;
        }
        Some(u128::from_le_bytes(word))
    }

    /// Reads a decimal number of at most [`DIGITS_MAX`] digits; `None` if it is something else.
    pub(super) fn from_decimal(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let mut limbs: Vec<u64> = Vec::new();
        for chunk in digits.as_bytes().chunks(CHUNK_DIGITS) {
            let value = chunk.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
            let mut carry = u128::from(value);
            let factor = 10_u128.pow(chunk.len() as u32);
            for limb in &mut limbs {
                carry += u128::from(*limb) * factor;
                *limb = carry as u64;
                carry >>= 64;
            }
            if carry > 0 {
                limbs.push(carry as u64);
            }
        }
        let mut bytes: Vec<u8> = limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect();
        bytes.push(0);
        if negative {
            negate(&mut bytes);
        }
        Some(BigInt::from_le_bytes(&bytes))
    }

    /// The absolute value: plain binary, the least significant byte first.
    fn magnitude(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if self.is_negative() {
            // One more byte, so that the negation of the least number fits.
            bytes.push(0xff);
            negate(&mut bytes);
        }
        bytes
    }
}

/// Whether a number in two's complement is less than 0.
fn negative(bytes: &[u8]) -> bool {
    bytes.last().is_some_and(|top| top & 0x80 != 0)
}

/// The same number without the bytes that only repeat the sign.
pub(super) fn shortest(mut bytes: &[u8]) -> &[u8] {
    while let Some((top, rest)) = bytes.split_last() {
        let redundant = match *top {
            0 => !negative(rest),
            0xff => negative(rest),
            _ => false,
        };
        if !redundant {
            break;
        }
        bytes = rest;
    }
    bytes
}

/// The number that is given in two's complement, if it fits.
pub(super) fn small(bytes: &[u8]) -> Option<i128> {
    let bytes = shortest(bytes);
    if bytes.len() > 16 {
        return None;
    }
    let mut word = [if negative(bytes) { 0xff } else { 0 }; 16];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    Some(i128::from_le_bytes(word))
}

/// Two's complement, in place.
fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes {
        let (sum, over) = (!*byte).overflowing_add(u8::from(carry));
        *byte = sum;
        carry = over;
    }
}

macro_rules! from_integers {
    ($($ty:ty)*) => {$(
        impl From<$ty> for BigInt {
            fn from(value: $ty) -> Self {
                BigInt::from_le_bytes(&(value as i128).to_le_bytes())
            }
        }
    )*};
}

// Each of these fits into an `i128`; `From` does not say so for the two that depend on the target.
from_integers! { i8 i16 i32 i64 i128 isize u8 u16 u32 u64 usize }

impl From<u128> for BigInt {
    fn from(value: u128) -> Self {
        let mut bytes = value.to_le_bytes().to_vec();
        bytes.push(0);
        BigInt::from_le_bytes(&bytes)
    }
}

impl fmt::Display for BigInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes.len() > DECIMAL_BYTES_MAX {
            return write!(f, "{self:#x}");
        }
        let mut limbs: Vec<u64> = self
            .magnitude()
            .chunks(8)
            .map(|chunk| chunk.iter().rev().fold(0, |limb, byte| limb << 8 | u64::from(*byte)))
            .collect();
        let mut chunks = Vec::new();
        while limbs.iter().any(|limb| *limb != 0) {
            let mut rest: u128 = 0;
            for limb in limbs.iter_mut().rev() {
                rest = rest << 64 | u128::from(*limb);
                *limb = (rest / u128::from(CHUNK)) as u64;
                rest %= u128::from(CHUNK);
            }
            chunks.push(rest as u64);
            while limbs.last() == Some(&0) {
                limbs.pop();
            }
        }
        let mut digits = chunks.pop().unwrap_or(0).to_string();
        for chunk in chunks.iter().rev() {
            digits.push_str(&format!("{chunk:0CHUNK_DIGITS$}"));
        }
        f.pad_integral(!self.is_negative(), "", &digits)
    }
}

/// The sign and the absolute value.
impl fmt::LowerHex for BigInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits: String = self.magnitude().iter().rev().map(|byte| format!("{byte:02x}")).collect();
        let digits = digits.trim_start_matches('0');
        f.pad_integral(!self.is_negative(), "0x", if digits.is_empty() { "0" } else { digits })
    }
}

impl fmt::Debug for BigInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BigInt({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [i128; 14] = [
        0,
        1,
        -1,
        127,
        128,
        -128,
        -129,
        255,
        256,
        i64::MIN as i128,
        u64::MAX as i128 + 1,
        -10_000_000_000_000_000_000,
        i128::MIN,
        i128::MAX,
    ];

    #[test]
    fn small_numbers_print_as_they_do_elsewhere() {
        for number in NUMBERS {
            let big = BigInt::from(number);
            assert_eq!(big.to_i128(), Some(number));
            assert_eq!(big.to_u128(), u128::try_from(number).ok());
            assert_eq!(big.to_string(), number.to_string());
            assert_eq!(format!("{:+x}", big).contains('-'), number < 0);
            assert_eq!(BigInt::from_decimal(&number.to_string()), Some(big), "{number}");
        }
        assert_eq!(format!("{:#x}", BigInt::from(-0x1234)), "-0x1234");
        assert_eq!(format!("{:x}", BigInt::from(0)), "0");
    }

    #[test]
    fn large_numbers_go_to_decimal_and_back() {
        // 10^k crosses every border of bytes, limbs and chunks of digits.
        for zeros in 0..200 {
            for sign in ["", "-"] {
                let text = format!("{sign}1{}", "0".repeat(zeros));
                let big = BigInt::from_decimal(&text).unwrap();
                assert_eq!(big.to_string(), text);
                assert_eq!(BigInt::from_le_bytes(big.as_le_bytes()), big);
            }
        }
        let most = "9".repeat(DIGITS_MAX);
        assert_eq!(BigInt::from_decimal(&most).unwrap().to_string(), most);
        assert_eq!(BigInt::from_decimal(&"9".repeat(DIGITS_MAX + 1)), None);
    }

    #[test]
    fn the_shortest_bytes_are_kept() {
        assert_eq!(BigInt::from_le_bytes(&[0; 9]).as_le_bytes(), [0_u8; 0]);
        assert_eq!(BigInt::from_le_bytes(&[0xff; 9]).as_le_bytes(), [0xff]);
        assert_eq!(BigInt::from_le_bytes(&[0x80, 0, 0]).as_le_bytes(), [0x80, 0]);
        assert_eq!(BigInt::from_le_bytes(&[0x7f, 0xff]).as_le_bytes(), [0x7f, 0xff]);
    }

    #[test]
    fn what_is_no_decimal_number_is_refused() {
        for text in ["", "-", "+1", "1_0", " 1", "0x1", "--1", "१"] {
            assert_eq!(BigInt::from_decimal(text), None, "{text:?}");
        }
    }

    #[test]
    fn huge_numbers_print_in_hexadecimal() {
        let big = BigInt::from_le_bytes(&[1; DECIMAL_BYTES_MAX + 1]);
        assert!(big.to_string().starts_with("0x10101"));
    }
}
