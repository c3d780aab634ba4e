//! `check`: everything that can be known of a configuration before it runs.

use std::{io::Write, path::PathBuf, time::Duration};

use indicatif::ProgressBar;
use serde_json::json;

use super::Outcome;
use super::output::{GREEN, Output, OutputArg, paint, write_fault, write_json};
use crate::config::{self, Config, Loaded};
use crate::kafka::online;

/// Faults are reported all at once, each with file, line and column, what was found, what is
/// allowed and a hint. Warnings are for what is valid but probably not meant, such as a rule that
/// can never fire; they do not change the exit code.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  exfilwatch check -c exfilwatch.yaml
  exfilwatch check -c exfilwatch.yaml --output json | jq .problem
  exfilwatch check -c exfilwatch.yaml --online   also topics, and what the inputs carry")]
pub(super) struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "exfilwatch.yaml")]
    config: PathBuf,
    /// Also ask the brokers: topics, partitions, and which rules the last records of each input
    /// match
    #[arg(long)]
    online: bool,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let output = args.output.choose();
    let Loaded { config, warnings } = match (config::load(&args.config), output) {
        (Ok(loaded), _) => loaded,
        (Err(faults), Output::Human) => return Err(faults.into()),
        (Err(faults), Output::Json) => {
            for fault in &faults.list {
                write_fault(out, output, "error", fault)?;
            }
            return Ok(Outcome::BadConfig);
        }
    };
    for warning in &warnings {
        write_fault(out, output, "warning", warning)?;
    }
    summarise(&config, warnings.len(), output, out)?;
    if args.online { look_online(&config, output, out) } else { Ok(Outcome::Fine) }
}

/// Topics, and what the newest records of each input are understood to be.
fn look_online(config: &Config, output: Output, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    // Shown on a terminal only, and gone when the report comes.
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(Duration::from_millis(100));
    let report = online::check(config, &|doing| spinner.set_message(doing.to_owned()));
    spinner.finish_and_clear();
    let report = report?;
    match output {
        Output::Human => write!(out, "{report}")?,
        Output::Json => write_json(out, &serde_json::to_value(&report)?)?,
    }
    Ok(if report.is_fine() { Outcome::Fine } else { Outcome::BadConfig })
}

fn summarise(
    config: &Config,
    warnings: usize,
    output: Output,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let set = config.rule_set();
    let routes: Vec<&str> = set.routes().into_iter().map(crate::event::GroupBy::as_str).collect();
    let inputs = config.inputs.len();
    match output {
        Output::Human => writeln!(
            out,
            "{}: {}: {}, {} on {}, grouped by {}, {}",
            paint("ok", GREEN),
            config.path.display(),
            count(inputs, "input"),
            count(set.rules.len(), "rule"),
            count(set.meters.len(), "meter"),
            routes.join(", "),
            count(warnings, "warning"),
        ),
        Output::Json => write_json(
            out,
            &json!({
                "level": "info",
                "file": config.path.display().to_string(),
                "inputs": inputs,
                "rules": set.rules.len(),
                "meters": set.meters.len(),
                "group_by": routes,
                "revision": set.revision,
                "warnings": warnings,
            }),
        ),
    }
}

/// `1 rule`, `2 rules`.
pub(super) fn count(number: usize, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}
