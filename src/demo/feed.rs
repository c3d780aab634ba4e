//! The organisation's side of Kafka: its events go to the input topic with null keys, one after
//! the other on every partition, so that nobody's events lie together.
//!
//! Never ahead of the pipeline by more than [`UNDER_WAY_MAX`], because the embedded broker forgets.

use std::{io::Write, time::Duration};

use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use super::{
    files::{INPUT_TOPIC, PARTITIONS},
    journal::{Journal, Sent},
    organisation::Organisation,
    staff::Person,
    wire,
};
use crate::kafka::{Error, embedded::Embedded};

/// Events sent that are not in the events topic yet. Less than what the embedded broker keeps of
/// one partition, even if all of them were there and not compressed at all.
pub const UNDER_WAY_MAX: u64 = 40_000;
/// Events in the events topic that detect has not applied yet, by its own account, which moves
/// once a second. Rows are a tenth of the size of events.
pub const UNAPPLIED_MAX: u64 = 160_000;
/// Events sent at a time.
const STEP: usize = 2_000;

const _: () = assert!(
    UNDER_WAY_MAX <= Embedded::PARTITION_MESSAGES_MAX as u64 * PARTITIONS as u64
        && UNDER_WAY_MAX * 520 <= Embedded::PARTITION_BYTES_MAX as u64 * PARTITIONS as u64
);

/// Sends the organisation's events.
pub struct Feed {
    organisation: Organisation,
    staff: Vec<Person>,
    producer: BaseProducer,
    number: u64,
    json: Vec<u8>,
    /// Refused for now, because the producer's queue is full.
    waiting: Option<(u32, Sent)>,
    over: bool,
}

impl Feed {
    /// A feed that has sent nothing.
    ///
    /// # Errors
    /// The producer cannot be made.
    pub fn new(organisation: Organisation, bootstrap_servers: &str) -> Result<Self, Error> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap_servers)
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            // Order and no repeats: the journal counts offsets.
            .set("enable.idempotence", "true")
            .create()
            .map_err(|cause| Error::Client { client: "demo-feed".to_owned(), cause })?;
        let staff = organisation.staff().to_vec();
        let json = Vec::new();
        Ok(Self { organisation, staff, producer, number: 0, json, waiting: None, over: false })
    }

    /// Sends a few events, as many as `applied` allows; false when there was nothing to do.
    ///
    /// # Errors
    /// The producer is beyond use.
    pub fn step<W: Write>(
        &mut self,
        journal: &mut Journal<W>,
        applied: u64,
    ) -> Result<bool, Error> {
        self.producer.poll(Duration::ZERO);
        let mut moved = false;
        for _ in 0..STEP {
            let under_way = journal.sent() - journal.written();
            let unapplied = journal.written().saturating_sub(applied);
            if under_way >= UNDER_WAY_MAX || unapplied >= UNAPPLIED_MAX {
                break;
            }
            let Some((partition, sent)) = self.waiting.take().or_else(|| self.next_event()) else {
                break;
            };
            let record = BaseRecord::<(), _>::to(INPUT_TOPIC)
                .partition(number(partition))
                .payload(&*sent.json);
            match self.producer.send(record) {
                Ok(()) => journal.send(partition, sent),
                Err((cause, _)) if is_full(&cause) => {
                    self.waiting = Some((partition, sent));
                    break;
                }
                Err((cause, _)) => return Err(Error::call("cannot send an event")(cause)),
            }
            moved = true;
        }
        Ok(moved)
    }

    fn next_event(&mut self) -> Option<(u32, Sent)> {
        let Some(read) = self.organisation.next() else {
            self.over = true;
            return None;
        };
        wire::write(&mut self.json, self.number, &read, &self.staff[usize::from(read.person)]);
        let partition = u32::try_from(self.number % u64::from(PARTITIONS)).unwrap_or(0);
        self.number += 1;
        Some((partition, Sent { read, json: self.json.as_slice().into() }))
    }

    /// True when the last event has been sent.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.over && self.waiting.is_none()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // Nothing is left in it after a whole run; after half of one nobody waits for it.
        self.producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
}

/// A partition as librdkafka numbers it.
pub(super) fn number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

fn is_full(cause: &KafkaError) -> bool {
    cause.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}
