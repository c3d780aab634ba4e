//! What any Kafka user can do, by plain rdkafka: nothing here knows of exfilwatch.

use std::{
    fmt::Debug,
    future::Future,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
        TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    message::{Header, Headers, OwnedHeaders},
    metadata::MetadataTopic,
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
};

const CALL_MAX: Duration = Duration::from_secs(10);

/// A broker's address and what can be asked of it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: String,
    /// Of each topic it creates.
    copies: i32,
}

/// What to produce.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(&'static str, Vec<u8>)>,
    pub(crate) partition: i32,
}

/// What was consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// Codecs a producer may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub(crate) const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl Message {
    /// A record with a null key.
    pub(crate) fn new(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A record with neither key nor value.
    pub(crate) fn null() -> Self {
        Self::default()
    }

    pub(crate) fn to(mut self, partition: i32) -> Self {
        self.partition = partition;
        self
    }

    pub(crate) fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Record {
    /// The last header of this name, as text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().rfind(|(key, _)| key == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The value as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.value.as_deref().expect("a value")).expect("valid JSON")
    }

    /// The key as text.
    pub(crate) fn key_text(&self) -> Option<String> {
        self.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned())
    }
}

/// A name no other test, and no earlier run on the same broker, has used.
pub(crate) fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    format!("{name}-{:x}-{count}", since.as_millis())
}

