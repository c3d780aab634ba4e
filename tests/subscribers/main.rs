//! The consumers that docs/SUBSCRIBERS.md shows, run against alerts of the real program: each tells
//! every alert once, and knows what is open.
//!
//! Python needs `confluent-kafka`, which `tests/chart/tools.sh` installs; Java the jars of the test
//! broker. What is not there is said and skipped, unless `CI` demands it.
#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod consumer;
#[path = "../it/events.rs"]
#[allow(dead_code, reason = "the tests of the program use more of it")]
mod events;
#[path = "../it/http.rs"]
#[allow(dead_code, reason = "the tests of the program use more of it")]
mod http;
#[path = "../it/kafka/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests of the program use more of it")]
mod kafka;
#[path = "../it/process.rs"]
#[allow(dead_code, reason = "the tests of the program use more of it")]
mod process;
#[path = "../it/service.rs"]
#[allow(dead_code, reason = "the tests of the program use more of it")]
mod service;
#[path = "../chart/tools.rs"]
#[allow(dead_code, reason = "the tests of the chart use more of it")]
mod tools;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use events::{Read, now_ms};
use kafka::{Client, Compression, Message};
use process::Guarded;
use service::Setup;

/// Joining a group and starting a JVM take a while on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// What each consumer must say, in this order: one thief, who goes on.
const LINES: [&str; 2] =
    ["Create customer-records thief Medium 1", "Update customer-records thief High 1"];

/// A deployment whose alert topic holds an opening and an escalation, the latter twice.
fn alerts(kafka: &Client, name: &str) -> Setup {
    let setup = Setup::new(kafka, name);
    let topic = setup.input("json", 1);
    let mut service = setup.run(&format!("inputs:\n  - topic: {topic}\n"));
    for rows in [501, 1000] {
        let read = Read::of("thief", now_ms(), rows).canonical();
        kafka.produce(&topic, Compression::None, [read]);
    }
    let mut reader = setup.reader("alerts");
    let all = reader.until("two alerts", PATIENCE, |seen| seen.len() >= 2);
    let last = all.last().unwrap();
    // As after a fault: the same message comes again.
    let mut again = Message::new(last.value.clone().unwrap()).key("thief");
    again = again.header("ce_id", last.header("ce_id").unwrap());
    kafka.produce(&setup.topic("alerts"), Compression::None, [again.to(last.partition)]);
    assert!(service.stop().success());
    setup
}

/// Lines that a command prints until it is killed, after so many or after a while.
fn lines(command: &mut Command, wanted: usize) -> Vec<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut process = Guarded::spawn(command).expect("the consumer starts");
    let pipe = process.child_mut().stdout.take().expect("it is piped");
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut lines = Vec::new();
    while lines.len() < wanted {
        lines.extend(Some(receiver.recv_timeout(PATIENCE).expect("another line in time")));
    }
    // A repeat would come right behind.
    lines.extend(receiver.recv_timeout(Duration::from_secs(3)).ok());
    lines
}

fn skipped(why: &str) {
    let demanded = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!demanded, "{why}");
    eprintln!("SKIPPED: {why}");
}

#[test]
fn consumer_in_python_tells_each_alert_once() {
    let Some(kafka) = kafka::shared() else { return };
    let python = tools::folder().join("python/bin/python");
    if !python.exists() {
        return skipped("no Python with confluent-kafka: run tests/chart/tools.sh");
    }
    let setup = alerts(&kafka, "python");
    let mut command = Command::new(python);
    command.arg(tools::top().join("tests/subscribers/consumer.py"));
    command.args([kafka.address(), &setup.topic("alerts"), &setup.group("python")]);
    assert_eq!(lines(&mut command, LINES.len()), LINES);
}

