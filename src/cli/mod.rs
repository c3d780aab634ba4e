//! The command line: what can be asked, and which code the process ends with.
//!
//! One file a command; each takes its own arguments and writes to the output it is given. Never
//! here: work. A command calls the library and says what came of it.

mod canary;
mod check;
mod completions;
mod demo;
mod lint;
mod output;
mod replay;
mod run;
mod schema;
#[cfg(test)]
mod tests;
mod topics;

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::Faults;

pub use output::Output;

/// How a command ended. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 0: done, nothing to report.
    Fine,
    /// 1: done, and something was found: alerts in a replay, doubts in rules. Also any failure
    /// that is no fault of the configuration.
    Findings,
    /// 78 (`EX_CONFIG`): the configuration or the topics it names are faulty.
    BadConfig,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Fine => Self::SUCCESS,
            Outcome::Findings => Self::from(1),
            Outcome::BadConfig => Self::from(78),
        }
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0   fine
  1   findings (alerts in a replay, doubts in rules), no alert of a canary, or the command failed
  2   usage
  78  bad configuration; every fault is reported in one run

Environment:
  EXFILWATCH_LOG         level of `run`: warn, info, debug, or info,librdkafka=debug
  EXFILWATCH_LOG_FORMAT  text or json; text on a terminal, json otherwise
  NO_COLOR               no colours";

const EXAMPLES: &str = "\
Examples:
  exfilwatch demo                            a staged theft, with nothing to install
  exfilwatch check -c exfilwatch.yaml        all faults of a configuration, before a start
  exfilwatch run -c exfilwatch.yaml          the service
  exfilwatch canary -c exfilwatch.yaml       does an event still become an alert?
  exfilwatch replay -c exfilwatch.yaml events.ndjson.gz   what would have fired?
";

/// Counts records read per principal from query-result metadata on Kafka, and alerts while they
/// are still leaving.
#[derive(Debug, Parser)]
#[command(name = "exfilwatch", version, after_long_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service: read inputs, count, publish alerts, until SIGTERM or Ctrl-C
    Run(run::Args),
    /// Watch a staged insider on the embedded broker; needs nothing installed
    Demo(demo::Args),
    /// Check configuration and rules, without starting anything
    Check(check::Args),
    /// Send an event through a running service and wait for its alert
    Canary(canary::Args),
    /// Tell what would have fired, from files or stdin, without Kafka
    Replay(replay::Args),
    /// Work on rule files
    #[command(subcommand)]
    Rules(Rules),
    /// Prepare the topics that exfilwatch writes
    #[command(subcommand)]
    Topics(Topics),
    /// Print a JSON Schema
    Schema(schema::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

#[derive(Debug, Subcommand)]
enum Rules {
    /// Find rules that are valid but doubtful, such as those that can never fire
    Lint(lint::Args),
}

#[derive(Debug, Subcommand)]
enum Topics {
    /// Make those that are missing, and tell how the others differ from what a run would make
    Create(topics::Create),
}

/// Does what was asked.
///
/// # Errors
/// It could not be done; [`failure`] gives the exit code.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let out = &mut io::stdout().lock();
    match args.command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(args, out),
        Command::Check(args) => check::run(&args, out),
        Command::Canary(args) => canary::run(&args, out),
        Command::Replay(args) => replay::run(args, out),
        Command::Rules(Rules::Lint(args)) => lint::run(&args, out),
        Command::Topics(Topics::Create(args)) => topics::create(&args, out),
        Command::Schema(args) => schema::run(&args, out),
        Command::Completions(args) => completions::run(&args, out),
    }
}

/// How a failed command ends: 78 where the configuration is to blame, 1 otherwise.
#[must_use]
pub fn failure(error: &anyhow::Error) -> Outcome {
    // A client that cannot be made has a wrong setting under `kafka.properties`.
    let settings = |error: &crate::kafka::Error| {
        use crate::kafka::Error::{Client, Topics};
        matches!(error, Topics { .. } | Client { .. })
    };
    if error.is::<Faults>() || error.downcast_ref().is_some_and(settings) {
        return Outcome::BadConfig;
    }
    if is_closed_pipe(error) { Outcome::Fine } else { Outcome::Findings }
}

/// Whether whoever read our output has had enough, as `head` does.
#[must_use]
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref().is_some_and(closed)
}
