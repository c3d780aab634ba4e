//! From `kill -9` of the member that holds everything to the first alert about something that
//! happened after it, on a real Apache Kafka.
//!
//! `cargo bench --bench recovery`: one member has counted a million principals on one partition and
//! saved them, another is idle in the same group. A thief reads every 100 ms. The first is killed,
//! and the alerts are watched for a thief who read after that. Then roles change, and once more.
//! What comes before the decision: the session time-out, the restore over Kafka, and the rest.
//!
//! `EXFILWATCH_BENCH_PRINCIPALS`, `EXFILWATCH_BENCH_PARTITIONS` (1), `EXFILWATCH_BENCH_SESSION_S`
//! (10) and `EXFILWATCH_BENCH_KILLS` (3) change it. Of several partitions each member owns half, so
//! that half of them are taken over; then it counts until there is an alert about everybody who
//! read in the first second after the kill. The member that restores is new: its peak of memory is
//! that of a restore and of what it counted since.
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
mod reads;

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    env,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kafka::{Client, Compression, Reader, Record};
use program::Program;
use serde_json::Value;

/// Between two thieves.
const EVERY: Duration = Duration::from_millis(100);
/// A member is settled when nothing has changed for so long.
const SETTLED: Duration = Duration::from_secs(4);
/// Who reads in so long lies on any of several partitions.
const SPREAD: Duration = Duration::from_secs(1);
const ALERT_MAX: Duration = Duration::from_mins(5);

/// When each thief read.
type Thefts = Mutex<HashMap<String, Instant>>;

/// What one recovery was made of, in seconds.
struct Recovery {
    /// From the kill to the decision.
    all: f64,
    /// From the kill to the start of the restore: the session, the rebalance, the claim.
    before: f64,
    restore: f64,
    restored_mib: f64,
    peak_mib: f64,
}

fn main() {
    let principals = number("EXFILWATCH_BENCH_PRINCIPALS", 1_000_000);
    let partitions = number("EXFILWATCH_BENCH_PARTITIONS", 1);
    let session_s = number("EXFILWATCH_BENCH_SESSION_S", 10);
    let broker = kafka::private().expect("a bench needs Java and Maven for its Kafka");
    let client = broker.client();
    let (topic, prefix) = (kafka::unique("reads"), kafka::unique("recovery"));
    client.create_topic(&topic, 1, &[("max.message.bytes", "10000000")]);
    client.produce(&topic, Compression::Lz4, reads::of_everybody(principals));
    let start = || {
        let more = format!(
            "create_topics: {{partitions: {partitions}, replication: 1}}\n\
             \x20 properties: {{session.timeout.ms: \"{session_s}000\"}}"
        );
        let more = program::kafka(&client, &prefix, &more)
            + &format!("shutdown: {{drain_timeout: {}s}}\n", session_s - 1);
        Program::start(&client, &prefix, &[(&topic, "arrow")], &more)
    };
    let mut owner = start();
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let all = principals as f64;
    owner.until("all principals counted", |metrics| {
        metrics.sum("exfilwatch_state_rows") >= all
            && metrics.sum("exfilwatch_checkpoint_age_seconds") <= 0.0
    });
    let mut alerts = client.reader(&format!("{prefix}.alerts"));
    let (thefts, stop) = (Thefts::default(), AtomicBool::new(false));
    println!("{principals} principals on {partitions} partitions, session time-out {session_s} s");
    thread::scope(|scope| {
        let _stopped = StopOnDrop(&stop);
        scope.spawn(|| steal(&client, &topic, &thefts, &stop));
        for _ in 0..number("EXFILWATCH_BENCH_KILLS", 3) {
            let mut idle = start();
            idle.ready();
            settle(&mut owner, partitions, &mut alerts, &thefts);
            let (killed, at) = (Instant::now(), Timestamp::now());
            // SIGKILL.
            drop(std::mem::replace(&mut owner, idle));
            let within = if partitions > 1 { SPREAD } else { Duration::ZERO };
            let all = all_after(killed, within, &mut alerts, &thefts);
            report(&recovery(&owner, at, all), session_s);
        }
    });
}

