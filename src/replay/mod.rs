//! Replay: what would have fired? Files or stdin through the same router and engines, no Kafka.
//!
//! Deterministic: the same inputs, configuration and `--as-of` give the same alerts with the same
//! ids. Several inputs are merged by event time; one input is taken in its own order. Memory is
//! bounded by what the engines hold, whatever the length of the inputs.

mod detector;
mod input;
mod merge;
mod records;
mod sink;
mod summary;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    alert::{Alert, Subject},
    config::Config,
    event::{Format, Outcome},
    rules::{RuleSet, compile::compile},
    units::EventTime,
};

pub use detector::DetectorError;
pub use sink::{alert_line, minute};
pub use summary::{Summary, cpu_seconds};

use self::{
    detector::Detector,
    input::{Input, Place},
    sink::Sink,
};

/// Refused rows that are named; the others are only counted.
const REFUSALS_SHOWN: u64 = 10;

/// For whom output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// What to replay, and what to leave behind.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// Rules, identity, catalogue, number of partitions; nothing of it is connected to.
    pub config: Config,
    /// Of JSON lines; Arrow and Parquet speak for themselves. Default: canonical.
    pub format: Option<Format>,
    /// Alerts go here, one OCSF object a line, instead of to the output.
    pub alerts: Option<PathBuf>,
    /// The summary goes here as JSON.
    pub summary: Option<PathBuf>,
    /// Stands for broker time (W4) and then ends the replay with a time mark (W6); default: now,
    /// without a mark.
    pub as_of: Option<EventTime>,
    /// Files; `-` or none at all: stdin.
    pub inputs: Vec<PathBuf>,
    /// For whom.
    pub output: Output,
    /// Show a progress bar on stderr.
    pub progress: bool,
}

/// Why a replay did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// An input cannot be read.
    #[error("cannot read {name}: {cause}")]
    Input {
        /// As it was named.
        name: String,
        /// Why.
        cause: io::Error,
    },
    /// A file or the output cannot be written.
    #[error("cannot write {name}: {cause}")]
    Output {
        /// Where to.
        name: String,
        /// Why.
        cause: io::Error,
    },
    /// A fault of this program.
    #[error(transparent)]
    Detector(#[from] DetectorError),
}

/// Replays. Alerts go to `out` unless they have a file; refused rows are named on `notes`.
pub fn run(
    options: &ReplayOptions,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<Summary, ReplayError> {
    let started = Instant::now();
    let mut replay = Replay::new(options, out, notes)?;
    let mut inputs = open_inputs(options, &replay.read)?;
    let names: Vec<String> = inputs.iter().map(|input| input.name().to_owned()).collect();
    let as_of = options.as_of.unwrap_or_else(now);
    let mut detector = Detector::new(&options.config, &replay.rules, as_of, &inputs);

    let mut fault = None;
    let merged = merge::merge(&mut inputs, &mut |input, place, outcome| {
        if fault.is_none() {
            fault = replay.take(&mut detector, (input, &names[input]), place, outcome).err();
        }
    });
    fault.map_or(Ok(()), Err)?;
    merged.map_err(|(input, cause)| ReplayError::Input { name: names[input].clone(), cause })?;
    replay.publish(detector.decide()?)?;
    if options.as_of.is_some() {
        replay.publish(detector.end_of_time()?)?;
    }
    replay.finish(&detector, started)
}

fn open_inputs(options: &ReplayOptions, read: &Arc<AtomicU64>) -> Result<Vec<Input>, ReplayError> {
    let stdin = [PathBuf::from("-")];
    let paths = if options.inputs.is_empty() { &stdin[..] } else { &options.inputs };
    let format = options.format.unwrap_or_default();
    let open = |path: &PathBuf| {
        Input::open(path, format, &options.config.inputs, read)
            .map_err(|cause| ReplayError::Input { name: path.display().to_string(), cause })
    };
    paths.iter().map(open).collect()
}

fn now() -> EventTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    EventTime::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// What is kept while a replay runs, the detector apart.
struct Replay<'a> {
    options: &'a ReplayOptions,
    rules: Arc<RuleSet>,
    summary: Summary,
    alerts: Sink<'a>,
    notes: &'a mut dyn Write,
    bar: ProgressBar,
    read: Arc<AtomicU64>,
}

