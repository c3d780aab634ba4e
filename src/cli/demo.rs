//! `demo`: the whole pipeline on the embedded broker, with a staged insider.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::bail;

use super::Outcome;
use super::output::OutputArg;

/// A support organisation of a few hundred people does ordinary work on a customer database; one
/// of them takes 68,000 records, a few at a time, over months. Event time runs fast, the pipeline
/// and its alerts are real, and the broker is embedded.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  exfilwatch demo
  exfilwatch demo --out demo-files      keep events, rules and alerts, for `replay`
  exfilwatch demo --seed 7 --output json")]
pub(super) struct Args {
    /// Of the staged organisation; one seed gives the same events everywhere
    #[arg(long, default_value_t = 68_000)]
    seed: u64,
    /// Leave events, configuration, rules and alerts here
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Serve /metrics and the probes here while it runs
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let Args { seed, out, http, output } = args;
    bail!("not built yet: seed {seed}, {out:?}, {http:?}, {:?}", output.choose())
}
