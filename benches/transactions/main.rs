//! How checkpoints are fenced and committed, on a real Apache Kafka: what D6 and D4 cost.
//!
//! `cargo bench --bench transactions` measures, all on one broker and in one run:
//! - the end of a transaction by rust-rdkafka alone, and with its records drained first, as
//!   `kafka::state` does;
//! - claims of partitions: at once (as `kafka::state` does), after the client has met a broker, and
//!   many side by side;
//! - one transactional id a partition against one a member with the group's metadata (KIP-447), for
//!   a member with 16 partitions: start, checkpoints, threads, memory, and what a successor waits
//!   for after `kill -9` in the middle of a checkpoint.
//!
//! Members are processes of their own: this program, started again with a task.
//! `EXFILWATCH_KAFKA=host:port` uses a given broker.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports by panic and print")]

mod claims;
mod commits;
#[path = "../../tests/it/kafka/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use more of it")]
mod kafka;
mod owner;
#[path = "../../tests/it/process.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod process;
mod takeover;

use std::{collections::BTreeMap, env, time::Duration};

use exfilwatch::config::KafkaConfig;
use hdrhistogram::Histogram;
use owner::Scheme;

/// Partitions of one member.
const PARTITIONS: i32 = 16;

/// What this process is for, when another has started it: a scheme, and what to do by it.
const TASK: &str = "EXFILWATCH_BENCH_TASK";
/// Prefix of its topics, and name of its group.
const PREFIX: &str = "EXFILWATCH_BENCH_PREFIX";

fn main() {
    if let Ok(task) = env::var(TASK) {
        return owner::run(&task, &config(&env::var("EXFILWATCH_KAFKA").unwrap(), &prefix()));
    }
    let client = kafka::shared().expect("a bench needs Java and Maven for its Kafka");
    commits::measure(&client);
    claims::measure(&client);
    println!("\na member with {PARTITIONS} partitions");
    for scheme in Scheme::ALL {
        takeover::member(&client, scheme);
    }
    println!("\nkill -9 while a checkpoint is written, from the kill until a successor may read");
    for scheme in Scheme::ALL {
        takeover::measure(&client, scheme);
    }
}

fn prefix() -> String {
    env::var(PREFIX).unwrap()
}

/// The settings of a deployment with this prefix.
fn config(address: &str, prefix: &str) -> KafkaConfig {
    KafkaConfig {
        bootstrap_servers: address.to_owned(),
        properties: BTreeMap::from([("session.timeout.ms".to_owned(), "10000".to_owned())]),
        group_id: prefix.to_owned(),
        transactional_id_prefix: prefix.to_owned(),
        ..KafkaConfig::default()
    }
}

/// Median, 99th percentile and maximum.
fn shown(times: &Histogram<u64>) -> String {
    let ms = |quantile| Duration::from_micros(times.value_at_quantile(quantile));
    format!("p50 {:.1?}, p99 {:.1?}, max {:.1?} of {}", ms(0.5), ms(0.99), ms(1.0), times.len())
}

fn record(times: &mut Histogram<u64>, took: Duration) {
    times.record(u64::try_from(took.as_micros()).unwrap()).unwrap();
}
