//! The files as written: what may stand in them, as types. Their doc comments are the descriptions
//! of the generated JSON Schema, so they speak to who writes the files.
//!
//! Every key is optional here even where the schema requires it: what the schema refused is taken
//! out before these are filled, and the rest is still checked.

use std::{borrow::Cow, collections::BTreeMap, net::SocketAddr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Start;
use super::values::{
    Bytes, FilePath, Glob, List, Location, Name, OneOf, Property, Role, RuleId, Text, TopicName,
};
use crate::{
    event::{Format, identity::Qualifier},
    rules::{Field, GroupBy, Measure, Severity},
    units::WindowSpan,
};

/// Configuration of exfilwatch.
///
/// Everything but `kafka.bootstrap_servers`, one input and one rule has a default.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "config")]
pub(super) struct RawConfig {
    /// The brokers and how this process presents itself to them.
    #[schemars(required)]
    pub(super) kafka: Option<RawKafka>,
    /// Names of the topics exfilwatch writes.
    pub(super) topics: Option<RawTopics>,
    /// What this process does: `ingest` reads inputs and writes events, `detect` reads events and
    /// writes alerts.
    #[schemars(length(min = 1), extend("default" = ["ingest", "detect"]))]
    pub(super) roles: Option<List<OneOf<Role>>>,
    /// The topics to read, each with its format.
    #[schemars(required, length(min = 1))]
    pub(super) inputs: Option<List<RawInput>>,
    /// How ingest reads.
    pub(super) ingest: Option<RawIngest>,
    /// How detect counts.
    pub(super) detect: Option<RawDetect>,
    /// What is remembered of inputs whose sources retry.
    pub(super) dedup: Option<RawDedup>,
    /// How alerts are published.
    pub(super) alerts: Option<RawAlerts>,
    /// What is kept of records that could not become events.
    pub(super) dead_letter: Option<RawDeadLetter>,
    /// Metrics and probes.
    pub(super) http: Option<RawHttp>,
    /// How the process stops.
    pub(super) shutdown: Option<RawShutdown>,
    /// What sources do not say about objects: labels and sizes. The first match wins.
    pub(super) catalog: Option<List<RawCatalogEntry>>,
    /// How the names of one person become one principal.
    pub(super) identity: Option<RawIdentity>,
    /// Events that are sent through to see that alerts come: `exfilwatch canary`.
    pub(super) canary: Option<RawCanary>,
    /// Rule files by path beside this file (* and ? in the last part), or rules written in place.
    #[schemars(required, length(min = 1))]
    pub(super) rules: Option<List<RawRuleEntry>>,
    /// Whether the shipped rules are in force: `exfilwatch-unknown-counts`.
    #[schemars(extend("default" = true))]
    pub(super) default_rules: Option<bool>,
}

/// `kafka:`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKafka {
    /// Brokers to ask first, `host:port`, separated by commas.
    #[schemars(required)]
    pub(super) bootstrap_servers: Option<Text<Name>>,
    /// Any librdkafka setting, passed through; those that exfilwatch must own are refused by name.
    pub(super) properties: Option<BTreeMap<String, Text<Property>>>,
    /// Settings whose values are secrets: librdkafka's name of each, and the file that holds its
    /// value and nothing else but perhaps a newline at the end. Read at the start only.
    pub(super) properties_from_files: Option<BTreeMap<String, Text<Location>>>,
    /// File with the token for SASL OAUTHBEARER, a JWT, which something else keeps fresh: it is
    /// read whenever a client needs one.
    pub(super) oauth_token_file: Option<Text<Location>>,
    /// The consumer groups are `<group_id>-ingest` and `<group_id>-detect`.
    #[schemars(extend("default" = "exfilwatch"))]
    pub(super) group_id: Option<Text<TopicName>>,
    /// Beginning of the transactional ids, of this deployment alone in the cluster: who claims a
    /// partition under the same ids ends its owner.
    #[schemars(extend("default" = "exfilwatch"))]
    pub(super) transactional_id_prefix: Option<Text<TopicName>>,
    /// Whether topics that are missing are created, and how.
    #[schemars(extend("default" = false))]
    pub(super) create_topics: Option<RawCreateTopics>,
}

/// `true`, `false`, or a shape.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum RawCreateTopics {
    Bool(bool),
    Shape(RawTopicShape),
}

/// Shape of the topics that are created.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTopicShape {
    /// Partitions of each topic.
    #[schemars(range(min = 1, max = 10_000), extend("default" = 16))]
    pub(super) partitions: Option<u32>,
    /// Replicas of each partition.
    #[schemars(range(min = 1, max = 100), extend("default" = 3))]
    pub(super) replication: Option<u32>,
}

