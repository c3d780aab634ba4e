//! A partition's time (W6): the greatest event time applied, or what time marks say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    event::batch::{SourcePartition, SourceRef},
    units::{EventTime, Tick},
};

/// Moves forward only.
#[derive(Clone, Debug, Default)]
pub(super) struct PartitionTime {
    now: Option<EventTime>,
    /// When the next episode may close.
    due: Option<Tick>,
    /// Source partitions seen, each with its last time mark. One that has never sent a mark may
    /// still hold events, so it keeps marks of the others from moving the time.
    marks: BTreeMap<SourcePartition, Option<EventTime>>,
}

/// A partition's time where it is saved.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct SavedTime {
    now: Option<EventTime>,
    marks: Vec<(SourcePartition, Option<EventTime>)>,
}

impl PartitionTime {
    /// The time and the marks, to be saved.
    pub(super) fn saved(&self) -> SavedTime {
        SavedTime { now: self.now, marks: self.marks.clone().into_iter().collect() }
    }

    /// As it was saved; what is due follows from the episodes.
    pub(super) fn restore(saved: SavedTime) -> Self {
        Self { now: saved.now, due: None, marks: saved.marks.into_iter().collect() }
    }

    pub(super) const fn now(&self) -> Option<EventTime> {
        self.now
    }

    /// A source partition feeds this events partition.
    pub(super) fn know(&mut self, source: &SourcePartition) {
        if !self.marks.contains_key(source) {
            self.marks.insert(source.clone(), None);
        }
    }

    /// The time of a row. True when an episode may have come due.
    #[inline]
    pub(super) fn advance(&mut self, at: EventTime) -> bool {
        if self.now.is_some_and(|now| at <= now) {
            return false;
        }
        self.now = Some(at);
        self.is_due()
    }

    /// `sources` were at their end at `at`.
    pub(super) fn mark(&mut self, sources: &[SourceRef], at: EventTime) {
        for source in sources {
            self.marks.insert(source.source.clone(), Some(at));
        }
        // Absent marks order below every time.
        if let Some(slowest) = self.marks.values().min().copied().flatten() {
            self.advance(slowest);
        }
    }

    pub(super) fn set_due(&mut self, due: Option<Tick>) {
        self.due = due;
    }

    pub(super) fn is_due(&self) -> bool {
        matches!((self.due, self.now), (Some(due), Some(now)) if now.tick() >= due)
    }
}
