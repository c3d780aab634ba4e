//! State outlives its owner: killed, frozen, damaged, repartitioned.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use exfilwatch::{
    checkpoint::{Ledger, Manifest, Origin},
    config::KafkaConfig,
    engine::{Engine, EngineOptions},
    kafka::state::{StateReader, StateWriter},
    rules::compile,
    units::Partition,
};

use crate::{
    events::{MINUTE_MS, Read, now_ms},
    findings::{Finding, RULE, openings},
    http::Metrics,
    kafka::{self, Client, Compression, Message, Record},
    service::{RULES, Service, Setup, said},
    steps::{SOON, all_counted, one_input, produce, the_insider_is_found},
};

/// A deployment with one events partition that checkpoints every second.
fn deployment(kafka: &Client, name: &str) -> (Setup, String, String) {
    let setup = Setup::new(kafka, name);
    setup.create_topics("{partitions: 1, replication: 1}");
    let topic = setup.input("json", 1);
    let lines = format!("{}detect: {{checkpoint_interval: 1s}}\n", one_input(&topic));
    (setup, topic, lines)
}

/// Reads of one principal that add up to `total`, one record each.
fn reads(total: i64) -> Vec<Read> {
    let start = now_ms() - 30 * MINUTE_MS;
    (0..total).map(|n| Read::of("insider", start + n * 1000, 1)).collect()
}

/// Waits until a checkpoint covers all that the events topic holds by now.
///
/// The state topic is asked, since a metric of the owner may still be of the moment before.
fn saved(kafka: &Client, setup: &Setup, service: &Service, lines: &str) {
    let end = kafka.ends(&setup.topic("events"))[0];
    service.until("a checkpoint of everything", SOON, || {
        let output = setup.command(&["check", "--online", "--output", "human"], lines);
        covered(&said(&output)).is_some_and(|covered| covered >= end)
    });
}

/// The internal offset that the checkpoint covers up to, as `check --online` tells it.
fn covered(said: &str) -> Option<i64> {
    let (_, rest) = said.split_once("covers up to ")?;
    rest.split(|found: char| !found.is_ascii_digit()).next()?.parse().ok()
}

fn restores(service: &Service, result: &str) -> i64 {
    service.metrics().sum("exfilwatch_restores_total", &[("result", result)])
}

/// Rows that this very process has evaluated.
fn evaluated(service: &Service) -> i64 {
    service.metrics().sum("exfilwatch_rows_evaluated_total", &[])
}

fn gaps(seen: &[Record]) -> Vec<Finding> {
    Finding::all(seen, "exfilwatch.data-gap")
}

#[test]
fn a_killed_owner_is_followed_by_one_that_reads_only_what_no_checkpoint_covers() {
    let Some(kafka) = kafka::shared() else { return };
    let (setup, topic, lines) = deployment(&kafka, "resume");
    let reads = reads(501);
    let first = setup.run(&lines);
    produce(&kafka, &topic, &reads[..300]);
    all_counted(&[&first], 300);
    saved(&kafka, &setup, &first, &lines);
    first.kill();
    let second = setup.run(&lines);
    assert_eq!(restores(&second, "restored"), 1);
    produce(&kafka, &topic, &reads[300..]);
    all_counted(&[&second], 501);
    assert_eq!(evaluated(&second), 201);
    the_insider_is_found(&setup);
}

