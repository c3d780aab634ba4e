//! A member of a consumer group whose rebalances are handled by the thread that polls.
//!
//! The callback of librdkafka only notes what is wanted; the group waits, heartbeats going on,
//! until [`Member::assign`] or [`Member::release`] answers. So a drain can take its time between
//! the revocation and the release, and nothing ever waits inside a callback.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{BorrowedMessage, Header, Headers as _, Message as _},
    topic_partition_list::TopicPartitionListElem,
    types::RDKafkaRespErr,
};
use tracing::warn;

use super::{
    Error, RIGHTS,
    client::{self, Context, Notes, Token},
    is_denied, topic_id,
};
use crate::config::KafkaConfig;

/// How long one question to the broker may take before the answer is "not now".
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A partition of a topic.
pub type TopicPartition = (String, i32);

/// An offset that the group has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Next offset.
    pub offset: i64,
    /// What was written beside it; empty where nothing was.
    pub note: String,
}

/// What the group wants of this member. Answer each with `assign` or `release`, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// Take these on.
    Assigned(Vec<TopicPartition>),
    /// Let these go; `lost`: they may already be another member's, so committing is no use.
    Revoked {
        /// Which.
        partitions: Vec<TopicPartition>,
        /// Ownership ended before this notice.
        lost: bool,
    },
}

/// What one poll brought.
#[derive(Debug)]
pub enum Polled<'c> {
    /// A record.
    Record(BorrowedMessage<'c>),
    /// Some partition's position is outside of what its log keeps.
    OutOfRange,
    /// Nothing, or something that was dealt with.
    Nothing,
}

/// A consumer that is a member of a group.
pub struct Member {
    consumer: Arc<BaseConsumer<Listener>>,
    notes: Arc<Notes>,
    group: String,
    /// What is assigned: where reading was told to go last, and whether it is paused.
    held: Mutex<BTreeMap<TopicPartition, (Offset, bool)>>,
}

