//! The one sentence a person reads first: who, how much, of what, against which limit.

use super::{
    Alert, Reason, RuleFinding, Subject, WindowReading,
    text::{self, NAME_MAX, SENTENCE_MAX},
};
use crate::rules::{GroupBy, Measure};

/// Names of objects a sentence mentions at most.
const OBJECTS_MAX: usize = 2;
/// Longest name in a sentence, so that key and objects together leave room for the rest.
const SHORT_MAX: usize = NAME_MAX / 2;

/// `message` of the alert; bounded and safe to show.
#[must_use]
pub(super) fn message(alert: &Alert) -> String {
    match &alert.subject {
        Subject::System(finding) => text::shown(&finding.message, SENTENCE_MAX),
        Subject::Rule(finding) => of_rule(alert, finding),
    }
}

/// `finding_info.desc`: what the rule counts, the same in every alert of a revision.
#[must_use]
pub(super) fn description(finding: &RuleFinding) -> String {
    let limits: Vec<String> = finding
        .windows
        .iter()
        .map(|reading| format!("{} in {}", text::grouped(reading.limit), reading.window))
        .collect();
    let (counted, by) = (noun(finding.measure), finding.group_by.as_str());
    let whole = format!("Counts {counted} by {by}; limits: {}.", limits.join(", "));
    text::shown(&whole, SENTENCE_MAX)
}

fn of_rule(alert: &Alert, finding: &RuleFinding) -> String {
    let (done, by) = (done(finding.measure), by(finding));
    let so_far = text::grouped(finding.records_so_far);
    let counted = noun(finding.measure);
    match alert.reason {
        Reason::FellBack => format!(
            "Closed: {counted} {done} {by} have stayed within every limit for a full window; \
             {so_far} in all."
        ),
        Reason::RuleRemoved => {
            format!("Closed: the rule was removed; {so_far} {counted} were {done} {by}.")
        }
        Reason::Crossed => format!("{}.", excess(finding, done, &by)),
        Reason::Escalated => {
            format!("Escalated to {}: {}.", alert.severity.as_str(), excess(finding, done, &by))
        }
        Reason::Doubled => format!("Doubled: {}.", excess(finding, done, &by)),
        Reason::Ongoing => format!("Still going on: {}.", excess(finding, done, &by)),
    }
}

/// `512 records were read by jdoe in 1h, above the limit of 500; most from crm.public.customers`.
fn excess(finding: &RuleFinding, done: &str, by: &str) -> String {
    let counted = noun(finding.measure);
    let Some(reading) = worst(&finding.windows) else {
        return format!("{} {counted} were {done} {by}", text::grouped(finding.records_so_far));
    };
    let (lo, hi) = (text::grouped(reading.lo), text::grouped(reading.hi));
    let count = if lo == hi { hi } else { format!("{lo} to {hi}") };
    let (window, limit) = (reading.window, text::grouped(reading.limit));
    format!(
        "{count} {counted} were {done} {by} in {window}, above the limit of {limit}{}",
        most_from(finding)
    )
}

/// The limit to speak of: of those crossed and passed still, the most severe, then the one passed
/// by most. An update may come while one crossed window is back below its limit.
fn worst(windows: &[WindowReading]) -> Option<&WindowReading> {
    let times = |reading: &WindowReading| reading.hi / reading.limit.max(1);
    let crossed = windows.iter().filter(|reading| reading.crossed && reading.hi > reading.limit);
    crossed.max_by_key(|reading| (reading.severity, times(reading), reading.window))
}

fn most_from(finding: &RuleFinding) -> String {
    if finding.group_by == GroupBy::Object || finding.evidence.objects.is_empty() {
        return String::new();
    }
    let mut objects: Vec<&(String, u64)> = finding.evidence.objects.iter().collect();
    objects.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let objects = objects.into_iter().take(OBJECTS_MAX);
    let names: Vec<String> = objects.map(|(name, _)| text::shown(name, SHORT_MAX)).collect();
    format!("; most from {}", names.join(" and "))
}

fn by(finding: &RuleFinding) -> String {
    let key = text::shown(&finding.key, SHORT_MAX);
    match finding.group_by {
        GroupBy::PrincipalId => format!("by {key}"),
        GroupBy::PrincipalTenant => format!("by tenant {key}"),
        GroupBy::ClientAddress => format!("from address {key}"),
        GroupBy::Object => format!("from {key}"),
        GroupBy::SourceInstance => format!("from source {key}"),
    }
}

const fn noun(measure: Measure) -> &'static str {
    match measure {
        Measure::Rows => "records",
        Measure::Bytes => "bytes",
        Measure::Queries => "queries",
    }
}

const fn done(measure: Measure) -> &'static str {
    match measure {
        Measure::Rows | Measure::Bytes => "read",
        Measure::Queries => "made",
    }
}
