//! Replays of a small staged organisation, written to files as a user would have them.

use std::{fs, io::Write as _, path::PathBuf};

use serde_json::Value;

use super::*;
use crate::demo::{
    calendar::Day,
    files,
    organisation::{Organisation, Spec},
    wire,
};

/// The week of the small organisation; the theft begins with the fourth day.
const END: Day = Day(7);

/// A small organisation that loses everything within a week, and its files.
struct Stage {
    folder: tempfile::TempDir,
    events: Vec<Vec<u8>>,
    insider: String,
}

impl Stage {
    fn new() -> Self {
        let spec = Spec { people: 62, quiet_days: 3, theft_days: 4, ..Spec::incident(3) };
        let organisation = Organisation::new(spec);
        let staff = organisation.staff().to_vec();
        let insider = staff[usize::from(organisation.theft().insider)].name.clone();
        let mut json = Vec::new();
        let events = organisation.zip(0..).map(|(read, number)| {
            wire::write(&mut json, number, &read, &staff[usize::from(read.person)]);
            json.clone()
        });
        let events = events.collect();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(files::CONFIG_FILE), files::config("127.0.0.1:1")).unwrap();
        fs::write(folder.path().join(files::RULES_FILE), files::rules()).unwrap();
        Self { folder, events, insider }
    }

    fn write(&self, name: &str, lines: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, lines).unwrap();
        path
    }

    fn config(&self) -> Config {
        Config::load(&self.folder.path().join(files::CONFIG_FILE)).unwrap()
    }

    fn options(&self, inputs: Vec<PathBuf>) -> ReplayOptions {
        ReplayOptions {
            config: self.config(),
            format: None,
            alerts: None,
            summary: None,
            as_of: None,
            inputs,
            output: Output::Json,
            progress: false,
        }
    }

    fn everything(&self) -> ReplayOptions {
        self.options(vec![self.write("all.ndjson", &lines(&self.events))])
    }
}

fn lines(events: &[Vec<u8>]) -> Vec<u8> {
    events.iter().flat_map(|event| [event, &b"\n"[..]].concat()).collect()
}

struct Replayed {
    summary: Summary,
    alerts: Vec<Value>,
    notes: String,
}

fn replay(options: &ReplayOptions) -> Replayed {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let summary = run(options, &mut out, &mut notes).unwrap();
    assert!(summary.adds_up(), "{summary:?}");
    let alerts = String::from_utf8(out).unwrap();
    let alerts = alerts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Replayed { summary, alerts, notes: String::from_utf8(notes).unwrap() }
}

fn ids(alerts: &[Value]) -> Vec<&str> {
    alerts.iter().map(|alert| alert["metadata"]["uid"].as_str().unwrap()).collect()
}

fn reasons(alerts: &[Value]) -> Vec<&str> {
    alerts.iter().map(|a| a["unmapped"]["exfilwatch"]["reason"].as_str().unwrap()).collect()
}

#[test]
fn the_insider_is_found_and_nobody_else() {
    let stage = Stage::new();
    let Replayed { summary, alerts, notes } = replay(&stage.everything());
    assert_eq!(summary.read, stage.events.len() as u64);
    assert_eq!(summary.applied, summary.read);
    assert_eq!((summary.clamped, notes.as_str()), (0, ""));
    assert!(summary.has_alerts());
    assert_eq!(summary.alerts[files::RULE], alerts.len() as u64);
    assert!(summary.matched[files::RULE] > 0 && summary.matched[files::RULE] < summary.read);
    // The new hire has not joined yet; the account of the nightly copy is a principal too.
    assert_eq!(summary.principals, 62);
    for alert in &alerts {
        assert_eq!(alert["unmapped"]["exfilwatch"]["key"], stage.insider.as_str());
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let stage = Stage::new();
    let as_of = Some(Day(END.0 + 40).start());
    let options = ReplayOptions { as_of, ..stage.everything() };
    let run = || {
        let mut out = Vec::new();
        super::run(&options, &mut out, &mut Vec::new()).unwrap();
        out
    };
    assert_eq!(run(), run());
}

#[test]
fn several_inputs_are_merged_by_event_time() {
    let stage = Stage::new();
    let whole = replay(&stage.everything());
    let part = |number: usize| {
        let events: Vec<_> = stage.events.iter().skip(number).step_by(3).cloned().collect();
        stage.write(&format!("{number}.ndjson"), &lines(&events))
    };
    let parts = replay(&stage.options((0..3).map(part).collect()));
    assert_eq!(parts.summary.read, whole.summary.read);
    assert_eq!(ids(&parts.alerts), ids(&whole.alerts));
}

#[test]
fn compressed_inputs_are_the_same_inputs() {
    let stage = Stage::new();
    let whole = replay(&stage.everything());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&lines(&stage.events)).unwrap();
    let path = stage.write("all.gz", &gzip.finish().unwrap());
    assert_eq!(ids(&replay(&stage.options(vec![path])).alerts), ids(&whole.alerts));
}

