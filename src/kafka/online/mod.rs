//! `check --online`: are the topics in order, what do the inputs hold, and which rules would see
//! it. Reads the newest records of each input without a group, commits nothing, creates nothing.
//!
//! A rule that can never fire is the commonest blindness, so what matches nothing is said first.

mod positions;
pub mod sample;

use std::{fmt, time::Duration};

use rdkafka::Message as _;
use serde::Serialize;

pub use self::positions::Position;
use self::sample::{InputReport, Sampler};
use super::{
    Error, newest,
    topics::{Cluster, Topics},
};
use crate::{
    alert::text::{NAME_MAX, SENTENCE_MAX, shown},
    checkpoint::Origin,
    config::{Config, Input},
    event::{catalog::Catalog, identity::Identity},
    rules::compile::compile,
};

/// Newest records read of each input, over all its partitions.
pub const RECORDS: u32 = 100;
/// How long one question to the broker may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// What a report cannot tell.
pub const NOT_CHECKED: &str = "rights (ACLs) to join the groups and to write events, state, alerts \
                               and dead letters; a run says so when it first may not";

/// What can be told only of our own topics.
pub const INPUTS_ALONE: &str = "topics that exfilwatch writes, its checkpoints, and rights (ACLs); \
                                `--online=all` looks at the topics";

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Brokers and inputs: what must be there before anything of ours is.
    Inputs,
    /// Also our own topics and checkpoints.
    All,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Cluster id.
    pub cluster: String,
    /// What a run would refuse or what would go wrong in it; empty is fine.
    pub faults: Vec<String>,
    /// What is doubtful.
    pub warnings: Vec<String>,
    /// One for each input.
    pub inputs: Vec<InputReport>,
    /// Rules that no record matched.
    pub silent_rules: Vec<String>,
    /// Catalogue entries that described no object.
    pub silent_catalog: Vec<String>,
    /// Where detect would go on, by partition.
    pub positions: Vec<Position>,
    /// What was not looked at: [`NOT_CHECKED`] or [`INPUTS_ALONE`].
    pub not_checked: &'static str,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// What is looked at.
    pub scope: Scope,
    /// Partitions that the topic which detect reads is reckoned to have.
    pub partitions: Option<u32>,
    /// How long to wait for a broker that answers.
    pub timeout: Duration,
}

