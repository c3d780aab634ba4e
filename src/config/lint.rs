//! Doubts: configurations that are valid but probably do not watch what their author thinks.
//!
//! A rule that can never fire is the commonest blindness: all is green and nothing is counted.
//! Each doubt is a warning; none stops a start.

use wildmatch::WildMatch;

use super::check::Check;
use super::doc::place;
use super::rules::{Origin, Origins};
use super::{CatalogEntry, Config, Fault, Input};
use crate::event::Format;
use crate::rules::written::WrittenRule;
use crate::rules::{Field, GroupBy, Measure};

/// What no record of a format says, whatever the source.
fn never_said(format: Format) -> &'static [Field] {
    match format {
        Format::Canonical | Format::Arrow => &[],
        Format::Trino => &[Field::PrincipalTenant, Field::ObjectLabels],
    }
}

impl Check<'_> {
    fn warn(&mut self, path: &[String], problem: String, hint: &str) {
        let warning = self.doc.fault(path, problem, Some(hint.to_owned()));
        self.report.warn(warning);
    }
}

/// Doubts about one rule, whatever it will read.
pub(super) fn rule(rule: &WrittenRule, place: &[String], check: &mut Check<'_>) {
    let at = |keys: &[&str]| {
        let mut path = place.to_vec();
        path.extend(keys.iter().map(ToString::to_string));
        path
    };
    descending_limits(rule, &at(&["limits"]), check);
    let unknown_only = |(field, globs): &(Field, Vec<String>)| {
        let exact = |glob: &String| {
            let glob = WildMatch::new_case_insensitive(glob);
            glob.matches("exact") || glob.matches("upper_bound")
        };
        *field == Field::RowsQuality && !globs.iter().any(exact)
    };
    if rule.measure == Measure::Rows && rule.wanted.iter().any(unknown_only) {
        let problem = "an unknown count adds nothing to rows, so this rule can never fire";
        check.warn(&at(&["measure"]), problem.to_owned(), "use `measure: queries`");
    }
    for (field, globs) in rule.wanted.iter().filter(|(field, _)| *field == Field::Object) {
        for glob in globs.iter().filter(|glob| !glob.contains('.') && !glob.starts_with('*')) {
            let problem = format!("`{glob}` matches no full name with a database or schema");
            let hint = format!("write `*.{glob}`, or use object.name");
            check.warn(&at(&["where", field.as_str()]), problem, &hint);
        }
    }
}

/// A longer window holds at least what a shorter one holds: with a lower limit it comes first.
fn descending_limits(rule: &WrittenRule, place: &[String], check: &mut Check<'_>) {
    let mut limits: Vec<_> = rule.limits.iter().enumerate().collect();
    limits.sort_by_key(|(_, limit)| (limit.window, limit.above));
    let severity = |index: usize| rule.limits[index].severity.unwrap_or(rule.severity);
    for (position, (index, limit)) in limits.iter().enumerate() {
        let sooner = limits[position + 1..].iter().find(|(other_index, other)| {
            other.window > limit.window
                && other.above <= limit.above
                && severity(*other_index) >= severity(*index)
        });
        if let Some((_, other)) = sooner {
            let problem = format!(
                "the limit of {} in {} is never the first: {} in {} is crossed before it",
                limit.above, limit.window, other.above, other.window
            );
            let at = [place, &[index.to_string()]].concat();
            check.warn(&at, problem, "give the longer window the higher limit");
        }
    }
}

/// Doubts about rules and inputs together.
pub(super) fn config(config: &Config, origins: &Origins, check: &mut Check<'_>) {
    shadowed_entries(config, check);
    chained_aliases(config, check);
    let mut doubt = |rule: &WrittenRule, (what, hint): (String, &str)| {
        let problem = format!("rule `{}` {what}, so it can never fire", rule.id);
        let Some(Origin { file, at, path }) = origins.get(&rule.id).cloned() else { return };
        check.report.warn(Fault { file, at, path, problem, hint: Some(hint.to_owned()) });
    };
    for rule in config.rules.iter().filter(|_| !config.inputs.is_empty()) {
        let wanted = rule.wanted.iter().filter_map(|(field, globs)| unsaid(config, *field, globs));
        for reason in wanted.chain(ungrouped(config, rule.group_by)) {
            doubt(rule, reason);
        }
    }
}

fn carries(input: &Input, field: Field) -> bool {
    !never_said(input.format).contains(&field)
        || (field == Field::PrincipalTenant && input.source.tenant.is_some())
}

/// Why no event can match a key of `where`, and what to do.
fn unsaid(config: &Config, field: Field, globs: &[String]) -> Option<(String, &'static str)> {
    if config.inputs.iter().any(|input| carries(input, field)) {
        return None;
    }
    let one = |value: &String| {
        globs.iter().any(|glob| WildMatch::new_case_insensitive(glob).matches(value))
    };
    let labelled = config.catalog.iter().any(|entry| entry.labels.iter().any(one));
    let hint = match field {
        Field::ObjectLabels if labelled => return None,
        Field::ObjectLabels => "give the objects the label in `catalog`",
        _ => "set it in inputs[].source",
    };
    let globs = globs.join(" or ");
    Some((format!("wants {} to be {globs}, which no input says", field.as_str()), hint))
}

/// Why no event can have a key, and what to do.
fn ungrouped(config: &Config, group_by: GroupBy) -> Option<(String, &'static str)> {
    let silent = group_by == GroupBy::PrincipalTenant
        && !config.inputs.iter().any(|input| carries(input, Field::PrincipalTenant));
    let what = || format!("groups by {}, which no input says", group_by.as_str());
    silent.then(|| (what(), "set inputs[].source.tenant"))
}

/// The first match wins, so an entry behind a wider one is dead.
fn shadowed_entries(config: &Config, check: &mut Check<'_>) {
    for (index, entry) in config.catalog.iter().enumerate() {
        let covers = |earlier: &&CatalogEntry| covers(&earlier.object, &entry.object);
        if let Some(earlier) = config.catalog[..index].iter().find(covers) {
            let problem =
                format!("`{}` is never reached: `{}` matches first", entry.object, earlier.object);
            check.warn(&place!["catalog", index, "object"], problem, "put the narrower one first");
        }
    }
}

/// Whether every name that matches `narrow` matches `wide`. A star of `narrow` is tried as nothing
/// and as a text no pattern names, which decides all but contrived patterns.
fn covers(wide: &str, narrow: &str) -> bool {
    let wide = WildMatch::new_case_insensitive(wide);
    ["", "\u{1}\u{2}\u{3}"]
        .iter()
        .all(|star| wide.matches(&narrow.replace('*', star).replace('?', "\u{1}")))
}

/// Aliases are applied once.
fn chained_aliases(config: &Config, check: &mut Check<'_>) {
    let aliases = &config.identity.aliases;
    for (name, principal) in aliases {
        let next = aliases.iter().find(|(other, target)| {
            other.to_lowercase() == principal.to_lowercase() && other != name && target != principal
        });
        if let Some((_, target)) = next {
            let problem = format!("`{principal}` is itself an alias of `{target}`");
            let hint = format!("aliases are applied once; write `{target}` here");
            check.warn(&place!["identity", "aliases", name], problem, &hint);
        }
    }
}
