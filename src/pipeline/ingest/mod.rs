//! Ingest: one thread that reads the inputs, turns records into canonical rows and writes them to
//! the events topic by group key.
//!
//! Order of life of a record: fetched, held in its lane, taken in the order of event time, decoded,
//! buffered in the router, flushed, acknowledged; only then is its offset committed. A crash at any
//! point repeats records, and detect knows repeated rows by their identity (D1).
//!
//! Never here: counting, rules, and giving up on a record without a trace.

pub mod dead_letter;
mod lanes;
pub mod merge;
pub(super) mod output;
mod rebalance;
pub(super) mod session;
pub mod start;
mod upkeep;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{Message as _, Timestamp, message::BorrowedMessage};
use tracing::{debug, error, info, warn};

pub(super) use self::upkeep::{MARK_AFTER, flood_begins};
use self::{
    dead_letter::FloodLimit,
    lanes::{Lanes, Source},
    merge::LaneId,
    output::{Failure, Output, Positions},
    session::{InputState, LetterLimits, Record, Session},
    start::Note,
    upkeep::Upkeep,
};
use super::{SEED, STUCK_AFTER, Shared, busy::Busy, cause, clock};
use crate::{
    event::GroupBy,
    http::STARTING,
    kafka::{
        Error,
        group::{Committed, Member, Polled, Rebalance, TopicPartition, headers},
    },
    metrics::{Role, family::Histogram},
    units::EventTime,
};

/// A flush waits this long for more rows when the input is momentarily empty.
const LINGER: Duration = Duration::from_millis(5);
/// So few rows wait no longer than [`LINGER`].
const FEW_ROWS: usize = 8;
/// A flush never waits longer than this.
const FLUSH_AFTER: Duration = Duration::from_millis(20);
/// Records fetched, and records taken, before the other duties of the loop get their turn.
const STEP_RECORDS: usize = 1024;
/// How long the loop sleeps in a poll when there is nothing to do.
const IDLE_POLL: Duration = Duration::from_millis(50);
/// Between commits.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at whether inputs are still the topics that they were.
const TOPICS_EVERY: Duration = Duration::from_secs(10);
/// How long a revocation or a change of routes may wait for acknowledgements.
const DRAIN_FOR: Duration = Duration::from_secs(10);
/// Between a failed producer and the next, and between questions the broker did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs ingest until the process is told to stop, then drains.
///
/// # Errors
/// A client is beyond use, or the drain did not end in time.
pub fn run(shared: &Arc<Shared>) -> anyhow::Result<()> {
    let config = &shared.config;
    // Its series is there before anything is assigned: it says that the role is.
    drop(shared.metrics.partitions_assigned.part(&[Role::Ingest.as_str()]));
    let topics: Vec<&str> =
        config.inputs.iter().filter(|i| !i.keyed).map(|i| i.topic.as_str()).collect();
    if topics.is_empty() {
        // Every input is keyed: detect reads it, and there is nothing to re-key.
        shared.health.ready(Role::Ingest, STARTING);
        while !shared.stopping() {
            std::thread::sleep(IDLE_POLL);
        }
        return Ok(());
    }
    let group = format!("{}-ingest", config.kafka.group_id);
    let member = Member::join(&config.kafka, "ingest", &group, &topics)?;
    shared.wait_for_assignment(Role::Ingest);
    let outcome = Ingest::new(shared, &member)?.run();
    if !member.leave(shared.deadline()) {
        warn!("ingest did not leave its group in time; the group will notice by itself");
    }
    outcome
}

/// See the module.
struct Ingest<'c> {
    shared: &'c Arc<Shared>,
    member: &'c Member,
    inputs: Vec<InputState>,
    lanes: Lanes<BorrowedMessage<'c>>,
    /// By topic, as of the last assignment or gap.
    topic_ids: BTreeMap<String, String>,
    /// What decides where rows go.
    routing: String,
    session: Session,
    output: Output,
    letters: LetterLimits,
    upkeep: Upkeep,
    /// When the oldest record that no flush covers yet was taken.
    dirty_since: Option<Instant>,
    /// Safe to commit and not yet committed.
    safe: Positions,
    committed_at: Instant,
    topics_checked_at: Instant,
    /// What the group wants, while the broker does not answer our questions about it.
    wanted: Option<Rebalance>,
    retry_at: Instant,
    /// When positions out of range are looked at.
    mend_at: Option<Instant>,
    clock: clock::Monotonic,
    busy: Busy,
    /// Records got at once.
    batches: Histogram,
}

