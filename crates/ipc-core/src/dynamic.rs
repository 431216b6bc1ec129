//! Between serde's types and values that say what they are, whatever the type of these is: [`Value`](crate::Value) is one,
//! and another crate has Python's.

use serde::de::DeserializeOwned;
use serde::ser::Serialize;

use crate::value::ValueError;

mod de;
mod ser;

/// How deep [`to_dynamic`] and [`from_dynamic`] go. Both recurse, and so does dropping what they make.
pub const DEPTH_MAX: usize = 128;

/// A type whose values say what they are.
pub trait Dynamic: Sized {
    /// The value that is that.
    fn build(kind: Kind<Self>) -> Self;

    /// What the value is; or what to call it, if serde knows nothing of the kind.
    ///
    /// # Errors
    ///
    /// The name, as it comes after "invalid type: ".
    fn take_apart(self) -> Result<Kind<Self>, &'static str>;
}

/// What a value can be. `D` is the type of the values in it.
#[derive(Debug)]
pub enum Kind<D> {
    /// `()`, a unit struct, `None`.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// An integer that does not fit into an `i128`.
    UInt(u128),
    /// A floating-point number.
    Float(f64),
    /// Text. Also a `char`, the name of a field, a unit variant.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A sequence.
    List(Vec<D>),
    /// A tuple, a tuple struct, an array.
    Tuple(Vec<D>),
    /// What is read as a sequence, but is in no order. Nothing serializes as one.
    Set(Vec<D>),
    /// A map, a struct, or a variant with a payload: from its name to that.
    Map(Vec<(D, D)>),
}

/// What `value` serializes as.
///
/// # Errors
///
/// As of [`to_value`](crate::to_value).
pub fn to_dynamic<D: Dynamic, T: Serialize + ?Sized>(value: &T) -> Result<D, ValueError> {
    value.serialize(ser::ToDynamic::new(DEPTH_MAX))
}

/// The `T` that `value` stands for.
///
/// # Errors
///
/// As of [`from_value`](crate::from_value).
pub fn from_dynamic<D: Dynamic, T: DeserializeOwned>(value: D) -> Result<T, ValueError> {
    T::deserialize(de::FromDynamic::new(value, DEPTH_MAX))
}

/// One level less, or the error.
fn descend(depth_left: usize) -> Result<usize, ValueError> {
    depth_left.checked_sub(1).ok_or(ValueError::TooDeep { limit: DEPTH_MAX })
}

/// Makes a [`Dynamic`] type from Rust's own types. [`Dynamic`] and [`Kind`] are to be in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! dynamic_from {
    ($dynamic:ty) => {
        // Each of the integers fits into an `i128`; `From` does not say so for the two that depend on the target.
        $crate::dynamic_from! { $dynamic:
            bool, value => Bool(value);
            i8, value => Int(value as i128);
            i16, value => Int(value as i128);
            i32, value => Int(value as i128);
            i64, value => Int(value as i128);
            i128, value => Int(value);
            isize, value => Int(value as i128);
            u8, value => Int(value as i128);
            u16, value => Int(value as i128);
            u32, value => Int(value as i128);
            u64, value => Int(value as i128);
            usize, value => Int(value as i128);
            f32, value => Float(value.into());
            f64, value => Float(value);
            char, value => Text(value.into());
            &str, value => Text(value.to_owned());
            String, value => Text(value);
            &[u8], value => Bytes(value.to_vec());
            Vec<u8>, value => Bytes(value);
            Vec<$dynamic>, value => List(value);
            Vec<($dynamic, $dynamic)>, value => Map(value);
        }

        impl From<u128> for $dynamic {
            fn from(value: u128) -> Self {
                Self::build(i128::try_from(value).map_or(Kind::UInt(value), Kind::Int))
            }
        }

        impl From<()> for $dynamic {
            fn from((): ()) -> Self {
                Self::build(Kind::Null)
            }
        }

        impl<T: Into<$dynamic>> From<Option<T>> for $dynamic {
            fn from(value: Option<T>) -> Self {
                value.map_or_else(|| Self::build(Kind::Null), Into::into)
            }
        }
    };
    ($dynamic:ty: $($ty:ty, $value:ident => $kind:ident($content:expr);)*) => {$(
        impl From<$ty> for $dynamic {
            fn from($value: $ty) -> Self {
                Self::build(Kind::$kind($content))
            }
        }
    )*};
}