impl Member {
    /// Joins `group` for `topics`.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn join(
        config: &KafkaConfig,
        client: &str,
        group: &str,
        topics: &[&str],
    ) -> Result<Self, Error> {
        let notes = Notes::new(config, client);
        let listener = Listener {
            context: Context(Arc::clone(&notes)),
            wanted: Mutex::default(),
            leaving: AtomicBool::new(false),
        };
        let failed = |cause| Error::Client { client: client.to_owned(), cause };
        let mut settings = client::consumer(config, client, group);
        if let Some(id) = &config.instance_id {
            settings.set("group.instance.id", id);
        }
        let consumer: BaseConsumer<Listener> =
            settings.create_with_context(listener).map_err(failed)?;
        client::serve_token(&consumer);
        consumer.subscribe(topics).map_err(failed)?;
        let group = group.to_owned();
        Ok(Self { consumer: Arc::new(consumer), notes, group, held: Mutex::default() })
    }

    /// Polls once. Errors that librdkafka gets over by itself are logged by it.
    ///
    /// # Errors
    /// The client is beyond use.
    pub fn poll(&self, timeout: Duration) -> Result<Polled<'_>, Error> {
        use RDKafkaErrorCode as Code;
        // rust-rdkafka waits whole milliseconds, and spins through the rest.
        let millis = u64::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        match self.consumer.poll(Duration::from_millis(millis)) {
            None => Ok(Polled::Nothing),
            Some(Ok(record)) => Ok(Polled::Record(record)),
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                Err(self.notes.set_fatal(code.to_string()))
            }
            Some(Err(cause)) => match cause.rdkafka_error_code() {
                Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Ok(Polled::OutOfRange),
                // librdkafka says it once and tries on; who waits for records would hear nothing.
                Some(code) if is_denied(code) => Err(self.denied(code)),
                _ => match self.notes.fatal() {
                    Some(fatal) => Err(fatal),
                    None => Ok(Polled::Nothing),
                },
            },
        }
    }

    fn denied(&self, code: RDKafkaErrorCode) -> Error {
        if code == RDKafkaErrorCode::GroupAuthorizationFailed {
            let reason = format!("it may not join the group {}: {code}; {RIGHTS}", self.group);
            return self.notes.set_fatal(reason);
        }
        let topics = self.consumer.subscription();
        let topics = topics.map(|list| {
            let elements = list.elements();
            let names: Vec<&str> = elements.iter().map(TopicPartitionListElem::topic).collect();
            names.join(", ")
        });
        // An error of a poll does not say which.
        let topics = topics.unwrap_or_default();
        self.notes.set_fatal(format!("it may not read (one of) {topics}: {code}; {RIGHTS}"))
    }

    /// The next thing the group wants, if any.
    #[must_use]
    pub fn wanted(&self) -> Option<Rebalance> {
        self.consumer.context().wanted.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Answers `Assigned`: reading starts at the given offsets.
    ///
    /// # Errors
    /// librdkafka refused, or did not take what it was given.
    pub fn assign(&self, positions: &[(TopicPartition, Offset)]) -> Result<(), Error> {
        let list = positions_list(positions)?;
        let doing = || Error::call("cannot take on the assigned partitions");
        match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(&list),
            _ => self.consumer.assign(&list),
        }
        .map_err(doing())?;
        // rust-rdkafka drops some errors of an assignment, so what holds is looked up.
        let held = self.consumer.assignment().map_err(doing())?.to_topic_map();
        for (partition, _) in positions {
            if !held.contains_key(partition) {
                let cause = KafkaError::Rebalance(RDKafkaErrorCode::UnknownPartition);
                return Err(Error::call(format!(
                    "{}[{}] was assigned, but not taken on",
                    partition.0, partition.1
                ))(cause));
            }
        }
        let taken =
            positions.iter().map(|(partition, offset)| (partition.clone(), (*offset, false)));
        self.held().extend(taken);
        Ok(())
    }

    /// Whether single partitions can be let go and taken on, the others staying.
    #[must_use]
    pub fn is_cooperative(&self) -> bool {
        matches!(self.consumer.rebalance_protocol(), RebalanceProtocol::Cooperative)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, (Offset, bool)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers `Revoked`.
    pub fn release(&self, partitions: &[TopicPartition]) {
        let list = partitions_list(partitions);
        let released = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_unassign(&list),
            _ => self.consumer.unassign(),
        };
        if let Err(cause) = released {
            warn!("partitions were not let go cleanly: {cause}");
        }
        self.held().retain(|partition, _| !partitions.contains(partition));
    }

    /// Offsets committed for `partitions`; `None` where there is none.
    ///
    /// # Errors
    /// The coordinator does not answer.
    pub fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Option<Committed>)>, Error> {
        let found = self
            .consumer
            .committed_offsets(partitions_list(partitions), CALL_TIMEOUT)
            .map_err(Error::call("cannot read the group's offsets"))?;
        let mut committed = Vec::with_capacity(found.count());
        for element in found.elements() {
            element.error().map_err(Error::call("cannot read the group's offsets"))?;
            let found = match element.offset() {
                Offset::Offset(offset) => {
                    Some(Committed { offset, note: element.metadata().to_owned() })
                }
                _ => None,
            };
            committed.push(((element.topic().to_owned(), element.partition()), found));
        }
        Ok(committed)
    }

    /// Commits offsets and the notes beside them. `wait`: until the coordinator has answered.
    ///
    /// # Errors
    /// It was refused; nothing is lost, what is not committed is read again.
    pub fn commit(
        &self,
        positions: &[(TopicPartition, Committed)],
        wait: bool,
    ) -> Result<(), Error> {
        if positions.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for ((topic, partition), Committed { offset, note }) in positions {
            list.add_partition(topic, *partition).set_metadata(note);
            list.set_partition_offset(topic, *partition, Offset::Offset(*offset))
                .map_err(Error::call("cannot commit"))?;
        }
        let mode = if wait { CommitMode::Sync } else { CommitMode::Async };
        self.consumer.commit(&list, mode).map_err(Error::call("cannot commit offsets"))
    }

    /// Stops fetching these partitions.
    ///
    /// # Errors
    /// librdkafka refused.
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.consumer.pause(&partitions_list(partitions)).map_err(Error::call("cannot pause"))?;
        self.note_paused(partitions, true);
        Ok(())
    }

    /// Goes on fetching them.
    ///
    /// # Errors
    /// librdkafka refused.
    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.consumer.resume(&partitions_list(partitions)).map_err(Error::call("cannot resume"))?;
        self.note_paused(partitions, false);
        Ok(())
    }

    fn note_paused(&self, partitions: &[TopicPartition], is_paused: bool) {
        let mut held = self.held();
        for partition in partitions {
            if let Some((_, paused)) = held.get_mut(partition) {
                *paused = is_paused;
            }
        }
    }

    /// Moves the position of an assigned partition. One that librdkafka has stopped, because its
    /// position was out of range, cannot be sought in; it is assigned anew instead.
    ///
    /// # Errors
    /// The partition is not assigned, or the broker does not answer.
    pub fn seek(&self, partition: &TopicPartition, offset: Offset) -> Result<(), Error> {
        let (topic, number) = partition;
        if self.consumer.seek(topic, *number, offset, CALL_TIMEOUT).is_err() {
            let doing = || Error::call(format!("cannot go to {offset:?} in {topic}[{number}]"));
            match self.consumer.rebalance_protocol() {
                RebalanceProtocol::Cooperative => {
                    let list = positions_list(&[(partition.clone(), offset)])?;
                    self.consumer.incremental_unassign(&list).map_err(doing())?;
                    self.consumer.incremental_assign(&list).map_err(doing())?;
                }
                _ => self.assign_all_anew(partition, offset).map_err(doing())?,
            }
            // An assignment is never paused to begin with.
            let held = self.held().clone();
            let paused = held.into_iter().filter(|(_, (_, paused))| *paused).map(|(it, _)| it);
            self.pause(&paused.collect::<Vec<_>>())?;
        }
        if let Some((told, _)) = self.held().get_mut(partition) {
            *told = offset;
        }
        Ok(())
    }

    /// An eager group knows no assignment but a whole one: all others go on where they are.
    fn assign_all_anew(&self, moved: &TopicPartition, to: Offset) -> KafkaResult<()> {
        let list = self.consumer.position()?;
        for ((topic, number), (told, _)) in &mut *self.held() {
            let Some(mut at) = list.find_partition(topic, *number) else { continue };
            match at.offset() {
                _ if (topic, number) == (&moved.0, &moved.1) => at.set_offset(to)?,
                // The next time nothing may have been read since.
                read @ Offset::Offset(_) => *told = read,
                _ => at.set_offset(*told)?,
            }
        }
        self.consumer.assign(&list)
    }

    /// First kept and next offset of a partition.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn watermarks(&self, partition: &TopicPartition) -> Result<(i64, i64), Error> {
        self.consumer.fetch_watermarks(&partition.0, partition.1, CALL_TIMEOUT).map_err(
            Error::call(format!("cannot read the bounds of {}[{}]", partition.0, partition.1)),
        )
    }

    /// Offset of the first record at or after a time; the end when there is none.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn offset_at(&self, partition: &TopicPartition, time_ms: i64) -> Result<i64, Error> {
        let doing =
            || Error::call(format!("cannot look up a time in {}[{}]", partition.0, partition.1));
        // librdkafka takes the time in the place of the offset, and no negative one.
        let times = positions_list(&[(partition.clone(), Offset::Offset(time_ms.max(0)))])?;
        let found = self.consumer.offsets_for_times(times, CALL_TIMEOUT).map_err(doing())?;
        match found.find_partition(&partition.0, partition.1).map(|element| element.offset()) {
            Some(Offset::Offset(offset)) => Ok(offset),
            _ => Ok(self.watermarks(partition)?.1),
        }
    }

    /// The id of a topic; empty from a broker too old to have ids.
    ///
    /// # Errors
    /// The broker does not answer, or the topic is gone.
    pub fn topic_id(&self, topic: &str) -> Result<String, Error> {
        let id = topic_id::topic_id(self.consumer.client(), topic, CALL_TIMEOUT)
            .map_err(Error::call(format!("cannot look up the id of `{topic}`")))?;
        Ok(id.unwrap_or_default())
    }

    /// Commits that nobody waited for and that were refused, since the last call.
    #[must_use]
    pub fn take_failed_commits(&self) -> u64 {
        self.notes.take_failed_commits()
    }

    /// The newest lag report, once.
    #[must_use]
    pub fn take_statistics(&self) -> Option<Statistics> {
        self.notes.take_statistics()
    }

    /// For another thread that must know whether a partition is still ours.
    #[must_use]
    pub fn witness(&self) -> Witness {
        Witness(Arc::downgrade(&self.consumer))
    }

    /// Leaves the group. Closing can block without bound (rust-rdkafka 509), so it has a thread
    /// and a deadline; true when it was done in time.
    #[must_use]
    pub fn leave(self, deadline: Instant) -> bool {
        self.consumer.context().leaving.store(true, Ordering::Release);
        while let Some(unanswered) = self.wanted() {
            let (Rebalance::Assigned(partitions) | Rebalance::Revoked { partitions, .. }) =
                unanswered;
            self.release(&partitions);
        }
        let closer = thread::Builder::new().name("leave".to_owned()).spawn(move || drop(self));
        let Ok(closer) = closer else { return false };
        while !closer.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        closer.join().is_ok()
    }
}

