//! One assignment of one events partition, as its worker sees it: the engine, what of it is kept,
//! which of its alerts are known to be out.
//!
//! The worker asks [`Custody`](super::Custody) to keep what [`Tenure::save`] gives, and tells the
//! answer by [`Tenure::stored`]. Every answer, and every fate of an alert, names the epoch of the
//! assignment that it is for: the same partition may have been lost and assigned again meanwhile,
//! and what was true of the engine before says nothing of this one. Time is an argument. Never
//! here: a thread, a channel, Kafka.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    alert::{Alert, MessageId},
    engine::{Engine, SaveOptions, Saved},
    event::batch::Batch,
    rules::RuleSet,
    units::EventTime,
};

/// What a tenure is told when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenureOptions {
    /// Number of the assignment, which no other of this process has.
    pub epoch: u64,
    /// Alerts go out in one transaction with a checkpoint (D4), else on their own.
    pub transactional: bool,
    /// Between two regular checkpoints.
    pub every: Duration,
    /// Until the first of them: [`first_after`].
    pub first_after: Duration,
    /// Between a checkpoint that failed and the next that only alerts ask for.
    pub retry_after: Duration,
}

/// What is to be kept.
#[derive(Debug)]
pub struct Request {
    /// Of the assignment.
    pub epoch: u64,
    /// Everything before this offset is in it.
    pub covered: i64,
    /// Revision of the rules in it.
    pub revision: String,
    /// The engine.
    pub saved: Saved,
    /// To be published in the same transaction (D4), oldest first.
    pub alerts: Vec<Arc<Alert>>,
}

/// When the first regular checkpoint of a partition is due. Those of one member are assigned at one
/// moment; were they saved at one moment too, everything else would wait for all of them. Multiples
/// of the golden ratio, less their whole part, are spread evenly however many there are (the three
/// distance theorem; Swierczkowski, Fundamenta Mathematicae 46, 1958).
#[must_use]
pub fn first_after(partition: i32, every: Duration) -> Duration {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    every.mul_f64(((f64::from(partition) + 1.0) * GOLDEN).fract())
}

/// How far an engine had come: next offset, alerts not known to be out.
type Point = (i64, usize);

/// See the module.
#[derive(Debug)]
pub struct Tenure {
    options: TenureOptions,
    engine: Engine,
    /// Offset of the next message; everything before it is applied.
    next: i64,
    /// With `transactional`: alerts that go out with the next checkpoints, oldest first.
    unpublished: Vec<Arc<Alert>>,
    /// The checkpoint on its way, and how many of `unpublished` go out with it.
    under_way: Option<(Point, usize)>,
    /// In the last one that was kept.
    kept: Point,
    kept_at: Instant,
    begun_at: Instant,
    /// When the next regular one is due. Others do not move it.
    regular_at: Instant,
    /// The rules changed (D7).
    soon: bool,
    /// The last one failed.
    failed: bool,
}

impl Tenure {
    /// Begins with an engine as it was restored, or a new one. `covered` is what the checkpoint of
    /// it covers, or where reading begins; who reads on further away says so by
    /// [`Self::advance_to`].
    #[must_use]
    pub fn begin(options: TenureOptions, engine: Engine, covered: i64, now: Instant) -> Self {
        Self {
            options,
            kept: (covered, engine.undelivered()),
            engine,
            next: covered,
            unpublished: Vec::new(),
            under_way: None,
            kept_at: now,
            begun_at: now,
            regular_at: now + options.first_after,
            soon: false,
            failed: false,
        }
    }

