//! The whole pipeline on the embedded broker: quick, and no claim about delivery.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use serde_json::{Value, json};

use super::{Handle, Options, start};
use crate::{
    config::{
        AlertsConfig, Config, DeadLetterConfig, DedupConfig, DetectConfig, HttpConfig,
        IngestConfig, Input, KafkaConfig, Roles, ShutdownConfig, Start, Topics,
    },
    event::{Format, SourceDefaults, identity::IdentitySpec},
    kafka::embedded::Embedded,
    rules::{
        GroupBy, Measure, Severity,
        written::{WrittenLimit, WrittenRule},
    },
    units::WindowSpan,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn rule(id: &str, above: u64) -> WrittenRule {
    WrittenRule {
        id: id.to_owned(),
        title: id.to_owned(),
        severity: Severity::High,
        wanted: Vec::new(),
        unless: Vec::new(),
        group_by: GroupBy::PrincipalId,
        measure: Measure::Rows,
        limits: vec![WrittenLimit {
            window: WindowSpan::from_secs(3600).unwrap(),
            above,
            severity: None,
        }],
    }
}

fn config(broker: &Embedded) -> Config {
    Config {
        path: PathBuf::from("exfilwatch.yaml"),
        kafka: KafkaConfig {
            bootstrap_servers: broker.bootstrap_servers(),
            // The embedded broker lets a group that was empty wait for as long as a session.
            properties: [("session.timeout.ms".to_owned(), "6000".to_owned())].into(),
            group_id: "exfilwatch".to_owned(),
            transactional_id_prefix: "exfilwatch".to_owned(),
            ..KafkaConfig::default()
        },
        topics: Topics {
            events: "exfilwatch.events".to_owned(),
            state: "exfilwatch.state".to_owned(),
            alerts: "exfilwatch.alerts".to_owned(),
            dead_letter: "exfilwatch.dead-letter".to_owned(),
        },
        roles: Roles { ingest: true, detect: true },
        inputs: vec![Input {
            topic: "raw".to_owned(),
            format: Format::Canonical,
            start: Start::Earliest,
            keyed: false,
            retries: false,
            source: SourceDefaults::default(),
        }],
        ingest: IngestConfig { max_drift: Duration::from_mins(5), hold_bytes: 1 << 20 },
        detect: DetectConfig {
            memory_limit: 64 << 20,
            allowed_skew: Duration::from_mins(5),
            checkpoint_interval: Duration::from_secs(10),
            threads: 2,
            queue_bytes: 32 << 20,
        },
        dedup: DedupConfig { entries: 1000 },
        alerts: AlertsConfig { transactional: false, queue_bytes: 16 << 20 },
        dead_letter: DeadLetterConfig { bytes_per_second: 1 << 20, max_bytes: 1024 },
        http: HttpConfig { listen: ([127, 0, 0, 1], 0).into() },
        shutdown: ShutdownConfig { drain_timeout: Duration::from_secs(20) },
        catalog: Vec::new(),
        identity: IdentitySpec::default(),
        canary: None,
        rules: vec![rule("many-rows", 1000)],
        rule_paths: Vec::new(),
    }
}

fn broker() -> Embedded {
    let broker = Embedded::start().unwrap();
    for topic in ["exfilwatch.events", "exfilwatch.state", "raw"] {
        broker.create_topic(topic, 4).unwrap();
    }
    for topic in ["exfilwatch.alerts", "exfilwatch.dead-letter"] {
        broker.create_topic(topic, 1).unwrap();
    }
    broker
}

fn produce(broker: &Embedded, records: impl IntoIterator<Item = (i32, Vec<u8>)>) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap_servers()).create().unwrap();
    for (partition, value) in records {
        producer
            .send(BaseRecord::<(), [u8]>::to("raw").partition(partition).payload(&value))
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

fn event(principal: &str, second: i64, rows: u64) -> Vec<u8> {
    json!({
        "event_time": 1_767_571_200_000_i64 + second * 1000,
        "principal": principal,
        "source": {"kind": "postgresql"},
        "objects": ["crm.public.customers"],
        "rows": rows,
    })
    .to_string()
    .into_bytes()
}

struct Letter {
    key: Option<Vec<u8>>,
    payload: Vec<u8>,
    headers: Vec<(String, String)>,
}

/// Reads `topic` for a while.
fn read_for(broker: &Embedded, topic: &str, span: Duration) -> Vec<Letter> {
    let until = Instant::now() + span;
    read(broker, topic, |_| Instant::now() >= until)
}

/// Reads `topic` until `enough` or out of patience.
fn read(broker: &Embedded, topic: &str, enough: impl Fn(&[Letter]) -> bool) -> Vec<Letter> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", "reader")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let until = Instant::now() + PATIENCE;
    let mut read = Vec::new();
    while Instant::now() < until && !enough(&read) {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else { continue };
        let text =
            |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|one| (one.key.to_owned(), text(one.value))).collect()
        });
        read.push(Letter {
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().unwrap_or_default().to_vec(),
            headers,
        });
    }
    read
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Letter {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn pipeline(config: Config) -> Handle {
    let pipeline = start(config, Options { http: false }).unwrap();
    assert!(pipeline.wait_ready(PATIENCE), "{:?}", pipeline.health().reasons());
    pipeline
}

/// 400 events of colleagues and 150 of an insider who reads 1500 records, on four partitions.
fn theft() -> impl Iterator<Item = (i32, Vec<u8>)> {
    let partition = |n: i64| i32::try_from(n % 4).unwrap();
    let colleagues =
        (0..400).map(move |n| (partition(n), event(&format!("colleague-{}", n % 40), n, 10)));
    colleagues.chain((0..150).map(move |n| (partition(n), event("JDoe", n, 10))))
}

fn evaluated(pipeline: &Handle, outcome: &str) -> u64 {
    let rows = &pipeline.metrics().rows_evaluated;
    rows.with_label_values(&["principal.id", outcome]).get()
}

#[test]
fn theft_spread_over_partitions_is_found_and_published_once() {
    let broker = broker();
    produce(&broker, theft());
    let pipeline = pipeline(config(&broker));
    let alerts = read(&broker, "exfilwatch.alerts", |read| !read.is_empty());
    let body: Value = serde_json::from_slice(&alerts[0].payload).unwrap();
    assert_eq!(alerts[0].key.as_deref(), Some(b"jdoe".as_slice()));
    assert_eq!(body["finding_info"]["analytic"]["uid"], "many-rows");
    wait_for("every row to be applied", || evaluated(&pipeline, "applied") == 550);
    pipeline.stop().unwrap();
    assert_eq!(read_for(&broker, "exfilwatch.alerts", Duration::from_secs(1)).len(), 1);
}

#[test]
fn restart_goes_on_with_what_was_counted_and_reads_no_record_again() {
    let broker = broker();
    // So far the insider has read 900 records of the 1000 that may be read.
    produce(&broker, theft().take(490));
    let first = pipeline(config(&broker));
    wait_for("every row to be applied", || evaluated(&first, "applied") == 490);
    first.stop().unwrap();
    let second = pipeline(config(&broker));
    produce(&broker, theft().skip(490));
    let alerts = read(&broker, "exfilwatch.alerts", |read| !read.is_empty());
    let body: Value = serde_json::from_slice(&alerts[0].payload).unwrap();
    assert_eq!(body["unmapped"]["exfilwatch"]["windows"][0]["lo"], 1010);
    wait_for("the rest of the rows", || evaluated(&second, "applied") == 60);
    let read_again = second.metrics().records_read.with_label_values(&["raw"]).get();
    assert_eq!(read_again, 60, "every offset was committed");
    assert_eq!(evaluated(&second, "duplicate"), 0, "and covered by the checkpoint");
    second.stop().unwrap();
}

#[test]
fn poison_record_is_dead_lettered_and_the_partition_goes_on() {
    let broker = broker();
    let good = |n| (0, event("anna", n, 1));
    let poison = (0, b"{\"event_time\": \"yesterday\"".to_vec());
    let long = (0, vec![b'x'; 5000]);
    produce(&broker, [good(0), poison.clone(), good(1), long, good(2)]);
    let pipeline = pipeline(config(&broker));
    let letters = read(&broker, "exfilwatch.dead-letter", |read| read.len() == 2);
    assert_eq!(letters[0].payload, poison.1);
    assert_eq!(letters[0].header("exfilwatch-topic"), Some("raw"));
    assert_eq!(letters[0].header("exfilwatch-partition"), Some("0"));
    assert_eq!(letters[0].header("exfilwatch-offset"), Some("1"));
    assert_eq!(letters[0].header("exfilwatch-reason"), Some("invalid_field"));
    assert_eq!(letters[0].header("exfilwatch-length"), None);
    assert_eq!(letters[1].payload.len(), 1024, "cut at dead_letter.max_bytes");
    assert_eq!(letters[1].header("exfilwatch-length"), Some("5000"));
    wait_for("the good rows", || evaluated(&pipeline, "applied") == 3);
    pipeline.stop().unwrap();
}

#[test]
fn failed_delivery_rewinds_and_every_row_is_counted_once() {
    use rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as REFUSED;
    let broker = broker();
    let mut config = config(&broker);
    // The refusals below are for ingest.
    config.detect.checkpoint_interval = Duration::from_hours(1);
    produce(&broker, theft());
    // Not retriable: librdkafka gives these messages up and would go on after them.
    broker.refuse_produce(&[REFUSED, REFUSED]);
    let pipeline = pipeline(config);
    wait_for("every row to be applied", || evaluated(&pipeline, "applied") == 550);
    let failures = &pipeline.metrics().delivery_failures;
    assert!(failures.with_label_values(&["events"]).get() > 0, "the fault was there");
    assert!(pipeline.health().reasons().is_empty(), "and it is over");
    pipeline.stop().unwrap();
}

#[test]
fn broker_that_goes_away_and_comes_back_costs_nothing() {
    let broker = broker();
    produce(&broker, theft());
    let pipeline = pipeline(config(&broker));
    broker.set_down(true);
    std::thread::sleep(Duration::from_millis(500));
    broker.set_down(false);
    wait_for("every row to be applied", || evaluated(&pipeline, "applied") == 550);
    pipeline.stop().unwrap();
}

#[test]
fn start_latest_skips_what_was_there_only_the_first_time() {
    let broker = broker();
    produce(&broker, theft());
    let mut config = config(&broker);
    config.inputs[0].start = Start::Latest;
    let first = pipeline(config.clone());
    produce(&broker, (0..3).map(|n| (0, event("anna", n, 1))));
    wait_for("three rows", || evaluated(&first, "applied") == 3);
    first.stop().unwrap();
    // Partition 1 never had a record that was read; its start is remembered all the same.
    produce(&broker, [(1, event("berta", 9, 1))]);
    let second = pipeline(config);
    wait_for("the record written meanwhile", || evaluated(&second, "applied") == 1);
    second.stop().unwrap();
}