#[test]
fn an_owner_killed_before_its_first_checkpoint_is_followed_without_a_gap() {
    let Some(kafka) = kafka::shared() else { return };
    let (setup, topic, _) = deployment(&kafka, "before-the-first");
    let lines = one_input(&topic) + "detect: {checkpoint_interval: 1h}\n";
    let first = setup.run(&lines);
    produce(&kafka, &topic, &reads(501));
    all_counted(&[&first], 501);
    let (group, events) = (setup.group("detect"), setup.topic("events"));
    let is_committed = || kafka.committed(&group, &events)[0].is_some_and(|offset| offset > 0);
    first.until("the commit", SOON, is_committed);
    first.kill();
    let second = setup.run(&lines);
    assert_eq!(restores(&second, "nothing_kept"), 1);
    all_counted(&[&second], 501);
    let mut reader = setup.reader("alerts");
    // Nobody knows what became of the first one's.
    let all = |seen: &[Record]| Finding::all(seen, RULE);
    reader.until("the alert of each", SOON, |seen| all(seen).len() == 2);
    let seen = reader.during(Duration::from_secs(2));
    assert_eq!(gaps(seen), [], "all was read again");
    assert!(all(seen).iter().all(|alert| alert.message == all(seen)[0].message));
    assert_eq!(all(seen)[0].counts(500), (501, 501));
}

#[test]
fn events_sent_again_after_their_owner_was_killed_are_counted_once() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "sent-again");
    setup.create_topics("{partitions: 1, replication: 1}");
    let topic = setup.input("trino", 2);
    let lines = format!(
        "inputs: [{{topic: {topic}, format: trino}}]\ndetect: {{checkpoint_interval: 1s}}\n"
    );
    let reads = reads(501);
    let post = |reads: &[Read], partition| {
        let posts = reads.iter().map(|read| read.trino().to(partition));
        kafka.produce(&topic, Compression::Lz4, posts);
    };
    let first = setup.run(&lines);
    post(&reads[..300], 0);
    all_counted(&[&first], 300);
    saved(&kafka, &setup, &first, &lines);
    first.kill();
    let second = setup.run(&lines);
    assert_eq!(restores(&second, "restored"), 1);
    // Another partition, so other places: only what is in the checkpoint tells.
    post(&reads[..300], 1);
    post(&reads[300..], 1);
    all_counted(&[&second], 501);
    let repeated = |metrics: &Metrics| metrics.sum("exfilwatch_rows_repeated_total", &[]);
    let metrics = second.metrics_until("the repeats", SOON, |seen| repeated(seen) == 300);
    assert_eq!(metrics.sum("exfilwatch_dedup_entries", &[]), 501);
    the_insider_is_found(&setup);
}

#[test]
fn an_owner_that_froze_and_wakes_up_late_can_write_no_checkpoint() {
    let Some(kafka) = kafka::shared() else { return };
    let (setup, topic, lines) = deployment(&kafka, "zombie");
    let reads = reads(501);
    let zombie = setup.run(&lines);
    produce(&kafka, &topic, &reads[..200]);
    all_counted(&[&zombie], 200);
    saved(&kafka, &setup, &zombie, &lines);
    // More rows than its last checkpoint covers, so that it will want to write one.
    produce(&kafka, &topic, &reads[200..250]);
    all_counted(&[&zombie], 250);
    zombie.signal("STOP");
    let mut owner = setup.start(&lines);
    let taken = Duration::from_secs(25);
    owner.until("the takeover", taken, || crate::steps::applied(&owner) == 250);
    zombie.signal("CONT");
    produce(&kafka, &topic, &reads[250..500]);
    let both = || crate::steps::applied(&owner).max(crate::steps::applied(&zombie));
    owner.until("all rows counted", taken, || both() == 500);
    assert!(owner.stop().success());
    zombie.kill();
    // What is kept is the state of the one who owned the partition.
    let third = setup.run(&lines);
    all_counted(&[&third], 500);
    let mut reader = setup.reader("alerts");
    assert!(openings(reader.during(Duration::from_millis(500))).is_empty(), "500 is no crossing");
    produce(&kafka, &topic, &reads[500..]);
    let records = reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    assert_eq!(openings(records)["insider"].counts(500), (501, 501));
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_used() {
    let Some(kafka) = kafka::shared() else { return };
    let (setup, topic, lines) = deployment(&kafka, "damaged");
    let mut first = setup.run(&lines);
    produce(&kafka, &topic, &reads(300));
    all_counted(&[&first], 300);
    saved(&kafka, &setup, &first, &lines);
    assert!(first.stop().success());
    let output = setup.command(&["check", "--online", "--output", "human"], &lines);
    assert!(output.status.success(), "{}", said(&output));
    let ends = kafka.ends(&setup.topic("events"))[0];
    assert!(said(&output).contains(&format!("covers up to {ends}")), "{}", said(&output));
    let state = setup.topic("state");
    let is_manifest =
        |record: &Record| record.key_text().is_some_and(|key| key.contains("manifest"));
    let mut reader = kafka.committed_reader(&state);
    let seen = reader.until("a manifest", SOON, |seen| seen.iter().any(is_manifest));
    let newest = seen.iter().rev().find(|record| is_manifest(record)).unwrap();
    let mut damaged = newest.value.clone().unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    let message = Message::new(damaged).key("0/manifest/9").to(0);
    kafka.produce(&state, Compression::None, [message]);
    let output = setup.command(&["check", "--online"], &lines);
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains("it is corrupt"), "{}", said(&output));
    let second = setup.run(&lines);
    assert_eq!(restores(&second, "older"), 1);
    all_counted(&[&second], 300);
    assert_eq!(evaluated(&second), 0);
    let mut reader = setup.reader("alerts");
    let found = gaps(reader.until("the gap", SOON, |seen| !gaps(seen).is_empty()));
    assert!(found[0].json.to_string().contains("corrupt"), "{}", found[0].json);
}

