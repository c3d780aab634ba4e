//! From rules as written to the set the engine runs: meters shared, limits sorted, revision named.
//!
//! Meter identity and revision are hashes and texts that outlive the process (checkpoints, alerts),
//! so they are built from canonical JSON and a hash with a fixed key, never from `Debug` or the
//! standard hasher. Compiling cannot fail: what could is refused by the shell's `config` before.

use std::hash::Hasher;

use serde_json::{Map, Value, json};
use siphasher::sip::SipHasher13;

use super::field::Field;
use super::written::WrittenRule;
use super::{Filter, Limit, Meter, Rule, RuleSet, Severity, fold};

/// Compiles checked rules; their ids are unique and each has a limit.
#[must_use]
pub fn compile(rules: &[WrittenRule]) -> RuleSet {
    let mut set = RuleSet {
        revision: revision(rules),
        rules: Vec::new(),
        meters: Vec::new(),
        written: rules.to_vec(),
    };
    for rule in rules {
        let identity = identity(rule);
        let found = set.meters.iter().position(|meter| meter.identity == identity);
        let meter = found.unwrap_or_else(|| {
            set.meters.push(Meter {
                identity,
                filter: filter(rule),
                group_by: rule.group_by,
                measure: rule.measure,
                windows: Vec::new(),
                limits: Vec::new(),
            });
            set.meters.len() - 1
        });
        set.meters[meter].windows.extend(rule.limits.iter().map(|limit| limit.window));
        set.rules.push(Rule {
            id: rule.id.clone(),
            title: rule.title.clone(),
            severity: rule.severity,
            meter,
        });
    }
    for (index, meter) in set.meters.iter_mut().enumerate() {
        meter.windows.sort_unstable();
        meter.windows.dedup();
        meter.limits = limits(index, &meter.windows, rules, &set.rules);
    }
    set
}

fn filter(rule: &WrittenRule) -> Filter {
    if rule.is_canary() { Filter::canaries() } else { Filter::new(&rule.wanted, &rule.unless) }
}

/// The limits of all rules on one meter, sorted by (rule, window, above).
fn limits(
    meter: usize,
    windows: &[crate::units::WindowSpan],
    written: &[WrittenRule],
    rules: &[Rule],
) -> Vec<Limit> {
    let mut limits = Vec::new();
    for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.meter == meter) {
        for limit in &written[index].limits {
            limits.push(Limit {
                rule: index,
                window: windows.partition_point(|window| *window < limit.window),
                above: limit.above,
                severity: limit.severity.unwrap_or(rule.severity),
            });
        }
    }
    limits.sort_by_key(|limit| (limit.rule, limit.window, limit.above));
    limits
}

/// Canonical text of (filter, group-by, measure): equal for filters that differ only in the order,
/// case or repetition of their values.
fn identity(rule: &WrittenRule) -> String {
    let mut keys = json!({
        "measure": rule.measure.as_str(),
        "group_by": rule.group_by.as_str(),
        "where": clause(&rule.wanted),
        "unless": clause(&rule.unless),
    });
    if rule.is_canary() {
        keys["canary"] = true.into();
    }
    keys.to_string()
}

fn clause(keys: &[(Field, Vec<String>)]) -> Value {
    let mut sorted: Vec<_> = keys.iter().collect();
    sorted.sort_by_key(|(field, _)| *field);
    let key = |(field, globs): &(Field, Vec<String>)| {
        let mut globs: Vec<String> = globs.iter().map(|glob| fold(glob)).collect();
        globs.sort_unstable();
        globs.dedup();
        (field.as_str().to_owned(), Value::from(globs))
    };
    Value::Object(sorted.into_iter().map(key).collect::<Map<_, _>>())
}

