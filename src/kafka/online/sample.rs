//! What the newest records of one input were understood to be, and which rules they match.
//!
//! Pure: records in, a summary out. It goes the way of ingest (decode, identity, catalogue) and of
//! the engine (filter, group key), so that what it says is what a run would do.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    config::Input,
    event::{Event, GroupBy, Outcome, catalog::Catalog, context::Context, identity::Identity},
    rules::{Measure, Meter, RuleSet, Verdict, filter::RowFields},
};

/// Events shown in full.
pub const EXAMPLES_MAX: usize = 5;
/// Distinct names listed of each kind.
pub const NAMES_MAX: usize = 20;

/// Summary of one input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InputReport {
    /// Topic.
    pub topic: String,
    /// Format it was read as.
    pub format: String,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Records read, the newest of each partition.
    pub records: u64,
    /// Events in them.
    pub events: u64,
    /// Records ignored, by reason.
    pub ignored: BTreeMap<String, u64>,
    /// Records or rows refused, by reason: how many, and the first message.
    pub refused: BTreeMap<String, (u64, String)>,
    /// Events without a record count; a rule that measures rows does not see them.
    pub without_rows: u64,
    /// Events without a byte count.
    pub without_bytes: u64,
    /// Keyed input: events whose record key is not their canonical principal.
    pub miskeyed: u64,
    /// Canonical principals, the first few.
    pub principals: BTreeSet<String>,
    /// Full names of objects, the first few, with their labels.
    pub objects: BTreeMap<String, Vec<String>>,
    /// Labels of all objects, catalogue applied.
    pub labels: BTreeSet<String>,
    /// The first events in full.
    pub examples: Vec<Example>,
    /// Events by the rule that counts them.
    pub matched: BTreeMap<String, u64>,
    /// Objects by the catalogue entry that describes them.
    pub catalog: BTreeMap<String, u64>,
}

/// One event as it was understood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Principal as written.
    pub written: String,
    /// Principal it is charged to.
    pub principal: String,
    /// Event time, milliseconds since the epoch.
    pub event_time_ms: i64,
    /// Full names.
    pub objects: Vec<String>,
    /// Operation.
    pub operation: Option<String>,
    /// Records delivered, if known.
    pub rows: Option<u64>,
    /// Bytes delivered, if known.
    pub bytes: Option<u64>,
}

/// Reads the records of one input.
pub struct Sampler<'a> {
    input: &'a Input,
    identity: &'a Identity,
    catalog: &'a Catalog,
    entries: &'a [crate::event::catalog::CatalogEntry],
    rules: &'a RuleSet,
    report: InputReport,
}

impl<'a> Sampler<'a> {
    /// With nothing read.
    #[must_use]
    pub fn new(
        input: &'a Input,
        identity: &'a Identity,
        catalog: &'a Catalog,
        entries: &'a [crate::event::catalog::CatalogEntry],
        rules: &'a RuleSet,
    ) -> Self {
        let report = InputReport {
            topic: input.topic.clone(),
            format: input.format.as_str().to_owned(),
            ..InputReport::default()
        };
        Self { input, identity, catalog, entries, rules, report }
    }

    /// Reads one record.
    pub fn read(&mut self, key: Option<&[u8]>, payload: Option<&[u8]>) {
        self.report.records += 1;
        let Some(payload) = payload else {
            *self.report.ignored.entry("null_value".to_owned()).or_default() += 1;
            return;
        };
        let mut decoder = self.input.format.decoder();
        let (input, mut refused) = (self.input, Vec::new());
        let outcome = decoder.decode(payload, &input.source, &mut |_, row| match row {
            Outcome::Event(event) => self.understand(event, key),
            Outcome::Ignored(reason) => {
                *self.report.ignored.entry(reason.code().to_owned()).or_default() += 1;
            }
            Outcome::Refused(error) => refused.push(error),
        });
        for error in refused.into_iter().chain(outcome.err()) {
            let message = error.to_string();
            let entry = self.report.refused.entry(error.code().to_owned());
            entry.or_insert((0, message)).0 += 1;
        }
    }

    /// The summary.
    #[must_use]
    pub fn finish(self) -> InputReport {
        self.report
    }

    fn understand(&mut self, event: &Event<'_>, key: Option<&[u8]>) {
        let (context, entries) = Context::of(event, self.catalog);
        let tenant = event.principal.tenant.as_deref();
        let instance = event.source.instance.as_deref();
        let mut scratch = String::new();
        let principal =
            self.identity.canonical(&event.principal.id, tenant, instance, &mut scratch);
        self.report.events += 1;
        self.report.without_rows += u64::from(event.rows.is_none());
        self.report.without_bytes += u64::from(event.bytes.is_none());
        let miskeyed = self.input.keyed && key != Some(principal.as_bytes());
        self.report.miskeyed += u64::from(miskeyed);
        if self.report.principals.len() < NAMES_MAX {
            self.report.principals.insert(principal.to_owned());
        }
        for object in &context.objects {
            let labels: Vec<String> = object.labels.iter().map(ToString::to_string).collect();
            self.report.labels.extend(labels.iter().take(NAMES_MAX).cloned());
            if self.report.objects.len() < NAMES_MAX {
                self.report.objects.insert(object.full_name.to_string(), labels);
            }
        }
        for entry in entries {
            let glob = self.entries[entry].object.clone();
            *self.report.catalog.entry(glob).or_default() += 1;
        }
        let row = RowFields {
            principal,
            client_address: event.client_address.as_deref(),
            query_fingerprint: event.query_fingerprint.as_deref(),
        };
        for rule in &self.rules.rules {
            if counts(&self.rules.meters[rule.meter], event, &context, row) {
                *self.report.matched.entry(rule.id.clone()).or_default() += 1;
            }
        }
        if self.report.examples.len() < EXAMPLES_MAX {
            self.report.examples.push(Example {
                written: event.principal.id.to_string(),
                principal: principal.to_owned(),
                event_time_ms: event.event_time.millis(),
                objects: context.objects.iter().map(|one| one.full_name.to_string()).collect(),
                operation: event.operation.as_ref().map(ToString::to_string),
                rows: event.rows,
                bytes: event.bytes,
            });
        }
    }
}

