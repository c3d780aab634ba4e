//! `check`: everything that can be known of a configuration before it runs.

use std::{io::Write, path::PathBuf, time::Duration};

use indicatif::ProgressBar;
use serde_json::json;

use super::Outcome;
use super::output::{GREEN, Output, OutputArg, paint, write_fault, write_json};
use crate::config::{self, Config, Loaded};
use crate::kafka::online::{self, Question, Scope};

/// Faults are reported all at once, each with file, line and column, what was found, what is
/// allowed and a hint. Warnings are for what is valid but probably not meant, such as a rule that
/// can never fire; they do not change the exit code.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  exfilwatch check -c exfilwatch.yaml
  exfilwatch check -c exfilwatch.yaml --output json | jq .problem
  exfilwatch check -c exfilwatch.yaml --online           also topics, and what the inputs carry
  exfilwatch check -c exfilwatch.yaml --online=inputs    before its own topics are there
  exfilwatch check -c exfilwatch.yaml --online --timeout 1m

Exit code 0 if nothing is wrong, 78 if something is, 1 if no broker answers in time.")]
pub(super) struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "exfilwatch.yaml")]
    config: PathBuf,
    /// Also ask the brokers: topics, partitions, and which rules the last records of each input
    /// match. `inputs` leaves out what exfilwatch writes itself; without a word: `all`
    #[arg(long, value_name = "WHAT", value_enum, num_args = 0..=1, require_equals = true,
          default_missing_value = "all")]
    online: Option<Online>,
    /// Partitions that the topic which detect reads is reckoned to have; another number is a fault
    #[arg(long, value_name = "NUMBER", requires = "online")]
    partitions: Option<u32>,
    /// How long to wait for a broker that answers
    #[arg(long, value_name = "DURATION", default_value = "10s", requires = "online",
          value_parser = config::time_to_wait)]
    timeout: Duration,
    #[command(flatten)]
    output: OutputArg,
}

/// [`Scope`] in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Online {
    /// Brokers and inputs
    Inputs,
    /// Also the topics that exfilwatch writes, and where it would go on
    All,
}

impl From<Online> for Scope {
    fn from(online: Online) -> Self {
        match online {
            Online::Inputs => Self::Inputs,
            Online::All => Self::All,
        }
    }
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
    let Some(what) = args.online else { return Ok(Outcome::Fine) };
    let (partitions, timeout) = (args.partitions, args.timeout);
    look_online(&config, Question { scope: what.into(), partitions, timeout }, output, out)
}

/// Topics, and what the newest records of each input are understood to be.
fn look_online(
    config: &Config,
    question: Question,
    output: Output,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    // Shown on a terminal only, and gone when the report comes.
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(Duration::from_millis(100));
    let report = online::check(config, question, &|doing| spinner.set_message(doing.to_owned()));
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
