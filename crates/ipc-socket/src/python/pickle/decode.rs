//! From pickles to objects.

use std::borrow::Cow;

use ipc_core::Limits;

use super::super::object::Object;
use super::PickleError;
use super::graph::{Call, Item, Node};
use super::machine::{Kind, Machine};
use super::opcode as op;
use super::reader::Reader;
use super::text::{self, Number};

type Result<T> = std::result::Result<T, PickleError>;

/// The object that a pickle stands for, if that is plain data. [`encode`](super::encode) has an example.
///
/// Nothing is executed. What is referred to several times is copied. The order of sets and dicts is that of the pickle.
/// Bytes of Python 2, which are a `str` there, are read as text if they are ASCII.
///
/// `limits` are [`memory_max`](Limits#structfield.memory_max), for all that is allocated here and in the result
/// together, and [`depth_max`](Limits#structfield.depth_max), for lists, tuples, dicts and sets in each other. For how
/// long `bytes` are, the one who received them has a limit.
///
/// # Errors
/// Each variant of [`PickleError`].
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Object> {
    let mut reader = Reader::new(bytes);
    let mut machine = Machine::new(limits);
    loop {
        machine.at = reader.at();
        match reader.u8()? {
            op::STOP => break,
            opcode => step(opcode, &mut reader, &mut machine)?,
        }
    }
    match reader.rest().len() {
        0 => machine.stop(limits),
        len => Err(PickleError::Trailing { len }),
    }
}

fn step<'a>(opcode: u8, reader: &mut Reader<'a>, machine: &mut Machine<'a>) -> Result<()> {
    let at = machine.at;
    match opcode {
        op::PROTO => match reader.u8()? {
            0..=5 => Ok(()),
            other => Err(PickleError::Protocol(other)),
        },
        op::FRAME => reader.frame(),

        op::NONE => machine.push(Item::None),
        op::NEWTRUE => machine.push(Item::Bool(true)),
        op::NEWFALSE => machine.push(Item::Bool(false)),
        op::BININT1 => machine.push(Item::Int(reader.u8()?.into())),
        op::BININT2 => machine.push(Item::Int(u16::from_le_bytes(reader.array()?).into())),
        op::BININT => machine.push(Item::Int(i32::from_le_bytes(reader.array()?).into())),
        op::BINFLOAT => machine.push(Item::Float(f64::from_be_bytes(reader.array()?))),
        op::FLOAT => machine.push(Item::Float(text::float(reader.line()?, at)?)),
        op::INT => match reader.line()? {
            b"00" => machine.push(Item::Bool(false)),
            b"01" => machine.push(Item::Bool(true)),
            line => number(line, machine),
        },
        op::LONG => {
            let line = reader.line()?;
            number(line.strip_suffix(b"L").unwrap_or(line), machine)
        }
        op::LONG1 => machine.push_long(Cow::Borrowed(reader.counted1()?)),
        op::LONG4 => machine.push_long(Cow::Borrowed(reader.counted4_signed()?)),

        op::SHORT_BINUNICODE => machine.push_text(text::utf8(reader.counted1()?, at)?),
        op::BINUNICODE => machine.push_text(text::utf8(reader.counted4()?, at)?),
        op::BINUNICODE8 => machine.push_text(text::utf8(reader.counted8()?, at)?),
        op::UNICODE => machine.push_escaped(reader.line()?, text::raw_unicode_escape),
        op::STRING => machine.push_escaped(reader.line()?, text::quoted),
        op::SHORT_BINSTRING => machine.push_text(text::ascii(reader.counted1()?, at)?),
        op::BINSTRING => machine.push_text(text::ascii(reader.counted4_signed()?, at)?),
        op::SHORT_BINBYTES => machine.push_node(Node::Bytes(reader.counted1()?.into())),
        op::BINBYTES => machine.push_node(Node::Bytes(reader.counted4()?.into())),
        op::BINBYTES8 => machine.push_node(Node::Bytes(reader.counted8()?.into())),

        op::EMPTY_LIST => machine.push_node(Node::List(Vec::new())),
        op::EMPTY_TUPLE => machine.push_node(Node::Tuple(Vec::new())),
        op::EMPTY_DICT => machine.push_node(Node::Dict(Vec::new())),
        op::EMPTY_SET => machine.push_node(Node::Set(Vec::new())),
        op::MARK => machine.mark(),
        op::LIST => machine.gather(Node::List),
        op::TUPLE => machine.gather(Node::Tuple),
        op::FROZENSET => machine.gather(Node::FrozenSet),
        op::DICT => machine.gather_entries(),
        op::TUPLE1 => machine.tuple(1),
        op::TUPLE2 => machine.tuple(2),
        op::TUPLE3 => machine.tuple(3),
        op::APPEND => machine.add_last(1, Kind::List),
        op::SETITEM => machine.add_last(2, Kind::Dict),
        op::APPENDS => machine.add_marked(Kind::List),
        op::SETITEMS => machine.add_marked(Kind::Dict),
        op::ADDITEMS => machine.add_marked(Kind::Set),
        op::POP => machine.discard(),
        op::POP_MARK => machine.discard_marked(),

        op::MEMOIZE => machine.memoize(),
        op::PUT => machine.put(text::index(reader.line()?, at)?),
        op::BINPUT => machine.put(reader.u8()?.into()),
        op::LONG_BINPUT => machine.put(reader.u32()?),
        op::GET => machine.recall(text::index(reader.line()?, at)?),
        op::BINGET => machine.recall(reader.u8()?.into()),
        op::LONG_BINGET => machine.recall(reader.u32()?),

        op::GLOBAL => {
            let (module, name) = (reader.line()?, reader.line()?);
            machine.push(Item::Call(Call::named(module, name)?))
        }
        op::STACK_GLOBAL => machine.stack_global(),
        op::REDUCE => machine.reduce(),
        other => Err(PickleError::Opcode { name: op::refused(other), opcode: other, at }),
    }
}

/// A decimal integer.
fn number(line: &[u8], machine: &mut Machine<'_>) -> Result<()> {
    match text::number(line, machine.at)? {
        Number::Small(value) => machine.push(Item::Int(value)),
        Number::Big(value) => machine.push_long(Cow::Owned(value.into_le_bytes())),
    }
}
