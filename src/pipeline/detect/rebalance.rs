//! Partitions of the events topic come and go: where to start, what to finish before letting go,
//! what to do when the log no longer holds the next message.

use std::{
    sync::{Arc, atomic::AtomicI64, mpsc::channel},
    thread,
    time::{Duration, Instant},
};

use rdkafka::Offset;
use tracing::{error, info, warn};

use super::{Assigned, Detect, RETRY_AFTER, hand_of, worker::Job};
use crate::{
    kafka::{
        Error,
        group::{Rebalance, TopicPartition},
    },
    metrics::Role,
    pipeline::{cause, system::gap},
};

/// How long a revoked partition may wait for its alerts to be delivered.
const CLOSE_FOR: Duration = Duration::from_secs(5);
/// How long an engine is kept for a partition that was lost.
const PARK_FOR: Duration = Duration::from_mins(5);

/// Where to begin with an assigned partition.
struct Begin {
    name: TopicPartition,
    from: i64,
    /// Next offset at the broker now.
    end: i64,
    /// Keyed input: before it, dead letters were written already.
    letters_from: i64,
}

impl Detect<'_> {
    /// Answers what the group wants; a question the broker does not answer is asked again.
    pub(super) fn rebalance(&mut self) -> Result<(), Error> {
        if self.wanted.is_none() {
            self.wanted = self.member.wanted();
        }
        if Instant::now() < self.retry_at {
            return Ok(());
        }
        match self.wanted.take() {
            None => return Ok(()),
            Some(Rebalance::Revoked { partitions, lost }) => self.revoke(&partitions, lost),
            Some(Rebalance::Assigned(partitions)) => match self.assign(&partitions) {
                Ok(()) => {}
                Err(cause) if cause.is_transient() => {
                    warn!("assignment waits: {cause}");
                    self.wanted = Some(Rebalance::Assigned(partitions));
                    self.retry_at = Instant::now() + RETRY_AFTER;
                    return Ok(());
                }
                Err(cause) => return Err(cause),
            },
        }
        self.shared.metrics.rebalances.with_label_values(&["detect"]).inc();
        self.share_memory();
        Ok(())
    }

    fn assign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let mut starts = Vec::with_capacity(partitions.len());
        for (name, committed) in self.member.committed(partitions)? {
            let (first, end) = self.member.watermarks(&name)?;
            let parked = self.parked.get(&name.1).map(|(assigned, _)| assigned.fetched);
            let from = parked.unwrap_or(first);
            starts.push(Begin { name, from, end, letters_from: committed.unwrap_or(0) });
        }
        let position = |begin: &Begin| (begin.name.clone(), Offset::Offset(begin.from));
        self.member.assign(&starts.iter().map(position).collect::<Vec<_>>())?;
        self.ready = false;
        self.joined = true;
        self.shared.health.not_ready(Role::Detect, cause::CATCH_UP, "catching up");
        self.shared.health.ready(Role::Detect, cause::ASSIGNMENT);
        for begin in starts {
            self.begin(&begin)?;
        }
        if !partitions.is_empty() {
            info!(partitions = partitions.len(), "detect was assigned partitions");
        }
        Ok(())
    }

    /// Goes on with the engine that is parked for a partition, or makes a new one.
    fn begin(&mut self, begin: &Begin) -> Result<(), Error> {
        let partition = begin.name.1;
        let hand = hand_of(partition, self.hands.len());
        if let Some((mut assigned, _)) = self.parked.remove(&partition) {
            assigned.goal = begin.end;
            self.partitions.insert(partition, assigned);
        } else {
            self.epoch += 1;
            let progress = Arc::new(AtomicI64::new(begin.from));
            self.hands[hand].feed.push(Job::Open {
                partition,
                epoch: self.epoch,
                progress: Arc::clone(&progress),
                letters_from: begin.letters_from,
            });
            let lag = self.shared.metrics.lag(Role::Detect, self.topic);
            let (goal, fetched) = (begin.end, begin.from);
            let assigned = Assigned { progress, goal, fetched, read: None, at_end: None, lag };
            self.partitions.insert(partition, assigned);
        }
        if self.hands[hand].feed.is_paused() {
            // A paused worker gets no more work because of a rebalance.
            self.member.pause(std::slice::from_ref(&begin.name))?;
        }
        Ok(())
    }

    /// Lets partitions go. Where the group takes them, once their workers are done with them;
    /// where the session ended (the broker was away), their engines are parked: what an engine has
    /// counted depends on nothing but the log, so it can go on when the partition comes back.
    fn revoke(&mut self, partitions: &[TopicPartition], lost: bool) {
        if lost {
            let until = Instant::now() + PARK_FOR;
            for (_, partition) in partitions {
                if let Some(assigned) = self.partitions.remove(partition) {
                    assigned.lag.records.set_u64(0);
                    assigned.lag.seconds.set_u64(0);
                    self.parked.insert(*partition, (assigned, until));
                }
            }
        } else {
            self.close(partitions);
        }
        self.member.release(partitions);
        info!(partitions = partitions.len(), lost, "detect let partitions go");
    }

    /// Closes engines, waiting for their alerts, and commits how far they came.
    fn close(&mut self, partitions: &[TopicPartition]) {
        let (done, closed) = channel();
        let deadline = Instant::now() + CLOSE_FOR;
        let mut progress = Vec::with_capacity(partitions.len());
        for name in partitions {
            if let Some(assigned) = self.partitions.remove(&name.1) {
                progress.push((name.clone(), assigned.progress));
                let hand = hand_of(name.1, self.hands.len());
                let done = done.clone();
                self.hands[hand].feed.push(Job::Close { partition: name.1, deadline, done });
            }
        }
        let mut waiting = progress.len();
        while waiting > 0 && Instant::now() < deadline {
            for hand in &mut self.hands {
                hand.feed.pressure();
            }
            waiting = waiting.saturating_sub(closed.try_iter().count());
            thread::sleep(Duration::from_millis(1));
        }
        self.commit(progress);
    }

    /// Drops engines whose partitions have not come back.
    pub(super) fn close_parked(&mut self) {
        let now = Instant::now();
        let (done, _) = channel();
        let hands = self.hands.len();
        let gone: Vec<i32> =
            self.parked.iter().filter(|(_, (_, until))| now >= *until).map(|(p, _)| *p).collect();
        for partition in gone {
            self.parked.remove(&partition);
            let done = done.clone();
            let job = Job::Close { partition, deadline: now, done };
            self.hands[hand_of(partition, hands)].feed.push(job);
            self.share_memory();
        }
    }

    /// Every engine gets an equal share of `detect.memory_limit`.
    fn share_memory(&mut self) {
        let engines = (self.partitions.len() + self.parked.len()).max(1) as u64;
        let share = self.shared.config.detect.memory_limit / engines;
        for hand in &mut self.hands {
            hand.feed.push(Job::MemoryLimit(share));
        }
    }

    /// A position is outside of what its partition keeps: says so and goes on at the first message
    /// kept.
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
            if (first..=end).contains(&next) {
                continue;
            }
            if self.keyed.is_some() && next > end {
                // Its offsets begin anew, and the engines know rows by them.
                let (topic, number) = &name;
                self.shared.fail(format!(
                    "keyed input {topic}[{number}] ends at {end}, before offset {next}: it was \
                     truncated or made again, so counting starts anew"
                ));
                return;
            }
            if let Err(cause) = self.member.seek(&name, Offset::Offset(first)) {
                error!("{cause}; trying again");
                self.mend_at = Some(Instant::now() + RETRY_AFTER);
                continue;
            }
            assigned.fetched = first;
            self.shared.publisher.raise(gap(&name, next, first, end));
        }
    }
}