/// `topics:`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTopics {
    /// Canonical rows, internal.
    #[schemars(extend("default" = "exfilwatch.events"))]
    pub(super) events: Option<Text<TopicName>>,
    /// Checkpoints, internal, compacted.
    #[schemars(extend("default" = "exfilwatch.state"))]
    pub(super) state: Option<Text<TopicName>>,
    /// Alerts: the topic to subscribe to.
    #[schemars(extend("default" = "exfilwatch.alerts"))]
    pub(super) alerts: Option<Text<TopicName>>,
    /// Records that could not become events.
    #[schemars(extend("default" = "exfilwatch.dead-letter"))]
    pub(super) dead_letter: Option<Text<TopicName>>,
}

/// One of `inputs:`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "input", extend("title" = "input"))]
pub(super) struct RawInput {
    /// The topic.
    #[schemars(required)]
    pub(super) topic: Option<Text<TopicName>>,
    /// Format of its records.
    #[schemars(extend("default" = "canonical"))]
    pub(super) format: Option<OneOf<Format>>,
    /// Where to begin while the group has no offset: earliest, latest or a time.
    #[schemars(extend("default" = "earliest"))]
    pub(super) start: Option<Text<Start>>,
    /// Whether the record key already is the canonical principal (in Arrow that of every row), so
    /// that detect reads the topic directly.
    #[schemars(extend("default" = false))]
    pub(super) keyed: Option<bool>,
    /// Whether its sources may send an event again under the same `event_id`: repeats are not
    /// counted. Every event must have an id of its own. Default: true for trino, else false.
    pub(super) retries: Option<bool>,
    /// What the records do not say.
    pub(super) source: Option<RawSource>,
}

/// `inputs[].source:`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSource {
    /// Kind of the source, such as postgresql.
    pub(super) kind: Option<Text<Name>>,
    /// Which one of that kind, such as crm-db-1.
    pub(super) instance: Option<Text<Name>>,
    /// Its database.
    pub(super) database: Option<Text<Name>>,
    /// The tenant of every principal of this input.
    pub(super) tenant: Option<Text<Name>>,
}

/// `ingest:`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIngest {
    /// How far, in event time, one source partition may run ahead of the slowest that is not idle.
    #[schemars(extend("default" = "5m"))]
    pub(super) max_drift: Option<Text<Duration>>,
    /// How many bytes of records are held back per source partition before it is paused.
    #[schemars(extend("default" = "4MiB"))]
    pub(super) hold_bytes: Option<Text<Bytes>>,
}

/// `detect:`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDetect {
    /// Ceiling of all window tables of this process.
    #[schemars(extend("default" = "2GiB"))]
    pub(super) memory_limit: Option<Text<Bytes>>,
    /// How far an event time may lie after broker time before it is clamped.
    #[schemars(extend("default" = "5m"))]
    pub(super) allowed_skew: Option<Text<Duration>>,
    /// Time between checkpoints.
    #[schemars(extend("default" = "10s"))]
    pub(super) checkpoint_interval: Option<Text<Duration>>,
    /// Worker threads; 0 means one a core.
    #[schemars(range(min = 0, max = 1024), extend("default" = 0))]
    pub(super) threads: Option<u32>,
    /// How many bytes of messages wait for one worker before its partitions are paused.
    #[schemars(extend("default" = "32MiB"))]
    pub(super) queue_bytes: Option<Text<Bytes>>,
}

/// `dedup:`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDedup {
    /// Rows remembered for each partition of the events topic, to know a repeat by; 0 is off.
    #[schemars(range(min = 0, max = 8_388_608), extend("default" = 262_144))]
    pub(super) entries: Option<u32>,
}

/// `alerts:`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAlerts {
    /// Whether a `read_committed` reader sees each alert exactly once: alerts and the checkpoint
    /// that covers them are one transaction. Else at least once, with the same `ce_id`.
    #[schemars(extend("default" = false))]
    pub(super) transactional: Option<bool>,
    /// About how many bytes of undelivered alerts one worker holds before it takes no more
    /// messages.
    #[schemars(extend("default" = "8MiB"))]
    pub(super) queue_bytes: Option<Text<Bytes>>,
}

/// `dead_letter:`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDeadLetter {
    /// Beyond this many bytes a second only headers are kept.
    #[schemars(extend("default" = "1MiB"))]
    pub(super) bytes_per_second: Option<Text<Bytes>>,
    /// Longest value kept; a longer one is cut, with length and hash in headers.
    #[schemars(extend("default" = "900KiB"))]
    pub(super) max_bytes: Option<Text<Bytes>>,
}

/// `http:`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHttp {
    /// Address and port of /metrics, /healthz, /readyz, /startupz and /buildinfo.
    #[schemars(extend("default" = "0.0.0.0:9464"))]
    pub(super) listen: Option<Text<SocketAddr>>,
}

