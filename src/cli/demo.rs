//! `demo`: the whole pipeline on the embedded broker, with a staged insider.

use std::{net::SocketAddr, path::PathBuf};

use super::{Outcome, output::OutputArg};
use crate::{
    demo::{self, DEFAULT_SEED, DemoOptions},
    logging::{self, LogFormat},
    replay::Output,
};

/// A support organisation of a few hundred people does ordinary work on a customer database; one
/// of them takes 68,000 records, a few at a time, over months. Event time runs fast, the pipeline
/// and its alerts are real, and the broker is embedded.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  exfilwatch demo
  exfilwatch demo --out demo-files      keep events, rules and alerts, for `replay`
  exfilwatch demo --seed 7 --output json

Exit code 0 if all events were counted, the theft was noticed before 5 % had left, and no
colleague was accused; else 1.")]
pub(super) struct Args {
    /// Of the staged organisation; one seed gives the same events everywhere
    #[arg(long, default_value_t = DEFAULT_SEED)]
    seed: u64,
    /// Leave events, configuration, rules and alerts here [default: a new temporary folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Serve /metrics and the probes here while it runs
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// A panel for people on a terminal, plain lines elsewhere; json must be asked for
    #[command(flatten)]
    output: OutputArg,
}

pub(super) fn run(args: Args, out: &mut dyn std::io::Write) -> anyhow::Result<Outcome> {
    // What goes wrong is said; what goes well is the demo's own to show.
    logging::init(LogFormat::Auto, "error")?;
    let options = DemoOptions {
        seed: args.seed,
        out: args.out,
        http: args.http,
        output: args.output.asked().unwrap_or(Output::Human),
    };
    Ok(if demo::run(&options, out)? { Outcome::Fine } else { Outcome::Findings })
}
