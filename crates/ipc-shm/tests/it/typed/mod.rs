//! Values, arrays, and plain data behind locks; and objects with names.

mod array;
mod hostile;
mod locks;
mod named;
mod names_race;
mod tools;
mod uses;
mod value;
