//! A value that says what it is.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::ser::Serialize;

use crate::dynamic::{self, Dynamic, Kind};
use crate::error::{Classify, ErrorKind};

mod display;
mod wire;

/// Any value of any serde type, without the type: for what is only known at run time, and for the types
/// that the binary encoding of [`Codec`](crate::Codec) cannot carry by themselves (`#[serde(untagged)]`,
/// `#[serde(flatten)]`, internal tags, `skip_serializing_if`).
///
/// [`to_value`] and [`from_value`] convert. A struct becomes a [`Map`](Value::Map) with its field names, a
/// tuple a [`List`](Value::List), a newtype what it contains, `()` and `None` become
/// [`Null`](Value::Null), and `Some(x)` what `x` becomes. An enum variant becomes its name if it is a unit
/// variant, and otherwise a map with one entry, from its name to its payload.
///
/// A value serializes as what it is where the format is human readable, so that it goes to and from JSON;
/// in a [`Codec`](crate::Codec) it carries a tag. Each list or map then takes two levels of
/// [`depth_max`](crate::Limits#structfield.depth_max).
///
/// # What does not survive
///
/// - `Some(None)` and `Some(())` come back as `None`.
/// - An integer beyond 64 bits inside an untagged or internally tagged enum, or beside a flattened field,
///   since serde itself does not buffer such.
/// - `f32` becomes [`Float`](Value::Float), exactly, and a NaN remains one; but no NaN is equal to itself.
///
/// ```
/// use ipc_core::{Codec, Value, from_value, to_value};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// #[serde(tag = "kind")]
/// enum Shape {
///     Circle { radius: f64 },
///     Square { side: f64 },
/// }
///
/// let value = to_value(&Shape::Circle { radius: 0.5 })?;
/// assert_eq!(value.get("kind").and_then(Value::as_str), Some("Circle"));
/// assert_eq!(value.to_string(), r#"{"kind": "Circle", "radius": 0.5}"#);
///
/// // `Shape` has an internal tag, which the codec refuses. The value goes through.
/// let codec = Codec::default();
/// let mut bytes = Vec::new();
/// codec.encode(&value, &mut bytes)?;
/// let shape: Shape = from_value(codec.decode(&bytes)?)?;
/// assert_eq!(shape, Shape::Circle { radius: 0.5 });
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `()`, a unit struct, `None`.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer that fits into an `i128`.
    Int(i128),
    /// An integer that does not. [`Value::from`] and [`to_value`] keep all others in [`Int`](Value::Int).
    UInt(u128),
    /// A floating-point number.
    Float(f64),
    /// Text. Also a `char`, the name of a field, a unit variant.
    Text(String),
    /// Bytes that were serialized as such: a plain `Vec<u8>` is a [`List`](Value::List), unless something
    /// like the crate `serde_bytes` is used.
    Bytes(Vec<u8>),
    /// A sequence, a tuple, an array.
    List(Vec<Value>),
    /// A map, a struct, or a variant with a payload. The entries keep their order, which counts when values
    /// are compared.
    Map(Vec<(Value, Value)>),
}

/// The [`Value`] that `value` serializes as.
///
/// # Errors
///
/// [`ValueError::TooDeep`] beyond 128 levels, and what a `Serialize` implementation refuses.
///
/// ```
/// use ipc_core::{Value, to_value};
///
/// let value = to_value(&(1, "two", Some(3.0), ())).unwrap();
/// assert_eq!(value.to_string(), r#"[1, "two", 3.0, null]"#);
/// assert_eq!(to_value(&value).unwrap(), value);
/// ```
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, ValueError> {
    dynamic::to_dynamic(value)
}

/// The `T` that `value` stands for.
///
/// # Errors
///
/// [`ValueError::TooDeep`] beyond 128 levels, and otherwise [`ValueError::Decode`], if the value is not one
/// of a `T`.
///
/// ```
/// use ipc_core::{Value, from_value};
///
/// let value = Value::List(vec![Value::from(1), Value::from(2)]);
/// assert_eq!(from_value::<Vec<u8>>(value.clone()).unwrap(), [1, 2]);
/// assert_eq!(from_value::<(i64, f32)>(value.clone()).unwrap(), (1, 2.0));
/// assert!(from_value::<String>(value).is_err());
/// ```
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, ValueError> {
    dynamic::from_dynamic(value)
}

/// A conversion to or from a [`Value`] failed.
///
/// ```
/// use ipc_core::{Value, ValueError, from_value};
///
/// let error = from_value::<u8>(Value::from("seven")).unwrap_err();
/// assert!(matches!(error, ValueError::Decode(_)));
/// assert_eq!(error.to_string(), "invalid type: string \"seven\", expected u8");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The value nests too deep.
    #[error("the value nests deeper than {limit} levels, which is as deep as one is converted")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A `Serialize` implementation refused, with this message.
    #[error("{0}")]
    Encode(String),
    /// The value is not one of the type asked for, for this reason.
    #[error("{0}")]
    Decode(String),
}

