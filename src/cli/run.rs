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
///
/// With --instance-id the process is a static member of its groups: back within
/// `session.timeout.ms`, it keeps its partitions, and nobody else's move. Every process needs a
/// name of its own that it keeps over restarts, such as that of a pod of a `StatefulSet`; of two
/// with one name the older ends. Gone for good, it is missed only after the session time-out.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  exfilwatch run -c exfilwatch.yaml
  exfilwatch run -c exfilwatch.yaml --instance-id exfilwatch-0
  EXFILWATCH_LOG=debug exfilwatch run -c exfilwatch.yaml
  curl -s localhost:9464/readyz                    is it ready, and if not, why
  curl -s localhost:9464/startupz                  has it restored what it was assigned
  kcat -C -b localhost:9092 -t exfilwatch.alerts   read the alerts")]
pub(super) struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "exfilwatch.yaml")]
    config: PathBuf,
    /// Static member of the groups under this name [default: no static member]
    #[arg(long, value_name = "NAME", value_parser = config::instance_id)]
    instance_id: Option<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let Loaded { mut config, warnings } = config::load(&args.config)?;
    if let Some(id) = &args.instance_id {
        config.set_instance_id(id.clone())?;
    }
    logging::init(LogFormat::Auto, "info")?;
    for warning in warnings {
        warn!("{warning}");
    }
    pipeline::run(config)?;
    Ok(Outcome::Fine)
}
