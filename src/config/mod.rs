//! Configuration as the program runs on it: loaded, checked, complete.
//!
//! `Config` is the high form: code past this boundary never sees YAML. How it is read, checked and
//! reported is in the files beside this one.

mod canary;
mod check;
mod credentials;
mod doc;
mod fault;
mod kafka;
mod lint;
mod load;
mod raw;
mod rules;
mod schema;
mod values;
mod watched;
mod yaml;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    event::{
        Format, SourceDefaults, canary::CanaryKey, catalog::CatalogEntry, identity::IdentitySpec,
    },
    rules::{
        RuleSet, compile,
        written::{WrittenRule, canary_rule},
    },
    units::EventTime,
};

pub use canary::read_key;
pub use credentials::{OAUTHBEARER, SECRET_BYTES_MAX, Secrets};
pub use fault::{FAULTS_SHOWN_MAX, Fault, Faults};
pub use kafka::{OWNED_PROPERTIES, instance_id};
pub use load::{Loaded, check_text, config_schema, lint_rules, load, rules_schema};
pub use rules::{RULE_FILES_MAX, RULES_MAX};
pub use values::time_to_wait;
pub use watched::Watched;
pub use yaml::{At, DEPTH_MAX, FILE_BYTES_MAX, NODES_MAX};

/// Everything `run`, `check` and `replay` need, with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it came from; relative paths in it are relative to its folder.
    pub path: PathBuf,
    /// Broker, group, topic creation.
    pub kafka: KafkaConfig,
    /// Names of our own topics.
    pub topics: Topics,
    /// What this process does.
    pub roles: Roles,
    /// Topics to read.
    pub inputs: Vec<Input>,
    /// Limits of ingest.
    pub ingest: IngestConfig,
    /// Limits of detect.
    pub detect: DetectConfig,
    /// What is remembered of inputs whose sources retry.
    pub dedup: DedupConfig,
    /// How alerts are produced.
    pub alerts: AlertsConfig,
    /// Limits of the dead-letter topic.
    pub dead_letter: DeadLetterConfig,
    /// Metrics and probes.
    pub http: HttpConfig,
    /// How to stop.
    pub shutdown: ShutdownConfig,
    /// What sources do not say about objects; first match wins.
    pub catalog: Vec<CatalogEntry>,
    /// How names become principals.
    pub identity: IdentitySpec,
    /// What canaries are signed with; none: there are no canaries.
    pub canary: Option<CanaryKey>,
    /// Rules of all files and in place, default rules included, checked.
    pub rules: Vec<WrittenRule>,
    /// Files and globs (`rules/*.yaml`) the rules came from, this file first; see
    /// [`Watched`].
    pub rule_paths: Vec<PathBuf>,
}

impl Config {
    /// The rules that the service runs on: those of the files and, where there is a key for
    /// canaries, the built-in one that finds them.
    #[must_use]
    pub fn rule_set(&self) -> RuleSet {
        let mut written = self.rules.clone();
        if self.canary.is_some() {
            written.push(canary_rule());
        }
        compile(&written)
    }

    /// The input that detect reads itself, if there is one.
    #[must_use]
    pub fn keyed_input(&self) -> Option<&Input> {
        self.inputs.iter().find(|input| input.keyed)
    }

    /// The topic that detect reads.
    #[must_use]
    pub fn read_by_detect(&self) -> &str {
        self.keyed_input().map_or(&self.topics.events, |input| &input.topic)
    }

    /// Top-level keys whose values differ from `other`'s, the rules and their files apart.
    #[must_use]
    pub fn differs_in(&self, other: &Self) -> Vec<&'static str> {
        let keys = [
            ("kafka", self.kafka.differs_from(&other.kafka)),
            ("topics", self.topics != other.topics),
            ("roles", self.roles != other.roles),
            ("inputs", self.inputs != other.inputs),
            ("ingest", self.ingest != other.ingest),
            ("detect", self.detect != other.detect),
            ("dedup", self.dedup != other.dedup),
            ("alerts", self.alerts != other.alerts),
            ("dead_letter", self.dead_letter != other.dead_letter),
            ("http", self.http != other.http),
            ("shutdown", self.shutdown != other.shutdown),
            ("catalog", self.catalog != other.catalog),
            ("identity", self.identity != other.identity),
            ("canary", self.canary != other.canary),
        ];
        keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }
}

