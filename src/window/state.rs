//! A key's counts as a value: for checkpoints, and for adding two states (W2).

use super::WINDOWS_MAX;
use super::budget::Budget;
use super::geometry::{COARSE, FINE};
use super::slot::ESTIMATED;
use super::table::Table;
use crate::units::{KeyHash, Tick};

/// Everything a slot and its fine ring count; slice n of a ring of N lives at position n % N.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// Newest tick; every ring ends with its slice.
    pub newest: Tick,
    /// Slices of W/5 of each window: all counts, or what was counted before promotion.
    pub coarse: [[u16; COARSE]; WINDOWS_MAX],
    /// Slices of W/30 of each window, if promoted.
    pub fine: Option<Box<[[u64; FINE]; WINDOWS_MAX]>>,
    /// More of this key may be in the table's sketch.
    pub estimated: bool,
}

impl Table {
    /// A copy of what a key's slot counts; `None` without a slot.
    #[must_use]
    pub fn state(&self, key: KeyHash) -> Option<KeyState> {
        let slot = &self.slots[self.find(key)?];
        Some(KeyState {
            newest: slot.newest,
            coarse: slot.coarse,
            fine: slot.ring().map(|ring| Box::new(self.rings[ring].counts)),
            estimated: slot.is(ESTIMATED),
        })
    }

    /// Adds a state of a table with the same windows to a key, slice by slice (W2).
    ///
    /// What finds no room, in a small counter or in a fine ring, goes to the sketch.
    pub fn merge(&mut self, key: KeyHash, state: &KeyState, budget: &mut Budget) {
        self.latest = self.latest.max(state.newest);
        let slot = self.find(key).or_else(|| self.insert(key, state.newest, budget));
        let mut ring = None;
        if let Some(slot) = slot {
            self.advance(slot, state.newest);
            if state.fine.is_some() && self.slots[slot].ring().is_none() {
                self.promote(slot, budget);
            }
            ring = self.slots[slot].ring();
        }
        let geometry = self.geometry;
        for (w, window) in geometry.windows().iter().enumerate() {
            for (at, count) in window.coarse.slices(&state.coarse[w], state.newest) {
                let rest = slot.map_or(count, |slot| {
                    let slot = &mut self.slots[slot];
                    if !window.coarse.holds(slot.newest, at) {
                        return 0;
                    }
                    let held = &mut slot.coarse[w][window.coarse.position(at)];
                    let sum = u64::from(*held) + count;
                    *held = u16::try_from(sum).unwrap_or(u16::MAX);
                    sum - u64::from(*held)
                });
                self.spill(key, slot, w, (at, rest), state.newest, budget);
            }
            let Some(fine) = &state.fine else { continue };
            for (at, count) in window.fine.slices(&fine[w], state.newest) {
                let Some(ring) = ring else {
                    self.spill(key, slot, w, (at, count), state.newest, budget);
                    continue;
                };
                let newest = slot.map_or(state.newest, |slot| self.slots[slot].newest);
                if window.fine.holds(newest, at) {
                    let held = &mut self.rings[ring].counts[w][window.fine.position(at)];
                    *held = held.saturating_add(count);
                }
            }
        }
    }

    /// Charges one slice of one window to the sketch.
    fn spill(
        &mut self,
        key: KeyHash,
        slot: Option<u32>,
        window: usize,
        (at, count): (Tick, u64),
        newest: Tick,
        budget: &mut Budget,
    ) {
        if count == 0 {
            return;
        }
        let geometry = self.geometry;
        let sketch = self.sketch_for(budget);
        sketch.advance(&geometry, key, newest);
        sketch.charge(&geometry, key, window, at, count);
        budget.sketched += 1;
        if let Some(slot) = slot {
            self.slots[slot].set(ESTIMATED);
        }
    }
}
