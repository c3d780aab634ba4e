//! The table is well-formed, its handles move what they name, and the page is in step.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::*;
use crate::{
    event::{DecodeError, IgnoreReason, RowsQuality},
    rules::{Filter, GroupBy, Limit, Measure, Meter, Rule, Severity},
    units::WindowSpan,
};

fn at(seconds: i64) -> EventTime {
    EventTime::from_millis(seconds * 1000)
}

fn rule_set(revision: &str, ids: &[&str]) -> RuleSet {
    let limit = |rule| Limit { rule, window: 0, above: 10, severity: Severity::High };
    let rule = |id: &&str| Rule {
        id: id.to_string(),
        title: id.to_string(),
        severity: Severity::High,
        meter: 0,
    };
    RuleSet {
        revision: revision.to_owned(),
        rules: ids.iter().map(rule).collect(),
        written: Vec::new(),
        meters: vec![Meter {
            identity: String::new(),
            filter: Filter::default(),
            group_by: GroupBy::PrincipalId,
            measure: Measure::Rows,
            windows: vec![WindowSpan::MIN],
            limits: (0..ids.len()).map(limit).collect(),
        }],
    }
}

#[test]
fn every_name_follows_the_pattern_and_is_used_once() {
    let mut names = BTreeSet::new();
    for spec in TABLE {
        let name = spec.name;
        assert!(names.insert(name), "{name} twice");
        assert!(name.starts_with("exfilwatch_"), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        assert_eq!(spec.kind == "counter", name.ends_with("_total"), "{name}");
        assert!(spec.help.ends_with('.'), "{name}");
        // What `promtool check metrics` refuses.
        for part in name.split('_') {
            assert!(!["counter", "gauge", "histogram", "ms", "s", "kb", "mb"].contains(&part));
            assert!(!["milliseconds", "minutes", "hours", "days", "percent"].contains(&part));
        }
        for suffix in ["_count", "_sum", "_bucket"] {
            assert!(!name.ends_with(suffix), "{name} ends like a part of a histogram");
        }
        for (word, unit) in [("_seconds", "seconds"), ("_bytes", "bytes"), ("_ratio", "ratio")] {
            assert_eq!(name.contains(word), spec.unit.starts_with(unit), "{name}: {}", spec.unit);
        }
    }
}

#[test]
fn metrics_page_is_in_step_with_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md");
    if std::env::var_os("EXFILWATCH_BLESS").is_some() {
        fs::write(&path, markdown()).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(page == markdown(), "run EXFILWATCH_BLESS=1 cargo test --lib metrics");
}

#[test]
fn input_counts_land_in_the_series_of_their_reason_and_start_anew() {
    let metrics = Metrics::new();
    let mut input = metrics.input("query-events");
    let mut counts = InputCounts { records: 5, bytes: 900, events: 5, ..Default::default() };
    counts.forward(Some(120), RowsQuality::Exact);
    counts.forward(None, RowsQuality::Unknown);
    counts.canary = 1;
    counts.ignore(IgnoreReason::OtherKind);
    counts.refuse(&DecodeError::NoIdentity { expected: "a principal" });
    input.add(&mut counts);
    assert_eq!(counts, InputCounts::default());
    input.add(&mut counts);
    let text = metrics.render();
    for line in [
        r#"exfilwatch_records_read_total{topic="query-events"} 5"#,
        r#"exfilwatch_records_delivered_total{topic="query-events"} 120"#,
        r#"exfilwatch_events_quality_total{quality="exact",topic="query-events"} 1"#,
        r#"exfilwatch_events_quality_total{quality="unknown",topic="query-events"} 1"#,
        r#"exfilwatch_events_quality_total{quality="upper_bound",topic="query-events"} 0"#,
        r#"exfilwatch_records_read_bytes_total{topic="query-events"} 900"#,
        r#"{outcome="forwarded",reason="none",topic="query-events"} 2"#,
        r#"{outcome="canary",reason="none",topic="query-events"} 1"#,
        r#"{outcome="ignored",reason="other_kind",topic="query-events"} 1"#,
        r#"{outcome="ignored",reason="null_value",topic="query-events"} 0"#,
        r#"{outcome="dead_letter",reason="no_identity",topic="query-events"} 1"#,
        r#"{outcome="dead_letter",reason="syntax",topic="query-events"} 0"#,
        r#"exfilwatch_account_difference_rows{role="ingest"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    input.add(&mut InputCounts { events: 2, forwarded: 1, ..Default::default() });
    let gone = r#"exfilwatch_account_difference_rows{role="ingest"} 1"#;
    assert!(metrics.render().contains(gone), "an event that went nowhere shows");
}

#[test]
fn every_reason_and_code_has_a_place() {
    let mut counts = InputCounts::default();
    for reason in IgnoreReason::ALL {
        counts.ignore(reason);
    }
    let (what, format, detail, found) = ("rows", "json", String::new(), String::new());
    for error in [
        DecodeError::Syntax { format, detail },
        DecodeError::Missing { field: "rows", expected: "" },
        DecodeError::Invalid { field: "rows", found, expected: "" },
        DecodeError::NoIdentity { expected: "" },
        DecodeError::TooLarge { what, found: 2, limit: 1 },
    ] {
        counts.refuse(&error);
    }
    assert_eq!(counts.ignored, [1; IgnoreReason::ALL.len()]);
    assert_eq!(counts.dead_letters, [1; DecodeError::CODES.len()]);
}

#[test]
fn total_adds_growth_once_and_survives_a_rebuilt_owner() {
    let metrics = Metrics::new();
    let mut total = Total::new(metrics.rows_clamped.clone());
    assert!(total.follow(5));
    assert!(!total.follow(5));
    assert!(total.follow(7));
    assert!(total.follow(2), "its owner began anew");
    assert_eq!(metrics.rows_clamped.get(), 9);
}

#[test]
fn revoked_partition_takes_its_keys_out_of_the_gauges_and_leaves_the_counters() {
    let metrics = Metrics::new();
    let (mut one, mut two) = (metrics.partition(), metrics.partition());
    let by = GroupBy::PrincipalId as usize;
    one.tables[by].follow(100, 3, 4);
    two.tables[by].follow(50, 1, 1);
    assert!(metrics.render().contains("exfilwatch_window_keys{group_by=\"principal.id\"} 150"));
    drop(one);
    let text = metrics.render();
    assert!(text.contains("exfilwatch_window_keys{group_by=\"principal.id\"} 50"));
    assert!(text.contains("exfilwatch_window_promotions_total{group_by=\"principal.id\"} 5"));
}

#[test]
fn event_lag_is_never_negative_and_shows_after_the_flush() {
    let metrics = Metrics::new();
    let partition = metrics.partition();
    partition.evaluated(at(10), at(12));
    partition.evaluated(at(99), at(12));
    assert_eq!(metrics.event_lag.get_sample_count(), 0);
    partition.flush(2);
    assert_eq!(metrics.event_lag.get_sample_count(), 2);
    assert!((metrics.event_lag.get_sample_sum() - 2.0).abs() < 1e-9);
}

#[test]
fn a_time_mark_is_no_batch_and_a_message_with_rows_is_one() {
    let metrics = Metrics::new();
    let partition = metrics.partition();
    partition.flush(0);
    partition.flush(7);
    let text = metrics.render();
    assert!(text.contains("exfilwatch_batch_records_sum{role=\"detect\"} 7"), "{text}");
    assert!(text.contains("exfilwatch_batch_records_count{role=\"detect\"} 1"), "{text}");
}

#[test]
fn rules_stand_at_zero_from_the_start_and_an_engine_that_goes_takes_its_part_along() {
    let metrics = Metrics::new();
    let rules = rule_set("aaaa", &["one", "two"]);
    let (one, two) = (metrics.standing(&rules), metrics.standing(&rules));
    let line = |episodes, near| {
        let text = metrics.render();
        let at = r#"rule="two",severity="high""#;
        let episodes = format!("exfilwatch_episodes_open{{{at}}} {episodes}\n");
        let near =
            format!("exfilwatch_window_keys_near_limit{{rule=\"two\",share=\"0.25\"}} {near}\n");
        assert!(text.contains(&episodes) && text.contains(&near), "{text}");
    };
    line(0, 0);
    for (standing, count) in [(&one, 3), (&two, 4)] {
        standing.episodes(&BTreeMap::from([((1, Severity::High), count)]));
        standing.near(&[[0; 5], [count, 0, 0, 0, 0]]);
    }
    line(7, 7);
    drop(two);
    line(3, 3);
    one.episodes(&BTreeMap::new());
    line(0, 3);
}

#[test]
fn reload_leaves_one_revision_and_only_the_rules_in_force() {
    let metrics = Metrics::new();
    metrics.rules_in_force(&rule_set("aaaa", &["old", "kept"]), at(100));
    let mut old = metrics.rules(&rule_set("aaaa", &["old", "kept"]));
    old.follow(1, 5, at(150));
    metrics.rules_in_force(&rule_set("bbbb", &["kept", "new"]), at(200));
    let text = metrics.render();
    assert!(!text.contains("aaaa") && !text.contains("rule=\"old\"} 0\n"), "{text}");
    assert!(text.contains("exfilwatch_rules_revision_info{revision=\"bbbb\"} 1"));
    assert!(text.contains("exfilwatch_rules_in_force 2"));
    assert!(text.contains("exfilwatch_rule_matched_total{rule=\"kept\"} 5"));
    assert!(text.contains("exfilwatch_rule_last_matched_timestamp_seconds{rule=\"kept\"} 150"));
    assert!(text.contains("exfilwatch_rule_last_matched_timestamp_seconds{rule=\"new\"} 200"));
}

#[test]
fn hostile_label_text_from_the_configuration_stays_inside_its_quotes() {
    let metrics = Metrics::new();
    metrics.input("a\"b\\c\nd").add(&mut InputCounts { records: 1, ..Default::default() });
    assert!(metrics.render().contains(r#"{topic="a\"b\\c\nd"} 1"#));
}

/// Every handle the program asks for, on metrics that have all their labelled series.
fn everything() -> (Metrics, Vec<Box<dyn std::any::Any>>) {
    let metrics = Metrics::new();
    let mut held: Vec<Box<dyn std::any::Any>> = Vec::new();
    let rules = rule_set("aaaa", &["one"]);
    metrics.rules_in_force(&rules, at(1));
    held.push(Box::new(metrics.input("query-events")));
    held.push(Box::new(metrics.routes()));
    held.push(Box::new(metrics.catalog(["crm.*"], at(1))));
    held.push(Box::new(metrics.rules(&rules)));
    held.push(Box::new(metrics.partition()));
    held.push(Box::new(metrics.standing(&rules)));
    metrics.busy_seconds.with_label_values(&["detect", "poll"]).inc_by(1.0);
    metrics.tls_not_after.with_label_values(&["ca.pem"]).set(1.0);
    for role in Role::ALL {
        held.push(Box::new(metrics.lag(role, "query-events")));
        held.push(Box::new(metrics.partitions_assigned.part(&[role.as_str()])));
        held.push(Box::new(metrics.partitions_paused.part(&[role.as_str(), "drift"])));
        held.push(Box::new(metrics.account_difference.part(&[role.as_str()])));
        metrics.rebalances.with_label_values(&[role.as_str()]).inc();
        metrics.commits.with_label_values(&[role.as_str(), "ok"]).inc();
    }
    held.push(Box::new(metrics.source_drift.part(&["query-events"])));
    held.push(Box::new(metrics.queue_fill.part(&["ring"])));
    metrics.dead_letters.with_label_values(&["syntax"]).inc();
    metrics.rule_reloads.with_label_values(&["applied"]).inc();
    metrics.checkpoints.with_label_values(&["stored"]).inc();
    metrics.restores.with_label_values(&["restored"]).inc();
    held.push(Box::new(metrics.checkpoint_age.part(&["events"])));
    metrics.delivery_failures.with_label_values(&["alerts"]).inc();
    metrics.canaries_awaited();
    metrics.build_info.with_label_values(&["0.1.0", "unknown", "2.12.1"]).set(1.0);
    (metrics, held)
}

#[test]
fn every_metric_of_the_table_is_in_the_scrape_and_no_other_of_ours() {
    let (metrics, _held) = everything();
    let text = metrics.render();
    let scraped: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE exfilwatch_"))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let table: BTreeSet<&str> =
        TABLE.iter().map(|spec| spec.name.strip_prefix("exfilwatch_").unwrap()).collect();
    assert_eq!(scraped, table);
}
