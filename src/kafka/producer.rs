//! One idempotent producer whose delivery reports come back as values on a channel.
//!
//! Never here: retrying. librdkafka retries what can be retried without end; what it reports as
//! failed has failed for good, and the caller decides (D1: ingest drops the producer).

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use rdkafka::{
    ClientContext, Statistics,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, DeliveryResult, Header, Message as _, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig},
};

use super::{
    Error, RIGHTS,
    client::{self, Context, Notes, Token},
    is_denied,
};
use crate::config::KafkaConfig;

/// Events of librdkafka served after one wait.
const EVENTS_MAX: usize = 64;

/// Waits, and serves what has come meanwhile. A poll of rust-rdkafka that has a timeout spins
/// through the last millisecond of it; one without serves a single event: the reports of one batch
/// of one partition, or a line of a log.
pub(super) fn poll_after<C: ProducerContext>(producer: &BaseProducer<C>, pause: Duration) {
    thread::sleep(pause);
    for _ in 0..EVENTS_MAX {
        producer.poll(Duration::ZERO);
        // Messages whose reports are not served yet are in flight.
        if producer.in_flight_count() == 0 {
            break;
        }
    }
}

/// One message to produce.
#[derive(Clone, Debug, Default)]
pub struct Message<'a> {
    /// To which topic.
    pub topic: &'a str,
    /// To which partition; the key decides when absent.
    pub partition: Option<i32>,
    /// Key, if any.
    pub key: Option<&'a [u8]>,
    /// Value.
    pub payload: Option<&'a [u8]>,
    /// Headers.
    pub headers: Vec<(&'a str, &'a [u8])>,
}

/// What became of one message: `ticket` is what [`Producer::send`] was given with it.
#[derive(Debug)]
pub struct Report<T> {
    /// As given.
    pub ticket: T,
    /// Delivered to this partition and offset, or why not.
    pub result: Result<(i32, i64), KafkaError>,
}

/// Why a message was not taken.
#[derive(Debug)]
pub enum Refused<T> {
    /// The queue is full: poll, wait, send again. Back-pressure, not a fault.
    Full(T),
    /// It can never be sent as it is.
    Failed(T, KafkaError),
}

/// An idempotent producer. Dropping it purges what it has not delivered.
pub struct Producer<T: Send + Sync + 'static> {
    inner: BaseProducer<Reporter<T>>,
    notes: Arc<Notes>,
}

impl<T: Send + Sync + 'static> Producer<T> {
    /// Connects; `reports` receives one report for every message taken. `gapless`: the first
    /// failed delivery ends the producer, so that nothing is delivered past a gap.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn new(
        config: &KafkaConfig,
        client: &str,
        gapless: bool,
        reports: impl Fn(Report<T>) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let notes = Notes::new(config, client);
        let context = Reporter { context: Context(Arc::clone(&notes)), reports: Box::new(reports) };
        let inner = client::producer(config, client, gapless)
            .create_with_context(context)
            .map_err(|cause| Error::Client { client: client.to_owned(), cause })?;
        Ok(Self { inner, notes })
    }

    /// Hands a message over; never blocks.
    ///
    /// # Errors
    /// The ticket comes back when the message was not taken; no report follows then.
    pub fn send(&self, message: &Message<'_>, ticket: T) -> Result<(), Refused<T>> {
        let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
        for (key, value) in &message.headers {
            headers = headers.insert(Header { key, value: Some(*value) });
        }
        let mut record: BaseRecord<'_, [u8], [u8], Box<T>> =
            BaseRecord::with_opaque_to(message.topic, Box::new(ticket)).headers(headers);
        record.partition = message.partition;
        record.key = message.key;
        record.payload = message.payload;
        self.inner.send(record).map_err(|(cause, record)| {
            let ticket = *record.delivery_opaque;
            match cause.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => Refused::Full(ticket),
                _ => Refused::Failed(ticket, cause),
            }
        })
    }

    /// Serves one batch of delivery reports, if any is there.
    pub fn poll(&self) {
        self.inner.poll(Duration::ZERO);
    }

    /// Waits, and serves the delivery reports that have come meanwhile.
    pub fn poll_after(&self, pause: Duration) {
        poll_after(&self.inner, pause);
    }

    /// Messages taken and not yet reported.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.inner.in_flight_count()).unwrap_or(0)
    }

    /// The newest report on its queue, once.
    #[must_use]
    pub fn take_statistics(&self) -> Option<Statistics> {
        self.notes.take_statistics()
    }

    /// Why the producer is beyond use, if it is.
    #[must_use]
    pub fn fatal(&self) -> Option<Error> {
        // Not every end of a producer is told as an event, and none with its code.
        let Some((code, said)) = self.inner.client().fatal_error() else {
            return self.notes.fatal();
        };
        let hint = if is_denied(code) { format!("; {RIGHTS}") } else { String::new() };
        Some(self.notes.beyond_use(&said, &hint))
    }

    /// Gives up everything not yet delivered; their reports say so.
    pub fn purge(&self) {
        self.inner.purge(PurgeConfig::default().queue().inflight());
    }
}

impl<T: Send + Sync + 'static> Producer<T> {
    /// A producer and the channel its reports arrive on, for a caller that polls it itself.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn with_channel(
        config: &KafkaConfig,
        client: &str,
        gapless: bool,
    ) -> Result<(Self, mpsc::Receiver<Report<T>>), Error> {
        // Bounded by the producer's own queue: one report a message taken.
        let (sender, receiver) = mpsc::channel();
        let producer = Self::new(config, client, gapless, move |report| {
            // A receiver that is gone has given the producer up.
            let _ = sender.send(report);
        })?;
        Ok((producer, receiver))
    }
}

struct Reporter<T> {
    context: Context,
    reports: Box<dyn Fn(Report<T>) + Send + Sync>,
}

impl<T: Send + Sync + 'static> ClientContext for Reporter<T> {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, settings: Option<&str>) -> Token {
        self.context.generate_oauth_token(settings)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.context.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }
}

impl<T: Send + Sync + 'static> ProducerContext for Reporter<T> {
    type DeliveryOpaque = Box<T>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<T>) {
        let place = |message: &BorrowedMessage<'_>| (message.partition(), message.offset());
        let result = result.as_ref().map(place).map_err(|(cause, _)| cause.clone());
        (self.reports)(Report { ticket: *ticket, result });
    }
}
