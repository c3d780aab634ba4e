//! What a member may do where the cluster has ACLs: a real broker with Kafka's own authorizer.

use std::fs;

use crate::{
    events::{Read, now_ms},
    kafka::{self, Authority, Broker, Compression, Message, Right},
    service::{Service, Setup, said},
    steps::{SOON, all_counted, one_input, produce, the_insider_is_found},
    tls,
};

/// A deployment whose members log in as one who has only the rights it is given.
fn deployment(broker: &Broker, authority: &Authority, name: &str) -> (Setup, String, String) {
    let setup = tls::setup(broker, authority, name);
    setup.property("ssl.ca.location", &tls::trusted(&setup));
    fs::write(setup.path("canary.key"), "a key of more than 16 bytes").unwrap();
    let topic = setup.input("json", 2);
    let more = "canary: {key_file: canary.key}\ndetect: {checkpoint_interval: 1s}\n";
    let lines = one_input(&topic) + more;
    (setup, topic, lines)
}

fn right(resource: &[&str], operations: &[&str]) -> Right {
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    Right { resource: owned(resource), operations: owned(operations) }
}

fn on_topics(setup: &Setup, names: &[&str], operations: &[&str]) -> Right {
    let topics = names.iter().map(|name| setup.topic(name));
    let resource = topics.flat_map(|topic| ["--topic".to_owned(), topic]).collect();
    Right { resource, ..right(&[], operations) }
}

const OURS: [&str; 4] = ["events", "state", "alerts", "dead"];

/// To make and describe its topics.
fn shapes(setup: &Setup) -> Right {
    on_topics(setup, &OURS, &["Create", "Describe", "DescribeConfigs"])
}

fn group(setup: &Setup, role: &str) -> Right {
    right(&["--group", &setup.group(role)], &["Read"])
}

fn transactions(setup: &Setup) -> Right {
    let prefix = setup.topic("").trim_end_matches('.').to_owned();
    let ids = ["--transactional-id", &prefix, "--resource-pattern-type", "prefixed"];
    right(&ids, &["Write", "Describe"])
}

/// What docs/OPERATIONS.md, "Rights", names for a member.
fn rights(setup: &Setup) -> [Right; 7] {
    [
        shapes(setup),
        on_topics(setup, &["json", "events", "state"], &["Read"]),
        on_topics(setup, &OURS, &["Write"]),
        group(setup, "ingest"),
        group(setup, "detect"),
        group(setup, "state"),
        transactions(setup),
    ]
}

fn has(service: &Service, words: &str) -> bool {
    service.output().contains(words)
}

#[test]
fn the_rights_that_the_manual_names_are_enough_for_all_it_does() {
    let authority = Authority::new();
    let Some(broker) = kafka::authorizing(&authority) else { return };
    let kafka = broker.client();
    let (setup, topic, lines) = deployment(&broker, &authority, "rights");
    broker.grant(&rights(&setup));
    let mut service = setup.run(&lines);
    kafka.produce(&topic, Compression::Lz4, [Message::new("no JSON")]);
    let reads: Vec<Read> = (0..501).map(|_| Read::of("insider", now_ms(), 1)).collect();
    produce(&kafka, &topic, &reads);
    all_counted(&[&service], 501);
    the_insider_is_found(&setup);
    setup.reader("dead").until("the dead letter", SOON, |seen| !seen.is_empty());
    let output = setup.command(&["check", "--online"], &lines);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    broker.grant(&[on_topics(&setup, &["alerts"], &["Read"]), group(&setup, "canary")]);
    let output = setup.command(&["canary", "--timeout", "5s"], &lines);
    assert_ne!(output.status.code(), Some(0), "a member may write to no input");
    assert!(said(&output).contains("Topic authorization failed"), "{}", said(&output));
    broker.grant(&[on_topics(&setup, &["json"], &["Write"])]);
    let output = setup.command(&["canary", "--timeout", "20s"], &lines);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let denied = |word: &str| service.output().to_lowercase().contains(word);
    assert!(!denied("authoriz") && !denied("access denied"), "{}", service.output());
    assert!(service.stop().success());
}

