//! The real program as a process: its configuration, its metrics, what the kernel says of it.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    kafka::{Client, free_port},
    process::Guarded,
};

pub(crate) const WAIT_MAX: Duration = Duration::from_mins(5);
const STOP_MAX: Duration = Duration::from_secs(30);

/// What one run cost.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) cpu_s: f64,
    pub(crate) wall_s: f64,
    pub(crate) rss_mib: f64,
}

/// A member that runs.
pub(crate) struct Program {
    process: Guarded,
    folder: TempDir,
    port: u16,
}

/// Every sample of `/metrics`.
#[derive(Default)]
pub(crate) struct Metrics(HashMap<String, f64>);

impl Metrics {
    /// Over all samples whose name, labels included, begins so.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let samples = self.0.iter().filter(|(sample, _)| sample.starts_with(name));
        samples.fold(0.0, |sum, (_, value)| sum + value)
    }
}

/// What it watches for unless told otherwise.
pub(crate) const RULES: &str = "  - id: bench
    measure: rows
    limits:
      - {window: 1m, above: 100000}
      - {window: 1h, above: 200000}
      - {window: 24h, above: 500000}
      - {window: 30d, above: 1000000}
";

impl Program {
    /// Starts a member of the deployment `prefix` that reads inputs of `(topic, format)`; `more`
    /// are further lines of its configuration.
    pub(crate) fn start(
        client: &Client,
        prefix: &str,
        inputs: &[(&str, &str)],
        more: &str,
    ) -> Self {
        Self::with_rules(client, prefix, inputs, RULES, more)
    }

    /// The same with other rules; an input's format may be followed by further keys of it.
    pub(crate) fn with_rules(
        client: &Client,
        prefix: &str,
        inputs: &[(&str, &str)],
        rules: &str,
        more: &str,
    ) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let mut text = format!(
            "topics: {{events: {prefix}.events, state: {prefix}.state, alerts: {prefix}.alerts,\n\
             \x20 dead_letter: {prefix}.dead}}\n\
             http: {{listen: \"127.0.0.1:{port}\"}}\nrules:\n{rules}{more}inputs:\n"
        );
        for (topic, format) in inputs {
            writeln!(text, "  - {{topic: {topic}, format: {format}}}").unwrap();
        }
        if !more.contains("kafka:") {
            text += &kafka(client, prefix, "create_topics: {partitions: 2, replication: 1}");
        }
        fs::write(folder.path().join("exfilwatch.yaml"), text).unwrap();
        let process = spawn(&folder);
        Self { process, folder, port }
    }

    /// Stops it, and starts it again as it was.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.process = spawn(&self.folder);
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) {
        self.process.signal("TERM");
        let status = self.process.wait(STOP_MAX).expect("the program stops");
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Every sample now; none while it is not up.
    pub(crate) fn metrics(&self) -> Metrics {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return Metrics::default();
        };
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut text = String::new();
        let read =
            stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut text));
        let samples = text.lines().filter(|line| read.is_ok() && !line.starts_with('#'));
        let samples = samples.filter_map(|line| line.rsplit_once(' '));
        let valued = |(name, value): (&str, &str)| Some((name.to_owned(), value.parse().ok()?));
        Metrics(samples.filter_map(valued).collect())
    }

    /// Waits until `holds` of its metrics.
    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut(&Metrics) -> bool) {
        let began = Instant::now();
        while !holds(&self.metrics()) {
            self.expect_alive();
            assert!(began.elapsed() < WAIT_MAX, "no {what} in {WAIT_MAX:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// # Panics
    /// It has ended.
    pub(crate) fn expect_alive(&mut self) {
        let ended = self.process.try_wait();
        assert!(ended.is_none(), "the program ended: {}", self.log());
    }

    pub(crate) fn ready(&mut self) {
        self.until("readiness", |metrics| metrics.sum("exfilwatch_ready") > 0.0);
    }

    /// Everything it has said since it was started.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// User and system time since it was started, and its memory.
    pub(crate) fn cost(&self, began: Instant) -> Cost {
        let pid = self.process.id().to_string();
        Cost {
            cpu_s: cpu_s(&pid),
            wall_s: began.elapsed().as_secs_f64(),
            rss_mib: memory_mib(&pid, "VmRSS:"),
        }
    }

    /// The most memory it has held.
    #[allow(dead_code, reason = "for benches/recovery")]
    pub(crate) fn peak_mib(&self) -> f64 {
        memory_mib(&self.process.id().to_string(), "VmHWM:")
    }
}

/// The `kafka:` part of a configuration; `more` is of that part.
pub(crate) fn kafka(client: &Client, prefix: &str, more: &str) -> String {
    let address = client.address();
    format!(
        "kafka:\n  bootstrap_servers: \"{address}\"\n  group_id: {prefix}\n\
         \x20 transactional_id_prefix: {prefix}\n  {more}\n"
    )
}

fn spawn(folder: &TempDir) -> Guarded {
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_exfilwatch"));
    command.args(["run", "-c"]).arg(folder.path().join("exfilwatch.yaml"));
    Guarded::spawn(command.stdout(Stdio::null()).stderr(log)).unwrap()
}

/// User and system CPU seconds of a process, all threads; the kernel counts in hundredths.
pub(crate) fn cpu_s(pid: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The second field is the name in brackets, which may hold spaces.
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

pub(crate) fn memory_mib(pid: &str, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
