//! Memory that a forked child finds empty: for what is true of one process only.
//!
//! `MADV_WIPEONFORK`: whoever forks, by whatever system call, has zeros there in the child. So what says "this process
//! is registered as …" cannot be inherited by a process that is not.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// A cache line of words, all zero in a child that was forked meanwhile.
#[derive(Debug)]
#[repr(align(64))]
pub struct Block {
    /// The words.
    pub words: [AtomicU64; 8],
}

const PAGE: usize = 4096;

static FREE: Mutex<Vec<&'static Block>> = Mutex::new(Vec::new());

/// A block of zeros.
///
/// # Errors
/// When there is no memory.
pub fn allocate() -> io::Result<&'static Block> {
    // A child may have been forked while another thread of its parent was in here: it does without the list then.
    let reused = FREE.try_lock().ok().and_then(|mut free| free.pop());
    if let Some(block) = reused {
        return Ok(block);
    }
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let page = unsafe {
        mmap_anonymous(std::ptr::null_mut(), PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    }?;
    // SAFETY: the whole of that mapping, which is private and anonymous.
    unsafe { madvise(page, PAGE, Advice::LinuxWipeOnFork) }?;
    let page: *const Block = page.cast();
    // SAFETY: the page is zeroed, aligned, large enough for that many blocks of atomics, and is never unmapped.
    let blocks: &'static [Block] = unsafe { std::slice::from_raw_parts(page, PAGE / size_of::<Block>()) };
    let (first, rest) = blocks.split_first().ok_or(io::ErrorKind::OutOfMemory)?;
    if let Ok(mut free) = FREE.try_lock() {
        free.extend(rest);
    }
    Ok(first)
}

/// Gives a block back. Nobody may use it any more: its words are zero from now on, and then somebody else's.
pub fn release(block: &'static Block) {
    block.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    if let Ok(mut free) = FREE.try_lock() {
        free.push(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_zero_distinct_and_used_again() {
        let blocks: Vec<_> = (0..200).map(|_| allocate().unwrap()).collect();
        for (n, block) in blocks.iter().enumerate() {
            assert!(block.words.iter().all(|word| word.swap(n as u64, Ordering::Relaxed) == 0));
        }
        for block in blocks {
            release(block);
        }
        assert_eq!(allocate().unwrap().words[7].load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_forked_child_finds_zeros() {
        let block = allocate().unwrap();
        block.words[0].store(7, Ordering::Relaxed);
        // SAFETY: the child only reads a word and exits, both of which are allowed after a fork with threads.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let found = block.words[0].load(Ordering::Relaxed);
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(found as i32) };
        }
        let mut status = 0;
        // SAFETY: waits for that child, and writes its status to a live variable.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0);
        assert_eq!(block.words[0].load(Ordering::Relaxed), 7);
    }
}
