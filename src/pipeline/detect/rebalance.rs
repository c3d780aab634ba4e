//! Partitions of the events topic come and go: where to start, what to finish before letting go,
//! what to do when the log no longer holds the next message.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::Offset;
use tracing::{error, info, warn};

use super::{
    Assigned, Detect, RETRY_AFTER, hand_of,
    progress::{Progress, was_saved},
    restore::{Asked, Found},
    store::{Ask, Opened, Overtaken},
    worker::Job,
};
use crate::{
    checkpoint::{Log, Loss, resume},
    engine::{Engine, EngineOptions},
    kafka::{
        Error,
        group::{Committed, Rebalance, TopicPartition},
    },
    metrics::Role,
    pipeline::{
        cause,
        system::{gap, made_again, no_checkpoint, older_checkpoint},
    },
    units::Partition,
};

/// How long a revoked partition may wait for its alerts to be delivered and its checkpoint to be
/// written.
const CLOSE_FOR: Duration = Duration::from_secs(10);
/// Partitions that were assigned and are being restored, while polling goes on.
pub(super) struct Opening {
    partitions: Vec<TopicPartition>,
    answers: Receiver<Opened>,
    found: BTreeMap<i32, Found>,
}

/// What the broker knows of an assigned partition.
struct Start {
    name: TopicPartition,
    committed: Option<Committed>,
    /// First kept and next offset.
    bounds: (i64, i64),
}

/// Where to begin with an assigned partition.
struct Begin {
    name: TopicPartition,
    /// Number of the assignment.
    epoch: u64,
    from: i64,
    /// Next offset at the broker now.
    end: i64,
    /// Keyed input: before it, dead letters were written already.
    letters_from: i64,
    /// With the offset that it covers.
    restored: Option<(Box<Engine>, i64)>,
}

