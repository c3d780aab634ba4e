//! From the file as written to [`Config`]: defaults filled in, bounds and relations checked.
//!
//! Every check reports and goes on, so that one run finds all faults. Rules are in `rules`, doubts
//! (warnings) in `lint`.

use std::{fmt::Display, path::Path, time::Duration};

use super::doc::{Doc, Report, place};
use super::raw::{
    RawAlerts, RawCatalogEntry, RawConfig, RawCreateTopics, RawDeadLetter, RawDetect, RawIdentity,
    RawIngest, RawInput, RawTopics,
};
use super::values::{Bytes, Glob, List, Name, Role, Text, TopicName, show_size, show_span};
use super::{
    AlertsConfig, Config, DeadLetterConfig, DedupConfig, DetectConfig, HttpConfig, IngestConfig,
    Input, KafkaConfig, Roles, ShutdownConfig, Start, TopicShape, Topics, canary, kafka, lint,
    rules,
};
use crate::event::{Format, SourceDefaults, catalog::CatalogEntry, identity::IdentitySpec};
use crate::rules::GroupBy;

/// A file and the report on it.
pub(super) struct Check<'a> {
    pub(super) doc: &'a Doc,
    pub(super) report: &'a mut Report,
}

impl Check<'_> {
    pub(super) fn fault(&mut self, path: &[String], problem: String, hint: &str) {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        let fault = self.doc.fault(path, problem, hint);
        self.report.add(fault);
    }

    /// `value`, or `default` with nothing said; outside `min..=max` is a fault.
    fn bounded<T: PartialOrd + Copy>(
        &mut self,
        path: &[String],
        value: Option<T>,
        default: T,
        bounds: (T, T),
        show: fn(T) -> String,
    ) -> T {
        let value = value.unwrap_or(default);
        let (min, max) = bounds;
        if value < min || value > max {
            let problem = format!(
                "{} is out of bounds; allowed: {} to {}",
                show(value),
                show(min),
                show(max)
            );
            self.fault(path, problem, "");
        }
        value
    }

    fn span(
        &mut self,
        path: &[String],
        value: Option<Text<Duration>>,
        default_s: u64,
        bounds_s: (u64, u64),
    ) -> Duration {
        let [default, min, max] = [default_s, bounds_s.0, bounds_s.1].map(Duration::from_secs);
        self.bounded(path, value.map(|Text(span)| span), default, (min, max), show_span)
    }

    fn size(
        &mut self,
        path: &[String],
        value: Option<Text<Bytes>>,
        default: u64,
        bounds: (u64, u64),
    ) -> u64 {
        self.bounded(path, value.map(|Text(Bytes(bytes))| bytes), default, bounds, show_size)
    }

    /// Reports every item that repeats an earlier one.
    fn unique<'t, T: PartialEq + Display + 't>(
        &mut self,
        items: impl IntoIterator<Item = (Vec<String>, T)>,
        what: &str,
        hint: &str,
    ) {
        let mut seen: Vec<(Vec<String>, T)> = Vec::new();
        for (path, item) in items {
            if let Some((first, _)) = seen.iter().find(|(_, other)| *other == item) {
                let line = self.doc.root.find(first).line;
                let problem = format!("{what} `{item}` was given before, on line {line}");
                self.fault(&path, problem, hint);
            } else {
                seen.push((path, item));
            }
        }
    }
}

