//! Detect: one thread polls the events topic and hands whole messages to workers; each worker
//! alone owns the engines of its partitions.
//!
//! A partition goes on from its checkpoint (D2), at the offset that this covers; without one it is
//! read from its first kept message. Rows that come twice are known by their identity (D1). Offsets
//! are committed only so that others can see the lag, and whether there was a checkpoint ever.
//!
//! Never here: applying a row, waiting in a callback.

pub mod feed;
mod gauges;
pub mod keyed;
mod progress;
mod rebalance;
mod restore;
mod store;
mod worker;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rdkafka::{Message as _, Statistics, Timestamp, message::BorrowedMessage};
use tracing::{info, warn};

use self::{
    feed::{Feed, Pressure, ring},
    keyed::{Envelope, Keyed, Seen},
    progress::Progress,
    rebalance::Opening,
    store::{Overtaken, Store},
    worker::{Job, Worker},
};
use super::{STUCK_AFTER, Shared, busy::Busy, cause, clock, ingest::MARK_AFTER, outage::Outage};
use crate::{
    config::Input,
    kafka::{
        Error,
        client::fetch_fill,
        group::{Committed, Member, Polled, Rebalance, TopicPartition, headers},
    },
    metrics::{LagMetrics, Part, Role},
    units::EventTime,
};

/// Messages handed over before the other duties of the loop get their turn.
const STEP_MESSAGES: usize = 256;
/// How long the loop sleeps where a worker is full.
const FULL_WAIT: Duration = Duration::from_millis(1);
/// How long the loop sleeps in a poll.
const IDLE_POLL: Duration = Duration::from_millis(20);
/// Between rounds of lag, commits and metrics.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// Between questions the broker did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs detect until the process is told to stop, then drains.
///
/// # Errors
/// A client is beyond use, or alerts were left undelivered.
pub fn run(shared: &Arc<Shared>) -> anyhow::Result<()> {
    let config = &shared.config;
    // Its series is there before anything is assigned: it says that the role is.
    drop(shared.metrics.partitions_assigned.part(&[Role::Detect.as_str()]));
    let group = format!("{}-detect", config.kafka.group_id);
    // A keyed input is the only input, and read in the place of the events topic.
    let (keyed, topic) = (config.keyed_input(), config.read_by_detect());
    let member = Member::join(&config.kafka, "detect", &group, &[topic])?;
    shared.wait_for_assignment(Role::Detect);
    let Some(topic_id) = wait_for_id(shared, &member, topic)? else { return Ok(()) };
    let partitions = match keyed {
        Some(input) => shared.cluster.inputs.get(&input.topic).copied().unwrap_or_default(),
        None => shared.cluster.events_partitions,
    };
    let (sender, overtaken) = channel();
    let witness = member.witness();
    let (store, keeper) = Store::start(shared, topic, &topic_id, partitions, witness, sender)?;
    let store = (store, overtaken);
    let outcome = Detect::new(shared, &member, (topic, &topic_id), keyed, store)?.run();
    // Its clients must be gone before the member leaves, but a stuck broker must not hold us. After
    // a failure workers may still hold it, and nothing is left to be kept.
    let until = shared.deadline();
    while outcome.is_ok() && !keeper.is_finished() && Instant::now() < until {
        thread::sleep(Duration::from_millis(5));
    }
    if !member.leave(shared.deadline()) {
        warn!("detect did not leave its group in time; the group will notice by itself");
    }
    outcome
}

/// One worker and the way to it.
struct Hand {
    feed: Feed<Job>,
    thread: JoinHandle<usize>,
    fill: Part,
}

/// One assignment of an events partition.
struct Assigned {
    /// Number of the assignment.
    epoch: u64,
    progress: Arc<Progress>,
    /// Next offset of the partition when it was assigned: caught up means past it.
    goal: i64,
    /// Offset after the message handed over last.
    fetched: i64,
    /// Broker time of the message handed over last.
    read: Option<EventTime>,
    /// Since when, or since which mark, it has been at its end.
    at_end: Option<Instant>,
    lag: LagMetrics,
}

