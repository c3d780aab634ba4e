//! What one engine has counted, as metrics. The engine counts in plain numbers; this follows them.

use std::time::{Duration, Instant};

use crate::{
    engine::{Dedup, Engine, Stats},
    event::batch::Batch,
    metrics::{MatchMetrics, Metrics, PartitionMetrics, StandingMetrics},
    rules::GroupBy,
    units::EventTime,
    window::Budget,
};

/// Between two looks at the keys near a limit, about a microsecond each.
const NEAR_EVERY: Duration = Duration::from_secs(5);

/// Metrics of one assignment of one events partition.
pub(super) struct Gauges {
    partition: PartitionMetrics,
    rules: MatchMetrics,
    standing: StandingMetrics,
    near_at: Option<Instant>,
    /// What each meter had matched when `rules` began.
    base: Vec<u64>,
    /// Rows applied, duplicate and too late, and promotions, by route.
    by_route: [[u64; 4]; GroupBy::ALL.len()],
    seen: Stats,
    /// What a restored engine had counted before this process: others have published that.
    before: Stats,
    before_budget: [u64; 3],
    before_evicted: u64,
}

impl Gauges {
    /// For an engine as it is now.
    pub(super) fn new(metrics: &Metrics, engine: &Engine) -> Self {
        Self {
            partition: metrics.partition(),
            rules: metrics.rules(engine.rules()),
            standing: metrics.standing(engine.rules()),
            near_at: None,
            base: engine.stats().matched.clone(),
            by_route: Default::default(),
            seen: engine.stats().clone(),
            before: engine.stats().clone(),
            before_budget: counts(engine.budget()),
            before_evicted: engine.dedup().evicted(),
        }
    }

    /// The engine has taken other rules; meters that stayed have kept their counts.
    pub(super) fn reload(&mut self, metrics: &Metrics, engine: &Engine) {
        self.rules = metrics.rules(engine.rules());
        self.standing = metrics.standing(engine.rules());
        self.near_at = None;
        self.base.clone_from(&engine.stats().matched);
    }

    /// The engine has applied a message.
    pub(super) fn applied(&mut self, batch: &Batch, engine: &Engine, now: EventTime) {
        let (stats, seen) = (engine.stats(), &self.seen);
        let route = &mut self.by_route[batch.route() as usize];
        route[0] += stats.applied - seen.applied;
        route[1] += stats.duplicate - seen.duplicate;
        route[2] += stats.too_late - seen.too_late;
        route[3] += stats.promotions - seen.promotions;
        self.seen.applied = stats.applied;
        self.seen.duplicate = stats.duplicate;
        self.seen.too_late = stats.too_late;
        self.seen.promotions = stats.promotions;
        for row in 0..batch.len() {
            self.partition.evaluated(batch.event_time(row), now);
        }
        self.partition.flush(batch.len());
        // A rule that matched is no longer silent, whatever the next round finds.
        self.matches(engine, now);
    }

    fn matches(&mut self, engine: &Engine, now: EventTime) {
        let matched = &engine.stats().matched;
        for (index, rule) in engine.rules().rules.iter().enumerate() {
            let since = matched[rule.meter].saturating_sub(self.base[rule.meter]);
            self.rules.follow(index, since, now);
        }
    }

    /// Publishes everything that is worth it once a second.
    /// Returns by how many rows the account does not add up (D5).
    pub(super) fn publish(&mut self, engine: &Engine, now: EventTime) -> u64 {
        let (stats, budget) = (engine.stats(), engine.budget());
        for group_by in GroupBy::ALL {
            let rows = stats.applied_by_route[group_by as usize];
            self.partition.state_rows[group_by as usize].set_u64(rows);
            let [applied, duplicate, too_late, promotions] = self.by_route[group_by as usize];
            self.partition.rows[group_by as usize].follow(applied, duplicate, too_late);
            let (keys, promoted) = (engine.keys(group_by), engine.promoted(group_by));
            let table = &mut self.partition.tables[group_by as usize];
            table.follow(keys as u64, promoted as u64, promotions);
        }
        let (before, part) = (&self.before, &mut self.partition);
        part.repeated.follow(stats.repeated - before.repeated);
        part.reused_ids.follow(stats.reused_ids - before.reused_ids);
        part.late_for_window.follow(stats.late_for_window - before.late_for_window);
        part.clamped.follow(stats.clamped - before.clamped);
        part.uncounted.follow(stats.unknown_counts - before.unknown_counts);
        part.upper_bound.follow(stats.upper_bounds - before.upper_bounds);
        part.contexts_unreadable.follow(stats.bad_contexts - before.bad_contexts);
        part.context_resets.follow(stats.context_resets - before.context_resets);
        part.evidence_refused.follow(stats.evidence_refused - before.evidence_refused);
        part.crossings_refused.follow(stats.crossings_refused - before.crossings_refused);
        part.chains_broken.follow(stats.broken_chains - before.broken_chains);
        let [sketched, expired, evicted] = counts(budget);
        part.estimated.follow(sketched - self.before_budget[0]);
        part.evicted_idle.follow(expired - self.before_budget[1]);
        part.evicted_capacity.follow(evicted - self.before_budget[2]);
        self.publish_dedup(engine.dedup(), now);
        let went = stats.applied + stats.duplicate + stats.too_late;
        let difference = stats.rows_read.abs_diff(went);
        self.partition.account.set_u64(difference);
        self.partition.memory.set_u64(budget.used_bytes());
        for (part, fill) in self.partition.memory_fill.iter().zip(budget.fill()) {
            part.set(fill);
        }
        self.partition.degraded.set_u64(u64::from(budget.degraded()));
        self.partition.undelivered.set_u64(engine.undelivered() as u64);
        self.matches(engine, now);
        self.publish_standing(engine);
        difference
    }

    fn publish_standing(&mut self, engine: &Engine) {
        self.standing.episodes(&engine.episodes_by_rule());
        if self.near_at.is_none_or(|at| at.elapsed() >= NEAR_EVERY) {
            self.near_at = Some(Instant::now());
            self.standing.near(&engine.keys_near_limits());
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "exact for any time a clock can show")]
    fn publish_dedup(&mut self, dedup: &Dedup, now: EventTime) {
        let part = &mut self.partition;
        part.dedup_entries.set_u64(dedup.len() as u64);
        part.dedup_memory.set_u64(dedup.bytes());
        part.dedup_evicted.follow(dedup.evicted() - self.before_evicted);
        let horizon_s = dedup.horizon_ms(now).map_or(f64::INFINITY, |ms| ms as f64 / 1000.0);
        part.dedup_horizon.set(horizon_s);
    }
}

fn counts(budget: &Budget) -> [u64; 3] {
    [budget.sketched(), budget.expired(), budget.evicted()]
}