/// `kafka:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaConfig {
    /// Comma-separated `host:port`.
    pub bootstrap_servers: String,
    /// librdkafka settings passed through; those we must own were refused.
    pub properties: BTreeMap<String, String>,
    /// The same whose values stand in files of their own, as read at the load.
    pub secrets: Secrets,
    /// Where the token of SASL OAUTHBEARER is, for every client to read when it needs one.
    pub oauth_token_file: Option<PathBuf>,
    /// Prefix of the groups `<group_id>-ingest` and `<group_id>-detect`.
    pub group_id: String,
    /// Static member of both groups under this name: `run --instance-id`, never from the file,
    /// since every process of a deployment needs another.
    pub instance_id: Option<String>,
    /// Prefix of transactional ids.
    pub transactional_id_prefix: String,
    /// Create missing topics so; `None`: do not.
    pub create_topics: Option<TopicShape>,
}

/// Shape of created topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicShape {
    /// Of events and state; alerts and dead letters get as many at most.
    pub partitions: u32,
    /// Replication factor.
    pub replication: u32,
}

/// `topics:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Canonical rows, internal.
    pub events: String,
    /// Checkpoints, internal, compacted.
    pub state: String,
    /// Alerts.
    pub alerts: String,
    /// Dead letters.
    pub dead_letter: String,
}

/// `roles:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Reads inputs, writes events.
    pub ingest: bool,
    /// Reads events, writes alerts.
    pub detect: bool,
}

/// One of `inputs:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Topic to read.
    pub topic: String,
    /// Of its records.
    pub format: Format,
    /// Where to begin when the group has no offset.
    pub start: Start,
    /// Detect reads it directly (DESIGN 4).
    pub keyed: bool,
    /// Its sources may send an event again, under the same id.
    pub retries: bool,
    /// What the records do not say.
    pub source: SourceDefaults,
}

/// `inputs[].start`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The first record kept.
    #[default]
    Earliest,
    /// Records from now on.
    Latest,
    /// The first record at or after a time.
    At(EventTime),
}

/// `ingest:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestConfig {
    /// How far a source partition may run ahead of the slowest that is not idle, in event time.
    pub max_drift: Duration,
    /// Bytes of records held back per source partition before it is paused.
    pub hold_bytes: u64,
}

/// `detect:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectConfig {
    /// Ceiling of all window tables of this process, in bytes.
    pub memory_limit: u64,
    /// How far an event may lie after broker time before it is clamped.
    pub allowed_skew: Duration,
    /// Between checkpoints.
    pub checkpoint_interval: Duration,
    /// Worker threads; 0 means one a core.
    pub threads: usize,
    /// Bytes of messages that wait for one worker before its partitions are paused.
    pub queue_bytes: u64,
}

/// `dedup:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupConfig {
    /// Rows remembered for each partition of the events topic; 0 is off.
    pub entries: usize,
}

/// `alerts:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertsConfig {
    /// Exactly once to `read_committed` readers.
    pub transactional: bool,
    /// Bytes of undelivered alerts of one worker beyond which it takes no more messages.
    pub queue_bytes: u64,
}

/// `dead_letter:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterConfig {
    /// Beyond this rate only headers are kept.
    pub bytes_per_second: u64,
    /// Longest value kept; a longer one is cut, with length and hash in headers.
    pub max_bytes: usize,
}

/// `http:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Address of `/metrics` and the probes.
    pub listen: SocketAddr,
}

/// `shutdown:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// How long a drain may take before the process gives up and says so.
    pub drain_timeout: Duration,
}

#[cfg(test)]
mod tests;
