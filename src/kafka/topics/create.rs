//! `topics create`: makes our own topics that are missing and tells how those that are there
//! differ from what a run would make.
//!
//! Never here: inputs, and a change of a topic that exists.

use std::collections::BTreeMap;

use rdkafka::error::RDKafkaErrorCode;

use super::{Error, STATE, Shape, Topics, Wanted};

/// What became of one of our topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// It was missing and is there now.
    Created,
    /// It was there as it should be.
    Exists,
    /// It was there, but not as a run would make it: in what, and the command that mends it where
    /// there is one.
    Differs(Vec<Difference>),
    /// It is missing, for this reason.
    Refused(String),
}

/// One thing that is not as a run would make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What is, and what is wanted.
    pub what: String,
    /// Mends it.
    pub hint: Option<String>,
}

/// One of our topics after [`Topics::create_missing`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Its name.
    pub topic: String,
    /// Partitions that it has or was to have.
    pub partitions: u32,
    /// Copies of each.
    pub replication: u32,
    /// What became of it.
    pub made: Made,
}

/// What [`Topics::create_missing`] did and saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preparation {
    /// Events, state, alerts, dead letters.
    pub topics: Vec<Prepared>,
    /// Why settings of topics that were there could not be compared.
    pub not_compared: Option<String>,
}

impl Preparation {
    /// Whether every topic is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.topics.iter().any(|topic| matches!(topic.made, Made::Refused(_)))
    }
}

impl Topics<'_> {
    /// Makes those of our own topics that are missing, also where `kafka.create_topics` is off: who
    /// asks for it wants it. What is there is compared and left alone.
    ///
    /// # Errors
    /// The broker does not answer. That it refuses a topic is said of that topic.
    pub fn create_missing(&self) -> Result<Preparation, Error> {
        let (wanted, read) = self.our_topics()?;
        let mut found = Vec::with_capacity(wanted.len());
        for topic in &wanted {
            found.push(self.shape(&topic.name)?);
        }
        // State has a partition for each of what detect reads.
        let unknown = read.partitions.is_none() && self.config.inputs.iter().any(|it| it.keyed);
        let can_be_made = |index: usize| found[index].is_none() && !(unknown && index == STATE);
        let missing: Vec<&Wanted> =
            (0..wanted.len()).filter(|it| can_be_made(*it)).map(|it| &wanted[it]).collect();
        let results: BTreeMap<String, Result<(), RDKafkaErrorCode>> =
            self.request(&missing)?.into_iter().collect();
        let there = wanted.iter().zip(&found).filter(|(_, found)| found.is_some());
        let there: Vec<&str> = there.map(|(topic, _)| topic.name.as_str()).collect();
        let (settings, not_compared) = match self.settings(&there) {
            Ok(settings) => (settings, None),
            Err(cause) => (BTreeMap::new(), Some(cause.to_string())),
        };
        let mut topics = Vec::with_capacity(wanted.len());
        for (topic, found) in wanted.iter().zip(found) {
            let made = match (found, results.get(&topic.name)) {
                (Some(shape), _) => self.compared(topic, shape, settings.get(&topic.name)),
                (None, Some(Ok(()))) => Made::Created,
                // Another was faster.
                (None, Some(Err(RDKafkaErrorCode::TopicAlreadyExists))) => Made::Exists,
                (None, Some(Err(code))) => Made::Refused(code.to_string()),
                (None, None) => Made::Refused(format!(
                    "it needs as many partitions as `{}`, which does not exist",
                    read.topic
                )),
            };
            let Shape { partitions, replication } = found
                .unwrap_or(Shape { partitions: topic.partitions, replication: topic.replication });
            topics.push(Prepared { topic: topic.name.clone(), partitions, replication, made });
        }
        Ok(Preparation { topics, not_compared })
    }

    fn compared(
        &self,
        topic: &Wanted,
        shape: Shape,
        settings: Option<&BTreeMap<String, String>>,
    ) -> Made {
        let servers = &self.config.kafka.bootstrap_servers;
        let mut differences = Vec::new();
        let mut differs = |key: &str, is: &str, wanted: &str, hint: Option<String>| {
            let what = format!("{key}={is}, but {wanted} is wanted");
            differences.push(Difference { what, hint });
        };
        // Without `kafka.create_topics` nobody has said how many. Those of the state follow from
        // what detect reads.
        let asked = self.config.kafka.create_topics.is_some();
        if shape.partitions != topic.partitions && (asked || topic.name == self.config.topics.state)
        {
            let (is, wanted) = (shape.partitions.to_string(), topic.partitions.to_string());
            let page = "docs/OPERATIONS.md, \"Changing the number of partitions\"".to_owned();
            differs("partitions", &is, &wanted, Some(page));
        }
        if asked && shape.replication != topic.replication {
            let (is, wanted) = (shape.replication.to_string(), topic.replication.to_string());
            differs("replication", &is, &wanted, None);
        }
        for (key, wanted) in &topic.settings {
            let Some(is) = settings.and_then(|all| all.get(*key)).filter(|is| !is.is_empty())
            else {
                continue;
            };
            // More room than is needed does no harm.
            let enough = *key == "max.message.bytes"
                && is.parse().is_ok_and(|is: usize| is >= topic.message_bytes);
            if is != wanted && !enough {
                differs(key, is, wanted, Some(topic.alter_command(servers, key, wanted)));
            }
        }
        if differences.is_empty() { Made::Exists } else { Made::Differs(differences) }
    }
}
