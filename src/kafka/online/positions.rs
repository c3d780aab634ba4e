//! Where detect would go on: the newest checkpoint of each partition beside what the topic holds
//! and what the group has committed. Joins no group, claims nothing.

use std::fmt;

use rdkafka::{Offset, TopicPartitionList, consumer::Consumer as _};
use serde::Serialize;

use super::CALL_TIMEOUT;
use crate::{
    checkpoint::{Manifest, Origin},
    config::Config,
    kafka::{Error, client, state::StateReader},
};

/// One partition of what detect reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Which.
    pub partition: i32,
    /// First offset kept, and the next one.
    pub first: i64,
    /// The next offset to be written.
    pub end: i64,
    /// What the group has committed, for whoever watches lag.
    pub committed: Option<i64>,
    /// Where the newest checkpoint goes on; none without one.
    pub covered: Option<i64>,
    /// Number of that checkpoint.
    pub checkpoint: Option<u64>,
    /// Why the newest checkpoint, or the position it has, is of no use.
    pub problem: Option<String>,
}

/// Looks at every partition of `origin`'s topic.
///
/// # Errors
/// The broker does not answer.
pub(super) fn positions(config: &Config, origin: &Origin) -> Result<Vec<Position>, Error> {
    let partitions = i32::try_from(origin.partitions).unwrap_or(i32::MAX);
    let group = format!("{}-detect", config.kafka.group_id);
    let mut settings = client::consumer(&config.kafka, "check", &group);
    settings.set("statistics.interval.ms", "0");
    let consumer = client::reader(&config.kafka, "check", &settings)?;
    let doing = || Error::call(format!("cannot read the positions of {}", origin.topic));
    let mut list = TopicPartitionList::new();
    list.add_partition_range(&origin.topic, 0, partitions - 1);
    let committed = consumer.committed_offsets(list, CALL_TIMEOUT).map_err(doing())?;
    let mut found = Vec::new();
    for partition in 0..partitions {
        let bounds = consumer.fetch_watermarks(&origin.topic, partition, CALL_TIMEOUT);
        let (first, end) = bounds.map_err(doing())?;
        let committed = committed.find_partition(&origin.topic, partition);
        let committed = committed.and_then(|element| match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        });
        let origin = Origin { partition, ..origin.clone() };
        let mut position = Position { partition, first, end, committed, ..Position::default() };
        look_at_state(config, &origin, &mut position)?;
        found.push(position);
    }
    Ok(found)
}

fn look_at_state(config: &Config, origin: &Origin, position: &mut Position) -> Result<(), Error> {
    let topic = &config.topics.state;
    let mut reader = StateReader::open(&config.kafka, topic, origin.partition)?;
    let read = |value: &[u8]| Manifest::read(value, origin);
    let newest = reader.newest_first(|_, _, value| Ok(Some(read(value))))?;
    let Some(newest) = newest else { return Ok(()) };
    match newest {
        Err(cause) => {
            position.problem = Some(format!("the newest checkpoint cannot be used: {cause}"));
        }
        Ok(manifest) => {
            position.covered = Some(manifest.covered);
            position.checkpoint = Some(manifest.number);
            if manifest.covered < position.first {
                position.problem = Some(format!(
                    "messages {} to {} were deleted before a checkpoint covered them",
                    manifest.covered,
                    position.first - 1
                ));
            } else if manifest.covered > position.end {
                position.problem = Some("the topic ends before the checkpoint does".to_owned());
            }
        }
    }
    Ok(())
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, first, end, .. } = self;
        write!(f, "  [{partition}] holds {first} to {end}, ")?;
        match (self.covered, self.checkpoint) {
            (Some(covered), Some(number)) => {
                write!(f, "checkpoint {number} covers up to {covered}")?;
            }
            _ => f.write_str("no checkpoint")?,
        }
        match self.committed {
            Some(committed) => write!(f, ", group at {committed}"),
            None => f.write_str(", group never here"),
        }
    }
}