/// See the module.
struct Detect<'c> {
    shared: &'c Arc<Shared>,
    member: &'c Member,
    /// What is read: the events topic, or a keyed input.
    topic: &'c str,
    /// Tells it from another that was made under the same name.
    topic_id: &'c str,
    keyed: Option<&'c Input>,
    hands: Vec<Hand>,
    partitions: BTreeMap<i32, Assigned>,
    store: Store,
    /// Partitions that must be taken on again.
    overtaken: Receiver<Overtaken>,
    /// Partitions that were assigned and are being restored.
    opening: Option<Opening>,
    /// Assignments so far; tells one from the next.
    epoch: u64,
    /// What is to be done before anything else that the group wants.
    wanted: VecDeque<Rebalance>,
    retry_at: Instant,
    /// When positions out of range are looked at.
    mend_at: Option<Instant>,
    round_at: Instant,
    assigned: Part,
    paused: Part,
    fetch_fill: Part,
    /// The group has answered at least once; a member may well get no partition.
    joined: bool,
    ready: bool,
    outage: Outage,
    busy: Busy,
}

impl<'c> Detect<'c> {
    fn new(
        shared: &'c Arc<Shared>,
        member: &'c Member,
        (topic, topic_id): (&'c str, &'c str),
        keyed: Option<&'c Input>,
        (store, overtaken): (Store, Receiver<Overtaken>),
    ) -> anyhow::Result<Self> {
        let threads = match shared.config.detect.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let seen = Arc::new(Seen::default());
        let keyed_as = keyed.map(|input| (input, topic_id));
        let hands: anyhow::Result<Vec<Hand>> =
            (0..threads).map(|number| hand(shared, number, keyed_as, &seen, &store)).collect();
        let now = Instant::now();
        Ok(Self {
            shared,
            member,
            topic,
            topic_id,
            keyed,
            hands: hands?,
            partitions: BTreeMap::new(),
            store,
            overtaken,
            opening: None,
            epoch: 0,
            wanted: VecDeque::new(),
            retry_at: now,
            mend_at: None,
            round_at: now,
            assigned: shared.metrics.partitions_assigned.part(&["detect"]),
            paused: shared.metrics.partitions_paused.part(&["detect", "backpressure"]),
            fetch_fill: shared.metrics.queue_fill.part(&["fetch"]),
            joined: false,
            ready: false,
            outage: Outage::default(),
            busy: Busy::new(&shared.metrics, Role::Detect, "poll"),
        })
    }

    fn run(mut self) -> anyhow::Result<()> {
        let heart = self.shared.health.heartbeat("detect", STUCK_AFTER);
        while !self.shared.stopping() {
            heart.beat();
            self.fetch()?;
            if self.mend_at.is_some_and(|at| Instant::now() >= at) {
                self.mend_gaps();
            }
            self.rebalance()?;
            self.relieve();
            self.keep_up()?;
        }
        self.finish()
    }

    fn fetch(&mut self) -> Result<(), Error> {
        if self.hands.iter().any(|hand| hand.feed.is_waiting()) {
            self.busy.idle(|| thread::sleep(FULL_WAIT));
            return Ok(());
        }
        let mut timeout = IDLE_POLL;
        for _ in 0..STEP_MESSAGES {
            match self.busy.idle_for(timeout, || self.member.poll(timeout))? {
                Polled::Record(message) => self.hand_over(&message),
                Polled::OutOfRange => self.mend_at = Some(Instant::now()),
                Polled::Nothing => break,
            }
            timeout = Duration::ZERO;
        }
        Ok(())
    }

    fn hand_over(&mut self, message: &BorrowedMessage<'_>) {
        let partition = message.partition();
        let Some(assigned) = self.partitions.get_mut(&partition) else { return };
        let broker_time = broker_time(message.timestamp(), clock::now());
        assigned.fetched = message.offset() + 1;
        assigned.at_end = None;
        assigned.read = Some(broker_time);
        let job = Job::Message {
            partition,
            offset: message.offset(),
            broker_time,
            payload: message.payload().unwrap_or_default().to_vec(),
            envelope: self.keyed.is_some().then(|| envelope(message)),
        };
        let hand = hand_of(partition, self.hands.len());
        self.hands[hand].feed.push(job);
    }

    /// Waits for workers that are full, pauses their partitions when that takes long, resumes those
    /// of workers with room.
    fn relieve(&mut self) {
        let (hands, now) = (self.hands.len(), Instant::now());
        for number in 0..hands {
            let pressure = self.hands[number].feed.pressure(now);
            if matches!(pressure, Pressure::Steady | Pressure::Wait) {
                continue;
            }
            let mine = self.partitions.keys().filter(|one| hand_of(**one, hands) == number);
            let mine: Vec<TopicPartition> = mine.map(|one| self.name(*one)).collect();
            let done = match pressure {
                Pressure::Pause => self.member.pause(&mine),
                _ => self.member.resume(&mine),
            };
            if let Err(cause) = done {
                warn!("{cause}");
            }
        }
    }

