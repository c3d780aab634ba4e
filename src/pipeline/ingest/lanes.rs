//! The source partitions of this member: which lane is which partition, and how far each has come.

use rdkafka::{Message as _, message::BorrowedMessage};

use super::{
    merge::{LaneId, Merge},
    output::Positions,
};
use crate::{
    config::IngestConfig,
    event::batch::SourcePartition,
    kafka::group::TopicPartition,
    metrics::{LagMetrics, Part},
};

/// A source partition that is assigned to this member.
#[derive(Debug)]
pub(super) struct Source {
    /// Its lane; another assignment of the same partition has another.
    pub(super) lane: LaneId,
    /// Index of its input.
    pub(super) input: usize,
    /// Topic.
    pub(super) topic: String,
    /// Partition.
    pub(super) partition: i32,
    /// Offset after the record taken last.
    pub(super) next: i64,
    /// Offset after the record fetched last, which may still be held.
    pub(super) fetched: i64,
    /// Offset up to which everything is acknowledged.
    pub(super) safe: i64,
    /// Broker timestamp of the record taken last.
    pub(super) timestamp_ms: Option<i64>,
    /// Next offset at the broker, as last reported.
    pub(super) end: Option<i64>,
    /// Its lag.
    pub(super) lag: LagMetrics,
    /// How far it is ahead.
    pub(super) drift: Part,
}

/// All of them, and the records they hold.
pub(super) struct Lanes<M> {
    /// Held records and their order.
    pub(super) merge: Merge<M>,
    /// By lane, ascending.
    sources: Vec<Source>,
    /// By topic, then by partition number.
    by_topic: Vec<(String, Vec<Option<LaneId>>)>,
}

impl<M> Lanes<M> {
    /// None yet.
    pub(super) fn new(config: &IngestConfig) -> Self {
        let drift_ms = i64::try_from(config.max_drift.as_millis()).unwrap_or(i64::MAX);
        Self {
            merge: Merge::new(drift_ms, config.hold_bytes),
            sources: Vec::new(),
            by_topic: Vec::new(),
        }
    }

    /// A partition was assigned; reading starts at `next`.
    pub(super) fn open(
        &mut self,
        (topic, partition): &TopicPartition,
        input: usize,
        next: i64,
        (lag, drift): (LagMetrics, Part),
        now_ms: u64,
    ) -> LaneId {
        let lane = self.merge.open(now_ms);
        self.sources.push(Source {
            lane,
            input,
            topic: topic.clone(),
            partition: *partition,
            next,
            fetched: next,
            safe: next,
            timestamp_ms: None,
            end: None,
            lag,
            drift,
        });
        if !self.by_topic.iter().any(|(known, _)| known == topic) {
            self.by_topic.push((topic.clone(), Vec::new()));
        }
        if let Some((_, lanes)) = self.by_topic.iter_mut().find(|(known, _)| known == topic) {
            let index = usize::try_from(*partition).unwrap_or(0);
            if lanes.len() <= index {
                lanes.resize(index + 1, None);
            }
            lanes[index] = Some(lane);
        }
        lane
    }

    /// A partition was revoked; what it holds is forgotten.
    pub(super) fn close(&mut self, partition: &TopicPartition) {
        let Some(lane) = self.lane(&partition.0, partition.1) else { return };
        self.merge.close(lane);
        self.sources.retain(|source| source.lane != lane);
        for (topic, lanes) in &mut self.by_topic {
            if *topic == partition.0 {
                lanes.iter_mut().filter(|slot| **slot == Some(lane)).for_each(|slot| *slot = None);
            }
        }
    }

    fn lane(&self, topic: &str, partition: i32) -> Option<LaneId> {
        let (_, lanes) = self.by_topic.iter().find(|(known, _)| known == topic)?;
        *lanes.get(usize::try_from(partition).ok()?)?
    }

    /// Every source partition.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter()
    }

    /// Every source partition.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        self.sources.iter_mut()
    }

    /// True when none is assigned.
    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The source partition of a lane.
    pub(super) fn get_mut(&mut self, lane: LaneId) -> Option<&mut Source> {
        let index = self.sources.binary_search_by_key(&lane, |source| source.lane).ok()?;
        self.sources.get_mut(index)
    }

    /// The source partition with this name.
    pub(super) fn find_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Source> {
        let lane = self.lane(topic, partition)?;
        self.get_mut(lane)
    }

    /// How far all have come.
    pub(super) fn positions(&self) -> Positions {
        self.sources.iter().map(|source| (source.lane, source.next)).collect()
    }

    /// Notes positions that have become safe.
    pub(super) fn note_safe(&mut self, positions: &Positions) {
        for source in &mut self.sources {
            if let Some(offset) = positions.get(&source.lane) {
                source.safe = *offset;
            }
        }
    }

    /// Positions by name, without those of lanes that are gone.
    pub(super) fn named(&self, positions: &Positions) -> Vec<(TopicPartition, i64)> {
        self.sources
            .iter()
            .filter_map(|source| {
                let offset = positions.get(&source.lane)?;
                Some((source.name(), *offset))
            })
            .collect()
    }

    /// Names of lanes.
    pub(super) fn names(&self, lanes: &[LaneId]) -> Vec<TopicPartition> {
        let wanted = self.sources.iter().filter(|source| lanes.contains(&source.lane));
        wanted.map(Source::name).collect()
    }

    /// Where to go back to.
    pub(super) fn safe_positions(&self) -> Vec<(TopicPartition, i64)> {
        let at = |source: &Source| (source.name(), source.safe);
        self.sources.iter().map(at).collect()
    }
}

impl Source {
    /// As Kafka names it.
    pub(super) fn name(&self) -> TopicPartition {
        (self.topic.clone(), self.partition)
    }

    /// As rows name it (D1).
    pub(super) fn identity(&self, cluster: &str, topic_id: &str) -> SourcePartition {
        SourcePartition {
            cluster: cluster.to_owned(),
            topic: self.topic.clone(),
            topic_id: topic_id.to_owned(),
            partition: self.partition,
        }
    }
}

impl<'c> Lanes<BorrowedMessage<'c>> {
    /// Puts a record into its lane. One of a partition that is not ours any more is dropped: its
    /// new owner reads it.
    pub(super) fn hold(&mut self, message: BorrowedMessage<'c>, now_ms: u64) {
        let Some(lane) = self.lane(message.topic(), message.partition()) else { return };
        let bytes = (message.payload_len() + message.key_len()) as u64 + RECORD_OVERHEAD_BYTES;
        if let Some(source) = self.get_mut(lane) {
            source.fetched = message.offset() + 1;
        }
        self.merge.push(lane, message, bytes, now_ms);
    }
}

/// What holding a record costs besides its key and value.
const RECORD_OVERHEAD_BYTES: u64 = 256;