/// Runs a member that may not, and expects it to end and to say `words`.
fn refused(setup: &Setup, lines: &str, words: &str) {
    let mut service = setup.start(lines);
    let status = service.wait(SOON);
    assert_eq!(status.code(), Some(1), "{}", service.output());
    let output = service.output();
    let line = output.lines().find(|line| line.contains("ERROR") && line.contains(words));
    // What is found out before there is a pipeline is said at the end alone.
    let said = line.or_else(|| output.split_once("exfilwatch: ").map(|(_, said)| said));
    let said = said.unwrap_or_else(|| panic!("no end in {output}"));
    assert!(said.contains(words) && said.contains("OPERATIONS.md"), "no `{words}` in {output}");
}

#[test]
fn without_a_right_a_member_names_it_and_loses_nothing() {
    let authority = Authority::new();
    let Some(broker) = kafka::authorizing(&authority) else { return };
    let kafka = broker.client();
    let (setup, topic, lines) = deployment(&broker, &authority, "denied");
    broker.grant(&rights(&setup));
    let unreadable = format!("may not read (one of) {}: Topic", setup.topic("events"));
    let no_group = |role| format!("may not join the group {}: Group", setup.group(role));
    for (right, words) in [
        (on_topics(&setup, &["json"], &["Read"]), &*format!("cannot look up topic `{topic}`")),
        (on_topics(&setup, &["events"], &["Read"]), &unreadable),
        (group(&setup, "ingest"), &no_group("ingest")),
        (group(&setup, "detect"), &no_group("detect")),
        (transactions(&setup), "Transactional Id authorization failed"),
        (on_topics(&setup, &OURS, &["Write"]), "Cluster authorization failed"),
    ] {
        broker.revoke(&right);
        refused(&setup, &lines, words);
        broker.grant(&[right]);
    }
    // Who may write to any topic may be idempotent. What it may not write waits.
    broker.grant(&[on_topics(&setup, &["json"], &["Write"])]);
    broker.revoke(&on_topics(&setup, &OURS, &["Write"]));
    let mut service = setup.run(&lines);
    let reads: Vec<Read> = (0..501).map(|_| Read::of("insider", now_ms(), 1)).collect();
    produce(&kafka, &topic, &reads);
    service.until("a word about the events topic", SOON, || {
        has(&service, "a message to the events topic: Message production error: TopicAuth")
    });
    broker.grant(&[on_topics(&setup, &["events"], &["Write"])]);
    all_counted(&[&service], 501);
    service.until("a word about alerts", SOON, || has(&service, "an alert was not delivered"));
    service.until("a word about the state", SOON, || has(&service, "a checkpoint was not written"));
    kafka.produce(&topic, Compression::Lz4, [Message::new("no JSON")]);
    service.until("a word about dead letters", SOON, || {
        has(&service, "a message to the dead_letter topic: Message production error: TopicAuth")
    });
    broker.grant(&[on_topics(&setup, &OURS, &["Write"])]);
    the_insider_is_found(&setup);
    setup.reader("dead").until("the dead letter", SOON, |seen| !seen.is_empty());
    service.metrics_until("a checkpoint", SOON, |metrics| {
        metrics.sum("exfilwatch_checkpoints_total", &[("result", "stored")]) > 0
    });
    assert!(service.stop().success());
    // Its checkpoint is there, and it may not read it.
    broker.revoke(&on_topics(&setup, &["state"], &["Read"]));
    refused(&setup, &lines, "TopicAuthorizationFailed");
    broker.grant(&[on_topics(&setup, &["state"], &["Read"])]);
    let again = setup.run(&lines);
    let restored = again.metrics().sum("exfilwatch_restores_total", &[("result", "restored")]);
    assert!(restored > 0, "{}", again.output());
    all_counted(&[&again], 501);
}