/// Builds the configuration; it is worth nothing if the report has faults afterwards.
pub(super) fn config(file: &Path, raw: RawConfig, doc: &Doc, report: &mut Report) -> Config {
    let mut check = Check { doc, report };
    let kafka = kafka::config(raw.kafka.unwrap_or_default(), &mut check);
    let topics = topics(raw.topics.unwrap_or_default());
    let roles = roles(raw.roles, &mut check);
    let inputs = inputs(raw.inputs.unwrap_or_default(), &topics, &mut check);
    let ingest = ingest(raw.ingest.unwrap_or_default(), &mut check);
    let detect = detect(raw.detect.unwrap_or_default(), &mut check);
    let alerts = alerts(raw.alerts.unwrap_or_default(), &mut check);
    let dead_letter = dead_letter(raw.dead_letter.unwrap_or_default(), &mut check);
    let shutdown = shutdown(raw.shutdown.unwrap_or_default().drain_timeout, &kafka, &mut check);
    let catalog = catalog(raw.catalog.unwrap_or_default(), &mut check);
    let identity = identity(raw.identity.unwrap_or_default(), &mut check);
    let canary = raw.canary.and_then(|raw| canary::config(raw, file, &mut check));
    own_topics_are_distinct(&topics, &mut check);
    let found = rules::load(
        file,
        raw.rules.unwrap_or_default(),
        raw.default_rules.unwrap_or(true),
        &mut check,
    );
    let config = Config {
        path: file.to_owned(),
        kafka,
        topics,
        roles,
        inputs,
        ingest,
        detect,
        dedup: DedupConfig {
            entries: raw.dedup.unwrap_or_default().entries.unwrap_or(262_144) as usize,
        },
        alerts,
        dead_letter,
        http: HttpConfig {
            listen: raw
                .http
                .unwrap_or_default()
                .listen
                .map_or(std::net::SocketAddr::from(([0, 0, 0, 0], 9464)), |Text(address)| address),
        },
        shutdown,
        catalog,
        identity,
        canary,
        rules: found.rules,
        rule_paths: found.paths,
    };
    keyed_inputs(&config, &mut check);
    lint::config(&config, &found.origins, &mut check);
    config
}

fn topics(raw: RawTopics) -> Topics {
    let name = |topic: Option<Text<TopicName>>, default: &str| {
        topic.map_or_else(|| default.to_owned(), |Text(TopicName(name))| name)
    };
    Topics {
        events: name(raw.events, "exfilwatch.events"),
        state: name(raw.state, "exfilwatch.state"),
        alerts: name(raw.alerts, "exfilwatch.alerts"),
        dead_letter: name(raw.dead_letter, "exfilwatch.dead-letter"),
    }
}

fn own_topics_are_distinct(topics: &Topics, check: &mut Check<'_>) {
    let all = [
        (place!["topics", "events"].to_vec(), &topics.events),
        (place!["topics", "state"].to_vec(), &topics.state),
        (place!["topics", "alerts"].to_vec(), &topics.alerts),
        (place!["topics", "dead_letter"].to_vec(), &topics.dead_letter),
    ];
    check.unique(all, "topic", "each of the four needs a topic of its own");
}

fn roles(raw: Option<List<super::values::OneOf<Role>>>, check: &mut Check<'_>) -> Roles {
    let Some(list) = raw else { return Roles { ingest: true, detect: true } };
    let name = |role| if role == Role::Ingest { "ingest" } else { "detect" };
    let named = list.0.iter().map(|(index, role)| (place!["roles", index].to_vec(), name(role.0)));
    check.unique(named.collect::<Vec<_>>(), "role", "name it once");
    let has = |wanted| list.0.iter().any(|(_, role)| role.0 == wanted);
    Roles { ingest: has(Role::Ingest), detect: has(Role::Detect) }
}

fn inputs(raw: List<RawInput>, topics: &Topics, check: &mut Check<'_>) -> Vec<Input> {
    let own = [
        (&topics.events, "topics.events"),
        (&topics.state, "topics.state"),
        (&topics.alerts, "topics.alerts"),
        (&topics.dead_letter, "topics.dead_letter"),
    ];
    let mut inputs = Vec::new();
    let mut named = Vec::new();
    for (index, raw) in raw.0 {
        let Some(Text(TopicName(topic))) = raw.topic else { continue };
        let place = place!["inputs", index, "topic"].to_vec();
        if let Some((_, key)) = own.iter().find(|(own, _)| **own == topic) {
            let problem = format!("`{topic}` is {key}, which exfilwatch writes itself");
            check.fault(&place, problem, "read the topic your sources write to");
        }
        named.push((place, topic.clone()));
        let text = |name: Option<Text<Name>>| name.map(|Text(Name(name))| name);
        let source = raw.source.unwrap_or_default();
        let format = raw.format.map_or(Format::Canonical, |format| format.0);
        inputs.push(Input {
            topic,
            format,
            start: raw.start.map_or(Start::Earliest, |Text(start)| start),
            keyed: raw.keyed.unwrap_or(false),
            retries: raw.retries.unwrap_or(format.retries()),
            source: SourceDefaults {
                kind: text(source.kind),
                instance: text(source.instance),
                database: text(source.database),
                tenant: text(source.tenant),
            },
        });
    }
    check.unique(named, "topic", "one input a topic; its events would be read twice");
    inputs
}

