//! The bytes of a pickle, from the first to the last.

use super::PickleError;

type Result<T> = std::result::Result<T, PickleError>;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// How much has been read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The next `len` bytes. They lie in the pickle: no length, whatever it is, allocates anything.
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let taken = self.rest().get(..len).ok_or(PickleError::Truncated)?;
        self.at += len;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = *self.rest().first_chunk().ok_or(PickleError::Truncated)?;
        self.at += N;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// What stands behind a length of one byte.
    pub(super) fn counted1(&mut self) -> Result<&'a [u8]> {
        let len = self.u8()?;
        self.take(len.into())
    }

    /// What stands behind a length of four bytes.
    pub(super) fn counted4(&mut self) -> Result<&'a [u8]> {
        let len = self.u32()?;
        self.long(len.into())
    }

    /// What stands behind a length of four bytes which may be negative, but then it is wrong.
    pub(super) fn counted4_signed(&mut self) -> Result<&'a [u8]> {
        let at = self.at;
        let len = i32::from_le_bytes(self.array()?);
        let len =
            usize::try_from(len).map_err(|_| PickleError::Malformed { what: "a negative length", at })?;
        self.take(len)
    }

    /// What stands behind a length of eight bytes.
    pub(super) fn counted8(&mut self) -> Result<&'a [u8]> {
        let len = u64::from_le_bytes(self.array()?);
        self.long(len)
    }

    fn long(&mut self, len: u64) -> Result<&'a [u8]> {
        self.take(usize::try_from(len).map_err(|_| PickleError::Truncated)?)
    }

    /// A frame begins, which nobody needs: but it has to be there.
    pub(super) fn frame(&mut self) -> Result<()> {
        let len = u64::from_le_bytes(self.array()?);
        if len > self.rest().len() as u64 { Err(PickleError::Truncated) } else { Ok(()) }
    }

    /// The rest of the line, without its end.
    pub(super) fn line(&mut self) -> Result<&'a [u8]> {
        let rest = self.rest();
        let len = rest.iter().position(|byte| *byte == b'\n').ok_or(PickleError::Truncated)?;
        let (line, _) = rest.split_at(len);
        self.at += len + 1;
        Ok(line)
    }
}
