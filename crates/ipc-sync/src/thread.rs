//! Who this thread is on a board: asked at every operation, so it has to be quick.

use std::cell::{Cell, RefCell};
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::{Arc, Weak};

use ipc_os::futex;
use ipc_os::robust::{OWNER_DIED, Pending, WAITERS, thread_id};
use ipc_os::wiped::{self, Block};

use crate::board::Board;
use crate::id::Id;

/// Words of a thread's block, which a forked child finds zero.
pub(crate) const ID: usize = 0;
pub(crate) const HELD: usize = 1;

/// This thread on one board.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Me {
    pub(crate) id: Id,
    /// Where it counts what it holds: its own, or that of its process, where nobody looks at the count.
    block: &'static Block,
    not_send: PhantomData<*const ()>,
}

impl Me {
    /// It holds one thing more.
    #[inline]
    pub(crate) fn hold(&self) {
        // No other thread writes it.
        self.block.words[HELD].store(self.block.words[HELD].load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// It holds one thing less.
    #[inline]
    pub(crate) fn let_go(&self) {
        self.block.words[HELD].store(self.block.words[HELD].load(Relaxed).wrapping_sub(1), Relaxed);
    }

    /// Whether this is still the thread that it was: not one of a forked child.
    #[inline]
    pub(crate) fn is_still(&self) -> bool {
        self.block.words[ID].load(Relaxed) == self.id.word()
    }

    /// What a guard keeps of it: one word, since what is moved into guards is felt.
    #[inline]
    pub(crate) fn block(self) -> &'static Block {
        self.block
    }

    /// Who that block is of now: of nobody in a forked child, or of another if its thread has ended.
    #[inline]
    pub(crate) fn of(block: &'static Block) -> Option<Self> {
        let id = Id::of(block.words[ID].load(Relaxed))?;
        Some(Me { id, block, not_send: PhantomData })
    }
}

/// The board that this thread used last.
struct Current {
    serial: Cell<u64>,
    block: Cell<Option<&'static Block>>,
    pending: Cell<Option<Pending>>,
    live: Cell<*const AtomicU32>,
}

thread_local! {
    static CURRENT: Current = const {
        Current {
            serial: Cell::new(0),
            block: Cell::new(None),
            pending: Cell::new(None),
            live: Cell::new(std::ptr::null()),
        }
    };
    static REGISTERED: RefCell<Registered> = const { RefCell::new(Registered(Vec::new())) };
}

/// This thread on `board`, registered if it was not.
#[inline]
pub(crate) fn me(board: &Arc<Board>) -> io::Result<Me> {
    CURRENT.with(|current| {
        if current.serial.get() == board.serial
            && let Some(block) = current.block.get()
            && let Some(id) = Id::of(block.words[ID].load(Relaxed))
            && current.pending.get().is_none_or(|pending| pending.is_at(current.live.get()))
        {
            return Ok(Me { id, block, not_send: PhantomData });
        }
        enter(board, current)
    })
}

#[cold]
fn enter(board: &Arc<Board>, current: &Current) -> io::Result<Me> {
    let process = board.my_process()?;
    let known = REGISTERED.try_with(|registered| {
        let mut registered = registered.borrow_mut();
        registered.0.retain(Registration::is_of_use);
        if let Some(index) = registered.0.iter().position(|known| known.serial == board.serial) {
            return Ok(Some(registered.0[index].point(current)));
        }
        let Some((j, live)) = board.take_thread()? else { return Ok(None) };
        let block = wiped::allocate().inspect_err(|_| board.give_thread_back(j))?;
        // Release: with the fence in `seat::is_over`: who watches this word for one who sat here before sees that it is
        // gone (`Object::rest`). Who finds this one's Id sees this by the word that the Id is in.
        live.store(thread_id(), Release);
        let id = Id::new(process.k(), j, process.epoch());
        block.words[ID].store(id.word(), Relaxed);
        let new = Registration { serial: board.serial, board: Arc::downgrade(board), block, id, live };
        let me = new.point(current);
        registered.0.push(new);
        Ok(Some(me))
    });
    match known {
        Ok(Ok(Some(me))) => Ok(me),
        // No word is left for it, or the thread is ending and has given its own back: it goes with its process.
        Ok(Ok(None)) | Err(_) => Ok(Me { id: process, block: board.block(), not_send: PhantomData }),
        Ok(Err(error)) => Err(error),
    }
}

/// The boards that a thread has a word on.
struct Registered(Vec<Registration>);

struct Registration {
    serial: u64,
    board: Weak<Board>,
    block: &'static Block,
    id: Id,
    /// At an address that is reserved for such words for ever.
    live: *const AtomicU32,
}

impl Registration {
    /// Makes it the thread's current one, and has the kernel mark its word if the thread dies from now on.
    fn point(&self, current: &Current) -> Me {
        current.serial.set(self.serial);
        current.block.set(Some(self.block));
        current.live.set(self.live);
        if current.pending.get().is_none() {
            current.pending.set(Pending::of_this_thread());
        }
        if let Some(pending) = current.pending.get() {
            // SAFETY: the address belongs to live words of boards for ever, and this thread's id stands only in words
            // that are its own.
            unsafe { pending.point_at(self.live) };
        }
        Me { id: self.id, block: self.block, not_send: PhantomData }
    }

    /// Whether the board is in use, by the process that registered.
    fn is_of_use(&self) -> bool {
        let is_this_process = Id::of(self.block.words[ID].load(Relaxed)).is_some();
        if is_this_process && self.board.strong_count() == 0 {
            wiped::release(self.block);
            return false;
        }
        // In a forked child the parent's word is none of its business. The block stays empty for ever: copies of the
        // parent's guards name it.
        is_this_process
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let current = CURRENT.with(|current| {
            // From here on the thread goes with its process.
            current.serial.set(0);
            current.block.set(None);
            current.pending.get()
        });
        for known in self.0.drain(..) {
            if !known.is_of_use() {
                continue;
            }
            let Some(board) = known.board.upgrade() else { continue };
            // SAFETY: the board is there, and with it its words.
            let live = unsafe { &*known.live };
            if known.block.words[HELD].load(Relaxed) != 0 {
                // A guard was leaked. The kernel marks the one word that the pointer is at when the thread is
                // through; if that is another board's, nobody would ever mark this one.
                if !current.is_some_and(|pending| pending.is_at(known.live)) {
                    // Release: with the Acquire in `Board::dead`: what this thread did with what it held.
                    let old = live.swap(OWNER_DIED, AcqRel);
                    if old & WAITERS != 0 {
                        futex::wake_all(live.into());
                    }
                }
                // The word is never used again, as objects may name it for ever. The block is.
                wiped::release(known.block);
                continue;
            }
            if let Some(pending) = current {
                pending.leave(known.live);
            }
            if live.swap(0, AcqRel) & WAITERS != 0 {
                futex::wake_all(live.into());
            }
            wiped::release(known.block);
            board.give_thread_back(known.id.j());
        }
    }
}
