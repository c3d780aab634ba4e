//! The newest records of a topic, read without joining a group.

use std::time::{Duration, Instant};

use rdkafka::{Offset, TopicPartitionList, consumer::Consumer as _, message::BorrowedMessage};

use super::{Error, client, group::CALL_TIMEOUT};
use crate::config::KafkaConfig;

/// Reading takes no longer than this; what has not come by then is left out.
const READ_FOR: Duration = Duration::from_secs(10);
/// Control records of transactions count in offsets and never arrive: a quiet second ends it.
const QUIET: Duration = Duration::from_secs(1);

/// Shows `with` the last `each` records of every partition of `(topic, partitions)`.
///
/// # Errors
/// The broker does not answer.
pub fn read(
    config: &KafkaConfig,
    client: &str,
    (topic, partitions): (&str, u32),
    each: i64,
    mut with: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), Error> {
    let mut settings = client::consumer(config, client, &client::unjoined_group(config));
    settings.set("statistics.interval.ms", "0");
    let consumer = client::reader(config, client, &settings)?;
    let mut list = TopicPartitionList::new();
    let mut missing = 0;
    for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
        let (first, end) = consumer
            .fetch_watermarks(topic, partition, CALL_TIMEOUT)
            .map_err(Error::call(format!("cannot read {topic}[{partition}]")))?;
        let start = first.max(end - each);
        missing += end - start;
        if start < end {
            list.add_partition_offset(topic, partition, Offset::Offset(start))
                .map_err(Error::call("cannot start reading"))?;
        }
    }
    if missing == 0 {
        return Ok(());
    }
    consumer.assign(&list).map_err(Error::call("cannot start reading"))?;
    let until = Instant::now() + READ_FOR;
    let mut quiet_since = None;
    while missing > 0 && Instant::now() < until {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                with(&record);
                missing -= 1;
                quiet_since = Some(Instant::now());
            }
            Some(Err(cause)) => {
                return Err(Error::call(format!("cannot read `{topic}`"))(cause));
            }
            None if quiet_since.is_some_and(|since| since.elapsed() > QUIET) => break,
            None => {}
        }
    }
    Ok(())
}
