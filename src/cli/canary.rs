//! `canary`: does an event still become an alert?

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::Outcome;
use super::output::{GREEN, Output, OutputArg, paint, write_fault, write_json};
use crate::{
    config::{self, Config, Fault, Faults},
    event::{Format, canary::CanaryKey},
    pipeline::canary::{self, Order, Place, Seen},
};

/// Writes an event of a reserved principal to an input and waits for its alert on the alert topic:
/// the whole way, through a running service. The event is signed by the key that the service's
/// configuration has under `canary`; no rule of yours counts it. Subscribers may drop alerts of
/// the rule exfilwatch.canary.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  exfilwatch canary -c exfilwatch.yaml
  exfilwatch canary -c exfilwatch.yaml --timeout 10s --output json | jq .latency_seconds
  exfilwatch canary -c exfilwatch.yaml --key-file canary.key --input query-events

The key, for `canary: {key_file: canary.key}` of every member:
  openssl rand -hex 32 > canary.key

Exit code 0 when the alert came, 1 when it did not in time or the broker does not answer.")]
pub(super) struct Args {
    /// Configuration file, as the service has it
    #[arg(short, long, value_name = "FILE", default_value = "exfilwatch.yaml")]
    config: PathBuf,
    /// File with the key [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Input to write to; it must take canonical JSON [default: the first that does]
    #[arg(long, value_name = "TOPIC")]
    input: Option<String>,
    /// How long to wait for everything together, such as 30s or 2m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_timeout)]
    timeout: Duration,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let output = args.output.choose();
    let (config, key, topic) = match (prepare(args), output) {
        (Ok(ready), _) => ready,
        (Err(faults), Output::Human) => return Err(faults.into()),
        (Err(faults), Output::Json) => {
            for fault in &faults.list {
                write_fault(out, output, "error", fault)?;
            }
            return Ok(Outcome::BadConfig);
        }
    };
    let event_id = format!("{:032x}", rand::random::<u128>());
    let order = Order {
        config: &config,
        key: &key,
        topic: &topic,
        event_id: &event_id,
        timeout: args.timeout,
    };
    // Shown on a terminal only, and gone when the report comes.
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(Duration::from_millis(100));
    let seen = canary::send(&order, &|doing| spinner.set_message(doing.to_owned()));
    spinner.finish_and_clear();
    report(&seen?, &order, output, out)
}

/// Configuration, key and topic, or every fault of them.
fn prepare(args: &Args) -> Result<(Config, CanaryKey, String), Faults> {
    let config = config::load(&args.config)?.config;
    let key = key(args, &config);
    let topic = topic(&config, args.input.as_deref());
    let faults = |list| Faults { file: args.config.clone(), list };
    match (key, topic) {
        (Ok(key), Ok(topic)) => Ok((config, key, topic)),
        (key, topic) => Err(faults(key.err().into_iter().chain(topic.err()).collect())),
    }
}

fn key(args: &Args, config: &Config) -> Result<CanaryKey, Fault> {
    let Some(path) = &args.key_file else {
        let problem = "is missing, and canaries must be signed".to_owned();
        let hint = "give every member `canary: {key_file: FILE}`; `openssl rand -hex 32` makes a \
                    key";
        let missing = || fault(&args.config, "canary.key_file", problem, hint);
        return config.canary.clone().ok_or_else(missing);
    };
    let hint = "it must be the key of `canary.key_file` of the service";
    config::read_key(path).map_err(|problem| fault(path, "", problem, hint))
}

