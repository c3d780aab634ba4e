//! The alerts of the `PrometheusRule`: valid, tested to fire and to stay quiet, and about metrics
//! that exist.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{helm, tools, yaml};

/// Groups as the chart renders them for the case `operators`, with every alert in force.
pub(crate) fn groups(helm: &Path) -> Value {
    let sets = [
        "prometheusRule.disabled=[]",
        "prometheusRule.overrides={}",
        r#"canary.existingSecret="canary""#,
        "canary.cronJob.enabled=true",
    ];
    let output = helm::template(helm, &[helm::case("operators")], &sets);
    assert!(output.status.success(), "{}", tools::said(&output));
    let objects = yaml::documents(&String::from_utf8(output.stdout).unwrap());
    helm::object(&objects, "PrometheusRule", "exfilwatch")["spec"].clone()
}

/// Each rule of the groups.
pub(crate) fn each(groups: &Value) -> impl Iterator<Item = &Value> {
    let groups = groups["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap())
}

#[test]
fn alerts_are_valid_and_fire_when_they_should_and_only_then() {
    let (Some(promtool), Some([helm, _])) = (tools::tool("promtool"), tools::helms()) else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let mut groups = groups(&helm);
    // JSON is YAML.
    fs::write(folder.path().join("whole.yaml"), groups.to_string()).unwrap();
    let mut command = Command::new(&promtool);
    command.current_dir(folder.path()).args(["check", "rules", "--lint-fatal", "whole.yaml"]);
    tools::run(&mut command);
    let tests = tests(&groups);
    // A test must name every annotation of an alert in full, or there are none.
    for group in groups["groups"].as_array_mut().unwrap() {
        for rule in group["rules"].as_array_mut().unwrap() {
            rule.as_object_mut().unwrap().remove("annotations");
            rule["labels"].as_object_mut().unwrap().remove("team");
        }
    }
    fs::write(folder.path().join("rules.yaml"), groups.to_string()).unwrap();
    fs::write(folder.path().join("tests.yaml"), tests.to_string()).unwrap();
    let mut command = Command::new(&promtool);
    tools::run(command.current_dir(folder.path()).args(["test", "rules", "tests.yaml"]));
}

/// What `alert_cases.yaml` says, as promtool wants it.
fn tests(groups: &Value) -> Value {
    let cases = yaml::document(&tools::read("tests/chart/alert_cases.yaml"));
    let cases = cases.as_object().unwrap();
    let mut tests = Vec::new();
    let mut tested = BTreeSet::new();
    for rule in each(groups) {
        let name = rule["alert"].as_str().unwrap();
        let case = cases.get(name).unwrap_or_else(|| panic!("{name} has no test"));
        tested.insert(name);
        let at = case["at"].as_str().unwrap_or("59m");
        for (which, fires) in [("fires", true), ("quiet", false)] {
            let series = case[which]["series"].as_object().unwrap().iter();
            let full = |name: &str| name.replace("{L", r#"{job="exfilwatch",namespace="watch""#);
            let series: Vec<Value> = series
                .map(|(name, values)| json!({"series": full(name), "values": values}))
                .collect();
            let mut expected = Vec::new();
            for labels in case[which]["labels"].as_array().into_iter().flatten() {
                let mut labels = labels.clone();
                labels["severity"] = rule["labels"]["severity"].clone();
                expected.push(json!({"exp_labels": labels}));
            }
            assert_eq!(fires, !expected.is_empty(), "{name}: labels where it fires");
            let test = json!({"eval_time": at, "alertname": name, "exp_alerts": expected});
            tests.push(json!({
                "name": format!("{name} {which}"), "interval": "1m",
                "input_series": series, "alert_rule_test": [test],
            }));
        }
    }
    let left: Vec<&String> = cases.keys().filter(|name| !tested.contains(name.as_str())).collect();
    assert!(left.is_empty(), "tests of no alert: {left:?}");
    json!({"rule_files": ["rules.yaml"], "tests": tests})
}

/// Names of metrics in an expression.
pub(crate) fn metrics(expression: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut names = BTreeSet::new();
    for prefix in ["exfilwatch_", "process_", "scrape_"] {
        for (at, _) in expression.match_indices(prefix) {
            let begins = !expression[..at].ends_with(word);
            let rest = &expression[at..];
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            if begins {
                names.insert(rest[..end].to_owned());
            }
        }
    }
    names
}

/// Whether `docs/METRICS.md` names it, or every process or scrape has it.
pub(crate) fn exists(metric: &str) -> bool {
    let listed = tools::read("docs/METRICS.md");
    let known = |name: &str| listed.contains(&format!("`{name}`"));
    let histogram = ["_bucket", "_sum", "_count"];
    let base = histogram.iter().find_map(|suffix| metric.strip_suffix(suffix));
    metric.starts_with("process_")
        || metric.starts_with("scrape_")
        || known(metric)
        || base.is_some_and(known)
}

/// Every metric in an expression with all that it is selected by.
pub(crate) fn selectors(expression: &str) -> BTreeSet<String> {
    let mut selectors = BTreeSet::new();
    for metric in metrics(expression) {
        for inside in expression.split(&format!("{metric}{{")).skip(1) {
            let selector = inside.split('}').next().unwrap_or_default();
            selectors.insert(format!("{metric}{{{selector}}}"));
        }
    }
    selectors
}

/// Labels that an expression selects a metric by.
pub(crate) fn labels_beside(expression: &str, metric: &str) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    for inside in expression.split(&format!("{metric}{{")).skip(1) {
        let selector = inside.split('}').next().unwrap_or_default();
        let named = selector.split(',').filter_map(|part| part.split(['=', '!']).next());
        labels.extend(named.map(|name| name.trim().to_owned()));
    }
    labels
}

#[test]
fn alerts_are_about_metrics_that_exist() {
    let file = yaml::document(&tools::read("helm/exfilwatch/alerts/exfilwatch.yaml"));
    for rule in each(&file) {
        for metric in metrics(rule["expr"].as_str().unwrap()) {
            assert!(exists(&metric), "{}: {metric} is not in docs/METRICS.md", rule["alert"]);
        }
    }
}

#[test]
fn every_alert_is_of_the_release_alone() {
    let Some([helm, _]) = tools::helms() else { return };
    for rule in each(&groups(&helm)) {
        let expression = rule["expr"].as_str().unwrap();
        let mine = expression.matches(r#"namespace="watch",job="exfilwatch""#).count();
        let selected = metrics(expression).len();
        assert!(mine >= selected && mine >= 1, "{}: {expression}", rule["alert"]);
    }
}