#[test]
fn without_any_checkpoint_it_counts_what_is_kept_again_and_says_so() {
    let Some(kafka) = kafka::shared() else { return };
    let (setup, topic, lines) = deployment(&kafka, "nothing");
    let mut first = setup.run(&lines);
    produce(&kafka, &topic, &reads(300));
    all_counted(&[&first], 300);
    saved(&kafka, &setup, &first, &lines);
    assert!(first.stop().success());
    let state = setup.topic("state");
    kafka.replace_topic(&state, 1);
    let second = setup.run(&lines);
    all_counted(&[&second], 300);
    assert_eq!(evaluated(&second), 300);
    let mut reader = setup.reader("alerts");
    let found = gaps(reader.until("the gap", SOON, |seen| !gaps(seen).is_empty()));
    assert!(found[0].json.to_string().contains("no checkpoint"), "{}", found[0].json);
}

#[test]
fn messages_deleted_before_a_checkpoint_covered_them_are_a_data_gap() {
    let Some(kafka) = kafka::shared() else { return };
    let (setup, topic, lines) = deployment(&kafka, "overtaken");
    let reads = reads(300);
    let mut first = setup.run(&lines);
    produce(&kafka, &topic, &reads[..100]);
    all_counted(&[&first], 100);
    assert!(first.stop().success());
    let events = setup.topic("events");
    let covered = kafka.ends(&events)[0];
    // Ingest goes on alone, and retention takes what it writes.
    let mut ingest = setup.run(&format!("{lines}roles: [ingest]\n"));
    produce(&kafka, &topic, &reads[100..200]);
    ingest.until("the rows in the events topic", SOON, || kafka.ends(&events)[0] > covered);
    assert!(ingest.stop().success());
    kafka.delete_before(&events, kafka.ends(&events)[0]);
    let second = setup.run(&lines);
    produce(&kafka, &topic, &reads[200..]);
    all_counted(&[&second], 200);
    let mut reader = setup.reader("alerts");
    let found = gaps(reader.until("the gap", SOON, |seen| !gaps(seen).is_empty()));
    let told = found[0].json.to_string();
    assert!(told.contains(&format!("records {covered} to")), "{told}");
}

