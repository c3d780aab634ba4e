//! From a key's hash to its slot: extendible hashing over segments of 4 KiB.
//!
//! A full segment splits in two by the next bit of the hash, so that no insert ever stalls longer
//! than one segment takes, and growth never needs the table twice. An entry holds 32 bits of the
//! hash beside the slot number: enough to probe, split and remove without touching a slot.
//! Never here: keys as identity. Two keys may share the 32 bits; the caller compares
//! the slots' keys.

use super::budget::{Budget, Share};
use super::prefetch::prefetch;
use crate::units::KeyHash;

/// Entries of one segment; probing wraps around inside it.
const ENTRIES: usize = 512;
/// A segment with more is split: seven eighths keep the linear probes short.
const LOAD_MAX: usize = ENTRIES / 8 * 7;
/// Bits of an entry's hash that choose its home in the segment: the upper ones.
const HOME_BITS: u32 = ENTRIES.trailing_zeros();
/// Bits left for the directory: the lower ones.
const DEPTH_MAX: u32 = 32 - HOME_BITS;
/// The directory starts at this depth, so that even a table that may not grow can index the first
/// segment of its slots.
const FIRST_DEPTH: u32 = 2;
/// No entry. Slot numbers never come near `u32::MAX`.
const EMPTY: u64 = u64::MAX;

/// What a segment takes, with its header in a list that may have doubled.
pub(super) const SEGMENT_BYTES: u64 = (ENTRIES * 8 + 2 * size_of::<Segment>()) as u64;

/// What the first segments take, with their directory.
pub(super) const FIRST_BYTES: u64 = (SEGMENT_BYTES + 4) << FIRST_DEPTH;

/// The directory and its segments.
#[derive(Debug)]
pub(super) struct Index {
    /// Segment by the lower `depth` bits of the hash; several neighbours may share one.
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment>,
}

#[derive(Debug)]
struct Segment {
    /// Upper half: lower 32 bits of the key's hash. Lower half: slot number.
    entries: Box<[u64; ENTRIES]>,
    len: usize,
    /// How many hash bits all entries here have in common.
    depth: u32,
}

impl Segment {
    fn new(depth: u32) -> Self {
        Self { entries: Box::new([EMPTY; ENTRIES]), len: 0, depth }
    }

    /// Positions from the home of `hash` on, each once.
    fn probe(hash: u32) -> impl Iterator<Item = usize> {
        let home = home(hash);
        (0..ENTRIES).map(move |step| (home + step) % ENTRIES)
    }

    fn position(&self, hash: u32, is_slot: impl Fn(u32) -> bool) -> Option<usize> {
        for position in Self::probe(hash) {
            let entry = self.entries[position];
            if entry == EMPTY {
                return None;
            }
            if hash_of(entry) == hash && is_slot(slot_of(entry)) {
                return Some(position);
            }
        }
        None
    }

    fn insert(&mut self, entry: u64) {
        debug_assert!(self.len < ENTRIES, "`make_room` comes first");
        let free = Self::probe(hash_of(entry)).find(|&at| self.entries[at] == EMPTY);
        if let Some(position) = free {
            self.entries[position] = entry;
            self.len += 1;
        }
    }

    /// Empties a position and moves later entries of its run back, so that probes need no graves.
    fn remove(&mut self, position: usize) {
        let mut hole = position;
        for step in 1..ENTRIES {
            let from = (position + step) % ENTRIES;
            let entry = self.entries[from];
            if entry == EMPTY {
                break;
            }
            // An entry may move back unless that would put it before its home.
            let run = (from + ENTRIES - home(hash_of(entry))) % ENTRIES;
            let gap = (from + ENTRIES - hole) % ENTRIES;
            if run >= gap {
                self.entries[hole] = entry;
                hole = from;
            }
        }
        self.entries[hole] = EMPTY;
        self.len -= 1;
    }
}

impl Index {
    pub(super) const fn new() -> Self {
        Self { directory: Vec::new(), depth: 0, segments: Vec::new() }
    }

    /// The slot of a key, which `is_slot` recognises by its full hash.
    pub(super) fn find(&self, key: KeyHash, is_slot: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = low(key);
        let segment = self.segments.get(self.segment(hash)?)?;
        let position = segment.position(hash, is_slot)?;
        Some(slot_of(segment.entries[position]))
    }

    /// Starts loading the line where the probe for `key` begins.
    pub(super) fn prefetch(&self, key: KeyHash) {
        let hash = low(key);
        if let Some(segment) = self.segment(hash) {
            prefetch(&self.segments[segment].entries[home(hash)]);
        }
    }

