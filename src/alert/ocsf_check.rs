//! The official class, as far as alerts use it: OCSF 1.8.0 Detection Finding, checked by hand.
//!
//! Written from the published class and objects, not from the encoder, and stricter than a JSON
//! Schema would be: an attribute the class does not have, a missing requirement, a wrong type, a
//! caption that is not that of its id, an attribute whose profile is not declared, and a time in
//! seconds are all faults.

use serde_json::{Map, Value};

/// Type of an attribute.
#[derive(Clone, Copy)]
enum Type {
    /// `string_t`, never empty here.
    Text,
    /// `timestamp_t`: milliseconds.
    Time,
    /// `integer_t` with the captions of its values; the caption is in the sibling attribute.
    Enum(&'static str, &'static [(i64, &'static str)]),
    /// `integer_t` or `long_t`.
    Integer,
    /// `boolean_t`.
    Boolean,
    /// `json_t` or `object`: anything in braces.
    Json,
    /// An array of texts.
    Texts,
    /// An object.
    Object(&'static [Attribute]),
    /// An array of objects.
    Objects(&'static [Attribute]),
}

/// Name, type, required.
type Attribute = (&'static str, Type, bool);

use Type::{Boolean, Enum, Integer, Json, Object, Objects, Text, Texts, Time};

const ACTIVITIES: &[(i64, &str)] =
    &[(0, "Unknown"), (1, "Create"), (2, "Update"), (3, "Close"), (99, "Other")];
const SEVERITIES: &[(i64, &str)] = &[
    (0, "Unknown"),
    (1, "Informational"),
    (2, "Low"),
    (3, "Medium"),
    (4, "High"),
    (5, "Critical"),
    (6, "Fatal"),
    (99, "Other"),
];
const STATUSES: &[(i64, &str)] = &[
    (0, "Unknown"),
    (1, "New"),
    (2, "In Progress"),
    (3, "Suppressed"),
    (4, "Resolved"),
    (5, "Archived"),
    (6, "Deleted"),
    (99, "Other"),
];
const CONFIDENCES: &[(i64, &str)] =
    &[(0, "Unknown"), (1, "Low"), (2, "Medium"), (3, "High"), (99, "Other")];
const ANALYTICS: &[(i64, &str)] = &[
    (0, "Unknown"),
    (1, "Rule"),
    (2, "Behavioral"),
    (3, "Statistical"),
    (4, "Learning (ML/DL)"),
    (99, "Other"),
];

const DETECTION_FINDING: &[Attribute] = &[
    ("activity_id", Enum("activity_name", ACTIVITIES), true),
    ("activity_name", Text, false),
    ("actor", Object(ACTOR), false),
    ("category_name", Text, false),
    ("category_uid", Integer, true),
    ("class_name", Text, false),
    ("class_uid", Integer, true),
    ("confidence", Text, false),
    ("confidence_id", Enum("confidence", CONFIDENCES), false),
    ("evidences", Objects(EVIDENCES), false),
    ("finding_info", Object(FINDING_INFO), true),
    ("is_alert", Boolean, false),
    ("message", Text, false),
    ("metadata", Object(METADATA), true),
    ("resources", Objects(RESOURCE_DETAILS), false),
    ("severity", Text, false),
    ("severity_id", Enum("severity", SEVERITIES), true),
    ("status", Text, false),
    ("status_id", Enum("status", STATUSES), false),
    ("time", Time, true),
    ("type_name", Text, false),
    ("type_uid", Integer, true),
    ("unmapped", Json, false),
];
const METADATA: &[Attribute] = &[
    ("product", Object(PRODUCT), true),
    ("profiles", Texts, false),
    ("uid", Text, false),
    ("version", Text, true),
];
const PRODUCT: &[Attribute] =
    &[("name", Text, false), ("vendor_name", Text, true), ("version", Text, false)];
const FINDING_INFO: &[Attribute] = &[
    ("analytic", Object(ANALYTIC), false),
    ("created_time", Time, false),
    ("desc", Text, false),
    ("first_seen_time", Time, false),
    ("last_seen_time", Time, false),
    ("title", Text, false),
    ("uid", Text, true),
];
const ANALYTIC: &[Attribute] = &[
    ("name", Text, false),
    ("type", Text, false),
    ("type_id", Enum("type", ANALYTICS), true),
    ("uid", Text, false),
    ("version", Text, false),
];
const ACTOR: &[Attribute] = &[("user", Object(USER), false)];
const USER: &[Attribute] = &[("name", Text, false), ("uid", Text, false)];
const EVIDENCES: &[Attribute] = &[("data", Json, false), ("name", Text, false)];
const RESOURCE_DETAILS: &[Attribute] = &[("name", Text, false), ("uid", Text, false)];

/// Objects that need at least one of their attributes.
const NEVER_EMPTY: [&[Attribute]; 4] = [ACTOR, USER, EVIDENCES, RESOURCE_DETAILS];

/// Attributes that exist only with a profile.
const PROFILES: [(&str, &str); 2] = [("actor", "host"), ("device", "host")];

/// A time this near the epoch is in seconds, not in milliseconds (1973 as milliseconds).
const MILLIS_MIN: i64 = 100_000_000_000;

/// Every way in which `alert` is no Detection Finding; empty when it is one.
pub(super) fn faults(alert: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(alert, DETECTION_FINDING, "", &mut faults);
    let uid = |name: &str| alert[name].as_i64().unwrap_or_default();
    if (uid("class_uid"), uid("category_uid")) != (2004, 2) {
        faults.push("class_uid is not 2004 or category_uid is not 2".to_owned());
    }
    if uid("type_uid") != uid("class_uid") * 100 + uid("activity_id") {
        faults.push("type_uid is not class_uid * 100 + activity_id".to_owned());
    }
    let profiles = alert["metadata"]["profiles"].as_array();
    for (attribute, profile) in PROFILES {
        let declared = profiles.is_some_and(|all| all.iter().any(|one| one == profile));
        if alert.get(attribute).is_some() && !declared {
            faults.push(format!("{attribute} needs the profile {profile} to be declared"));
        }
    }
    faults
}

fn check(value: &Value, attributes: &[Attribute], path: &str, faults: &mut Vec<String>) {
    let Some(object) = value.as_object() else {
        faults.push(format!("{path} is no object"));
        return;
    };
    for name in object.keys() {
        if !attributes.iter().any(|(known, ..)| known == name) {
            faults.push(format!("{path}.{name} is not an attribute"));
        }
    }
    for (name, kind, required) in attributes {
        match object.get(*name) {
            Some(value) => check_value(value, *kind, object, &format!("{path}.{name}"), faults),
            None if *required => faults.push(format!("{path}.{name} is required")),
            None => {}
        }
    }
    if object.is_empty() && NEVER_EMPTY.iter().any(|one| std::ptr::eq(*one, attributes)) {
        faults.push(format!("{path} is empty"));
    }
}

fn check_value(
    value: &Value,
    kind: Type,
    siblings: &Map<String, Value>,
    path: &str,
    faults: &mut Vec<String>,
) {
    let fits = match kind {
        Text => value.as_str().is_some_and(|text| !text.is_empty()),
        Time => value.as_i64().is_some_and(|time| time.abs() >= MILLIS_MIN),
        Integer => value.is_i64() || value.is_u64(),
        Boolean => value.is_boolean(),
        Json => value.is_object(),
        Texts => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        Enum(sibling, captions) => {
            let caption = captions.iter().find(|(id, _)| value.as_i64() == Some(*id));
            let said = siblings.get(sibling);
            caption.is_some_and(|(id, caption)| *id == 99 || said.is_none_or(|s| s == caption))
        }
        Object(attributes) => return check(value, attributes, path, faults),
        Objects(attributes) => {
            let all = value.as_array();
            for (at, one) in all.into_iter().flatten().enumerate() {
                check(one, attributes, &format!("{path}[{at}]"), faults);
            }
            all.is_some()
        }
    };
    if !fits {
        faults.push(format!("{path} does not fit its type: {value}"));
    }
}
