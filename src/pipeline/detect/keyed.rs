//! A keyed input (DESIGN 4): detect reads a canonical topic itself, one hop less. The way of a
//! record is that of ingest, into a router with one partition, and its rows go straight to the
//! engine of the record's own partition.
//!
//! - W4 holds as with the events topic: rows are applied together only if they have the same
//!   broker time, so what is counted does not depend on how fast records come.
//! - A record with a dead letter is committed only once the letter is acknowledged. A restart
//!   reads everything again, but writes letters only from the committed offset on.
//! - A principal on two partitions would be split over two engines: that is alarmed on.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use crate::{
    alert::SystemKind,
    config::Input,
    event::{
        GroupBy,
        batch::{Batch, SourcePartition},
    },
    kafka::Error,
    pipeline::{
        Shared,
        clock::Monotonic,
        ingest::{
            dead_letter::FloodLimit,
            flood_begins,
            merge::LaneId,
            output::{Failure, Output},
            session::{InputState, LetterLimits, Record, Session},
        },
        system::Condition,
    },
    rules::Severity,
    units::EventTime,
};

/// Principals whose partition is remembered; beyond it new ones are not checked.
pub const SEEN_MAX: usize = 4_000_000;
/// Between two words about wrong keys, which may be in every batch.
const SAY_AGAIN_MS: u64 = 60_000;

/// What a record has besides its value.
#[derive(Debug, Default)]
pub struct Envelope {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its own headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// It has no value at all.
    pub null: bool,
}

/// Which partition each principal was seen on, over all workers of this process. Looked at once a
/// batch, never on the way of a row.
#[derive(Debug, Default)]
pub struct Seen(Mutex<HashMap<u64, i32>>);

impl Seen {
    /// A principal of `batch` that was seen on another partition before, and on which.
    fn elsewhere(&self, batch: &Batch, partition: i32) -> Option<(usize, i32)> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut found, mut last) = (None, None);
        for row in 0..batch.len() {
            let hash = batch.key_hash(row).0;
            // Rows of one record, as a rule.
            if last.replace(hash) == Some(hash) {
                continue;
            }
            let full = seen.len() >= SEEN_MAX;
            match seen.get(&hash) {
                Some(&known) if known != partition => found = Some((row, known)),
                Some(_) => {}
                None if full => {}
                None => {
                    seen.insert(hash, partition);
                }
            }
        }
        found
    }
}

/// One worker's part in reading a keyed input.
pub(super) struct Keyed {
    shared: Arc<Shared>,
    topic_id: String,
    input: InputState,
    output: Output,
    limits: LetterLimits,
    seen: Arc<Seen>,
    /// When a wrong key was reported last.
    said_ms: Cell<Option<u64>>,
    clock: Monotonic,
    /// Next offsets by lane, over the partitions of this worker.
    positions: BTreeMap<LaneId, i64>,
}

/// One assignment of a partition of a keyed input.
pub(super) struct Reader {
    lane: LaneId,
    partition: i32,
    session: Session,
    /// Before it, letters were written by an earlier process.
    letters_from: i64,
    /// Broker time of the rows that wait to be applied.
    broker_time: Option<EventTime>,
    /// Offset after the record taken last, until it is flushed.
    next: Option<i64>,
    /// Keys of the records taken since the last flush, by offset.
    keys: Vec<(i64, Option<Vec<u8>>)>,
}

impl Reader {
    /// A time mark: the partition has been at its end until `at` (W6).
    pub(super) fn mark(&self, at: EventTime) -> Option<Batch> {
        let marks = self.session.mark(at, std::iter::once(self.lane));
        Batch::decode(&marks.first()?.payload).ok()
    }
}

impl Keyed {
    pub(super) fn new(
        shared: &Arc<Shared>,
        input: &Input,
        topic_id: &str,
        seen: Arc<Seen>,
    ) -> Result<Self, Error> {
        let config = &shared.config.dead_letter;
        Ok(Self {
            shared: Arc::clone(shared),
            topic_id: topic_id.to_owned(),
            input: InputState::new(input.clone(), shared),
            output: Output::new(shared)?,
            limits: LetterLimits {
                keep_bytes: config.max_bytes,
                flood: FloodLimit::new(config.bytes_per_second, 0),
                cut_bytes: 0,
                bodiless: 0,
            },
            seen,
            said_ms: Cell::new(None),
            clock: Monotonic::start(),
            positions: BTreeMap::new(),
        })
    }

    /// Begins to read an assignment.
    pub(super) fn open(&mut self, partition: i32, epoch: u64, letters_from: i64) -> Reader {
        let mut session = Session::new(&self.shared, vec![GroupBy::PrincipalId], 1);
        let lane = LaneId(epoch);
        session.add_source(
            lane,
            &SourcePartition {
                cluster: self.shared.cluster.id.clone(),
                topic: self.shared.config.inputs[0].topic.clone(),
                topic_id: self.topic_id.clone(),
                partition,
            },
            &self.input.input,
        );
        Reader {
            lane,
            partition,
            session,
            letters_from,
            broker_time: None,
            next: None,
            keys: Vec::new(),
        }
    }

    /// Forgets an assignment.
    pub(super) fn close(&mut self, reader: &Reader) {
        self.positions.remove(&reader.lane);
    }

