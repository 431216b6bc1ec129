//! What programs do with values and arrays, as they would write it.

use ipc_process::Process;
use ipc_shm::{Array, Mutex, RwLock, Value};
use ipc_testkit::data::Numbers;
use ipc_testkit::processes::done;
use ipc_testkit::watchdog;
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[test]
fn a_histogram_that_workers_share() {
    let _watchdog = watchdog("a_histogram_that_workers_share");
    fn count(bins: Array<u64>, total: Value<u64>, seed: u64) {
        // Counted here, added together at the end: an element by itself has no `fetch_add`.
        let mut mine = vec![0; bins.len()];
        let mut numbers = Numbers(seed);
        for _ in 0..10_000 {
            mine[numbers.below(16) as usize] += 1;
        }
        bins.lock().unwrap().update_all(|bin, count| count + mine[bin]);
        total.fetch_add(mine.iter().sum());
    }
    let (bins, total) = (Array::new(16).unwrap(), Value::new(0).unwrap());
    let workers: Vec<_> =
        (1..4).map(|seed| Process::spawn(count, (bins.clone(), total.clone(), seed)).unwrap()).collect();
    workers.into_iter().for_each(done);
    assert_eq!((bins.iter().sum::<u64>(), total.get()), (30_000, 30_000));
    assert!(bins.iter().all(|count| count > 1000));
}

#[test]
fn a_matrix_by_rows() {
    let _watchdog = watchdog("a_matrix_by_rows");
    const N: usize = 24;
    type Row = [f64; N];
    fn multiply(a: Array<Row>, b: Array<Row>, product: Array<Row>, rows: std::ops::Range<usize>) {
        let b = b.to_vec();
        for row in rows {
            let left = a.get(row).unwrap();
            let sums = std::array::from_fn(|column| (0..N).map(|k| left[k] * b[k][column]).sum());
            product.set(row, sums).unwrap();
        }
    }
    let a = Array::from_iter((0..N).map(|row| std::array::from_fn(|column| (row + column) as f64))).unwrap();
    let unit = |row| std::array::from_fn(|column| if row == column { 2.0 } else { 0.0 });
    let b = Array::from_iter((0..N).map(unit)).unwrap();
    let product = Array::<Row>::new(N).unwrap();
    let workers: Vec<_> = [0..8, 8..16, 16..N]
        .map(|rows| Process::spawn(multiply, (a.clone(), b.clone(), product.clone(), rows)).unwrap())
        .into();
    workers.into_iter().for_each(done);
    assert!(product.iter().eq(a.iter().map(|row| row.map(|x| 2.0 * x))));
}

#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Config {
    rate: f64,
    batch: u32,
    /// A `bool`: not every byte is one, so it cannot be written as such.
    verbose: u8,
    _padding: [u8; 3],
}

#[test]
fn a_config_that_is_changed_while_others_read_it() {
    let _watchdog = watchdog("a_config_that_is_changed_while_others_read_it");
    fn read(value: Value<Config>, mutex: Mutex<Config>, lock: RwLock<Config>) -> bool {
        let config = value.get();
        config == mutex.lock().unwrap().get() && config == lock.read().unwrap().get() && config.verbose != 0
    }
    let config = Config { rate: 0.5, batch: 32, verbose: 0, _padding: [0; 3] };
    let all = (Value::new(config).unwrap(), Mutex::new(config).unwrap(), RwLock::new(config).unwrap());
    let change = |config| Config { verbose: 1, batch: 64, ..config };
    all.0.update(change).unwrap();
    all.1.lock().unwrap().update(change);
    all.2.write().unwrap().update(change);
    assert!(done(Process::spawn(read, all.clone()).unwrap()));
}
