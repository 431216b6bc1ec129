//! What a lock protects: two numbers that are equal, except while somebody changes them.

use ipc_shm::Array;
use ipc_testkit::stepper::BoxError;
use serde::{Deserialize, Serialize};

use crate::tools::must;

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Pair(Array<u64>);

/// Behind the two: the process that is stepped, and the first that died.
const STEPPED: usize = 2;
const VICTIM: usize = 3;

impl Pair {
    pub(crate) fn new() -> Result<Pair, BoxError> {
        Ok(Pair(Array::new(4)?))
    }

    fn put(&self, index: usize, value: u64) {
        self.0.set(index, value).expect("there are four");
    }

    fn at(&self, index: usize) -> u64 {
        self.0.get(index).expect("there are four")
    }

    /// The process that is stepped says who it is.
    pub(crate) fn sign(&self) {
        self.put(STEPPED, u64::from(std::process::id()));
    }

    pub(crate) fn stepped(&self) -> Option<u32> {
        Some(self.at(STEPPED) as u32)
    }

    pub(crate) fn sign_as_victim(&self) {
        self.put(VICTIM, u64::from(std::process::id()));
    }

    pub(crate) fn victim(&self) -> Option<u32> {
        Some(self.at(VICTIM) as u32)
    }

    /// Only half of a change.
    pub(crate) fn begin(&self) {
        self.put(0, self.at(0) + 1);
    }

    pub(crate) fn change(&self) {
        self.begin();
        self.put(1, self.at(1) + 1);
    }

    pub(crate) fn repair(&self) {
        self.put(1, self.at(0));
    }

    pub(crate) fn count(&self) -> u64 {
        self.at(0)
    }

    pub(crate) fn check(&self) -> Result<(), BoxError> {
        let (a, b) = (self.at(0), self.at(1));
        must(a == b, || format!("half changed, and nobody was told: {a} and {b}"))
    }
}