    /// Whether the key's segment has room for one more, splitting it if the budget allows.
    pub(super) fn make_room(&mut self, key: KeyHash, budget: &mut Budget, used: &mut u64) -> bool {
        let hash = low(key);
        if self.segments.is_empty() {
            *used += budget.take_first(Share::Slots, FIRST_BYTES);
            self.depth = FIRST_DEPTH;
            self.directory.extend(0..1 << FIRST_DEPTH);
            self.segments.extend(self.directory.iter().map(|_| Segment::new(FIRST_DEPTH)));
        }
        // All entries may fall on one side of a split, so one may not be enough.
        while let Some(segment) = self.segment(hash) {
            let Segment { len, depth, .. } = self.segments[segment];
            if len < LOAD_MAX {
                return true;
            }
            if depth == DEPTH_MAX {
                return false;
            }
            let doubling = if depth == self.depth { self.directory.len() as u64 * 4 } else { 0 };
            if !budget.take(Share::Slots, SEGMENT_BYTES + doubling) {
                return false;
            }
            *used += SEGMENT_BYTES + doubling;
            self.split(segment, hash);
        }
        false
    }

    /// Adds a key that is not there yet, after [`Self::make_room`].
    pub(super) fn insert(&mut self, key: KeyHash, slot: u32) {
        let hash = low(key);
        if let Some(segment) = self.segment(hash) {
            self.segments[segment].insert(u64::from(hash) << 32 | u64::from(slot));
        }
    }

    /// Removes a key that lives in `slot`.
    pub(super) fn remove(&mut self, key: KeyHash, slot: u32) {
        let hash = low(key);
        if let Some(segment) = self.segment(hash) {
            let segment = &mut self.segments[segment];
            if let Some(position) = segment.position(hash, |number| number == slot) {
                segment.remove(position);
            }
        }
    }

    /// Slots of the segment that `key` belongs to, each once, from the entry `hand` on.
    pub(super) fn neighbours(&self, key: KeyHash, hand: usize) -> impl Iterator<Item = u32> {
        let segment = self.segment(low(key)).map(|segment| &self.segments[segment]);
        segment
            .into_iter()
            .flat_map(move |segment| {
                (0..ENTRIES).map(move |step| segment.entries[(hand + step) % ENTRIES])
            })
            .filter(|&entry| entry != EMPTY)
            .map(slot_of)
    }

    fn segment(&self, hash: u32) -> Option<usize> {
        // While the directory is empty there is no segment either.
        self.directory.get(hash as usize & ((1 << self.depth) - 1)).map(|&number| number as usize)
    }

