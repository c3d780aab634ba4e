//! The dashboards: built as Grafana's types demand, readable, and about metrics that exist.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    alerts::{exists, metrics},
    tools,
};

/// Files below `helm/exfilwatch/dashboards`.
pub(crate) const NAMES: [&str; 3] = ["capacity", "exfiltration", "pipeline"];

/// A dashboard by name.
pub(crate) fn load(name: &str) -> Value {
    let text = tools::read(&format!("helm/exfilwatch/dashboards/{name}.json"));
    serde_json::from_str(&text).unwrap()
}

/// Its panels that show something.
pub(crate) fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

/// Title and expressions of everything that asks Prometheus.
pub(crate) fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut all = Vec::new();
    for panel in panels(dashboard) {
        for target in panel["targets"].as_array().unwrap() {
            all.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        all.push((text(&annotation["name"]), text(&annotation["expr"])));
    }
    all
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    for name in NAMES {
        let dashboard = load(name);
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: id {}", panel["id"]);
        }
        let mut titles = BTreeSet::new();
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap();
            assert!(titles.insert(panel["targets"].to_string()), "{name}: {title} shown twice");
            assert!(panel["description"].as_str().unwrap().len() > 20, "{name}: {title}");
            let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap();
            let units = ["short", "s", "bytes", "Bps", "eps", "percentunit"];
            assert!(units.contains(&unit), "{name}: {title} is in {unit}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {title}");
            for target in panel["targets"].as_array().unwrap() {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{name}: {title}");
            }
        }
    }
}

#[test]
fn panels_do_not_overlap_and_stay_within_the_24_columns() {
    for name in NAMES {
        let dashboard = load(name);
        let mut taken = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            for x in place("x")..place("x") + place("w") {
                assert!(x < 24, "{name}: {} leaves the grid", panel["title"]);
                for y in place("y")..place("y") + place("h") {
                    assert!(taken.insert((x, y)), "{name}: {} lies on another", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn expressions_are_of_the_chosen_members_and_of_metrics_that_exist() {
    for name in NAMES {
        let dashboard = load(name);
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let named: Vec<&str> = variables.iter().filter_map(|it| it["name"].as_str()).collect();
        assert_eq!(named, ["datasource", "namespace", "job", "instance", "runbook"], "{name}");
        for (title, expression) in expressions(&dashboard) {
            let used = metrics(&expression);
            assert!(!used.is_empty() || expression.contains("ALERTS"), "{name}: {title}");
            for metric in used {
                assert!(exists(&metric), "{name}: {title}: {metric} is not in docs/METRICS.md");
                let selected = format!(r#"{metric}{{namespace=~"$namespace",job=~"$job""#);
                assert!(expression.contains(&selected), "{name}: {title}: {expression}");
            }
            for rate in ["rate(", "increase("] {
                for inside in expression.split(rate).skip(1) {
                    let range = inside.split("}[").nth(1).and_then(|rest| rest.split(']').next());
                    let range = range.unwrap_or_else(|| panic!("{name}: {title}: {expression}"));
                    let ranges = ["$__rate_interval", "$__range"];
                    assert!(ranges.contains(&range), "{name}: {title}: {range}");
                }
            }
        }
    }
}

#[test]
fn dashboards_link_to_each_other_and_mark_reloads_restarts_and_alerts() {
    let mut uids = BTreeSet::new();
    for name in NAMES {
        let dashboard = load(name);
        assert!(uids.insert(dashboard["uid"].to_string()), "{name}");
        assert_eq!(dashboard["tags"][0], "exfilwatch");
        assert_eq!(dashboard["links"][0]["tags"][0], "exfilwatch");
        assert_eq!(dashboard["links"][1]["url"], "${runbook}");
        let marks = dashboard["annotations"]["list"].as_array().unwrap();
        let marks: Vec<&str> = marks.iter().filter_map(|it| it["name"].as_str()).collect();
        assert_eq!(marks, ["Rule reloads", "Restarts", "Alerts"], "{name}");
    }
}

/// Every metric that says something about health is on a dashboard.
#[test]
fn every_metric_is_on_a_dashboard_or_known_to_be_on_none() {
    // Of use when one looks for something, and not at a glance.
    const APART: [&str; 16] = [
        "exfilwatch_build_info",
        "exfilwatch_canary_latency_seconds",
        "exfilwatch_catalog_last_matched_timestamp_seconds",
        "exfilwatch_catalog_matched_total",
        "exfilwatch_context_resets_total",
        "exfilwatch_shape_resets_total",
        "exfilwatch_contexts_unreadable_total",
        "exfilwatch_dead_letters_bodiless_total",
        "exfilwatch_dead_letters_cut_bytes_total",
        "exfilwatch_restore_seconds",
        "exfilwatch_rows_keyless_total",
        "exfilwatch_rules_in_force",
        "exfilwatch_rules_refused",
        "exfilwatch_state_rows",
        "exfilwatch_time_marks_written_total",
        "exfilwatch_alerts_dropped_total",
    ];
    let mut shown = BTreeSet::new();
    for name in NAMES {
        for (_, expression) in expressions(&load(name)) {
            shown.extend(metrics(&expression));
        }
    }
    let page = tools::read("docs/METRICS.md");
    let listed = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let is_shown = |name: &str| shown.iter().any(|it| it.starts_with(name));
    let nowhere: Vec<&str> =
        listed.filter(|name| !is_shown(name) && !APART.contains(name)).collect();
    assert!(nowhere.is_empty(), "on no dashboard: {nowhere:?}");
}

/// The types that Grafana publishes know of every field, its name and what may stand in it.
#[test]
fn dashboards_have_the_types_that_grafana_publishes() {
    let modules = tools::folder().join("grafana/node_modules");
    if !modules.exists() {
        let _ = tools::tool("types-of-grafana");
        return;
    }
    let folder = TempDir::new().unwrap();
    std::os::unix::fs::symlink(&modules, folder.path().join("node_modules")).unwrap();
    let types = tools::read("tests/chart/tools/grafana/dashboard.ts");
    for name in NAMES {
        let text = serde_json::to_string_pretty(&load(name)).unwrap();
        fs::write(
            folder.path().join(format!("{name}.ts")),
            types.replace("= DASHBOARD", &format!("= {text}")),
        )
        .unwrap();
    }
    let mut command = Command::new("node");
    command.current_dir(folder.path()).arg(modules.join("typescript/bin/tsc"));
    command.args(["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022"]);
    command.args(["--module", "nodenext", "--moduleResolution", "nodenext"]);
    command.args(NAMES.map(|name| format!("{name}.ts")));
    tools::run(&mut command);
}
