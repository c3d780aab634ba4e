//! Events per core-second of the real program on a real Apache Kafka.
//!
//! `cargo bench --bench end_to_end` writes one topic for each format (2 partitions, lz4, null
//! keys), reads it once with a plain consumer that does nothing (the baseline), then with the
//! program in both roles, and prints events divided by CPU seconds (user and system) of the whole
//! process. JSON is read again without checkpoints, and with alerts in transactions; then the
//! program is only restored.
//! `EXFILWATCH_BENCH_EVENTS` and `EXFILWATCH_BENCH_PRINCIPALS` change the size.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports by panic and print")]

mod events;
#[path = "../../tests/it/kafka/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use more of it")]
mod kafka;
mod latency;
#[path = "../../tests/it/process.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod process;

use std::{
    collections::HashMap,
    env, fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use events::Shape;
use kafka::{Client, Compression};
use process::Guarded;

const WAIT_MAX: Duration = Duration::from_mins(5);
const PARTITIONS: i32 = 2;

/// What one run cost.
struct Cost {
    cpu_s: f64,
    wall_s: f64,
    rss_mib: f64,
}

fn main() {
    let events = number("EXFILWATCH_BENCH_EVENTS", 2_000_000);
    let principals = number("EXFILWATCH_BENCH_PRINCIPALS", 1_000_000);
    let broker = kafka::private().expect("a bench needs Java and Maven for its Kafka");
    let client = broker.client();
    println!("{events} events, {principals} principals, {PARTITIONS} partitions, lz4, null keys");
    println!("{:<28}{:>16}{:>10}{:>9}{:>10}", "", "events/core-s", "ns/event", "wall s", "RSS MiB");
    for (format, skewed) in [("canonical", false), ("canonical", true), ("arrow", false)] {
        let shape = Shape { principals, skewed };
        let topic = kafka::unique(&format!("bench-{format}"));
        client.create_topic(&topic, PARTITIONS, &[("max.message.bytes", "10000000")]);
        match format {
            "arrow" => client.produce(&topic, Compression::Lz4, shape.arrow(events)),
            _ => client.produce(&topic, Compression::Lz4, shape.json(events)),
        }
        let law = if skewed { "Zipf" } else { "uniform" };
        report(&format!("{format}, {law}: poll only"), events, &poll_only(&client, &topic));
        let run = |interval, transactional| Run {
            client: &client,
            topic: &topic,
            format,
            events,
            interval,
            transactional,
        };
        let counted = run("10s", false).detect();
        report(&format!("{format}, {law}: exfilwatch"), events, &counted.cost);
        if format == "canonical" && !skewed {
            report("  without checkpoints", events, &run("1h", false).detect().cost);
            report("  with transactions", events, &run("10s", true).detect().cost);
            println!("  {}", counted.restored);
        }
    }
    alert_latency(&client);
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().map_or(default, |text| text.parse().unwrap())
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
        rss_mib: rss_mib("self"),
    }
}

/// Prints how long single alerts take through an idle pipeline.
fn alert_latency(client: &Client) {
    let topic = kafka::unique("bench-latency");
    client.create_topic(&topic, PARTITIONS, &[]);
    let dir = tempfile::tempdir().unwrap();
    let prefix = kafka::unique("bench");
    let text = config(client, &topic, "canonical", &prefix, kafka::free_port());
    fs::write(dir.path().join("exfilwatch.yaml"), text).unwrap();
    client.create_topic(&format!("{prefix}.alerts"), PARTITIONS, &[]);
    let _program = start(dir.path());
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

/// The program in both roles over one topic.
struct Run<'a> {
    client: &'a Client,
    topic: &'a str,
    format: &'a str,
    events: u64,
    /// Between checkpoints.
    interval: &'a str,
    /// Alerts in transactions.
    transactional: bool,
}

/// What a run cost, and what the next start said of its restore.
struct Counted {
    cost: Cost,
    restored: String,
}

