//! The topics we need: looked up at start, made where the configuration allows it, and otherwise
//! named in one error with the commands that make them.
//!
//! Never here: changing or deleting a topic that exists. What is unfit is reported with the
//! command that mends it.

pub mod create;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{
        AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
        TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};
use tracing::{info, warn};

use super::{
    Error, admin_token,
    client::{self, Context, MESSAGE_BYTES_MAX},
    token,
};
use crate::config::{Config, TopicShape};

/// How long one question about topics may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// A command that has nothing to do without a broker waits so long for one to answer.
pub const ANSWER_FOR: Duration = Duration::from_secs(10);
/// Between two questions whether a broker answers: no longer than this.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Room beside a dead letter's value: its key, its headers, the batch around it.
pub const DEAD_LETTER_ROOM_BYTES: usize = 64 * 1024;
/// How the id of an embedded broker begins; it leaves questions about settings unanswered.
const EMBEDDED_ID: &str = "mockCluster";
/// No alert is longer: every list in it is bounded.
pub const ALERT_BYTES_MAX: usize = 512 * 1024;
/// Places in what [`wanted`] returns.
const EVENTS: usize = 0;
const STATE: usize = 1;
/// Shape named in hints when the configuration gives none.
const HINT_SHAPE: TopicShape = TopicShape { partitions: 16, replication: 3 };

/// What is known of the cluster once its topics are in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Cluster id; part of a row's identity (D1). Empty when the broker has none.
    pub id: String,
    /// Partitions of the events topic.
    pub events_partitions: u32,
    /// Partitions of each input.
    pub inputs: BTreeMap<String, u32>,
    /// Faults that do not stop us, such as a missing `LogAppendTime`.
    pub warnings: Vec<String>,
}

impl Cluster {
    /// True for the embedded broker, which leaves questions about settings and ids unanswered.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.id.starts_with(EMBEDDED_ID)
    }
}

/// One of our own topics as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    partitions: u32,
    replication: u32,
    settings: Vec<(&'static str, String)>,
    /// Least `max.message.bytes` it must have.
    message_bytes: usize,
}

/// Of a topic that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    partitions: u32,
    /// Copies of the partition that has fewest.
    replication: u32,
}

/// A topic that was asked for, and what came of it.
type Requested = (String, Result<(), RDKafkaErrorCode>);

/// What detect reads.
struct Read {
    topic: String,
    /// None where it is missing.
    partitions: Option<u32>,
}

/// Our topics in the shapes of DESIGN 4.
fn wanted(config: &Config, shape: TopicShape) -> Vec<Wanted> {
    let days = |days: u64| (days * 24 * 3600 * 1000).to_string();
    let dead_letter_bytes = config.dead_letter.max_bytes + DEAD_LETTER_ROOM_BYTES;
    let topic = |name: &str, partitions, message_bytes: usize, settings: Vec<_>| {
        let mut settings = settings;
        // The broker's default holds a little over 1 MB; no topic of ours gets less.
        settings.push(("max.message.bytes", message_bytes.max(1_048_588).to_string()));
        Wanted {
            name: name.to_owned(),
            partitions,
            replication: shape.replication,
            settings,
            message_bytes,
        }
    };
    let deleted = |after| vec![("cleanup.policy", "delete".to_owned()), ("retention.ms", after)];
    let mut events = deleted(days(7));
    events.push(("message.timestamp.type", "LogAppendTime".to_owned()));
    let state = vec![
        ("cleanup.policy", "compact".to_owned()),
        ("segment.bytes", (64 * 1024 * 1024).to_string()),
        ("min.cleanable.dirty.ratio", "0.1".to_owned()),
    ];
    // Batches may be a little longer than the message in them.
    let events_bytes = MESSAGE_BYTES_MAX + DEAD_LETTER_ROOM_BYTES;
    vec![
        topic(&config.topics.events, shape.partitions, events_bytes, events),
        topic(&config.topics.state, shape.partitions, 0, state),
        topic(&config.topics.alerts, shape.partitions.min(8), ALERT_BYTES_MAX, deleted(days(30))),
        topic(
            &config.topics.dead_letter,
            shape.partitions.min(8),
            dead_letter_bytes,
            deleted(days(7)),
        ),
    ]
}

impl Wanted {
    /// The command that makes it.
    fn create_command(&self, servers: &str) -> String {
        let mut command = format!(
            "kafka-topics.sh --bootstrap-server {servers} --create --topic {} --partitions {} \
             --replication-factor {}",
            self.name, self.partitions, self.replication
        );
        for (key, value) in &self.settings {
            // Writing to a string cannot fail.
            let _ = write!(command, " --config {key}={value}");
        }
        command
    }

