//! Rules from files and from in place, with the shipped ones: found by glob, checked, made unique.
//!
//! A glob stands only in the last part of a path, so that each has one folder to watch.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use wildmatch::WildMatch;

use super::check::Check;
use super::doc::{Doc, Report, place};
use super::raw::{Patterns, RawClause, RawLimit, RawRule, RawRuleEntry, RawRuleFile};
use super::values::{FilePath, Glob, List, Name, RuleId, Text};
use super::yaml::At;
use super::{lint, schema};
use crate::rules::written::{WrittenLimit, WrittenRule, default_rules};
use crate::rules::{Field, GroupBy, Measure, Severity};

/// Most rule files one path may match.
pub const RULE_FILES_MAX: usize = 1000;
/// Most rules in force.
pub const RULES_MAX: usize = 1000;

/// What a load found.
pub(super) struct Found {
    pub(super) rules: Vec<WrittenRule>,
    /// The files and globs they came from.
    pub(super) paths: Vec<PathBuf>,
    /// Where each rule is, by id; the shipped ones are nowhere.
    pub(super) origins: Origins,
}

/// Where a rule was written, by its id.
pub(super) type Origins = HashMap<String, Origin>;

/// Where something was written.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) file: PathBuf,
    pub(super) at: At,
    pub(super) path: String,
}

/// Rules so far.
#[derive(Default)]
struct Gathered {
    rules: Vec<WrittenRule>,
    origins: Origins,
}

/// Reads all rules a configuration names.
pub(super) fn load(
    file: &Path,
    entries: List<RawRuleEntry>,
    defaults: bool,
    check: &mut Check<'_>,
) -> Found {
    let mut gathered = Gathered::default();
    let mut paths = vec![file.to_owned()];
    let mut read = BTreeSet::new();
    for (index, entry) in entries.0 {
        let place = place!["rules", index].to_vec();
        match entry {
            RawRuleEntry::Rule(raw) => rule(*raw, &place, check, &mut gathered),
            RawRuleEntry::Path(Text(FilePath(pattern))) => {
                let path = file.parent().unwrap_or_else(|| Path::new("")).join(&pattern);
                for file in expand(&path, &pattern, &place, check) {
                    if read.insert(file.clone()) {
                        rule_file(&file, check.report, &mut gathered);
                    }
                }
                paths.push(path);
            }
        }
    }
    if defaults {
        let given = |rule: &WrittenRule| gathered.origins.contains_key(&rule.id);
        let shipped: Vec<_> = default_rules().into_iter().filter(|rule| !given(rule)).collect();
        gathered.rules.extend(shipped);
    }
    if gathered.rules.len() > RULES_MAX {
        let problem = format!("{} rules; at most {RULES_MAX} are allowed", gathered.rules.len());
        check.fault(&place!["rules"], problem, "");
    }
    paths.sort_unstable();
    paths.dedup();
    Found { rules: gathered.rules, paths, origins: gathered.origins }
}

/// Reads one rule file alone, as `rules lint FILE` does.
pub(super) fn load_file(file: &Path, report: &mut Report) -> Vec<WrittenRule> {
    let mut gathered = Gathered::default();
    rule_file(file, report, &mut gathered);
    gathered.rules
}

fn rule_file(file: &Path, report: &mut Report, gathered: &mut Gathered) {
    let Some(doc) = Doc::read(file, report) else { return };
    let rest = schema::RULES.check(&doc, report);
    let mut check = Check { doc: &doc, report };
    match serde_json::from_value::<RawRuleFile>(rest) {
        Ok(raw) => {
            for (index, raw) in raw.rules.unwrap_or_default().0 {
                rule(raw, &place!["rules", index], &mut check, gathered);
            }
        }
        // The schema and the types are one source, so this is a gap between them, not a fault of
        // the file; it must still not pass for an empty file.
        Err(error) => check.fault(&[], format!("cannot be understood: {error}"), ""),
    }
}

/// The files of a path with `*` and `?` in its last part.
fn expand(path: &Path, pattern: &str, at: &[String], check: &mut Check<'_>) -> Vec<PathBuf> {
    if path.parent().is_some_and(is_glob) {
        let problem = format!("\"{pattern}\" has a glob in a folder name");
        check.fault(at, problem, "* and ? are globs in the last part of a path only");
        return Vec::new();
    }
    let files = match files(path) {
        Ok(files) => files,
        Err(error) => {
            let problem = format!("\"{pattern}\" cannot be listed: {error}");
            check.fault(at, problem, "paths are relative to this file");
            return Vec::new();
        }
    };
    if files.is_empty() {
        let problem = format!("\"{pattern}\" matches no file");
        check.fault(at, problem, "paths are relative to this file");
    }
    if files.len() > RULE_FILES_MAX {
        let problem = format!("\"{pattern}\" matches {} files", files.len());
        check.fault(at, problem, &format!("at most {RULE_FILES_MAX} are read"));
        return Vec::new();
    }
    files
}

