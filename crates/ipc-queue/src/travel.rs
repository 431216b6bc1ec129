//! How the sides of a queue travel, and how they are found by name.

use ipc_core::{Fingerprint, Schema, handle_kind};
use ipc_sync::OpenError;
use ipc_sync::object::{Opening, Role};
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::end::End;
use crate::options::{BOUNDED, Options, WORK};
use crate::queue::{Queue, Side};
use crate::{Receiver, Sender, work};

macro_rules! side {
    ($type:ty, $side:expr, $kind:literal, $queue:expr) => {
        impl<T: DeserializeOwned> Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let schema = Schema::of::<T>();
                let text = schema.text().as_bytes().to_vec();
                let fingerprint = schema.fingerprint().to_u64();
                self.end().role().serialize(handle_kind!($kind), fingerprint, text, serializer)
            }
        }

        impl<'de, T: DeserializeOwned> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let kind = handle_kind!($kind);
                let (role, fingerprint, text) = Role::deserialize(kind, $side.role(), 1024, deserializer)?;
                let theirs: String = String::from_utf8_lossy(&text).chars().take(4096).collect();
                Schema::of::<T>()
                    .check(Fingerprint::from_u64(fingerprint), &theirs)
                    .map_err(D::Error::custom)?;
                let queue = Queue::of(role.object().clone()).map_err(D::Error::custom)?;
                Ok(<$type>::over(End::with(queue, $side, role)))
            }
        }

        impl<T: DeserializeOwned> $type {
            /// Makes a queue with a name, for that many messages, which other processes of this user can open: this side
            /// of it. The name goes with the last of those who have it, also if they are killed. Those who come before
            /// anybody is on the other side wait for them.
            ///
            /// # Errors
            /// [`OpenError::AlreadyExists`] if somebody has one of that name, and what else [`OpenError`] says.
            pub fn create(name: &str, capacity: usize) -> Result<Self, OpenError> {
                Self::create_with(name, Options::new(capacity))
            }

            /// As [`create`](Self::create), with choices.
            ///
            /// # Errors
            /// The same.
            pub fn create_with(name: &str, options: Options) -> Result<Self, OpenError> {
                options.named::<T>($queue, Opening::Create, name, $side).map(Self::over)
            }

            /// Opens this side of the queue of that name.
            ///
            /// # Errors
            /// [`OpenError::NotFound`] if nobody has one of that name; [`OpenError::Mismatch`] if its messages have
            /// another structure; and what else [`OpenError`] says.
            pub fn open(name: &str) -> Result<Self, OpenError> {
                Options::new(1).named::<T>($queue, Opening::Open, name, $side).map(Self::over)
            }

            /// Opens this side of the queue of that name, or makes the queue. Of several processes that do so at once,
            /// all get the same.
            ///
            /// # Errors
            /// As of [`create`](Self::create) and [`open`](Self::open).
            pub fn open_or_create(name: &str, capacity: usize) -> Result<Self, OpenError> {
                Self::open_or_create_with(name, Options::new(capacity))
            }

            /// As [`open_or_create`](Self::open_or_create), with choices, which count if it is made.
            ///
            /// # Errors
            /// The same.
            pub fn open_or_create_with(name: &str, options: Options) -> Result<Self, OpenError> {
                options.named::<T>($queue, Opening::OpenOrCreate, name, $side).map(Self::over)
            }

            /// Takes a name away on purpose: who has the queue keeps it, and the name is free for another at once.
            ///
            /// # Errors
            /// [`OpenError::NotFound`] if nobody has one of that name, and what else [`OpenError`] says.
            pub fn remove(name: &str) -> Result<(), OpenError> {
                ipc_sync::remove($queue.name, name)
            }
        }
    };
}

side!(Sender<T>, Side::Sender, "queue.sender", BOUNDED);
side!(Receiver<T>, Side::Receiver, "queue.receiver", BOUNDED);
side!(work::Sender<T>, Side::Sender, "queue.work-sender", WORK);
side!(work::Receiver<T>, Side::Receiver, "queue.work-receiver", WORK);
