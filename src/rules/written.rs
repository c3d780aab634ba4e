//! Rules as files say them, checked for shape but not yet compiled.

use super::{GroupBy, Measure, Severity};
use crate::units::WindowSpan;

/// One rule of a rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenRule {
    /// Unique among all rules.
    pub id: String,
    /// For people; defaults to the id.
    pub title: String,
    /// Of limits that name none.
    pub severity: Severity,
    /// Field and the globs of which one must match, every field; sorted by field.
    pub wanted: Vec<(String, Vec<String>)>,
    /// The same for `unless`.
    pub unless: Vec<(String, Vec<String>)>,
    /// Counted by.
    pub group_by: GroupBy,
    /// What is counted.
    pub measure: Measure,
    /// At least one.
    pub limits: Vec<WrittenLimit>,
}

/// One of a rule's `limits:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenLimit {
    /// Length of the window.
    pub window: WindowSpan,
    /// Crossed above this count.
    pub above: u64,
    /// Defaults to the rule's.
    pub severity: Option<Severity>,
}
