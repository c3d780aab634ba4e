//! What ingest writes: rows and dead letters through one gapless producer, and the offsets that
//! become safe as their acknowledgements come in.
//!
//! Never here: going on after a failed delivery. The caller drops this output, rewinds and begins
//! anew, so that rows reach the events topic in order and without gaps (D1).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

use super::{dead_letter::DeadLetter, merge::LaneId};
use crate::{
    event::{DecodeError, route::Routed},
    kafka::{
        Error,
        client::{MESSAGE_BYTES_MAX, send_fill},
        producer::{Message, Producer, Refused, Report},
    },
    offsets::{Commits, FlushId},
    pipeline::Shared,
};

/// Content type of the messages of the events topic.
pub(in crate::pipeline) const CONTENT_TYPE: &str = "application/vnd.apache.arrow.stream";

/// Next offsets by lane.
pub(in crate::pipeline) type Positions = BTreeMap<LaneId, i64>;

/// Why the output is of no more use.
#[derive(Debug)]
pub(in crate::pipeline) struct Failure {
    /// Why.
    pub(in crate::pipeline) cause: String,
    /// It was a dead letter that its topic does not take at this length.
    pub(in crate::pipeline) letter_too_large: bool,
}

impl Failure {
    fn new(cause: String) -> Self {
        Self { cause, letter_too_large: false }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Events,
    /// Index into [`DecodeError::CODES`].
    Letter(usize),
}

struct Ticket {
    flush: FlushId,
    kind: Kind,
}

struct Outgoing {
    flush: FlushId,
    what: What,
}

enum What {
    Events(Routed),
    Letter(usize, DeadLetter),
}

/// How long the reports of a producer that has failed are waited for: they say more than that it
/// has, and whether a letter must be cut.
const REPORTS_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at what was acknowledged, when nothing else is left to do.
const DRAIN_PAUSE: Duration = Duration::from_millis(1);

/// See the module.
pub(in crate::pipeline) struct Output {
    producer: Producer<Ticket>,
    reports: Receiver<Report<Ticket>>,
    commits: Commits<Positions>,
    /// Messages the producer had no room for, oldest first: at most one flush.
    unsent: VecDeque<Outgoing>,
    fatal_since: Option<Instant>,
    events_topic: String,
    letter_topic: String,
}

/// Whether a dead letter was refused for its length.
fn too_large(ticket: &Ticket, cause: &KafkaError) -> bool {
    matches!(ticket.kind, Kind::Letter(_))
        && cause.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

impl Output {
    /// Connects.
    ///
    /// # Errors
    /// A setting is wrong.
    pub(in crate::pipeline) fn new(shared: &Shared) -> Result<Self, Error> {
        let config = &shared.config;
        let (producer, reports) = Producer::with_channel(&config.kafka, "ingest-out", true)?;
        Ok(Self {
            producer,
            reports,
            commits: Commits::default(),
            unsent: VecDeque::new(),
            fatal_since: None,
            events_topic: config.topics.events.clone(),
            letter_topic: config.topics.dead_letter.clone(),
        })
    }

    /// Writes one flush; when all of it is acknowledged, `positions` are safe.
    ///
    /// # Errors
    /// The producer is of no more use.
    pub(in crate::pipeline) fn flush(
        &mut self,
        positions: Positions,
        events: Vec<Routed>,
        letters: Vec<(usize, DeadLetter)>,
    ) -> Result<(), Failure> {
        let flush = self.commits.open(positions);
        let events = events.into_iter().map(What::Events);
        let letters = letters.into_iter().map(|(code, letter)| What::Letter(code, letter));
        for what in events.chain(letters) {
            self.commits.sent(flush);
            self.unsent.push_back(Outgoing { flush, what });
        }
        self.commits.close(flush);
        self.pump()
    }

    /// True while the producer has no room: nothing more should be taken from the inputs.
    #[must_use]
    pub(in crate::pipeline) fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Messages handed over and not acknowledged, or waiting for room.
    #[must_use]
    pub(in crate::pipeline) fn pending(&self) -> usize {
        self.producer.in_flight() + self.unsent.len()
    }

    /// How full the producer's queue is, if there is news of it.
    pub(in crate::pipeline) fn fill(&self) -> Option<f64> {
        self.producer.take_statistics().map(|statistics| send_fill(&statistics))
    }

    fn pump(&mut self) -> Result<(), Failure> {
        if self.producer.fatal().is_some() {
            // [`Self::serve`] says what of.
            return Ok(());
        }
        while let Some(outgoing) = self.unsent.pop_front() {
            let Outgoing { flush, what } = &outgoing;
            let sent = match what {
                What::Events(routed) => self.send_events(*flush, routed)?,
                What::Letter(code, letter) => self.send_letter(*flush, *code, letter)?,
            };
            if !sent {
                self.unsent.push_front(outgoing);
                break;
            }
        }
        Ok(())
    }

    fn send_events(&self, flush: FlushId, routed: &Routed) -> Result<bool, Failure> {
        if routed.payload.len() > MESSAGE_BYTES_MAX {
            return Err(Failure::new(format!(
                "a message of {} rows has {} bytes, above {MESSAGE_BYTES_MAX}",
                routed.rows,
                routed.payload.len()
            )));
        }
        let message = Message {
            topic: &self.events_topic,
            partition: i32::try_from(routed.partition).ok(),
            key: None,
            payload: Some(&routed.payload),
            headers: vec![("content-type", CONTENT_TYPE.as_bytes())],
        };
        self.send(&message, Ticket { flush, kind: Kind::Events })
    }

    fn send_letter(
        &self,
        flush: FlushId,
        code: usize,
        letter: &DeadLetter,
    ) -> Result<bool, Failure> {
        let headers = letter.headers.iter();
        let message = Message {
            topic: &self.letter_topic,
            partition: None,
            key: letter.key.as_deref(),
            payload: Some(&letter.payload),
            headers: headers.map(|(name, value)| (name.as_str(), value.as_slice())).collect(),
        };
        self.send(&message, Ticket { flush, kind: Kind::Letter(code) })
    }

    fn send(&self, message: &Message<'_>, ticket: Ticket) -> Result<bool, Failure> {
        let topic = message.topic;
        match self.producer.send(message, ticket) {
            Ok(()) => Ok(true),
            Err(Refused::Full(_)) => Ok(false),
            Err(Refused::Failed(ticket, cause)) => Err(Failure {
                letter_too_large: too_large(&ticket, &cause),
                cause: format!("`{topic}`: {cause}"),
            }),
        }
    }

    /// Serves acknowledgements, then sends what waited for room.
    ///
    /// # Errors
    /// A delivery failed: the producer is of no more use.
    pub(in crate::pipeline) fn serve(&mut self, shared: &Shared) -> Result<(), Failure> {
        self.producer.poll();
        // One poll serves one report of librdkafka, which covers one batch of one partition.
        while self.settle(shared)? {
            self.producer.poll();
        }
        if let Some(fatal) = self.producer.fatal()
            && self.fatal_since.get_or_insert_with(Instant::now).elapsed() >= REPORTS_WITHIN
        {
            return Err(Failure::new(fatal.to_string()));
        }
        self.pump()
    }

    /// Takes in what was acknowledged; false when there was nothing.
    fn settle(&mut self, shared: &Shared) -> Result<bool, Failure> {
        let mut any = false;
        while let Ok(Report { ticket, result }) = self.reports.try_recv() {
            any = true;
            let output = match ticket.kind {
                Kind::Events => "events",
                Kind::Letter(_) => "dead_letter",
            };
            if let Err(cause) = result {
                shared.metrics.delivery_failures.with_label_values(&[output]).inc();
                return Err(Failure {
                    letter_too_large: too_large(&ticket, &cause),
                    cause: format!("a message to the {output} topic: {cause}"),
                });
            }
            if let Kind::Letter(code) = ticket.kind {
                let code = DecodeError::CODES[code];
                shared.metrics.dead_letters.with_label_values(&[code]).inc();
            }
            self.commits.acked(ticket.flush);
        }
        Ok(any)
    }

    /// Positions that have become safe since the last call.
    pub(in crate::pipeline) fn safe(&mut self) -> Option<Positions> {
        self.commits.safe()
    }

    /// True when every flush is acknowledged.
    #[must_use]
    pub(in crate::pipeline) fn is_settled(&self) -> bool {
        self.commits.pending() == 0 && self.unsent.is_empty()
    }

    /// Waits until every flush is acknowledged; false when the deadline came first. Positions
    /// that become safe meanwhile are handed to `safe`.
    ///
    /// # Errors
    /// A delivery failed.
    pub(in crate::pipeline) fn drain(
        &mut self,
        deadline: Instant,
        shared: &Shared,
        mut safe: impl FnMut(Positions),
    ) -> Result<bool, Failure> {
        loop {
            if let Some(positions) = self.safe() {
                safe(positions);
            }
            if self.is_settled() {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            self.producer.poll_after(DRAIN_PAUSE);
            self.serve(shared)?;
        }
    }

    /// Gives up all that is under way, before the output is dropped.
    pub(in crate::pipeline) fn purge(&self) {
        self.producer.purge();
    }
}
