//! The lock of an object's own few words: held for an instant, never while code of users runs.

use std::borrow::BorrowMut;
use std::io;
use std::sync::atomic::AtomicU64;

use super::lock::{self, OnDeath, Refused, Taken};
use crate::object::Object;
use crate::thread::Me;
use crate::wait::Nap;

/// Why the latch was not got.
#[derive(Debug)]
pub enum Latched {
    /// The time is over.
    TimedOut,
    /// Nobody is left who could let it go.
    Abandoned,
    /// The system reports something, or the word was scribbled over.
    Io(io::Error),
}

/// Holds the latch until it is dropped.
#[derive(Debug)]
pub struct LatchGuard<'a> {
    word: &'a AtomicU64,
    object: &'a Object,
    pub(crate) me: Me,
}

/// Takes the latch. `repair` runs first if its owner died: it makes again what is derived, from the words that commit, and
/// may itself be cut off and repeated. `nap` is asked for only if it has to wait.
#[inline]
pub(crate) fn latch<'a, N: BorrowMut<Nap>>(
    word: &'a AtomicU64,
    object: &'a Object,
    nap: impl FnOnce() -> N,
    repair: impl FnOnce(),
) -> Result<LatchGuard<'a>, Latched> {
    let me = object.me().map_err(Latched::Io)?;
    me.hold();
    if !lock::try_fast(word, me.id) {
        match lock::acquire(word, me.id, object, OnDeath::Pass, nap().borrow_mut()) {
            Ok(Taken::Free) => {}
            Ok(Taken::FromDead(_) | Taken::Unrepaired(_)) => repair(),
            Err(refused) => {
                me.let_go();
                return Err(match refused {
                    Refused::Io(error) => Latched::Io(error),
                    Refused::Abandoned => Latched::Abandoned,
                    // Nobody calls anything of the user's with the latch in hand, and nobody gives it up: a word that
                    // says so was scribbled.
                    Refused::Mine | Refused::OwnerDied(_) | Refused::Ownerless(..) => Latched::Io(
                        io::Error::new(io::ErrorKind::InvalidData, "its words were scribbled over"),
                    ),
                    Refused::TimedOut => Latched::TimedOut,
                });
            }
        }
    }
    let guard = LatchGuard { word, object, me };
    object.check().map_err(Latched::Io)?;
    Ok(guard)
}

impl Drop for LatchGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.me.is_still() {
            lock::release(self.word, self.me.id, self.object);
            self.me.let_go();
        }
    }
}
