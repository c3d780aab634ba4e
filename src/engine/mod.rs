//! Decides: one engine an events partition, owned by one thread.
//!
//! Rows go in by [`Engine::apply`] in the order of the partition's log; alerts come out by
//! [`Engine::take_alerts`] and stay in the outbox until [`Engine::delivered`]. The same log gives
//! the same alerts with the same ids, however it is cut into messages. Methods are of three kinds:
//! `apply`, `reload`, `set_memory_limit` change counts; `take_alerts`, `delivered` move the outbox;
//! the rest only read. Never here: a clock, a socket, a log line, a lock.
//!
//! - D1: a row at or before the highest applied of its source partition and route changes nothing.
//! - D1, too: an event that a source which retries sent again changes nothing either (`dedup`).
//! - D3: ids come from rule, key, opening time and ordinal, never from a clock.
//! - D5: rows read = applied + duplicate + too late.
//! - W4: event time is clamped to broker time plus the allowed skew. Within the skew it moves no
//!   key's windows further ahead than one slice, and the partition's time not at all.
//! - W6: the partition's time is the greatest event time applied, up to broker time, or a mark.

mod census;
mod contexts;
mod decide;
mod dedup;
mod episodes;
mod evidence;
mod meters;
mod outbox;
mod reload;
mod save;
mod stats;
mod system;
#[cfg(test)]
pub(crate) mod tests;
mod time;

use std::sync::Arc;

use crate::{
    alert::{Alert, MessageId},
    event::batch::Batch,
    offsets::Applied,
    rules::RuleSet,
    units::{EventTime, Partition},
    window::Budget,
};

pub use census::SHARES_PERCENT;
pub use dedup::{Dedup, ENTRIES_MAX as DEDUP_ENTRIES_MAX};
pub use save::{CHUNK_BYTES, Restoring, SaveOptions, Saved, WALK_PARTS};
pub use stats::Stats;

use self::{
    contexts::{Charge, Contexts},
    dedup::{Fingerprint, Sighting},
    episodes::Episodes,
    evidence::Near,
    meters::MeterState,
    outbox::Outbox,
    save::Walk,
    system::Conditions,
    time::PartitionTime,
};

/// Rows whose table lines are fetched ahead of their updates.
const CHUNK: usize = 64;

/// What an engine needs to know besides the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Its events partition, named in system alerts.
    pub partition: Partition,
    /// How far an event may lie after broker time before it is clamped, in milliseconds.
    pub allowed_skew_ms: i64,
    /// Ceiling of its tables, in bytes.
    pub memory_limit: u64,
    /// Rows of sources that retry which are remembered, 0 for none; at most
    /// [`DEDUP_ENTRIES_MAX`].
    pub dedup_entries: usize,
}

/// The detector of one events partition.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    rules: Arc<RuleSet>,
    meters: Vec<MeterState>,
    budget: Budget,
    contexts: Contexts,
    applied: Applied,
    dedup: Dedup,
    near: Near,
    episodes: Episodes,
    outbox: Outbox,
    time: PartitionTime,
    stats: Stats,
    conditions: Conditions,
    /// How far the slow walk of checkpoints has come.
    walk: Walk,
    /// The next checkpoint holds every value.
    saves_all: bool,
    /// Scratch of a batch: entry of [`Contexts`] by dictionary id, number in [`Applied`] by source.
    context_ids: Vec<u32>,
    applied_ids: Vec<usize>,
    /// Of the rows of a chunk, where sources retry.
    fingerprints: Vec<Option<Fingerprint>>,
}

/// What is the same for all rows of a message.
#[derive(Clone, Copy)]
struct Message<'a> {
    batch: &'a Batch,
    broker_time: EventTime,
    /// Later event times are clamped to this.
    latest: EventTime,
    /// Some row of it is a canary.
    has_canaries: bool,
}

impl Engine {
    /// An engine that has seen nothing.
    #[must_use]
    pub fn new(options: EngineOptions, rules: Arc<RuleSet>) -> Self {
        let mut budget = Budget::new(options.memory_limit);
        let meters = rules.meters.iter().map(|meter| MeterState::new(meter, &mut budget));
        Self {
            meters: meters.collect(),
            stats: Stats::new(rules.meters.len()),
            budget,
            contexts: Contexts::default(),
            applied: Applied::default(),
            dedup: Dedup::new(options.dedup_entries),
            near: Near::default(),
            episodes: Episodes::default(),
            outbox: Outbox::default(),
            time: PartitionTime::default(),
            conditions: Conditions::default(),
            walk: Walk::default(),
            saves_all: true,
            context_ids: Vec::new(),
            applied_ids: Vec::new(),
            fingerprints: Vec::with_capacity(CHUNK),
            options,
            rules,
        }
    }

    /// Counts one message of the events topic: its rows, or its time mark.
    ///
    /// `broker_time` is the record's `LogAppendTime`.
    pub fn apply(&mut self, batch: &Batch, broker_time: EventTime) {
        let latest = broker_time.plus_millis(self.options.allowed_skew_ms);
        self.resolve(batch, broker_time);
        let has_canaries = self.context_ids.iter().any(|id| self.contexts.context(*id).canary);
        let message = Message { batch, broker_time, latest, has_canaries };
        self.check_chain(batch, broker_time);
        for start in (0..batch.len()).step_by(CHUNK) {
            let rows = start..(start + CHUNK).min(batch.len());
            self.prefetch(batch, rows.clone());
            self.identify(batch, rows.clone());
            for row in rows {
                let fingerprint = self.fingerprints.get(row - start).copied().flatten();
                self.apply_row(&message, row, fingerprint);
            }
        }
        if let Some(mark) = batch.mark() {
            self.time.mark(batch.sources(), mark.min(broker_time), broker_time);
            self.close_due(broker_time);
        }
        self.end_conditions(&message);
    }

