//! Between an [`Object`] and the dynamic value of the other protocols.

use ipc_core::Value;

use super::{Object, ObjectError};

/// Nothing gets lost: a list is a list, and all else has its counterpart.
impl From<Value> for Object {
    fn from(value: Value) -> Self {
        match value {
            Value::Bool(value) => Object::Bool(value),
            Value::Int(value) => Object::Int(value),
            Value::UInt(value) => value.into(),
            Value::Float(value) => Object::Float(value),
            Value::Text(text) => Object::Str(text),
            Value::Bytes(bytes) => Object::Bytes(bytes),
            Value::List(elements) => Object::List(elements.into_iter().map(Object::from).collect()),
            Value::Map(entries) => {
                Object::Dict(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
            }
            // `Null`; a variant that is yet to come would be missed by the tests of its crate.
            _ => Object::None,
        }
    }
}

/// Lists, tuples and sets become lists.
///
/// # Errors
/// [`ObjectError::Decode`] for an integer of more than 128 bits.
///
/// ```
/// use ipc_core::Value;
/// use ipc_socket::python::Object;
///
/// let tuple = Object::Tuple(vec![Object::from(1), Object::from("two")]);
/// assert_eq!(Value::try_from(tuple).unwrap().to_string(), r#"[1, "two"]"#);
/// ```
impl TryFrom<Object> for Value {
    type Error = ObjectError;

    fn try_from(object: Object) -> Result<Self, ObjectError> {
        Ok(match object {
            Object::None => Value::Null,
            Object::Bool(value) => Value::Bool(value),
            Object::Int(value) => Value::Int(value),
            Object::BigInt(value) => match (value.to_i128(), value.to_u128()) {
                (Some(value), _) => Value::Int(value),
                (_, Some(value)) => Value::UInt(value),
                _ => return Err(ObjectError::Decode("an integer of more than 128 bits is no Value".into())),
            },
            Object::Float(value) => Value::Float(value),
            Object::Str(text) => Value::Text(text),
            Object::Bytes(bytes) => Value::Bytes(bytes),
            Object::List(elements)
            | Object::Tuple(elements)
            | Object::Set(elements)
            | Object::FrozenSet(elements) => {
                Value::List(elements.into_iter().map(Value::try_from).collect::<Result<_, _>>()?)
            }
            Object::Dict(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| Ok((key.try_into()?, value.try_into()?)))
                    .collect::<Result<_, ObjectError>>()?,
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::BigInt;

    #[test]
    fn values_go_there_and_back() {
        let value = Value::List(vec![
            Value::Null,
            true.into(),
            i128::MIN.into(),
            u128::MAX.into(),
            0.5.into(),
            "text".into(),
            vec![1_u8, 2].into(),
            Value::Map(vec![(Value::from(1), Value::List(vec![]))]),
        ]);
        let object = Object::from(value.clone());
        assert_eq!(
            object.to_string(),
            "[None, True, -170141183460469231731687303715884105728, 340282366920938463463374607431768211455, \
             0.5, 'text', b'\\x01\\x02', {1: []}]"
        );
        assert_eq!(Value::try_from(object), Ok(value));
    }

    #[test]
    fn what_has_no_counterpart() {
        let set = Object::Set(vec![1.into()]);
        assert_eq!(Value::try_from(set), Ok(Value::List(vec![1.into()])));
        let huge = Object::Tuple(vec![BigInt::from_le_bytes(&[1; 20]).into()]);
        assert!(matches!(Value::try_from(huge), Err(ObjectError::Decode(_))));
    }
}
