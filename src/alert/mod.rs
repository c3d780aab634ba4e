//! What is published about an episode: the alert, its ids, its OCSF and CloudEvents form.
//!
//! Never here: deciding whether to alert (that is `engine`), sending it (that is the shell).

pub mod ids;
pub mod ocsf;
mod sentence;
pub mod system;
pub mod text;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    rules::{GroupBy, Measure, Severity},
    units::{EventTime, WindowSpan},
};

pub use ids::{EpisodeId, MessageId};

/// One message about one episode, complete in itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Constant through the episode's life.
    pub episode: EpisodeId,
    /// Of this message; a repeat has the same.
    pub message: MessageId,
    /// OCSF activity.
    pub activity: Activity,
    /// Why this message is sent.
    pub reason: Reason,
    /// What found it.
    pub subject: Subject,
    /// Highest severity the episode has reached.
    pub severity: Severity,
    /// Broker time of the row that caused this message.
    pub time: EventTime,
    /// Event time of the first event counted in this episode's evidence.
    pub first_seen: EventTime,
    /// Event time of the last.
    pub last_seen: EventTime,
}

impl Alert {
    /// About how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.subject {
                Subject::Rule(finding) => finding.bytes(),
                Subject::System(finding) => finding.bytes(),
            }
    }
}

impl RuleFinding {
    fn bytes(&self) -> usize {
        let Evidence { objects, client_addresses, query_ids, .. } = &self.evidence;
        let texts = [&self.rule, &self.title, &self.revision, &self.key];
        let ids = [&self.actor, &self.evidence.first_event_id, &self.evidence.last_event_id];
        let text = |text: &String| size_of::<String>() + text.len();
        size_of::<Self>()
            + texts.into_iter().map(String::len).sum::<usize>()
            + ids.into_iter().flatten().map(String::len).sum::<usize>()
            + self.windows.len() * size_of::<WindowReading>()
            + objects.iter().map(|(name, _)| 8 + text(name)).sum::<usize>()
            + client_addresses.iter().chain(query_ids).map(text).sum::<usize>()
    }
}

impl SystemFinding {
    fn bytes(&self) -> usize {
        let details = self.details.iter();
        let details = details.map(|(_, text)| size_of::<(Cow<'_, str>, String)>() + text.len());
        self.scope.len() + self.message.len() + details.sum::<usize>()
    }
}

/// A rule's finding or a word about exfilwatch itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Subject {
    /// A key passed a limit of a rule.
    Rule(Box<RuleFinding>),
    /// `data-gap`, `degraded`, `reload`, `account`, `silent`, ...
    System(SystemFinding),
}

/// What a rule's alert says besides the ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleFinding {
    /// Rule id.
    pub rule: String,
    /// Rule title.
    pub title: String,
    /// Revision of the rule set.
    pub revision: String,
    /// Canonical group key; the Kafka key of the message.
    pub key: String,
    /// What the key is.
    pub group_by: GroupBy,
    /// What is counted.
    pub measure: Measure,
    /// The principal as the opening row wrote it, for rules grouped by principal.
    pub actor: Option<String>,
    /// Every limit of the rule with the counts beside it, by window and level.
    pub windows: Vec<WindowReading>,
    /// Event time of the row that crossed the first limit.
    pub crossed_at: EventTime,
    /// What was counted for the key since `evidence.since`, plus what its longest window held then.
    pub records_so_far: u64,
    /// Since when this meter counts at all.
    pub counting_since: EventTime,
    /// Bounded evidence.
    pub evidence: Evidence,
}

/// One limit and the counts of its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowReading {
    /// Length.
    pub window: WindowSpan,
    /// No more than this is certain: `lo <= exact`.
    pub lo: u64,
    /// No less than this is possible: `exact <= hi`.
    pub hi: u64,
    /// The limit.
    pub limit: u64,
    /// Severity of the limit.
    pub severity: Severity,
    /// Whether the episode has crossed it.
    pub crossed: bool,
}

