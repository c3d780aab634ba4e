//! Partitions come and go: where to start, what to finish before letting go, what to do when the
//! log no longer holds the next record.

use std::{collections::BTreeSet, time::Instant};

use rdkafka::{Message as _, Offset};
use tracing::{error, info, warn};

use super::{
    DRAIN_FOR, Ingest, RETRY_AFTER,
    start::{Begin, Doubt, begin, doubt},
};
use crate::{
    config::Start,
    event::batch::{Batch, SourcePartition},
    kafka::{
        Error,
        group::{Committed, Rebalance, TopicPartition},
        newest,
    },
    metrics::Role,
    pipeline::{
        Shared, cause,
        system::{gap, made_again, moved, rerouted},
    },
};

/// Messages at the end of each events partition in which rows of a source are looked for.
const LOOK_BACK: i64 = 64;

impl Ingest<'_> {
    /// Answers what the group wants. A question the broker does not answer now is asked again; the
    /// group waits meanwhile.
    pub(super) fn rebalance(&mut self) -> Result<(), Error> {
        if self.wanted.is_none() {
            self.wanted = self.member.wanted();
        }
        if Instant::now() < self.retry_at {
            return Ok(());
        }
        match self.wanted.take() {
            None => Ok(()),
            Some(Rebalance::Revoked { partitions, lost }) => self.revoke(&partitions, lost),
            Some(Rebalance::Assigned(partitions)) => match self.assign(&partitions) {
                Err(cause) if cause.is_transient() => {
                    warn!("assignment waits: {cause}");
                    self.wanted = Some(Rebalance::Assigned(partitions));
                    self.retry_at = Instant::now() + RETRY_AFTER;
                    Ok(())
                }
                done => done,
            },
        }
    }

    fn assign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.shared.metrics.rebalances.with_label_values(&["ingest"]).inc();
        if partitions.is_empty() {
            // The group has settled and has nothing new for us.
            self.shared.health.ready(Role::Ingest, cause::ASSIGNMENT);
            self.shared.health.started(Role::Ingest);
            return self.member.assign(&[]);
        }
        let topics: BTreeSet<&String> = partitions.iter().map(|(topic, _)| topic).collect();
        for topic in topics {
            let id = self.shared.topic_id(self.member, topic)?;
            self.topic_ids.insert(topic.clone(), id);
        }
        let starts = self.starts(partitions)?;
        // What is buffered belongs to the session that ends here.
        if self.dirty_since.is_some()
            && let Err(failure) = self.flush()
        {
            self.rewind(&failure)?;
        }
        let positions: Vec<(TopicPartition, Offset)> = starts
            .iter()
            .map(|(partition, offset)| (partition.clone(), Offset::Offset(*offset)))
            .collect();
        self.member.assign(&positions)?;
        for (partition, next) in &starts {
            let input = self.inputs.iter().position(|state| state.input.topic == partition.0);
            let Some(input) = input else { continue };
            self.open(partition, input, *next);
        }
        info!(partitions = partitions.len(), "ingest was assigned partitions");
        self.new_session(self.shared.routes());
        self.shared.health.ready(Role::Ingest, cause::ASSIGNMENT);
        self.shared.health.started(Role::Ingest);
        Ok(())
    }

    fn revoke(&mut self, partitions: &[TopicPartition], lost: bool) -> Result<(), Error> {
        self.shared.metrics.rebalances.with_label_values(&["ingest"]).inc();
        if lost {
            // Another member may own them already; what we wrote past the commit it writes again.
            warn!(partitions = partitions.len(), "ingest lost partitions");
        } else {
            match self.settle(Instant::now() + DRAIN_FOR, partitions) {
                Ok(true) => {}
                Ok(false) => warn!("partitions are let go before all is acknowledged"),
                Err(failure) => self.rewind(&failure)?,
            }
        }
        for partition in partitions {
            self.lanes.close(partition);
        }
        self.member.release(partitions);
        info!(partitions = partitions.len(), "ingest let partitions go");
        if lost && self.dirty_since.is_some() {
            self.flush_or_rewind()?;
        }
        self.new_session(self.shared.routes());
        Ok(())
    }

    fn flush_or_rewind(&mut self) -> Result<(), Error> {
        match self.flush() {
            Ok(()) => Ok(()),
            Err(failure) => self.rewind(&failure),
        }
    }

    /// The offset to start at in each of `partitions`.
    fn starts(&self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, i64)>, Error> {
        let mut starts = Vec::with_capacity(partitions.len());
        for state in &self.inputs {
            let topic = &state.input.topic;
            let mine: Vec<&TopicPartition> =
                partitions.iter().filter(|(name, _)| name == topic).collect();
            if mine.is_empty() {
                continue;
            }
            let all = self.shared.cluster.inputs.get(topic).copied().unwrap_or(0);
            let all = i32::try_from(all).unwrap_or(i32::MAX);
            let last = mine.iter().map(|(_, partition)| partition + 1).max().unwrap_or(0);
            let all: Vec<TopicPartition> =
                (0..all.max(last)).map(|partition| (topic.clone(), partition)).collect();
            let committed = self.member.committed(&all)?;
            let found: Vec<Option<Committed>> =
                committed.iter().map(|(_, committed)| committed.clone()).collect();
            let topic_id = self.topic_ids.get(topic).map_or("", String::as_str);
            let begins = begin(state.input.start, topic_id, &found);
            let resolved = self.resolve(&all, &begins)?;
            for (name, committed) in &committed {
                if let (Some(committed), true) = (committed, partitions.contains(name)) {
                    self.note_doubts(name, committed, topic_id)?;
                }
            }
            let mine = |(partition, _): &(TopicPartition, i64)| partitions.contains(partition);
            starts.extend(resolved.into_iter().filter(mine));
        }
        // From here on rows may be written past these offsets, whatever the notes have said.
        let begun = starts.iter().map(|(name, offset)| self.noted(name.clone(), *offset, false));
        if let Err(cause) = self.member.commit(&begun.collect::<Vec<_>>(), true) {
            // The next commit says it again.
            warn!("{cause}");
        }
        Ok(starts)
    }

    /// Turns every beginning of one topic into an offset. A topic new to the group gets all its
    /// offsets committed before the first record is read, by whichever member comes first: else a
    /// restart would take a partition that had no record yet for one that appeared later.
    fn resolve(
        &self,
        partitions: &[TopicPartition],
        begins: &[Begin],
    ) -> Result<Vec<(TopicPartition, i64)>, Error> {
        let mut resolved = Vec::with_capacity(begins.len());
        let mut fresh = Vec::new();
        for (partition, begin) in partitions.iter().zip(begins) {
            let offset = match begin {
                Begin::At(offset) => *offset,
                Begin::First | Begin::Configured(Start::Earliest) => {
                    self.member.watermarks(partition)?.0
                }
                Begin::Configured(Start::Latest) => self.member.watermarks(partition)?.1,
                Begin::Configured(Start::At(time)) => {
                    self.member.offset_at(partition, time.millis())?
                }
            };
            if !matches!(begin, Begin::At(_)) {
                fresh.push(self.noted(partition.clone(), offset, true));
            }
            resolved.push((partition.clone(), offset));
        }
        if let Err(cause) = self.member.commit(&fresh, true) {
            // Positions are committed again as records are read.
            warn!("{cause}");
        }
        Ok(resolved)
    }

    /// Says what is doubtful about where reading goes on.
    fn note_doubts(
        &self,
        name: &TopicPartition,
        committed: &Committed,
        topic_id: &str,
    ) -> Result<(), Error> {
        let (first, end) = self.member.watermarks(name)?;
        let routing = (end > committed.offset).then_some(self.routing.as_str());
        let Some(doubt) = doubt(committed, topic_id, routing) else { return Ok(()) };
        let offset = committed.offset;
        self.shared.publisher.raise(match doubt {
            Doubt::MadeAgain => made_again(name, offset),
            Doubt::Rerouted => rerouted(name, offset, self.written(name, topic_id)?, end),
            Doubt::Moved => {
                let written = self.written(name, topic_id)?;
                if written.is_some_and(|written| offset <= written + 1) {
                    // What is read again is recognised by its identity.
                    info!(topic = name.0, partition = name.1, offset, "offset moved back by hand");
                    return Ok(());
                }
                moved(name, written.map_or(first, |written| written + 1), offset)
            }
        });
        Ok(())
    }

    /// The last record of a source partition of which there are rows among the newest messages of
    /// the events topic.
    fn written(&self, name: &TopicPartition, topic_id: &str) -> Result<Option<i64>, Error> {
        let Shared { config, cluster, .. } = &**self.shared;
        let source = SourcePartition {
            cluster: cluster.id.clone(),
            topic: name.0.clone(),
            topic_id: topic_id.to_owned(),
            partition: name.1,
        };
        let events = (config.topics.events.as_str(), cluster.events_partitions);
        let mut written = None;
        newest::read(&config.kafka, "ingest-look", events, LOOK_BACK, |record| {
            let Ok(batch) = Batch::decode(record.payload().unwrap_or_default()) else { return };
            let ours = |row: &usize| batch.sources()[batch.source(*row)].source == source;
            let offsets = (0..batch.len()).filter(ours).map(|row| batch.position(row).offset.0);
            written = written.max(offsets.max());
        })?;
        Ok(written)
    }

    /// A position is outside of what its partition keeps. librdkafka does not say which, so all
    /// are compared with their bounds. Reading goes on at the first record kept, with an alert:
    /// what lies between was never counted. It stops a partition for it also when the answer comes
    /// after the position was moved, so those within bounds are set going again where they are.
    pub(super) fn mend_gaps(&mut self) -> Result<(), Error> {
        self.mend_at = None;
        let mut mended = BTreeSet::new();
        for (partition, _) in self.lanes.safe_positions() {
            let Some(source) = self.lanes.find_mut(&partition.0, partition.1) else { continue };
            let (first, end) = match self.member.watermarks(&partition) {
                Ok(bounds) => bounds,
                Err(cause) => {
                    warn!("{cause}; trying again");
                    self.mend_at = Some(Instant::now() + RETRY_AFTER);
                    continue;
                }
            };
            let from = source.fetched;
            let is_kept = (first..=end).contains(&from);
            let to = if is_kept { from } else { first };
            if let Err(cause) = self.member.seek(&partition, Offset::Offset(to)) {
                error!("{cause}; trying again");
                self.mend_at = Some(Instant::now() + RETRY_AFTER);
                continue;
            }
            if is_kept {
                continue;
            }
            source.fetched = first;
            if source.next == from {
                source.next = first;
                source.safe = first;
            }
            self.shared.publisher.raise(gap(&partition, from, first, end));
            mended.insert(partition.0);
        }
        self.renew_topics(mended)
    }

    /// A topic may be made again and filled past our position between two fetches, and then no
    /// position is ever out of range. So its id is looked at now and then.
    pub(super) fn check_topics(&mut self) -> Result<(), Error> {
        for (topic, known) in self.topic_ids.clone() {
            // Of a topic that is gone librdkafka has something to say already.
            let found = self.shared.topic_id(self.member, &topic).ok();
            let Some(id) = found.filter(|id| *id != known) else { continue };
            match self.begin_again(&topic, id) {
                Err(cause) if cause.is_transient() => warn!("{cause}; trying again"),
                done => done?,
            }
        }
        Ok(())
    }

    /// Reads a topic from its first records, as the other topic that it is now.
    fn begin_again(&mut self, topic: &str, id: String) -> Result<(), Error> {
        let sources = self.lanes.iter().filter(|source| source.topic == topic);
        let mut begins = Vec::new();
        for source in sources {
            let name = source.name();
            let (first, _) = self.member.watermarks(&name)?;
            begins.push((name, source.input, source.next, first));
        }
        self.flush_or_rewind()?;
        for (name, _, _, first) in &begins {
            self.member.seek(name, Offset::Offset(*first))?;
        }
        warn!(topic, id, "the topic was made again");
        self.topic_ids.insert(topic.to_owned(), id);
        for (name, input, next, first) in begins {
            self.lanes.close(&name);
            self.open(&name, input, first);
            self.shared.publisher.raise(made_again(&name, next));
        }
        self.new_session(self.shared.routes());
        Ok(())
    }

    fn open(&mut self, name: &TopicPartition, input: usize, next: i64) {
        let metrics = &self.shared.metrics;
        let metrics = (metrics.lag(Role::Ingest, &name.0), metrics.drift(&name.0));
        self.lanes.open(name, input, next, metrics, self.clock.ms());
    }

    /// A topic that was made again is another topic: its rows must not look like rows of the old.
    fn renew_topics(&mut self, topics: BTreeSet<String>) -> Result<(), Error> {
        let mut changed = false;
        for topic in topics {
            match self.shared.topic_id(self.member, &topic) {
                Ok(id) if self.topic_ids.get(&topic) != Some(&id) => {
                    warn!(topic, id, "the topic was made again");
                    self.topic_ids.insert(topic, id);
                    changed = true;
                }
                Ok(_) => {}
                Err(cause) => warn!("{cause}"),
            }
        }
        if changed {
            self.flush_or_rewind()?;
            self.new_session(self.shared.routes());
        }
        Ok(())
    }
}