impl Report {
    /// True when a run would start and nothing is known to be wrong.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Asks the broker and reads samples; `doing` is told what takes a moment.
///
/// # Errors
/// No broker answers within its `timeout`, or not later, or a setting is wrong. Unfit topics are in
/// the report.
pub fn check(config: &Config, question: Question, doing: &dyn Fn(&str)) -> Result<Report, Error> {
    let Question { scope, partitions, timeout } = question;
    let all = scope == Scope::All;
    let not_checked = if all { NOT_CHECKED } else { INPUTS_ALONE };
    let mut report = Report { not_checked, ..Report::default() };
    doing("waiting for a broker");
    let topics = Topics::new(config)?;
    topics.reach(timeout)?;
    doing("asking for topics");
    let cluster = match if all { topics.inspect() } else { topics.inspect_inputs() } {
        Ok(cluster) => cluster,
        Err(Error::Topics { faults }) => {
            report.faults = faults;
            Cluster::default()
        }
        Err(cause) => return Err(cause),
    };
    report.cluster.clone_from(&cluster.id);
    report.warnings.clone_from(&cluster.warnings);
    check_time(config, scope, &topics, &mut report);
    let sound = report.faults.is_empty();
    if all || config.keyed_input().is_some() {
        let read = topics.partitions(config.read_by_detect())?;
        report.faults.extend(other_partitions(config, partitions, read));
        if let (true, true, Some(read)) = (all, sound, read) {
            doing("reading checkpoints");
            check_positions(config, &cluster, &topics, read, &mut report)?;
        }
    }
    sample(config, &topics, &mut report, doing)?;
    Ok(report)
}

/// Reads the newest records of each input, and says which rules and entries none of them matched.
fn sample(
    config: &Config,
    topics: &Topics<'_>,
    report: &mut Report,
    doing: &dyn Fn(&str),
) -> Result<(), Error> {
    let rules = compile(&config.rules);
    let identity = Identity::new(&config.identity);
    let catalog = Catalog::new(config.catalog.clone());
    for input in &config.inputs {
        let Some(partitions) = topics.partitions(&input.topic)? else { continue };
        doing(&format!("reading the newest records of {}", shown(&input.topic, NAME_MAX)));
        let mut sampler = Sampler::new(input, &identity, &catalog, &config.catalog, &rules);
        read_newest(config, input, partitions, &mut sampler)?;
        let mut found = sampler.finish();
        found.partitions = partitions;
        if found.records == 0 {
            report.warnings.push(format!("input topic `{}` holds no records yet", input.topic));
        }
        if found.miskeyed > 0 {
            report.faults.push(format!(
                "keyed input `{}`: {} of {} events have a record key that is not their canonical \
                 principal, so counts would be split over partitions\n  hint: key the topic by \
                 canonical principal or remove `keyed: true`",
                input.topic, found.miskeyed, found.events
            ));
        }
        report.inputs.push(found);
    }
    let read = report.inputs.iter().any(|input| input.events > 0);
    let silent = |by: &dyn Fn(&InputReport) -> bool| read && !report.inputs.iter().any(by);
    let ids = rules.rules.iter().map(|rule| &rule.id);
    let silent_rules = ids.filter(|id| silent(&|input| input.matched.contains_key(*id)));
    let globs = config.catalog.iter().map(|entry| &entry.object);
    let silent_catalog = globs.filter(|glob| silent(&|input| input.catalog.contains_key(*glob)));
    let (silent_rules, silent_catalog) =
        (silent_rules.cloned().collect(), silent_catalog.cloned().collect());
    report.silent_rules = silent_rules;
    report.silent_catalog = silent_catalog;
    Ok(())
}

/// Whoever reckons with other partitions than there are gives members too little memory, or has
/// more of them than there is work for.
fn other_partitions(config: &Config, wanted: Option<u32>, found: Option<u32>) -> Option<String> {
    let (wanted, found) = (wanted?, found?);
    (wanted != found).then(|| {
        format!(
            "topic `{}`, which detect reads, has {found} partitions, but {wanted} are reckoned \
             with\n  hint: say {found} there (`topics.partitions` of the chart, `--partitions` \
             here); to change the topic: docs/OPERATIONS.md, \"Changing the number of partitions\"",
            config.read_by_detect()
        )
    })
}

/// The checkpoints beside what detect reads, once there is any of both.
fn check_positions(
    config: &Config,
    cluster: &Cluster,
    topics: &Topics<'_>,
    partitions: u32,
    report: &mut Report,
) -> Result<(), Error> {
    if topics.partitions(&config.topics.state)?.is_none() {
        return Ok(());
    }
    let (cluster, topic) = (cluster.id.clone(), config.read_by_detect());
    let origin = Origin { cluster, topic: topic.to_owned(), partition: 0, partitions };
    report.positions = positions::positions(config, &origin)?;
    for position in &report.positions {
        if let Some(problem) = &position.problem {
            report.faults.push(format!("{topic}[{}]: {problem}", position.partition));
        }
    }
    Ok(())
}

/// Times of the records that detect reads stand for broker time (W4).
fn check_time(config: &Config, scope: Scope, topics: &Topics<'_>, report: &mut Report) {
    let keyed = config.inputs.iter().filter(|input| input.keyed);
    let mut names: Vec<&str> = keyed.map(|input| input.topic.as_str()).collect();
    if names.is_empty() && scope == Scope::All {
        names.push(&config.topics.events);
    }
    let settings = match topics.settings(&names) {
        Ok(settings) => settings,
        Err(cause) => {
            report.warnings.push(format!("whether the broker stamps records: {cause}"));
            return;
        }
    };
    for (topic, settings) in settings {
        let is = settings.get("message.timestamp.type").map_or("", String::as_str);
        // A topic that a run will make is empty here.
        if !is.is_empty() && is != "LogAppendTime" {
            report.faults.push(format!(
                "topic `{topic}`, which detect reads, has message.timestamp.type={is}, but \
                 LogAppendTime is needed: a source could move windows into the future\n  hint: \
                 kafka-configs.sh --bootstrap-server {} --alter --entity-type topics \
                 --entity-name {topic} --add-config message.timestamp.type=LogAppendTime",
                config.kafka.bootstrap_servers
            ));
        }
    }
}

/// Reads about [`RECORDS`] records, the newest of each partition.
fn read_newest(
    config: &Config,
    input: &Input,
    partitions: u32,
    sampler: &mut Sampler<'_>,
) -> Result<(), Error> {
    let each = i64::from(RECORDS.div_ceil(partitions.max(1)));
    newest::read(&config.kafka, "check", (&input.topic, partitions), each, |record| {
        sampler.read(record.key(), record.payload());
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cluster {}", if self.cluster.is_empty() { "?" } else { &self.cluster })?;
        for fault in &self.faults {
            writeln!(f, "fault: {fault}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for rule in &self.silent_rules {
            writeln!(f, "warning: rule `{rule}` matches none of the records read")?;
        }
        for entry in &self.silent_catalog {
            writeln!(f, "warning: catalogue entry `{entry}` describes no object that was read")?;
        }
        for input in &self.inputs {
            write_input(f, input)?;
        }
        if !self.positions.is_empty() {
            writeln!(f, "\nwhere detect goes on:")?;
        }
        for position in &self.positions {
            writeln!(f, "{position}")?;
        }
        writeln!(f, "\nnot checked: {}", self.not_checked)
    }
}

fn write_input(f: &mut fmt::Formatter<'_>, input: &InputReport) -> fmt::Result {
    writeln!(
        f,
        "\n{} ({}, {} partitions): {} records, {} events",
        shown(&input.topic, NAME_MAX),
        input.format,
        input.partitions,
        input.records,
        input.events
    )?;
    for (reason, count) in &input.ignored {
        writeln!(f, "  ignored {count}: {reason}")?;
    }
    for (reason, (count, message)) in &input.refused {
        writeln!(f, "  refused {count}: {reason}: {}", shown(message, SENTENCE_MAX))?;
    }
    if input.without_rows > 0 {
        writeln!(f, "  {} of {} events have no record count", input.without_rows, input.events)?;
    }
    list(f, "principals", input.principals.iter())?;
    list(f, "labels", input.labels.iter())?;
    for (object, labels) in &input.objects {
        writeln!(f, "  object {} [{}]", shown(object, NAME_MAX), labels.join(", "))?;
    }
    for example in &input.examples {
        let rows = example.rows.map_or_else(|| "?".to_owned(), |rows| rows.to_string());
        let written = if example.written == example.principal {
            String::new()
        } else {
            format!(" (written {})", shown(&example.written, NAME_MAX))
        };
        writeln!(
            f,
            "  event: {}{written} read {rows} rows of {}",
            shown(&example.principal, NAME_MAX),
            shown(&example.objects.join(", "), SENTENCE_MAX)
        )?;
    }
    for (rule, count) in &input.matched {
        writeln!(f, "  rule {rule} counts {count} of {} events", input.events)?;
    }
    Ok(())
}

fn list<'a>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    names: impl ExactSizeIterator<Item = &'a String>,
) -> fmt::Result {
    if names.len() == 0 {
        return Ok(());
    }
    let names: Vec<String> = names.map(|name| shown(name, NAME_MAX)).collect();
    writeln!(f, "  {what}: {}", names.join(", "))
}
