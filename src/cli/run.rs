//! `run`: the service.

use std::path::PathBuf;

use tracing::warn;

use super::Outcome;
use crate::{
    config::{self, Loaded},
    logging::{self, LogFormat},
    pipeline,
};

/// Reads the inputs, counts, publishes alerts, until SIGTERM or Ctrl-C; then drains, commits and
/// ends with 0 within `shutdown.drain_timeout`. The configuration is complete before a socket is
/// opened. Changed rule files are taken over without a restart; other changes need one.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  exfilwatch run -c exfilwatch.yaml
  EXFILWATCH_LOG=debug exfilwatch run -c exfilwatch.yaml
  curl -s localhost:9464/readyz                    is it ready, and if not, why
  kcat -C -b localhost:9092 -t exfilwatch.alerts   read the alerts")]
pub(super) struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "exfilwatch.yaml")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let Loaded { config, warnings } = config::load(&args.config)?;
    logging::init(LogFormat::Auto, "info")?;
    for warning in warnings {
        warn!("{warning}");
    }
    pipeline::run(config)?;
    Ok(Outcome::Fine)
}
