//! `kafka:`: which librdkafka settings are ours, and whether the others exist.
//!
//! Never here: a connection; librdkafka is only asked whether it knows a property.

use std::{collections::BTreeMap, path::Path};

use rdkafka::{ClientConfig, error::KafkaError, types::RDKafkaConfRes};

use super::check::{Check, topic_shape};
use super::doc::place;
use super::raw::RawKafka;
use super::values::{Name, Property, Text, TopicName, Written as _};
use super::yaml::At;
use super::{Config, Fault, Faults, KafkaConfig, credentials};

const OFFSETS: &str = "exfilwatch decides itself what is read and committed";
const GAPLESS: &str = "rows must arrive in order and without gaps, or counts are wrong";

/// librdkafka properties that a configuration may not set, with the reason or the key to use.
pub const OWNED_PROPERTIES: [(&str, &str); 27] = [
    ("acks", GAPLESS),
    ("allow.auto.create.topics", "use kafka.create_topics"),
    ("auto.commit.enable", OFFSETS),
    ("auto.commit.interval.ms", OFFSETS),
    ("auto.offset.reset", "use inputs[].start"),
    ("bootstrap.servers", "use kafka.bootstrap_servers"),
    ("delivery.timeout.ms", GAPLESS),
    ("enable.auto.commit", OFFSETS),
    ("enable.auto.offset.store", OFFSETS),
    ("enable.gapless.guarantee", GAPLESS),
    ("enable.idempotence", GAPLESS),
    ("enable.partition.eof", OFFSETS),
    ("group.id", "use kafka.group_id"),
    ("group.protocol", "partitions are handed over by the classic protocol"),
    ("isolation.level", "records of an aborted transaction never happened"),
    ("log.queue", "what librdkafka logs goes to the log of exfilwatch"),
    ("max.in.flight", GAPLESS),
    ("max.in.flight.requests.per.connection", GAPLESS),
    ("message.max.bytes", "topics must take what we write; see max.message.bytes of the topic"),
    ("message.send.max.retries", GAPLESS),
    ("message.timeout.ms", GAPLESS),
    ("metadata.broker.list", "use kafka.bootstrap_servers"),
    ("request.required.acks", GAPLESS),
    ("retries", GAPLESS),
    ("statistics.interval.ms", "lag and readiness stand on the statistics"),
    ("transaction.timeout.ms", "a dead owner must not block its successor"),
    ("transactional.id", "use kafka.transactional_id_prefix"),
];

/// How the group shares partitions out. librdkafka takes any text and fails at the first join.
const ASSIGNORS: &str = "partition.assignment.strategy";

/// The property that makes a member a static one.
const INSTANCE_ID: &str = "group.instance.id";

/// A name for a static member, as Kafka takes it: what it takes for a topic
/// (`JoinGroupRequest.validateGroupInstanceId`).
///
/// # Errors
/// What is wrong with it and what is allowed.
pub fn instance_id(text: &str) -> Result<String, String> {
    let wrong = |_| format!("is no name of a static member; expected {}", TopicName::EXPECTED);
    TopicName::parse(text).map(|TopicName(name)| name).map_err(wrong)
}

impl Config {
    /// Makes this process a static member of both groups; they differ, so one name does for both.
    ///
    /// # Errors
    /// The file names one already: two processes that read it would end each other.
    pub fn set_instance_id(&mut self, id: String) -> Result<(), Faults> {
        let keys = [
            ("properties", self.kafka.properties.contains_key(INSTANCE_ID)),
            ("properties_from_files", self.kafka.secrets.get(INSTANCE_ID).is_some()),
        ];
        if let Some((key, _)) = keys.iter().find(|(_, given)| *given) {
            return Err(named_twice(&self.path, key, &id));
        }
        self.kafka.instance_id = Some(id);
        Ok(())
    }
}

fn named_twice(file: &Path, key: &str, id: &str) -> Faults {
    let fault = Fault {
        file: file.to_owned(),
        at: At::default(),
        path: format!("kafka.{key}.{INSTANCE_ID}"),
        problem: format!("is also given on the command line: --instance-id {id}"),
        hint: Some("remove it here: a file is for all processes, the name for one".to_owned()),
    };
    Faults { file: file.to_owned(), list: vec![fault] }
}

