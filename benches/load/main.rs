//! Time from an event to its alert under load, by an open loop: events are sent when they are due,
//! whether or not anybody keeps up, and an alert's latency counts from when its event was due. So
//! a pause of anything on the way is seen by every event that it delays (no coordinated omission).
//!
//! `cargo bench --bench load` starts the Kafka of the tests and the real program in both roles, 16
//! partitions, finds the rate at which it no longer keeps up, and loads it at 70 % of that.
//! `cargo bench --bench load -- --help` says how to load a deployment of yours instead.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports by panic and print")]

#[path = "../../tests/it/kafka/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use more of it")]
mod kafka;
#[path = "../../tests/it/process.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod process;
#[path = "../end_to_end/program.rs"]
#[allow(dead_code, reason = "the other bench uses more of it")]
mod program;
mod sender;
mod watcher;

use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;

use program::Program;
use sender::Load;

/// Of the input and of the events topic.
const PARTITIONS: i32 = 16;
/// The rate that is tried first, and by how much the next is higher.
const FIRST_RATE: u64 = 40_000;
const STEP: f64 = 1.15;
/// How long a rate is tried.
const TRY: Duration = Duration::from_secs(12);
/// Who is further behind than this at the end of a try did not keep up.
const BEHIND_S: f64 = 1.0;
/// Of the rate that was kept up with.
const SHARE: f64 = 0.7;

/// Loads a deployment at a fixed rate and measures from event to alert.
///
/// With no --brokers it starts a broker and a member of its own. With --brokers it writes canonical
/// JSON to --input: events of made-up principals `load-user-N` with one row each, and every so
/// often one of a `load-thief-N` with 2,000,000 rows, which some rule of yours must alert on.
#[derive(Parser)]
struct Options {
    /// Bootstrap servers of the deployment; plain text.
    #[arg(long, requires = "rate")]
    brokers: Option<String>,
    /// The topic to write to.
    #[arg(long, default_value = "query-events")]
    input: String,
    /// The topic to wait for alerts on.
    #[arg(long, default_value = "exfilwatch.alerts")]
    alerts: String,
    /// Events a second; found by trying when left out.
    #[arg(long)]
    rate: Option<u64>,
    /// How long to load.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Different principals.
    #[arg(long, default_value_t = 1_000_000)]
    principals: u64,
    /// Alerts a second.
    #[arg(long, default_value_t = 20)]
    alerts_per_second: u64,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    if let (Some(brokers), Some(rate)) = (&options.brokers, options.rate) {
        let load = Load {
            brokers: brokers.clone(),
            input: options.input.clone(),
            principals: options.principals,
            alerts_per_second: options.alerts_per_second,
        };
        return report(rate, &watcher::measure(&load, &options.alerts, rate, length(&options)));
    }
    let broker = kafka::private().expect("a bench needs Java and Maven for its Kafka");
    let client = broker.client();
    let (input, prefix) = (kafka::unique("load"), kafka::unique("load"));
    client.create_topic(&input, PARTITIONS, &[]);
    let alerts = format!("{prefix}.alerts");
    client.create_topic(&alerts, PARTITIONS, &[]);
    let topics = format!("create_topics: {{partitions: {PARTITIONS}, replication: 1}}");
    let lines = program::kafka(&client, &prefix, &topics);
    let mut program = Program::start(&client, &prefix, &[(&input, "canonical")], &lines);
    program.ready();
    let load = Load {
        brokers: client.address().to_owned(),
        input,
        principals: options.principals,
        alerts_per_second: options.alerts_per_second,
    };
    println!("both roles in one process, {PARTITIONS} partitions, broker on the same cores");
    let rate = options.rate.unwrap_or_else(|| kept_up_with(&load, &mut program));
    let began = (Instant::now(), program.cost(Instant::now()).cpu_s);
    let latency = watcher::measure(&load, &alerts, rate, length(&options));
    let cores = (program.cost(began.0).cpu_s - began.1) / began.0.elapsed().as_secs_f64();
    println!("the program used {cores:.2} cores meanwhile");
    report(rate, &latency);
    program.stop();
}

fn length(options: &Options) -> Duration {
    Duration::from_secs(options.seconds)
}

/// [`SHARE`] of the highest rate that the program keeps up with, the generator beside it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate")]
#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn kept_up_with(load: &Load, program: &mut Program) -> u64 {
    let (mut rate, mut kept) = (FIRST_RATE, 0);
    loop {
        let counted = program.metrics().sum("exfilwatch_state_rows");
        let sent = sender::send(load, rate, TRY).events;
        let behind = sent as f64 - (program.metrics().sum("exfilwatch_state_rows") - counted);
        let behind_s = behind / rate as f64;
        println!("  {rate} events a second: {behind_s:.2} s behind after {} s", TRY.as_secs());
        let all = |metrics: &program::Metrics| {
            metrics.sum("exfilwatch_state_rows") - counted >= sent as f64
        };
        program.until("everything counted", all);
        if behind_s > BEHIND_S {
            assert!(kept > 0, "the first rate is too high for this machine");
            println!("{kept} events a second are kept up with; {:.0} % of that:", SHARE * 100.0);
            return (kept as f64 * SHARE) as u64;
        }
        kept = rate;
        rate = (rate as f64 * STEP) as u64;
    }
}

fn report(rate: u64, latency: &Histogram<u64>) {
    let at = |quantile| Duration::from_micros(latency.value_at_quantile(quantile));
    println!(
        "{rate} events a second, {} alerts, event due to alert seen: p50 {:.1?}, p90 {:.1?}, p99 \
         {:.1?}, p99.9 {:.1?}, max {:.1?}",
        latency.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}
