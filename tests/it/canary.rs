//! The canary: through the whole service, or a failure that says what was seen.

use std::{
    fs,
    process::Output,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    events::{Read, now_ms},
    findings::{Finding, OPEN},
    kafka,
    service::{Service, Setup, said},
    steps::{SOON, all_counted, all_read, one_input, produce},
};

const RULE: &str = "exfilwatch.canary";
/// Every read is an alert of it, so that a canary that counted would show.
const GREEDY: &str = "rules:
  - {id: greedy, limits: [{window: 1h, above: 0}]}
";

/// A deployment with a key, a rule that every read crosses, and its configuration.
fn stage(setup: &Setup, inputs: &str) -> String {
    setup.rules("rules.yaml", GREEDY);
    fs::write(setup.path("canary.key"), "a key of more than 16 bytes\n").unwrap();
    fs::write(setup.path("other.key"), "another one of more than 16 bytes").unwrap();
    format!("{inputs}canary: {{key_file: canary.key}}\n")
}

fn canary(setup: &Setup, arguments: &[&str], lines: &str) -> Output {
    setup.command(&[&["canary"], arguments].concat(), lines)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)))
}

fn events(service: &Service, outcome: &str) -> i64 {
    service.metrics().sum("exfilwatch_events_read_total", &[("outcome", outcome)])
}

#[test]
fn a_canary_comes_through_and_is_seen_by_no_other_rule() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "canary");
    let topic = setup.input("json", 3);
    // What identity makes of the name is no matter.
    let identity = "identity: {qualify_by: [tenant]}\n";
    let lines = stage(&setup, &format!("{}{identity}", one_input(&topic)));
    let service = setup.run(&lines);
    let started = service.metrics();
    let last = "exfilwatch_canary_last_success_timestamp_seconds";
    let is_there = started.names().any(|name| name.starts_with(last));
    assert!(is_there && started.sum(last, &[]) == 0, "awaited, and none has come yet");
    let before = now_ms();
    for number in 1..=3 {
        let output = canary(&setup, &["--timeout", "20s"], &lines);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let seen = json(&output);
        assert!(seen["latency_seconds"].as_f64().unwrap() < 20.0, "{seen}");
        assert_eq!(seen["event"]["topic"], topic.as_str());
        assert_eq!(events(&service, "canary"), number);
    }
    assert_eq!(events(&service, "forwarded"), 0);
    all_read(&[&service], 3);
    all_counted(&[&service], 3);
    let metrics = service.metrics_until("its success", SOON, |metrics| {
        metrics.sum("exfilwatch_canary_latency_seconds_count", &[]) == 3
    });
    assert!(metrics.sum(last, &[]) >= before / 1000);
    let mut reader = setup.reader("alerts");
    reader.until("three alerts", SOON, |seen| seen.len() >= 3);
    let records = reader.during(Duration::from_millis(500));
    let found: Vec<Finding> = records.iter().map(Finding::of).collect();
    assert!(found.iter().all(|finding| finding.rule == RULE && finding.severity == 1));
    let keys: Vec<_> = found.iter().filter(|it| it.activity == OPEN).map(|it| &it.key).collect();
    assert_eq!(keys.len(), 3, "an episode each: {keys:?}");
    assert!(keys.iter().all(|key| key.starts_with("/exfilwatch-canary/")), "{keys:?}");
    let human = canary(&setup, &["--output", "human"], &lines);
    assert!(said(&human).starts_with("ok: alert of exfilwatch-canary/"), "{}", said(&human));
}

