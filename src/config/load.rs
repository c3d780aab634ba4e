//! The ways in: load a configuration, lint rule files, reload rules, notice that they changed.

use std::{
    fs,
    hash::Hasher,
    path::{Path, PathBuf},
};

use siphasher::sip::SipHasher13;

use super::doc::{Doc, Report};
use super::fault::{Fault, Faults};
use super::raw::RawConfig;
use super::yaml::FILE_BYTES_MAX;
use super::{Config, check, doc, rules, schema};
use crate::rules::written::WrittenRule;

/// A configuration without faults, and what is doubtful in it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Complete and checked.
    pub config: Config,
    /// Valid, but probably not what was meant; in the order of the file.
    pub warnings: Vec<Fault>,
}

impl Config {
    /// Reads and checks `file` and all rule files it names.
    ///
    /// # Errors
    /// Everything that is wrong, of all files, in one report.
    pub fn load(file: &Path) -> Result<Self, Faults> {
        load(file).map(|loaded| loaded.config)
    }
}

/// [`Config::load`] with its warnings.
///
/// # Errors
/// Everything that is wrong, of all files, in one report.
pub fn load(file: &Path) -> Result<Loaded, Faults> {
    let mut report = Report::default();
    let doc = Doc::read(file, &mut report);
    finish(file, doc, report)
}

/// [`load`] for text that is not in a file: `file` is its name in messages and the folder of its
/// rule files.
///
/// # Errors
/// Everything that is wrong, of all files, in one report.
pub fn check_text(file: &Path, text: &str) -> Result<Loaded, Faults> {
    let mut report = Report::default();
    let doc = Doc::parse(file, text, &mut report);
    finish(file, doc, report)
}

fn finish(file: &Path, doc: Option<Doc>, mut report: Report) -> Result<Loaded, Faults> {
    let config = doc.and_then(|doc| {
        let rest = schema::CONFIG.check(&doc, &mut report);
        match serde_json::from_value::<RawConfig>(rest) {
            Ok(raw) => Some(check::config(file, raw, &doc, &mut report)),
            Err(error) => {
                let problem = format!("cannot be understood: {error}");
                report.add(doc::whole_file(file, problem, None));
                None
            }
        }
    });
    report.finish(file, config).map(|(config, warnings)| Loaded { config, warnings })
}

/// Reads rule files alone; the findings are their warnings.
///
/// # Errors
/// Everything that is wrong, of all files, in one report.
pub fn lint_rules(files: &[PathBuf]) -> Result<(Vec<WrittenRule>, Vec<Fault>), Faults> {
    let mut report = Report::default();
    let rules = files.iter().flat_map(|file| rules::load_file(file, &mut report)).collect();
    let first = files.first().cloned().unwrap_or_default();
    report.finish(&first, Some(rules))
}

/// Reads the rules of a running configuration again, in-place ones and files alike.
///
/// # Errors
/// Everything that is wrong, also outside the rules: nothing of a faulty file is taken over.
pub fn load_rules(config: &Config) -> Result<Vec<WrittenRule>, Faults> {
    load(&config.path).map(|loaded| loaded.config.rules)
}

/// Changes whenever the text of a watched file does, or a file comes or goes.
///
/// Reads contents, not times: a mounted `ConfigMap` is replaced by moving a link, and its files may
/// keep their times. Cheap enough for every few seconds: rule files are small and few.
#[must_use]
pub fn rules_fingerprint(config: &Config) -> u64 {
    let mut hasher = SipHasher13::new();
    for path in &config.rule_paths {
        for file in rules::files(path).unwrap_or_default() {
            write_file(&mut hasher, &file);
        }
    }
    hasher.finish()
}

/// A file too large to be loaded counts by its size alone.
fn write_file(hasher: &mut SipHasher13, file: &Path) {
    let size = fs::metadata(file).map_or(u64::MAX, |metadata| metadata.len());
    let content =
        if size > FILE_BYTES_MAX { Vec::new() } else { fs::read(file).unwrap_or_default() };
    hasher.write(file.as_os_str().as_encoded_bytes());
    hasher.write_u64(size);
    hasher.write(&content);
}

/// JSON Schema of the configuration file.
#[must_use]
pub fn config_schema() -> String {
    schema::CONFIG.text()
}

/// JSON Schema of rule files.
#[must_use]
pub fn rules_schema() -> String {
    schema::RULES.text()
}
