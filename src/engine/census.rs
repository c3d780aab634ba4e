//! How many keys stand where: what gauges ask now and then. Never here: anything a decision needs.

use std::collections::BTreeMap;

use super::{Engine, meters::MeterState};
use crate::rules::{GroupBy, Severity};

/// Shares of a limit, in percent, at which keys near it are counted. Keys below the first are not
/// near (W3), and nothing is known of them one by one.
pub const SHARES_PERCENT: [u64; 5] = [25, 50, 75, 90, 100];

impl Engine {
    /// Keys with counts; of several meters with this grouping the one that holds the most.
    #[must_use]
    pub fn keys(&self, group_by: GroupBy) -> usize {
        self.most(group_by, MeterState::keys)
    }

    /// Keys near a limit; of several meters with this grouping the one that holds the most.
    #[must_use]
    pub fn promoted(&self, group_by: GroupBy) -> usize {
        self.most(group_by, MeterState::promoted)
    }

    fn most(&self, group_by: GroupBy, count: impl Fn(&MeterState) -> usize) -> usize {
        let meters = self.rules.meters.iter().zip(&self.meters);
        let grouped = meters.filter(|(meter, _)| meter.group_by == group_by);
        grouped.map(|(_, state)| count(state)).max().unwrap_or(0)
    }

    /// Open episodes.
    #[must_use]
    pub fn episodes(&self) -> usize {
        self.episodes.len()
    }

    /// Open episodes by the index of their rule and by severity.
    #[must_use]
    pub fn episodes_by_rule(&self) -> BTreeMap<(usize, Severity), u64> {
        let mut found = BTreeMap::new();
        for ((rule, _), episode) in self.episodes.iter() {
            *found.entry((*rule, episode.severity)).or_default() += 1;
        }
        found
    }

    /// Per rule, keys that have used at least each of [`SHARES_PERCENT`] of one of its limits at
    /// the partition's time. A key counts once a rule, by the limit it is closest to. 100 means
    /// that the limit is crossed.
    ///
    /// Looks at every key of which there is evidence (at most 8,192): about a microsecond each.
    #[must_use]
    pub fn keys_near_limits(&self) -> Vec<[u64; SHARES_PERCENT.len()]> {
        let mut found = vec![[0; SHARES_PERCENT.len()]; self.rules.rules.len()];
        let Some(now) = self.time.now() else { return found };
        let mut of_key: BTreeMap<usize, u64> = BTreeMap::new();
        for (meter, key) in self.near.keys() {
            let counts = self.meters[meter].read_at(key, now.tick());
            of_key.clear();
            for limit in &self.rules.meters[meter].limits {
                // Crossed is above the limit, and a limit may be 0.
                let used = percent(counts.hi[limit.window], limit.above.saturating_add(1));
                let most = of_key.entry(limit.rule).or_default();
                *most = used.max(*most);
            }
            for (rule, used) in &of_key {
                for (count, share) in found[*rule].iter_mut().zip(SHARES_PERCENT) {
                    *count += u64::from(*used >= share);
                }
            }
        }
        found
    }
}

fn percent(count: u64, of: u64) -> u64 {
    let share = u128::from(count) * 100 / u128::from(of);
    u64::try_from(share).unwrap_or(u64::MAX)
}