    fn name(&self, partition: i32) -> TopicPartition {
        (self.topic.to_owned(), partition)
    }

    /// Lag, readiness, commits, about once a second.
    fn keep_up(&mut self) -> Result<(), Error> {
        if let Some(statistics) = self.member.take_statistics() {
            self.shared.note_brokers(Role::Detect, &statistics, &mut self.outage);
            self.publish_lag(&statistics);
            self.fetch_fill.set(fetch_fill(&self.shared.config.kafka, &statistics));
        }
        self.check_ready();
        if self.round_at.elapsed() < ROUND_EVERY {
            return Ok(());
        }
        self.round_at = Instant::now();
        if self.keyed.is_some() {
            self.mark_time();
        }
        let paused = |partition: &i32| {
            u64::from(self.hands[hand_of(*partition, self.hands.len())].feed.is_paused())
        };
        self.paused.set_u64(self.partitions.keys().map(paused).sum());
        self.assigned.set_u64(self.partitions.len() as u64);
        for hand in &self.hands {
            hand.fill.set(hand.feed.fill());
        }
        self.commit(self.progress());
        for hand in &self.hands {
            if hand.thread.is_finished() {
                let reason = "a worker thread panicked".to_owned();
                return Err(Error::Fatal { client: "detect".to_owned(), reason });
            }
        }
        self.shared.publisher.pump()
    }

    fn progress(&self) -> Vec<(TopicPartition, Arc<Progress>)> {
        let partitions = self.partitions.iter();
        partitions.map(|(one, at)| (self.name(*one), Arc::clone(&at.progress))).collect()
    }

    /// Commits what was applied, for whoever watches the group; nothing starts from it.
    fn commit(&self, partitions: Vec<(TopicPartition, Arc<Progress>)>) {
        let applied = partitions.into_iter();
        let applied: Vec<(TopicPartition, Committed)> =
            applied.map(|(name, progress)| (name, progress.committed())).collect();
        if applied.is_empty() {
            return;
        }
        let result = match self.member.commit(&applied, false) {
            Ok(()) => "ok",
            Err(cause) => {
                warn!("{cause}");
                "failed"
            }
        };
        let commits = &self.shared.metrics.commits;
        commits.with_label_values(&["detect", result]).inc();
        commits.with_label_values(&["detect", "failed"]).inc_by(self.member.take_failed_commits());
    }

    fn check_ready(&mut self) {
        if self.ready || !self.joined {
            return;
        }
        let behind: i64 = self.partitions.values().map(Assigned::behind).sum();
        if behind == 0 {
            self.ready = true;
            self.shared.health.ready(Role::Detect, cause::CATCH_UP);
        } else {
            let why = format!("catching up, {behind} messages behind the start");
            self.shared.health.not_ready(Role::Detect, cause::CATCH_UP, why);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "an age in ms is far below 2^53")]
    fn publish_lag(&mut self, statistics: &Statistics) {
        let Some(topic) = statistics.topics.get(self.topic) else { return };
        let now_ms = clock::now().millis();
        for (partition, assigned) in &mut self.partitions {
            let Some(found) = topic.partitions.get(partition) else { continue };
            // A transaction under way ends what may be read; below 0 is "not known".
            let end = match found.ls_offset {
                stable if stable >= 0 => found.hi_offset.min(stable),
                _ => found.hi_offset,
            };
            let next = assigned.progress.next();
            // Control records of transactions are skipped by librdkafka, not by us.
            let fetched_all = end >= 0 && found.next_offset >= end && found.fetchq_cnt == 0;
            let applied_all = fetched_all && next >= assigned.fetched;
            if applied_all && end >= assigned.goal {
                assigned.goal = assigned.goal.min(next);
            }
            let records = if applied_all { 0 } else { (end - next).max(0) };
            assigned.lag.records.set_u64(u64::try_from(records).unwrap_or(0));
            let age_ms = assigned.read.filter(|_| records > 0).map(|read| now_ms - read.millis());
            assigned.lag.seconds.set(age_ms.unwrap_or(0).max(0) as f64 / 1000.0);
            let at_end = end >= 0 && records == 0;
            assigned.at_end = assigned.at_end.filter(|_| at_end).or(at_end.then(Instant::now));
        }
    }