/// Ends the thieves, also when something fails.
struct StopOnDrop<'s>(&'s AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// One thief after the other, each with one read above every limit.
fn steal(client: &Client, topic: &str, thefts: &Thefts, stop: &AtomicBool) {
    let producer = reads::producer(client);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let thief = format!("thief-{number}");
        thefts.lock().unwrap().insert(thief.clone(), Instant::now());
        kafka::send(&producer, topic, &reads::theft(&thief));
        number += 1;
        thread::sleep(EVERY);
    }
}

/// Waits until the owner is up with the thieves and its mate has joined the group. One partition
/// stays where it is, of several each has half.
#[expect(clippy::cast_precision_loss, reason = "a count")]
fn settle(owner: &mut Program, partitions: u64, alerts: &mut Reader, thefts: &Thefts) {
    let share = partitions.div_ceil(2) as f64;
    let assigned = "exfilwatch_partitions_assigned{role=\"detect\"";
    let owns_its_share = |metrics: &program::Metrics| (metrics.sum(assigned) - share).abs() < 0.5;
    owner.until("partitions shared out", owns_its_share);
    let began = Instant::now();
    while began.elapsed() < SETTLED {
        all_after(Instant::now(), Duration::ZERO, alerts, thefts);
    }
    assert!(owns_its_share(&owner.metrics()), "partitions moved");
}

/// Time until there are alerts about the first thief who read after `since`, and about everybody
/// else who did so `within` it.
fn all_after(since: Instant, within: Duration, alerts: &mut Reader, thefts: &Thefts) -> Duration {
    let (looked_at, named) = (Cell::new(0), RefCell::new(HashSet::new()));
    alerts.until("alerts about later thieves", ALERT_MAX, |seen| {
        let mut named = named.borrow_mut();
        named.extend(seen[looked_at.replace(seen.len())..].iter().filter_map(Record::key_text));
        let thefts = thefts.lock().unwrap();
        let mut later: Vec<_> = thefts.iter().filter(|(_, at)| **at > since).collect();
        later.sort_unstable_by_key(|(_, at)| **at);
        let counts = |at: Instant| at == *later[0].1 || at <= since + within;
        !later.is_empty()
            && since.elapsed() >= within
            && later.iter().all(|(thief, at)| !counts(**at) || named.contains(*thief))
    });
    since.elapsed()
}

/// Takes a recovery apart by what the new owner has logged since the kill.
fn recovery(owner: &Program, killed: Timestamp, all: Duration) -> Recovery {
    let log = owner.log();
    let (mut begun, mut ended, mut bytes) = (None, None, 0.0);
    for line in log.lines().filter(|line| line.contains("restored from a checkpoint")) {
        let line: Value = serde_json::from_str(line).unwrap();
        let at: Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        let at = at.duration_since(killed).as_secs_f64();
        if at > 0.0 {
            let from = at - line["took_ms"].as_f64().unwrap() / 1e3;
            begun = Some(begun.map_or(from, |begun: f64| begun.min(from)));
            ended = Some(ended.map_or(at, |ended: f64| ended.max(at)));
            bytes += line["bytes"].as_f64().unwrap();
        }
    }
    let (begun, ended) = begun.zip(ended).expect("it restored a checkpoint");
    Recovery {
        all: all.as_secs_f64(),
        before: begun,
        restore: ended - begun,
        restored_mib: bytes / f64::from(1 << 20),
        peak_mib: owner.peak_mib(),
    }
}

fn report(recovery: &Recovery, session_s: u64) {
    let Recovery { all, before, restore, restored_mib, peak_mib } = recovery;
    let session = Duration::from_secs(session_s).as_secs_f64();
    println!(
        "  {all:.1} s to the new alerts: {before:.1} to the restore, {restore:.1} of it \
         ({restored_mib:.0} MiB), {:.1} after it; beside the session time-out and the restore \
         {:+.1} s; peak of the new owner {peak_mib:.0} MiB",
        all - before - restore,
        all - session - restore
    );
}