    /// Moves the entries with the next hash bit set to a segment of their own.
    fn split(&mut self, number: usize, hash: u32) {
        if self.segments[number].depth == self.depth {
            self.directory.extend_from_within(..);
            self.depth += 1;
        }
        let old = &mut self.segments[number];
        let bit = 1u32 << old.depth;
        old.depth += 1;
        old.len = 0;
        let entries = *old.entries;
        old.entries.fill(EMPTY);
        let mut new = Segment::new(old.depth);
        for entry in entries.into_iter().filter(|&entry| entry != EMPTY) {
            if hash_of(entry) & bit == 0 { &mut *old } else { &mut new }.insert(entry);
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most 2^23 segments by DEPTH_MAX")]
        let new_number = self.segments.len() as u32;
        self.segments.push(new);
        let first = (hash & (bit - 1) | bit) as usize;
        for place in self.directory.iter_mut().skip(first).step_by(bit as usize * 2) {
            *place = new_number;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half: the upper chose a partition")]
const fn low(key: KeyHash) -> u32 {
    key.0 as u32
}

const fn home(hash: u32) -> usize {
    (hash >> DEPTH_MAX) as usize
}

const fn hash_of(entry: u64) -> u32 {
    (entry >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is the slot")]
const fn slot_of(entry: u64) -> u32 {
    entry as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// An index over keys whose slots are numbered in `keys`.
    fn find(index: &Index, keys: &[u64], key: u64) -> Option<u32> {
        index.find(KeyHash(key), |slot| keys[slot as usize] == key)
    }

    fn insert(index: &mut Index, budget: &mut Budget, key: u64, slot: u32) -> bool {
        let room = index.make_room(KeyHash(key), budget, &mut 0);
        if room {
            index.insert(KeyHash(key), slot);
        }
        room
    }

    #[test]
    fn segments_split_and_every_key_is_still_found() {
        let (mut index, mut budget) = (Index::new(), Budget::new(1 << 30));
        let keys: Vec<u64> =
            (0..20_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        for (slot, &key) in (0..).zip(&keys) {
            assert!(insert(&mut index, &mut budget, key, slot));
        }
        assert!(index.segments.len() > 40, "{} segments", index.segments.len());
        assert!(index.segments.iter().all(|segment| segment.len <= LOAD_MAX));
        for (slot, &key) in (0..).zip(&keys) {
            assert_eq!(find(&index, &keys, key), Some(slot));
        }
        assert_eq!(find(&index, &keys, 12345), None);
    }

    #[test]
    fn a_segment_that_many_places_share_splits_for_all_of_them() {
        let (mut index, mut budget) = (Index::new(), Budget::new(1 << 30));
        // Keys alike in their lower 8 bits make the directory deep; those after them are spread,
        // so that segments split that are far shallower than the directory.
        let home = |n: u64| (n * 0x9e37 % 512) << 23;
        let alike = (0..600u64).map(|n| home(n) | ((n % 4) << 8));
        let spread = (0..20_000u64).map(|n| home(n) | (n << 32) | (n % 251));
        let keys: Vec<u64> = alike.chain(spread).collect();
        for (slot, &key) in (0..).zip(&keys) {
            assert!(insert(&mut index, &mut budget, key, slot));
        }
        for (slot, &key) in (0..).zip(&keys) {
            assert_eq!(keys[find(&index, &keys, key).unwrap() as usize], key, "slot {slot}");
        }
        let depths: Vec<u32> = index.segments.iter().map(|segment| segment.depth).collect();
        for (place, &number) in index.directory.iter().enumerate() {
            let mask = (1 << depths[number as usize]) - 1;
            assert_eq!(index.directory[place & mask], number, "all places of a segment agree");
        }
    }

    #[test]
    fn keys_alike_in_the_lower_half_are_told_apart_until_their_segment_is_full() {
        let (mut index, mut budget) = (Index::new(), Budget::new(1 << 40));
        let keys: Vec<u64> = (0..=LOAD_MAX as u64).map(|n| n << 32 | 0x7fff_ffff).collect();
        for (slot, &key) in (0..).zip(&keys[..LOAD_MAX]) {
            assert!(insert(&mut index, &mut budget, key, slot));
            assert_eq!(find(&index, &keys, key), Some(slot));
        }
        // 23 splits tell none of them apart; then it says no rather than go on.
        assert!(!insert(&mut index, &mut budget, keys[LOAD_MAX], 0));
        assert_eq!(find(&index, &keys, keys[3]), Some(3));
    }

    #[test]
    fn a_split_that_the_budget_refuses_leaves_the_segment_as_it_was() {
        // Enough for the first segments, which are always granted, and for nothing else.
        let (mut index, mut budget) = (Index::new(), Budget::new(0));
        let keys: Vec<u64> = (0..=LOAD_MAX as u64).map(|n| n << 20).collect();
        for (slot, &key) in (0..).zip(&keys) {
            assert_eq!(insert(&mut index, &mut budget, key, slot), (slot as usize) < LOAD_MAX);
        }
        assert_eq!(find(&index, &keys, keys[7]), Some(7));
    }

    proptest! {
        /// Few homes and many removals, so that runs wrap around and holes close.
        #[test]
        fn removal_keeps_every_other_key_in_reach(
            steps in prop::collection::vec((0u32..60, any::<bool>()), 1..400)
        ) {
            let key = |n: u64| ((508 + n % 6) % 512) << 23 | n << FIRST_DEPTH;
            let keys: Vec<u64> = (0..60).map(key).collect();
            let (mut index, mut budget) = (Index::new(), Budget::new(1 << 30));
            let mut expected = HashMap::new();
            for (n, add) in steps {
                let (key, slot) = (keys[n as usize], n);
                match (add, expected.contains_key(&key)) {
                    (true, false) => {
                        prop_assert!(insert(&mut index, &mut budget, key, slot));
                        expected.insert(key, slot);
                    }
                    (false, true) => {
                        index.remove(KeyHash(key), slot);
                        expected.remove(&key);
                    }
                    _ => {}
                }
                for &key in &keys {
                    prop_assert_eq!(find(&index, &keys, key), expected.get(&key).copied());
                }
                prop_assert_eq!(index.neighbours(KeyHash(0), 500).count(), expected.len());
            }
        }
    }
}