impl Detect<'_> {
    /// Answers what the group wants; a question the broker does not answer is asked again.
    pub(super) fn rebalance(&mut self) -> Result<(), Error> {
        if Instant::now() < self.retry_at {
            return Ok(());
        }
        if self.opening.is_some() {
            return self.go_on_opening();
        }
        self.take_on_again();
        match self.wanted.pop_front().or_else(|| self.member.wanted()) {
            None => return Ok(()),
            Some(Rebalance::Revoked { partitions, lost }) => self.revoke(&partitions, lost),
            Some(Rebalance::Assigned(partitions)) => return self.open(partitions),
        }
        self.shared.metrics.rebalances.with_label_values(&["detect"]).inc();
        self.share_memory();
        Ok(())
    }

    /// Another member was slow to take a partition on, did so when it was ours already, and wrote a
    /// checkpoint. What it wrote is exact, so counting goes on from there.
    fn take_on_again(&mut self) {
        while let Ok(Overtaken { partition, epoch }) = self.overtaken.try_recv() {
            if self.partitions.get(&partition).is_some_and(|assigned| assigned.epoch == epoch) {
                warn!(
                    partition,
                    "another member wrote a checkpoint; the partition is taken on again"
                );
                let all = || self.partitions.keys().map(|one| self.name(*one)).collect();
                let one = || vec![self.name(partition)];
                let partitions = if self.member.is_cooperative() { one() } else { all() };
                let revoked = Rebalance::Revoked { partitions: partitions.clone(), lost: true };
                self.wanted.extend([revoked, Rebalance::Assigned(partitions)]);
                return;
            }
        }
    }

    /// Has partitions restored. The group waits for the answer, heartbeats going on.
    fn open(&mut self, partitions: Vec<TopicPartition>) -> Result<(), Error> {
        let (reply, answers) = channel();
        for name in &partitions {
            let skew_ms = self.shared.config.detect.allowed_skew.as_millis();
            let options = EngineOptions {
                partition: Partition(name.1),
                allowed_skew_ms: i64::try_from(skew_ms).unwrap_or(i64::MAX),
                memory_limit: self.shared.config.detect.memory_limit,
                dedup_entries: self.shared.config.dedup.entries,
            };
            let (name, reply) = (name.clone(), reply.clone());
            self.epoch += 1;
            self.store.ask(Ask::Open(Asked { name, epoch: self.epoch, options, reply }));
        }
        if !partitions.is_empty() {
            self.ready = false;
            let why = format!("restoring {} partitions", partitions.len());
            self.shared.health.not_ready(Role::Detect, cause::CATCH_UP, why);
        }
        self.opening = Some(Opening { partitions, answers, found: BTreeMap::new() });
        self.go_on_opening()
    }

    fn go_on_opening(&mut self) -> Result<(), Error> {
        let Some(mut opening) = self.opening.take() else { return Ok(()) };
        while opening.found.len() < opening.partitions.len() {
            match opening.answers.try_recv() {
                Ok(Opened { partition, result: Ok(found) }) => {
                    opening.found.insert(partition, found);
                }
                Ok(Opened { result: Err(cause), .. }) if cause.is_transient() => {
                    self.open_later(opening.partitions, &cause);
                    return Ok(());
                }
                Ok(Opened { result: Err(cause), .. }) => return Err(cause),
                Err(TryRecvError::Empty) => {
                    self.opening = Some(opening);
                    return Ok(());
                }
                Err(TryRecvError::Disconnected) => {
                    let reason = "the state thread panicked".to_owned();
                    return Err(Error::Fatal { client: "state".to_owned(), reason });
                }
            }
        }
        let starts = match self.starts(&opening.partitions) {
            Err(cause) if cause.is_transient() => {
                self.open_later(opening.partitions, &cause);
                return Ok(());
            }
            starts => starts?,
        };
        self.assign(starts, opening.found)?;
        self.shared.metrics.rebalances.with_label_values(&["detect"]).inc();
        self.share_memory();
        Ok(())
    }

    fn open_later(&mut self, partitions: Vec<TopicPartition>, cause: &Error) {
        warn!("assignment waits: {cause}");
        self.wanted.push_front(Rebalance::Assigned(partitions));
        self.retry_at = Instant::now() + RETRY_AFTER;
    }

    /// What the broker knows of partitions: committed offset, first kept and next offset.
    fn starts(&self, partitions: &[TopicPartition]) -> Result<Vec<Start>, Error> {
        let mut starts = Vec::with_capacity(partitions.len());
        if partitions.is_empty() {
            return Ok(starts);
        }
        for (name, committed) in self.member.committed(partitions)? {
            let bounds = self.member.watermarks(&name)?;
            starts.push(Start { name, committed, bounds });
        }
        Ok(starts)
    }

    fn assign(&mut self, starts: Vec<Start>, mut found: BTreeMap<i32, Found>) -> Result<(), Error> {
        let mut begins = Vec::with_capacity(starts.len());
        for start in starts {
            let found = found.remove(&start.name.1).unwrap_or_default();
            begins.push(self.begin_at(start, found));
        }
        let position = |begin: &Begin| (begin.name.clone(), Offset::Offset(begin.from));
        self.member.assign(&begins.iter().map(position).collect::<Vec<_>>())?;
        self.ready = false;
        self.joined = true;
        self.shared.health.not_ready(Role::Detect, cause::CATCH_UP, "catching up");
        self.shared.health.ready(Role::Detect, cause::ASSIGNMENT);
        self.shared.health.started(Role::Detect);
        let partitions = begins.len();
        for begin in begins {
            self.begin(begin)?;
        }
        if partitions > 0 {
            info!(partitions, "detect was assigned partitions");
        }
        Ok(())
    }

    /// Where to read on, and what is lost by it.
    fn begin_at(&self, start: Start, found: Found) -> Begin {
        let Start { name, committed, bounds: (first, end) } = start;
        let was_saved = committed.as_ref().is_some_and(was_saved);
        let log = Log { topic_id: self.topic_id, first, end, was_saved };
        let restored = found.restored.as_ref();
        let covered = restored.map_or(first, |restored| restored.covered);
        let restored = restored.map(|restored| (restored.covered, restored.topic_id.as_str()));
        let (from, losses) = resume(restored, &found.unusable, log);
        let newest = found.unusable.first();
        let why = newest.map_or_else(|| "there is none".to_owned(), ToString::to_string);
        for loss in losses {
            self.shared.publisher.raise(match loss {
                Loss::MadeAgain => made_again(&name, covered),
                Loss::Gap => gap(&name, covered, first, end),
                Loss::NoCheckpoint => no_checkpoint(&name, first, &why),
                Loss::Older => older_checkpoint(&name, covered, &why),
            });
        }
        let restored = found.restored.map(|restored| (restored.engine, restored.covered));
        let (epoch, letters_from) = (found.epoch, committed.map_or(0, |it| it.offset));
        Begin { name, epoch, from, end, letters_from, restored }
    }

    fn begin(&mut self, begin: Begin) -> Result<(), Error> {
        let partition = begin.name.1;
        let hand = hand_of(partition, self.hands.len());
        let progress = Arc::new(Progress::new(begin.from, begin.restored.is_some()));
        self.hands[hand].feed.push(Job::Open {
            partition,
            epoch: begin.epoch,
            restored: begin.restored,
            progress: Arc::clone(&progress),
            letters_from: begin.letters_from,
        });
        let lag = self.shared.metrics.lag(Role::Detect, self.topic);
        let (goal, fetched) = (begin.end, begin.from);
        let epoch = begin.epoch;
        let assigned = Assigned { epoch, progress, goal, fetched, read: None, at_end: None, lag };
        self.partitions.insert(partition, assigned);
        if self.hands[hand].feed.is_paused() {
            // A paused worker gets no more work because of a rebalance.
            self.member.pause(std::slice::from_ref(&begin.name))?;
        }
        Ok(())
    }

    /// Lets partitions go: where the group takes them, once their workers have saved them; where
    /// the session ended they may be another's already, which goes on from the last checkpoint.
    fn revoke(&mut self, partitions: &[TopicPartition], lost: bool) {
        let (done, closed) = channel();
        let deadline = Instant::now() + CLOSE_FOR;
        let mut progress = Vec::with_capacity(partitions.len());
        for name in partitions {
            if let Some(assigned) = self.partitions.remove(&name.1) {
                assigned.lag.records.set_u64(0);
                assigned.lag.seconds.set_u64(0);
                progress.push((name.clone(), assigned.progress));
                let (partition, done) = (name.1, done.clone());
                let job = Job::Close { partition, deadline, ours: !lost, done };
                let hand = hand_of(partition, self.hands.len());
                self.hands[hand].feed.push(job);
            }
        }
        let mut waiting = if lost { 0 } else { progress.len() };
        while waiting > 0 && Instant::now() < deadline {
            for hand in &mut self.hands {
                hand.feed.pressure(Instant::now());
            }
            waiting = waiting.saturating_sub(closed.try_iter().count());
            thread::sleep(Duration::from_millis(1));
        }
        if !lost {
            self.commit(progress);
        }
        self.member.release(partitions);
        info!(partitions = partitions.len(), lost, "detect let partitions go");
    }

    /// Every engine gets an equal share of `detect.memory_limit`.
    fn share_memory(&mut self) {
        let engines = self.partitions.len().max(1) as u64;
        let share = self.shared.config.detect.memory_limit / engines;
        for hand in &mut self.hands {
            hand.feed.push(Job::MemoryLimit(share));
        }
    }

    /// A position is outside of what its partition keeps: says so and goes on at the first message
    /// kept. librdkafka stops a partition for it, also when the answer comes after the position was
    /// moved, and does not say which. So those within bounds are set going again where they are.
    pub(super) fn mend_gaps(&mut self) {
        self.mend_at = None;
        let names: Vec<TopicPartition> =
            self.partitions.keys().map(|one| self.name(*one)).collect();
        for name in names {
            let Some(assigned) = self.partitions.get_mut(&name.1) else { continue };
            let (first, end) = match self.member.watermarks(&name) {
                Ok(bounds) => bounds,
                Err(cause) => {
                    warn!("{cause}; trying again");
                    self.mend_at = Some(Instant::now() + RETRY_AFTER);
                    continue;
                }
            };
            let next = assigned.fetched;
            let is_kept = (first..=end).contains(&next);
            if self.keyed.is_some() && next > end {
                // Its offsets begin anew, and the engines know rows by them.
                let (topic, number) = &name;
                self.shared.fail(format!(
                    "keyed input {topic}[{number}] ends at {end}, before offset {next}: it was \
                     truncated or made again, so counting starts anew"
                ));
                return;
            }
            let to = if is_kept { next } else { first };
            if let Err(cause) = self.member.seek(&name, Offset::Offset(to)) {
                error!("{cause}; trying again");
                self.mend_at = Some(Instant::now() + RETRY_AFTER);
                continue;
            }
            assigned.fetched = to;
            if !is_kept {
                self.shared.publisher.raise(gap(&name, next, first, end));
            }
        }
    }
}