impl KafkaConfig {
    /// The value of a librdkafka property, wherever it was given.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str).or_else(|| self.secrets.get(name))
    }

    /// Whether the files differ; what the command line says stays out of it.
    pub(super) fn differs_from(&self, other: &Self) -> bool {
        let other = Self { instance_id: self.instance_id.clone(), ..other.clone() };
        *self != other
    }
}

pub(super) fn config(raw: RawKafka, check: &mut Check<'_>) -> KafkaConfig {
    let servers = raw.bootstrap_servers.map(|Text(Name(servers))| servers).unwrap_or_default();
    bootstrap_servers(&servers, check);
    let name = |name: Option<Text<TopicName>>| {
        name.map_or_else(|| "exfilwatch".to_owned(), |Text(TopicName(name))| name)
    };
    let properties: BTreeMap<String, String> = raw
        .properties
        .unwrap_or_default()
        .into_iter()
        .map(|(key, Text(Property(value)))| (key, value))
        .collect();
    for (key, value) in &properties {
        property(&place!["kafka", "properties", key], (key, value), None, check);
    }
    let files = raw.properties_from_files.unwrap_or_default();
    let secrets = credentials::from_files(files, &properties, check);
    let config = KafkaConfig {
        bootstrap_servers: servers,
        properties,
        secrets,
        oauth_token_file: None,
        group_id: name(raw.group_id),
        instance_id: None,
        transactional_id_prefix: name(raw.transactional_id_prefix),
        create_topics: topic_shape(raw.create_topics),
    };
    let oauth_token_file = credentials::token_file(raw.oauth_token_file, &config, check);
    KafkaConfig { oauth_token_file, ..config }
}

fn bootstrap_servers(servers: &str, check: &mut Check<'_>) {
    let place = place!["kafka", "bootstrap_servers"];
    if servers.is_empty() {
        return; // said by the schema
    }
    for server in servers.split(',').map(str::trim) {
        let (host, port) = server.rsplit_once(':').unwrap_or((server, ""));
        if host.is_empty() || port.parse::<u16>().is_err() || port == "0" {
            let found = crate::event::decode::bounded(server);
            let problem = format!("\"{found}\" is no broker; expected host:port");
            check.fault(&place, problem, "separate several by commas: a:9092,b:9092");
        }
    }
}

/// Whether a property may be set so. A value that comes from `file` is a secret and is not shown.
pub(super) fn property(
    place: &[String],
    (key, value): (&str, &str),
    file: Option<&Path>,
    check: &mut Check<'_>,
) {
    if let Some((_, reason)) = OWNED_PROPERTIES.iter().find(|(owned, _)| *owned == key) {
        check.fault(place, "is set by exfilwatch and cannot be passed through".to_owned(), reason);
        return;
    }
    if key.contains('\0') || value.contains('\0') {
        let whose = file.map(|file| format!("{} ", file.display())).unwrap_or_default();
        check.fault(place, format!("{whose}holds a NUL character"), "");
        return;
    }
    let shown = || match file {
        Some(file) => format!("the value in {}", file.display()),
        None => format!("\"{}\"", crate::event::decode::bounded(value)),
    };
    let eager = || value.split(',').all(|it| matches!(it.trim(), "range" | "roundrobin"));
    if key == ASSIGNORS && value != "cooperative-sticky" && !eager() {
        let problem = format!("{} is no way to share partitions out", shown());
        check.fault(place, problem, "expected cooperative-sticky, range or roundrobin");
        return;
    }
    let mut client = ClientConfig::new();
    client.set(key, value);
    let Err(error) = client.create_native_config() else { return };
    let said = match &error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..) => {
            "librdkafka has no such property".to_owned()
        }
        // What it says repeats the value.
        _ if file.is_some() => format!("librdkafka does not take {}", shown()),
        KafkaError::ClientConfig(_, said, ..) => {
            said.chars().take(200).filter(|it| !it.is_control()).collect()
        }
        other => other.to_string(),
    };
    check.fault(place, said, "librdkafka's CONFIGURATION.md lists them all");
}