    /// The command that gives it one setting.
    fn alter_command(&self, servers: &str, key: &str, value: &str) -> String {
        format!(
            "kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics \
             --entity-name {} --add-config {key}={value}",
            self.name
        )
    }
}

/// Asks a broker about topics and makes them.
pub struct Topics<'a> {
    config: &'a Config,
    questions: BaseConsumer<Context>,
    admin: AdminClient<DefaultClientContext>,
}

impl<'a> Topics<'a> {
    /// Prepares to ask; nothing is sent yet.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn new(config: &'a Config) -> Result<Self, Error> {
        let settings = client::base(&config.kafka, "topics");
        let failed = |cause| Error::Client { client: "topics".to_owned(), cause };
        Ok(Self {
            config,
            questions: client::reader(&config.kafka, "topics", &settings)?,
            admin: settings.create().map_err(failed)?,
        })
    }

    /// The client that is asked.
    fn questions(&self) -> &BaseConsumer<Context> {
        // Nobody polls it otherwise, and a token may have ended.
        client::serve_token(&self.questions);
        &self.questions
    }

    /// The client that makes and describes topics.
    fn admin(&self) -> &AdminClient<DefaultClientContext> {
        // A token that cannot be had has been logged, and the call says that nobody answered.
        let token = self.config.kafka.oauth_token_file.as_ref().map(|file| token::read(file));
        if let Some(Ok(token)) = token
            && let Err(why) = admin_token::hand_over(self.admin.inner(), &token)
        {
            warn!("librdkafka does not take the token of kafka.oauth_token_file: {why}");
        }
        &self.admin
    }

    /// Waits until a broker answers, at most `timeout`.
    ///
    /// # Errors
    /// None does, or we may not ask.
    pub fn reach(&self, timeout: Duration) -> Result<(), Error> {
        let until = Instant::now() + timeout;
        let topic = self.config.topics.events.as_str();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let asked = self.questions().fetch_metadata(Some(topic), left.min(ASK_AGAIN));
            match asked.map_err(Error::call("cannot ask the broker")) {
                Ok(_) => return Ok(()),
                Err(cause) if !cause.is_transient() => return Err(cause),
                Err(_) if left.is_zero() => {
                    return Err(Error::NoAnswer {
                        servers: self.config.kafka.bootstrap_servers.clone(),
                        waited: timeout,
                        said: self.questions.context().0.last_said(),
                    });
                }
                // What librdkafka says of its connections.
                Err(_) => drop(self.questions.poll(ASK_AGAIN.min(left) / 10)),
            }
        }
    }

    /// Looks every topic up, makes what is missing where that is allowed, and checks the rest.
    ///
    /// # Errors
    /// The broker does not answer (transient), or topics are missing or unfit.
    pub fn ensure(&self) -> Result<Cluster, Error> {
        self.look_up(true)
    }

    /// [`Self::ensure`], but makes nothing: what it would make is a warning.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub fn inspect(&self) -> Result<Cluster, Error> {
        self.look_up(false)
    }

    /// Looks at the inputs alone, as long as ours need not be there.
    ///
    /// # Errors
    /// The broker does not answer, or an input is missing.
    pub fn inspect_inputs(&self) -> Result<Cluster, Error> {
        let mut faults = Vec::new();
        let inputs = self.inputs(&mut faults)?;
        let id = self.cluster_id()?;
        let warnings: Vec<String> = self.check_keyed().into_iter().collect();
        if !faults.is_empty() {
            faults.extend(warnings);
            return Err(Error::Topics { faults });
        }
        Ok(Cluster { id, inputs, warnings, ..Cluster::default() })
    }

    /// Partitions of each input; those that are missing go to `faults`.
    fn inputs(&self, faults: &mut Vec<String>) -> Result<BTreeMap<String, u32>, Error> {
        let mut inputs = BTreeMap::new();
        for input in &self.config.inputs {
            match self.partitions(&input.topic)? {
                Some(partitions) => {
                    inputs.insert(input.topic.clone(), partitions);
                }
                None => faults.push(format!(
                    "input topic `{}` does not exist on {}\n  hint: check the name, or create it: \
                     kafka-topics.sh --bootstrap-server {1} --create --topic {0}",
                    input.topic, self.config.kafka.bootstrap_servers
                )),
            }
        }
        Ok(inputs)
    }

    fn cluster_id(&self) -> Result<String, Error> {
        // Rows are known by it (D1), so a guess would count them twice.
        let id = self.questions().client().fetch_cluster_id(CALL_TIMEOUT);
        id.ok_or_else(|| Error::Unreachable {
            servers: self.config.kafka.bootstrap_servers.clone(),
            cause: KafkaError::ClientCreation("the cluster did not tell its id".to_owned()),
        })
    }

    fn look_up(&self, create: bool) -> Result<Cluster, Error> {
        let mut faults = Vec::new();
        let inputs = self.inputs(&mut faults)?;
        let shape = self.config.kafka.create_topics;
        let (wanted, read) = self.our_topics()?;
        let mut found = Vec::with_capacity(wanted.len());
        for topic in &wanted {
            found.push(self.partitions(&topic.name)?);
        }
        let missing: Vec<&Wanted> =
            wanted.iter().zip(&found).filter(|(_, n)| n.is_none()).map(|(w, _)| w).collect();
        if shape.is_none() {
            for topic in &missing {
                faults.push(self.missing(topic));
            }
        } else if create && faults.is_empty() {
            self.create(&missing)?;
        }
        let count = |index: usize| found[index].unwrap_or(wanted[index].partitions);
        let (topic, partitions) = (read.topic, read.partitions);
        let partitions = partitions.unwrap_or(wanted[EVENTS].partitions);
        if faults.is_empty() && partitions != count(STATE) {
            faults.push(format!(
                "`{topic}` has {partitions} partitions and `{}` has {}, but they must have as \
                 many\n  hint: docs/OPERATIONS.md, \"Changing the number of partitions\"",
                wanted[STATE].name,
                count(STATE)
            ));
        }
        let id = self.cluster_id()?;
        let mut warnings = if id.starts_with(EMBEDDED_ID) {
            Vec::new()
        } else {
            self.check_settings(&wanted, &found, &mut faults)
        };
        if !id.starts_with(EMBEDDED_ID) {
            warnings.extend(self.check_keyed());
        }
        if !faults.is_empty() {
            faults.extend(warnings);
            return Err(Error::Topics { faults });
        }
        if !create {
            let say = |topic: &&Wanted| format!("topic `{}` will be made by a run", topic.name);
            warnings.extend(missing.iter().map(say));
        }
        Ok(Cluster { id, events_partitions: count(EVENTS), inputs, warnings })
    }

    /// Our topics as they should be, and what detect reads.
    fn our_topics(&self) -> Result<(Vec<Wanted>, Read), Error> {
        let mut wanted = wanted(self.config, self.config.kafka.create_topics.unwrap_or(HINT_SHAPE));
        // Partition i of the state is for partition i of what detect reads, however many those are.
        let topic = self.config.read_by_detect();
        let read = Read { topic: topic.to_owned(), partitions: self.partitions(topic)? };
        if let Some(partitions) = read.partitions {
            wanted[STATE].partitions = partitions;
        }
        Ok((wanted, read))
    }

    fn missing(&self, topic: &Wanted) -> String {
        format!(
            "topic `{}` does not exist\n  hint: set kafka.create_topics: true, or run: {}",
            topic.name,
            topic.create_command(&self.config.kafka.bootstrap_servers)
        )
    }

    /// How many partitions a topic has; `None` when there is no such topic.
    ///
    /// # Errors
    /// The broker does not answer, or does not allow the question.
    pub fn partitions(&self, topic: &str) -> Result<Option<u32>, Error> {
        Ok(self.shape(topic)?.map(|shape| shape.partitions))
    }

    fn shape(&self, topic: &str) -> Result<Option<Shape>, Error> {
        let metadata =
            self.questions().fetch_metadata(Some(topic), CALL_TIMEOUT).map_err(|cause| {
                Error::Unreachable { servers: self.config.kafka.bootstrap_servers.clone(), cause }
            })?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error() {
            None => {
                let copies = found.partitions().iter().map(|it| it.replicas().len()).min();
                let small = |count| u32::try_from(count).unwrap_or(u32::MAX);
                let partitions = small(found.partitions().len());
                let shape = Shape { partitions, replication: small(copies.unwrap_or_default()) };
                Ok((partitions > 0).then_some(shape))
            }
            Some(
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
            ) => Ok(None),
            Some(code) => {
                let cause = KafkaError::MetadataFetch(code.into());
                Err(Error::call(format!("cannot look up topic `{topic}`"))(cause))
            }
        }
    }

    /// Asks for topics; gives by name what came of each.
    fn request(&self, missing: &[&Wanted]) -> Result<Vec<Requested>, Error> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let topics: Vec<NewTopic<'_>> = missing.iter().map(|topic| new_topic(topic)).collect();
        let options = AdminOptions::new()
            .request_timeout(Some(CALL_TIMEOUT))
            .operation_timeout(Some(CALL_TIMEOUT));
        let results = wait(self.admin().create_topics(&topics, &options))
            .map_err(Error::call("cannot create topics"))?;
        let apart = |result| match result {
            Ok(name) => (name, Ok(())),
            Err((name, code)) => (name, Err(code)),
        };
        Ok(results.into_iter().map(apart).collect())
    }

    fn create(&self, missing: &[&Wanted]) -> Result<(), Error> {
        let mut faults = Vec::new();
        for ((name, result), topic) in self.request(missing)?.into_iter().zip(missing) {
            match result {
                // Another member was faster.
                Ok(()) | Err(RDKafkaErrorCode::TopicAlreadyExists) => {
                    info!(topic = topic.name, partitions = topic.partitions, "topic is there");
                }
                Err(code) => faults.push(format!(
                    "topic `{name}` cannot be created: {code}\n  hint: {}",
                    topic.create_command(&self.config.kafka.bootstrap_servers)
                )),
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Topics { faults }) }
    }

    /// Checks settings of the topics that were there; returns what is only worth a warning.
    fn check_settings(
        &self,
        wanted: &[Wanted],
        found: &[Option<u32>],
        faults: &mut Vec<String>,
    ) -> Vec<String> {
        let servers = &self.config.kafka.bootstrap_servers;
        let mut warnings = Vec::new();
        let there: Vec<&Wanted> =
            wanted.iter().zip(found).filter(|(_, found)| found.is_some()).map(|(w, _)| w).collect();
        let names: Vec<&str> = there.iter().map(|topic| topic.name.as_str()).collect();
        let all = match self.settings(&names) {
            Ok(all) => all,
            Err(cause) => {
                warn!("settings of topics cannot be read, so they are not checked: {cause}");
                return warnings;
            }
        };
        for topic in there {
            let Some(settings) = all.get(&topic.name) else { continue };
            let bytes = settings.get("max.message.bytes").and_then(|text| text.parse().ok());
            if bytes.is_some_and(|bytes: usize| bytes < topic.message_bytes) {
                faults.push(format!(
                    "topic `{}` takes messages of at most {} bytes, but we may write {}\n  hint: \
                     {}",
                    topic.name,
                    bytes.unwrap_or_default(),
                    topic.message_bytes,
                    topic.alter_command(
                        servers,
                        "max.message.bytes",
                        &topic.message_bytes.to_string()
                    )
                ));
            }
            for (key, value) in &topic.settings {
                let is = settings.get(*key).map_or("", String::as_str);
                let matters = matches!(*key, "message.timestamp.type" | "cleanup.policy");
                if matters && !is.is_empty() && is != value {
                    warnings.push(format!(
                        "topic `{}` has {key}={is}, but {value} is wanted\n  hint: {}",
                        topic.name,
                        topic.alter_command(servers, key, value)
                    ));
                }
            }
        }
        warnings
    }

    /// Times of a keyed input stand for broker time (W4).
    fn check_keyed(&self) -> Option<String> {
        let topic = self.config.keyed_input()?.topic.as_str();
        let settings = match self.settings(&[topic]) {
            Ok(settings) => settings,
            Err(cause) => return Some(format!("keyed input `{topic}` is not checked: {cause}")),
        };
        let is = settings.get(topic)?.get("message.timestamp.type")?;
        (is == "CreateTime").then(|| {
            format!(
                "keyed input `{topic}` has message.timestamp.type={is}, but LogAppendTime is \
                 wanted: a writer chooses how far windows move, though never into the future\n  \
                 hint: kafka-configs.sh --bootstrap-server {} --alter --entity-type topics \
                 --entity-name {topic} --add-config message.timestamp.type=LogAppendTime",
                self.config.kafka.bootstrap_servers
            )
        })
    }

    /// Settings of topics, by topic.
    ///
    /// # Errors
    /// The broker does not say (no right, or an embedded broker).
    pub fn settings(
        &self,
        topics: &[&str],
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, Error> {
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let options = AdminOptions::new().request_timeout(Some(CALL_TIMEOUT));
        let doing = || Error::call("cannot read the settings of topics");
        let wanted: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let results = wait(self.admin().describe_configs(&wanted, &options)).map_err(doing())?;
        let mut all = BTreeMap::new();
        for result in results {
            let resource = result.map_err(|code| doing()(KafkaError::AdminOp(code)))?;
            let OwnedResourceSpecifier::Topic(topic) = resource.specifier else { continue };
            let entries = resource.entries.into_iter();
            let settings =
                entries.map(|entry| (entry.name, entry.value.unwrap_or_default())).collect();
            all.insert(topic, settings);
        }
        Ok(all)
    }
}

fn new_topic(topic: &Wanted) -> NewTopic<'_> {
    let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
    let replication = i32::try_from(topic.replication).unwrap_or(i32::MAX);
    let new = NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(replication));
    topic.settings.iter().fold(new, |new, (key, value)| new.set(key, value))
}

/// Runs one admin call to its end. Its answer comes from librdkafka's own thread, so a runtime
/// without drivers is enough.
fn wait<T>(call: impl Future<Output = Result<T, KafkaError>>) -> Result<T, KafkaError> {
    match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime.block_on(call),
        Err(_) => Err(KafkaError::Canceled),
    }
}
