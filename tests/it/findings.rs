//! Alerts as a plain consumer of the alert topic sees them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kafka::Record;

/// One alert message, with the fields the tests compare.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    pub(crate) rule: String,
    pub(crate) key: String,
    /// 1 open, 2 update, 3 close.
    pub(crate) activity: u64,
    pub(crate) severity: u64,
    pub(crate) episode: String,
    pub(crate) message: String,
    pub(crate) json: Value,
}

/// The rule of [`crate::service::RULES`].
pub(crate) const RULE: &str = "customer-records";
/// OCSF activity of an opening.
pub(crate) const OPEN: u64 = 1;
/// OCSF activity of an update or escalation.
pub(crate) const UPDATE: u64 = 2;
/// OCSF activity of a closing.
pub(crate) const CLOSE: u64 = 3;

impl Finding {
    /// Reads one record of the alert topic and checks what holds for every alert.
    pub(crate) fn of(record: &Record) -> Self {
        let json = record.json();
        let text = |pointer: &str| {
            let found = json.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_else(|| panic!("no text at {pointer} in {json}")).to_owned()
        };
        let number = |pointer: &str| {
            let found = json.pointer(pointer).and_then(Value::as_u64);
            found.unwrap_or_else(|| panic!("no number at {pointer} in {json}"))
        };
        let finding = Self {
            rule: text("/finding_info/analytic/uid"),
            key: record.key_text().expect("an alert has a key"),
            activity: number("/activity_id"),
            severity: number("/severity_id"),
            episode: text("/finding_info/uid"),
            message: text("/metadata/uid"),
            json: json.clone(),
        };
        assert_eq!(number("/class_uid"), 2004);
        assert_eq!(number("/type_uid"), 200_400 + finding.activity);
        assert_eq!(record.header("ce_specversion").as_deref(), Some("1.0"));
        assert_eq!(record.header("ce_id").as_deref(), Some(finding.message.as_str()));
        assert_eq!(record.header("content-type").as_deref(), Some("application/json"));
        for required in ["ce_type", "ce_source", "ce_time"] {
            assert!(record.header(required).is_some(), "no {required} header");
        }
        finding
    }

    /// Every alert of `rule`, in the order of `records`.
    pub(crate) fn all(records: &[Record], rule: &str) -> Vec<Self> {
        records.iter().map(Self::of).filter(|finding| finding.rule == rule).collect()
    }

    /// `lo` and `hi` of the window with the limit `above`.
    pub(crate) fn counts(&self, above: u64) -> (u64, u64) {
        let windows = self.json.pointer("/unmapped/exfilwatch/windows").and_then(Value::as_array);
        let windows = windows.unwrap_or_else(|| panic!("no windows in {}", self.json));
        let found = windows.iter().find(|reading| reading["limit"] == above);
        let found = found.unwrap_or_else(|| panic!("no limit {above} in {}", self.json));
        (found["lo"].as_u64().expect("lo"), found["hi"].as_u64().expect("hi"))
    }

    /// What it says, in a sentence.
    pub(crate) fn description(&self) -> String {
        self.json["finding_info"]["desc"].as_str().expect("desc").to_owned()
    }

    /// Event time of the last event in it, ms.
    pub(crate) fn last_seen_ms(&self) -> i64 {
        self.json["finding_info"]["last_seen_time"].as_i64().expect("last_seen_time")
    }
}

/// Openings of the rule, by key, each once.
pub(crate) fn openings(records: &[Record]) -> BTreeMap<String, Finding> {
    let found = Finding::all(records, RULE).into_iter().filter(|f| f.activity == OPEN);
    let mut by_key = BTreeMap::new();
    for finding in found {
        let key = finding.key.clone();
        assert!(by_key.insert(key, finding).is_none(), "one opening a key");
    }
    by_key
}