#[test]
fn consumer_in_java_tells_each_alert_once() {
    let Some(kafka) = kafka::shared() else { return };
    // The broker's own jars hold the client and a JSON reader.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka/jars");
    if !folder.exists() {
        return skipped("no jars of Kafka: the broker is a given one");
    }
    let setup = alerts(&kafka, "java");
    let mut command = Command::new("java");
    command.arg("-cp").arg(folder.join("*"));
    command.arg(tools::top().join("tests/subscribers/Consumer.java"));
    command.args([kafka.address(), &setup.topic("alerts"), &setup.group("java")]);
    assert_eq!(lines(&mut command, LINES.len()), LINES);
}

#[test]
fn consumer_in_rust_tells_each_alert_once() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = alerts(&kafka, "rust");
    let (sender, receiver) = mpsc::channel();
    let (brokers, topic) = (kafka.address().to_owned(), setup.topic("alerts"));
    let group = setup.group("rust");
    // Left behind at the end of the test: it waits for alerts.
    thread::spawn(move || {
        consumer::follow(&brokers, &topic, &group, |line| sender.send(line).is_ok()).unwrap();
    });
    for line in LINES {
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), line);
    }
    assert!(receiver.recv_timeout(Duration::from_secs(3)).is_err(), "a repeat was told");
}

/// A real Alertmanager that tells nobody, and its port.
fn alertmanager(program: &Path, folder: &Path) -> (Guarded, u16) {
    let (file, port) = (folder.join("alertmanager.yaml"), kafka::free_port());
    std::fs::write(&file, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n").unwrap();
    let mut command = Command::new(program);
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.path={}", folder.join("data").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--cluster.listen-address=");
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let process = Guarded::spawn(command.stdout(Stdio::null()).stderr(log));
    (process.expect("Alertmanager starts"), port)
}

#[test]
fn open_findings_reach_alertmanager_and_an_escalated_one_under_its_new_severity_alone() {
    let Some(kafka) = kafka::shared() else { return };
    let Some(program) = tools::tool("prometheus-alertmanager") else { return };
    let python = tools::folder().join("python/bin/python");
    if !python.exists() {
        return skipped("no Python with confluent-kafka: run tests/chart/tools.sh");
    }
    let setup = alerts(&kafka, "alertmanager");
    let folder = tempfile::tempdir().unwrap();
    let (_alertmanager, port) = alertmanager(&program, folder.path());
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let since = std::time::Instant::now();
        while !holds() {
            assert!(since.elapsed() < PATIENCE, "no {what}");
            thread::sleep(Duration::from_millis(200));
        }
    };
    until("Alertmanager", &|| http::get(port, "/-/ready").is_some_and(|(status, _)| status == 200));
    let mut command = Command::new(python);
    command.arg(tools::top().join("tests/subscribers/to_alertmanager.py"));
    command.args([kafka.address(), &setup.topic("alerts"), &setup.group("pager")]);
    command.arg(format!("http://127.0.0.1:{port}"));
    let _forwarder = Guarded::spawn(&mut command).expect("the forwarder starts");
    let active = || -> Vec<serde_json::Value> {
        let (_, body) = http::get(port, "/api/v2/alerts?filter=key%3D%22thief%22").unwrap();
        serde_json::from_str(&body).unwrap()
    };
    until("finding", &|| !active().is_empty());
    let found = active();
    assert_eq!(found.len(), 1, "what ended is not told any more: {found:?}");
    let labels = &found[0]["labels"];
    assert_eq!(
        (&labels["alertname"], &labels["severity"]),
        (&"customer-records".into(), &"high".into())
    );
}

#[test]
fn docs_show_the_consumers_that_are_tested() {
    let page = tools::read("docs/SUBSCRIBERS.md");
    for name in ["consumer.py", "Consumer.java", "consumer.rs", "to_alertmanager.py"] {
        let source = tools::read(&format!("tests/subscribers/{name}"));
        assert!(
            page.contains(source.trim_end()),
            "docs/SUBSCRIBERS.md does not show {name} as it is"
        );
    }
}
