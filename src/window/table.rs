//! One meter's table: adding an event and reading a key. How room is made is in `room`.
//!
//! A table has one owner and is not `Sync`: nothing in it is shared, so nothing is locked.

use std::cell::Cell;
use std::marker::PhantomData;

use super::budget::{Budget, SKETCH_FLOOR_BYTES, Share};
use super::geometry::{COARSE, Geometry};
use super::index::{self, Index};
use super::prefetch::prefetch;
use super::sketch::{Estimate, Sketch};
use super::slab::Slab;
use super::slot::{ESTIMATED, FineRing, PINNED, REPORTED, Slot};
use super::{Added, Reading, TableSpec, WINDOWS_MAX};
use crate::units::{KeyHash, Tick};

/// Slots in 64 KiB segments.
pub(super) type Slots = Slab<Slot, 1024>;
/// Fine rings in segments of about 64 KiB.
pub(super) type FineRings = Slab<FineRing, 64>;

/// Counts of one meter's keys over up to four windows.
#[derive(Debug)]
pub struct Table {
    pub(super) geometry: Geometry,
    pub(super) promote_at: [u64; WINDOWS_MAX],
    pub(super) index: Index,
    pub(super) slots: Slots,
    pub(super) rings: FineRings,
    /// Made at first need; keys inserted since then are estimated.
    pub(super) sketch: Option<Sketch>,
    /// Sketches so far: tells one from the next.
    pub(super) sketches_made: u32,
    /// Newest tick of any event: the table's own time, for what gives way (`room`).
    pub(super) latest: Tick,
    /// Where the next search for an evictable slot starts.
    pub(super) slot_hand: usize,
    /// Where the next search for an expired fine ring starts.
    pub(super) ring_hand: u32,
    /// Taken for slots and index.
    pub(super) slot_bytes: u64,
    /// Taken for fine rings.
    pub(super) ring_bytes: u64,
    /// One thread owns a table.
    _not_sync: PhantomData<Cell<()>>,
}

impl Table {
    /// Taken by a table that may take nothing: its first segments and a smallest sketch.
    pub const BYTES_MIN: u64 = Slots::SEGMENT_BYTES + index::FIRST_BYTES + SKETCH_FLOOR_BYTES;

    /// An empty table, which takes no memory before its first event.
    #[must_use]
    pub fn new(spec: TableSpec) -> Self {
        Self {
            geometry: Geometry::new(&spec),
            promote_at: spec.promote_at,
            index: Index::new(),
            slots: Slab::new(),
            rings: Slab::new(),
            sketch: None,
            sketches_made: 0,
            latest: Tick(0),
            slot_hand: 0,
            ring_hand: 0,
            slot_bytes: 0,
            ring_bytes: 0,
            _not_sync: PhantomData,
        }
    }

    /// New promotion levels for the same windows. A key above a lowered level is promoted at its
    /// next event; until its old coarse slices have aged, B of W1 may exceed the lowered level.
    pub fn set_promote_at(&mut self, promote_at: [u64; WINDOWS_MAX]) {
        self.promote_at = promote_at;
    }

    /// First stage of a batch: starts loading the key's line of the index.
    pub fn prefetch_index(&self, key: KeyHash) {
        self.index.prefetch(key);
    }

    /// Second stage of a batch, with the index's line loaded: starts loading the key's slot.
    pub fn prefetch_slot(&self, key: KeyHash) {
        // The first entry with the same 32 bits is nearly always the key's.
        if let Some(slot) = self.index.find(key, |_| true) {
            prefetch(&self.slots[slot]);
        }
    }

    /// Counts `amount` for `key` at `at` and says what that did.
    ///
    /// Allocates only for a new key, a promotion or the first eviction, each a segment at most.
    pub fn add(&mut self, key: KeyHash, at: Tick, amount: u64, budget: &mut Budget) -> Added {
        self.latest = self.latest.max(at);
        let found = self.find(key);
        let Some(slot) = found.or_else(|| self.insert(key, at, budget)) else {
            return self.add_without_slot(key, at, amount, budget);
        };
        let mut held = self.windows_holding(slot, at);
        if held != 0 {
            self.advance(slot, at);
            if !self.has_outgrown(slot, at, amount, held) {
                self.place(slot, at, amount, held);
            } else if self.promote(slot, budget) {
                // The fine ring reaches less far back than the coarse one.
                held = self.windows_holding(slot, at);
                self.place(slot, at, amount, held);
            } else {
                held = self.charge(key, at, amount, budget);
                self.slots[slot].set(ESTIMATED);
            }
        }
        self.added(slot, held, found.is_none())
    }

    /// The key's bounds at its newest tick.
    ///
    /// A key without a slot has bounds only while there is a sketch, and then those of all keys
    /// that share its cells, over all that these hold; `None` if that is nothing.
    #[must_use]
    pub fn read(&self, key: KeyHash) -> Option<Reading> {
        self.read_at(key, Tick(0))
    }