#[test]
fn with_another_key_it_is_an_ordinary_event_and_the_command_fails() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "forged");
    let topic = setup.input("json", 1);
    let lines = stage(&setup, &one_input(&topic));
    let service = setup.run(&lines);
    let other = setup.path("other.key").display().to_string();
    let output = canary(&setup, &["--key-file", &other, "--timeout", "4s"], &lines);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let seen = json(&output);
    assert_eq!((&seen["level"], &seen["alert"]), (&"error".into(), &Value::Null));
    assert_eq!((&seen["event"]["partition"], &seen["event"]["offset"]), (&0.into(), &0.into()));
    assert_eq!(seen["alerts_read"], 1, "that of the other rule");
    assert!(seen["hint"].as_str().unwrap().contains("does it have this key"), "{seen}");
    assert_eq!((events(&service, "forwarded"), events(&service, "canary")), (1, 0));
    let mut reader = setup.reader("alerts");
    let records = reader.until("its alert", SOON, |seen| !seen.is_empty());
    let finding = Finding::of(&records[0]);
    assert_eq!(finding.rule, "greedy");
    assert!(finding.key.starts_with("exfilwatch-canary/"), "{}", finding.key);
}

#[test]
fn without_a_service_it_fails_in_time_and_says_where_its_event_is() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "alone");
    let topic = setup.input("json", 1);
    let lines = stage(&setup, &one_input(&topic));
    setup.run(&lines); // makes the topics, and is gone
    let since = Instant::now();
    let output = canary(&setup, &["--timeout", "2s", "--output", "human"], &lines);
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = said(&output);
    let place = format!("its event is {topic}[0] at offset 0; 0 other alerts were read meanwhile");
    assert!(text.contains("within 2 s; ") && text.contains(&place), "{text}");
}

#[test]
fn a_broker_that_does_not_answer_ends_it_with_1() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "nobody");
    let lines = stage(&setup, "inputs: [{topic: json}]\n");
    let nobody = setup.config(kafka::free_port(), &lines);
    let text = fs::read_to_string(&nobody).unwrap().replace(kafka.address(), "127.0.0.1:1");
    fs::write(&nobody, text).unwrap();
    let mut command = crate::service::exfilwatch();
    let since = Instant::now();
    let output = command.args(["canary", "--timeout", "2s", "-c"]).arg(&nobody).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("no answer from the broker at 127.0.0.1:1"));
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
}

#[test]
fn faults_of_key_and_input_end_it_with_78_and_a_sentence_each() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "unfit");
    let lines = stage(&setup, "inputs: [{topic: lake, format: trino}]\n");
    let faults = |arguments: &[&str], lines: &str| {
        let output = canary(&setup, arguments, lines);
        assert_eq!(output.status.code(), Some(78), "{}", said(&output));
        said(&output)
    };
    let text = faults(&["--output", "human"], &lines);
    assert!(text.contains("inputs: none takes canonical JSON"), "{text}");
    let text = faults(&["--input", "lake"], &lines.replace("]\n", ", {topic: json}]\n"));
    assert!(text.contains("`lake` has the format trino") && text.contains("JSON: json"), "{text}");
    let text = faults(&["--input", "x"], &lines);
    assert!(text.contains("none takes canonical JSON"), "{text}");
    let keyless = lines.replace("canary:", "# canary:");
    let text = faults(&["--output", "human"], &keyless);
    assert!(text.contains("2 problems"), "both in one run: {text}");
    assert!(text.contains("canary.key_file: is missing, and canaries must be signed"), "{text}");
    let text = faults(&["--key-file", "/nowhere"], &keyless);
    assert!(text.contains("/nowhere") && text.contains("cannot be read"), "{text}");
    let missing = format!("{}.none", setup.topic("json"));
    let text = faults(&[], &lines.replace("lake, format: trino", &missing));
    assert!(text.contains(&format!("there is no topic `{missing}`")), "{text}");
}

#[test]
fn a_canary_goes_through_a_keyed_input_among_reads() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "keyed-canary");
    let topic = setup.topic("json");
    kafka.create_topic(&topic, 2, &[("message.timestamp.type", "LogAppendTime")]);
    let lines = stage(&setup, &format!("inputs: [{{topic: {topic}, keyed: true}}]\n"));
    let service = setup.run(&lines);
    let output = canary(&setup, &["--input", &topic, "--timeout", "20s"], &lines);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!((events(&service, "forwarded"), events(&service, "canary")), (0, 1));
    produce(&kafka, &topic, &[Read::of("ann", now_ms(), 1)]);
    all_counted(&[&service], 2);
}
