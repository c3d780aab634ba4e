//! Sliding totals per key: rings of slices in event time, in memory that does not grow with events.
//!
//! A [`Table`] belongs to one meter and answers, for up to four windows of 1 min to 30 d at once,
//! "how much did this key add up to in the trailing window?" with two bounds, `lo` and `hi`. The
//! resolution is one tick (1 s): `exact(W)` at tick `t` counts the events with a tick in
//! `(t - W, t]`. Nothing here reads a clock, waits, locks, logs or allocates for a known key.
//!
//! ```text
//!              t-W                                                 t
//! coarse   |----:-----|----------|----------|----------|----------|--:       |   W/5, 6 slices
//! fine             |:-|--|--|--|--|--|--|--|--|--|--|--|--|--|--|--|--|:-|       W/30, 31 slices
//!           `hi` counts every slice that overlaps the window, `lo` those that lie inside it
//! ```
//!
//! A key starts in a [`slot`] of 64 bytes with small coarse counters. Once a count would overflow,
//! or `hi` reaches [`TableSpec::promote_at`], it is promoted: later events go to a fine ring, and
//! what the slot held stays there and ages. Each event is in exactly one place, so bounds add up.
//!
//! Invariants, each held by a property test in `tests`:
//! - W1: `lo(W) <= exact(W) <= hi(W)` at the key's newest tick and at any later one. Unpromoted,
//!   `hi <= exact(W + W/5)`. Promoted, `hi <= exact(W + W/30) + B`, where B is what was counted
//!   before promotion in the one coarse slice across the window's edge: below `promote_at`, and 0
//!   once 1.2 W has passed. The promoting event itself is already in the fine ring.
//! - W2: any arrival order of events no later than one slice gives the same slices; merging two
//!   states is slice-wise addition ([`Table::merge`]).
//! - W3: a late event counts in every window whose ring still holds its slice; the others are named
//!   in [`Added::late_windows`]. Past every window it changes nothing: [`Added::too_late`].
//! - W4: a future time cannot come in here: event times are clamped before (`engine`).
//! - W5: a [`Budget`] names the ceiling. At it, the smallest and oldest of some sampled keys is
//!   moved to a one-sided [`sketch`]; promoted and pinned keys stay. A key that may have counts in
//!   the sketch is `estimated`: its `hi` includes them, its `lo` does not.
//!
//! What W5 costs: the sketch forgets by its own newest tick, so an estimated key further than one
//! slice behind it may lack counts; that, too, is named in `late_windows`.

mod budget;
mod changes;
mod geometry;
mod index;
mod prefetch;
mod ring;
mod room;
mod save;
mod sketch;
mod slab;
mod slot;
mod state;
mod table;

#[cfg(test)]
mod tests;

pub use budget::{Budget, BudgetCounts};
pub use changes::Changes;
pub(crate) use prefetch::prefetch;
pub use save::{Array, Bytes, Damaged, ENTRY_HEAD_BYTES, TableShape, write_head};
pub use state::KeyState;
pub use table::Table;

use crate::units::{Tick, WindowSpan};

/// Windows that one slot answers.
pub const WINDOWS_MAX: usize = 4;

/// What one table counts: its windows, and when a key of it deserves a fine ring.
#[derive(Clone, Copy, Debug)]
pub struct TableSpec {
    /// Distinct, ascending, packed to the front.
    pub windows: [Option<WindowSpan>; WINDOWS_MAX],
    /// `hi` at or above which a key is promoted: a quarter of the window's lowest limit, at least
    /// 1; `u64::MAX` for a window without a limit.
    pub promote_at: [u64; WINDOWS_MAX],
}

/// A key's bounds per window at one tick; windows the table does not have read 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The key's newest tick, or the tick asked for when that is later.
    pub newest: Tick,
    /// At most the exact count.
    pub lo: [u64; WINDOWS_MAX],
    /// At least the exact count.
    pub hi: [u64; WINDOWS_MAX],
    /// As [`Added::promoted`].
    pub promoted: bool,
    /// `hi` includes counts of a sketch, which other keys may share.
    pub estimated: bool,
}

/// What one event did to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, read one by one")]
pub struct Added {
    /// The key has a fine ring or should have one. While false, every `hi` of [`Table::read`] is
    /// below its `promote_at`, so that no limit can have been crossed and nobody needs to read.
    pub promoted: bool,
    /// `promoted`, and this event made it so. Never for a key that found no slot.
    pub promoted_now: bool,
    /// The key had no slot before.
    pub new_key: bool,
    /// Bit w: window w no longer held the slice of this event (or of the sketch it leans on).
    pub late_windows: u8,
    /// Past every window: no count changed.
    pub too_late: bool,
    /// As [`Reading::estimated`].
    pub estimated: bool,
}
