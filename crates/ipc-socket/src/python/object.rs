//! A Python value that is plain data.

use ipc_core::dynamic::{self, Dynamic, Kind};
use serde::de::DeserializeOwned;
use serde::ser::Serialize;

use super::bigint::BigInt;

mod display;
mod value;

/// How deep [`to_object`], [`from_object`] and [`encode`](super::pickle::encode) go.
pub(super) use ipc_core::dynamic::DEPTH_MAX;

/// A Python value that is plain data: `None`, `bool`, `int`, `float`, `str`, `bytes`, `list`, `tuple`, `dict`, `set`
/// and `frozenset`, nested in each other.
///
/// [`to_object`] and [`from_object`] convert from and to types with serde. A struct becomes a [`Dict`](Object::Dict)
/// with its field names, a tuple, an array and a tuple struct become a [`Tuple`](Object::Tuple), a newtype what it
/// contains, `()` and `None` become [`None`](Object::None), and `Some(x)` what `x` becomes. An enum variant becomes
/// its name if it is a unit variant, and otherwise a dict with one entry, from its name to its payload. A sequence in
/// Rust may be a list, tuple, set or frozenset in Python.
///
/// Two objects are equal if they look the same: `1`, `True` and `1.0` differ here, and so do sets whose elements come
/// in another order.
///
/// # What does not survive
///
/// - `Some(None)` and `Some(())` come back as `None`.
/// - serde has no sets: a `HashSet` becomes a list. Who wants to send a set makes a [`Set`](Object::Set).
/// - A `Vec<u8>` is a list of numbers, unless something like the crate `serde_bytes` is used.
///
/// It prints as Python would write it:
///
/// ```
/// use ipc_socket::python::{Object, from_object, to_object};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// struct Point {
///     at: (i32, i32),
///     label: Option<String>,
/// }
///
/// let point = Point { at: (1, 2), label: None };
/// let object = to_object(&point)?;
/// assert_eq!(object.to_string(), "{'at': (1, 2), 'label': None}");
/// assert_eq!(from_object::<Point>(object)?, point);
/// # Ok::<(), ipc_socket::python::ObjectError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Object {
    /// `None`.
    #[default]
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An `int` that fits into an `i128`.
    Int(i128),
    /// An `int` that does not. `Object::from`, [`to_object`] and [`decode`](super::pickle::decode) keep all others in
    /// [`Int`](Object::Int).
    BigInt(BigInt),
    /// A `float`.
    Float(f64),
    /// A `str`. Those of Python that contain surrogates have no counterpart.
    Str(String),
    /// `bytes`.
    Bytes(Vec<u8>),
    /// A `list`.
    List(Vec<Object>),
    /// A `tuple`.
    Tuple(Vec<Object>),
    /// A `dict`. The entries keep their order. Keys that Python takes for equal are not looked for.
    Dict(Vec<(Object, Object)>),
    /// A `set`, in the order in which it came.
    Set(Vec<Object>),
    /// A `frozenset`, in the order in which it came.
    FrozenSet(Vec<Object>),
}

/// The [`Object`] that `value` serializes as.
///
/// # Errors
///
/// [`ObjectError::TooDeep`] beyond 128 levels, and what a `Serialize` implementation refuses.
///
/// ```
/// use ipc_socket::python::to_object;
///
/// let object = to_object(&(1, "two", vec![3.0], ()))?;
/// assert_eq!(object.to_string(), "(1, 'two', [3.0], None)");
/// # Ok::<(), ipc_socket::python::ObjectError>(())
/// ```
pub fn to_object<T: Serialize + ?Sized>(value: &T) -> Result<Object, ObjectError> {
    dynamic::to_dynamic(value)
}

/// The `T` that `object` stands for.
///
/// # Errors
///
/// [`ObjectError::TooDeep`] beyond 128 levels, and otherwise [`ObjectError::Decode`], if the object is not one of a
/// `T`.
///
/// ```
/// use ipc_socket::python::{Object, from_object};
///
/// let object = Object::Set(vec![Object::from(1), Object::from(2)]);
/// assert_eq!(from_object::<Vec<u8>>(object.clone()).unwrap(), [1, 2]);
/// assert_eq!(from_object::<(i64, f32)>(object.clone()).unwrap(), (1, 2.0));
/// assert!(from_object::<String>(object).is_err());
/// ```
pub fn from_object<T: DeserializeOwned>(object: Object) -> Result<T, ObjectError> {
    dynamic::from_dynamic(object)
}

/// A conversion to or from an [`Object`] failed, as one to or from a [`Value`](ipc_core::Value) does.
///
/// ```
/// use ipc_socket::python::{Object, ObjectError, from_object};
///
/// let error = from_object::<u8>(Object::from("seven")).unwrap_err();
/// assert!(matches!(error, ObjectError::Decode(_)));
/// assert_eq!(error.to_string(), "invalid type: string \"seven\", expected u8");
/// ```
pub type ObjectError = ipc_core::ValueError;