impl Client {
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.to_owned(), copies: 1 }
    }

    /// The same, which creates topics with so many copies.
    pub(crate) fn with_copies(self, copies: i32) -> Self {
        Self { copies, ..self }
    }

    /// `host:port`, several with commas between them.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether a metadata request is answered.
    pub(crate) fn answers(&self) -> bool {
        let consumer: BaseConsumer = self.config().create().expect("a client");
        consumer.fetch_metadata(None, Duration::from_secs(2)).is_ok()
    }

    /// Creates a topic; `properties` are topic configs.
    pub(crate) fn create_topic(&self, name: &str, partitions: i32, properties: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(self.copies));
        for (key, value) in properties {
            topic = topic.set(key, value);
        }
        let results = wait(self.admin().create_topics([&topic], &AdminOptions::new()));
        for result in results.expect("the broker takes the request") {
            result.unwrap_or_else(|(name, code)| panic!("topic {name}: {code}"));
        }
        // Created is not yet known: the metadata follows a moment later.
        let deadline = Instant::now() + CALL_MAX;
        while self.partitions(name) == 0 {
            assert!(Instant::now() < deadline, "topic {name} does not appear");
        }
    }

    /// Deletes a topic and makes another under its name.
    pub(crate) fn replace_topic(&self, name: &str, partitions: i32) {
        let results = wait(self.admin().delete_topics(&[name], &AdminOptions::new()));
        for result in results.expect("the broker takes the request") {
            result.unwrap_or_else(|(name, code)| panic!("topic {name}: {code}"));
        }
        let deadline = Instant::now() + CALL_MAX;
        while self.partitions(name) > 0 {
            assert!(Instant::now() < deadline, "topic {name} does not go away");
        }
        self.create_topic(name, partitions, &[]);
    }

    /// Deletes every topic whose name begins so.
    #[allow(dead_code, reason = "for benches/peers, which shares this harness")]
    pub(crate) fn delete_topics(&self, prefix: &str) {
        let consumer: BaseConsumer = self.config().create().expect("a client");
        let metadata = consumer.fetch_metadata(None, CALL_MAX).expect("metadata");
        let names = metadata.topics().iter().map(MetadataTopic::name);
        let names: Vec<&str> = names.filter(|name| name.starts_with(prefix)).collect();
        let results = wait(self.admin().delete_topics(&names, &AdminOptions::new()));
        for result in results.expect("the broker takes the request") {
            result.unwrap_or_else(|(name, code)| panic!("topic {name}: {code}"));
        }
    }

    /// Gives a topic more partitions.
    pub(crate) fn grow_topic(&self, name: &str, partitions: usize) {
        let wanted = NewPartitions::new(name, partitions);
        let results = wait(self.admin().create_partitions(&[wanted], &AdminOptions::new()));
        for result in results.expect("the broker takes the request") {
            result.unwrap_or_else(|(name, code)| panic!("topic {name}: {code}"));
        }
    }

    /// Deletes all records of partition 0 before `offset`, as retention would.
    pub(crate) fn delete_before(&self, topic: &str, offset: i64) {
        self.delete_in(topic, 0, offset);
    }

    /// The same in any partition.
    pub(crate) fn delete_in(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        let offset = Offset::Offset(offset);
        list.add_partition_offset(topic, partition, offset).expect("a valid offset");
        let deleted = wait(self.admin().delete_records(&list, &AdminOptions::new()));
        deleted.expect("the broker takes the request");
    }

    /// The value of one config of a topic.
    pub(crate) fn topic_config(&self, topic: &str, key: &str) -> String {
        let resource = ResourceSpecifier::Topic(topic);
        let results = wait(self.admin().describe_configs([&resource], &AdminOptions::new()));
        let described = results.expect("the broker takes the request").remove(0);
        let described = described.unwrap_or_else(|code| panic!("topic {topic}: {code}"));
        let entry = described.get(key).unwrap_or_else(|| panic!("topic {topic} has no {key}"));
        entry.value.clone().unwrap_or_default()
    }

    /// Changes one config of a topic; the others fall back to their defaults.
    pub(crate) fn set_topic_config(&self, topic: &str, key: &str, value: &str) {
        let config = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
        let results = wait(self.admin().alter_configs([&config], &AdminOptions::new()));
        for result in results.expect("the broker takes the request") {
            result.unwrap_or_else(|(_, code)| panic!("topic {topic}: {code}"));
        }
    }

    /// How many partitions a topic has; 0 when there is no such topic.
    pub(crate) fn partitions(&self, topic: &str) -> usize {
        let consumer: BaseConsumer = self.config().create().expect("a client");
        let metadata = consumer.fetch_metadata(Some(topic), CALL_MAX).expect("metadata");
        metadata.topics().iter().find(|t| t.name() == topic).map_or(0, |t| t.partitions().len())
    }

    /// Produces and waits until the broker has acknowledged every record.
    pub(crate) fn produce(
        &self,
        topic: &str,
        compression: Compression,
        messages: impl IntoIterator<Item = Message>,
    ) {
        let mut config = self.config();
        config
            .set("compression.type", compression.as_str())
            .set("linger.ms", "5")
            .set("message.max.bytes", "10000000");
        let producer: BaseProducer<Deliveries> =
            config.create_with_context(Deliveries::default()).expect("a producer");
        let mut sent = 0;
        for message in messages {
            send(&producer, topic, &message);
            sent += 1;
        }
        producer.flush(CALL_MAX).expect("deliveries");
        let context = producer.context();
        assert_eq!(context.failed.load(Ordering::Relaxed), 0, "deliveries to {topic} failed");
        assert_eq!(context.delivered.load(Ordering::Relaxed), sent, "deliveries to {topic}");
    }

    /// A producer for many records, which neither loses, repeats nor reorders them and waits for
    /// as long as the brokers are away.
    pub(crate) fn stream(&self) -> Stream {
        let mut config = self.config();
        config
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0");
        let producer = config.create_with_context(Deliveries::default()).expect("a producer");
        Stream { producer, sent: 0 }
    }

    /// Whether every partition has all its copies.
    pub(crate) fn is_whole(&self) -> bool {
        let consumer: BaseConsumer = self.config().create().expect("a client");
        let Ok(metadata) = consumer.fetch_metadata(None, CALL_MAX) else { return false };
        let has_all = |topic: &MetadataTopic| {
            topic.partitions().iter().all(|it| it.isr().len() == it.replicas().len())
        };
        metadata.topics().iter().all(has_all)
    }

    /// Commits offsets for a group that has no members, as an admin would.
    pub(crate) fn commit(&self, group: &str, topic: &str, offsets: &[i64]) {
        let mut config = self.config();
        config.set("group.id", group);
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for (partition, offset) in (0..).zip(offsets) {
            let offset = Offset::Offset(*offset);
            list.add_partition_offset(topic, partition, offset).expect("a valid offset");
        }
        consumer.commit(&list, CommitMode::Sync).expect("the group takes it");
    }

    /// Produces in a transaction that is left open, committed or aborted by the caller.
    pub(crate) fn transaction(&self, id: &str) -> BaseProducer {
        let mut config = self.config();
        config.set("transactional.id", id).set("transaction.timeout.ms", "10000");
        let producer: BaseProducer = config.create().expect("a producer");
        producer.init_transactions(CALL_MAX).expect("a transactional id");
        producer
    }

    /// A consumer of a whole topic from its beginning, in no group.
    pub(crate) fn reader(&self, topic: &str) -> Reader {
        self.reader_with(topic, "read_uncommitted")
    }

    /// The same, which sees committed transactions only.
    pub(crate) fn committed_reader(&self, topic: &str) -> Reader {
        self.reader_with(topic, "read_committed")
    }

    fn reader_with(&self, topic: &str, isolation: &str) -> Reader {
        let partitions = self.partitions(topic);
        assert_ne!(partitions, 0, "there is no topic {topic}");
        let mut config = self.config();
        config.set("isolation.level", isolation).set("fetch.wait.max.ms", "50");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions).expect("few partitions") {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&list).expect("an assignment");
        Reader { consumer, topic: topic.to_owned(), seen: Vec::new() }
    }

    /// What `group` has committed, by partition; `None` where nothing.
    pub(crate) fn committed(&self, group: &str, topic: &str) -> Vec<Option<i64>> {
        let mut config = self.config();
        config.set("group.id", group);
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, self.last_partition(topic));
        let committed = consumer.committed_offsets(list, CALL_MAX).expect("committed offsets");
        committed
            .elements()
            .iter()
            .map(|element| match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            })
            .collect()
    }

    /// The end of each partition: the offset the next record will have.
    pub(crate) fn ends(&self, topic: &str) -> Vec<i64> {
        let consumer: BaseConsumer = self.config().create().expect("a client");
        let end = |partition| consumer.fetch_watermarks(topic, partition, CALL_MAX);
        (0..=self.last_partition(topic)).map(|p| end(p).expect("watermarks").1).collect()
    }

    fn last_partition(&self, topic: &str) -> i32 {
        let partitions = self.partitions(topic);
        assert_ne!(partitions, 0, "there is no topic {topic}");
        i32::try_from(partitions).expect("few partitions") - 1
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("an admin client")
    }

    fn config(&self) -> ClientConfig {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.address)
            .set("group.id", format!("plain-{}-{count}", std::process::id()))
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Critical);
        config
    }
}

