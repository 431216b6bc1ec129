//! The two ends of one pipe in two sibling processes: the parent has connected them, and is not in between.

use std::error::Error;

use ipc_pipe::{Receiver, Sender, pipe};
use ipc_process::Process;

/// Finds primes up to `limit` and sends them on.
fn find_primes(limit: u32, mut out: Sender<u32>) -> usize {
    let is_prime = |n: &u32| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    out.send_all((2..=limit).filter(is_prime)).expect("the sibling reads to the end")
}

/// Finds twins among them: pairs with a difference of two.
fn find_twins(primes: Receiver<u32>) -> (usize, Option<(u32, u32)>) {
    let (mut count, mut last, mut largest) = (0, 0, None);
    for prime in primes {
        if last + 2 == prime {
            count += 1;
            largest = Some((last, prime));
        }
        last = prime;
    }
    (count, largest)
}

fn main() -> Result<(), Box<dyn Error>> {
    ipc_process::init();
    let (out, primes) = pipe()?;
    let second = Process::spawn(find_twins, (primes,))?;
    let first = Process::spawn(find_primes, (50_000, out))?;
    // Both ends have moved, so the second one sees the end of the stream as soon as the first one is done.
    println!("{} primes", first.join()?);
    let (count, largest) = second.join()?;
    println!("{count} pairs of twins, the largest {largest:?}");
    Ok(())
}
