//! Events per core-second of the real program on a real Apache Kafka.
//!
//! `cargo bench --bench end_to_end` writes topics of 2 partitions (lz4, null keys) and prints
//! events divided by CPU seconds (user and system) of the whole process. With `-- formats`,
//! `-- overhead`, `-- latency`, `-- scaling` or `-- sizing` it does one part only:
//! - formats: each is read once with a plain consumer that does nothing (the baseline), then with
//!   the program in both roles, which is then started once more and only restored;
//! - overhead: what checkpoints, and alerts in transactions, take from JSON;
//! - latency: from an event to its alert;
//! - scaling: 1 and 16 partitions, 1 and 2 members;
//! - sizing: the coefficients of docs/SIZING.md, and other settings beside what they foretell.
//!
//! `EXFILWATCH_BENCH_EVENTS`, `EXFILWATCH_BENCH_PRINCIPALS` and `EXFILWATCH_BENCH_ROUNDS` (of
//! overhead) change the size.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports by panic and print")]

mod deployment;
mod events;
#[path = "../../tests/it/kafka/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use more of it")]
mod kafka;
mod latency;
mod overhead;
#[path = "../../tests/it/process.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod process;
mod program;
mod scaling;
mod sizing;

use std::{
    env,
    time::{Duration, Instant},
};

use events::Shape;
use kafka::{Client, Compression};
use program::{Cost, Program, WAIT_MAX, cpu_s, memory_mib};

const PARTITIONS: i32 = 2;

fn main() {
    let events = number("EXFILWATCH_BENCH_EVENTS", 2_000_000);
    let principals = number("EXFILWATCH_BENCH_PRINCIPALS", 1_000_000);
    let broker = kafka::private().expect("a bench needs Java and Maven for its Kafka");
    let client = broker.client();
    println!("{events} events, {principals} principals, {PARTITIONS} partitions, lz4, null keys");
    println!("{:<28}{:>16}{:>10}{:>9}{:>10}", "", "events/core-s", "ns/event", "wall s", "RSS MiB");
    let uniform = Shape { principals, skewed: false };
    let json = (wanted("formats") || wanted("overhead"))
        .then(|| filled(&client, "canonical", uniform, events));
    if wanted("formats") {
        let json = json.as_ref().unwrap();
        format(&client, json, ("canonical", "uniform"), events);
        let skewed = Shape { principals, skewed: true };
        let topic = filled(&client, "canonical", skewed, events);
        format(&client, &topic, ("canonical", "Zipf"), events);
        let topic = filled(&client, "arrow", uniform, events);
        format(&client, &topic, ("arrow", "uniform"), events);
    }
    if let Some(json) = json.filter(|_| wanted("overhead")) {
        overhead::measure(&client, &json, events, number("EXFILWATCH_BENCH_ROUNDS", 3));
    }
    if wanted("latency") {
        alert_latency(&client);
    }
    if wanted("scaling") {
        scaling::measure(&client, uniform, events);
    }
    if wanted("sizing") {
        sizing::measure(&client, events);
    }
}

/// Whether a part of the bench was asked for; all are when none was named.
fn wanted(part: &str) -> bool {
    let mut named = env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    named.peek().is_none() || named.any(|name| name == part)
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// A new topic with events of one format.
fn filled(client: &Client, format: &str, shape: Shape, events: u64) -> String {
    let topic = kafka::unique(&format!("bench-{format}"));
    client.create_topic(&topic, PARTITIONS, &[("max.message.bytes", "10000000")]);
    match format {
        "arrow" => client.produce(&topic, Compression::Lz4, shape.arrow(events)),
        _ => client.produce(&topic, Compression::Lz4, shape.json(events)),
    }
    topic
}

/// Reads a topic with a consumer that does nothing, with the program, and has that restore itself.
fn format(client: &Client, topic: &str, (format, law): (&str, &str), events: u64) {
    report(&format!("{format}, {law}: poll only"), events, &poll_only(client, topic));
    let began = Instant::now();
    let mut program = Program::start(client, &kafka::unique("bench"), &[(topic, format)], "");
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let counted =
        |metrics: &program::Metrics| metrics.sum("exfilwatch_state_rows") >= events as f64;
    program.until("all events counted", counted);
    report(&format!("{format}, {law}: exfilwatch"), events, &program.cost(began));
    program.restart();
    let began = Instant::now();
    program.ready();
    let ready_s = began.elapsed().as_secs_f64();
    let log = program.log();
    let said = log.lines().filter(|line| line.contains("restored from a checkpoint"));
    println!("  restored, ready after {ready_s:.1} s: {}", said.collect::<Vec<_>>().join("; "));
    program.stop();
}

fn report(name: &str, events: u64, cost: &Cost) {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = events as f64 / cost.cpu_s;
    let ns = 1e9 / rate;
    println!("{name:<28}{rate:>16.0}{ns:>10.0}{:>9.1}{:>10.0}", cost.wall_s, cost.rss_mib);
}

/// The floor: a consumer of this process that reads every record and drops it.
fn poll_only(client: &Client, topic: &str) -> Cost {
    let records: i64 = client.ends(topic).iter().sum();
    let (began, before) = (Instant::now(), cpu_s("self"));
    client.reader(topic).drop_all(usize::try_from(records).unwrap(), WAIT_MAX);
    Cost {
        cpu_s: cpu_s("self") - before,
        wall_s: began.elapsed().as_secs_f64(),
        rss_mib: memory_mib("self", "VmRSS:"),
    }
}

/// Prints how long single alerts take through an idle pipeline.
fn alert_latency(client: &Client) {
    let topic = kafka::unique("bench-latency");
    client.create_topic(&topic, PARTITIONS, &[]);
    let prefix = kafka::unique("bench");
    client.create_topic(&format!("{prefix}.alerts"), PARTITIONS, &[]);
    let _program = Program::start(client, &prefix, &[(&topic, "canonical")], "");
    let latency = latency::measure(client, &topic, &format!("{prefix}.alerts"));
    let at = |quantile| Duration::from_micros(latency.value_at_quantile(quantile));
    println!(
        "event to alert, {} alerts one by one: p50 {:.1?}, p99 {:.1?}, max {:.1?}",
        latency.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
