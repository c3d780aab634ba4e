//! The runbook has a section for every alert, and every link to it leads there.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{tools::read, yaml};

/// Alerts of the chart.
fn alerts() -> Vec<Value> {
    let file = yaml::document(&read("helm/exfilwatch/alerts/exfilwatch.yaml"));
    let groups = file["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// Headings of the runbook by anchor, with what stands below each.
fn sections() -> Vec<(String, String)> {
    let text = read("docs/RUNBOOK.md");
    let parts = text.split("\n## ").skip(1);
    let section = |part: &str| {
        let (heading, body) = part.split_once('\n').unwrap();
        (heading.trim().to_lowercase().replace(' ', "-"), body.to_owned())
    };
    parts.map(section).collect()
}

#[test]
fn every_alert_has_severity_summary_description_and_a_section_of_the_runbook() {
    let anchors: BTreeSet<String> = sections().into_iter().map(|(anchor, _)| anchor).collect();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
        for text in ["summary", "description"] {
            let text = alert["annotations"][text].as_str().unwrap();
            assert!(text.len() > 15, "{name}: {text}");
        }
        let url = alert["annotations"]["runbook_url"].as_str().unwrap();
        let (page, anchor) = url.split_once('#').unwrap();
        assert_eq!((page, anchor), ("@RUNBOOK@", name.to_lowercase().as_str()), "{name}");
        assert!(anchors.contains(anchor), "docs/RUNBOOK.md has no section {name}");
    }
}

#[test]
fn every_section_of_the_runbook_is_about_an_alert_and_says_what_to_do() {
    let named: BTreeSet<String> =
        alerts().iter().map(|alert| alert["alert"].as_str().unwrap().to_lowercase()).collect();
    for (anchor, body) in sections() {
        assert!(named.contains(&anchor), "{anchor} is no alert");
        for part in ["**It means.**", "**Look at.**", "**Do.**"] {
            assert!(body.contains(part), "{anchor} has no {part}");
        }
    }
}

#[test]
fn dashboards_link_to_sections_of_the_runbook_that_exist() {
    let anchors: BTreeSet<String> = sections().into_iter().map(|(anchor, _)| anchor).collect();
    for name in crate::dashboards::NAMES {
        let text = read(&format!("helm/exfilwatch/dashboards/{name}.json"));
        let links = text.split("${runbook}#").skip(1);
        for anchor in links.filter_map(|rest| rest.split('"').next()) {
            assert!(anchors.contains(anchor), "{name}: no section {anchor}");
        }
    }
}
