//! Encoding: postcard's serializer, with a bound on length and depth, and errors that keep their messages.

use std::fmt::{self, Write as _};

use postcard::ser_flavors::Flavor;
use serde::ser::{self, Serialize};

use super::error::{EncodeError, EncodeFailure};
use crate::Limits;

type Result<T = ()> = std::result::Result<T, EncodeFailure>;
type Postcard<'a> = postcard::Serializer<Sink<'a>>;

/// Appends the encoding of `value` to `out`. What `out` holds after an error is for the caller to clear.
#[inline]
pub(super) fn encode<T: Serialize + ?Sized>(limits: &Limits, value: &T, out: &mut Vec<u8>) -> Result {
    let start = out.len();
    // A value usually takes fewer bytes encoded than in memory, plus what it points to: one reservation
    // where the many small pushes would otherwise each grow the buffer.
    out.reserve(size_of_val(value).min(RESERVE_MAX));
    let end_max = start.saturating_add(limits.frame_len_max);
    let mut postcard = Postcard { output: Sink { out, start, end_max, refused: 0 } };
    value.serialize(Writer { postcard: &mut postcard, depth_left: limits.depth_max, limits })?;
    let len = postcard.output.out.len();
    if len > end_max {
        return Err(failure(postcard::Error::SerializeBufferFull, len - start, limits.frame_len_max));
    }
    Ok(())
}

/// The most that is reserved ahead of encoding: a slice may be longer in memory than its encoding.
const RESERVE_MAX: usize = 1024;

/// The end of the caller's buffer, as postcard sees it.
struct Sink<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    end_max: usize,
    /// How many bytes did not fit, for the error.
    refused: usize,
}

impl Flavor for Sink<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        if self.out.len() == self.out.capacity() {
            self.make_room(1)?;
        }
        self.out.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if self.out.capacity() - self.out.len() < bytes.len() {
            self.make_room(bytes.len())?;
        }
        // Short numbers come with a length that the compiler does not know, and a call of memcpy costs more than
        // they do. For lengths that it knows this condition is gone.
        if bytes.len() < 4 {
            bytes.iter().for_each(|byte| self.out.push(*byte));
        } else {
            self.out.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

impl Sink<'_> {
    /// Grows the buffer, up to the limit. What has room already is checked once, at the end: that saves every push a
    /// second comparison, and costs no memory, since it is there.
    #[cold]
    fn make_room(&mut self, count: usize) -> postcard::Result<()> {
        if count <= self.end_max.saturating_sub(self.out.len()) {
            self.out.reserve(count);
            return Ok(());
        }
        self.refused = count;
        Err(postcard::Error::SerializeBufferFull)
    }
}

