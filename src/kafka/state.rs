//! The state topic: writing a checkpoint in one transaction, if need be with alerts (D4), reading
//! records back.
//!
//! One transactional id a partition (D6): whoever claims a partition fences the owner before, and
//! what that one had open is aborted before the claim returns. So a reader that claims first sees
//! no record that could still appear or vanish. Never here: what a record means.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders, ToBytes},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig},
};

use super::{
    Error,
    client::{self, Context, Notes, Token},
    producer::{Message, poll_after},
};
use crate::{
    checkpoint::{Draft, Record},
    config::KafkaConfig,
};

/// A transaction that its owner left open blocks readers no longer than this, should nobody claim
/// the partition.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// A claim waits this long for the coordinator.
const CLAIM_FOR: Duration = Duration::from_secs(20);
/// An abort is a courtesy: the next claim does it again.
const ABORT_FOR: Duration = Duration::from_secs(3);
/// Between polls for acknowledgements. rust-rdkafka's own flush blocks for 100 ms a transaction.
const POLL: Duration = Duration::from_millis(1);
/// How long one question to the broker may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A record that was written is read within this time, or the read has failed.
const READ_FOR: Duration = Duration::from_secs(30);
/// How long the broker waits for more at the end of a partition.
const END_WAIT_MS: &str = "10";
/// Fetched records waiting in a reader, KiB: many partitions may be read at once.
const FETCH_QUEUE_KIB: &str = "8192";
/// Records before the end in which manifests are looked for first; each further look goes eight
/// times as far back.
const TAIL_RECORDS: i64 = 64;
/// Gaps up to this many offsets are read over; larger ones are jumped.
const READ_OVER: i64 = 256;

/// Writes the checkpoints of one partition.
pub struct StateWriter {
    producer: BaseProducer<Offsets>,
    topic: String,
    partition: i32,
}

impl StateWriter {
    /// Makes the partition ours. When this returns, earlier owners can commit nothing any more.
    ///
    /// # Errors
    /// A setting is wrong, or the coordinator does not answer.
    pub fn claim(config: &KafkaConfig, topic: &str, partition: i32) -> Result<Self, Error> {
        let id = format!("{}-{topic}-{partition}", config.transactional_id_prefix);
        let mut settings: ClientConfig = client::producer(config, "state", false);
        settings.set("transactional.id", &id);
        settings.set("statistics.interval.ms", "0");
        settings.set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string());
        // A transaction bounds the life of a message; a time-out of 0 is refused with one.
        settings.set("message.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string());
        let context =
            Offsets { context: Context(Notes::new(config, "state")), found: Arc::default() };
        let producer: BaseProducer<Offsets> = settings
            .create_with_context(context)
            .map_err(|cause| Error::Client { client: "state".to_owned(), cause })?;
        // The question of a token, see `client::serve_token`.
        producer.poll(Duration::ZERO);
        producer
            .init_transactions(CLAIM_FOR)
            .map_err(Error::call(format!("cannot claim {topic}[{partition}]")))?;
        Ok(Self { producer, topic: topic.to_owned(), partition })
    }

