//! The visited states, numbered in the order in which they were found.

use std::hash::{Hash, Hasher};

/// Multiplies and rotates: quick also in a build without optimisation, where it is most of the work.
#[derive(Default)]
struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.mix(value as u64);
    }

    fn finish(&self) -> u64 {
        // The product's low bits depend on few of the input's: the table's index is taken from the mixture.
        (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32
    }
}

/// A set that numbers its members. They are compared whole: two states are never taken for one.
pub(super) struct Table<S> {
    members: Vec<S>,
    /// Open addressing: hash << 32 | number + 1; 0 is empty.
    slots: Vec<u64>,
}

impl<S: Eq + Hash> Table<S> {
    pub(super) fn new() -> Self {
        Self { members: Vec::new(), slots: vec![0; 1 << 12] }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn get(&self, number: usize) -> &S {
        &self.members[number]
    }

    /// The member's number, and whether it is new.
    pub(super) fn insert(&mut self, member: S) -> (usize, bool) {
        if self.members.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let mut mixer = Mixer::default();
        member.hash(&mut mixer);
        let hash = mixer.finish();
        let mut at = hash as usize & (self.slots.len() - 1);
        while self.slots[at] != 0 {
            let slot = self.slots[at];
            let number = (slot & u64::from(u32::MAX)) as usize - 1;
            if slot >> 32 == hash && self.members[number] == member {
                return (number, false);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.members.push(member);
        self.slots[at] = hash << 32 | self.members.len() as u64;
        (self.members.len() - 1, true)
    }

    fn grow(&mut self) {
        let len = self.slots.len() * 4;
        let old = std::mem::replace(&mut self.slots, vec![0; len]);
        for slot in old.into_iter().filter(|slot| *slot != 0) {
            let mut at = (slot >> 32) as usize & (len - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (len - 1);
            }
            self.slots[at] = slot;
        }
    }
}
