//! Every event is counted once: whatever the codec, and whatever ends in the middle.

use std::time::Duration;

use crate::{
    events::{MINUTE_MS, Read, now_ms, ordinary_hour, spread, theft},
    findings::{Finding, OPEN, RULE, openings},
    kafka::{self, Compression, Message},
    service::Setup,
    steps::{SOON, all_counted, all_read, applied, one_input, produce, the_insider_is_found},
};

/// Reads of one principal that end at `total` records, one record each.
fn single_records(principal: &str, total: i64) -> Vec<Read> {
    let start = now_ms() - 30 * MINUTE_MS;
    (0..total).map(|n| Read::of(principal, start + n * 1000, 1)).collect()
}

#[test]
fn events_of_every_compression_are_counted() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "codecs");
    let topic = setup.input("json", 2);
    let reads = single_records("insider", 505);
    let share = reads.len() / Compression::ALL.len();
    for (compression, reads) in Compression::ALL.into_iter().zip(reads.chunks(share)) {
        kafka.produce(&topic, compression, spread(reads.iter().map(Read::canonical), 2));
    }
    let service = setup.run(&one_input(&topic));
    all_counted(&[&service], reads.len());
    the_insider_is_found(&setup);
}

#[test]
fn events_whose_rows_are_far_larger_than_their_records_are_counted() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "expanding");
    let rule = "- {id: r, group_by: object, limits: [{window: 1h, above: 1000000}]}";
    setup.rules("rules.yaml", &format!("rules:\n  {rule}\n"));
    let topic = setup.input("json", 1);
    // A row for each object, and each row with the ids of its record: 1 kB for every 7 bytes.
    let objects: Vec<String> = (0..1000).map(|n| format!("t{n:04}")).collect();
    let (objects, id) = (serde_json::json!(objects), "i".repeat(500));
    let records = (0..40).map(|n| {
        Message::new(format!(
            r#"{{"event_id":"{id}","query":{{"id":"{id}"}},"event_time":{},"principal":"p{n}",
                "source":{{"kind":"x"}},"objects":{objects},"rows":1}}"#,
            now_ms()
        ))
    });
    kafka.produce(&topic, Compression::None, records);
    let service = setup.run(&one_input(&topic));
    let labels = [("group_by", "object"), ("outcome", "applied")];
    service.until("40,000 rows", SOON, || {
        service.metrics().sum("exfilwatch_rows_evaluated_total", &labels) == 40_000
    });
}

#[test]
fn a_stopped_and_restarted_process_goes_on_where_it_was() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "restart");
    let topic = setup.input("json", 2);
    let reads = single_records("insider", 500);
    let lines = one_input(&topic);
    let mut first = setup.run(&lines);
    produce(&kafka, &topic, &reads[..300]);
    all_counted(&[&first], 300);
    assert!(first.stop().success());
    // Produced while nobody was there.
    produce(&kafka, &topic, &reads[300..]);
    let second = setup.run(&lines);
    // Neither has read anything again.
    all_counted(&[&second], 500);
    all_read(&[&second], 200);
    // 500 is no more than the limit: an event counted twice would have crossed it.
    let mut reader = setup.reader("alerts");
    assert_eq!(Finding::all(reader.during(Duration::from_millis(500)), RULE), []);
    produce(&kafka, &topic, &[Read::of("insider", now_ms() - MINUTE_MS, 1)]);
    let records = reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    assert_eq!(openings(records)["insider"].counts(500), (501, 501));
}

#[test]
fn a_restart_publishes_an_alert_again_only_under_its_own_id() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "again");
    let topic = setup.input("json", 1);
    let lines = one_input(&topic);
    produce(&kafka, &topic, &theft("insider", 100, now_ms() - 10 * MINUTE_MS));
    let first = setup.run(&lines);
    let mut reader = setup.reader("alerts");
    reader.until("the alert", SOON, |seen| !opening_ids(seen).is_empty());
    first.kill();
    let second = setup.run(&lines);
    all_counted(&[&second], 100);
    let records = reader.during(Duration::from_secs(1));
    let mut ids = opening_ids(records);
    ids.dedup();
    assert_eq!(ids.len(), 1, "openings of one episode: {ids:?}");
}

/// Message ids of openings, repeats included.
fn opening_ids(records: &[kafka::Record]) -> Vec<String> {
    let all = Finding::all(records, RULE).into_iter();
    all.filter(|finding| finding.activity == OPEN).map(|finding| finding.message).collect()
}

