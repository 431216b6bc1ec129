//! Plain data where it lies.

use ipc_process::Process;
use ipc_queue::{Options, Receiver, RecvError, SendError, Sender, bounded};
use ipc_testkit::processes::{done, kill, park, ready, started};
use ipc_testkit::{SHORT, watchdog};

fn sum_up(rx: Receiver<u64>, sums: Sender<u64>) {
    while let Ok(numbers) = rx.recv_loan() {
        sums.send(&numbers.to_vec().iter().sum()).unwrap();
    }
}

#[test]
fn loans_of_all_lengths() {
    let _watchdog = watchdog("loans_of_all_lengths");
    let (tx, theirs) = bounded::<u64>(4).unwrap();
    let (sums, rx) = bounded(4).unwrap();
    let peer = Process::spawn(sum_up, (theirs, sums)).unwrap();
    for count in [0, 1, 14, 15, 512, 513, 1 << 20] {
        let mut loan = tx.loan(count).unwrap();
        assert_eq!((loan.len(), loan.is_empty()), (count, count == 0));
        let numbers: Vec<u64> = (0..count as u64).collect();
        loan.copy_from(0, &numbers).unwrap();
        if count > 0 {
            loan.set(count - 1, 7).unwrap();
        }
        assert!(loan.set(count, 1).is_err() && loan.copy_from(1, &numbers).is_err());
        loan.commit().unwrap();
        let sum: u64 = numbers.iter().take(count.saturating_sub(1)).sum();
        assert_eq!(rx.recv().unwrap(), if count > 0 { sum + 7 } else { 0 }, "{count}");
    }
    drop(tx);
    done(peer);
}

#[test]
fn loans_and_bytes_are_the_same_message() {
    let (tx, rx) = bounded::<u16>(4).unwrap();
    for len in [4, 400] {
        tx.send_bytes(&vec![1; len]).unwrap();
        let received = rx.recv_loan().unwrap();
        assert_eq!((received.len(), received.get(1).unwrap()), (len / 2, 0x0101));
        assert!(received.get(len / 2).is_err());
        drop(received);
        let mut loan = tx.loan(len / 2).unwrap();
        loan.copy_from(0, &vec![0x0202; len / 2]).unwrap();
        loan.commit().unwrap();
        assert_eq!(rx.recv_bytes().unwrap(), vec![2; len]);
    }
    tx.send_bytes(&[1, 2, 3]).unwrap();
    assert!(rx.recv_loan().is_err(), "no whole number of them");
    tx.send(&5).unwrap();
    assert!(matches!(rx.recv_loan(), Err(RecvError::WrongKind { receive: "recv", .. })));
    assert_eq!(rx.recv().unwrap(), 5);
    assert!(matches!(rx.try_recv_loan(), Err(RecvError::Empty)));
}

#[test]
fn what_is_not_committed_or_no_longer_read_is_free() {
    let (tx, rx) = Options::new(2).bytes(8 << 10).bounded::<u8>().unwrap();
    for _ in 0..100 {
        drop(tx.try_loan(8 << 10).unwrap());
    }
    let one = tx.try_loan(4096).unwrap();
    let other = tx.try_loan(1).unwrap();
    assert!(matches!(tx.try_loan(1), Err(SendError::Full)));
    one.commit().unwrap();
    other.commit().unwrap();
    tx.try_send(&1).unwrap_err();
    let received = rx.recv_loan().unwrap();
    assert!(matches!(tx.try_loan(1), Err(SendError::Full)), "they are read still");
    drop(received);
    tx.try_loan(1).unwrap().try_commit().unwrap();
    assert!(matches!(tx.loan((8 << 10) + 1), Err(SendError::TooLarge { .. })));
}

fn keep((tx, rx): (Sender<u8>, Receiver<u8>), mut up: ipc_pipe::Sender<u32>) {
    let _loan = tx.loan(4096).unwrap();
    let _received = rx.recv_loan().unwrap();
    ready(&mut up);
    park()
}

#[test]
fn the_loans_of_the_dead_come_back() {
    let _watchdog = watchdog("the_loans_of_the_dead_come_back");
    let (tx, rx) = Options::new(2).bytes(8 << 10).bounded::<u8>().unwrap();
    tx.send_bytes(&[1; 4096]).unwrap();
    let keeper = started(keep, (tx.clone(), rx.clone()));
    assert!(matches!(tx.try_loan(1), Err(SendError::Full)));
    let waiter = {
        let tx = tx.clone();
        std::thread::spawn(move || tx.loan(8 << 10).map(drop))
    };
    std::thread::sleep(SHORT);
    kill(keeper);
    waiter.join().unwrap().unwrap();
    assert_eq!(tx.try_loan(8 << 10).unwrap().len(), 8 << 10);
}
