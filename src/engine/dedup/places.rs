//! An index of places by hash: open addressing with linear probing, one allocation for all time.
//!
//! A removal moves later entries of the same run back (Knuth 6.4, algorithm R), so there are
//! neither tombstones nor rebuilding, which would stall a partition that forgets a row for each one
//! that it remembers. A slot holds 40 bits of the hash beside the place: what it stands for is
//! looked at only when it is very likely the one that is sought, and never to find its home.

use crate::window::prefetch;

const PLACE_BITS: u32 = 24;
const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// High bits of the hash, and place + 1; 0 is free. A power of two of them, and some are free.
    slots: Box<[u64]>,
}

impl Places {
    /// Most places there may be: their slots are told apart by the bits of a hash that are kept.
    pub(super) const PLACES_MAX: usize = 1 << (PLACE_BITS - 1);

    /// Room for `entries`, at least 1, of places below their number: at most three quarters full.
    pub(super) fn for_entries(entries: usize) -> Self {
        debug_assert!((1..=Self::PLACES_MAX).contains(&entries), "{entries} entries");
        Self { slots: vec![0; (entries + entries / 3 + 1).next_power_of_two()].into() }
    }

    /// Starts loading where a hash is looked for.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        if !self.slots.is_empty() {
            prefetch(&self.slots[self.home(hash)]);
        }
    }

    /// The place of which `is_it` holds among those with this hash.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        self.find_slot(hash, is_it).map(|slot| place(self.slots[slot]))
    }

    /// Adds a place that is not there yet.
    pub(super) fn insert(&mut self, hash: u64, place: usize) {
        let mut slot = self.home(hash);
        while self.slots[slot] != 0 {
            slot = self.after(slot);
        }
        self.slots[slot] = filled(hash, place);
    }

    /// Puts `place` where one was of which `is_it` holds, and says whether there was one.
    pub(super) fn replace(
        &mut self,
        hash: u64,
        place: usize,
        is_it: impl Fn(usize) -> bool,
    ) -> bool {
        let known = self.find_slot(hash, is_it);
        match known {
            Some(slot) => self.slots[slot] = filled(hash, place),
            None => self.insert(hash, place),
        }
        known.is_some()
    }

    /// Removes a place if it is there under this hash.
    pub(super) fn remove(&mut self, hash: u64, place: usize) {
        let Some(mut gap) = self.find_slot(hash, |found| found == place) else { return };
        let mut slot = gap;
        loop {
            slot = self.after(slot);
            let found = self.slots[slot];
            if found == 0 {
                break;
            }
            // It may move back unless its home lies after the gap: the probe would stop there.
            let (home, mask) = (self.home(found), self.slots.len() - 1);
            if slot.wrapping_sub(home) & mask >= slot.wrapping_sub(gap) & mask {
                self.slots[gap] = found;
                gap = slot;
            }
        }
        self.slots[gap] = 0;
    }

    /// Memory it takes.
    pub(super) const fn bytes(&self) -> usize {
        self.slots.len() * size_of::<u64>()
    }

    /// Places in it.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.slots.iter().filter(|slot| **slot != 0).count()
    }

    fn find_slot(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut slot = self.home(hash);
        while self.slots[slot] != 0 {
            let found = self.slots[slot];
            if found & !PLACE_MASK == hash & !PLACE_MASK && is_it(place(found)) {
                return Some(slot);
            }
            slot = self.after(slot);
        }
        None
    }

    /// Of a hash, or of a slot, which has the bits of it that count here.
    fn home(&self, hash: u64) -> usize {
        (hash >> PLACE_BITS) as usize & (self.slots.len() - 1)
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a place has fewer bits than any usize")]
const fn place(slot: u64) -> usize {
    ((slot & PLACE_MASK) - 1) as usize
}

const fn filled(hash: u64, place: usize) -> u64 {
    (hash & !PLACE_MASK) | (place as u64 + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn what_was_put_is_found_until_it_is_removed(
            steps in prop::collection::vec((0..16_usize, 0..8_u64, 0..3_u64), 1..200)
        ) {
            // Few homes and tags, at both ends of the slots, so that runs are long and wrap.
            let home = |home: u64| (home.wrapping_sub(4) & 0xffff) << PLACE_BITS;
            let hash = |at: u64, tag: u64| (tag << 56) | home(at);
            let mut places = Places::for_entries(16);
            let mut known: BTreeMap<usize, u64> = BTreeMap::new();
            for (place, home, tag) in steps {
                if let Some(old) = known.remove(&place) {
                    places.remove(old, place);
                } else {
                    places.insert(hash(home, tag), place);
                    known.insert(place, hash(home, tag));
                }
                for place in 0..16 {
                    for (home, tag) in (0..8).flat_map(|home| (0..3).map(move |tag| (home, tag))) {
                        let found = places.find(hash(home, tag), |found| found == place);
                        let wanted = known.get(&place) == Some(&hash(home, tag));
                        prop_assert_eq!(found.is_some(), wanted);
                    }
                }
                prop_assert_eq!(places.taken(), known.len());
            }
        }
    }
}
