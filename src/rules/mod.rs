//! Rules as the engine runs them: meters shared by rules, filters, limits.
//!
//! `written` holds a rule as the file says it; `compile` turns many of them into one [`RuleSet`].
//! Never here: files, YAML positions (the shell's `config` has those), counts.

pub mod compile;
pub mod field;
pub mod filter;
pub mod written;

use icu_casemap::CaseMapper;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use self::written::WrittenRule;
use crate::units::WindowSpan;

pub use compile::compile;
pub use field::Field;
pub use filter::{Filter, RowFields, Verdict};

pub use crate::event::GroupBy;

/// NFKC and case folding, so that patterns and values compare without regard to case or form.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let composed: String = text.nfkc().collect();
    // Folding can undo the composition (ΐ), hence the second pass.
    CaseMapper::new().fold_string(&composed).nfkc().collect()
}

/// What is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Records delivered; an unknown count adds nothing here.
    Rows,
    /// Bytes delivered; an unknown size adds nothing here.
    Bytes,
    /// One an event.
    Queries,
}

impl Measure {
    /// Every measure.
    pub const ALL: [Self; 3] = [Self::Rows, Self::Bytes, Self::Queries];

    /// As rules and alerts write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Bytes => "bytes",
            Self::Queries => "queries",
        }
    }

    /// The measure rules write so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.as_str() == text)
    }
}

/// OCSF severities a rule may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// OCSF 1.
    Informational,
    /// OCSF 2.
    Low,
    /// OCSF 3.
    Medium,
    /// OCSF 4.
    High,
    /// OCSF 5.
    Critical,
}

impl Severity {
    /// From the lowest to the highest.
    pub const ALL: [Self; 5] =
        [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// As rules and metrics write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The severity rules write so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == text)
    }

    /// OCSF `severity_id`.
    #[must_use]
    pub const fn ocsf_id(self) -> u8 {
        self as u8 + 1
    }
}

/// Everything the engine needs of the rules in force. Immutable; shared by reference count.
#[derive(Clone, Debug)]
pub struct RuleSet {
    /// Stable hash of all rules as written, 16 hex digits; the same text gives the same revision.
    pub revision: String,
    /// In the order of their files.
    pub rules: Vec<Rule>,
    /// Distinct (filter, group-by, measure), in the order of their first rule.
    pub meters: Vec<Meter>,
    /// What all this was compiled from: a checkpoint holds it (D7).
    pub written: Vec<WrittenRule>,
}

impl RuleSet {
    /// The groupings in use, each once, ascending: one route each.
    #[must_use]
    pub fn routes(&self) -> Vec<GroupBy> {
        let mut routes: Vec<GroupBy> = self.meters.iter().map(|meter| meter.group_by).collect();
        routes.sort_unstable();
        routes.dedup();
        routes
    }
}

/// A rule as alerts name it. Its limits are in its meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Unique among the rules in force.
    pub id: String,
    /// For people.
    pub title: String,
    /// Of a limit that names none.
    pub severity: Severity,
    /// Index into [`RuleSet::meters`].
    pub meter: usize,
}

/// One keyed count, shared by every rule with the same filter, grouping and measure.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Stable identity over reloads: text of (filter, group-by, measure) in canonical order.
    pub identity: String,
    /// Which events are counted.
    pub filter: Filter,
    /// By what.
    pub group_by: GroupBy,
    /// And what of them.
    pub measure: Measure,
    /// Distinct windows, ascending. More than four take more than one slot a key.
    pub windows: Vec<WindowSpan>,
    /// Sorted by (rule, window, above).
    pub limits: Vec<Limit>,
}

/// A level a window may not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Index into [`RuleSet::rules`].
    pub rule: usize,
    /// Index into [`Meter::windows`].
    pub window: usize,
    /// Crossed at the first event for which `hi(window) > above`.
    pub above: u64,
    /// Of an alert at this limit.
    pub severity: Severity,
}
