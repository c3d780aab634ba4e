//! The ways in: load a configuration, lint rule files.

use std::path::{Path, PathBuf};

use super::doc::{Doc, Report};
use super::fault::{Fault, Faults};
use super::raw::RawConfig;
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
