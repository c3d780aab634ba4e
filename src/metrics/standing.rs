//! How the rules of one engine stand: open episodes, and keys near a limit.

use std::collections::BTreeMap;

use super::{Metrics, family::Part};
use crate::{
    engine::SHARES_PERCENT,
    rules::{RuleSet, Severity},
};

/// Gauges of one engine by rule; dropped with it, which takes its numbers out of the sums.
#[derive(Debug)]
pub struct StandingMetrics {
    episodes: BTreeMap<(usize, Severity), Part>,
    near: Vec<[Part; SHARES_PERCENT.len()]>,
}

impl StandingMetrics {
    /// Open episodes by the index of their rule and by severity; none where it has none.
    pub fn episodes(&self, open: &BTreeMap<(usize, Severity), u64>) {
        for (of, part) in &self.episodes {
            part.set_u64(open.get(of).copied().unwrap_or(0));
        }
    }

    /// Keys near a limit by the index of their rule, at or above each of [`SHARES_PERCENT`].
    pub fn near(&self, keys: &[[u64; SHARES_PERCENT.len()]]) {
        for (parts, keys) in self.near.iter().zip(keys) {
            for (part, keys) in parts.iter().zip(keys) {
                part.set_u64(*keys);
            }
        }
    }
}

impl Metrics {
    /// Gauges of one engine with these rules; every series is there from the start.
    #[must_use]
    pub fn standing(&self, rules: &RuleSet) -> StandingMetrics {
        let limits = rules.meters.iter().flat_map(|meter| &meter.limits);
        let mut episodes = BTreeMap::new();
        for limit in limits {
            let id = rules.rules[limit.rule].id.as_str();
            let part = || self.episodes_open.part(&[id, limit.severity.as_str()]);
            episodes.entry((limit.rule, limit.severity)).or_insert_with(part);
        }
        let near = |id: &str| {
            SHARES_PERCENT.map(|share| self.window_keys_near_limit.part(&[id, &label(share)]))
        };
        StandingMetrics { episodes, near: rules.rules.iter().map(|rule| near(&rule.id)).collect() }
    }
}

/// A share as Prometheus writes ratios.
fn label(percent: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "at most 100")]
    let share = percent as f64 / 100.0;
    share.to_string()
}