impl Classify for ValueError {
    fn kind(&self) -> ErrorKind {
        match self {
            ValueError::TooDeep { .. } => ErrorKind::Limit,
            ValueError::Encode(_) => ErrorKind::Encode,
            ValueError::Decode(_) => ErrorKind::Decode,
        }
    }
}

impl serde::ser::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        ValueError::Encode(message.to_string())
    }
}

impl serde::de::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        ValueError::Decode(message.to_string())
    }
}

impl Value {
    /// Whether this is [`Null`](Value::Null).
    ///
    /// ```
    /// # use ipc_core::Value;
    /// assert!(Value::from(()).is_null());
    /// ```
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The truth value, if it is one.
    ///
    /// ```
    /// # use ipc_core::Value;
    /// assert_eq!(Value::from(true).as_bool(), Some(true));
    /// ```
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer, if it is one that fits.
    ///
    /// ```
    /// # use ipc_core::Value;
    /// assert_eq!(Value::from(-1).as_i64(), Some(-1));
    /// assert_eq!(Value::from(u64::MAX).as_i64(), None);
    /// ```
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(value) => i64::try_from(*value).ok(),
            Value::UInt(value) => i64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The integer, if it is one that fits.
    ///
    /// ```
    /// # use ipc_core::Value;
    /// assert_eq!(Value::from(u64::MAX).as_u64(), Some(u64::MAX));
    /// assert_eq!(Value::from(-1).as_u64(), None);
    /// ```
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Int(value) => u64::try_from(*value).ok(),
            Value::UInt(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The number: of an integer, the nearest that an `f64` can represent.
    ///
    /// ```
    /// # use ipc_core::Value;
    /// assert_eq!(Value::from(0.5).as_f64(), Some(0.5));
    /// assert_eq!(Value::from(3).as_f64(), Some(3.0));
    /// ```
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            Value::Int(value) => Some(*value as f64),
            Value::UInt(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// The text, if it is text.
    ///
    /// ```
    /// # use ipc_core::Value;
    /// assert_eq!(Value::from("hello").as_str(), Some("hello"));
    /// ```
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes, if it is bytes.
    ///
    /// ```
    /// # use ipc_core::Value;
    /// assert_eq!(Value::from(vec![1_u8, 2]).as_bytes(), Some(&[1, 2][..]));
    /// ```
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The elements, if it is a list.
    ///
    /// ```
    /// # use ipc_core::Value;
    /// let list = Value::from(vec![Value::from(1), Value::Null]);
    /// assert_eq!(list.as_list().map(<[Value]>::len), Some(2));
    /// ```
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// The entries, if it is a map.
    ///
    /// ```
    /// # use ipc_core::Value;
    /// let map = Value::Map(vec![(Value::from(1), Value::from("one"))]);
    /// assert_eq!(map.as_map().map(<[_]>::len), Some(1));
    /// ```
    pub fn as_map(&self) -> Option<&[(Value, Value)]> {
        match self {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// What a map has at the first key that is this text. This looks at one entry after the other.
    ///
    /// ```
    /// # use ipc_core::Value;
    /// let map = Value::Map(vec![(Value::from("one"), Value::from(1))]);
    /// assert_eq!(map.get("one"), Some(&Value::Int(1)));
    /// assert_eq!(map.get("two"), None);
    /// assert_eq!(Value::Null.get("one"), None);
    /// ```
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.iter().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value)
    }
}

impl Dynamic for Value {
    fn build(kind: Kind<Self>) -> Self {
        match kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(value),
            Kind::Int(value) => Value::Int(value),
            Kind::UInt(value) => Value::UInt(value),
            Kind::Float(value) => Value::Float(value),
            Kind::Text(text) => Value::Text(text),
            Kind::Bytes(bytes) => Value::Bytes(bytes),
            Kind::List(elements) | Kind::Tuple(elements) | Kind::Set(elements) => Value::List(elements),
            Kind::Map(entries) => Value::Map(entries),
        }
    }

    fn take_apart(self) -> Result<Kind<Self>, &'static str> {
        Ok(match self {
            Value::Null => Kind::Null,
            Value::Bool(value) => Kind::Bool(value),
            Value::Int(value) => Kind::Int(value),
            Value::UInt(value) => Kind::UInt(value),
            Value::Float(value) => Kind::Float(value),
            Value::Text(text) => Kind::Text(text),
            Value::Bytes(bytes) => Kind::Bytes(bytes),
            Value::List(elements) => Kind::List(elements),
            Value::Map(entries) => Kind::Map(entries),
        })
    }
}

crate::dynamic_from!(Value);