    /// The key's bounds at `at`, or at its newest tick if that is later, if nothing more came.
    #[must_use]
    pub fn read_at(&self, key: KeyHash, at: Tick) -> Option<Reading> {
        if let Some(slot) = self.find(key) {
            return Some(self.reading(slot, at.max(self.slots[slot].newest)).0);
        }
        let sketch = self.sketch.as_ref()?;
        let newest = at.max(sketch.newest(key));
        let hi = sketch.estimate(&self.geometry, key, at).hi;
        let promoted = self.is_over(&hi);
        let lo = [0; WINDOWS_MAX];
        let counted = hi.iter().any(|&hi| hi > 0);
        counted.then_some(Reading { newest, lo, hi, promoted, estimated: true })
    }

    /// First tick, the key's newest or later, at which `hi(window) <= limit` if nothing more comes.
    #[must_use]
    pub fn above_until(&self, key: KeyHash, window: usize, limit: u64) -> Option<Tick> {
        let newest = self.read(key)?.newest;
        let Some(span) = self.geometry.windows().get(window).map(|window| window.span) else {
            return Some(newest);
        };
        let is_above = |at| self.read_at(key, at).is_some_and(|now| now.hi[window] > limit);
        // `hi` only falls, and only when a fine slice (or a coarse one, which ends with a fine one)
        // has left the window: at the last tick of some later fine slice.
        let fine_s = u64::from(span.fine_s());
        let first = u64::from(newest.0) / fine_s + 1;
        let boundary =
            |slices: u64| Tick(u32::try_from((first + slices) * fine_s - 1).unwrap_or(u32::MAX));
        if !is_above(newest) {
            return Some(newest);
        }
        // All that is held leaves within W + W/5 of the newest tick held.
        let newest_held = self.sketch.as_ref().map_or(newest, |sketch| sketch.newest(key));
        let ahead_s = newest_held.0.saturating_sub(newest.0) + span.secs() + span.coarse_s();
        let (mut above, mut not_above) = (0, u64::from(ahead_s) / fine_s + 1);
        while above < not_above {
            let middle = u64::midpoint(above, not_above);
            if is_above(boundary(middle)) { above = middle + 1 } else { not_above = middle }
        }
        Some(boundary(above))
    }

    /// Marks a key whose episode is open: it is not evicted. False if the key has no slot.
    pub fn pin(&mut self, key: KeyHash) -> bool {
        let slot = self.find(key);
        if let Some(slot) = slot {
            self.slots[slot].set(PINNED);
        }
        slot.is_some()
    }

    /// Takes the mark of [`Self::pin`] away.
    pub fn unpin(&mut self, key: KeyHash) {
        if let Some(slot) = self.find(key) {
            self.slots[slot].clear(PINNED);
        }
    }

