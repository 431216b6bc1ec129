//! Which functions can run in another process, and how one is named there.
//!
//! A worker function has no state: it is a `fn` item or a closure that captures nothing, so its type alone says which
//! code it is, and a value of it has size zero. What is sent is the distance of [`run`], compiled for that type, from
//! the load address of the program (`ipc_os::image`); the other process runs the same image.

use std::os::fd::OwnedFd;

use ipc_core::{Codec, DecodeError, EncodeError, handle};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A function that can be [spawned](crate::Process::spawn): a `fn` item, an instance of a generic one, or a closure
/// that captures nothing, with up to eight arguments. Implemented for all of these; `A` is the tuple of arguments.
///
/// What a closure needs is an argument:
///
/// ```
/// ipc_process::init();
/// let offset = std::env::args().count() as u32;
/// let worker = ipc_process::Process::spawn(|x: u32, offset: u32| x + offset, (1, offset)).unwrap();
/// assert_eq!(worker.join().unwrap(), 1 + offset);
/// ```
///
/// Captured, it does not compile:
///
/// ```compile_fail,E0080
/// ipc_process::init();
/// let offset = std::env::args().count() as u32;
/// // error: evaluation panicked: a worker function must not capture anything; pass it as an argument
/// let worker = ipc_process::Process::spawn(move |x: u32| x + offset, (1,)).unwrap();
/// assert_eq!(worker.join().unwrap(), 1 + offset);
/// ```
pub trait WorkerFn<A>: Copy + Send + Sync + 'static {
    /// What the function returns.
    type Out;

    /// Calls it.
    fn call(self, args: A) -> Self::Out;
}

macro_rules! worker_fn {
    ($($arg:ident)*) => {
        impl<Func, Out, $($arg),*> WorkerFn<($($arg,)*)> for Func
        where
            Func: Fn($($arg),*) -> Out + Copy + Send + Sync + 'static,
        {
            type Out = Out;

            #[allow(non_snake_case, reason = "the macro names arguments after their types")]
            fn call(self, ($($arg,)*): ($($arg,)*)) -> Out {
                self($($arg),*)
            }
        }
    };
}

worker_fn!();
worker_fn!(A1);
worker_fn!(A1 A2);
worker_fn!(A1 A2 A3);
worker_fn!(A1 A2 A3 A4);
worker_fn!(A1 A2 A3 A4 A5);
worker_fn!(A1 A2 A3 A4 A5 A6);
worker_fn!(A1 A2 A3 A4 A5 A6 A7);
worker_fn!(A1 A2 A3 A4 A5 A6 A7 A8);

/// How a call ended that was made on behalf of another process.
pub(crate) enum Called {
    /// The result, encoded, with the handles in it.
    Returned(Vec<u8>, handle::Outgoing),
    /// The arguments could not be decoded: it was not called.
    BadArguments(DecodeError),
    /// The result could not be encoded.
    BadResult(EncodeError),
}

/// Decodes arguments, calls the function, encodes what it returns.
pub(crate) type Trampoline = fn(&[u8], Vec<OwnedFd>, &Codec) -> Called;

/// The distance that names `F` called with `A`.
///
/// # Errors
/// `InvalidInput` when its code is not in the main program.
pub(crate) fn offset_of<F, A>() -> std::io::Result<u64>
where
    F: WorkerFn<A>,
    A: DeserializeOwned,
    F::Out: Serialize,
{
    const { assert!(size_of::<F>() == 0, "a worker function must not capture anything; pass it as an argument") };
    let trampoline: Trampoline = run::<F, A>;
    ipc_os::image::offset_of(trampoline as usize)
}

/// The function that [`offset_of`] named in another process of this image.
///
/// # Errors
/// `InvalidInput` when there is no code of the program.
///
/// # Safety
/// `offset` must come from [`offset_of`] in a process that runs this very image.
pub(crate) unsafe fn at_offset(offset: u64) -> std::io::Result<Trampoline> {
    let address = ipc_os::image::address_at(offset)?;
    // SAFETY: by the caller, the address is that of an instance of `run` in this image, so it has this type.
    Ok(unsafe { std::mem::transmute::<*const (), Trampoline>(address as *const ()) })
}

fn run<F, A>(args: &[u8], descriptors: Vec<OwnedFd>, codec: &Codec) -> Called
where
    F: WorkerFn<A>,
    A: DeserializeOwned,
    F::Out: Serialize,
{
    const { assert!(size_of::<F>() == 0) };
    let args = match handle::incoming(descriptors, || codec.decode::<A>(args)) {
        Ok(args) => args,
        Err(error) => return Called::BadArguments(error),
    };
    // SAFETY: `F` has size zero, so that reading it from any aligned address reads nothing. A value of `F` was given
    // to `offset_of`'s caller in the process that asks for this call, and `F` is `Copy`; and since it is `Send`, it does
    // not stand for anything that only one thread may have (a token of the main thread, say).
    let function: F = unsafe { std::ptr::NonNull::<F>::dangling().read() };
    let result = function.call(args);
    let mut bytes = Vec::new();
    match handle::outgoing(|| codec.encode(&result, &mut bytes)) {
        Ok(((), handles)) => {
            // Handles in the result are moved by what `bytes` name, the values may go.
            drop(result);
            Called::Returned(bytes, handles)
        }
        Err(error) => Called::BadResult(error),
    }
}