const DAY_S: u64 = 24 * 3600;
const MIB: u64 = 1 << 20;

fn ingest(raw: RawIngest, check: &mut Check<'_>) -> IngestConfig {
    IngestConfig {
        max_drift: check.span(&place!["ingest", "max_drift"], raw.max_drift, 300, (1, 30 * DAY_S)),
        hold_bytes: check.size(
            &place!["ingest", "hold_bytes"],
            raw.hold_bytes,
            4 * MIB,
            (MIB, 1024 * MIB),
        ),
    }
}

fn alerts(raw: RawAlerts, check: &mut Check<'_>) -> AlertsConfig {
    AlertsConfig {
        transactional: raw.transactional.unwrap_or(false),
        queue_bytes: check.size(
            &place!["alerts", "queue_bytes"],
            raw.queue_bytes,
            8 * MIB,
            (MIB, 1024 * MIB),
        ),
    }
}

fn detect(raw: RawDetect, check: &mut Check<'_>) -> DetectConfig {
    DetectConfig {
        memory_limit: check.size(
            &place!["detect", "memory_limit"],
            raw.memory_limit,
            2048 * MIB,
            (64 * MIB, 1024 * 1024 * MIB),
        ),
        allowed_skew: check.span(
            &place!["detect", "allowed_skew"],
            raw.allowed_skew,
            300,
            (0, DAY_S),
        ),
        checkpoint_interval: check.span(
            &place!["detect", "checkpoint_interval"],
            raw.checkpoint_interval,
            10,
            (1, 3600),
        ),
        threads: raw.threads.unwrap_or(0) as usize,
        queue_bytes: check.size(
            &place!["detect", "queue_bytes"],
            raw.queue_bytes,
            32 * MIB,
            (MIB, 1024 * MIB),
        ),
    }
}

fn dead_letter(raw: RawDeadLetter, check: &mut Check<'_>) -> DeadLetterConfig {
    let max_bytes = check.size(
        &place!["dead_letter", "max_bytes"],
        raw.max_bytes,
        900 << 10,
        // No more than the producer takes.
        (1 << 10, 8 * MIB),
    );
    DeadLetterConfig {
        bytes_per_second: check.size(
            &place!["dead_letter", "bytes_per_second"],
            raw.bytes_per_second,
            MIB,
            (1 << 10, 1024 * MIB),
        ),
        max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
    }
}

/// librdkafka's own default of `session.timeout.ms`.
const SESSION_TIMEOUT_MS: u64 = 45_000;

fn shutdown(
    raw: Option<Text<Duration>>,
    kafka: &KafkaConfig,
    check: &mut Check<'_>,
) -> ShutdownConfig {
    let place = place!["shutdown", "drain_timeout"];
    let drain_timeout = check.span(&place, raw, 20, (1, 600));
    let session = kafka.property("session.timeout.ms").and_then(|text| text.parse().ok());
    let session = Duration::from_millis(session.unwrap_or(SESSION_TIMEOUT_MS));
    if drain_timeout >= session {
        let drain = show_span(drain_timeout);
        let problem = if kafka.secrets.get("session.timeout.ms").is_some() {
            format!("{drain} must be below the session.timeout.ms of kafka.properties_from_files")
        } else {
            let session = show_span(session);
            format!("{drain} must be below kafka.properties.session.timeout.ms ({session})")
        };
        check.fault(&place, problem, "partitions go to another member before the drain can end");
    }
    ShutdownConfig { drain_timeout }
}

fn catalog(raw: List<RawCatalogEntry>, check: &mut Check<'_>) -> Vec<CatalogEntry> {
    let mut entries = Vec::new();
    for (index, raw) in raw.0 {
        let Some(Text(Glob(object))) = raw.object else { continue };
        let labels: Vec<String> =
            raw.labels.unwrap_or_default().values().map(|Text(Name(label))| label).collect();
        if labels.is_empty() && raw.row_count.is_none() {
            let problem = format!("`{object}` says nothing; expected labels, row_count or both");
            check.fault(&place!["catalog", index], problem, "remove it, or say what it is");
        }
        entries.push(CatalogEntry { object, labels, row_count: raw.row_count });
    }
    entries
}

