//! OCSF 1.8.0 Detection Finding (class 2004) as JSON, and its CloudEvents 1.0 binary headers.
//!
//! `schemas/alert.v1.schema.json` is the truth; tests hold this file to it. Never here: query text
//! and result data, which no event carries either. Every text that an event could choose passes
//! [`super::text::shown`]. All times are milliseconds since the epoch.

use serde_json::{Value, json};

use super::{
    Activity, Alert, Evidence, RuleFinding, Subject, SystemFinding, WindowReading, sentence,
    text::{ID_MAX, LIST_MAX, NAME_MAX, SENTENCE_MAX, TITLE_MAX, shown, shown_key},
};
use crate::{
    rules::{GroupBy, Severity},
    units::EventTime,
};

/// The version of OCSF that alerts follow.
pub const OCSF_VERSION: &str = "1.8.0";
/// `ce_dataschema`, and `$id` of the schema file.
pub const SCHEMA_ID: &str = "urn:exfilwatch:schema:alert:v1";
/// `ce_source`.
pub const SOURCE: &str = "urn:exfilwatch:detect";
/// What `ce_type` begins with; the activity follows.
pub const TYPE_PREFIX: &str = "io.exfilwatch.alert.v1.";

/// Detection Finding.
const CLASS_UID: u32 = 2004;
/// Findings.
const CATEGORY_UID: u32 = 2;

/// What is not in the alert itself.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// Of exfilwatch.
    pub version: &'a str,
}

/// One Kafka message of the alert topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Canonical group key, or `exfilwatch/<scope>`.
    pub key: String,
    /// One JSON object.
    pub payload: Vec<u8>,
    /// CloudEvents attributes.
    pub headers: Vec<(&'static str, String)>,
}

/// The message that publishes `alert`. The same alert gives the same bytes.
#[must_use]
pub fn encode(alert: &Alert, product: &Product<'_>) -> Encoded {
    let key = match &alert.subject {
        Subject::Rule(finding) => shown_key(&finding.key),
        Subject::System(finding) => shown_key(&format!("exfilwatch/{}", finding.scope)),
    };
    let payload = finding(alert, &key, product).to_string().into_bytes();
    let headers = headers(alert, &key);
    Encoded { key, payload, headers }
}

fn headers(alert: &Alert, key: &str) -> Vec<(&'static str, String)> {
    vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_type", format!("{TYPE_PREFIX}{}", alert.activity.as_str())),
        ("ce_source", SOURCE.to_owned()),
        ("ce_id", alert.message.to_string()),
        ("ce_time", rfc3339(alert.time)),
        ("ce_subject", key.to_owned()),
        ("ce_dataschema", SCHEMA_ID.to_owned()),
        ("content-type", "application/json".to_owned()),
    ]
}

/// `time` in UTC with milliseconds, clamped to the years a date can have.
fn rfc3339(time: EventTime) -> String {
    let (min, max) = (jiff::Timestamp::MIN, jiff::Timestamp::MAX);
    let millis = time.millis().clamp(min.as_millisecond(), max.as_millisecond());
    let timestamp =
        jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{timestamp:.3}")
}

fn finding(alert: &Alert, key: &str, product: &Product<'_>) -> Value {
    let activity = activity_name(alert.activity);
    let (status_id, status) = status(alert.activity);
    let mut body = json!({
        "class_uid": CLASS_UID,
        "class_name": "Detection Finding",
        "category_uid": CATEGORY_UID,
        "category_name": "Findings",
        "activity_id": alert.activity.ocsf_id(),
        "activity_name": activity,
        "type_uid": CLASS_UID * 100 + u32::from(alert.activity.ocsf_id()),
        "type_name": format!("Detection Finding: {activity}"),
        "time": alert.time.millis(),
        "severity_id": alert.severity.ocsf_id(),
        "severity": severity_name(alert.severity),
        "status_id": status_id,
        "status": status,
        "is_alert": alert.activity != Activity::Close,
        "message": sentence::message(alert),
        "metadata": {
            "version": OCSF_VERSION,
            "uid": alert.message.to_string(),
            "product": {
                "name": "exfilwatch",
                "vendor_name": "exfilwatch",
                "version": shown(product.version, ID_MAX),
            },
        },
        "finding_info": {
            "uid": alert.episode.to_string(),
            "first_seen_time": alert.first_seen.millis(),
            "last_seen_time": alert.last_seen.millis(),
        },
    });
    match &alert.subject {
        Subject::Rule(finding) => add_rule(&mut body, alert, finding, key),
        Subject::System(finding) => add_system(&mut body, alert, finding, key),
    }
    body
}

