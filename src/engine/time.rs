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
    sources: BTreeMap<SourcePartition, Heard>,
}

/// A source partition that has sent nothing for this long, by broker time, keeps nobody waiting:
/// its input was removed.
const GONE_MS: i64 = 24 * 3_600_000;

/// What a source partition has let know.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Heard {
    /// Its last time mark.
    mark: Option<EventTime>,
    /// Broker time of its last row or mark.
    at: EventTime,
}

/// A partition's time where it is saved.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct SavedTime {
    now: Option<EventTime>,
    sources: Vec<(SourcePartition, Heard)>,
}

impl PartitionTime {
    /// The time and the marks, to be saved.
    pub(super) fn saved(&self) -> SavedTime {
        SavedTime { now: self.now, sources: self.sources.clone().into_iter().collect() }
    }

    /// As it was saved; what is due follows from the episodes.
    pub(super) fn restore(saved: SavedTime) -> Self {
        Self { now: saved.now, due: None, sources: saved.sources.into_iter().collect() }
    }

    pub(super) const fn now(&self) -> Option<EventTime> {
        self.now
    }

    /// A message has come from a source partition.
    pub(super) fn hear(&mut self, source: &SourcePartition, broker_time: EventTime) {
        match self.sources.get_mut(source) {
            Some(heard) => heard.at = heard.at.max(broker_time),
            None => {
                self.sources.insert(source.clone(), Heard { mark: None, at: broker_time });
            }
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
    pub(super) fn mark(&mut self, sources: &[SourceRef], at: EventTime, broker_time: EventTime) {
        for source in sources {
            self.hear(&source.source, broker_time);
            if let Some(heard) = self.sources.get_mut(&source.source) {
                heard.mark = Some(at);
            }
        }
        let gone = |heard: &Heard| heard.at.plus_millis(GONE_MS) < broker_time;
        let marks = self.sources.values().filter(|heard| !gone(heard)).map(|heard| heard.mark);
        // Absent marks order below every time.
        if let Some(slowest) = marks.min().flatten() {
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
