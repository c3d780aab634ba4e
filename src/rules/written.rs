//! Rules as files say them, checked for shape but not yet compiled.
//!
//! Never here: positions in files and YAML; the shell's `config` has those.

use serde::{Deserialize, Serialize};

use super::{GroupBy, Measure, Severity, field::Field};
use crate::{event::canary::ROWS_MAX, units::WindowSpan};

/// One rule of a rule file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenRule {
    /// Unique among all rules.
    pub id: String,
    /// For people; defaults to the id.
    pub title: String,
    /// Of limits that name none.
    pub severity: Severity,
    /// `where`: field and the globs of which one must match, every field; sorted by field.
    pub wanted: Vec<(Field, Vec<String>)>,
    /// The same for `unless`.
    pub unless: Vec<(Field, Vec<String>)>,
    /// Counted by.
    pub group_by: GroupBy,
    /// What is counted.
    pub measure: Measure,
    /// At least one.
    pub limits: Vec<WrittenLimit>,
}

/// One of a rule's `limits:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenLimit {
    /// Length of the window.
    pub window: WindowSpan,
    /// Crossed above this count.
    pub above: u64,
    /// Defaults to the rule's.
    pub severity: Option<Severity>,
}

/// Id of the built-in rule that counts canaries and nothing else. No file can name a rule so:
/// `exfilwatch.` is kept.
pub const CANARY: &str = "exfilwatch.canary";

/// The built-in rule that a configuration with a key for canaries has: each canary is a finding,
/// and one that is sent again and again, by whoever has seen its signature, is a grave one.
#[must_use]
pub fn canary_rule() -> WrittenRule {
    WrittenRule {
        id: CANARY.to_owned(),
        title: "A canary has come through: a test event, not a read".to_owned(),
        severity: Severity::Informational,
        wanted: Vec::new(),
        unless: Vec::new(),
        group_by: GroupBy::PrincipalId,
        measure: Measure::Rows,
        limits: vec![
            WrittenLimit { window: WindowSpan::MIN, above: 0, severity: None },
            WrittenLimit {
                // Longer than a signature is good for.
                window: WindowSpan::from_secs(24 * 3600).unwrap_or(WindowSpan::MAX),
                above: ROWS_MAX,
                severity: Some(Severity::High),
            },
        ],
    }
}

impl WrittenRule {
    /// Whether it is [`canary_rule`].
    #[must_use]
    pub fn is_canary(&self) -> bool {
        self.id == CANARY
    }
}

/// Id of the rule in [`default_rules`]; a rule of that id in the configuration replaces it.
pub const UNKNOWN_COUNTS: &str = "exfilwatch-unknown-counts";

/// The rules that are in force unless the configuration says `default_rules: false`.
///
/// One so far: a read whose row count is lost (COPY, UNLOAD, an export, a cancelled cursor) adds
/// nothing to any count of rows, so such reads are themselves counted, per principal. The limits
/// are a starting point, not a measurement: a person runs a few exports an hour, a script runs
/// many. A source that never knows its counts needs limits of its own.
#[must_use]
pub fn default_rules() -> Vec<WrittenRule> {
    const HOUR_S: u64 = 3600;
    let limit = |span_s, above| WrittenLimit {
        window: WindowSpan::from_secs(span_s).unwrap_or(WindowSpan::MAX),
        above,
        severity: None,
    };
    vec![WrittenRule {
        id: UNKNOWN_COUNTS.to_owned(),
        title: "Many reads whose row count is unknown".to_owned(),
        severity: Severity::Medium,
        wanted: vec![(Field::RowsQuality, vec!["unknown".to_owned()])],
        unless: Vec::new(),
        group_by: GroupBy::PrincipalId,
        measure: Measure::Queries,
        limits: vec![limit(HOUR_S, 20), limit(24 * HOUR_S, 60), limit(720 * HOUR_S, 400)],
    }]
}
