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
        AlertsConfig, Config, DeadLetterConfig, DetectConfig, HttpConfig, IngestConfig, Input,
        KafkaConfig, Roles, ShutdownConfig, Start, Topics,
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
            properties: std::iter::empty().collect(),
            group_id: "exfilwatch".to_owned(),
            transactional_id_prefix: "exfilwatch".to_owned(),
            create_topics: None,
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
            source: SourceDefaults::default(),
        }],
        ingest: IngestConfig { max_drift: Duration::from_secs(300), hold_bytes: 1 << 20 },
        detect: DetectConfig {
            memory_limit: 64 << 20,
            allowed_skew: Duration::from_secs(300),
            checkpoint_interval: Duration::from_secs(10),
            threads: 2,
        },
        alerts: AlertsConfig { transactional: false },
        dead_letter: DeadLetterConfig { bytes_per_second: 1 << 20, max_bytes: 1024 },
        http: HttpConfig { listen: ([127, 0, 0, 1], 0).into() },
        shutdown: ShutdownConfig { drain_timeout: Duration::from_secs(20) },
        catalog: Vec::new(),
        identity: IdentitySpec::default(),
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

fn applied(pipeline: &Handle) -> u64 {
    let rows = &pipeline.metrics().rows_evaluated;
    rows.with_label_values(&["principal.id", "applied"]).get()
}

#[test]
fn theft_spread_over_partitions_is_found_and_published_once() {
    let _ = tracing_subscriber::fmt().with_env_filter("debug").try_init();
    let broker = broker();
    let colleagues = (0..400)
        .map(|n| (i32::try_from(n % 4).unwrap(), event(&format!("colleague-{}", n % 40), n, 10)));
    let insider = (0..150).map(|n| (i32::try_from(n % 4).unwrap(), event("JDoe", n, 10)));
    produce(&broker, colleagues.chain(insider));
    let pipeline = start(config(&broker), Options { http: false }).unwrap();
    assert!(pipeline.wait_ready(PATIENCE), "{:?}", pipeline.health().reasons());
    let alerts = read(&broker, "exfilwatch.alerts", |read| !read.is_empty());
    let body: Value = serde_json::from_slice(&alerts[0].payload).unwrap();
    assert_eq!(alerts[0].key.as_deref(), Some(b"jdoe".as_slice()));
    assert_eq!(body["finding_info"]["analytic"]["uid"], "many-rows");
    wait_for("every row to be applied", || applied(&pipeline) == 550);
    pipeline.stop().unwrap();
}
