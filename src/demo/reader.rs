//! A plain consumer of one topic, from its beginning, on every partition. It knows nothing of
//! exfilwatch, as the readers of the alert topic will not.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{feed::number, files::PARTITIONS};
use crate::kafka::Error;

/// Messages read at a time.
const STEP: usize = 256;
/// How long a question to the broker may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads one topic.
pub struct Reader {
    consumer: BaseConsumer,
    topic: String,
    /// Next offset by partition.
    next: Vec<i64>,
}

impl Reader {
    /// A reader at the beginning of `topic`.
    ///
    /// # Errors
    /// The consumer cannot be made.
    pub fn new(bootstrap_servers: &str, topic: &str) -> Result<Self, Error> {
        let failed = |cause| Error::Client { client: format!("demo-{topic}"), cause };
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap_servers)
            .set("group.id", "demo-reader")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.queue.backoff.ms", "5")
            .create()
            .map_err(failed)?;
        let mut partitions = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            partitions
                .add_partition_offset(topic, number(partition), Offset::Offset(0))
                .map_err(failed)?;
        }
        consumer.assign(&partitions).map_err(failed)?;
        Ok(Self { consumer, topic: topic.to_owned(), next: vec![0; PARTITIONS as usize] })
    }

    /// Hands over what has come since the last call; false when there was nothing.
    ///
    /// # Errors
    /// The broker no longer has what comes next, or `sink` failed.
    pub fn step<E: From<Error>>(
        &mut self,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        for step in 0..STEP {
            let Some(message) = self.consumer.poll(Duration::ZERO) else { return Ok(step > 0) };
            let reading = || Error::call(format!("cannot read `{}`", self.topic));
            let message = message.map_err(|cause| E::from(reading()(cause)))?;
            if let Some(next) =
                usize::try_from(message.partition()).ok().and_then(|p| self.next.get_mut(p))
            {
                *next = message.offset() + 1;
            }
            sink(message.payload().unwrap_or_default())?;
        }
        Ok(true)
    }

    /// Reads on to what is the end at the time of the call.
    ///
    /// # Errors
    /// As [`Self::step`], or the broker does not say where the end is. Gives up without an error
    /// when nothing more comes for a while: what is missing shows in the counts.
    pub fn finish<E: From<Error>>(
        &mut self,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut ends = Vec::new();
        for partition in 0..PARTITIONS {
            let end = self.consumer.fetch_watermarks(&self.topic, number(partition), CALL_TIMEOUT);
            let asking = format!("cannot find the end of `{}`", self.topic);
            ends.push(end.map_err(|cause| E::from(Error::call(asking)(cause)))?.1);
        }
        let until = Instant::now() + CALL_TIMEOUT;
        while self.next.iter().zip(&ends).any(|(next, end)| next < end) && Instant::now() < until {
            if !self.step(sink)? {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }
}
