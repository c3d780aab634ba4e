//! A change of rules at a message boundary (D7): counts stay where the meter stays.

use std::{cmp::Reverse, sync::Arc};

use smallvec::SmallVec;

use crate::{
    alert::Reason,
    rules::{Limit, Rule, RuleSet},
    units::EventTime,
};

use super::{
    Engine,
    decide::due,
    episodes::{Crossed, Episode, EpisodeKey},
    meters::MeterState,
};

impl Engine {
    /// Puts other rules in force from the next message on.
    ///
    /// Counts belong to (filter, group-by, measure): changed limits keep them, an added window
    /// starts empty. An episode goes on while its rule keeps its meter and a limit on one of the
    /// windows that it has crossed, at whatever level; otherwise it is closed with the reason
    /// `rule_removed`. Under a higher level it closes when its count has fallen back to that.
    pub fn reload(&mut self, rules: Arc<RuleSet>, broker_time: EventTime) {
        if rules.revision == self.rules.revision {
            // The same text, compiled anew: after a restore, for one.
            self.rules = rules;
            return;
        }
        let old = self.rules.clone();
        let mut kept = Vec::new();
        for (key, mut episode) in self.episodes.take_all() {
            match moved(&old, &rules, key, &episode) {
                Some((rule, crossed)) => kept.push(((rule, key.1), episode, crossed)),
                None => self.close(key, &mut episode, Reason::RuleRemoved, broker_time),
            }
        }
        self.rules = rules;
        self.adopt_meters(&old);
        self.contexts.forget();
        for (key, mut episode, crossed) in kept {
            let number = self.rules.rules[key.0].meter;
            let (meter, state) = (&self.rules.meters[number], &mut self.meters[number]);
            // Where the level stays, so does the time at which its count falls back to it.
            let until = |crossed: Crossed, stays: bool| {
                let limit = meter.limits[crossed.limit];
                let until = state.above_until(key.1, limit.window, limit.above);
                until.filter(|_| !stays).unwrap_or(crossed.until)
            };
            let moved = crossed.into_iter();
            episode.crossed =
                moved.map(|(it, stays)| Crossed { until: until(it, stays), ..it }).collect();
            episode.due = due(&episode, meter);
            state.pin(key.1);
            self.episodes.put(key, episode);
        }
        self.time.set_due(self.episodes.next_due());
    }

    fn adopt_meters(&mut self, old: &RuleSet) {
        let mut states: Vec<_> = std::mem::take(&mut self.meters).into_iter().map(Some).collect();
        let matched = std::mem::take(&mut self.stats.matched);
        let rules = self.rules.clone();
        for meter in &rules.meters {
            let number = old.meters.iter().position(|known| known.identity == meter.identity);
            let state = number.and_then(|number| states[number].take());
            self.stats.matched.push(number.map_or(0, |number| matched[number]));
            self.meters.push(match state {
                Some(mut state) => {
                    state.adopt(meter, &mut self.budget);
                    state
                }
                None => MeterState::new(meter, &mut self.budget),
            });
        }
        for state in states.into_iter().flatten() {
            state.release(&mut self.budget);
        }
        self.near.renumber(|number| {
            let identity = &old.meters[number].identity;
            rules.meters.iter().position(|meter| meter.identity == *identity)
        });
    }
}

/// Crossed limits under their new numbers, each with whether its level stays.
type Moved = SmallVec<[(Crossed, bool); 4]>;

/// The new number of an episode's rule and its crossed limits; `None` if it must
/// close.
fn moved(
    old: &RuleSet,
    new: &RuleSet,
    (rule, _): EpisodeKey,
    episode: &Episode,
) -> Option<(usize, Moved)> {
    let was: &Rule = &old.rules[rule];
    let number = new.rules.iter().position(|now| now.id == was.id)?;
    let (before, after) = (&old.meters[was.meter], &new.meters[new.rules[number].meter]);
    if before.identity != after.identity {
        return None;
    }
    let mut crossed: Moved = episode
        .crossed
        .iter()
        .filter_map(|crossed| {
            let limit = before.limits[crossed.limit];
            let span = before.windows[limit.window];
            let of_window = |now: &&Limit| now.rule == number && after.windows[now.window] == span;
            let place = |wanted: &dyn Fn(&Limit) -> bool| {
                after.limits.iter().position(|now| of_window(&now) && wanted(now))
            };
            // A limit whose level was changed is still the limit of that window.
            let same = place(&|now| now.above == limit.above);
            let limit = same.or_else(|| place(&|_| true))?;
            Some((Crossed { limit, ..*crossed }, same.is_some()))
        })
        .collect();
    // Of several on one limit, the one that was there.
    crossed.sort_unstable_by_key(|(it, stays)| (it.limit, Reverse((*stays, it.until))));
    crossed.dedup_by_key(|(crossed, _)| crossed.limit);
    (!crossed.is_empty()).then_some((number, crossed))
}