    /// Number of the assignment.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.options.epoch
    }

    /// Its detector.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The same, for what is neither counting nor saving.
    pub const fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Counts a message under `rules`; a change of them takes effect before it (D7). True when
    /// there was one.
    pub fn apply(&mut self, batch: &Batch, broker_time: EventTime, rules: &Arc<RuleSet>) -> bool {
        let changes = !Arc::ptr_eq(self.engine.rules(), rules);
        if changes {
            self.soon |= self.engine.rules().revision != rules.revision;
            self.engine.reload(Arc::clone(rules), broker_time);
        }
        self.engine.apply(batch, broker_time);
        changes
    }

    /// Everything before `next` is done with, and a checkpoint may cover it.
    pub const fn advance_to(&mut self, next: i64) {
        self.next = next;
    }

    /// Alerts decided since the last call that must be sent on their own, appended to `out`. With
    /// `transactional` there are none: they wait here for a checkpoint.
    pub fn take_alerts(&mut self, out: &mut Vec<Arc<Alert>>) {
        let out = if self.options.transactional { &mut self.unpublished } else { out };
        self.engine.take_alerts(out);
    }

    /// What became of an alert that was sent on its own. True: send it again.
    pub fn settle(&mut self, epoch: u64, message: MessageId, delivered: bool) -> bool {
        if !same_epoch(epoch, self.options.epoch) {
            return false;
        }
        if delivered {
            self.engine.delivered(message);
        }
        !delivered
    }

    /// A checkpoint, if it is time for one and none is on its way. `ends`: the partition will be
    /// let go, so once more when nothing is left to be delivered.
    pub fn save(&mut self, ends: bool, now: Instant) -> Option<Request> {
        let begun = now.saturating_duration_since(self.begun_at);
        let waits = self.failed && begun < self.options.retry_after;
        let publishes = !self.unpublished.is_empty() && !waits;
        let regular = now >= self.regular_at;
        let due = self.soon || publishes || regular;
        // A failure of the last one is not tried again.
        let last = ends && self.engine.undelivered() == 0 && !self.failed;
        let unchanged = self.is_saved() && !self.soon;
        if self.under_way.is_some() || !(due || last) || unchanged {
            return None;
        }
        // Between two regular ones, a checkpoint that alerts ask for holds changes only.
        let walks = last || regular;
        let alerts = self.unpublished.clone();
        let options = SaveOptions { walks, publishes: !alerts.is_empty() };
        let saved = self.engine.save_with(options);
        let point = (self.next, self.engine.undelivered() - alerts.len());
        self.under_way = Some((point, alerts.len()));
        self.begun_at = now;
        while self.regular_at <= now {
            self.regular_at += self.options.every;
        }
        self.soon = false;
        let (epoch, revision) = (self.options.epoch, self.engine.rules().revision.clone());
        Some(Request { epoch, covered: self.next, revision, saved, alerts })
    }

    /// The answer to a [`Request`]: kept, or nobody knows. True when one of this assignment was
    /// kept.
    pub fn stored(&mut self, epoch: u64, kept: bool, now: Instant) -> bool {
        if !same_epoch(epoch, self.options.epoch) {
            return false;
        }
        let Some((point, published)) = self.under_way.take() else { return false };
        self.failed = !kept;
        if kept {
            self.kept = point;
            self.kept_at = now;
            for alert in self.unpublished.drain(..published) {
                self.engine.delivered(alert.message);
            }
        } else {
            self.engine.save_all_next();
        }
        kept
    }

    /// Nothing has happened since the last checkpoint that was kept.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        self.under_way.is_none() && (self.next, self.engine.undelivered()) == self.kept
    }

    /// The last checkpoint failed, and none has been kept since.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        self.failed
    }

    /// For how long there has been something that is in no checkpoint.
    #[must_use]
    pub fn unsaved_for(&self, now: Instant) -> Duration {
        if self.is_saved() { Duration::ZERO } else { now.saturating_duration_since(self.kept_at) }
    }
}

#[cfg(test)]
thread_local! {
    static CHECKS_EPOCHS: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
}

/// Switches a guard of this thread off and on, so that a simulation can show that it is missed.
#[cfg(test)]
pub(crate) fn check_epochs(on: bool) {
    CHECKS_EPOCHS.set(on);
}

/// Whether what was asked or answered under `named` is for the assignment `own`.
pub(super) fn same_epoch(named: u64, own: u64) -> bool {
    let same = named == own;
    #[cfg(test)]
    let same = same || !CHECKS_EPOCHS.get();
    same
}