fn identity(raw: RawIdentity, check: &mut Check<'_>) -> IdentitySpec {
    let fold_case = raw.fold_case.unwrap_or(true);
    let aliases: Vec<(String, String)> = raw
        .aliases
        .unwrap_or_default()
        .into_iter()
        .map(|(name, Text(Name(principal)))| (name, principal))
        .collect();
    let mut seen: Vec<(String, &String)> = Vec::new();
    for (name, principal) in &aliases {
        let place = place!["identity", "aliases", name];
        let folded = if fold_case { name.to_lowercase() } else { name.clone() };
        if folded.trim().is_empty() {
            check.fault(&place, "the name is empty".to_owned(), "");
        }
        match seen.iter().find(|(other, _)| *other == folded) {
            Some((_, other)) if *other != principal => {
                let problem = format!("`{name}` is `{principal}` here and `{other}` elsewhere");
                check.fault(&place, problem, "names are compared without regard to case");
            }
            _ => seen.push((folded, principal)),
        }
    }
    IdentitySpec {
        aliases,
        fold_case,
        strip_domains: raw
            .strip_domains
            .unwrap_or_default()
            .values()
            .map(|Text(Name(domain))| domain)
            .collect(),
        qualify_by: qualify_by(raw.qualify_by.unwrap_or_default(), check),
    }
}

fn qualify_by(
    raw: List<super::values::OneOf<crate::event::identity::Qualifier>>,
    check: &mut Check<'_>,
) -> Vec<crate::event::identity::Qualifier> {
    use crate::event::identity::Qualifier;
    let name = |qualifier| match qualifier {
        Qualifier::Tenant => "tenant",
        Qualifier::SourceInstance => "source.instance",
    };
    let named = |(index, it): &(usize, super::values::OneOf<Qualifier>)| {
        (place!["identity", "qualify_by", index].to_vec(), name(it.0))
    };
    check.unique(raw.0.iter().map(named).collect::<Vec<_>>(), "qualifier", "name it once");
    raw.values().map(|qualifier| qualifier.0).collect()
}

/// DESIGN 4: what must hold before detect may read a topic that ingest has not re-keyed.
fn keyed_inputs(config: &Config, check: &mut Check<'_>) {
    let identity = &config.identity;
    for (index, input) in config.inputs.iter().enumerate().filter(|(_, input)| input.keyed) {
        let place = place!["inputs", index, "keyed"];
        let mut refuse = |reason: String, hint: &str| {
            check.fault(&place, format!("`keyed: true` is not possible: {reason}"), hint);
        };
        let rekey = "leave `keyed` out: ingest will re-key the topic";
        if config.inputs.len() > 1 {
            refuse("it is not the only input".to_owned(), rekey);
        }
        if !matches!(input.format, Format::Canonical | Format::Arrow) {
            let format = input.format.as_str();
            refuse(format!("its format is {format}; expected canonical or arrow"), rekey);
        }
        for (key, used) in [
            ("identity.aliases", !identity.aliases.is_empty()),
            ("identity.strip_domains", !identity.strip_domains.is_empty()),
            ("identity.qualify_by", !identity.qualify_by.is_empty()),
        ] {
            if used {
                let reason = format!("{key} makes principals that differ from the record keys");
                refuse(reason, rekey);
            }
        }
        let other = config.rules.iter().find(|rule| rule.group_by != GroupBy::PrincipalId);
        if let Some(rule) = other {
            let reason = format!("rule `{}` groups by {}", rule.id, rule.group_by.as_str());
            refuse(reason, "only principal.id is counted from record keys");
        }
    }
}

/// The shape of topics that are created.
pub(super) fn topic_shape(raw: Option<RawCreateTopics>) -> Option<TopicShape> {
    match raw? {
        RawCreateTopics::Bool(false) => None,
        RawCreateTopics::Bool(true) => Some(TopicShape { partitions: 16, replication: 3 }),
        RawCreateTopics::Shape(shape) => Some(TopicShape {
            partitions: shape.partitions.unwrap_or(16),
            replication: shape.replication.unwrap_or(3),
        }),
    }
}
