//! What a worker knows of the checkpoints of one engine. Never here: making or writing one.

use std::time::Instant;

use crate::metrics::Part;

/// What is kept of an engine, and when more must be.
pub(super) struct SaveState {
    /// A checkpoint is on its way.
    pub(super) under_way: bool,
    /// The first of the unpublished alerts go out with it.
    pub(super) publishing: usize,
    /// When the walk went on last.
    pub(super) walked_at: Instant,
    /// When the last one was begun, and when the last one was kept.
    pub(super) begun_at: Instant,
    pub(super) kept_at: Instant,
    /// Next offset and undelivered alerts in the last one kept.
    pub(super) kept: (i64, usize),
    /// In the one under way.
    pub(super) begun: (i64, usize),
    /// The rules changed (D7).
    pub(super) soon: bool,
    /// The last one failed.
    pub(super) failed: bool,
    pub(super) age: Part,
}

impl SaveState {
    /// Of an engine that is as it was saved: next offset, undelivered alerts.
    pub(super) fn new(kept: (i64, usize), age: Part) -> Self {
        let now = Instant::now();
        Self {
            under_way: false,
            publishing: 0,
            walked_at: now,
            begun_at: now,
            kept_at: now,
            kept,
            begun: kept,
            soon: false,
            failed: false,
            age,
        }
    }

    /// A checkpoint of the engine as it is goes out, with the first `alerts` undelivered ones.
    pub(super) fn begin(
        &mut self,
        (offset, undelivered): (i64, usize),
        alerts: usize,
        walks: bool,
    ) {
        let now = Instant::now();
        self.begun = (offset, undelivered - alerts);
        self.begun_at = now;
        self.walked_at = if walks { now } else { self.walked_at };
        self.publishing = alerts;
        self.under_way = true;
        self.soon = false;
    }
}