    /// Keys that have a slot.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.slots.len()
    }

    /// Keys that have a fine ring.
    #[must_use]
    pub fn promoted(&self) -> usize {
        self.rings.len()
    }

    /// Memory taken from the budget.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.slot_bytes + self.ring_bytes + self.sketch.as_ref().map_or(0, Sketch::bytes)
    }

    /// Ends the table and gives its memory back to the budget it was taken from.
    pub fn release(self, budget: &mut Budget) {
        budget.give_back(Share::Slots, self.slot_bytes);
        budget.give_back(Share::Promoted, self.ring_bytes);
        budget.give_back(Share::Sketch, self.sketch.as_ref().map_or(0, Sketch::bytes));
    }

    pub(super) fn find(&self, key: KeyHash) -> Option<u32> {
        self.index.find(key, |slot| self.slots[slot].key == key)
    }

    /// Bit w: window w's ring, the one that events go to now, still holds the slice of `at`.
    fn windows_holding(&self, slot: u32, at: Tick) -> u8 {
        let slot = &self.slots[slot];
        let is_promoted = slot.ring().is_some();
        let mut held = 0;
        for (w, window) in self.geometry.windows().iter().enumerate() {
            let holds = if is_promoted {
                window.fine.holds(slot.newest, at)
            } else {
                window.coarse.holds(slot.newest, at)
            };
            held |= u8::from(holds) << w;
        }
        held
    }

    /// Moves all rings of a slot on to `at`, if that is ahead.
    pub(super) fn advance(&mut self, slot: u32, at: Tick) {
        let slot = &mut self.slots[slot];
        let newest = slot.newest;
        if at <= newest {
            return;
        }
        slot.newest = at;
        for (window, counts) in self.geometry.windows().iter().zip(&mut slot.coarse) {
            window.coarse.advance(counts, newest, at);
        }
        if let Some(ring) = slot.ring() {
            for (window, counts) in self.geometry.windows().iter().zip(&mut self.rings[ring].counts)
            {
                window.fine.advance(counts, newest, at);
            }
        }
    }

    /// Whether the coarse counters are no place for this event: too small, or too near a limit.
    fn has_outgrown(&self, slot: u32, at: Tick, amount: u64, held: u8) -> bool {
        let slot = &self.slots[slot];
        if slot.ring().is_some() {
            return false;
        }
        let windows = self.geometry.windows().iter().enumerate();
        windows.filter(|(w, _)| held & (1 << w) != 0).any(|(w, window)| {
            let counts = &slot.coarse[w];
            let count = u64::from(counts[window.coarse.position(at)]).saturating_add(amount);
            let nears = |held: u64| held.saturating_add(amount) >= self.promote_at[w];
            let hi = || window.coarse.bounds(counts, slot.newest, slot.newest).1;
            count > u64::from(u16::MAX) || (nears(total(counts)) && nears(hi()))
        })
    }

    /// Counts an event that has its place in the slot's current tier.
    fn place(&mut self, slot: u32, at: Tick, amount: u64, held: u8) {
        let slot = &mut self.slots[slot];
        let mut fine = slot.ring().map(|ring| &mut self.rings[ring].counts);
        for (w, window) in self.geometry.windows().iter().enumerate() {
            if held & (1 << w) == 0 {
                continue;
            }
            if let Some(fine) = &mut fine {
                let count = &mut fine[w][window.fine.position(at)];
                *count = count.saturating_add(amount);
            } else {
                let count = &mut slot.coarse[w][window.coarse.position(at)];
                let sum = u64::from(*count).saturating_add(amount);
                debug_assert!(u16::try_from(sum).is_ok(), "`has_outgrown` comes first");
                *count = u16::try_from(sum).unwrap_or(u16::MAX);
            }
        }
    }

    fn added(&mut self, slot: u32, held: u8, new_key: bool) -> Added {
        if self.is_far_from_every_limit(slot) {
            return Added {
                promoted: false,
                promoted_now: false,
                new_key,
                late_windows: self.all_windows() & !held,
                too_late: held == 0,
                estimated: false,
            };
        }
        let (reading, estimate) = self.reading(slot, self.slots[slot].newest);
        let state = &mut self.slots[slot];
        let promoted_now = reading.promoted && !state.is(REPORTED);
        if promoted_now {
            state.set(REPORTED);
        }
        // Whatever the sketch held of this key has aged, and a resident key adds nothing to it.
        let nothing = Estimate { hi: [0; WINDOWS_MAX], partial: 0 };
        if estimate == Some(nothing) {
            state.clear(ESTIMATED);
        }
        Added {
            promoted: reading.promoted,
            promoted_now,
            new_key,
            late_windows: (self.all_windows() & !held)
                | estimate.map_or(0, |estimate| estimate.partial),
            too_late: held == 0,
            estimated: reading.estimated,
        }
    }

    /// Whether even all that the slot holds, inside the windows or not, is below every promotion
    /// level. The bounds themselves, with edges to find, cost five times as much, and nearly all
    /// keys are far from every limit nearly all of the time.
    fn is_far_from_every_limit(&self, slot: u32) -> bool {
        let slot = &self.slots[slot];
        let windows = self.geometry.windows().len();
        slot.ring().is_none()
            && !slot.is(ESTIMATED)
            && (0..windows).all(|w| total(&slot.coarse[w]) < self.promote_at[w])
    }

    /// Bounds of a slot at `at`, its newest tick or later, and the sketch's part of them.
    fn reading(&self, slot: u32, at: Tick) -> (Reading, Option<Estimate>) {
        let slot = &self.slots[slot];
        let fine = slot.ring().map(|ring| &self.rings[ring].counts);
        let (mut lo, mut hi) = ([0; WINDOWS_MAX], [0; WINDOWS_MAX]);
        for (w, window) in self.geometry.windows().iter().enumerate() {
            (lo[w], hi[w]) = window.coarse.bounds(&slot.coarse[w], slot.newest, at);
            if let Some(fine) = fine {
                let (inside, overlapping) = window.fine.bounds(&fine[w], slot.newest, at);
                lo[w] = lo[w].saturating_add(inside);
                hi[w] = hi[w].saturating_add(overlapping);
            }
        }
        let sketch = self.sketch.as_ref().filter(|_| slot.is(ESTIMATED));
        let estimate = sketch.map(|sketch| sketch.estimate(&self.geometry, slot.key, at));
        if let Some(estimate) = &estimate {
            for (hi, more) in hi.iter_mut().zip(estimate.hi) {
                *hi = hi.saturating_add(more);
            }
        }
        let promoted = fine.is_some() || self.is_over(&hi);
        (Reading { newest: at, lo, hi, promoted, estimated: estimate.is_some() }, estimate)
    }

    /// One bit a window.
    pub(super) fn all_windows(&self) -> u8 {
        (1 << self.geometry.windows().len()) - 1
    }

    /// Whether some window is at its promotion level.
    pub(super) fn is_over(&self, hi: &[u64; WINDOWS_MAX]) -> bool {
        let windows = self.geometry.windows().len();
        (0..windows).any(|w| hi[w] >= self.promote_at[w])
    }
}

/// Everything a coarse ring holds: never less than `hi` of its window.
fn total(counts: &[u16; COARSE]) -> u64 {
    // Six times 65,535 fits.
    counts.iter().map(|&count| u32::from(count)).sum::<u32>().into()
}