    /// Nobody writes time marks into a keyed input, so the reader makes them (W6).
    fn mark_time(&mut self) {
        for (partition, assigned) in &mut self.partitions {
            if self.outage.is_on() {
                assigned.at_end = None;
                continue;
            }
            if assigned.at_end.is_some_and(|since| since.elapsed() >= MARK_AFTER) {
                assigned.at_end = Some(Instant::now());
                let hand = hand_of(*partition, self.hands.len());
                let job = Job::Mark { partition: *partition, at: clock::now() };
                self.hands[hand].feed.push(job);
            }
        }
    }

    /// Applies what was fetched, delivers what was decided.
    fn finish(mut self) -> anyhow::Result<()> {
        info!("detect drains");
        self.shared.health.not_ready(Role::Detect, cause::STOPPING, "stopping");
        let deadline = self.shared.deadline();
        for hand in &mut self.hands {
            hand.feed.push(Job::Stop);
        }
        while self.hands.iter().any(|hand| !hand.thread.is_finished()) {
            for hand in &mut self.hands {
                hand.feed.pressure(Instant::now());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "detect stopped with messages not applied; they are read again at the next start"
            );
            thread::sleep(Duration::from_millis(1));
        }
        self.commit(self.progress());
        let mut left = 0;
        for hand in self.hands {
            left += hand.thread.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
        }
        anyhow::ensure!(
            left == 0,
            "detect stopped with {left} alerts undelivered; they are found again at the next start"
        );
        Ok(())
    }
}

/// The id of a topic, asked for until the broker answers; none when told to stop meanwhile.
fn wait_for_id(shared: &Shared, member: &Member, topic: &str) -> Result<Option<String>, Error> {
    while !shared.stopping() {
        match shared.topic_id(member, topic) {
            Err(cause) if cause.is_transient() => warn!("{cause}"),
            done => return done.map(Some),
        }
        thread::sleep(RETRY_AFTER);
    }
    Ok(None)
}

/// The time W4 stands on. A time that the writer chose is not trusted to lie in the future.
fn broker_time(timestamp: Timestamp, now: EventTime) -> EventTime {
    match timestamp {
        Timestamp::LogAppendTime(ms) => EventTime::from_millis(ms),
        Timestamp::CreateTime(ms) => EventTime::from_millis(ms).min(now),
        Timestamp::NotAvailable => now,
    }
}

/// What a dead letter keeps of a record besides its value.
fn envelope(message: &BorrowedMessage<'_>) -> Envelope {
    let headers = headers(message).into_iter();
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    let key = message.key().map(<[u8]>::to_vec);
    Envelope { key, headers, null: message.payload().is_none() }
}

impl Assigned {
    /// Messages that were there at the assignment and are not applied yet.
    fn behind(&self) -> i64 {
        (self.goal - self.progress.next()).max(0)
    }
}

/// The worker of a partition.
fn hand_of(partition: i32, hands: usize) -> usize {
    usize::try_from(partition).unwrap_or(0) % hands
}

fn hand(
    shared: &Arc<Shared>,
    number: usize,
    keyed: Option<(&Input, &str)>,
    seen: &Arc<Seen>,
    store: &Store,
) -> anyhow::Result<Hand> {
    let (mut feed, inbox) = ring(shared.config.detect.queue_bytes);
    let keyed = keyed.map(|(input, id)| Keyed::new(shared, input, id, Arc::clone(seen)));
    let keyed = keyed.transpose()?;
    let name = format!("detect-{number}");
    let busy = Busy::new(&shared.metrics, Role::Detect, &format!("worker-{number}"));
    let worker = Worker::new(Arc::clone(shared), inbox, keyed, store.clone(), busy);
    let heart = shared.health.heartbeat(&*name, STUCK_AFTER);
    let thread = thread::Builder::new().name(name).spawn(move || worker.run(&heart))?;
    feed.set_worker(thread.thread().clone());
    Ok(Hand { feed, thread, fill: shared.metrics.queue_fill.part(&["ring"]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_a_writer_chose_is_never_in_the_future() {
        let now = EventTime::from_millis(1000);
        let of = |timestamp| broker_time(timestamp, now).millis();
        assert_eq!(of(Timestamp::CreateTime(5000)), 1000);
        assert_eq!(of(Timestamp::CreateTime(500)), 500);
        assert_eq!(of(Timestamp::LogAppendTime(1001)), 1001, "the broker's clock is the truth");
        assert_eq!(of(Timestamp::NotAvailable), 1000);
    }
}
