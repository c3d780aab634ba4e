//! `schema`: the JSON Schemas this binary goes by.

use std::io::Write;

use clap::ValueEnum;

use super::Outcome;
use crate::config;

/// Prints the JSON Schema (draft 2020-12) of what is read and written.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  exfilwatch schema config > exfilwatch.schema.json
  exfilwatch schema alert | jq .required

An editor with a YAML language server checks a file that begins with
  # yaml-language-server: $schema=exfilwatch.schema.json")]
pub(super) struct Args {
    /// Of what
    #[arg(value_enum)]
    of: Of,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Of {
    /// Canonical events, as inputs of format `canonical` hold them
    Event,
    /// Alerts, as the alert topic holds them
    Alert,
    /// The configuration file
    Config,
    /// Rule files
    Rules,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let text = match args.of {
        Of::Event => include_str!("../../schemas/event.v1.schema.json").to_owned(),
        Of::Alert => include_str!("../../schemas/alert.v1.schema.json").to_owned(),
        Of::Config => config::config_schema(),
        Of::Rules => config::rules_schema(),
    };
    out.write_all(text.as_bytes())?;
    Ok(Outcome::Fine)
}