#[test]
fn a_process_killed_in_the_middle_loses_and_repeats_nothing() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "killed");
    let topic = setup.input("json", 3);
    let lines = one_input(&topic);
    // 498 records of the one who is watched, among enough others to be killed in the middle.
    let end = now_ms() - 10 * MINUTE_MS;
    let mut reads = ordinary_hour(200, 100, end);
    reads.extend(single_records("insider", 498));
    reads.sort_by_key(|read| read.at_ms);
    produce(&kafka, &topic, &reads);
    let first = setup.run(&lines);
    first.until("the first rows counted", SOON, || applied(&first) > 0);
    first.kill();
    let second = setup.run(&lines);
    all_counted(&[&second], reads.len());
    let last: Vec<Read> = (0..3).map(|n| Read::of("insider", now_ms() - 1000 + n, 1)).collect();
    produce(&kafka, &topic, &last);
    the_insider_is_found(&setup);
}

#[test]
fn the_partitions_of_a_killed_member_are_taken_over() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "takeover");
    let topic = setup.input("json", 4);
    let lines = one_input(&topic);
    let (one, two) = (setup.run(&lines), setup.run(&lines));
    let assigned = |service: &crate::service::Service| {
        service.metrics().sum("exfilwatch_partitions_assigned", &[])
    };
    one.until("partitions shared evenly", SOON, || assigned(&one) == 4 && assigned(&two) == 4);
    let reads = single_records("insider", 500);
    produce(&kafka, &topic, &reads[..250]);
    all_counted(&[&one, &two], 250);
    two.kill();
    produce(&kafka, &topic, &reads[250..]);
    all_counted(&[&one], 500);
    one.until("all partitions", SOON, || assigned(&one) == 8);
    produce(&kafka, &topic, &[Read::of("insider", now_ms() - MINUTE_MS, 1)]);
    the_insider_is_found(&setup);
}

#[test]
fn a_start_at_a_time_or_at_the_end_leaves_out_what_is_before() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "start");
    let (old, new) = (setup.input("earliest", 1), setup.input("latest", 1));
    let reads = single_records("insider", 10);
    produce(&kafka, &old, &reads);
    produce(&kafka, &new, &reads);
    let service = setup.run(&format!(
        "inputs:\n  - {{topic: {old}, start: earliest}}\n  - {{topic: {new}, start: latest}}\n"
    ));
    all_counted(&[&service], 10);
    produce(&kafka, &new, &[Read::of("insider", now_ms(), 1)]);
    all_counted(&[&service], 11);
    let read =
        |topic: &str| service.metrics().sum("exfilwatch_events_read_total", &[("topic", topic)]);
    assert_eq!((read(&old), read(&new)), (10, 1));
}

#[test]
fn a_topic_made_again_is_another_topic() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "again");
    let topic = setup.input("json", 1);
    let lines = one_input(&topic);
    let reads = single_records("insider", 501);
    let mut first = setup.run(&lines);
    produce(&kafka, &topic, &reads[..300]);
    all_counted(&[&first], 300);
    assert!(first.stop().success());
    kafka.replace_topic(&topic, 1);
    produce(&kafka, &topic, &reads[300..]);
    // Offsets 0 to 200 were counted once already, but of another topic.
    let second = setup.run(&lines);
    all_counted(&[&second], 501);
    the_insider_is_found(&setup);
}

#[test]
fn records_deleted_before_they_were_read_raise_a_data_gap() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "gap");
    let topic = setup.input("json", 1);
    let lines = one_input(&topic);
    let reads = single_records("insider", 300);
    let mut first = setup.run(&lines);
    produce(&kafka, &topic, &reads[..100]);
    all_counted(&[&first], 100);
    assert!(first.stop().success());
    produce(&kafka, &topic, &reads[100..]);
    kafka.delete_before(&topic, 200);
    let second = setup.run(&lines);
    all_counted(&[&second], 200);
    let mut reader = setup.reader("alerts");
    let gap = |seen: &[kafka::Record]| Finding::all(seen, "exfilwatch.data-gap");
    let found = gap(reader.until("the gap", SOON, |seen| !gap(seen).is_empty()));
    let told = found[0].json.to_string();
    assert!(told.contains("records 100 to 199"), "{told}");
}