/// `shutdown:`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawShutdown {
    /// How long a drain may take.
    #[schemars(extend("default" = "20s"))]
    pub(super) drain_timeout: Option<Text<Duration>>,
}

/// One of `catalog:`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "catalog-entry", extend("title" = "catalog entry"))]
pub(super) struct RawCatalogEntry {
    /// Full names this is about, `database.schema.name`; * and ? are globs.
    #[schemars(required)]
    pub(super) object: Option<Text<Glob>>,
    /// Labels added to those of the records.
    pub(super) labels: Option<List<Text<Name>>>,
    /// Records in the object, where the source does not say.
    pub(super) row_count: Option<u64>,
}

/// `identity:`
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIdentity {
    /// Name to principal; both sides are folded. Looked up before domains are stripped and, where
    /// that finds none, after.
    pub(super) aliases: Option<BTreeMap<String, Text<Name>>>,
    /// Whether names are folded (NFKC and case).
    #[schemars(extend("default" = true))]
    pub(super) fold_case: Option<bool>,
    /// Domains to remove: `@domain` suffixes and `DOMAIN\` prefixes.
    #[schemars(extend("default" = []))]
    pub(super) strip_domains: Option<List<Text<Name>>>,
    /// What goes before the name, to keep equal names of different systems apart.
    #[schemars(extend("default" = []))]
    pub(super) qualify_by: Option<List<OneOf<Qualifier>>>,
}

/// `canary:`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCanary {
    /// File with the key that canaries are signed with: 16 bytes to 64 KiB, the same for all
    /// members and for `exfilwatch canary`. One newline at its end is left out.
    #[schemars(required)]
    pub(super) key_file: Option<Text<Name>>,
}

/// Path of rule files, or a rule in place.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "rule-entry")]
pub(super) enum RawRuleEntry {
    Path(Text<FilePath>),
    Rule(Box<RawRule>),
}

/// A file of rules.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "rules")]
pub(super) struct RawRuleFile {
    /// The rules of this file.
    #[schemars(required, length(min = 1))]
    pub(super) rules: Option<List<RawRule>>,
}

/// Limits on a count.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "rule", extend("title" = "rule"))]
pub(super) struct RawRule {
    /// Unique among all rules; alerts and metrics carry it.
    #[schemars(required)]
    pub(super) id: Option<Text<RuleId>>,
    /// For people; the id where it is left out.
    pub(super) title: Option<Text<Name>>,
    /// Severity of limits that name none.
    #[schemars(extend("default" = "medium"))]
    pub(super) severity: Option<OneOf<Severity>>,
    /// Which events are counted: every key must match, a list is "one of", * and ? are globs.
    #[serde(rename = "where")]
    pub(super) wanted: Option<RawClause>,
    /// Which of them are not: excluded when every key matches.
    pub(super) unless: Option<RawClause>,
    /// What counts are kept by.
    #[schemars(extend("default" = "principal.id"))]
    pub(super) group_by: Option<OneOf<GroupBy>>,
    /// What is added up.
    #[schemars(extend("default" = "rows"))]
    pub(super) measure: Option<OneOf<Measure>>,
    /// Levels that windows may not exceed.
    #[schemars(required, length(min = 1, max = 16))]
    pub(super) limits: Option<List<RawLimit>>,
}

/// One of a rule's `limits:`
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "limit", extend("title" = "limit"))]
pub(super) struct RawLimit {
    /// Length of the trailing window, 1m to 30d.
    #[schemars(required)]
    pub(super) window: Option<Text<WindowSpan>>,
    /// Crossed at the first event that brings the count above this.
    #[schemars(required)]
    pub(super) above: Option<u64>,
    /// Severity of alerts at this limit; the rule's where it is left out.
    pub(super) severity: Option<OneOf<Severity>>,
}

/// `where:` and `unless:`; keys are fields of the canonical event.
#[derive(Deserialize)]
pub(super) struct RawClause(pub(super) BTreeMap<String, Patterns>);

/// One pattern or several of which one must match.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Patterns {
    Many(List<Text<Glob>>),
    One(Text<Glob>),
}

impl JsonSchema for RawClause {
    fn schema_name() -> Cow<'static, str> {
        "clause".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let glob = generator.subschema_for::<Text<Glob>>();
        let patterns = |field: Field| {
            let mut schema = json!({
                "anyOf": [glob, {"type": "array", "items": glob, "minItems": 1, "maxItems": 1000}],
            });
            if let Some(values) = field.values() {
                schema["examples"] = values.into();
            }
            (field.as_str().to_owned(), schema)
        };
        let properties: Map<String, Value> = Field::ALL.into_iter().map(patterns).collect();
        json_schema!({
            "type": "object", "properties": properties, "additionalProperties": false,
        })
    }
}
