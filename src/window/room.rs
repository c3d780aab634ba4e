//! Who gives way at the ceiling (W5): slots for new keys, fine rings for promoted ones.
//!
//! A new key that finds no room takes the slot of a neighbour: a key in the same segment of the
//! index, so that its entry finds room as well. Of a few neighbours the one with the smallest, then
//! the oldest count gives way; promoted and pinned keys never do while a window still counts them.

use super::Added;
use super::budget::{Budget, Share};
use super::geometry::Geometry;
use super::sketch::Sketch;
use super::slot::{ESTIMATED, FineRing, PINNED, Slot};
use super::table::{FineRings, Slots, Table};
use crate::units::{KeyHash, Tick};

/// Candidates that an eviction compares.
const CANDIDATES_MAX: usize = 8;
/// Neighbours that an eviction looks at to find its candidates.
const NEIGHBOURS_MAX: usize = 64;
/// Fine rings that a refused promotion looks at to find one to take over.
const RINGS_LOOKED_AT_MAX: u32 = 16;
/// A key is expired only when it would be for a key this much behind the table's newest tick, so
/// that one clock that is ahead (W4 bounds by how much) expires nobody.
const EXPIRY_GRACE_S: u32 = 3600;

impl Table {
    /// A slot for a key that has none: a fresh one, or that of a key that gives way.
    pub(super) fn insert(&mut self, key: KeyHash, at: Tick, budget: &mut Budget) -> Option<u32> {
        self.drop_expired_sketch(budget);
        let has_room =
            self.index.make_room(key, budget, &mut self.slot_bytes) && self.has_slot_room(budget);
        let mut slot = Slot::new(key, at);
        let number = if has_room { self.slots.push(slot) } else { self.evict_for(key, budget)? };
        if self.sketch.is_some() {
            slot.set(ESTIMATED);
        }
        self.slots[number] = slot;
        self.index.insert(key, number);
        Some(number)
    }

    /// Gives an unpromoted slot a fine ring; false if none is to be had.
    pub(super) fn promote(&mut self, slot: u32, budget: &mut Budget) -> bool {
        let Some(ring) = self.free_ring(slot, budget) else {
            budget.refused_promotions += 1;
            return false;
        };
        self.slots[slot].promote(ring);
        true
    }

    /// Counts an event in the sketch alone. Returns the windows in which it counts: the others of
    /// the key's cells are already past its slice.
    pub(super) fn charge(
        &mut self,
        key: KeyHash,
        at: Tick,
        amount: u64,
        budget: &mut Budget,
    ) -> u8 {
        budget.sketched += 1;
        let geometry = self.geometry;
        let sketch = self.sketch_for(budget);
        sketch.advance(&geometry, key, at);
        let mut held = 0;
        for window in 0..geometry.windows().len() {
            held |= u8::from(sketch.charge(&geometry, key, window, at, amount)) << window;
        }
        held
    }

    /// Counts an event of a key for which no slot is to be had.
    pub(super) fn add_without_slot(
        &mut self,
        key: KeyHash,
        at: Tick,
        amount: u64,
        budget: &mut Budget,
    ) -> Added {
        let held = self.charge(key, at, amount, budget);
        let geometry = self.geometry;
        let estimate = self.sketch_for(budget).estimate(&geometry, key, at);
        Added {
            promoted: self.is_over(&estimate.hi),
            promoted_now: false,
            new_key: false,
            late_windows: (self.all_windows() & !held) | estimate.partial,
            too_late: held == 0,
            estimated: true,
        }
    }

    /// The sketch, made at first need from the share that was kept for it.
    pub(super) fn sketch_for(&mut self, budget: &mut Budget) -> &mut Sketch {
        let windows = self.geometry.windows().len();
        let made = &mut self.sketches_made;
        self.sketch.get_or_insert_with(|| {
            *made += 1;
            let sketch = Sketch::new(budget.sketch_bytes(), windows);
            budget.take_first(Share::Sketch, sketch.bytes());
            sketch
        })
    }

    fn has_slot_room(&mut self, budget: &mut Budget) -> bool {
        if self.slots.has_room() {
            return true;
        }
        if self.slots.is_unallocated() {
            self.slot_bytes += budget.take_first(Share::Slots, Slots::SEGMENT_BYTES);
        } else if budget.take(Share::Slots, Slots::SEGMENT_BYTES) {
            self.slot_bytes += Slots::SEGMENT_BYTES;
        } else {
            return false;
        }
        self.slots.grow(Slot::new(KeyHash(0), Tick(0)));
        true
    }