/// The input to write to.
fn topic(config: &Config, wanted: Option<&str>) -> Result<String, Fault> {
    let fits = config.inputs.iter().filter(|input| input.format == Format::Canonical);
    let topics: Vec<&str> = fits.map(|input| input.topic.as_str()).collect();
    let found = wanted.map_or(topics.first(), |wanted| topics.iter().find(|it| **it == wanted));
    if let Some(topic) = found {
        return Ok((*topic).to_owned());
    }
    let refuse = |problem, hint: &str| Err(fault(&config.path, "inputs", problem, hint));
    if topics.is_empty() {
        let problem = "none takes canonical JSON, which is how a canary is written".to_owned();
        return refuse(problem, "add an input for canaries alone: {topic: exfilwatch.canaries}");
    }
    let wanted = wanted.unwrap_or_default();
    let other = config.inputs.iter().find(|input| input.topic == wanted);
    let problem = match other {
        Some(other) => format!(
            "`{wanted}` has the format {}, but a canary is canonical JSON",
            other.format.as_str()
        ),
        None => format!("`{wanted}` is none of them"),
    };
    refuse(problem, &format!("those that take canonical JSON: {}", topics.join(", ")))
}

fn fault(file: &Path, path: &str, problem: String, hint: &str) -> Fault {
    let (file, path, hint) = (file.to_owned(), path.to_owned(), Some(hint.to_owned()));
    Fault { file, at: config::At::default(), path, problem, hint }
}

fn report(
    seen: &Seen,
    order: &Order<'_>,
    output: Output,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let failure = failure(seen, order);
    match (output, &failure) {
        (Output::Human, None) => success(seen, out)?,
        (Output::Human, Some((problem, hint))) => anyhow::bail!("{problem}\n    hint: {hint}"),
        (Output::Json, _) => write_json(out, &as_json(seen, failure.as_ref())?)?,
    }
    Ok(if failure.is_none() { Outcome::Fine } else { Outcome::Findings })
}

fn success(seen: &Seen, out: &mut dyn Write) -> io::Result<()> {
    let Seen { principal, event, alert, latency_seconds, .. } = seen;
    writeln!(
        out,
        "{}: alert of {principal} after {:.3} s: event {}, alert {}",
        paint("ok", GREEN),
        latency_seconds.unwrap_or_default(),
        show(event.as_ref()),
        show(alert.as_ref()),
    )
}

fn as_json(seen: &Seen, failure: Option<&(String, String)>) -> serde_json::Result<Value> {
    let mut line = json!({"level": if failure.is_some() { "error" } else { "info" }});
    if let Value::Object(seen) = serde_json::to_value(seen)? {
        for (name, value) in seen {
            line[name] = value;
        }
    }
    if let Some((problem, hint)) = failure {
        line["problem"] = problem.as_str().into();
        line["hint"] = hint.as_str().into();
    }
    Ok(line)
}

/// What to say when no alert came, and what to look at.
fn failure(seen: &Seen, order: &Order<'_>) -> Option<(String, String)> {
    if seen.alert.is_some() {
        return None;
    }
    let seconds = order.timeout.as_secs_f64();
    let (principal, topic) = (&seen.principal, order.topic);
    if seen.event.is_none() {
        let problem = format!("`{topic}` did not acknowledge {principal} within {seconds} s");
        let hint = "is every partition of the topic available, with as many replicas in sync as \
                    it demands?";
        return Some((problem, hint.to_owned()));
    }
    let problem = format!(
        "no alert of {principal} within {seconds} s; its event is {}; {} other alerts were read \
         meanwhile",
        show(seen.event.as_ref()),
        seen.alerts_read
    );
    let hint = "is a member running and ready (/readyz), is it behind \
                (exfilwatch_consumer_lag_seconds), does it have this key and a restart since it \
                was changed (exfilwatch_events_read_total{outcome=\"canary\"} counts canaries it \
                has recognised), and does it write to this alert topic?";
    Some((problem, hint.to_owned()))
}

fn show(place: Option<&Place>) -> String {
    place.map_or_else(
        || "not acknowledged yet".to_owned(),
        |Place { topic, partition, offset }| format!("{topic}[{partition}] at offset {offset}"),
    )
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = config::time_to_wait(text)?;
    if timeout > Duration::from_hours(24) {
        return Err("expected at most 24h".to_owned());
    }
    Ok(timeout)
}