/// Counts what became of the records of one producer.
#[derive(Debug, Default)]
struct Deliveries {
    delivered: AtomicU32,
    failed: AtomicU32,
}

impl rdkafka::ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = if result.is_ok() { &self.delivered } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// See [`Client::stream`].
pub(crate) struct Stream {
    producer: BaseProducer<Deliveries>,
    sent: u32,
}

impl Stream {
    /// Hands a record over, waiting while there is no room.
    pub(crate) fn send(&mut self, topic: &str, message: &Message) {
        send(&self.producer, topic, message);
        self.sent += 1;
    }

    /// Waits until every record is acknowledged.
    pub(crate) fn finish(&self, at_most: Duration) {
        self.producer.flush(at_most).expect("deliveries");
        let context = self.producer.context();
        assert_eq!(context.failed.load(Ordering::Relaxed), 0, "deliveries failed");
        assert_eq!(context.delivered.load(Ordering::Relaxed), self.sent, "deliveries");
    }
}

impl Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({} sent)", self.sent)
    }
}

/// Hands one record to `producer`, which may be full for a while.
pub(crate) fn send<C>(producer: &BaseProducer<C>, topic: &str, message: &Message)
where
    C: ProducerContext<DeliveryOpaque = ()>,
{
    let mut headers = OwnedHeaders::new();
    for (key, value) in &message.headers {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(message.partition);
    record.headers = (!message.headers.is_empty()).then_some(headers);
    record.key = message.key.as_deref();
    record.payload = message.value.as_deref();
    while let Err((error, back)) = producer.send(record) {
        assert_eq!(
            error.rdkafka_error_code(),
            Some(rdkafka::types::RDKafkaErrorCode::QueueFull),
            "{topic}: {error}"
        );
        record = back;
        producer.poll(Duration::from_millis(10));
    }
    producer.poll(Duration::ZERO);
}

/// Reads a topic and keeps what it has read.
pub(crate) struct Reader {
    consumer: BaseConsumer,
    topic: String,
    seen: Vec<Record>,
}

impl Reader {
    /// Reads on until `enough` of everything read so far; panics, naming `what`, after `at_most`.
    pub(crate) fn until(
        &mut self,
        what: &str,
        at_most: Duration,
        enough: impl Fn(&[Record]) -> bool,
    ) -> &[Record] {
        let deadline = Instant::now() + at_most;
        while !enough(&self.seen) {
            assert!(
                Instant::now() < deadline,
                "no {what} in {} within {at_most:?}; {} records seen, the last: {}",
                self.topic,
                self.seen.len(),
                self.seen.last().map_or_else(String::new, shown)
            );
            self.poll(Duration::from_millis(50));
        }
        &self.seen
    }

    /// Reads for `time`, whatever comes.
    pub(crate) fn during(&mut self, time: Duration) -> &[Record] {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            self.poll(Duration::from_millis(50));
        }
        &self.seen
    }

    /// Reads for `time` and gives what came, which is not kept.
    pub(crate) fn take(&mut self, time: Duration) -> Vec<Record> {
        self.during(time);
        std::mem::take(&mut self.seen)
    }

    /// Reads until nothing has come for `quiet` and hands each record to `each`; none is kept.
    pub(crate) fn through(&mut self, quiet: Duration, mut each: impl FnMut(&Record)) {
        loop {
            let records = self.take(quiet);
            records.iter().for_each(&mut each);
            if records.is_empty() {
                return;
            }
        }
    }

    /// Reads `records` records and keeps none: what reading alone costs.
    #[allow(dead_code, reason = "for benches/end_to_end, which shares this harness")]
    pub(crate) fn drop_all(&self, records: usize, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        let mut read = 0;
        while read < records {
            assert!(Instant::now() < deadline, "{read} of {records} records in {at_most:?}");
            let message = self.consumer.poll(Duration::from_millis(50));
            read += usize::from(message.is_some_and(|message| message.is_ok()));
        }
    }

    fn poll(&mut self, timeout: Duration) {
        let Some(message) = self.consumer.poll(timeout) else { return };
        let Ok(message) = message else { return };
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        self.seen.push(Record {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers
                .map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec()))
                .collect(),
        });
    }
}

impl Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({}, {} seen)", self.topic, self.seen.len())
    }
}

fn shown(record: &Record) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}

/// Runs one admin call to its end.
fn wait<T>(call: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(call)
}
