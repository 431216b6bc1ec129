//! The C library's robust mutex in shared memory: what locks between processes are measured against.
#![expect(unsafe_code, reason = "there is no safe wrapper of it")]

use std::io;
use std::ptr::NonNull;

use crate::harness::Error;
use crate::raw::Page;

/// Where it lies in the page.
const OFFSET: usize = 1 << 15;

/// A process-shared robust `pthread_mutex_t`.
pub(crate) struct RobustMutex<'a> {
    mutex: NonNull<libc::pthread_mutex_t>,
    _page: &'a Page,
}

impl<'a> RobustMutex<'a> {
    /// The one in that page, which [`init`](Self::init) has been called for.
    pub(crate) fn of(page: &'a Page) -> Result<Self, Error> {
        if page.map().len() < OFFSET + size_of::<libc::pthread_mutex_t>() {
            return Err("the page is too short for a mutex".into());
        }
        // SAFETY: within the mapping, as just checked.
        let mutex = unsafe { page.map().as_ptr().add(OFFSET) };
        Ok(RobustMutex { mutex: NonNull::new(mutex.cast()).ok_or("no page")?, _page: page })
    }

    pub(crate) fn init(&self) -> Result<(), Error> {
        let mut attributes = std::mem::MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: initialises them.
        check(unsafe { libc::pthread_mutexattr_init(attributes) })?;
        // SAFETY: they are initialised.
        check(unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) })?;
        // SAFETY: as above.
        check(unsafe { libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST) })?;
        // SAFETY: as above; the mutex lies in zeroed shared memory that nobody else uses yet, is aligned, and lives as
        // long as the page.
        check(unsafe { libc::pthread_mutex_init(self.mutex.as_ptr(), attributes) })
    }

    #[inline]
    pub(crate) fn lock(&self) -> Result<(), Error> {
        // SAFETY: it was initialised, and lives as long as the page.
        check(unsafe { libc::pthread_mutex_lock(self.mutex.as_ptr()) })
    }

    #[inline]
    pub(crate) fn unlock(&self) -> Result<(), Error> {
        // SAFETY: as for `lock`; this thread holds it.
        check(unsafe { libc::pthread_mutex_unlock(self.mutex.as_ptr()) })
    }
}

#[inline]
fn check(error: libc::c_int) -> Result<(), Error> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error).into()) }
}