impl<'c> Ingest<'c> {
    fn new(shared: &'c Arc<Shared>, member: &'c Member) -> Result<Self, Error> {
        let config = &shared.config;
        let inputs = config.inputs.iter().filter(|input| !input.keyed);
        let now = Instant::now();
        Ok(Self {
            shared,
            member,
            inputs: inputs.map(|input| InputState::new(input.clone(), shared)).collect(),
            lanes: Lanes::new(&config.ingest),
            topic_ids: BTreeMap::new(),
            routing: start::routing(SEED, &config.identity),
            session: Session::new(shared, shared.routes(), shared.cluster.events_partitions),
            output: Output::new(shared)?,
            letters: LetterLimits {
                keep_bytes: config.dead_letter.max_bytes,
                flood: FloodLimit::new(config.dead_letter.bytes_per_second, 0),
                cut_bytes: 0,
                bodiless: 0,
            },
            upkeep: Upkeep::new(shared),
            dirty_since: None,
            safe: BTreeMap::new(),
            committed_at: now,
            topics_checked_at: now,
            wanted: None,
            retry_at: now,
            mend_at: None,
            clock: clock::Monotonic::start(),
            busy: Busy::new(&shared.metrics, Role::Ingest, "poll"),
            batches: shared.metrics.batch_records.of(&[Role::Ingest.as_str()]),
        })
    }

    fn run(mut self) -> anyhow::Result<()> {
        let heart = self.shared.health.heartbeat("ingest", STUCK_AFTER);
        while !self.shared.stopping() {
            heart.beat();
            self.fetch()?;
            if self.mend_at.is_some_and(|at| Instant::now() >= at) {
                self.mend_gaps()?;
            }
            self.rebalance()?;
            let worked = self.take_records().and_then(|()| self.write());
            if let Err(failure) = worked {
                self.rewind(&failure)?;
            }
            self.throttle();
            self.follow_rules()?;
            self.keep_up()?;
            if self.topics_checked_at.elapsed() >= TOPICS_EVERY && !self.upkeep.is_outage() {
                self.topics_checked_at = Instant::now();
                self.check_topics()?;
            }
        }
        self.finish()
    }

    /// Polls records into their lanes. Blocks only when there is nothing else to do.
    fn fetch(&mut self) -> Result<(), Error> {
        let mut timeout = if self.output.is_blocked() {
            LINGER
        } else if self.dirty_since.is_some() {
            self.linger().saturating_sub(self.dirty_for())
        } else if self.lanes.merge.pick(self.clock.ms()).is_some() {
            Duration::ZERO
        } else {
            IDLE_POLL
        };
        let (mut now_ms, mut got) = (None, 0_u32);
        for _ in 0..STEP_RECORDS {
            match self.busy.idle_for(timeout, || self.member.poll(timeout))? {
                Polled::Record(record) => {
                    // One look at the clock is enough for records that were there already.
                    let now_ms = *now_ms.get_or_insert_with(|| self.clock.ms());
                    self.lanes.hold(record, now_ms);
                    got += 1;
                }
                Polled::OutOfRange => self.mend_at = Some(Instant::now()),
                Polled::Nothing => break,
            }
            timeout = Duration::ZERO;
        }
        if got > 0 {
            self.batches.observe(f64::from(got));
        }
        Ok(())
    }

