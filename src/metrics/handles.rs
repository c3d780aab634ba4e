//! Pre-resolved handles: labels are looked up once, a batch then costs a few atomic additions.
//!
//! The core counts in plain `u64` that only grow; a handle adds what they have grown by since it
//! was asked last ([`Total`]). A handle belongs to one thread.

use prometheus::local::LocalHistogram;

use super::{
    Metrics, Role,
    family::{Counter, Gauge, Part},
};
use crate::{
    event::{DecodeError, IgnoreReason, RowsQuality},
    rules::{GroupBy, RuleSet},
    units::EventTime,
};

/// A counter that follows a plain total kept elsewhere.
#[derive(Debug)]
pub struct Total {
    counter: Counter,
    seen: u64,
}

impl Total {
    /// Follows a total that is 0 now.
    #[must_use]
    pub fn new(counter: Counter) -> Self {
        Self { counter, seen: 0 }
    }

    /// Adds what `total` has grown by since the last call, and says whether it grew. A total that
    /// fell was begun anew (its owner was rebuilt), so all of it is new.
    pub fn follow(&mut self, total: u64) -> bool {
        let grown = if total < self.seen { total } else { total - self.seen };
        self.seen = total;
        self.counter.inc_by(grown);
        grown > 0
    }
}

/// What became of the events of one input since [`InputMetrics::add`]; plain numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputCounts {
    /// Kafka records.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// How often its decoder forgot the shapes it remembered, because they were too many.
    pub shape_resets: u64,
    /// Events: what the decoder handed over, and one for a record that it could not decode or that
    /// has no value. Counted where they come in, the fields below where they go to (D5).
    pub events: u64,
    /// Events handed to the router.
    pub forwarded: u64,
    /// Of these, by the quality of their record count, in the order of [`RowsQuality::ALL`].
    pub quality: [u64; RowsQuality::ALL.len()],
    /// Records that they delivered.
    pub delivered: u64,
    /// Canaries handed to the router.
    pub canary: u64,
    /// Events ignored, in the order of [`IgnoreReason::ALL`].
    pub ignored: [u64; IgnoreReason::ALL.len()],
    /// Dead letters, in the order of [`DecodeError::CODES`].
    pub dead_letters: [u64; DecodeError::CODES.len()],
}

impl InputCounts {
    /// One event was handed to the router.
    pub fn forward(&mut self, rows: Option<u64>, quality: RowsQuality) {
        self.forwarded += 1;
        self.quality[quality as usize] += 1;
        self.delivered = self.delivered.saturating_add(rows.unwrap_or(0));
    }

    /// One event was ignored.
    pub fn ignore(&mut self, reason: IgnoreReason) {
        self.ignored[position(&IgnoreReason::ALL, &reason)] += 1;
    }

    /// One event, or a record that cannot be decoded, goes to the dead letters.
    pub fn refuse(&mut self, error: &DecodeError) {
        self.dead_letters[position(&DecodeError::CODES, &error.code())] += 1;
    }
}

fn position<T: PartialEq>(all: &[T], one: &T) -> usize {
    all.iter().position(|other| other == one).expect("a test holds ALL and CODES to be complete")
}

/// Counters of one input topic.
#[derive(Debug)]
pub struct InputMetrics {
    records: Counter,
    bytes: Counter,
    shape_resets: Counter,
    forwarded: Counter,
    quality: [Counter; RowsQuality::ALL.len()],
    delivered: Counter,
    canary: Counter,
    ignored: [Counter; IgnoreReason::ALL.len()],
    dead_letters: [Counter; DecodeError::CODES.len()],
    account: Part,
    /// Events that came in and went nowhere; 0 is healthy.
    difference: u64,
}

impl InputMetrics {
    /// Adds `counts` and resets them. Returns by how many events they do not add up (D5).
    pub fn add(&mut self, counts: &mut InputCounts) -> u64 {
        let counts = std::mem::take(counts);
        let went = counts.forwarded
            + counts.canary
            + counts.ignored.iter().sum::<u64>()
            + counts.dead_letters.iter().sum::<u64>();
        let difference = counts.events.abs_diff(went);
        self.difference += difference;
        self.account.set_u64(self.difference);
        self.records.inc_by(counts.records);
        self.bytes.inc_by(counts.bytes);
        self.shape_resets.inc_by(counts.shape_resets);
        self.forwarded.inc_by(counts.forwarded);
        self.delivered.inc_by(counts.delivered);
        for (counter, count) in self.quality.iter().zip(counts.quality) {
            counter.inc_by(count);
        }
        self.canary.inc_by(counts.canary);
        for (counter, count) in self.ignored.iter().zip(counts.ignored) {
            counter.inc_by(count);
        }
        for (counter, count) in self.dead_letters.iter().zip(counts.dead_letters) {
            counter.inc_by(count);
        }
        difference
    }
}

