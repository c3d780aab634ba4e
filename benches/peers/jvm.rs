//! The peers as processes: built by Maven once for each state of their sources, kept under
//! `target/`.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    kafka::{self, Client},
    oracle::{LIMITS, Passed},
    process::Guarded,
    results::Cost,
};

const RUN_MAX: Duration = Duration::from_hours(1);
const QUIET: Duration = Duration::from_secs(2);

/// The class path of the peers.
pub(crate) struct Peers(String);

/// What a peer is to do.
pub(crate) struct Job<'j> {
    pub(crate) peer: &'static str,
    pub(crate) input: &'j str,
    pub(crate) events: u64,
    pub(crate) warmup: u64,
    pub(crate) principals: u64,
    pub(crate) exactly_once: bool,
}

impl Peers {
    /// Builds them, unless that has been done.
    pub(crate) fn built() -> Self {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/java");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
        let (jars, stamp) = (folder.join("jars"), folder.join("stamp"));
        let state = state(&sources).to_string();
        if fs::read_to_string(&stamp).is_ok_and(|built| built == state) {
            return Self::in_folder(&folder);
        }
        println!("building the peers");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let output = Command::new("mvn")
            .args(["--quiet", "--batch-mode", "--file"])
            .arg(sources.join("pom.xml"))
            .args(["package", "dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(format!("-DoutputDirectory={}", jars.display()))
            .arg(format!("-Dpeers.build={}", folder.join("build").display()))
            .output()
            .expect("a bench needs Maven for its peers");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "the peers can't be built: {said}");
        fs::write(&stamp, state).unwrap();
        Self::in_folder(&folder)
    }

    fn in_folder(folder: &Path) -> Self {
        let (own, others) = (folder.join("build/classes"), folder.join("jars/*"));
        Self(format!("{}:{}", own.display(), others.display()))
    }

    /// Runs a peer until it has counted all, and reads its alerts.
    pub(crate) fn run(&self, client: &Client, job: &Job<'_>) -> (Cost, Passed) {
        let folder = tempfile::tempdir().unwrap();
        let id = kafka::unique(job.peer);
        let output = format!("{id}.alerts");
        // Records carry the event's time, which is long past.
        let forever = [("retention.ms", "-1")];
        for topic in [&output, &format!("{id}.by-principal")] {
            client.create_topic(topic, crate::PARTITIONS, &forever);
        }
        let said = folder.path().join("said");
        let mut command = self.command(job.principals);
        command
            .arg(format!("peer={}", job.peer))
            .arg(format!("kafka={}", client.address()))
            .arg(format!("id={id}"))
            .arg(format!("input={}", job.input))
            .arg(format!("output={output}"))
            .arg(format!("events={}", job.events))
            .arg(format!("warmup={}", job.warmup))
            .arg(format!("exactlyOnce={}", job.exactly_once))
            .arg(format!("limits={}", LIMITS.map(|limit| limit.rows.to_string()).join(",")))
            .arg(format!("folder={}", folder.path().display()))
            .stdout(File::create(&said).unwrap())
            .stderr(File::create(folder.path().join("errors")).unwrap());
        let began = Instant::now();
        let mut process = Guarded::spawn(&mut command).expect("java starts");
        let status = process.wait(RUN_MAX);
        let text = |name| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        let errors = text("errors");
        assert!(status.is_some_and(|it| it.success()), "{}: {status:?}: {errors}", job.peer);
        let said = text("said");
        let report = said.lines().last().expect("a peer says what it cost");
        let report: Value = serde_json::from_str(report).expect("as JSON");
        assert_eq!(report["events"], job.events, "{}: not all counted", job.peer);
        let passed = alerts(client, &output, job.exactly_once);
        client.delete_topics(&id);
        let number = |name: &str| report[name].as_f64().unwrap();
        let cost = Cost {
            events: job.events,
            cpu_s: number("cpu_s"),
            steady_events: number("events_warm"),
            steady_cpu_s: number("cpu_warm_s"),
            wall_s: began.elapsed().as_secs_f64(),
            memory_mib: number("live_heap_mib"),
            rows: report["rows"].as_u64(),
            dropped: report["dropped"].as_u64(),
        };
        (cost, passed)
    }

    /// As an operator would start it on this machine.
    fn command(&self, principals: u64) -> Command {
        // Live state and room to breathe: more would not be quicker.
        let heap = if principals > 2_000_000 { "12g" } else { "5g" };
        let mut command = Command::new("java");
        command
            .args([format!("-Xms{heap}"), format!("-Xmx{heap}")])
            // The collector that costs least CPU; what dies young never reaches the old part.
            .args(["-XX:+UseParallelGC", "-XX:NewRatio=1", "-XX:-UseAdaptiveSizePolicy"])
            // Flink's serializers reach into these.
            .args(["--add-opens", "java.base/java.util=ALL-UNNAMED"])
            .args(["--add-opens", "java.base/java.lang=ALL-UNNAMED"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
            .args(["-cp", &self.0, "exfilwatch.peers.Main"]);
        command
    }
}

/// Changes with any source.
fn state(sources: &Path) -> u64 {
    let (mut hasher, mut open) = (DefaultHasher::new(), vec![sources.to_owned()]);
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push(path);
        }
    }
    files.sort();
    for file in files {
        (file.strip_prefix(sources).unwrap(), fs::read(&file).unwrap()).hash(&mut hasher);
    }
    hasher.finish()
}

/// What a peer has told.
fn alerts(client: &Client, topic: &str, exactly_once: bool) -> Passed {
    let mut reader =
        if exactly_once { client.committed_reader(topic) } else { client.reader(topic) };
    let mut passed = Passed::new();
    reader.through(QUIET, |record| {
        let alert = record.json();
        let principal = alert["principal"].as_str().expect("a principal").to_owned();
        passed.insert((principal, window(alert["window"].as_str().expect("a window"))));
    });
    passed
}

/// The window of this name.
pub(crate) fn window(name: &str) -> &'static str {
    LIMITS.iter().find(|limit| limit.window == name).expect("a window of ours").window
}
