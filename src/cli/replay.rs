//! `replay`: what would have fired?

use std::{
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use super::Outcome;
use super::output::OutputArg;
use crate::{
    config::Config,
    event::Format,
    replay::{self, ReplayOptions},
    units::EventTime,
};

/// Runs files or stdin through the same engine as the service, without Kafka, and prints every
/// alert. Inputs are NDJSON (also .gz and .zst), Arrow IPC or Parquet; several are merged by event
/// time. The same inputs, configuration and --as-of give the same alerts with the same ids.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  exfilwatch replay -c exfilwatch.yaml events.ndjson.gz
  exfilwatch replay -c exfilwatch.yaml --format trino --summary out.json day-*.ndjson.zst
  zcat old.gz | exfilwatch replay -c exfilwatch.yaml --alerts alerts.ndjson

Exit code 1 if a rule fired, 0 if none did.")]
pub(super) struct Args {
    /// Configuration file; only rules, identity, catalogue and windows of it matter here
    #[arg(short, long, value_name = "FILE", default_value = "exfilwatch.yaml")]
    config: PathBuf,
    /// Format of JSON records [default: canonical]
    #[arg(long, value_parser = format_parser())]
    format: Option<Format>,
    /// Write alerts here, one OCSF object a line
    #[arg(long, value_name = "FILE")]
    alerts: Option<PathBuf>,
    /// Write counts here as JSON: read, applied, refused, matched by rule
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Stands for broker time: later event times are clamped to it, and time ends there, so that
    /// episodes can close [default: now, and time stops with the last event]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    as_of: Option<EventTime>,
    #[command(flatten)]
    output: OutputArg,
    /// Files; `-` or none: stdin
    #[arg(value_name = "INPUT")]
    inputs: Vec<PathBuf>,
}

pub(super) fn run(args: Args, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let options = ReplayOptions {
        config: Config::load(&args.config)?,
        format: args.format,
        alerts: args.alerts,
        summary: args.summary,
        as_of: args.as_of,
        inputs: args.inputs,
        output: args.output.choose(),
        progress: io::stderr().is_terminal(),
    };
    let summary = replay::run(&options, out, &mut io::stderr())?;
    out.flush()?;
    eprint!("{summary}");
    Ok(if summary.has_alerts() { Outcome::Findings } else { Outcome::Fine })
}

fn format_parser() -> impl clap::builder::TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::ALL.map(Format::as_str))
        .try_map(|text| Format::parse(&text).ok_or("no such format"))
}

fn parse_time(text: &str) -> Result<EventTime, String> {
    let time: jiff::Timestamp =
        text.parse().map_err(|_| "expected a time such as 2026-04-01T09:30:00Z".to_owned())?;
    Ok(EventTime::from_millis(time.as_millisecond()))
}
