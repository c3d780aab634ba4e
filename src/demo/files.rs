//! The files that the demo runs on and leaves behind: what a user's own would look like.

use std::fmt::Write as _;

use super::{
    limits::{LIMITS, MARGIN_PERCENT},
    organisation::CUSTOMERS,
};

/// The topic that the organisation's databases write to.
pub const INPUT_TOPIC: &str = "crm-query-events";
/// Partitions of every topic.
pub const PARTITIONS: u32 = 4;
/// Id of the demo's rule.
pub const RULE: &str = "customer-records";

/// Name of the configuration.
pub const CONFIG_FILE: &str = "exfilwatch.yaml";
/// Name of the rule file beside it.
pub const RULES_FILE: &str = "rules.yaml";
/// Every event in the order in which detect read it.
pub const EVENTS_FILE: &str = "events.ndjson.zst";
/// Every alert as it came out of the alert topic.
pub const ALERTS_FILE: &str = "alerts.ndjson";

/// The rule: fixed limits on records of labelled tables, by principal.
#[must_use]
pub fn rules() -> String {
    let mut limits = String::new();
    for limit in LIMITS {
        let window = format!("{},", limit.window);
        // Writing into a string does not fail.
        let _ = writeln!(
            limits,
            "      - {{window: {window:4} above: {}, severity: {}}}",
            limit.above, limit.severity
        );
    }
    format!(
        "# Limits learnt from quiet organisations where nobody steals: the busiest colleague over\n\
         # the window and a fifth, and {MARGIN_PERCENT} % more. The insider was never looked at.\n\
         rules:\n\
         \x20 - id: {RULE}\n\
         \x20   title: Customer records leaving the support database\n\
         \x20   severity: high\n\
         \x20   where:  {{object.labels: [pii], operation: [select, copy]}}\n\
         \x20   unless: {{principal.groups: [etl]}}\n\
         \x20   group_by: principal.id\n\
         \x20   measure: rows\n\
         \x20   limits:\n{limits}"
    )
}

/// The configuration, for a broker at `bootstrap_servers`.
#[must_use]
pub fn config(bootstrap_servers: &str) -> String {
    format!(
        "# The demo's configuration. Its broker ended with it; `exfilwatch replay` needs none.\n\
         kafka:\n\
         \x20 bootstrap_servers: \"{bootstrap_servers}\"\n\
         \x20 create_topics: {{partitions: {PARTITIONS}, replication: 1}}\n\
         inputs:\n\
         \x20 - topic: {INPUT_TOPIC}\n\
         http: {{listen: \"127.0.0.1:0\"}}\n\
         catalog:\n\
         \x20 - object: crm.public.customers\n\
         \x20   labels: [pii]\n\
         \x20   row_count: {CUSTOMERS}\n\
         \x20 - object: \"crm.public.customer_*\"\n\
         \x20   labels: [pii]\n\
         rules: [{RULES_FILE}]\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_file_names_every_limit() {
        let text = rules();
        for limit in LIMITS {
            let line = format!("above: {}, severity: {}", limit.above, limit.severity);
            assert!(text.contains(&line), "{text}");
        }
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    }
}