/// Counters of the routes, following the router's own statistics.
#[derive(Debug)]
pub struct RouteMetrics {
    forwarded: [Total; GroupBy::ALL.len()],
    keyless: [Total; GroupBy::ALL.len()],
    bytes: [Counter; GroupBy::ALL.len()],
    /// Remembered contexts dropped for their number.
    pub context_resets: Total,
}

impl RouteMetrics {
    /// Rows forwarded on a route so far.
    pub fn forwarded(&mut self, route: GroupBy, total: u64) {
        self.forwarded[route as usize].follow(total);
    }

    /// Events without the field of a route so far.
    pub fn keyless(&mut self, route: GroupBy, total: u64) {
        self.keyless[route as usize].follow(total);
    }

    /// A batch of `bytes` was written.
    pub fn batch(&self, route: GroupBy, bytes: u64) {
        self.bytes[route as usize].inc_by(bytes);
    }
}

/// How often the things a configuration names matched, and when last: rules or catalogue entries.
///
/// Several threads may each have one; the time is that of the thread that saw a match last.
#[derive(Debug)]
pub struct MatchMetrics(Vec<(Total, Gauge)>);

impl MatchMetrics {
    /// The one at `index` has matched `total` times so far; `now` is the time of day.
    pub fn follow(&mut self, index: usize, total: u64, now: EventTime) {
        if let Some((matched, last)) = self.0.get_mut(index)
            && matched.follow(total)
        {
            last.set(epoch_seconds(now));
        }
    }
}

/// What became of the rows of one grouping.
#[derive(Debug)]
pub struct RowMetrics {
    applied: Total,
    duplicate: Total,
    too_late: Total,
}

impl RowMetrics {
    /// Rows so far, each in exactly one of the three.
    pub fn follow(&mut self, applied: u64, duplicate: u64, too_late: u64) {
        self.applied.follow(applied);
        self.duplicate.follow(duplicate);
        self.too_late.follow(too_late);
    }
}

/// The window tables of one partition by grouping, and its memory.
#[derive(Debug)]
pub struct TableMetrics {
    keys: Part,
    promoted: Part,
    promotions: Total,
}

impl TableMetrics {
    /// Keys held and promoted now, promotions so far.
    pub fn follow(&mut self, keys: u64, promoted: u64, promotions: u64) {
        self.keys.set_u64(keys);
        self.promoted.set_u64(promoted);
        self.promotions.follow(promotions);
    }
}

/// Everything the owner of one events partition reports. Dropped with the partition, which takes
/// its keys and bytes out of the gauges.
#[derive(Debug)]
pub struct PartitionMetrics {
    /// Rows by what became of them, in the order of [`GroupBy::ALL`].
    pub rows: [RowMetrics; GroupBy::ALL.len()],
    /// Tables, in the order of [`GroupBy::ALL`].
    pub tables: [TableMetrics; GroupBy::ALL.len()],
    /// Rows of a source that retries, seen before.
    pub repeated: Total,
    /// Rows of a source that retries with the id of another event.
    pub reused_ids: Total,
    /// Rows late for some of their windows.
    pub late_for_window: Total,
    /// Rows from the future.
    pub clamped: Total,
    /// Rows without a count.
    pub uncounted: Total,
    /// Rows with an upper bound.
    pub upper_bound: Total,
    /// Contexts that could not be read.
    pub contexts_unreadable: Total,
    /// Remembered contexts dropped for their number.
    pub context_resets: Total,
    /// Keys near a limit without evidence.
    pub evidence_refused: Total,
    /// Crossings without an alert of their own.
    pub crossings_refused: Total,
    /// Messages that name a row which never came.
    pub chains_broken: Total,
    /// Rows counted by a sketch.
    pub estimated: Total,
    /// Keys whose windows were empty.
    pub evicted_idle: Total,
    /// Keys that went to the sketch at the ceiling.
    pub evicted_capacity: Total,
    /// Rows applied since the state began, in the order of [`GroupBy::ALL`].
    pub state_rows: [Part; GroupBy::ALL.len()],
    /// Bytes of the tables.
    pub memory: Part,
    /// How full the ceiling's shares are, in the order of [`crate::window::Budget::fill`].
    pub memory_fill: [Part; 2],
    /// Rows remembered of sources that retry.
    pub dedup_entries: Part,
    /// Bytes of what is remembered of them.
    pub dedup_memory: Part,
    /// Rows of them that were forgotten.
    pub dedup_evicted: Total,
    /// How far back repeats are known, in seconds.
    pub dedup_horizon: Part,
    /// 1 while at the memory ceiling.
    pub degraded: Part,
    /// Alerts whose delivery is not known.
    pub undelivered: Part,
    /// Rows read that are neither applied nor duplicate nor too late (D5); 0 is healthy.
    pub account: Part,
    lag: LocalHistogram,
    batches: LocalHistogram,
}