impl<'a> Replay<'a> {
    fn new(
        options: &'a ReplayOptions,
        out: &'a mut dyn Write,
        notes: &'a mut dyn Write,
    ) -> Result<Self, ReplayError> {
        Ok(Self {
            options,
            // Files hold no headers, so nothing in them is a canary.
            rules: Arc::new(compile(&options.config.rules)),
            summary: Summary::default(),
            alerts: Sink::new(options, out)?,
            notes,
            bar: bar(options),
            read: Arc::default(),
        })
    }

    /// One row of an input.
    fn take(
        &mut self,
        detector: &mut Detector,
        (input, name): (usize, &str),
        place: Place,
        outcome: Outcome<'_, '_>,
    ) -> Result<(), ReplayError> {
        self.summary.read += 1;
        match outcome {
            Outcome::Event(event) => {
                if detector.push(input, place, event) {
                    self.bar.set_position(self.read.load(Ordering::Relaxed));
                    self.publish(detector.decide()?)?;
                }
            }
            Outcome::Ignored(_) => self.summary.ignored += 1,
            Outcome::Refused(error) => {
                self.summary.dead_lettered += 1;
                if self.summary.dead_lettered <= REFUSALS_SHOWN {
                    let (record, row) = (place.record + 1, place.row);
                    self.note(format_args!("{name}:{record}: row {row}: {error}"))?;
                }
            }
        }
        Ok(())
    }

    fn publish(&mut self, alerts: &[Arc<Alert>]) -> Result<(), ReplayError> {
        for alert in alerts {
            *self.summary.alerts.entry(rule_id(alert)).or_default() += 1;
            self.alerts.write(alert)?;
        }
        Ok(())
    }

    fn finish(mut self, detector: &Detector, started: Instant) -> Result<Summary, ReplayError> {
        self.bar.finish_and_clear();
        let hidden = self.summary.dead_lettered.saturating_sub(REFUSALS_SHOWN);
        if hidden > 0 {
            self.note(format_args!("{hidden} more rows were refused"))?;
        }
        let account = detector.account();
        let rules = self.rules.rules.iter();
        let matched = detector.matched();
        let entries = self.options.config.catalog.iter();
        let catalog = entries.zip(&detector.routed().catalog_matches);
        let summary = Summary {
            applied: account.applied,
            duplicate: account.duplicate,
            too_late: account.too_late,
            clamped: account.clamped,
            matched: rules.map(|rule| (rule.id.clone(), matched[rule.meter])).collect(),
            catalog: catalog.map(|(entry, count)| (entry.object.clone(), *count)).collect(),
            principals: detector.principals(),
            wall_seconds: started.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds(),
            ..self.summary
        };
        self.alerts.finish()?;
        if let Some(path) = &self.options.summary {
            let name = path.display().to_string();
            let text = serde_json::to_string_pretty(&summary).map_err(io::Error::from);
            text.and_then(|text| std::fs::write(path, text + "\n"))
                .map_err(|cause| ReplayError::Output { name, cause })?;
        }
        Ok(summary)
    }

    fn note(&mut self, text: std::fmt::Arguments<'_>) -> Result<(), ReplayError> {
        let written = self.bar.suspend(|| writeln!(self.notes, "{text}"));
        written.map_err(|cause| ReplayError::Output { name: "stderr".to_owned(), cause })
    }
}

/// What alerts are counted by: the rule's id, or that of the system alert.
fn rule_id(alert: &Alert) -> String {
    match &alert.subject {
        Subject::Rule(finding) => finding.rule.clone(),
        Subject::System(finding) => format!("exfilwatch.{}", finding.kind.as_str()),
    }
}

fn bar(options: &ReplayOptions) -> ProgressBar {
    if !options.progress {
        return ProgressBar::hidden();
    }
    let style = |template| {
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
    };
    match input::total_bytes(&options.inputs) {
        Some(total) if !options.inputs.is_empty() => ProgressBar::new(total)
            .with_style(style("replay {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")),
        _ => ProgressBar::new_spinner().with_style(style("replay {bytes} {bytes_per_sec}")),
    }
}