fn is_glob(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains(['*', '?']))
}

/// The file a path names, or all files its last part matches, sorted.
pub(super) fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !is_glob(path) {
        return Ok(vec![path.to_owned()]);
    }
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let last = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    Ok(matching(listed, last)?.into_iter().map(|name| folder.join(name)).collect())
}

/// Names in a folder that match, sorted; names that begin with a dot are for the system
/// (a mounted `ConfigMap` keeps its versions in them).
fn matching(folder: &Path, pattern: &str) -> std::io::Result<Vec<String>> {
    let glob = WildMatch::new(pattern);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if !name.starts_with('.') && glob.matches(name) && entry.path().is_file() {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn rule(raw: RawRule, place: &[String], check: &mut Check<'_>, gathered: &mut Gathered) {
    let at = |key: &str| [place, &[key.to_owned()]].concat();
    // Without an id the rest is still checked.
    let id = raw.id.map(|Text(RuleId(id))| id);
    let rule = WrittenRule {
        title: raw.title.map(|Text(Name(title))| title).or_else(|| id.clone()).unwrap_or_default(),
        id: id.clone().unwrap_or_default(),
        severity: raw.severity.map_or(Severity::Medium, |severity| severity.0),
        wanted: clause(raw.wanted, &at("where"), check),
        unless: clause(raw.unless, &at("unless"), check),
        group_by: raw.group_by.map_or(GroupBy::PrincipalId, |group_by| group_by.0),
        measure: raw.measure.map_or(Measure::Rows, |measure| measure.0),
        limits: limits(raw.limits.unwrap_or_default(), &at("limits"), check),
    };
    lint::rule(&rule, place, check);
    let Some(id) = id else { return };
    if let Some(first) = gathered.origins.get(&id) {
        let (file, line) = (first.file.display(), first.at.line);
        let problem = format!("rule `{id}` was given before, at {file}:{line}");
        check.fault(&at("id"), problem, "alerts are told apart by rule id; choose another");
        return;
    }
    let place = check.doc.fault(place, String::new(), None);
    gathered.origins.insert(id, Origin { file: place.file, at: place.at, path: place.path });
    gathered.rules.push(rule);
}

fn limits(raw: List<RawLimit>, place: &[String], check: &mut Check<'_>) -> Vec<WrittenLimit> {
    let mut limits: Vec<WrittenLimit> = Vec::new();
    for (index, raw) in raw.0 {
        let (Some(Text(window)), Some(above)) = (raw.window, raw.above) else { continue };
        if limits.iter().any(|limit| (limit.window, limit.above) == (window, above)) {
            let problem = format!("the limit of {above} in {window} was given before");
            let at = [place, &[index.to_string()]].concat();
            check.fault(&at, problem, "remove one of them");
            continue;
        }
        limits.push(WrittenLimit { window, above, severity: raw.severity.map(|it| it.0) });
    }
    limits
}

fn clause(
    raw: Option<RawClause>,
    place: &[String],
    check: &mut Check<'_>,
) -> Vec<(Field, Vec<String>)> {
    let mut keys = Vec::new();
    for (key, patterns) in raw.map(|RawClause(keys)| keys).unwrap_or_default() {
        let Some(field) = Field::parse(&key) else { continue };
        let list = match patterns {
            Patterns::Many(list) => list,
            Patterns::One(glob) => List(vec![(0, glob)]),
        };
        let globs: Vec<String> = list.values().map(|Text(Glob(glob))| glob).collect();
        for glob in &globs {
            possible(field, glob, &[place, std::slice::from_ref(&key)].concat(), check);
        }
        keys.push((field, globs));
    }
    keys.sort_unstable();
    keys
}

/// Refuses a pattern that none of the values a field can have would match.
fn possible(field: Field, glob: &str, place: &[String], check: &mut Check<'_>) {
    let Some(values) = field.values() else { return };
    let pattern = WildMatch::new_case_insensitive(glob);
    if values.iter().any(|value| pattern.matches(value)) {
        return;
    }
    let problem = format!("`{glob}` can never match; the values are {}", values.join(", "));
    let hint = schema::nearest(glob, values).map(|word| format!("did you mean `{word}`?"));
    check.fault(place, problem, hint.as_deref().unwrap_or_default());
}