/// 16 hex digits over everything the rules say, in their order.
fn revision(rules: &[WrittenRule]) -> String {
    let mut hasher = SipHasher13::new_with_keys(0x6578_6669_6c77_6174, 0x6368_2e72_756c_6573);
    for rule in rules {
        let limits: Vec<Value> = rule
            .limits
            .iter()
            .map(|it| json!([it.window.secs(), it.above, it.severity.map(Severity::as_str)]))
            .collect();
        let text = json!([rule.id, rule.title, rule.severity.as_str(), identity(rule), limits]);
        hasher.write(text.to_string().as_bytes());
        hasher.write_u8(b'\n'); // never inside JSON text, so rules cannot run into each other
    }
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::written::{WrittenLimit, canary_rule, default_rules};
    use crate::rules::{GroupBy, Measure};
    use crate::units::WindowSpan;

    fn limit(span_s: u64, above: u64) -> WrittenLimit {
        WrittenLimit { window: WindowSpan::from_secs(span_s).unwrap(), above, severity: None }
    }

    fn rule(id: &str, limits: Vec<WrittenLimit>) -> WrittenRule {
        WrittenRule {
            id: id.to_owned(),
            title: id.to_owned(),
            severity: Severity::High,
            wanted: vec![
                (Field::ObjectLabels, vec!["pii".to_owned()]),
                (Field::Operation, vec!["select".to_owned(), "copy".to_owned()]),
            ],
            unless: vec![(Field::PrincipalGroups, vec!["etl".to_owned()])],
            group_by: GroupBy::PrincipalId,
            measure: Measure::Rows,
            limits,
        }
    }

    #[test]
    fn rules_with_the_same_filter_grouping_and_measure_share_a_meter() {
        let mut same = rule("b", vec![limit(86_400, 9), limit(3600, 7)]);
        same.wanted[1].1 = vec!["COPY".into(), "select".into(), "copy".into()];
        let mut other = rule("c", vec![limit(3600, 1)]);
        other.measure = Measure::Queries;
        let set = compile(&[rule("a", vec![limit(3600, 5), limit(60, 2)]), same, other]);

        assert_eq!(set.meters.len(), 2);
        assert_eq!(set.rules.iter().map(|rule| rule.meter).collect::<Vec<_>>(), [0, 0, 1]);
        let windows: Vec<u32> = set.meters[0].windows.iter().map(|window| window.secs()).collect();
        assert_eq!(windows, [60, 3600, 86_400]);
        let limits: Vec<_> =
            set.meters[0].limits.iter().map(|it| (it.rule, it.window, it.above)).collect();
        assert_eq!(limits, [(0, 0, 2), (0, 1, 5), (1, 1, 7), (1, 2, 9)]);
        assert_eq!(set.routes(), [GroupBy::PrincipalId]);
    }

    #[test]
    fn each_part_of_the_identity_keeps_meters_apart() {
        let plain = rule("a", vec![limit(60, 1)]);
        let mut variants = vec![plain.clone(); 5];
        variants[1].group_by = GroupBy::Object;
        variants[2].measure = Measure::Bytes;
        variants[3].wanted[0].1[0] = "secret".to_owned();
        variants[4].wanted.clone_from(&plain.unless);
        variants[4].unless.clone_from(&plain.wanted);
        assert_eq!(compile(&variants).meters.len(), 5);
    }

    #[test]
    fn a_limit_without_severity_has_the_rules() {
        let mut written = rule("a", vec![limit(60, 1), limit(120, 1)]);
        written.limits[1].severity = Some(Severity::Critical);
        let severities: Vec<_> =
            compile(&[written]).meters[0].limits.iter().map(|it| it.severity).collect();
        assert_eq!(severities, [Severity::High, Severity::Critical]);
    }

    #[test]
    fn the_revision_is_the_same_for_the_same_text_and_pinned_over_versions() {
        let rules = [rule("a", vec![limit(60, 1)])];
        assert_eq!(compile(&rules).revision, compile(&rules.clone()).revision);
        assert_eq!(compile(&[]).revision.len(), 16);
        // These outlive the process: change them only with the checkpoint format.
        assert_eq!(compile(&rules).revision, "453db7d8683a2428");
        assert_eq!(
            compile(&rules).meters[0].identity,
            r#"{"measure":"rows","group_by":"principal.id","where":{"object.labels":["pii"],"#
                .to_owned()
                + r#""operation":["copy","select"]},"unless":{"principal.groups":["etl"]}}"#
        );
    }

    #[test]
    fn any_change_of_a_rule_changes_the_revision() {
        let plain = rule("a", vec![limit(60, 1)]);
        let mut variants = vec![plain.clone(); 6];
        variants[1].id = "b".to_owned();
        variants[2].title = "b".to_owned();
        variants[3].severity = Severity::Low;
        variants[4].limits[0].above = 2;
        variants[5].limits[0].severity = Some(Severity::High);
        let mut revisions: Vec<_> =
            variants.into_iter().map(|rule| compile(&[rule]).revision).collect();
        revisions.sort_unstable();
        revisions.dedup();
        assert_eq!(revisions.len(), 6);
    }

    #[test]
    fn the_rule_of_canaries_shares_its_meter_with_no_rule_that_reads_like_it() {
        let like = WrittenRule { id: "like".to_owned(), ..canary_rule() };
        let set = compile(&[like, canary_rule()]);
        assert_eq!(set.meters.len(), 2);
        assert_eq!(set.meters[1].limits[0].severity, Severity::Informational);
        assert_ne!(set.meters[0].identity, set.meters[1].identity);
    }

    #[test]
    fn the_default_rule_counts_reads_of_unknown_size() {
        let set = compile(&default_rules());
        assert_eq!(set.meters[0].measure, Measure::Queries);
        let windows: Vec<String> = set.meters[0].windows.iter().map(ToString::to_string).collect();
        assert_eq!(windows, ["1h", "24h", "30d"]);
    }
}