/// Asks the group on behalf of a [`Member`], as long as there is one.
pub struct Witness(Weak<BaseConsumer<Listener>>);

impl Witness {
    /// Commits an offset with our generation and waits for the answer: the group takes it from the
    /// owner of the partition only.
    ///
    /// # Errors
    /// The partition is not ours any more, or the group does not answer.
    pub fn confirm(&self, (topic, partition): &TopicPartition, offset: i64) -> Result<(), Error> {
        let doing = || Error::call(format!("{topic}[{partition}] is perhaps not ours any more"));
        let gone = || KafkaError::ConsumerCommit(RDKafkaErrorCode::UnknownMemberId);
        let consumer = self.0.upgrade().ok_or_else(gone).map_err(doing())?;
        if consumer.assignment_lost() {
            return Err(doing()(gone()));
        }
        let list = positions_list(&[((topic.clone(), *partition), Offset::Offset(offset))])?;
        consumer.commit(&list, CommitMode::Sync).map_err(doing())
    }
}

/// Headers of a record by name; an absent value is an empty one. rust-rdkafka panics on a name
/// that is no UTF-8: such a record has no headers for us, and is read like any other.
#[must_use]
pub fn headers<'m>(message: &'m BorrowedMessage<'_>) -> Vec<(&'m str, &'m [u8])> {
    let read = || {
        let headers = message.headers()?.iter();
        let named = |header: Header<'m, &'m [u8]>| (header.key, header.value.unwrap_or_default());
        Some(headers.map(named).collect())
    };
    // Nothing is shared across it.
    std::panic::catch_unwind(AssertUnwindSafe(read)).ok().flatten().unwrap_or_default()
}

