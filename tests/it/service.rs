//! The real binary as a process: its folder of configuration and rules, its probes, its end.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    http::{self, Metrics},
    kafka::{self, Client, Reader, free_port},
    process::Guarded,
};

/// Starting takes two group joins; a busy machine takes longer.
const READY_MAX: Duration = Duration::from_secs(20);
/// `shutdown.drain_timeout` of every configuration here, and a little for the process to end.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(6);

/// One deployment: topics and groups of its own, a folder, any number of processes.
#[derive(Debug)]
pub(crate) struct Setup {
    kafka: Client,
    id: String,
    folder: TempDir,
    create_topics: Cell<&'static str>,
    /// Further lines of `kafka:`.
    further: RefCell<String>,
    /// Where the processes go; the tests themselves go to `kafka`.
    servers: RefCell<String>,
    properties: RefCell<BTreeMap<String, String>>,
}

impl Setup {
    /// A deployment on `kafka` with the one rule most tests use, [`RULES`].
    pub(crate) fn new(kafka: &Client, name: &str) -> Self {
        let folder = TempDir::with_prefix("exfilwatch-").expect("a temporary folder");
        fs::create_dir(folder.path().join("rules")).expect("a folder for rules");
        let create_topics = Cell::new("{partitions: 4, replication: 1}");
        let (kafka, id) = (kafka.clone(), kafka::unique(name));
        let servers = RefCell::new(kafka.address().to_owned());
        let (further, properties) = (RefCell::default(), RefCell::default());
        let setup = Self { kafka, id, folder, create_topics, further, servers, properties };
        // A short session: a killed member's partitions are free again after five seconds.
        setup.property("session.timeout.ms", "5000");
        setup.property("heartbeat.interval.ms", "500");
        setup.rules("rules.yaml", RULES);
        setup
    }

    /// What `kafka.create_topics` says, from now on.
    pub(crate) fn create_topics(&self, text: &'static str) {
        self.create_topics.set(text);
    }

    /// Sets one of `kafka.properties` for the processes that are started from now on.
    pub(crate) fn property(&self, name: &str, value: &str) {
        self.properties.borrow_mut().insert(name.to_owned(), value.to_owned());
    }

    /// Sets another key of `kafka` for the processes that are started from now on.
    #[allow(dead_code, reason = "for tests/it alone")]
    pub(crate) fn kafka_key(&self, key: &str, value: &str) {
        let line = format!("  {key}: {value}\n");
        self.further.borrow_mut().push_str(&line);
    }

    /// Lets the processes that are started from now on go to other brokers.
    #[allow(dead_code, reason = "for tests/it alone")]
    pub(crate) fn servers(&self, servers: &str) {
        servers.clone_into(&mut self.servers.borrow_mut());
    }

    /// The full name of one of this deployment's topics.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.id)
    }

    /// Name of the consumer group of a role.
    pub(crate) fn group(&self, role: &str) -> String {
        format!("{}-{role}", self.id)
    }

    /// Creates an input topic and gives its full name.
    pub(crate) fn input(&self, name: &str, partitions: i32) -> String {
        let topic = self.topic(name);
        self.kafka.create_topic(&topic, partitions, &[]);
        topic
    }

    /// A reader of one of this deployment's topics, from its beginning.
    pub(crate) fn reader(&self, name: &str) -> Reader {
        self.kafka.reader(&self.topic(name))
    }

    /// The same, which sees committed transactions only.
    pub(crate) fn committed_reader(&self, name: &str) -> Reader {
        self.kafka.committed_reader(&self.topic(name))
    }

    /// Writes a rule file, as an editor would: whole, under its final name.
    pub(crate) fn rules(&self, file: &str, text: &str) {
        let beside = self.folder.path().join(format!(".{file}.new"));
        fs::write(&beside, text).expect("a rule file is written");
        fs::rename(beside, self.folder.path().join("rules").join(file)).expect("and put in place");
    }

    /// A path in this deployment's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a configuration: `lines` and what every process of this deployment shares.
    pub(crate) fn config(&self, port: u16, lines: &str) -> PathBuf {
        let path = self.folder.path().join(format!("exfilwatch-{port}.yaml"));
        let Self { id, create_topics, .. } = self;
        let text = format!(
            "kafka:
  bootstrap_servers: \"{address}\"
  group_id: {id}
  transactional_id_prefix: {id}
  create_topics: {create}
  properties: {properties}
{further}
topics: {{events: {id}.events, state: {id}.state, alerts: {id}.alerts, dead_letter: {id}.dead}}
http: {{listen: \"127.0.0.1:{port}\"}}
shutdown: {{drain_timeout: 4s}}
rules: [\"rules/*.yaml\"]
{lines}
",
            address = self.servers.borrow(),
            further = self.further.borrow(),
            create = create_topics.get(),
            properties = serde_json::json!(*self.properties.borrow()),
        );
        fs::write(&path, text).expect("a configuration is written");
        path
    }

    /// Starts one process and returns at once.
    pub(crate) fn start(&self, lines: &str) -> Service {
        self.start_with(&[], lines)
    }

    /// The same, with further arguments of `run`.
    pub(crate) fn start_with(&self, arguments: &[&str], lines: &str) -> Service {
        let port = free_port();
        let config = self.config(port, lines);
        let mut command = exfilwatch();
        command.arg("run").args(arguments).arg("-c").arg(config);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Service::spawn(&mut command, port)
    }

    /// Starts one process and waits until it is ready.
    pub(crate) fn run(&self, lines: &str) -> Service {
        let service = self.start(lines);
        service.ready();
        service
    }

    /// Runs another command of the binary to its end, `-c FILE` being the given configuration.
    pub(crate) fn command(&self, arguments: &[&str], lines: &str) -> Output {
        let config = self.config(free_port(), lines);
        let output = exfilwatch().args(arguments).arg("-c").arg(config).output();
        output.expect("the binary starts")
    }
}

/// Both outputs of a command that has ended.
pub(crate) fn said(output: &Output) -> String {
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&all).into_owned()
}

/// The binary, with no colours to look through.
pub(crate) fn exfilwatch() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exfilwatch"));
    command.env("NO_COLOR", "1").env_remove("RUST_LOG");
    command
}