impl PartitionMetrics {
    /// One event of `event_time` was evaluated at `now`; visible after [`Self::flush`].
    #[expect(clippy::cast_precision_loss, reason = "a lag of 2^53 ms is in the last bucket anyway")]
    pub fn evaluated(&self, event_time: EventTime, now: EventTime) {
        let lag_ms = now.millis().saturating_sub(event_time.millis()).max(0);
        self.lag.observe(lag_ms as f64 / 1000.0);
    }

    /// Publishes the lags of a batch of `rows`.
    #[expect(clippy::cast_precision_loss, reason = "rows of one message are few")]
    pub fn flush(&self, rows: usize) {
        self.lag.flush();
        // A time mark has none.
        if rows > 0 {
            self.batches.observe(rows as f64);
            self.batches.flush();
        }
    }
}

/// Lag of one consumed partition.
#[derive(Debug)]
pub struct LagMetrics {
    /// Records to the end.
    pub records: Part,
    /// Age of the record read last, 0 at the end.
    pub seconds: Part,
}

impl Metrics {
    /// Counters of an input topic; every series is there from the start.
    #[must_use]
    pub fn input(&self, topic: &str) -> InputMetrics {
        let outcome =
            |outcome, reason| self.events_read.with_label_values(&[topic, outcome, reason]);
        InputMetrics {
            records: self.records_read.with_label_values(&[topic]),
            bytes: self.records_read_bytes.with_label_values(&[topic]),
            shape_resets: self.shape_resets.with_label_values(&[topic]),
            forwarded: outcome("forwarded", "none"),
            quality: RowsQuality::ALL
                .map(|quality| self.events_quality.with_label_values(&[topic, quality.as_str()])),
            delivered: self.records_delivered.with_label_values(&[topic]),
            canary: outcome("canary", "none"),
            ignored: IgnoreReason::ALL.map(|reason| outcome("ignored", reason.code())),
            dead_letters: DecodeError::CODES.map(|code| outcome("dead_letter", code)),
            account: self.account_difference.part(&[Role::Ingest.as_str()]),
            difference: 0,
        }
    }

    /// Counters of all routes, for one router that has counted nothing yet.
    #[must_use]
    pub fn routes(&self) -> RouteMetrics {
        let by = |family: &super::family::CounterVec, route: GroupBy| {
            family.with_label_values(&[route.as_str()])
        };
        RouteMetrics {
            forwarded: GroupBy::ALL.map(|route| Total::new(by(&self.rows_forwarded, route))),
            keyless: GroupBy::ALL.map(|route| Total::new(by(&self.rows_keyless, route))),
            bytes: GroupBy::ALL.map(|route| by(&self.forwarded_bytes, route)),
            context_resets: self.context_resets(Role::Ingest),
        }
    }

