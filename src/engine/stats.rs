//! Plain counters of an engine; publishing them is the shell's job.

use serde::{Deserialize, Serialize};

use crate::event::GroupBy;

/// Counts since the engine was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Rows of all messages. D5: `applied + duplicate + too_late`.
    pub rows_read: u64,
    /// Rows counted, or matched by no meter.
    pub applied: u64,
    /// The same by route, in the order of [`GroupBy::ALL`].
    pub applied_by_route: [u64; GroupBy::ALL.len()],
    /// Rows seen before (D1), or sent again by a source that retries.
    pub duplicate: u64,
    /// Of these, the ones sent again: at another place, with the same id and content.
    pub repeated: u64,
    /// Rows of a source that retries with the id of an event before them, but other content. They
    /// are counted.
    pub reused_ids: u64,
    /// Rows past every window of every meter that would count them.
    pub too_late: u64,
    /// Windows that a late row no longer reached, while it reached others.
    pub late_for_window: u64,
    /// Rows whose event time was moved back to broker time plus skew (W4).
    pub clamped: u64,
    /// Rows whose record count the source lost.
    pub unknown_counts: u64,
    /// Rows whose record count is an upper bound.
    pub upper_bounds: u64,
    /// Keys that came near a limit.
    pub promotions: u64,
    /// Events matched and counted by meter, as the rule set orders them.
    pub matched: Vec<u64>,
    /// Contexts that were no valid JSON, which would be a fault of the writer; they are counted by
    /// rules without a filter only.
    pub bad_contexts: u64,
    /// How often the remembered contexts were dropped for their number.
    pub context_resets: u64,
    /// Crossings that got no alert of their own: too many episodes were open (W5).
    pub crossings_refused: u64,
    /// Messages that name a row before them that was never applied (D1).
    pub broken_chains: u64,
    /// Keys near a limit for which no evidence was kept, because too many are.
    pub evidence_refused: u64,
}

impl Stats {
    pub(super) fn new(meters: usize) -> Self {
        Self { matched: vec![0; meters], ..Self::default() }
    }
}