    /// Takes held records in the order of event time and decodes them.
    fn take_records(&mut self) -> Result<(), Failure> {
        let (now_ms, now) = (self.clock.ms(), clock::now());
        for _ in 0..STEP_RECORDS {
            if self.output.is_blocked() {
                break;
            }
            let Some(lane) = self.lanes.merge.pick(now_ms) else { break };
            self.take(lane, now_ms, now);
            if self.session.is_full() {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn take(&mut self, lane: LaneId, now_ms: u64, now: EventTime) {
        let Some(message) = self.lanes.merge.take(lane) else { return };
        let Some(source) = self.lanes.get_mut(lane) else { return };
        source.next = message.offset() + 1;
        source.timestamp_ms = timestamp_ms(&message);
        let record = Record {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key(),
            payload: message.payload(),
            headers: &|| headers(&message),
            timestamp_ms: source.timestamp_ms,
        };
        let state = &mut self.inputs[source.input];
        let timestamp_ms = source.timestamp_ms;
        let taken = self.session.take(lane, state, &record, &mut self.letters, now_ms);
        let skew = self.shared.config.detect.allowed_skew;
        let time = lane_time(taken.newest, timestamp_ms, now, skew);
        self.lanes.merge.advance(lane, time);
        self.dirty_since.get_or_insert_with(Instant::now);
        if taken.flood {
            flood_begins(self.shared);
        }
    }

    /// Flushes when it is time, and serves acknowledgements.
    fn write(&mut self) -> Result<(), Failure> {
        let empty = self.lanes.merge.pick(self.clock.ms()).is_none();
        let age = self.dirty_for();
        let due = age >= FLUSH_AFTER || (empty && age >= self.linger());
        if self.dirty_since.is_some() && due && !self.output.is_blocked() {
            self.flush()?;
        }
        self.output.serve(self.shared)?;
        if let Some(positions) = self.output.safe() {
            self.note_safe(positions);
            self.shared.health.ready(Role::Ingest, cause::WRITING);
        }
        if self.committed_at.elapsed() >= COMMIT_EVERY {
            self.commit(false, &[]);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let (events, letters) = self.session.flush();
        for routed in &events {
            self.upkeep.batch(routed);
        }
        self.dirty_since = None;
        // Counted before detect can have read them, so that accounts never seem to be ahead.
        self.publish_counts();
        self.output.flush(self.lanes.positions(), events, letters)
    }

    fn note_safe(&mut self, positions: Positions) {
        self.lanes.note_safe(&positions);
        self.safe = positions;
    }

    /// How long rows wait for more when nothing else is there. A message costs the more the fewer
    /// rows it has, and many rows are many messages: one for each partition they are of.
    fn linger(&self) -> Duration {
        if self.session.router().rows() <= FEW_ROWS { LINGER } else { FLUSH_AFTER }
    }

    fn dirty_for(&self) -> Duration {
        self.dirty_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Commits what is safe, of the lanes that are still ours. Of those in `ended` nothing is
    /// written past it.
    fn commit(&mut self, wait: bool, ended: &[TopicPartition]) {
        self.committed_at = Instant::now();
        let mut safe = std::mem::take(&mut self.safe);
        // The note changes even where the offset does not.
        let lasts = self.lanes.iter().filter(|source| ended.contains(&source.name()));
        safe.extend(lasts.map(|source| (source.lane, source.safe)));
        let positions = self.lanes.named(&safe).into_iter();
        let noted = |(name, offset)| {
            let settled = ended.contains(&name);
            self.noted(name, offset, settled)
        };
        let positions: Vec<(TopicPartition, Committed)> = positions.map(noted).collect();
        if positions.is_empty() {
            return;
        }
        let result = match self.member.commit(&positions, wait) {
            Ok(()) => "ok",
            Err(cause) => {
                // The next commit covers these offsets too, or they are read again.
                warn!("{cause}");
                "failed"
            }
        };
        let commits = &self.shared.metrics.commits;
        commits.with_label_values(&["ingest", result]).inc();
        commits.with_label_values(&["ingest", "failed"]).inc_by(self.member.take_failed_commits());
    }

    /// An offset with the note that belongs beside it.
    fn noted(
        &self,
        name: TopicPartition,
        offset: i64,
        settled: bool,
    ) -> (TopicPartition, Committed) {
        let topic_id = self.topic_ids.get(&name.0).map_or("", String::as_str);
        let committed = Note::beside(offset, topic_id, &self.routing, settled);
        (name, committed)
    }

    /// Writes out everything taken and waits until it is acknowledged and committed. False when
    /// the deadline came first. Nothing more is written of `ending`.
    fn settle(&mut self, deadline: Instant, ending: &[TopicPartition]) -> Result<bool, Failure> {
        self.flush()?;
        let mut newest = None;
        let settled =
            self.output.drain(deadline, self.shared, |positions| newest = Some(positions));
        if let Some(positions) = newest {
            self.note_safe(positions);
        }
        // Nobody waits for a coordinator of a broker that does not answer.
        let all = matches!(settled, Ok(true));
        self.commit(all, if all { ending } else { &[] });
        settled
    }

    /// Begins a session: everything written so far is in order, nothing is buffered.
    fn new_session(&mut self, routes: Vec<GroupBy>) {
        self.session = Session::new(self.shared, routes, self.shared.cluster.events_partitions);
        self.upkeep.new_session(self.shared);
        for source in self.lanes.iter() {
            let topic_id = self.topic_ids.get(&source.topic).map_or("", String::as_str);
            let identity = source.identity(&self.shared.cluster.id, topic_id);
            let input = &self.inputs[source.input].input;
            self.session.add_source(source.lane, &identity, input);
        }
    }

    /// A delivery failed: nothing more may be delivered past it. Drops the producer, goes back to
    /// the last offsets that are safe and begins anew (D1).
    fn rewind(&mut self, failure: &Failure) -> Result<(), Error> {
        error!("writing failed; going back to the last acknowledged offsets: {}", failure.cause);
        let reason = format!("writing failed: {}", failure.cause);
        self.shared.health.not_ready(Role::Ingest, cause::WRITING, reason);
        if failure.letter_too_large {
            // The topic takes less than is configured. The record comes again, so it must differ.
            self.letters.keep_bytes /= 4;
            warn!(
                keep_bytes = self.letters.keep_bytes,
                "the dead-letter topic refuses letters of this length; they are cut further from \
                 here on, see its max.message.bytes and dead_letter.max_bytes"
            );
        }
        self.output.purge();
        self.output = Output::new(self.shared)?;
        self.safe.clear();
        self.dirty_since = None;
        let paused = self.lanes.merge.clear();
        let paused = self.lanes.names(&paused);
        self.new_session(self.shared.routes());
        std::thread::sleep(RETRY_AFTER);
        for source in self.lanes.iter_mut() {
            source.next = source.safe;
            source.fetched = source.safe;
        }
        for (partition, offset) in self.lanes.safe_positions() {
            let mut tries = 0;
            while let Err(cause) = self.member.seek(&partition, rdkafka::Offset::Offset(offset)) {
                tries += 1;
                warn!("{cause}");
                if tries == 3 || self.shared.stopping() {
                    // Reading on from where it was would skip records.
                    return Err(cause);
                }
            }
        }
        if !paused.is_empty() {
            self.member.resume(&paused)?;
        }
        Ok(())
    }

    fn throttle(&mut self) {
        let throttle = self.lanes.merge.throttle();
        for (lanes, pause) in [(&throttle.pause, true), (&throttle.resume, false)] {
            let names = self.lanes.names(lanes);
            if names.is_empty() {
                continue;
            }
            debug!(?names, pause, "input partitions throttled");
            let done = if pause { self.member.pause(&names) } else { self.member.resume(&names) };
            if let Err(cause) = done {
                warn!("{cause}");
            }
        }
    }

    /// New rules may need other routes. They change only at a committed boundary (D1).
    fn follow_rules(&mut self) -> Result<(), Error> {
        let routes = self.shared.routes();
        if routes == self.session.router().routes() || Instant::now() < self.retry_at {
            return Ok(());
        }
        match self.settle(Instant::now() + DRAIN_FOR, &[]) {
            Ok(true) => {
                info!(?routes, "routes changed");
                self.new_session(routes);
            }
            Ok(false) => {
                warn!("routes change later: the broker has not acknowledged everything yet");
                self.retry_at = Instant::now() + RETRY_AFTER;
            }
            Err(failure) => self.rewind(&failure)?,
        }
        Ok(())
    }

    /// Drains and leaves nothing behind that is neither written nor to be read again.
    fn finish(mut self) -> anyhow::Result<()> {
        let deadline = self.shared.deadline();
        info!("ingest drains");
        self.shared.health.not_ready(Role::Ingest, cause::STOPPING, "stopping");
        let all: Vec<TopicPartition> = self.lanes.iter().map(Source::name).collect();
        let settled = match self.settle(deadline, &all) {
            Ok(settled) => settled,
            Err(failure) => anyhow::bail!("ingest could not drain: {}", failure.cause),
        };
        self.keep_up()?;
        let publisher = &self.shared.publisher;
        self.inputs.iter_mut().for_each(|input| input.publish(publisher));
        anyhow::ensure!(
            settled,
            "ingest stopped with {} messages unacknowledged; they are read again at the next start",
            self.output.pending()
        );
        Ok(())
    }
}

/// The time by which a lane is compared with the others. A source's clock may be wrong, so it
/// counts only up to what the broker, or else our own clock, has seen.
fn lane_time(
    newest: Option<EventTime>,
    broker_ms: Option<i64>,
    now: EventTime,
    skew: Duration,
) -> Option<EventTime> {
    let broker = broker_ms.map_or(now, EventTime::from_millis);
    let skew_ms = i64::try_from(skew.as_millis()).unwrap_or(i64::MAX);
    let latest = broker.min(now).plus_millis(skew_ms);
    newest.map(|newest| newest.min(latest))
}

fn timestamp_ms(message: &BorrowedMessage<'_>) -> Option<i64> {
    match message.timestamp() {
        Timestamp::NotAvailable => None,
        Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => Some(ms).filter(|ms| *ms >= 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKEW: Duration = Duration::from_mins(5);

    fn at(seconds: i64) -> EventTime {
        EventTime::from_millis(seconds * 1000)
    }

    #[test]
    fn a_source_clock_in_the_future_counts_up_to_the_brokers() {
        let far = Some(at(1_000_000));
        assert_eq!(lane_time(far, Some(1000), at(5000), SKEW), Some(at(301)));
        assert_eq!(lane_time(far, None, at(5000), SKEW), Some(at(5300)));
        assert_eq!(lane_time(far, Some(900_000_000), at(5000), SKEW), Some(at(5300)));
    }

    #[test]
    fn a_past_event_counts_as_it_is_and_no_event_has_no_time() {
        assert_eq!(lane_time(Some(at(7)), Some(1_000_000), at(5000), SKEW), Some(at(7)));
        assert_eq!(lane_time(None, Some(1_000_000), at(5000), SKEW), None);
    }
}