    /// Writes a checkpoint and `alerts`, all of it or nothing, before `deadline`.
    ///
    /// # Errors
    /// The writer is of no more use, and it is not known whether anything was written.
    pub fn commit(
        &self,
        draft: &mut Draft,
        alerts: &[Message<'_>],
        deadline: Instant,
    ) -> Result<(), Error> {
        let doing = || Error::call(format!("cannot write to {}[{}]", self.topic, self.partition));
        let committed = self.transact(draft, alerts, deadline);
        if committed.is_err() {
            self.producer.purge(PurgeConfig::default().queue().inflight());
            let _ = self.producer.abort_transaction(ABORT_FOR);
        }
        committed.map_err(doing())
    }

    fn transact(
        &self,
        draft: &mut Draft,
        alerts: &[Message<'_>],
        deadline: Instant,
    ) -> Result<(), KafkaError> {
        self.producer.context().reset();
        self.producer.begin_transaction()?;
        for alert in alerts {
            self.send_alert(alert, deadline)?;
        }
        let records = draft.records().map(|(key, value)| (key, Some(value)));
        let offsets = self.send(records, deadline)?;
        let rest: Vec<Record> = draft.seal(&offsets);
        let records = rest.iter().map(|record| (record.key.as_str(), record.value.as_deref()));
        self.send(records, deadline)?;
        loop {
            match self
                .producer
                .commit_transaction(deadline.saturating_duration_since(Instant::now()))
            {
                Err(KafkaError::Transaction(cause))
                    if cause.is_retriable() && Instant::now() < deadline => {}
                done => return done,
            }
        }
    }

    /// Queues an alert. That it failed shows when its transaction ends.
    fn send_alert(&self, alert: &Message<'_>, deadline: Instant) -> Result<(), KafkaError> {
        let mut headers = OwnedHeaders::new_with_capacity(alert.headers.len());
        for (key, value) in &alert.headers {
            headers = headers.insert(Header { key, value: Some(*value) });
        }
        let mut record: BaseRecord<'_, [u8], [u8], Box<Option<usize>>> =
            BaseRecord::with_opaque_to(alert.topic, Box::new(None)).headers(headers);
        record.partition = alert.partition;
        record.key = alert.key;
        record.payload = alert.payload;
        self.queue(record, deadline)
    }

    /// Hands a record over, waiting while the queue is full.
    fn queue<K: ToBytes + ?Sized>(
        &self,
        mut record: BaseRecord<'_, K, [u8], Box<Option<usize>>>,
        deadline: Instant,
    ) -> Result<(), KafkaError> {
        while let Err((cause, refused)) = self.producer.send(record) {
            if cause.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(cause);
            }
            in_time(deadline)?;
            poll_after(&self.producer, POLL);
            record = refused;
        }
        Ok(())
    }

    /// Sends records and waits for their offsets.
    fn send<'r>(
        &self,
        records: impl Iterator<Item = (&'r str, Option<&'r [u8]>)>,
        deadline: Instant,
    ) -> Result<Vec<i64>, KafkaError> {
        let context = self.producer.context();
        let mut sent = 0;
        for (key, value) in records {
            let mut record: BaseRecord<'_, str, [u8], Box<Option<usize>>> =
                BaseRecord::with_opaque_to(&self.topic, Box::new(Some(sent)));
            record = record.key(key).partition(self.partition);
            record.payload = value;
            self.queue(record, deadline)?;
            sent += 1;
        }
        while self.producer.in_flight_count() > 0 {
            in_time(deadline)?;
            poll_after(&self.producer, POLL);
        }
        // A report may be queued when nothing is in flight any more.
        self.producer.poll(Duration::ZERO);
        context.take(sent)
    }
}

fn in_time(deadline: Instant) -> Result<(), KafkaError> {
    if Instant::now() < deadline {
        return Ok(());
    }
    Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut))
}

/// Offsets of the records sent last, by their order.
#[derive(Default)]
struct Found {
    offsets: Vec<(usize, i64)>,
    failed: Option<KafkaError>,
}

struct Offsets {
    context: Context,
    found: Arc<Mutex<Found>>,
}

impl Offsets {
    fn reset(&self) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Found::default();
    }

    fn take(&self, sent: usize) -> Result<Vec<i64>, KafkaError> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let Found { mut offsets, failed } = std::mem::take(&mut *found);
        if let Some(cause) = failed {
            return Err(cause);
        }
        offsets.sort_unstable();
        let whole = offsets.len() == sent && offsets.iter().all(|(_, offset)| *offset >= 0);
        if !whole {
            return Err(KafkaError::MessageProduction(RDKafkaErrorCode::Fail));
        }
        Ok(offsets.into_iter().map(|(_, offset)| offset).collect())
    }
}

impl ClientContext for Offsets {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, settings: Option<&str>) -> Token {
        self.context.generate_oauth_token(settings)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }
}

impl ProducerContext for Offsets {
    /// Place among the records whose offsets are asked for; none for an alert.
    type DeliveryOpaque = Box<Option<usize>>;

    fn delivery(&self, result: &DeliveryResult<'_>, place: Box<Option<usize>>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match (result, *place) {
            (Ok(message), Some(place)) => found.offsets.push((place, message.offset())),
            (Ok(_), None) => {}
            (Err((cause, _)), _) => found.failed = Some(cause.clone()),
        }
    }
}

/// A record of a state partition, as it was read.
#[derive(Clone, Debug)]
pub struct StateRecord {
    /// Where.
    pub offset: i64,
    /// Key, empty if it has none.
    pub key: String,
    /// Value; none deletes the key.
    pub value: Option<Vec<u8>>,
}

/// Reads one partition of the state topic, committed records only.
pub struct StateReader {
    consumer: BaseConsumer<Context>,
    topic: String,
    partition: i32,
    /// First kept offset and the next one that will be written.
    bounds: (i64, i64),
    /// Offset that the next poll gives, or one after it.
    position: Option<i64>,
    /// Read, but past what was asked for.
    ahead: Option<StateRecord>,
}