    /// Decodes a record. Returns what must be applied first, because its broker time differs.
    pub(super) fn take(
        &mut self,
        reader: &mut Reader,
        offset: i64,
        broker_time: EventTime,
        payload: &[u8],
        envelope: &Envelope,
    ) -> Vec<(Batch, EventTime)> {
        let differs = reader.broker_time.is_some_and(|waiting| waiting != broker_time);
        let due = if differs || reader.session.is_full() { self.flush(reader) } else { Vec::new() };
        let headers = || {
            let own = envelope.headers.iter();
            own.map(|(name, value)| (name.as_str(), value.as_slice())).collect()
        };
        let record = Record {
            partition: reader.partition,
            offset,
            key: envelope.key.as_deref(),
            payload: (!envelope.null).then_some(payload),
            headers: &headers,
            timestamp_ms: Some(broker_time.millis()),
        };
        let now_ms = self.clock.ms();
        let taken =
            reader.session.take(reader.lane, &mut self.input, &record, &mut self.limits, now_ms);
        if offset < reader.letters_from {
            reader.session.discard_letters();
        } else if taken.flood {
            flood_begins(&self.shared);
        }
        reader.keys.push((offset, envelope.key.clone()));
        reader.broker_time = Some(broker_time);
        reader.next = Some(offset + 1);
        due
    }

    /// What waits to be applied; its dead letters are on their way when this returns.
    pub(super) fn flush(&mut self, reader: &mut Reader) -> Vec<(Batch, EventTime)> {
        let Some(broker_time) = reader.broker_time.take() else { return Vec::new() };
        let (events, letters) = reader.session.flush();
        self.input.publish(&self.shared.publisher);
        // Only now: a flush of another reader must not make safe what is still buffered here.
        if let Some(next) = reader.next.take() {
            self.positions.insert(reader.lane, next);
        }
        if let Err(failure) = self.output.flush(self.positions.clone(), Vec::new(), letters) {
            self.fail(&failure);
        }
        let mut batches = Vec::with_capacity(events.len());
        for routed in &events {
            let batch = Batch::decode(&routed.payload).expect("a router's own message is whole");
            if let Some((row, other)) = self.seen.elsewhere(&batch, reader.partition) {
                self.split(batch.key(row), reader.partition, other);
            }
            if let Some(row) = keyed_otherwise(&batch, &reader.keys) {
                self.keyed_otherwise(batch.key(row), reader.partition);
            }
            batches.push((batch, broker_time));
        }
        reader.keys.clear();
        batches
    }

    /// True while letters wait for room: nothing more should be taken.
    pub(super) fn is_blocked(&self) -> bool {
        self.output.is_blocked()
    }

    /// Serves acknowledgements of letters; returns offsets that have become safe to commit.
    pub(super) fn serve(&mut self) -> Option<BTreeMap<LaneId, i64>> {
        if let Err(failure) = self.output.serve(&self.shared) {
            self.fail(&failure);
        }
        self.output.safe()
    }

    /// Waits for letters under way; false when the deadline came first.
    pub(super) fn drain(&mut self, deadline: Instant) -> bool {
        self.output.drain(deadline, &self.shared, |_| {}).unwrap_or(false)
    }

    /// Engines cannot go back, so a letter that cannot be written ends the process; the next one
    /// reads the record again.
    fn fail(&self, failure: &Failure) {
        self.shared
            .fail(format!("a dead letter of a keyed input cannot be written: {}", failure.cause));
    }

    fn split(&self, principal: &str, partition: i32, other: i32) {
        self.miskeyed(
            &format!("was read on partitions {other} and {partition}, so its counts are split"),
            principal,
            vec![("partition", partition.to_string()), ("other_partition", other.to_string())],
        );
    }

    fn keyed_otherwise(&self, principal: &str, partition: i32) {
        self.miskeyed(
            "came with a record key that is not its canonical name, so its counts may be split \
             over partitions",
            principal,
            vec![("partition", partition.to_string())],
        );
    }

    fn miskeyed(&self, what: &str, principal: &str, mut details: Vec<(&'static str, String)>) {
        let now_ms = self.clock.ms();
        if self.said_ms.get().is_some_and(|said_ms| now_ms < said_ms + SAY_AGAIN_MS) {
            return;
        }
        self.said_ms.set(Some(now_ms));
        let topic = &self.shared.config.inputs[0].topic;
        let principal = principal[..principal.floor_char_boundary(256)].to_owned();
        details.insert(0, ("principal", principal));
        self.shared.publisher.raise(Condition {
            kind: SystemKind::MiskeyedInput,
            scope: topic.clone(),
            severity: Severity::High,
            message: format!(
                "a principal of the keyed input {topic} {what}; key the topic by canonical \
                 principal or remove `keyed: true`"
            ),
            details,
        });
    }
}

/// A row whose record had another key than the canonical principal, or none. `keys` in the order of
/// offsets.
fn keyed_otherwise(batch: &Batch, keys: &[(i64, Option<Vec<u8>>)]) -> Option<usize> {
    let mut last = None;
    (0..batch.len()).find(|&row| {
        let offset = batch.position(row).offset.0;
        let of = (offset, batch.key_hash(row));
        // As the row before it.
        if last.replace(of) == Some(of) {
            return false;
        }
        let found = keys.binary_search_by_key(&offset, |(offset, _)| *offset);
        let key = found.ok().and_then(|at| keys[at].1.as_deref());
        key != Some(batch.key(row).as_bytes())
    })
}