#[test]
fn refused_rows_are_named_up_to_a_limit_and_all_counted() {
    let stage = Stage::new();
    let mut text = lines(&stage.events[..5]);
    for number in 0..15 {
        text.extend_from_slice(format!("{{\"bad\":{number}}}\n").as_bytes());
    }
    text.extend_from_slice(&lines(&stage.events[5..9]));
    let path = stage.write("bad.ndjson", &text);
    let Replayed { summary, notes, .. } = replay(&stage.options(vec![path]));
    assert_eq!((summary.read, summary.applied, summary.dead_lettered), (24, 9, 15));
    assert_eq!(notes.lines().count(), 11);
    assert!(notes.contains("bad.ndjson:6: "), "{notes}");
    assert!(notes.ends_with("5 more rows were refused\n"), "{notes}");
}

#[test]
fn episodes_close_only_when_time_is_said_to_have_passed() {
    let stage = Stage::new();
    let without = replay(&stage.everything());
    assert!(!reasons(&without.alerts).contains(&"fell_back"));
    let later = Some(Day(END.0 + 70).start());
    let with = replay(&ReplayOptions { as_of: later, ..stage.everything() });
    assert_eq!(reasons(&with.alerts).last(), Some(&"fell_back"));
    assert_eq!(ids(&with.alerts)[..without.alerts.len()], ids(&without.alerts)[..]);
}

#[test]
fn events_after_the_time_given_are_moved_back_and_counted() {
    let stage = Stage::new();
    let as_of = Some(Day(END.0 - 2).start());
    let Replayed { summary, .. } = replay(&ReplayOptions { as_of, ..stage.everything() });
    assert!(summary.clamped > 0 && summary.clamped < summary.read / 2, "{summary:?}");
}

#[test]
fn an_event_that_several_rules_count_by_several_keys_is_one_event() {
    let stage = Stage::new();
    let mut options = stage.everything();
    let by_principal = options.config.rules.iter().find(|rule| rule.id == files::RULE).unwrap();
    let mut by_object = by_principal.clone();
    by_object.id = "by-object".to_owned();
    by_object.group_by = crate::rules::GroupBy::Object;
    let mut by_tenant = by_object.clone();
    by_tenant.id = "by-tenant".to_owned();
    by_tenant.group_by = crate::rules::GroupBy::PrincipalTenant;
    options.config.rules = vec![by_object, by_tenant];
    let Replayed { summary, .. } = replay(&options);
    assert_eq!((summary.read, summary.applied), (stage.events.len() as u64, summary.read));
    assert!(summary.alerts["by-object"] > 0);
    // No event names a tenant, so none is counted by one.
    assert_eq!(summary.matched["by-tenant"], 0);
}

#[test]
fn alerts_and_summary_go_to_the_files_that_were_named() {
    let stage = Stage::new();
    let path = |name: &str| stage.folder.path().join(name);
    let options = ReplayOptions {
        alerts: Some(path("alerts.ndjson")),
        summary: Some(path("summary.json")),
        ..stage.everything()
    };
    let Replayed { summary, alerts, .. } = replay(&options);
    assert!(alerts.is_empty(), "the output is left alone");
    let written = fs::read_to_string(path("alerts.ndjson")).unwrap();
    assert_eq!(written.lines().count() as u64, summary.alerts[files::RULE]);
    let written: Value =
        serde_json::from_str(&fs::read_to_string(path("summary.json")).unwrap()).unwrap();
    assert_eq!(written["read"], summary.read);
    assert!(written["wall_seconds"].as_f64().unwrap() > 0.0);
}

/// A query as Trino's listener posts it, on a line.
fn trino(query: &str, user: &str) -> Vec<u8> {
    let event = serde_json::json!({
        "metadata": {"queryId": query, "queryState": "FINISHED"},
        "statistics": {"outputRows": 5, "outputBytes": 320},
        "context": {"user": user, "serverAddress": "lake", "environment": "test"},
        "ioMetadata": {"inputs": []},
        "endTime": "2026-01-05T10:00:00Z",
    });
    event.to_string().into_bytes()
}

#[test]
fn an_event_that_trino_posted_again_is_a_duplicate_and_another_with_its_id_is_none() {
    let stage = Stage::new();
    let posts =
        [trino("q-1", "ann"), trino("q-2", "ann"), trino("q-1", "ann"), trino("q-1", "eve")];
    let path = stage.write("trino.ndjson", &lines(&posts));
    let format = Some(Format::Trino);
    let options = ReplayOptions { format, ..stage.options(vec![path]) };
    let Replayed { summary, .. } = replay(&options);
    assert_eq!((summary.read, summary.applied, summary.duplicate), (4, 3, 1));
}

#[test]
fn a_canonical_input_is_compared_only_if_the_configuration_says_that_it_retries() {
    let stage = Stage::new();
    let events = [stage.events[0].clone(), stage.events[1].clone(), stage.events[0].clone()];
    let mut options = stage.options(vec![stage.write("twice.ndjson", &lines(&events))]);
    assert_eq!(replay(&options).summary.applied, 3);
    options.config.inputs[0].retries = true;
    let Replayed { summary, .. } = replay(&options);
    assert_eq!((summary.applied, summary.duplicate), (2, 1));
    options.config.dedup.entries = 0;
    assert_eq!(replay(&options).summary.applied, 3);
}

#[test]
fn an_input_that_cannot_be_read_is_named() {
    let stage = Stage::new();
    let options = stage.options(vec![stage.folder.path().join("nowhere.ndjson")]);
    let error = run(&options, &mut Vec::new(), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("nowhere.ndjson"), "{error}");
}
