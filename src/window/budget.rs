//! The ceiling of W5: what all tables of one partition may take together, in named shares.
//!
//! Never here: who gives way when a share is used up (`room` decides that), or freed memory:
//! tables keep what they have taken until they are released.

use serde::{Deserialize, Serialize};

/// Part of the limit that is kept for fine rings: 1 / this.
const PROMOTED_PART: u64 = 4;
/// Part of the limit that is kept for sketches: 1 / this.
const SKETCH_PART: u64 = 8;
/// A sketch smaller than this would answer with the sum of everything.
const SKETCH_BYTES_MIN: u64 = 16 * 1024;

/// What memory is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Slots and the index: what the other two leave.
    Slots,
    /// Fine rings of promoted keys.
    Promoted,
    /// Sketches of evicted keys.
    Sketch,
}

/// Memory of all tables of one partition, and what happened at its ceiling.
///
/// The first segments of each table and a smallest sketch are granted even over the limit, since a
/// table can do nothing without them: [`super::Table::BYTES_MIN`] a table.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: u64,
    used_bytes: [u64; 3],
    pub(super) evicted: u64,
    pub(super) expired: u64,
    pub(super) sketched: u64,
    pub(super) refused_promotions: u64,
    /// Tables named so far.
    tables: u32,
}

/// What has happened at the ceiling so far, to be saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetCounts {
    evicted: u64,
    expired: u64,
    sketched: u64,
    refused_promotions: u64,
    tables: u32,
}

impl Budget {
    /// A budget of `limit_bytes` for all tables that it is lent to.
    #[must_use]
    pub const fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            used_bytes: [0; 3],
            evicted: 0,
            expired: 0,
            sketched: 0,
            refused_promotions: 0,
            tables: 0,
        }
    }

    /// A name for a table, good for the life of the state it is saved in; never 0.
    pub const fn name_table(&mut self) -> u32 {
        self.tables += 1;
        self.tables
    }

    /// Its counts, to be saved.
    #[must_use]
    pub const fn counts(&self) -> BudgetCounts {
        BudgetCounts {
            evicted: self.evicted,
            expired: self.expired,
            sketched: self.sketched,
            refused_promotions: self.refused_promotions,
            tables: self.tables,
        }
    }

    /// Puts back what [`Self::counts`] gave.
    pub const fn restore_counts(&mut self, counts: BudgetCounts) {
        self.evicted = counts.evicted;
        self.expired = counts.expired;
        self.sketched = counts.sketched;
        self.refused_promotions = counts.refused_promotions;
        self.tables = counts.tables;
    }

    /// Changes the ceiling. What is taken stays taken; below it, keys are evicted at once.
    pub const fn set_limit_bytes(&mut self, limit_bytes: u64) {
        self.limit_bytes = limit_bytes;
    }

    /// The ceiling.
    #[must_use]
    pub const fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Taken by all tables.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.iter().sum()
    }

    /// Keys whose counts were moved to a sketch so that another could have the slot.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Slots reused of keys that had no count left in any window; nothing is lost by that.
    #[must_use]
    pub const fn expired(&self) -> u64 {
        self.expired
    }

    /// Events counted in a sketch alone, for want of a slot or of a fine ring.
    #[must_use]
    pub const fn sketched(&self) -> u64 {
        self.sketched
    }

    /// Times that a key should have been promoted and no fine ring was to be had.
    #[must_use]
    pub const fn refused_promotions(&self) -> u64 {
        self.refused_promotions
    }

    /// Whether some table has a sketch now: some `hi` may include other keys' counts. It ends when
    /// what was moved there is out of every window.
    #[must_use]
    pub const fn degraded(&self) -> bool {
        self.used_bytes[Share::Sketch as usize] > 0
    }

    /// Takes `bytes` of a share, or nothing if they are not there.
    pub(super) fn take(&mut self, share: Share, bytes: u64) -> bool {
        let granted = bytes <= self.left(share);
        if granted {
            self.used_bytes[share as usize] += bytes;
        }
        granted
    }

    /// Takes what a table cannot be without, whatever is left, and returns it.
    pub(super) fn take_first(&mut self, share: Share, bytes: u64) -> u64 {
        self.used_bytes[share as usize] += bytes;
        bytes
    }

    /// Bytes that the next sketch may take: half of what is left, so that a later table's has room.
    pub(super) fn sketch_bytes(&self) -> u64 {
        (self.left(Share::Sketch) / 2).max(SKETCH_BYTES_MIN)
    }

    /// Gives back what a table had taken.
    pub(super) fn give_back(&mut self, share: Share, bytes: u64) {
        let used = &mut self.used_bytes[share as usize];
        debug_assert!(*used >= bytes, "{share:?} gives back {bytes} of {used}");
        *used = used.saturating_sub(bytes);
    }

    /// How full the shares of slots and of fine rings are: from 1 on, keys are evicted, or counted
    /// in a sketch instead of a ring.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn fill(&self) -> [f64; 2] {
        [Share::Slots, Share::Promoted].map(|share| {
            self.used_bytes[share as usize] as f64 / self.limit_of(share).max(1) as f64
        })
    }

    const fn limit_of(&self, share: Share) -> u64 {
        let promoted = self.limit_bytes / PROMOTED_PART;
        let sketch = self.limit_bytes / SKETCH_PART;
        match share {
            Share::Slots => self.limit_bytes - promoted - sketch,
            Share::Promoted => promoted,
            Share::Sketch => sketch,
        }
    }

    fn left(&self, share: Share) -> u64 {
        self.limit_of(share).saturating_sub(self.used_bytes[share as usize])
    }
}

/// Smallest sketch, for the floor of a table.
pub(super) const SKETCH_FLOOR_BYTES: u64 = SKETCH_BYTES_MIN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_full_when_no_more_of_it_is_granted() {
        let mut budget = Budget::new(800);
        for (share, index, bytes) in [(Share::Slots, 0, 500), (Share::Promoted, 1, 200)] {
            assert!(budget.take(share, bytes / 2));
            assert!((budget.fill()[index] - 0.5).abs() < 1e-9);
            assert!(budget.take(share, bytes / 2) && !budget.take(share, 1));
            assert!((budget.fill()[index] - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn a_share_is_granted_to_its_last_byte_and_not_one_more() {
        let mut budget = Budget::new(8000);
        assert!(!budget.take(Share::Slots, 5001));
        assert!(budget.take(Share::Slots, 5000));
        assert!(!budget.take(Share::Slots, 1));
        assert!(budget.take(Share::Promoted, 2000) && !budget.take(Share::Promoted, 1));
        assert!(budget.take(Share::Sketch, 1000) && !budget.take(Share::Sketch, 1));
        assert_eq!(budget.used_bytes(), 8000);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut budget = Budget::new(8000);
        assert!(budget.take(Share::Slots, 5000));
        budget.give_back(Share::Slots, 1000);
        assert!(!budget.take(Share::Slots, 1001));
        assert!(budget.take(Share::Slots, 1000));
    }

    #[test]
    fn a_lower_limit_takes_nothing_away_and_grants_nothing() {
        let mut budget = Budget::new(8000);
        assert!(budget.take(Share::Slots, 5000));
        budget.set_limit_bytes(4000);
        assert_eq!(budget.used_bytes(), 5000);
        assert!(!budget.take(Share::Slots, 1));
    }
}
