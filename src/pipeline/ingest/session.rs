//! A session of ingest: one router, and what it has buffered since the last flush.
//!
//! A new one begins whenever the assignment, the routes or the producer changes, so that the chain
//! of offsets that each message names (D1) never reaches across a change.

use std::collections::HashMap;

use tracing::error;

use super::{
    dead_letter::{Allowance, DeadLetter, FloodLimit, Refusal},
    merge::LaneId,
};
use crate::{
    config::Input,
    event::{
        DecodeError, Decoder, Format, GroupBy, IgnoreReason, Outcome,
        batch::SourcePartition,
        canary::{CanaryKey, Headers},
        catalog::Catalog,
        draft::EVENT_BYTES_MAX,
        identity::Identity,
        route::{MESSAGE_BYTES, Routed, Router, RouterSpec, SourceId},
    },
    metrics::{InputCounts, InputMetrics},
    pipeline::{Shared, publish::Publisher, system::account},
    units::{EventTime, Offset, Partition},
};

/// Rows buffered before they are written into messages, over all partitions of the events topic.
pub(in crate::pipeline) const ROWS_MAX: usize = 32 * 1024;
/// Bytes of raw records behind the rows of one flush: what is lost work when it fails.
pub(in crate::pipeline) const RAW_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of dead letters buffered before a flush.
const LETTER_BYTES_MAX: usize = 1024 * 1024;

// The router closes a message in time; a single row is longer only by its context.
const _: () =
    assert!(MESSAGE_BYTES + 12 * EVENT_BYTES_MAX < crate::kafka::client::MESSAGE_BYTES_MAX);

/// An input topic and what reads it.
pub(in crate::pipeline) struct InputState {
    /// As configured.
    pub(in crate::pipeline) input: Input,
    decoder: Box<dyn Decoder>,
    metrics: InputMetrics,
    counts: InputCounts,
}

impl InputState {
    /// With a decoder of its own.
    pub(in crate::pipeline) fn new(input: Input, shared: &Shared) -> Self {
        let metrics = shared.metrics.input(&input.topic);
        let decoder = input.format.decoder();
        Self { input, decoder, metrics, counts: InputCounts::default() }
    }

    /// Moves what was counted into the metrics. Events that came in and went nowhere are alarmed
    /// on (D5).
    pub(in crate::pipeline) fn publish(&mut self, publisher: &Publisher) {
        self.counts.shape_resets += self.decoder.take_resets();
        let difference = self.metrics.add(&mut self.counts);
        if difference > 0 {
            publisher.raise(account(format!("ingest/{}", self.input.topic), difference));
        }
    }
}

/// One record, borrowed from librdkafka.
pub(in crate::pipeline) struct Record<'a> {
    /// Its partition.
    pub(in crate::pipeline) partition: i32,
    /// Its offset.
    pub(in crate::pipeline) offset: i64,
    /// Its key.
    pub(in crate::pipeline) key: Option<&'a [u8]>,
    /// Its value.
    pub(in crate::pipeline) payload: Option<&'a [u8]>,
    /// Its own headers, which only a dead letter and a canary need.
    pub(in crate::pipeline) headers: Headers<'a>,
    /// Broker timestamp, ms.
    pub(in crate::pipeline) timestamp_ms: Option<i64>,
}

/// What one record was found to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::pipeline) struct Taken {
    /// Greatest event time of its events.
    pub(in crate::pipeline) newest: Option<EventTime>,
    /// A flood of dead letters began with it.
    pub(in crate::pipeline) flood: bool,
}

/// See the module.
pub(in crate::pipeline) struct Session {
    router: Router,
    canary: Option<CanaryKey>,
    sources: HashMap<LaneId, SourceId, foldhash::fast::RandomState>,
    /// Messages made before the flush because a single record had very many rows.
    early: Vec<Routed>,
    letters: Vec<(usize, DeadLetter)>,
    letter_bytes: usize,
    raw_bytes: usize,
}

impl Session {
    /// Begins with nothing buffered and no source known.
    pub(in crate::pipeline) fn new(shared: &Shared, routes: Vec<GroupBy>, partitions: u32) -> Self {
        Self {
            router: Router::new(RouterSpec {
                routes,
                partitions,
                seed: crate::pipeline::SEED,
                identity: Identity::new(&shared.config.identity),
                catalog: Catalog::new(shared.config.catalog.clone()),
            }),
            canary: shared.config.canary.clone(),
            sources: HashMap::default(),
            early: Vec::new(),
            letters: Vec::new(),
            letter_bytes: 0,
            raw_bytes: 0,
        }
    }

    /// Makes a source partition of `input` known under its lane.
    pub(in crate::pipeline) fn add_source(
        &mut self,
        lane: LaneId,
        source: &SourcePartition,
        input: &Input,
    ) {
        let id = if input.retries {
            self.router.source_that_retries(source)
        } else {
            self.router.source(source)
        };
        self.sources.insert(lane, id);
    }