/// What was seen of a key since it came near a limit; every list is bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Event time from which it was kept.
    pub since: EventTime,
    /// Most-read objects with what was counted on each (space-saving: counts may be too high).
    pub objects: Vec<(String, u64)>,
    /// Client addresses, most recent last.
    pub client_addresses: Vec<String>,
    /// Query ids, most recent last.
    pub query_ids: Vec<String>,
    /// Id of the first event.
    pub first_event_id: Option<String>,
    /// Id of the last event.
    pub last_event_id: Option<String>,
    /// Events counted since `since`.
    pub events: u64,
    /// Of these, events whose count was an upper bound.
    pub upper_bound_events: u64,
    /// Of these, events whose count was unknown.
    pub unknown_events: u64,
    /// True when counts passed through the sketch at the memory ceiling and may be too high.
    pub estimated: bool,
}

/// A word about exfilwatch itself, with the same life cycle as a finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SystemFinding {
    /// Analytic uid is `exfilwatch.<kind>`.
    pub kind: SystemKind,
    /// Source or partition; the Kafka key is `exfilwatch/<scope>`.
    pub scope: String,
    /// One sentence for people.
    pub message: String,
    /// Closed set of names, bounded values.
    pub details: Vec<(Cow<'static, str>, String)>,
}

/// Kinds of system alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemKind {
    /// Input that can no longer be read.
    DataGap,
    /// The memory ceiling bites; small keys are estimated.
    Degraded,
    /// Rules were changed, or a change was refused.
    Reload,
    /// An account of rows does not add up.
    Account,
    /// A source or rule has been silent.
    Silent,
    /// Dead letters come faster than their limit.
    DeadLetterFlood,
    /// A key of a keyed input was seen on two partitions.
    MiskeyedInput,
}

impl SystemKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::DataGap,
        Self::Degraded,
        Self::Reload,
        Self::Account,
        Self::Silent,
        Self::DeadLetterFlood,
        Self::MiskeyedInput,
    ];

    /// As analytic uids and metrics write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DataGap => "data-gap",
            Self::Degraded => "degraded",
            Self::Reload => "reload",
            Self::Account => "account",
            Self::Silent => "silent",
            Self::DeadLetterFlood => "dead-letter-flood",
            Self::MiskeyedInput => "miskeyed-input",
        }
    }

    /// For people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::DataGap => "Input records are missing",
            Self::Degraded => "Small keys are estimated: memory is at its ceiling",
            Self::Reload => "Rules were changed, or a change was refused",
            Self::Account => "The account of rows does not add up",
            Self::Silent => "A source or rule is silent",
            Self::DeadLetterFlood => "Dead letters come faster than their limit",
            Self::MiskeyedInput => "A key of a keyed input is on two partitions",
        }
    }
}

/// OCSF activity of a Detection Finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// The episode opens: 1.
    Create,
    /// It escalates or goes on: 2.
    Update,
    /// It ends: 3.
    Close,
}

impl Activity {
    /// As metrics and `CloudEvents` types write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "opened",
            Self::Update => "updated",
            Self::Close => "closed",
        }
    }

    /// OCSF `activity_id`.
    #[must_use]
    pub const fn ocsf_id(self) -> u8 {
        self as u8 + 1
    }
}

/// Why a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The first limit was crossed.
    Crossed,
    /// A further limit was crossed.
    Escalated,
    /// A crossed window has doubled since the last message.
    Doubled,
    /// 24 h of event time have passed since the last message.
    Ongoing,
    /// Every crossed window has been at or below its limit for a full window.
    FellBack,
    /// The rule was removed.
    RuleRemoved,
}

impl Reason {
    /// As alerts write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crossed => "crossed",
            Self::Escalated => "escalated",
            Self::Doubled => "doubled",
            Self::Ongoing => "ongoing",
            Self::FellBack => "fell_back",
            Self::RuleRemoved => "rule_removed",
        }
    }
}

#[cfg(test)]
#[cfg(feature = "service")]
mod ocsf_check;
#[cfg(test)]
#[cfg(feature = "service")]
mod tests;
