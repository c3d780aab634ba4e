//! From counts to findings: which limits a row crosses, what an episode publishes, when it closes.

use crate::{
    alert::{Activity, Alert, EpisodeId, Evidence, Reason, RuleFinding, Subject, WindowReading},
    event::{GroupBy, RowsQuality},
    rules::{Limit, Measure, Meter, RowFields, Severity},
    units::{EventTime, Tick},
};

use super::{
    Engine, Message,
    episodes::{Crossed, Episode, EpisodeKey},
    evidence::{Seen, Sight},
    meters::Counts,
};

/// Event time after which an episode that goes on says so again (D3).
const ONGOING_MS: i64 = 24 * 3_600_000;

/// A row that was counted on a key near a limit.
#[derive(Clone, Copy)]
struct Cause<'a> {
    message: Message<'a>,
    row: usize,
    at: EventTime,
}

impl Engine {
    /// Counts a row on every meter that matches it. False when it was too late for all of them.
    pub(super) fn count(&mut self, message: &Message<'_>, row: usize, at: EventTime) -> bool {
        let batch = message.batch;
        let (mut matched, mut counted) = (false, false);
        let charges = self.charges(batch, row).len();
        for index in 0..charges {
            let charge = self.charges(batch, row)[index];
            if charge.per_row && !self.matches_row(message, row, charge.meter) {
                continue;
            }
            let amount = match self.rules.meters[charge.meter].measure {
                Measure::Rows => batch.rows(row),
                Measure::Bytes => batch.bytes(row),
                Measure::Queries => Some(1),
            };
            // Unknown is not 0: rules on queries meet it, and it is counted below.
            let Some(amount) = amount else { continue };
            // A rule that can't count what it matches is as blind as one that matches nothing.
            self.stats.matched[charge.meter] += u64::from(charge.first);
            matched = true;
            counted |= self.charge(&Cause { message: *message, row, at }, charge.meter, amount);
        }
        match self.contexts.context(self.context_id(batch, row)).rows_quality {
            RowsQuality::Exact => {}
            RowsQuality::UpperBound => self.stats.upper_bounds += 1,
            RowsQuality::Unknown => self.stats.unknown_counts += 1,
        }
        counted || !matched
    }

    fn matches_row(&self, message: &Message<'_>, row: usize, meter: usize) -> bool {
        let batch = message.batch;
        let context = self.context_id(batch, row);
        let object = usize::from(batch.position(row).object);
        let object = (batch.route() == GroupBy::Object).then_some(object);
        let fields = RowFields {
            principal: batch.principal(row),
            client_address: batch.client_address(row),
            query_fingerprint: batch.query_fingerprint(row),
        };
        let filter = &self.rules.meters[meter].filter;
        filter.matches_row(self.contexts.context(context), object, fields)
    }

    /// Adds to one meter. False when it was too late there.
    fn charge(&mut self, cause: &Cause<'_>, meter: usize, amount: u64) -> bool {
        let key = cause.message.batch.key_hash(cause.row);
        let times = (cause.at, cause.message.broker_time);
        let charged = self.meters[meter].add(key, times, amount, &mut self.budget);
        self.stats.late_for_window += u64::from(charged.late_windows);
        if !charged.counted {
            return false;
        }
        self.stats.promotions += u64::from(charged.promoted_now);
        if charged.near {
            let counts = self.meters[meter].read(key);
            self.see(cause, meter, amount, &counts, charged.estimated);
            self.check_limits(cause, meter, &counts);
        }
        true
    }

    fn see(
        &mut self,
        cause: &Cause<'_>,
        meter: usize,
        amount: u64,
        counts: &Counts,
        estimated: bool,
    ) {
        let Cause { message: Message { batch, .. }, row, at } = *cause;
        let context = self.contexts.context(self.context_id(batch, row));
        let sight = Sight { batch, row, at, amount, context, estimated };
        let before = counts.hi.iter().copied().max().unwrap_or(0).saturating_sub(amount);
        if !self.near.see(meter, batch.key_hash(row), &sight, before) {
            self.stats.evidence_refused += 1;
        }
    }

