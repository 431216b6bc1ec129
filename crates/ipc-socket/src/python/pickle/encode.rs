//! From objects to pickles.

use super::super::bigint::shortest;
use super::super::object::{DEPTH_MAX, Object, ObjectError};
use super::opcode as op;

/// Appends the pickle of `object` to `out`: protocol 4, without a frame and without a memo, which are not needed and
/// make it longer.
///
/// # Errors
/// [`ObjectError::TooDeep`] beyond 128 levels; [`ObjectError::Encode`] for a key of a dict or element of a set that
/// Python could not hash (a list, a dict, a set, or a tuple with one of them), and for an integer of more than 2 GiB.
/// Then `out` is as it was.
///
/// ```
/// use ipc_core::Limits;
/// use ipc_socket::python::{Object, pickle};
///
/// let object = Object::Tuple(vec![Object::from("#RETURN"), Object::None]);
/// let mut bytes = Vec::new();
/// pickle::encode(&object, &mut bytes)?;
/// assert_eq!(bytes, b"\x80\x04\x8c\x07#RETURNN\x86.");
/// assert_eq!(pickle::decode(&bytes, &Limits::default())?, object);
/// # Ok::<(), ipc_core::Error>(())
/// ```
pub fn encode(object: &Object, out: &mut Vec<u8>) -> Result<(), ObjectError> {
    let before = out.len();
    out.extend([op::PROTO, 4]);
    let done = put(object, out, DEPTH_MAX);
    match done {
        Ok(()) => out.push(op::STOP),
        Err(_) => out.truncate(before),
    }
    done
}

fn put(object: &Object, out: &mut Vec<u8>, depth_left: usize) -> Result<(), ObjectError> {
    let inner = || depth_left.checked_sub(1).ok_or(ObjectError::TooDeep { limit: DEPTH_MAX });
    match object {
        Object::None => out.push(op::NONE),
        Object::Bool(true) => out.push(op::NEWTRUE),
        Object::Bool(false) => out.push(op::NEWFALSE),
        Object::Int(value) => int(*value, out),
        Object::BigInt(value) => long(value.as_le_bytes(), out)?,
        Object::Float(value) => {
            out.push(op::BINFLOAT);
            out.extend(value.to_be_bytes());
        }
        Object::Str(text) => {
            counted([op::SHORT_BINUNICODE, op::BINUNICODE, op::BINUNICODE8], text.as_bytes(), out);
        }
        Object::Bytes(bytes) => counted([op::SHORT_BINBYTES, op::BINBYTES, op::BINBYTES8], bytes, out),
        Object::List(elements) => {
            out.push(op::EMPTY_LIST);
            marked(elements, op::APPENDS, out, inner()?)?;
        }
        Object::Tuple(elements) => {
            let inner = inner()?;
            let end = match elements.len() {
                0 => op::EMPTY_TUPLE,
                1 => op::TUPLE1,
                2 => op::TUPLE2,
                3 => op::TUPLE3,
                _ => {
                    out.push(op::MARK);
                    op::TUPLE
                }
            };
            for element in elements {
                put(element, out, inner)?;
            }
            out.push(end);
        }
        Object::Set(elements) => {
            out.push(op::EMPTY_SET);
            marked(elements, op::ADDITEMS, out, inner()?)?;
            elements.iter().try_for_each(hashable)?;
        }
        Object::FrozenSet(elements) => {
            let inner = inner()?;
            out.push(op::MARK);
            for element in elements {
                put(element, out, inner)?;
            }
            out.push(op::FROZENSET);
            elements.iter().try_for_each(hashable)?;
        }
        Object::Dict(entries) => {
            let inner = inner()?;
            out.push(op::EMPTY_DICT);
            if !entries.is_empty() {
                out.push(op::MARK);
                for (key, value) in entries {
                    put(key, out, inner)?;
                    hashable(key)?;
                    put(value, out, inner)?;
                }
                out.push(op::SETITEMS);
            }
        }
    }
    Ok(())
}

/// The elements of something that lies empty on the stack.
fn marked(elements: &[Object], end: u8, out: &mut Vec<u8>, depth_left: usize) -> Result<(), ObjectError> {
    if !elements.is_empty() {
        out.push(op::MARK);
        for element in elements {
            put(element, out, depth_left)?;
        }
        out.push(end);
    }
    Ok(())
}

/// Text or bytes behind a length of 1, 4 or 8 bytes, which the opcodes stand for.
fn counted([short, middle, long]: [u8; 3], bytes: &[u8], out: &mut Vec<u8>) {
    if let Ok(len) = u8::try_from(bytes.len()) {
        out.extend([short, len]);
    } else if let Ok(len) = u32::try_from(bytes.len()) {
        out.push(middle);
        out.extend(len.to_le_bytes());
    } else {
        out.push(long);
        out.extend((bytes.len() as u64).to_le_bytes());
    }
    out.extend(bytes);
}

fn int(value: i128, out: &mut Vec<u8>) {
    if let Ok(value) = u8::try_from(value) {
        out.extend([op::BININT1, value]);
    } else if let Ok(value) = u16::try_from(value) {
        out.push(op::BININT2);
        out.extend(value.to_le_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        out.push(op::BININT);
        out.extend(value.to_le_bytes());
    } else {
        let bytes = value.to_le_bytes();
        let bytes = shortest(&bytes);
        out.extend([op::LONG1, bytes.len() as u8]);
        out.extend(bytes);
    }
}

fn long(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ObjectError> {
    if let Ok(len) = u8::try_from(bytes.len()) {
        out.extend([op::LONG1, len]);
    } else if let Ok(len) = i32::try_from(bytes.len()) {
        out.push(op::LONG4);
        out.extend(len.to_le_bytes());
    } else {
        return Err(ObjectError::Encode("an integer of more than 2 GiB has no pickle".into()));
    }
    out.extend(bytes);
    Ok(())
}

/// What Python would say of a key or an element, which only the peer would see otherwise. It recurses: asked after
/// [`put`] has found that this is not too deep.
fn hashable(key: &Object) -> Result<(), ObjectError> {
    let kind = match key {
        Object::List(_) => "a list",
        Object::Dict(_) => "a dict",
        Object::Set(_) => "a set",
        // These are in a set already, whose elements are looked at when it is their turn.
        Object::FrozenSet(_) => return Ok(()),
        Object::Tuple(elements) => return elements.iter().try_for_each(hashable),
        _ => return Ok(()),
    };
    Err(ObjectError::Encode(format!("{kind} cannot be a key of a dict or an element of a set in Python")))
}