fn add_rule(body: &mut Value, alert: &Alert, finding: &RuleFinding, key: &str) {
    let (confidence_id, confidence) = confidence(&finding.windows);
    body["confidence_id"] = json!(confidence_id);
    body["confidence"] = json!(confidence);
    let info = &mut body["finding_info"];
    info["created_time"] = json!(finding.crossed_at.millis());
    info["title"] = json!(shown(&finding.title, TITLE_MAX));
    info["desc"] = json!(sentence::description(finding));
    info["analytic"] = json!({
        "uid": shown(&finding.rule, NAME_MAX),
        "name": shown(&finding.title, TITLE_MAX),
        "type_id": 1,
        "type": "Rule",
        "version": shown(&finding.revision, ID_MAX),
    });
    if let (GroupBy::PrincipalId, Some(actor)) = (finding.group_by, &finding.actor) {
        // The attribute comes from the profile, so the profile is declared with it.
        body["metadata"]["profiles"] = json!(["host"]);
        body["actor"] = json!({"user": {"uid": shown(actor, NAME_MAX)}});
    }
    let objects = finding.evidence.objects.iter().take(LIST_MAX);
    let resources: Vec<Value> =
        objects.map(|(name, _)| json!({"name": shown(name, NAME_MAX)})).collect();
    if !resources.is_empty() {
        body["resources"] = json!(resources);
    }
    // None was kept when too many keys were near a limit; an empty one would claim to know.
    if finding.evidence != Evidence::default() {
        body["evidences"] = json!([{"data": evidence(&finding.evidence)}]);
    }
    body["unmapped"] = json!({"exfilwatch": {
        "key": key,
        "group_by": finding.group_by.as_str(),
        "measure": finding.measure.as_str(),
        "revision": shown(&finding.revision, ID_MAX),
        "reason": alert.reason.as_str(),
        "windows": finding.windows.iter().map(window).collect::<Vec<_>>(),
        "records_so_far": finding.records_so_far,
        "counting_since": finding.counting_since.millis(),
        "crossed_at": finding.crossed_at.millis(),
    }});
}

fn add_system(body: &mut Value, alert: &Alert, finding: &SystemFinding, key: &str) {
    let uid = format!("exfilwatch.{}", finding.kind.as_str());
    let info = &mut body["finding_info"];
    info["created_time"] = json!(alert.first_seen.millis());
    info["title"] = json!(finding.kind.title());
    info["desc"] = json!(shown(&finding.message, SENTENCE_MAX));
    info["analytic"] =
        json!({"uid": uid, "name": finding.kind.title(), "type_id": 1, "type": "Rule"});
    let details: serde_json::Map<String, Value> = finding
        .details
        .iter()
        .map(|(name, value)| (name.clone().into_owned(), json!(shown(value, NAME_MAX))))
        .collect();
    body["unmapped"] = json!({"exfilwatch": {
        "key": key,
        "kind": finding.kind.as_str(),
        "reason": alert.reason.as_str(),
        "details": details,
    }});
}

fn window(reading: &WindowReading) -> Value {
    json!({
        "window": reading.window.to_string(),
        "lo": reading.lo,
        "hi": reading.hi,
        "limit": reading.limit,
        "severity": reading.severity.as_str(),
        "crossed": reading.crossed,
    })
}

fn evidence(evidence: &Evidence) -> Value {
    let mut data = json!({
        "since": evidence.since.millis(),
        "events": evidence.events,
        "upper_bound_events": evidence.upper_bound_events,
        "unknown_events": evidence.unknown_events,
        "estimated": evidence.estimated,
        "objects": evidence.objects.iter().take(LIST_MAX)
            .map(|(name, count)| json!({"name": shown(name, NAME_MAX), "count": count}))
            .collect::<Vec<_>>(),
        "client_addresses": latest(&evidence.client_addresses),
        "query_ids": latest(&evidence.query_ids),
    });
    for (name, id) in
        [("first_event_id", &evidence.first_event_id), ("last_event_id", &evidence.last_event_id)]
    {
        if let Some(id) = id {
            data[name] = json!(shown(id, ID_MAX));
        }
    }
    data
}

/// The last [`LIST_MAX`] of a list that ends with the most recent.
fn latest(texts: &[String]) -> Vec<String> {
    let from = texts.len().saturating_sub(LIST_MAX);
    texts[from..].iter().map(|text| shown(text, ID_MAX)).collect()
}

/// High when a crossed limit was passed for certain, medium when only the upper bound passed it.
fn confidence(windows: &[WindowReading]) -> (u8, &'static str) {
    let certain = windows.iter().any(|reading| reading.crossed && reading.lo > reading.limit);
    if certain { (3, "High") } else { (2, "Medium") }
}

const fn status(activity: Activity) -> (u8, &'static str) {
    match activity {
        Activity::Create => (1, "New"),
        Activity::Update => (2, "In Progress"),
        Activity::Close => (4, "Resolved"),
    }
}

const fn activity_name(activity: Activity) -> &'static str {
    match activity {
        Activity::Create => "Create",
        Activity::Update => "Update",
        Activity::Close => "Close",
    }
}

const fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Informational => "Informational",
        Severity::Low => "Low",
        Severity::Medium => "Medium",
        Severity::High => "High",
        Severity::Critical => "Critical",
    }
}