/// Records of customers per principal: more than 500 in an hour, 1500 in a day.
pub(crate) const RULES: &str = "rules:
  - id: customer-records
    title: Customer records leaving the support database
    severity: high
    where: {object: \"crm.public.customers\"}
    group_by: principal.id
    measure: rows
    limits:
      - {window: 1h, above: 500, severity: medium}
      - {window: 24h, above: 1500}
";

/// A running process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Service {
    process: Guarded,
    /// Of its probes and metrics.
    pub(crate) port: u16,
    output: Arc<Mutex<String>>,
}

impl Service {
    fn spawn(command: &mut Command, port: u16) -> Self {
        let mut process = Guarded::spawn(command).expect("the binary starts");
        let output = Arc::new(Mutex::new(String::new()));
        let child = process.child_mut();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        collect(stdout.expect("standard output is piped"), &output);
        collect(stderr.expect("standard error is piped"), &output);
        Self { process, port, output }
    }

    /// Everything printed so far.
    pub(crate) fn output(&self) -> String {
        self.output.lock().expect("no reader panics").clone()
    }

    /// Status and body of a page, or `None` when nothing listens.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        http::get(self.port, path)
    }

    /// Waits for `/readyz` to say 200.
    pub(crate) fn ready(&self) {
        self.until("200 from /readyz", READY_MAX, || {
            self.get("/readyz").is_some_and(|(status, _)| status == 200)
        });
    }

    /// What `/metrics` says now; nothing while it does not answer.
    pub(crate) fn metrics(&self) -> Metrics {
        self.get("/metrics").map(|(_, text)| Metrics::parse(&text)).unwrap_or_default()
    }

    /// Scrapes until `enough` of the metrics; panics, naming `what`, after `at_most`.
    pub(crate) fn metrics_until(
        &self,
        what: &str,
        at_most: Duration,
        enough: impl Fn(&Metrics) -> bool,
    ) -> Metrics {
        self.until(what, at_most, || enough(&self.metrics()));
        self.metrics()
    }

    /// Waits for `holds`; panics, naming `what`, after `at_most` or when the process has ended.
    pub(crate) fn until(&self, what: &str, at_most: Duration, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + at_most;
        while !holds() {
            let last = self.get("/readyz");
            assert!(Instant::now() < deadline, "no {what} within {at_most:?}; /readyz: {last:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Memory of its own that is in use, MiB.
    pub(crate) fn resident_mib(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("the process is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") >> 10
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait()
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait(&mut self, at_most: Duration) -> ExitStatus {
        let status = self.process.wait(at_most);
        status.unwrap_or_else(|| panic!("the process has not ended within {at_most:?}"))
    }

    /// Asks it to stop and waits for its end as long as an orchestrator might.
    pub(crate) fn stop_within(&mut self, at_most: Duration) -> ExitStatus {
        self.signal("TERM");
        self.wait(at_most)
    }

    /// Asks it to stop, as an orchestrator would, and waits for its end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.stop_within(STOP_MAX)
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) {
        self.signal("KILL");
        self.wait(STOP_MAX);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let tail = &lines[lines.len().saturating_sub(60)..];
            eprintln!("--- the process said, at the end\n{}\n---", tail.join("\n"));
        }
    }
}

/// Reads a pipe to its end on a thread, so that the process never waits for us.
fn collect(pipe: impl Read + Send + 'static, into: &Arc<Mutex<String>>) {
    let into = Arc::clone(into);
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            let mut text = into.lock().expect("nobody panics with the output");
            text.push_str(&line);
            text.push('\n');
        }
    });
}
