//! What an engine says about itself: the memory ceiling, crossings without an alert of their own,
//! rows that came too late, a broken chain of messages.
//!
//! Each is a condition with an episode; the time is the partition's, so that the ids are those of
//! every run over the same log.

use serde::{Deserialize, Serialize};

use crate::{
    alert::{
        Alert, SystemKind,
        system::{Condition, SystemEpisodes},
    },
    event::batch::{Batch, SourcePartition},
    rules::Severity,
    units::EventTime,
};

use super::{Engine, Message};

/// Conditions about rows end when the partition's time is this far past the last of them.
const QUIET_MS: i64 = 24 * 3_600_000;

/// Open conditions of one engine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Conditions {
    episodes: SystemEpisodes,
    degraded: bool,
    /// Time of the last row of the kind.
    too_late: Option<EventTime>,
    refused: Option<EventTime>,
}

impl Engine {
    /// Raises or ends DEGRADED when the tables came to their ceiling or left it (W5).
    #[inline]
    pub(super) fn watch_budget(&mut self, broker_time: EventTime) {
        let degraded = self.budget.degraded();
        if degraded == self.conditions.degraded {
            return;
        }
        self.conditions.degraded = degraded;
        let scope = self.options.partition.0.to_string();
        if !degraded {
            self.clear(SystemKind::Degraded, &scope, "every key is counted exactly", broker_time);
            return;
        }
        let message = "the memory ceiling is reached: small keys are estimated from now on, never \
                       too low; raise detect.memory_limit or spread the partitions over more \
                       members"
            .to_owned();
        let details = vec![
            ("memory_limit_bytes", self.options.memory_limit.to_string()),
            ("keys_evicted", self.budget.evicted().to_string()),
        ];
        let kind = SystemKind::Degraded;
        let condition = Condition { kind, scope, severity: Severity::High, message, details };
        self.raise(condition, broker_time);
    }

    /// A key may have crossed a limit and gets no alert of its own (W5).
    pub(super) fn refuse_crossing(&mut self, at: EventTime, broker_time: EventTime) {
        self.stats.crossings_refused += 1;
        self.conditions.refused = self.conditions.refused.max(Some(at));
        if !is_worth_a_word(self.stats.crossings_refused) {
            return;
        }
        let message = format!(
            "more keys may be above a limit than get an alert of their own ({} episodes are open, \
             {} of them on estimated counts): keys that pass a limit by exact counts still alert \
             while there is room; raise detect.memory_limit, and look for a flood of made-up names",
            self.episodes.len(),
            self.episodes.estimated(),
        );
        let condition = Condition {
            kind: SystemKind::Degraded,
            scope: self.crossings_scope(),
            severity: Severity::Critical,
            message,
            details: vec![("crossings_refused", self.stats.crossings_refused.to_string())],
        };
        self.raise(condition, broker_time);
    }

    /// A row was past every window of every meter that would count it (W3).
    pub(super) fn row_too_late(&mut self, at: EventTime, broker_time: EventTime) {
        self.conditions.too_late = self.time.now().max(Some(at));
        if !is_worth_a_word(self.stats.too_late) {
            return;
        }
        let condition = Condition {
            kind: SystemKind::DataGap,
            scope: self.late_scope(),
            severity: Severity::High,
            message: format!(
                "{} rows so far came later than every window of their key reaches back, and were \
                 not counted; an input lags behind the others, or its clock is wrong",
                self.stats.too_late
            ),
            details: vec![("rows_too_late", self.stats.too_late.to_string())],
        };
        self.raise(condition, broker_time);
    }