/// `partitions` as librdkafka wants them.
#[must_use]
pub fn partitions_list(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

fn positions_list(positions: &[(TopicPartition, Offset)]) -> Result<TopicPartitionList, Error> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for ((topic, partition), offset) in positions {
        list.add_partition_offset(topic, *partition, *offset)
            .map_err(Error::call(format!("cannot start {topic}[{partition}] at {offset:?}")))?;
    }
    Ok(list)
}

struct Listener {
    context: Context,
    wanted: Mutex<VecDeque<Rebalance>>,
    /// Nobody polls any more: closing answers for itself.
    leaving: AtomicBool,
}

impl ClientContext for Listener {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, settings: Option<&str>) -> Token {
        self.context.generate_oauth_token(settings)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.context.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }
}

impl ConsumerContext for Listener {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        if self.leaving.load(Ordering::Acquire) {
            // What was ours is drained and committed by now.
            let _ = consumer.unassign();
            return;
        }
        let partitions = list
            .elements()
            .iter()
            .map(|element| (element.topic().to_owned(), element.partition()))
            .collect();
        let wanted = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assigned(partitions),
            _ => Rebalance::Revoked { partitions, lost: consumer.assignment_lost() },
        };
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).push_back(wanted);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(cause) = result {
            // What is not committed is read again and recognised by its identity (D1).
            match cause.rdkafka_error_code() {
                Some(RDKafkaErrorCode::NoOffset) | None => {}
                Some(code) => {
                    self.context.0.note_failed_commit();
                    warn!("offsets were not committed: {code}");
                }
            }
        }
    }
}