impl Object {
    /// Whether this is `None`.
    ///
    /// ```
    /// # use ipc_socket::python::Object;
    /// assert!(Object::from(()).is_none());
    /// ```
    pub fn is_none(&self) -> bool {
        matches!(self, Object::None)
    }

    /// The truth value, if it is a `bool`.
    ///
    /// ```
    /// # use ipc_socket::python::Object;
    /// assert_eq!(Object::from(true).as_bool(), Some(true));
    /// ```
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Object::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer, if it is one that fits.
    ///
    /// ```
    /// # use ipc_socket::python::Object;
    /// assert_eq!(Object::from(-1).as_i64(), Some(-1));
    /// assert_eq!(Object::from(u64::MAX).as_i64(), None);
    /// ```
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Object::Int(value) => i64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The number, if it is a `float`.
    ///
    /// ```
    /// # use ipc_socket::python::Object;
    /// assert_eq!(Object::from(0.5).as_f64(), Some(0.5));
    /// assert_eq!(Object::from(1).as_f64(), None);
    /// ```
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Object::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if it is a `str`.
    ///
    /// ```
    /// # use ipc_socket::python::Object;
    /// assert_eq!(Object::from("hello").as_str(), Some("hello"));
    /// ```
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Object::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes, if it is `bytes`.
    ///
    /// ```
    /// # use ipc_socket::python::Object;
    /// assert_eq!(Object::from(vec![1_u8, 2]).as_bytes(), Some(&[1, 2][..]));
    /// ```
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Object::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The elements of a list, tuple, set or frozenset.
    ///
    /// ```
    /// # use ipc_socket::python::Object;
    /// let tuple = Object::Tuple(vec![Object::from(1), Object::None]);
    /// assert_eq!(tuple.elements().map(<[Object]>::len), Some(2));
    /// ```
    pub fn elements(&self) -> Option<&[Object]> {
        match self {
            Object::List(elements)
            | Object::Tuple(elements)
            | Object::Set(elements)
            | Object::FrozenSet(elements) => Some(elements),
            _ => None,
        }
    }

    /// The entries, if it is a `dict`.
    ///
    /// ```
    /// # use ipc_socket::python::Object;
    /// let dict = Object::Dict(vec![(Object::from(1), Object::from("one"))]);
    /// assert_eq!(dict.as_dict().map(<[_]>::len), Some(1));
    /// ```
    pub fn as_dict(&self) -> Option<&[(Object, Object)]> {
        match self {
            Object::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// What a dict has at this text as a key. This looks at one entry after the other, and at the last one first, as
    /// a later one would have replaced an earlier one in Python.
    ///
    /// ```
    /// # use ipc_socket::python::Object;
    /// let dict = Object::Dict(vec![(Object::from("one"), Object::from(1))]);
    /// assert_eq!(dict.get("one"), Some(&Object::Int(1)));
    /// assert_eq!(dict.get("two"), None);
    /// ```
    pub fn get(&self, key: &str) -> Option<&Object> {
        self.as_dict()?.iter().rev().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value)
    }
}

impl Dynamic for Object {
    fn build(kind: Kind<Self>) -> Self {
        match kind {
            Kind::Null => Object::None,
            Kind::Bool(value) => Object::Bool(value),
            Kind::Int(value) => Object::Int(value),
            Kind::UInt(value) => BigInt::from(value).into(),
            Kind::Float(value) => Object::Float(value),
            Kind::Text(text) => Object::Str(text),
            Kind::Bytes(bytes) => Object::Bytes(bytes),
            Kind::List(elements) => Object::List(elements),
            Kind::Tuple(elements) => Object::Tuple(elements),
            Kind::Set(elements) => Object::Set(elements),
            Kind::Map(entries) => Object::Dict(entries),
        }
    }

    fn take_apart(self) -> Result<Kind<Self>, &'static str> {
        Ok(match self {
            Object::None => Kind::Null,
            Object::Bool(value) => Kind::Bool(value),
            Object::Int(value) => Kind::Int(value),
            Object::BigInt(value) => match (value.to_i128(), value.to_u128()) {
                (Some(value), _) => Kind::Int(value),
                (_, Some(value)) => Kind::UInt(value),
                _ => return Err("an integer of more than 128 bits"),
            },
            Object::Float(value) => Kind::Float(value),
            Object::Str(text) => Kind::Text(text),
            Object::Bytes(bytes) => Kind::Bytes(bytes),
            Object::List(elements) => Kind::List(elements),
            Object::Tuple(elements) => Kind::Tuple(elements),
            Object::Set(elements) | Object::FrozenSet(elements) => Kind::Set(elements),
            Object::Dict(entries) => Kind::Map(entries),
        })
    }
}

ipc_core::dynamic_from!(Object);

/// An [`Int`](Object::Int) if the value fits.
impl From<BigInt> for Object {
    fn from(value: BigInt) -> Self {
        match value.to_i128() {
            Some(value) => Object::Int(value),
            None => Object::BigInt(value),
        }
    }
}

#[cfg(test)]
mod tests;