    /// D1: a message names the offset routed here before it; if that was never applied, rows are
    /// missing. What came before the first message ever seen of a source cannot be known.
    pub(super) fn check_chain(&mut self, batch: &Batch, broker_time: EventTime) {
        for (number, source) in batch.sources().iter().enumerate() {
            let Some(highest) = self.applied.highest(self.applied_ids[number]) else { continue };
            if source.previous <= highest.offset.0 {
                continue;
            }
            self.stats.broken_chains += 1;
            let (named, route) = (&source.source, batch.route().as_str());
            let message = format!(
                "rows of {}[{}] between offsets {} and {} for {route} are missing from the events \
                 topic, so they were not counted",
                named.topic, named.partition, highest.offset.0, source.previous
            );
            let condition = Condition {
                kind: SystemKind::DataGap,
                // Each gap is news of its own.
                scope: format!("{}/{}@{}/{route}", named.topic, named.partition, source.previous),
                severity: Severity::High,
                message,
                details: vec![
                    ("applied_offset", highest.offset.0.to_string()),
                    ("previous_offset", source.previous.to_string()),
                ],
            };
            self.raise(condition, broker_time);
        }
    }

    /// A topic was deleted and made again. Its group's offsets went with it, so ingest may not
    /// know: what was in the former and not read is lost, and so is what is skipped of the new.
    pub(super) fn check_namesake(
        &mut self,
        batch: &Batch,
        source: &SourcePartition,
        broker_time: EventTime,
    ) {
        let Some((_, highest)) = self.applied.namesake(source) else { return };
        let mut rows =
            (0..batch.len()).filter(|&row| batch.sources()[batch.source(row)].source == *source);
        let first = rows.next().map_or(0, |row| batch.position(row).offset.0);
        let (topic, partition, last) = (&source.topic, source.partition, highest.offset.0);
        let message = format!(
            "{topic}[{partition}] was deleted and made again: records of the former after offset \
             {last} may never have been read, nor those of the new one before offset {first}"
        );
        let condition = Condition {
            kind: SystemKind::DataGap,
            scope: format!("{topic}/{partition}@{}", source.topic_id),
            severity: Severity::High,
            message,
            details: vec![
                ("applied_offset", last.to_string()),
                ("first_offset", first.to_string()),
            ],
        };
        self.raise(condition, broker_time);
    }

    /// After a message: ends what is over.
    pub(super) fn end_conditions(&mut self, message: &Message<'_>) {
        let broker_time = message.broker_time;
        for meter in &mut self.meters {
            meter.drop_expired_sketch(&mut self.budget);
        }
        self.watch_budget(broker_time);
        let Some(now) = self.time.now() else { return };
        let is_over = |last: &mut EventTime| now >= last.plus_millis(QUIET_MS);
        if self.conditions.too_late.take_if(is_over).is_some() {
            let (kind, scope) = (SystemKind::DataGap, self.late_scope());
            self.clear(kind, &scope, "no row came too late for a day", broker_time);
        }
        if self.conditions.refused.take_if(is_over).is_some() {
            let (kind, scope) = (SystemKind::Degraded, self.crossings_scope());
            self.clear(kind, &scope, "every crossing had its alert for a day", broker_time);
        }
    }

    fn late_scope(&self) -> String {
        format!("{}/too-late", self.options.partition.0)
    }

    fn crossings_scope(&self) -> String {
        format!("{}/crossings", self.options.partition.0)
    }

    fn raise(&mut self, condition: Condition, broker_time: EventTime) {
        let now = self.time.now().unwrap_or(broker_time);
        if let Some(alert) = self.conditions.episodes.raise(condition, now) {
            self.outbox.push(Alert { time: broker_time, ..alert });
        }
    }

    fn clear(&mut self, kind: SystemKind, scope: &str, message: &str, broker_time: EventTime) {
        let now = self.time.now().unwrap_or(broker_time);
        if let Some(alert) = self.conditions.episodes.clear(kind, scope, message, now) {
            self.outbox.push(Alert { time: broker_time, ..alert });
        }
    }
}

/// A flood of rows must not write a sentence each; the episode repeats at most daily anyway.
const fn is_worth_a_word(count: u64) -> bool {
    count.is_power_of_two() || count.is_multiple_of(1024)
}