impl Run<'_> {
    /// From the start until every event is counted; then stops it and starts it once more.
    fn detect(&self) -> Counted {
        let dir = tempfile::tempdir().unwrap();
        let port = kafka::free_port();
        let prefix = kafka::unique("bench");
        let text = config(self.client, self.topic, self.format, &prefix, port)
            + &format!("detect: {{checkpoint_interval: {}}}\n", self.interval)
            + &format!("alerts: {{transactional: {}}}\n", self.transactional);
        fs::write(dir.path().join("exfilwatch.yaml"), text).unwrap();
        let began = Instant::now();
        let mut program = start(dir.path());
        let pid = program.child_mut().id().to_string();
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let wanted = self.events as f64;
        let counted = || {
            let samples = scrape(port).into_iter();
            let rows = samples.filter(|(name, _)| name.starts_with("exfilwatch_state_rows"));
            rows.map(|(_, value)| value).sum::<f64>()
        };
        wait("all events counted", &mut program, dir.path(), || counted() >= wanted);
        let cost = Cost {
            cpu_s: cpu_s(&pid),
            wall_s: began.elapsed().as_secs_f64(),
            rss_mib: rss_mib(&pid),
        };
        stop(&mut program);
        let began = Instant::now();
        let mut program = start(dir.path());
        let ready = || scrape(port).get("exfilwatch_ready").is_some_and(|ready| *ready > 0.0);
        wait("readiness", &mut program, dir.path(), ready);
        let ready_s = began.elapsed().as_secs_f64();
        let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        let said = log.lines().filter(|line| line.contains("restored from a checkpoint"));
        let said: Vec<&str> = said.collect();
        let restored = format!("restored, ready after {ready_s:.1} s: {}", said.join("; "));
        stop(&mut program);
        Counted { cost, restored }
    }
}

fn wait(what: &str, program: &mut Guarded, dir: &Path, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < WAIT_MAX, "no {what} within {WAIT_MAX:?}");
        if let Some(status) = program.try_wait() {
            let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
            panic!("the program ended with {status}: {log}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn stop(program: &mut Guarded) {
    program.signal("TERM");
    let status = program.wait(Duration::from_secs(30)).expect("the program stops");
    assert!(status.success(), "{status}");
}

fn start(dir: &Path) -> Guarded {
    let log = fs::File::create(dir.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_exfilwatch"));
    command.args(["run", "-c"]).arg(dir.join("exfilwatch.yaml")).stdout(Stdio::null()).stderr(log);
    Guarded::spawn(&mut command).unwrap()
}

fn config(client: &Client, topic: &str, format: &str, prefix: &str, port: u16) -> String {
    format!(
        "kafka:\n  bootstrap_servers: \"{}\"\n  group_id: {prefix}\n\
         \x20 create_topics: {{partitions: 2, replication: 1}}\n\
         topics: {{events: {prefix}.events, state: {prefix}.state, alerts: {prefix}.alerts,\n\
         \x20 dead_letter: {prefix}.dead}}\n\
         inputs:\n  - {{topic: {topic}, format: {format}}}\n\
         http: {{listen: \"127.0.0.1:{port}\"}}\nrules:\n\
         \x20 - id: bench\n    measure: rows\n    limits:\n      - {{window: 1m, above: 100000}}\n\
         \x20     - {{window: 1h, above: 200000}}\n      - {{window: 24h, above: 500000}}\n\
         \x20     - {{window: 30d, above: 1000000}}\n",
        client.address()
    )
}

/// Every sample of `/metrics`; none while the program is not up.
fn scrape(port: u16) -> HashMap<String, f64> {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return HashMap::new() };
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut text = String::new();
    if stream.write_all(request.as_bytes()).is_err() || stream.read_to_string(&mut text).is_err() {
        return HashMap::new();
    }
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.filter_map(|line| line.rsplit_once(' '));
    samples.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

/// User and system CPU seconds of a process, all threads; the kernel counts in hundredths.
fn cpu_s(pid: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The second field is the name in brackets, which may hold spaces.
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn rss_mib(pid: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
