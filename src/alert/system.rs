//! Alerts about exfilwatch itself: a gap in an input, a memory ceiling, a refused reload.
//!
//! Each condition is an episode of its kind and scope: opened once, repeated at most once a day,
//! closed when it is over. Pure: the time is an argument.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::{Activity, Alert, EpisodeId, MessageId, Reason, Subject, SystemFinding, SystemKind};
use crate::{rules::Severity, units::EventTime};

/// Conditions open at the same time; a further one still alerts, but is not remembered.
pub const OPEN_MAX: usize = 10_000;
/// A condition that goes on is repeated after this long.
const REPEAT_MS: i64 = 24 * 3600 * 1000;

/// A condition to report.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What kind.
    pub kind: SystemKind,
    /// Of which source, partition or file.
    pub scope: String,
    /// How bad.
    pub severity: Severity,
    /// One sentence for people.
    pub message: String,
    /// Closed set of names, bounded values.
    pub details: Vec<(&'static str, String)>,
}

/// Conditions that are open.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Open>", into = "Vec<Open>")]
pub struct SystemEpisodes {
    open: BTreeMap<(SystemKind, String), Episode>,
}

/// One of them where they are saved.
type Open = ((SystemKind, String), Episode);

impl From<Vec<Open>> for SystemEpisodes {
    fn from(open: Vec<Open>) -> Self {
        Self { open: open.into_iter().collect() }
    }
}

impl From<SystemEpisodes> for Vec<Open> {
    fn from(episodes: SystemEpisodes) -> Self {
        episodes.open.into_iter().collect()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Episode {
    id: EpisodeId,
    severity: Severity,
    opened: EventTime,
    sent: EventTime,
    ordinal: u32,
}

impl SystemEpisodes {
    /// The condition holds at `now`: the alert to publish, none when it was published lately.
    pub fn raise(&mut self, condition: Condition, now: EventTime) -> Option<Alert> {
        let at = (condition.kind, condition.scope.clone());
        let full = self.open.len() >= OPEN_MAX;
        match self.open.get_mut(&at) {
            Some(episode) if now.millis() - episode.sent.millis() < REPEAT_MS => None,
            Some(episode) => {
                episode.sent = now;
                episode.ordinal += 1;
                Some(alert(condition, episode, Activity::Update, Reason::Ongoing, now))
            }
            None => {
                let analytic = format!("exfilwatch.{}", condition.kind.as_str());
                let id = EpisodeId::of(&analytic, &condition.scope, now);
                let severity = condition.severity;
                let episode = Episode { id, severity, opened: now, sent: now, ordinal: 0 };
                let alert = alert(condition, &episode, Activity::Create, Reason::Crossed, now);
                if !full {
                    self.open.insert(at, episode);
                }
                Some(alert)
            }
        }
    }

    /// Whether the condition is open.
    #[must_use]
    pub fn is_open(&self, kind: SystemKind, scope: &str) -> bool {
        self.open.contains_key(&(kind, scope.to_owned()))
    }

    /// The condition is over: the closing to publish, if it was open.
    pub fn clear(
        &mut self,
        kind: SystemKind,
        scope: &str,
        message: &str,
        now: EventTime,
    ) -> Option<Alert> {
        let mut episode = self.open.remove(&(kind, scope.to_owned()))?;
        episode.ordinal += 1;
        let condition = Condition {
            kind,
            scope: scope.to_owned(),
            severity: episode.severity,
            message: message.to_owned(),
            details: Vec::new(),
        };
        Some(alert(condition, &episode, Activity::Close, Reason::FellBack, now))
    }
}

fn alert(
    condition: Condition,
    episode: &Episode,
    activity: Activity,
    reason: Reason,
    now: EventTime,
) -> Alert {
    let Condition { kind, scope, severity, message, details } = condition;
    let details = details.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect();
    Alert {
        episode: episode.id,
        message: MessageId::of(episode.id, activity, episode.ordinal),
        activity,
        reason,
        subject: Subject::System(SystemFinding { kind, scope, message, details }),
        severity,
        time: now,
        first_seen: episode.opened,
        last_seen: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(scope: &str) -> Condition {
        Condition {
            kind: SystemKind::DataGap,
            scope: scope.to_owned(),
            severity: Severity::High,
            message: "records were deleted before they were read".to_owned(),
            details: vec![("from", "5".to_owned())],
        }
    }

    fn at(hours: i64) -> EventTime {
        EventTime::from_millis(hours * 3600 * 1000)
    }

    #[test]
    fn a_condition_opens_once_repeats_daily_and_closes() {
        let mut episodes = SystemEpisodes::default();
        let opened = episodes.raise(condition("a/0"), at(0)).expect("first time");
        assert_eq!(opened.activity, Activity::Create);
        assert_eq!(episodes.raise(condition("a/0"), at(23)), None);
        let again = episodes.raise(condition("a/0"), at(24)).expect("a day later");
        assert_eq!((again.activity, again.episode), (Activity::Update, opened.episode));
        assert_ne!(again.message, opened.message);
        let closed = episodes.clear(SystemKind::DataGap, "a/0", "over", at(25)).expect("was open");
        assert_eq!((closed.activity, closed.episode), (Activity::Close, opened.episode));
        assert_eq!(episodes.clear(SystemKind::DataGap, "a/0", "over", at(26)), None);
    }

    #[test]
    fn conditions_of_different_scopes_are_different_episodes() {
        let mut episodes = SystemEpisodes::default();
        let one = episodes.raise(condition("a/0"), at(0)).expect("opens");
        let two = episodes.raise(condition("a/1"), at(0)).expect("opens");
        assert_ne!(one.episode, two.episode);
    }

    #[test]
    fn a_condition_past_the_bound_still_alerts() {
        let mut episodes = SystemEpisodes::default();
        for scope in 0..OPEN_MAX {
            assert!(episodes.raise(condition(&scope.to_string()), at(0)).is_some());
        }
        assert!(episodes.raise(condition("more"), at(0)).is_some());
        assert_eq!(episodes.open.len(), OPEN_MAX);
    }
}