/// Whether a meter adds anything for this event: it has the key, passes the filter, and carries
/// what is measured.
fn counts(meter: &Meter, event: &Event<'_>, context: &Context, row: RowFields<'_>) -> bool {
    let keyed = match meter.group_by {
        GroupBy::PrincipalId => true,
        GroupBy::PrincipalTenant => event.principal.tenant.is_some(),
        GroupBy::ClientAddress => event.client_address.is_some(),
        GroupBy::Object => !context.objects.is_empty(),
        GroupBy::SourceInstance => event.source.instance.is_some(),
    };
    let measured = match meter.measure {
        Measure::Rows => event.rows.is_some(),
        Measure::Bytes => event.bytes.is_some(),
        Measure::Queries => true,
    };
    let matches = |object| match meter.filter.on_context(context, object) {
        Verdict::Always => true,
        Verdict::Never => false,
        Verdict::PerRow => meter.filter.matches_row(context, object, row),
    };
    let filtered = match meter.group_by {
        GroupBy::Object => (0..context.objects.len()).any(|object| matches(Some(object))),
        _ => matches(None),
    };
    keyed && measured && filtered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Start,
        event::{Format, SourceDefaults, catalog::CatalogEntry, identity::IdentitySpec},
        rules::{
            Severity,
            compile::compile,
            field::Field,
            written::{WrittenLimit, WrittenRule},
        },
        units::WindowSpan,
    };

    fn rule(id: &str, label: &str, measure: Measure) -> WrittenRule {
        WrittenRule {
            id: id.to_owned(),
            title: id.to_owned(),
            severity: Severity::High,
            wanted: vec![(Field::parse("object.labels").unwrap(), vec![label.to_owned()])],
            unless: Vec::new(),
            group_by: GroupBy::PrincipalId,
            measure,
            limits: vec![WrittenLimit { window: WindowSpan::MIN, above: 1, severity: None }],
        }
    }

    fn sample(records: &[Option<&str>]) -> InputReport {
        let records: Vec<_> = records.iter().map(|record| (None, *record)).collect();
        sample_with_keys(&records, false)
    }

    fn sample_with_keys(records: &[(Option<&str>, Option<&str>)], keyed: bool) -> InputReport {
        let input = Input {
            topic: "raw".to_owned(),
            format: Format::Canonical,
            start: Start::Earliest,
            keyed,
            retries: false,
            source: SourceDefaults::default(),
        };
        let entries = [CatalogEntry {
            object: "crm.*".to_owned(),
            labels: vec!["pii".to_owned()],
            row_count: None,
        }];
        let catalog = Catalog::new(entries.to_vec());
        let identity = Identity::new(&IdentitySpec::default());
        let rules = compile(&[
            rule("pii-rows", "pii", Measure::Rows),
            rule("pii-bytes", "pii", Measure::Bytes),
            rule("typo", "pi", Measure::Rows),
        ]);
        let mut sampler = Sampler::new(&input, &identity, &catalog, &entries, &rules);
        for (key, record) in records {
            sampler.read(key.map(str::as_bytes), record.map(str::as_bytes));
        }
        sampler.finish()
    }

    const EVENT: &str = r#"{"event_time":"2026-01-05T00:00:00Z","principal":"JDoe",
        "source":{"kind":"postgresql"},"objects":["crm.public.customers"],"rows":7}"#;

    #[test]
    fn report_says_what_was_understood_and_which_rules_count_it() {
        let report = sample(&[Some(EVENT), Some(EVENT), None, Some("{")]);
        assert_eq!((report.records, report.events), (4, 2));
        assert_eq!(report.ignored["null_value"], 1);
        assert_eq!(report.refused.values().map(|(count, _)| *count).sum::<u64>(), 1);
        assert_eq!(report.principals, ["jdoe".to_owned()].into());
        assert_eq!(report.objects["crm.public.customers"], ["pii"]);
        assert_eq!(report.catalog["crm.*"], 2);
        assert_eq!(report.examples[0].written, "JDoe");
        assert_eq!(report.matched.get("pii-rows"), Some(&2));
        assert_eq!(report.matched.get("typo"), None, "no object has that label");
    }

    #[test]
    fn keys_of_a_keyed_input_are_compared_with_the_canonical_principal() {
        let records = [Some("jdoe"), Some("JDoe"), None].map(|key| (key, Some(EVENT)));
        assert_eq!(sample_with_keys(&records, true).miskeyed, 2);
        assert_eq!(sample_with_keys(&records, false).miskeyed, 0, "no key is asked for");
    }

    #[test]
    fn rule_that_measures_what_records_do_not_carry_matches_nothing() {
        let report = sample(&[Some(EVENT)]);
        assert_eq!(report.without_bytes, 1);
        assert_eq!(report.matched.get("pii-bytes"), None);
    }
}
