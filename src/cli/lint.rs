//! `rules lint`: doubts about rules, with or without the configuration they belong to.

use std::{io::Write, path::PathBuf};

use serde_json::json;

use super::Outcome;
use super::check::count;
use super::output::{GREEN, Output, OutputArg, paint, write_fault, write_json};
use crate::config::{self, Fault, Faults};

/// Finds rules that are valid but doubtful: limits in the wrong order, patterns and measures that
/// can never match. With a configuration it also knows what the inputs carry.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  exfilwatch rules lint rules/*.yaml
  exfilwatch rules lint -c exfilwatch.yaml

Exit code 1 if anything was found, 78 if a file cannot be used at all.")]
pub(super) struct Args {
    /// Rule files
    #[arg(value_name = "FILE", required_unless_present = "config", conflicts_with = "config")]
    files: Vec<PathBuf>,
    /// Configuration file whose rules are meant
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let output = args.output.choose();
    let (rules, findings) = match (lint(args), output) {
        (Ok(found), _) => found,
        (Err(faults), Output::Human) => return Err(faults.into()),
        (Err(faults), Output::Json) => {
            for fault in &faults.list {
                write_fault(out, output, "error", fault)?;
            }
            return Ok(Outcome::BadConfig);
        }
    };
    for finding in &findings {
        write_fault(out, output, "warning", finding)?;
    }
    let found = findings.len();
    match output {
        Output::Human if found == 0 => {
            writeln!(out, "{}: {}, no findings", paint("ok", GREEN), count(rules, "rule"))?;
        }
        Output::Human => writeln!(out, "{}, {}", count(rules, "rule"), count(found, "finding"))?,
        Output::Json => {
            let summary = json!({"level": "info", "rules": rules, "findings": found});
            write_json(out, &summary)?;
        }
    }
    Ok(if found == 0 { Outcome::Fine } else { Outcome::Findings })
}

/// Number of rules, and what is doubtful.
fn lint(args: &Args) -> Result<(usize, Vec<Fault>), Faults> {
    match &args.config {
        Some(file) => config::load(file).map(|loaded| (loaded.config.rules.len(), loaded.warnings)),
        None => config::lint_rules(&args.files).map(|(rules, found)| (rules.len(), found)),
    }
}