    /// Compares a key's windows with the limits of every rule on its meter.
    fn check_limits(&mut self, cause: &Cause<'_>, meter: usize, counts: &Counts) {
        let rules = self.rules.clone();
        let meter_rules = &rules.meters[meter];
        // Limits are sorted by rule, so that each rule's are together.
        let mut start = 0;
        while let Some(first) = meter_rules.limits.get(start) {
            let of_rule = meter_rules.limits[start..].iter().take_while(|l| l.rule == first.rule);
            let end = start + of_rule.count();
            self.check_rule(cause, meter, meter_rules, start..end, counts);
            start = end;
        }
    }

    fn check_rule(
        &mut self,
        cause: &Cause<'_>,
        meter: usize,
        rules: &Meter,
        limits: std::ops::Range<usize>,
        counts: &Counts,
    ) {
        let key = cause.message.batch.key_hash(cause.row);
        let episode_key = (rules.limits[limits.start].rule, key);
        let above = |limit: &Limit| counts.hi[limit.window] > limit.above;
        let crosses = rules.limits[limits.clone()].iter().any(above);
        let open = self.episodes.take(episode_key);
        if open.is_none() && !crosses {
            return;
        }
        let opened = open.is_none();
        let is_certain = |limit: &Limit| counts.lo[limit.window] > limit.above;
        let certain = !counts.estimated || rules.limits[limits.clone()].iter().any(is_certain);
        if opened && !self.episodes.have_room(certain) {
            self.refuse_crossing(cause.at, cause.message.broker_time);
            return;
        }
        let mut episode = open.unwrap_or_else(|| self.open(cause, episode_key));
        episode.estimated &= !certain;
        let mut escalated = false;
        for (index, limit) in limits.clone().zip(&rules.limits[limits]) {
            if !above(limit) {
                continue;
            }
            let until = self.meters[meter].above_until(key, limit.window, limit.above);
            let until = until.unwrap_or(counts.newest);
            if let Some(crossed) = episode.crossed.iter_mut().find(|c| c.limit == index) {
                crossed.until = crossed.until.max(until);
            } else {
                let published_hi = counts.hi[limit.window];
                episode.crossed.push(Crossed { limit: index, until, published_hi });
                episode.severity = episode.severity.max(limit.severity);
                escalated = true;
            }
        }
        episode.due = due(&episode, rules);
        let reason = if opened {
            Some(Reason::Crossed)
        } else if escalated {
            Some(Reason::Escalated)
        } else {
            update_reason(&episode, rules, counts, cause.at)
        };
        if let Some(reason) = reason {
            self.publish(episode_key, &mut episode, reason, counts, cause.message.broker_time);
            episode.published_at = episode.published_at.max(cause.at);
        }
        self.episodes.put(episode_key, episode);
        self.time.set_due(self.episodes.next_due());
        if opened {
            self.near.hold(meter, key);
            self.meters[meter].pin(key);
        }
    }

    fn open(&self, cause: &Cause<'_>, (rule, _): EpisodeKey) -> Episode {
        let Cause { message: Message { batch, .. }, row, at } = *cause;
        let key = batch.key(row);
        let by_principal = batch.route() == GroupBy::PrincipalId;
        Episode {
            id: EpisodeId::of(&self.rules.rules[rule].id, key, at),
            key: key.to_owned(),
            actor: by_principal.then(|| batch.written_principal(row).to_owned()),
            crossed_at: at,
            severity: Severity::Informational,
            crossed: smallvec::SmallVec::new(),
            published_at: at,
            ordinal: 0,
            due: at.tick(),
            estimated: true,
        }
    }

    /// Puts a message about an episode into the outbox.
    pub(super) fn publish(
        &mut self,
        (rule, key): EpisodeKey,
        episode: &mut Episode,
        reason: Reason,
        counts: &Counts,
        broker_time: EventTime,
    ) {
        let rules = self.rules.clone();
        let meter = &rules.meters[rules.rules[rule].meter];
        let activity = match reason {
            Reason::Crossed => Activity::Create,
            Reason::FellBack | Reason::RuleRemoved => Activity::Close,
            Reason::Escalated | Reason::Doubled | Reason::Ongoing => Activity::Update,
        };
        for crossed in &mut episode.crossed {
            // Never lowered: a window that fell back to 0 would double at every row.
            let hi = counts.hi[meter.limits[crossed.limit].window];
            crossed.published_hi = crossed.published_hi.max(hi);
        }
        let seen = self.near.get(rules.rules[rule].meter, key);
        self.outbox.push(Alert {
            episode: episode.id,
            message: episode.next_message(activity),
            activity,
            reason,
            subject: Subject::Rule(Box::new(self.finding(rule, episode, counts, seen))),
            severity: episode.severity,
            time: broker_time,
            first_seen: seen.map_or(episode.crossed_at, |seen| seen.first),
            last_seen: seen.map_or(episode.published_at, |seen| seen.last),
        });
    }

