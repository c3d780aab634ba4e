//! Prometheus metrics: one table of names, typed handles, one text for a scrape.
//!
//! Never here: a clock, and a label that an event could choose. Labels are closed sets or names
//! from the configuration, so the number of series does not depend on what is read.

pub mod family;
pub mod handles;
mod standing;
pub mod table;

use std::{fmt::Write as _, ops::Deref};

use prometheus::{
    Registry, TextEncoder,
    proto::{LabelPair, MetricFamily},
};

use crate::{
    alert::{Activity, Alert, Subject},
    event::DecodeError,
    rules::{RuleSet, written::CANARY},
    units::EventTime,
};

use family::CounterVec;

pub use family::Part;
pub use handles::{
    InputCounts, InputMetrics, LagMetrics, MatchMetrics, PartitionMetrics, RouteMetrics, Total,
};
pub use standing::StandingMetrics;
pub use table::{Families, Spec, TABLE};

/// All metrics of one process; every family of [`TABLE`] is a field.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Families,
}

impl Deref for Metrics {
    type Target = Families;

    fn deref(&self) -> &Families {
        &self.families
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Every metric, on a registry of its own.
    ///
    /// # Panics
    /// Never with the table as tested: names are valid and distinct.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let families = Families::register(&registry);
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("no name of the table begins with process_");
        let metrics = Self { registry, families };
        metrics.start_at_zero();
        metrics
    }

    /// What has not happened yet has been counted, too: a rate needs a value to start from, and an
    /// alert on a series that is not there never fires.
    fn start_at_zero(&self) {
        let series: [(&CounterVec, &[&str]); 5] = [
            (&self.delivery_failures, &["events", "alerts", "dead_letter"]),
            (&self.rule_reloads, &["applied", "unchanged", "refused"]),
            (&self.checkpoints, &["stored", "failed"]),
            (&self.restores, &["restored", "older", "nothing_kept", "unusable"]),
            (&self.dead_letters, &DecodeError::CODES),
        ];
        for (family, values) in series {
            for value in values {
                family.with_label_values(&[value]);
            }
        }
    }

    /// What a scrape answers, in the text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail, and a family without series is left out by gather().
        let _ = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text);
        text
    }

    /// `rules` are in force since `now`: their series exist, those of rules gone do not.
    pub fn rules_in_force(&self, rules: &RuleSet, now: EventTime) {
        self.rules_revision.reset();
        self.rules_revision.with_label_values(&[&rules.revision]).set(1.0);
        self.families
            .rules_in_force
            .set(f64::from(u32::try_from(rules.rules.len()).unwrap_or(u32::MAX)));
        self.forget_rules_except(rules);
        for rule in &rules.rules {
            self.rule_matched.with_label_values(&[&rule.id]);
            let last = self.rule_last_matched.with_label_values(&[&rule.id]);
            if last.get() == 0.0 {
                last.set(handles::epoch_seconds(now));
            }
        }
        for limit in rules.meters.iter().flat_map(|meter| &meter.limits) {
            let severity = limit.severity.as_str();
            let rule = &rules.rules[limit.rule].id;
            self.alerts_delivered.with_label_values(&[rule, severity, Activity::Create.as_str()]);
        }
    }

    fn forget_rules_except(&self, rules: &RuleSet) {
        use prometheus::core::Collector as _;
        let gone = self.rule_last_matched.collect();
        let ids = gone.iter().flat_map(MetricFamily::get_metric);
        for id in ids.filter_map(|series| series.get_label().first()).map(LabelPair::value) {
            if !rules.rules.iter().any(|rule| rule.id == id) {
                // Only fails for a series that is not there.
                let _ = self.rule_last_matched.remove_label_values(&[id]);
                let _ = self.rule_matched.remove_label_values(&[id]);
            }
        }
    }

    /// The alert topic acknowledged `alert` at `now`.
    pub fn alert_delivered(&self, alert: &Alert, now: EventTime) {
        let (rule, caused_at) = match &alert.subject {
            Subject::Rule(finding) => (finding.rule.clone(), alert.last_seen),
            Subject::System(finding) => {
                (format!("exfilwatch.{}", finding.kind.as_str()), alert.time)
            }
        };
        let labels = [rule.as_str(), alert.severity.as_str(), alert.activity.as_str()];
        self.alerts_delivered.with_label_values(&labels).inc();
        let latency = handles::epoch_seconds(now) - handles::epoch_seconds(caused_at);
        // A closing is caused by time that passed, not by an event.
        if alert.activity != Activity::Close {
            self.alert_latency.observe(latency.max(0.0));
        }
        if rule == CANARY && alert.activity == Activity::Create {
            self.canary_latency.observe(latency.max(0.0));
            let last = self.canary_last_success.with_label_values::<&str>(&[]);
            last.set(handles::epoch_seconds(now));
        }
    }

    /// Canaries may come, and none has yet.
    pub fn canaries_awaited(&self) {
        self.canary_last_success.with_label_values::<&str>(&[]).set(0.0);
    }
}

/// A half of the program, as labels, probes and logs write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads inputs, writes events.
    Ingest,
    /// Reads events, writes alerts.
    Detect,
}

impl Role {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingest, Self::Detect];

    /// Label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Detect => "detect",
        }
    }
}

/// The text of `docs/METRICS.md`.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(MARKDOWN_HEAD);
    for spec in TABLE {
        let labels = match spec.labels {
            [] => "none".to_owned(),
            labels => labels.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", "),
        };
        let Spec { name, kind, unit, help, .. } = spec;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| `{name}` | {kind} | {labels} | {unit} | {help} |");
    }
    out
}

const MARKDOWN_HEAD: &str = "\
# Metrics

Generated from the table in `src/metrics/table.rs`; to refresh it, run
`EXFILWATCH_BLESS=1 cargo test --lib metrics`. Served on `/metrics` in the Prometheus text format.

Label values come from closed sets or from the configuration (topics, rule ids, catalogue globs).
No principal, key, address or error text is ever a label, so the number of series does not depend
on what is read. Gauges speak for this process only; sum them over all. On Linux the usual
`process_*` metrics (CPU, resident memory, file descriptors, threads, start time) come with them.

| name | type | labels | unit | meaning |
| --- | --- | --- | --- | --- |
";

#[cfg(test)]
mod tests;