    /// Looks up each distinct context and source partition of a message once.
    fn resolve(&mut self, batch: &Batch, broker_time: EventTime) {
        self.contexts.make_room(&mut self.stats);
        self.context_ids.clear();
        for text in batch.contexts().values().iter().flatten() {
            let id = self.contexts.id(text, &self.rules, &mut self.stats);
            self.context_ids.push(id);
        }
        self.applied_ids.clear();
        for source in batch.sources() {
            if !self.applied.knows(&source.source, batch.route()) {
                self.check_namesake(batch, &source.source, broker_time);
            }
            self.applied_ids.push(self.applied.id(&source.source, batch.route()));
            self.time.hear(&source.source, broker_time);
        }
    }

    /// What the rules charge for a row: meters whose filter its context passes.
    fn charges(&self, batch: &Batch, row: usize) -> &[Charge] {
        let object = usize::from(batch.position(row).object);
        self.contexts.charges(self.context_id(batch, row), batch.route(), object)
    }

    fn context_id(&self, batch: &Batch, row: usize) -> u32 {
        self.context_ids[batch.contexts().id(row).unwrap_or_default()]
    }

    fn prefetch(&self, batch: &Batch, rows: std::ops::Range<usize>) {
        for row in rows.clone() {
            for charge in self.charges(batch, row) {
                self.meters[charge.meter].prefetch_index(batch.key_hash(row));
            }
        }
        for row in rows {
            for charge in self.charges(batch, row) {
                self.meters[charge.meter].prefetch_slot(batch.key_hash(row));
            }
        }
    }

    /// Fingerprints of the rows that may have come before; none at all where no source retries.
    fn identify(&mut self, batch: &Batch, rows: std::ops::Range<usize>) {
        self.fingerprints.clear();
        let retries = batch.sources().iter().any(|source| source.retries);
        if !retries || self.dedup.capacity() == 0 {
            return;
        }
        for row in rows {
            let source = self.contexts.source(self.context_id(batch, row));
            let fingerprint = batch.retries(row).then(|| Fingerprint::of(batch, row, source));
            let fingerprint = fingerprint.flatten();
            if let Some(fingerprint) = fingerprint {
                self.dedup.prefetch(fingerprint, self.fingerprints.len());
            }
            self.fingerprints.push(fingerprint);
        }
    }

    fn apply_row(&mut self, message: &Message<'_>, row: usize, fingerprint: Option<Fingerprint>) {
        let batch = message.batch;
        self.stats.rows_read += 1;
        if !self.applied.advance(self.applied_ids[batch.source(row)], batch.position(row)) {
            self.stats.duplicate += 1;
            return;
        }
        if fingerprint.is_some_and(|row| self.is_repeated(row, message.broker_time)) {
            self.stats.duplicate += 1;
            return;
        }
        let mut at = batch.event_time(row);
        if at > message.latest {
            at = message.latest;
            self.stats.clamped += 1;
        }
        // A canary comes at any time, whatever time the sources have come to.
        let tells_time = !message.has_canaries || !self.is_canary(batch, row);
        // A clock that is ahead must not close the episodes of others.
        if tells_time && self.time.advance(at.min(message.broker_time)) {
            self.close_due(message.broker_time);
        }
        if self.count(message, row, at) {
            self.stats.applied += 1;
            self.stats.applied_by_route[batch.route() as usize] += 1;
        } else {
            self.stats.too_late += 1;
            self.row_too_late(at, message.broker_time);
        }
        self.watch_budget(message.broker_time);
    }

    fn is_canary(&self, batch: &Batch, row: usize) -> bool {
        self.contexts.context(self.context_id(batch, row)).canary
    }

    /// Whether a source that retries has sent this event before.
    fn is_repeated(&mut self, fingerprint: Fingerprint, broker_time: EventTime) -> bool {
        match self.dedup.see(fingerprint, broker_time) {
            Sighting::New => false,
            Sighting::Repeated => {
                self.stats.repeated += 1;
                true
            }
            // A client that never changes its ids must not vanish.
            Sighting::Reused => {
                self.stats.reused_ids += 1;
                false
            }
        }
    }

    /// Alerts decided since the last call, in order, appended to `out`. They stay in the outbox.
    pub fn take_alerts(&mut self, out: &mut Vec<Arc<Alert>>) {
        self.outbox.take(out);
    }

    /// The broker has acknowledged this message.
    pub fn delivered(&mut self, message: MessageId) {
        self.outbox.delivered(message);
    }

    /// Alerts whose delivery is not known yet.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        self.outbox.len()
    }

    /// About how much memory they take.
    #[must_use]
    pub const fn undelivered_bytes(&self) -> usize {
        self.outbox.bytes()
    }

    /// Ceiling of this engine's tables from now on, in bytes.
    pub fn set_memory_limit(&mut self, bytes: u64) {
        self.options.memory_limit = bytes;
        self.budget.set_limit_bytes(bytes);
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// The rows applied, per source partition and route.
    #[must_use]
    pub const fn applied(&self) -> &Applied {
        &self.applied
    }

    /// What is remembered of sources that retry.
    #[must_use]
    pub const fn dedup(&self) -> &Dedup {
        &self.dedup
    }

    /// The partition's time, W6; `None` before the first row.
    #[must_use]
    pub const fn time(&self) -> Option<EventTime> {
        self.time.now()
    }

    /// Memory of the tables: used and allowed, and what the ceiling cost.
    #[must_use]
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }
}
