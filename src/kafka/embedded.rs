//! The embedded broker: librdkafka's mock cluster, for the demo and quick tests.
//!
//! It keeps only 5 MiB or 100,000 messages a partition and proves nothing about delivery, so it
//! never serves a claim about it.

use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};

use super::Error;

/// A broker inside this process; ends when dropped.
pub struct Embedded {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Embedded {
    /// Bytes kept per partition; older records are dropped.
    pub const PARTITION_BYTES_MAX: usize = 5 * 1024 * 1024;
    /// Messages kept per partition; older records are dropped.
    pub const PARTITION_MESSAGES_MAX: usize = 100_000;

    /// Starts a broker on free ports of the loopback interface.
    ///
    /// # Errors
    /// No port could be had.
    pub fn start() -> Result<Self, Error> {
        let cluster =
            MockCluster::new(1).map_err(Error::call("cannot start the embedded broker"))?;
        Ok(Self { cluster })
    }

    /// `host:port` for clients.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// The name or the number of partitions is refused.
    pub fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), Error> {
        let count = i32::try_from(partitions).unwrap_or(i32::MAX);
        self.cluster
            .create_topic(topic, count, 1)
            .map_err(Error::call(format!("cannot create topic `{topic}`")))
    }

    /// Refuses the next produce requests, one for each error, whoever sends them.
    #[cfg(test)]
    pub(crate) fn refuse_produce(&self, errors: &[rdkafka::types::RDKafkaRespErr]) {
        self.cluster.request_errors(rdkafka::types::RDKafkaApiKey::Produce, errors);
    }

    /// Cuts every connection and takes no new ones, or takes them again.
    #[cfg(test)]
    pub(crate) fn set_down(&self, down: bool) {
        let done = if down { self.cluster.broker_down(-1) } else { self.cluster.broker_up(-1) };
        done.expect("the embedded broker takes its own orders");
    }
}
