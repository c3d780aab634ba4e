//! The demo as a newcomer runs it, and `replay` of what it leaves behind.
//!
//! A binary of its own: cargo runs it alone, so that it takes no time from the tests on Kafka.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

use std::{fs, path::Path, process::Command};

use serde_json::Value;

fn exfilwatch(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_exfilwatch")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // A replay that finds something ends with 1, a demo that shows what it should with 0.
    let wanted = i32::from(arguments[0] == "replay");
    assert_eq!(output.status.code(), Some(wanted), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Everything of an alert but when it was published.
fn timeless(lines: &str) -> Vec<Value> {
    let alerts = lines.lines().map(|line| {
        let mut alert: Value = serde_json::from_str(line).unwrap();
        alert.as_object_mut().unwrap().remove("time").unwrap();
        alert
    });
    alerts.collect()
}

#[test]
fn the_demo_counts_every_event_and_its_replay_gives_the_same_alerts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let read = |name: &str| fs::read_to_string(Path::new(&path(name))).unwrap();

    let shown = exfilwatch(&["demo", "--output", "json", "--out", &path("")]);
    let summary: Value = serde_json::from_str(shown.lines().last().unwrap()).unwrap();
    assert_eq!(summary["kind"], "summary");
    assert_eq!(summary["all_counted"], true);
    assert_eq!(summary["accused_wrongly"].as_array().map(Vec::len), Some(0));
    let lost = summary["lost_before_first_alert"].as_u64().unwrap();
    assert!(lost <= 68_000 / 20, "{lost} records had left before the first alert");

    let published = timeless(&read("alerts.ndjson"));
    let (config, events) = (path("exfilwatch.yaml"), path("events.ndjson.zst"));
    let replayed = timeless(&exfilwatch(&["replay", "-c", &config, "--output", "json", &events]));
    assert!(!published.is_empty());
    for (one, other) in published.iter().zip(&replayed) {
        assert_eq!(one, other);
    }
    assert_eq!(published.len(), replayed.len());
}