    fn finding(
        &self,
        rule: usize,
        episode: &Episode,
        counts: &Counts,
        seen: Option<&Seen>,
    ) -> RuleFinding {
        let named = &self.rules.rules[rule];
        let meter = &self.rules.meters[named.meter];
        let limits = meter.limits.iter().enumerate().filter(|(_, limit)| limit.rule == rule);
        let windows = limits.clone().map(|(_, limit)| limit.window);
        let highest = counts.hi.iter().copied().max().unwrap_or(0);
        RuleFinding {
            rule: named.id.clone(),
            title: named.title.clone(),
            revision: self.rules.revision.clone(),
            key: episode.key.clone(),
            group_by: meter.group_by,
            measure: meter.measure,
            actor: episode.actor.clone(),
            crossed_at: episode.crossed_at,
            records_so_far: seen.map_or(highest, |seen| seen.records),
            counting_since: self.meters[named.meter].counting_since(windows),
            evidence: seen.map_or_else(Evidence::default, |seen| seen.evidence.clone()),
            windows: limits
                .map(|(index, limit)| WindowReading {
                    window: meter.windows[limit.window],
                    lo: counts.lo[limit.window],
                    hi: counts.hi[limit.window],
                    limit: limit.above,
                    severity: limit.severity,
                    crossed: episode.has_crossed(index),
                })
                .collect(),
        }
    }

    /// Closes every episode whose crossed windows have been at or below their limits for a full
    /// window at the partition's time (W6).
    pub(super) fn close_due(&mut self, broker_time: EventTime) {
        let Some(now) = self.time.now() else { return };
        while let Some((key, mut episode)) = self.episodes.take_due(now.tick()) {
            self.close(key, &mut episode, Reason::FellBack, broker_time);
        }
        self.time.set_due(self.episodes.next_due());
    }

    pub(super) fn close(
        &mut self,
        (rule, key): EpisodeKey,
        episode: &mut Episode,
        reason: Reason,
        broker_time: EventTime,
    ) {
        let meter = self.rules.rules[rule].meter;
        let now = self.time.now().unwrap_or(episode.published_at);
        let counts = self.meters[meter].read_at(key, now.tick());
        self.publish((rule, key), episode, reason, &counts, broker_time);
        let rules = self.rules.meters[meter].limits.iter().map(|limit| limit.rule);
        if !self.episodes.any(rules, key) {
            self.meters[meter].unpin(key);
            // A later episode begins its own.
            self.near.forget(meter, key);
        }
    }

    /// Whether a rule has an episode open for a key.
    #[cfg(test)]
    pub(super) fn has_episode(&self, rule: usize, key: crate::units::KeyHash) -> bool {
        self.episodes.any(std::iter::once(rule), key)
    }
}

/// When an episode closes if nothing more comes: every crossed window back at or below its limit,
/// for a full window.
pub(super) fn due(episode: &Episode, meter: &Meter) -> Tick {
    let closes = episode.crossed.iter().map(|crossed| {
        let span = meter.windows[meter.limits[crossed.limit].window];
        Tick(crossed.until.0.saturating_add(span.secs()))
    });
    closes.max().unwrap_or(episode.due)
}

/// An update is due when `hi` of a crossed window has doubled, or after 24 h of event time (D3).
fn update_reason(
    episode: &Episode,
    meter: &Meter,
    counts: &Counts,
    at: EventTime,
) -> Option<Reason> {
    let doubled = episode.crossed.iter().any(|crossed| {
        let limit = &meter.limits[crossed.limit];
        let hi = counts.hi[limit.window];
        // Halved, not doubled: a count at its ceiling has not doubled again.
        hi > limit.above && hi / 2 >= crossed.published_hi
    });
    if doubled {
        Some(Reason::Doubled)
    } else if at >= episode.published_at.plus_millis(ONGOING_MS) {
        Some(Reason::Ongoing)
    } else {
        None
    }
}