    /// Decodes a record; its events are buffered, or it is ignored, or it becomes a dead letter.
    pub(in crate::pipeline) fn take(
        &mut self,
        lane: LaneId,
        state: &mut InputState,
        record: &Record<'_>,
        limits: &mut LetterLimits,
        now_ms: u64,
    ) -> Taken {
        let Some(&source) = self.sources.get(&lane) else {
            error!("a record came for a lane that is not of this session");
            return Taken::default();
        };
        state.counts.records += 1;
        let Some(payload) = record.payload else {
            state.counts.events += 1;
            state.counts.ignore(IgnoreReason::NullValue);
            return Taken::default();
        };
        state.counts.bytes += payload.len() as u64;
        self.raw_bytes += payload.len();
        let mut taken = Taken::default();
        let mut refused: Option<(DecodeError, u32, u32)> = None;
        let (router, early, counts) = (&mut self.router, &mut self.early, &mut state.counts);
        let key = self.canary.as_ref();
        let mut sink = |row: u32, outcome: Outcome<'_, '_>| {
            counts.events += 1;
            match outcome {
                Outcome::Event(event) => {
                    // By the name as it came: the identity may give it another.
                    if key.is_some_and(|key| {
                        key.is_canary(event, record.timestamp_ms, record.headers)
                    }) {
                        router.push_canary(source, Offset(record.offset), row, event);
                        counts.canary += 1;
                        // It does not say how far the source has come, so `newest` stays.
                    } else {
                        router.push(source, Offset(record.offset), row, event);
                        counts.forward(event.rows, event.rows_quality);
                        taken.newest = taken.newest.max(Some(event.event_time));
                    }
                    if router.rows() >= ROWS_MAX {
                        make_messages(router, early);
                    }
                }
                Outcome::Ignored(reason) => counts.ignore(reason),
                Outcome::Refused(error) => {
                    counts.refuse(&error);
                    match &mut refused {
                        Some((_, _, rows)) => *rows += 1,
                        None => refused = Some((error, row, 1)),
                    }
                }
            }
        };
        let decoded = state.decoder.decode(payload, &state.input.source, &mut sink);
        if let Err(error) = decoded {
            state.counts.events += 1;
            state.counts.refuse(&error);
            taken.flood = self.refuse(state, record, &error, None, limits, now_ms);
        } else if let Some((error, row, rows)) = refused {
            // Formats of one row a record say nothing by naming row 0.
            let rows = (state.input.format == Format::Arrow).then_some((row, rows));
            taken.flood = self.refuse(state, record, &error, rows, limits, now_ms);
        }
        taken
    }

    fn refuse(
        &mut self,
        state: &InputState,
        record: &Record<'_>,
        error: &DecodeError,
        rows: Option<(u32, u32)>,
        limits: &mut LetterLimits,
        now_ms: u64,
    ) -> bool {
        let payload = record.payload.unwrap_or_default();
        let wanted = payload.len().min(limits.keep_bytes);
        let allowance = limits.flood.take(wanted, now_ms);
        let keep = if allowance == Allowance::Keep { limits.keep_bytes } else { 0 };
        let refusal = Refusal {
            topic: &state.input.topic,
            partition: Partition(record.partition),
            offset: Offset(record.offset),
            key: record.key,
            payload,
            headers: (record.headers)(),
            timestamp_ms: record.timestamp_ms,
            error,
            rows,
        };
        let letter = DeadLetter::of(&refusal, keep);
        limits.note(payload.len(), keep, allowance);
        self.letter_bytes += letter.bytes();
        let code = DecodeError::CODES.iter().position(|code| *code == error.code());
        self.letters.push((code.unwrap_or_default(), letter));
        allowance == Allowance::FloodBegins
    }

    /// Forgets the dead letters that are buffered: an earlier process wrote them.
    pub(in crate::pipeline) fn discard_letters(&mut self) {
        self.letters.clear();
        self.letter_bytes = 0;
    }

    /// True when so much is buffered that it must be written now.
    #[must_use]
    pub(in crate::pipeline) fn is_full(&self) -> bool {
        self.router.rows() >= ROWS_MAX
            || self.router.full() > 0
            || self.raw_bytes >= RAW_BYTES_MAX
            || self.letter_bytes >= LETTER_BYTES_MAX
            || !self.early.is_empty()
    }

    /// Everything buffered, as messages.
    pub(in crate::pipeline) fn flush(&mut self) -> (Vec<Routed>, Vec<(usize, DeadLetter)>) {
        make_messages(&mut self.router, &mut self.early);
        self.raw_bytes = 0;
        self.letter_bytes = 0;
        (std::mem::take(&mut self.early), std::mem::take(&mut self.letters))
    }

    /// Time marks for every events partition (W6).
    pub(in crate::pipeline) fn mark(
        &self,
        at: EventTime,
        lanes: impl Iterator<Item = LaneId>,
    ) -> Vec<Routed> {
        let sources: Vec<SourceId> =
            lanes.filter_map(|lane| self.sources.get(&lane).copied()).collect();
        let mut marks = Vec::new();
        if let Err(cause) = self.router.mark(at, &sources, &mut marks) {
            error!("time marks cannot be written: {cause}");
            marks.clear();
        }
        marks
    }

    /// The router, for its statistics.
    #[must_use]
    pub(in crate::pipeline) fn router(&self) -> &Router {
        &self.router
    }
}

/// Arrow refuses columns only if they are of different lengths: a fault of this program that no
/// retry mends. What it drops would be a silent gap, so it ends the process.
fn make_messages(router: &mut Router, out: &mut Vec<Routed>) {
    router.flush(out).expect("the builders of a router push to all columns or to none");
}

/// What dead letters may cost.
#[derive(Debug)]
pub(in crate::pipeline) struct LetterLimits {
    /// Longest value kept.
    pub(in crate::pipeline) keep_bytes: usize,
    /// Values a second.
    pub(in crate::pipeline) flood: FloodLimit,
    /// Bytes left out of values that were cut.
    pub(in crate::pipeline) cut_bytes: u64,
    /// Letters without a value because of a flood.
    pub(in crate::pipeline) bodiless: u64,
}

impl LetterLimits {
    fn note(&mut self, bytes: usize, keep: usize, allowance: Allowance) {
        if allowance == Allowance::Keep {
            self.cut_bytes += bytes.saturating_sub(keep) as u64;
        } else {
            self.bodiless += 1;
        }
    }
}