    /// Counters of the catalogue entries `globs`, for one router. `now` stands for the last match
    /// of an entry that never matched.
    #[must_use]
    pub fn catalog<'a>(
        &self,
        globs: impl IntoIterator<Item = &'a str>,
        now: EventTime,
    ) -> MatchMetrics {
        let one = |glob: &'a str| {
            let last = self.catalog_last_matched.with_label_values(&[glob]);
            // A session begins at every rebalance; only the first one sets the clock.
            if last.get() == 0.0 {
                last.set(epoch_seconds(now));
            }
            (Total::new(self.catalog_matched.with_label_values(&[glob])), last)
        };
        MatchMetrics(globs.into_iter().map(one).collect())
    }

    /// Counters of the rules of `rules` in their order, for one engine that has counted nothing
    /// yet. [`Self::rules_in_force`] comes first.
    #[must_use]
    pub fn rules(&self, rules: &RuleSet) -> MatchMetrics {
        let one = |id: &str| {
            (
                Total::new(self.rule_matched.with_label_values(&[id])),
                self.rule_last_matched.with_label_values(&[id]),
            )
        };
        MatchMetrics(rules.rules.iter().map(|rule| one(&rule.id)).collect())
    }

    /// Metrics of one events partition, for an engine that has counted nothing yet.
    #[must_use]
    pub fn partition(&self) -> PartitionMetrics {
        let rows = |by: GroupBy, outcome| {
            Total::new(self.rows_evaluated.with_label_values(&[by.as_str(), outcome]))
        };
        let evicted = |reason| Total::new(self.window_evictions.with_label_values(&[reason]));
        PartitionMetrics {
            rows: GroupBy::ALL.map(|by| RowMetrics {
                applied: rows(by, "applied"),
                duplicate: rows(by, "duplicate"),
                too_late: rows(by, "too_late"),
            }),
            tables: GroupBy::ALL.map(|by| TableMetrics {
                keys: self.window_keys.part(&[by.as_str()]),
                promoted: self.window_keys_promoted.part(&[by.as_str()]),
                promotions: Total::new(self.window_promotions.with_label_values(&[by.as_str()])),
            }),
            state_rows: GroupBy::ALL.map(|by| self.state_rows.part(&[by.as_str()])),
            repeated: Total::new(self.rows_repeated.clone()),
            reused_ids: Total::new(self.event_ids_reused.clone()),
            late_for_window: Total::new(self.rows_late_for_window.clone()),
            clamped: Total::new(self.rows_clamped.clone()),
            uncounted: Total::new(self.rows_uncounted.clone()),
            upper_bound: Total::new(self.rows_upper_bound.clone()),
            contexts_unreadable: Total::new(self.contexts_unreadable.clone()),
            context_resets: self.context_resets(Role::Detect),
            evidence_refused: Total::new(self.evidence_refused.clone()),
            crossings_refused: Total::new(self.crossings_refused.clone()),
            chains_broken: Total::new(self.chains_broken.clone()),
            estimated: Total::new(self.rows_estimated.clone()),
            evicted_idle: evicted("idle"),
            evicted_capacity: evicted("capacity"),
            memory: self.window_memory.part(),
            memory_fill: ["slots", "promoted"].map(|it| self.window_memory_fill.part(&[it])),
            dedup_entries: self.dedup_entries.part(),
            dedup_memory: self.dedup_memory.part(),
            dedup_evicted: Total::new(self.dedup_evictions.clone()),
            dedup_horizon: self.dedup_horizon.part(),
            degraded: self.partitions_degraded.part(),
            undelivered: self.alerts_undelivered.part(),
            account: self.account_difference.part(&[Role::Detect.as_str()]),
            lag: self.event_lag.local(),
            batches: self.batch_records.of(&[Role::Detect.as_str()]).local(),
        }
    }

    /// Drops of the remembered contexts of one router or engine.
    fn context_resets(&self, role: Role) -> Total {
        Total::new(self.context_resets.with_label_values(&[role.as_str()]))
    }

    /// How far one partition of an input is ahead of the slowest that is not idle.
    #[must_use]
    pub fn drift(&self, topic: &str) -> Part {
        self.source_drift.part(&[topic])
    }

    /// Lag of one partition of `topic`.
    #[must_use]
    pub fn lag(&self, role: Role, topic: &str) -> LagMetrics {
        let labels = [role.as_str(), topic];
        LagMetrics {
            records: self.consumer_lag_records.part(&labels),
            seconds: self.consumer_lag_seconds.part(&labels),
        }
    }
}

/// Seconds since the epoch, as Prometheus writes times.
#[expect(clippy::cast_precision_loss, reason = "exact for any date a clock can show")]
pub(super) fn epoch_seconds(time: EventTime) -> f64 {
    time.millis() as f64 / 1000.0
}