impl StateReader {
    /// Connects and looks up the bounds.
    ///
    /// # Errors
    /// A setting is wrong, or the broker does not answer.
    pub fn open(config: &KafkaConfig, topic: &str, partition: i32) -> Result<Self, Error> {
        let group = client::unjoined_group(config);
        let mut settings = client::consumer(config, "state", &group);
        settings.set("isolation.level", "read_committed");
        settings.set("enable.partition.eof", "true");
        // The broker tells that a partition has ended when it has waited for more. The default of
        // half a second was most of what it took to restore a small partition.
        settings.set("fetch.wait.max.ms", END_WAIT_MS);
        settings.set("queued.max.messages.kbytes", FETCH_QUEUE_KIB);
        settings.set("statistics.interval.ms", "0");
        let consumer = client::reader(config, "state", &settings)?;
        let bounds = consumer
            .fetch_watermarks(topic, partition, CALL_TIMEOUT)
            .map_err(Error::call(format!("cannot read the bounds of {topic}[{partition}]")))?;
        let topic = topic.to_owned();
        Ok(Self { consumer, topic, partition, bounds, position: None, ahead: None })
    }

    /// First kept offset and the next one that will be written.
    #[must_use]
    pub const fn bounds(&self) -> (i64, i64) {
        self.bounds
    }

    /// The record at an offset; none if there is none. Cheap for ascending offsets.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn read(&mut self, offset: i64) -> Result<Option<Vec<u8>>, Error> {
        if offset < self.bounds.0 || offset >= self.bounds.1 {
            return Ok(None);
        }
        if let Some(ahead) = &self.ahead
            && ahead.offset >= offset
            && self.position.is_some_and(|position| position <= offset)
        {
            return Ok((ahead.offset == offset).then(|| self.ahead.take()?.value).flatten());
        }
        let near = |position: i64| (position..position + READ_OVER).contains(&offset);
        if !self.position.is_some_and(near) {
            self.go_to(offset)?;
        }
        loop {
            let Some(record) = self.next()? else { return Ok(None) };
            if record.offset == offset {
                return Ok(record.value);
            }
            if record.offset > offset {
                self.position = Some(offset);
                self.ahead = Some(record);
                return Ok(None);
            }
        }
    }

    /// All records from an offset to the end.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn tail(&mut self, from: i64) -> Result<Vec<StateRecord>, Error> {
        if from >= self.bounds.1 {
            return Ok(Vec::new());
        }
        self.go_to(from.max(self.bounds.0))?;
        let mut records = Vec::new();
        while let Some(record) = self.next()? {
            records.push(record);
        }
        Ok(records)
    }

    /// Shows manifests with their offsets to `wanted`, newest first, until it makes something of
    /// one. They are near the end, but behind a manifest may lie what later transactions lost.
    ///
    /// # Errors
    /// The broker does not answer, or `wanted` failed.
    pub fn newest_first<T>(
        &mut self,
        mut wanted: impl FnMut(&mut Self, i64, &[u8]) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let (first, end) = self.bounds;
        let (mut back, mut seen_from) = (TAIL_RECORDS, end);
        while seen_from > first {
            let from = first.max(end.saturating_sub(back));
            let mut tail = self.tail(from)?;
            tail.retain(|record| record.offset < seen_from && record.key.contains("/manifest/"));
            for record in tail.into_iter().rev() {
                let Some(value) = record.value else { continue };
                let made = wanted(self, record.offset, &value)?;
                if made.is_some() {
                    return Ok(made);
                }
            }
            seen_from = from;
            back = back.saturating_mul(8);
        }
        Ok(None)
    }

    fn go_to(&mut self, offset: i64) -> Result<(), Error> {
        let doing = || Error::call(format!("cannot read {}[{}]", self.topic, self.partition));
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, self.partition, Offset::Offset(offset))
            .map_err(doing())?;
        self.consumer.assign(&list).map_err(doing())?;
        self.position = Some(offset);
        self.ahead = None;
        Ok(())
    }

    /// The next record; none at the end.
    fn next(&mut self) -> Result<Option<StateRecord>, Error> {
        let until = Instant::now() + READ_FOR;
        let doing = || Error::call(format!("cannot read {}[{}]", self.topic, self.partition));
        while Instant::now() < until {
            match self.consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) => {
                    let key = String::from_utf8_lossy(message.key().unwrap_or_default());
                    let record = StateRecord {
                        offset: message.offset(),
                        key: key.into_owned(),
                        value: message.payload().map(<[u8]>::to_vec),
                    };
                    self.position = Some(record.offset + 1);
                    return Ok(Some(record));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
                Some(Err(cause)) => {
                    // librdkafka goes on by itself where it can.
                    if !matches!(cause.rdkafka_error_code(), Some(code) if super::transient(code)) {
                        return Err(doing()(cause));
                    }
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
        Err(doing()(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)))
    }
}