    /// Gives the sketch back once no window can count anything of it: the degradation is over.
    pub fn drop_expired_sketch(&mut self, budget: &mut Budget) {
        let Self { geometry, sketch, latest, .. } = self;
        if let Some(sketch) = sketch.take_if(|sketch| is_past(geometry, sketch.latest(), *latest)) {
            budget.give_back(Share::Sketch, sketch.bytes());
        }
    }

    /// Frees the slot of the smallest, oldest of some neighbours of `key`; `None` if all of those
    /// looked at are promoted or pinned.
    fn evict_for(&mut self, key: KeyHash, budget: &mut Budget) -> Option<u32> {
        let number = self
            .index
            .neighbours(key, self.slot_hand)
            .take(NEIGHBOURS_MAX)
            .filter(|&number| {
                let slot = &self.slots[number];
                slot.ring().is_none() && !slot.is(PINNED)
            })
            .take(CANDIDATES_MAX)
            .min_by_key(|&number| self.worth(number));
        // An odd step meets every entry of a segment over time.
        self.slot_hand = self.slot_hand.wrapping_add(NEIGHBOURS_MAX - 1);
        let number = number?;
        let slot = self.slots[number];
        self.index.remove(slot.key, number);
        if self.is_expired(&slot) {
            budget.expired += 1;
        } else {
            budget.evicted += 1;
            self.absorb(&slot, budget);
        }
        Some(number)
    }

    /// What an eviction would lose: the count in the longest window now, then its age.
    fn worth(&self, number: u32) -> (u64, Tick) {
        let slot = &self.slots[number];
        let windows = self.geometry.windows();
        let count = windows.last().map_or(0, |longest| {
            let counts = &slot.coarse[windows.len() - 1];
            longest.coarse.bounds(counts, slot.newest, self.latest).1
        });
        (count, slot.newest)
    }

    /// Moves an unpromoted slot's slices to the sketch.
    fn absorb(&mut self, slot: &Slot, budget: &mut Budget) {
        let geometry = self.geometry;
        let sketch = self.sketch_for(budget);
        sketch.advance(&geometry, slot.key, slot.newest);
        for (w, window) in geometry.windows().iter().enumerate() {
            for (at, count) in window.coarse.slices(&slot.coarse[w], slot.newest) {
                sketch.charge(&geometry, slot.key, w, at, count);
            }
        }
    }

    /// A zeroed ring that belongs to `owner`: a fresh one, or that of an expired key.
    fn free_ring(&mut self, owner: u32, budget: &mut Budget) -> Option<u32> {
        if !self.rings.has_room() && self.rings.len() < Slot::RINGS_MAX as usize {
            if !budget.take(Share::Promoted, FineRings::SEGMENT_BYTES) {
                return self.take_over_ring(owner);
            }
            self.ring_bytes += FineRings::SEGMENT_BYTES;
            self.rings.grow(FineRing::new(owner));
        }
        if self.rings.has_room() {
            Some(self.rings.push(FineRing::new(owner)))
        } else {
            self.take_over_ring(owner)
        }
    }

    /// Takes the ring of some expired key, which stays as an ordinary key that counts nothing.
    fn take_over_ring(&mut self, owner: u32) -> Option<u32> {
        let rings = u32::try_from(self.rings.len()).unwrap_or(u32::MAX);
        for _ in 0..RINGS_LOOKED_AT_MAX.min(rings) {
            let ring = self.ring_hand % rings;
            self.ring_hand = ring + 1;
            let expired = self.rings[ring].owner;
            if self.is_expired(&self.slots[expired]) {
                self.advance(expired, self.latest);
                self.slots[expired].demote();
                self.rings[ring] = FineRing::new(owner);
                return Some(ring);
            }
        }
        None
    }

    /// Whether no window can count anything of the slot any more, not even for a late event.
    fn is_expired(&self, slot: &Slot) -> bool {
        !slot.is(PINNED) && is_past(&self.geometry, slot.newest, self.latest)
    }
}

/// Whether counts up to `newest` are out of every window of a key at `latest`, and of one that is
/// [`EXPIRY_GRACE_S`] behind it.
fn is_past(geometry: &Geometry, newest: Tick, latest: Tick) -> bool {
    let longest = geometry.longest();
    let kept_s = longest.secs() + longest.coarse_s() + EXPIRY_GRACE_S;
    latest.0.saturating_sub(newest.0) > kept_s
}