#[test]
fn an_events_topic_made_again_is_a_data_gap_and_counting_goes_on() {
    let Some(kafka) = kafka::shared() else { return };
    let (setup, topic, lines) = deployment(&kafka, "remade");
    let reads = reads(501);
    let mut first = setup.run(&lines);
    produce(&kafka, &topic, &reads[..300]);
    all_counted(&[&first], 300);
    assert!(first.stop().success());
    kafka.replace_topic(&setup.topic("events"), 1);
    kafka.set_topic_config(&setup.topic("events"), "max.message.bytes", "10000000");
    let second = setup.run(&lines);
    produce(&kafka, &topic, &reads[300..]);
    all_counted(&[&second], 501);
    let mut reader = setup.reader("alerts");
    let found = gaps(reader.until("the gap", SOON, |seen| !gaps(seen).is_empty()));
    assert!(found[0].json.to_string().contains("made again"), "{}", found[0].json);
    let records = reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    assert_eq!(openings(records)["insider"].counts(500), (501, 501));
}

#[test]
fn rules_changed_while_nobody_ran_are_a_change_to_what_was_counted() {
    let Some(kafka) = kafka::shared() else { return };
    let (setup, topic, lines) = deployment(&kafka, "rules");
    let reads = reads(301);
    let mut first = setup.run(&lines);
    produce(&kafka, &topic, &reads[..300]);
    all_counted(&[&first], 300);
    assert!(first.stop().success());
    setup.rules("rules.yaml", &RULES.replace("above: 500", "above: 200"));
    let _second = setup.run(&lines);
    produce(&kafka, &topic, &reads[300..]);
    let mut reader = setup.reader("alerts");
    let records = reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    assert_eq!(openings(records)["insider"].counts(200), (301, 301), "under the new limit");
}

#[test]
fn a_changed_number_of_partitions_is_refused_with_an_explanation() {
    let Some(kafka) = kafka::shared() else { return };
    let (setup, topic, lines) = deployment(&kafka, "repartition");
    let mut first = setup.run(&lines);
    produce(&kafka, &topic, &reads(10));
    all_counted(&[&first], 10);
    saved(&kafka, &setup, &first, &lines);
    assert!(first.stop().success());
    for name in ["events", "state"] {
        kafka.grow_topic(&setup.topic(name), 2);
    }
    let output = setup.command(&["run"], &lines);
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    for word in ["1 partitions", "has 2", "OPERATIONS.md"] {
        assert!(said(&output).contains(word), "{word}: {}", said(&output));
    }
}

#[test]
fn whoever_claims_a_partition_fences_the_one_before() {
    let Some(kafka) = kafka::shared() else { return };
    let topic = kafka::unique("fence");
    kafka.create_topic(&topic, 1, &[]);
    let config = KafkaConfig {
        bootstrap_servers: kafka.address().to_owned(),
        group_id: topic.clone(),
        transactional_id_prefix: topic.clone(),
        ..KafkaConfig::default()
    };
    let origin = Origin { cluster: "c".into(), topic: "t".into(), partition: 0, partitions: 1 };
    let options = EngineOptions {
        partition: Partition(0),
        allowed_skew_ms: 0,
        memory_limit: 1 << 20,
        dedup_entries: 0,
    };
    let draft = |covered| {
        let saved = Engine::new(options, Arc::new(compile(&[]))).save();
        Ledger::new(origin.clone(), 0).draft(saved, covered, "", "")
    };
    let soon = || Instant::now() + SOON;
    let first = StateWriter::claim(&config, &topic, 0).unwrap();
    first.commit(&mut draft(1), &[], soon()).unwrap();
    let second = StateWriter::claim(&config, &topic, 0).unwrap();
    assert!(first.commit(&mut draft(2), &[], soon()).is_err(), "fenced");
    second.commit(&mut draft(3), &[], soon()).unwrap();
    let mut reader = StateReader::open(&config, &topic, 0).unwrap();
    let records = reader.tail(0).unwrap();
    let manifests = records.iter().filter(|record| record.key.contains("manifest"));
    let covered: Vec<i64> = manifests
        .map(|record| Manifest::read(record.value.as_ref().unwrap(), &origin).unwrap().covered)
        .collect();
    assert_eq!(covered, [1, 3]);
}