/// Text that is formatted straight into the buffer.
impl fmt::Write for Sink<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.try_extend(piece.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// The serializer that a `Serialize` implementation sees. Postcard's own would lose the messages of custom
/// errors.
struct Writer<'w, 'a> {
    postcard: &'w mut Postcard<'a>,
    depth_left: usize,
    limits: &'w Limits,
}

impl<'w, 'a> Writer<'w, 'a> {
    #[inline]
    fn failure(&self, error: postcard::Error) -> EncodeFailure {
        let sink = &self.postcard.output;
        let len = (sink.out.len() - sink.start).saturating_add(sink.refused);
        failure(error, len, self.limits.frame_len_max)
    }

    #[inline]
    fn write(self, put: impl FnOnce(&mut Postcard<'a>) -> postcard::Result<()>) -> Result {
        match put(self.postcard) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failure(error)),
        }
    }

    /// One level down, after `put` has written what introduces it.
    #[inline]
    fn nest(self, put: impl FnOnce(&mut Postcard<'a>) -> postcard::Result<()>) -> Result<Self> {
        if self.depth_left == 0 {
            return Err(EncodeError::TooDeep { limit: self.limits.depth_max }.into());
        }
        match put(self.postcard) {
            Ok(()) => Ok(Writer { depth_left: self.depth_left - 1, ..self }),
            Err(error) => Err(self.failure(error)),
        }
    }

    /// The same place again, for the next element.
    #[inline]
    fn again(&mut self) -> Writer<'_, 'a> {
        Writer { postcard: self.postcard, depth_left: self.depth_left, limits: self.limits }
    }
}

// It takes copies: a reference to the state of the encoder that left the hot path would keep that state out
// of registers.
#[cold]
#[inline(never)]
fn failure(error: postcard::Error, len_at_least: usize, limit: usize) -> EncodeFailure {
    match error {
        postcard::Error::SerializeBufferFull => EncodeError::TooLong { len_at_least, limit },
        postcard::Error::SerializeSeqLengthUnknown => EncodeError::UnknownLength,
        other => EncodeError::Custom(other.to_string()),
    }
    .into()
}

macro_rules! plain {
    ($($method:ident: $ty:ty,)*) => {$(
        #[inline]
        fn $method(self, value: $ty) -> Result {
            self.write(|postcard| postcard.$method(value))
        }
    )*};
}

impl<'w, 'a> ser::Serializer for Writer<'w, 'a> {
    type Ok = ();
    type Error = EncodeFailure;
    type SerializeSeq = Counted<'w, 'a>;
    type SerializeMap = Counted<'w, 'a>;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    plain! {
        serialize_bool: bool,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64,
        serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
    }

    #[inline]
    fn serialize_none(self) -> Result {
        self.write(|postcard| postcard.serialize_none())
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        value.serialize(self.nest(|postcard| postcard.serialize_some(&()))?)
    }

    #[inline]
    fn serialize_unit(self) -> Result {
        self.write(|postcard| postcard.serialize_unit())
    }

    #[inline]
    fn serialize_unit_struct(self, name: &'static str) -> Result {
        self.write(|postcard| postcard.serialize_unit_struct(name))
    }

    #[inline]
    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result {
        self.nest(|postcard| postcard.serialize_unit_variant(name, index, variant)).map(drop)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Result {
        value.serialize(self.nest(|_| Ok(()))?)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result {
        value.serialize(self.nest(|postcard| postcard.serialize_unit_variant(name, index, variant))?)
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq> {
        let writer = self.nest(|postcard| postcard.serialize_seq(len).map(drop))?;
        Ok(Counted { writer, announced: len.unwrap_or_default(), written: 0 })
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap> {
        let writer = self.nest(|postcard| postcard.serialize_map(len).map(drop))?;
        Ok(Counted { writer, announced: len.unwrap_or_default(), written: 0 })
    }

    #[inline]
    fn serialize_tuple(self, _len: usize) -> Result<Self> {
        self.nest(|_| Ok(()))
    }

    #[inline]
    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Self> {
        self.nest(|_| Ok(()))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Self> {
        self.nest(|postcard| postcard.serialize_unit_variant(name, index, variant))
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Self> {
        self.nest(|_| Ok(()))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Self> {
        self.nest(|postcard| postcard.serialize_unit_variant(name, index, variant))
    }

    // Postcard formats twice, to learn the length first: what formats differently the second time would
    // make a message that nobody can read.
    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result {
        let sink = &mut self.postcard.output;
        let text_start = sink.out.len();
        if write!(sink, "{value}").is_err() {
            return Err(match sink.refused {
                0 => EncodeError::Custom("a Display implementation failed".to_owned()).into(),
                _ => self.failure(postcard::Error::SerializeBufferFull),
            });
        }
        let text_end = sink.out.len();
        let len = (text_end - text_start) as u64;
        let writer = self;
        if let Err(error) = writer.postcard.serialize_u64(len) {
            return Err(writer.failure(error));
        }
        let out = &mut writer.postcard.output.out;
        let prefix_len = out.len() - text_end;
        out[text_start..].rotate_right(prefix_len);
        Ok(())
    }
}

/// A sequence or map, which has to keep to the number of elements that it announced: whoever reads the
/// message goes by that number.
struct Counted<'w, 'a> {
    writer: Writer<'w, 'a>,
    announced: usize,
    written: usize,
}

impl Counted<'_, '_> {
    #[inline]
    fn finish(self) -> Result {
        if self.written == self.announced { Ok(()) } else { Err(self.wrong_length()) }
    }

    #[cold]
    fn wrong_length(&self) -> EncodeFailure {
        EncodeError::WrongLength { announced: self.announced, written: self.written }.into()
    }
}

impl ser::SerializeSeq for Counted<'_, '_> {
    type Ok = ();
    type Error = EncodeFailure;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        self.written += 1;
        value.serialize(self.writer.again())
    }

    #[inline]
    fn end(self) -> Result {
        self.finish()
    }
}

impl ser::SerializeMap for Counted<'_, '_> {
    type Ok = ();
    type Error = EncodeFailure;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result {
        self.written += 1;
        key.serialize(self.writer.again())
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        value.serialize(self.writer.again())
    }

    #[inline]
    fn end(self) -> Result {
        self.finish()
    }
}

macro_rules! by_position {
    ($($trait:ident $method:ident,)*) => {$(
        impl ser::$trait for Writer<'_, '_> {
            type Ok = ();
            type Error = EncodeFailure;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
                value.serialize(self.again())
            }

            #[inline]
            fn end(self) -> Result {
                Ok(())
            }
        }
    )*};
}

by_position! {
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

macro_rules! by_name {
    ($($trait:ident,)*) => {$(
        impl ser::$trait for Writer<'_, '_> {
            type Ok = ();
            type Error = EncodeFailure;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, _field: &'static str, value: &T) -> Result {
                value.serialize(self.again())
            }

            // Fields have no names in the encoding: the reader would take the next field for this one.
            fn skip_field(&mut self, field: &'static str) -> Result {
                Err(EncodeError::SkippedField { field }.into())
            }

            #[inline]
            fn end(self) -> Result {
                Ok(())
            }
        }
    )*};
}

by_name! {
    SerializeStruct,
    SerializeStructVariant,
}
