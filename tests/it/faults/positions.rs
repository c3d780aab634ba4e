//! Positions in the inputs that are not what they seem: moved by hand, of a topic that was made
//! again, of a reader that routed otherwise.

use std::time::Duration;

use super::until;
use crate::{
    events::{Read, now_ms},
    findings::Finding,
    kafka::{self, Client},
    service::Setup,
    steps::{SOON, all_counted, applied, one_input, produce},
};

/// A topic that was made again is noticed within this time.
const NOTICED: Duration = Duration::from_secs(40);

fn reads(from: usize, to: usize) -> Vec<Read> {
    (from..to).map(|n| Read::of(&format!("agent-{n}"), now_ms(), 1)).collect()
}

/// A deployment with one input of one partition.
fn deployment(kafka: &Client, name: &str) -> (Setup, String, String) {
    let setup = Setup::new(kafka, name);
    setup.create_topics("{partitions: 2, replication: 1}");
    setup.property("topic.metadata.refresh.interval.ms", "2000");
    let topic = setup.input("json", 1);
    let lines = one_input(&topic);
    (setup, topic, lines)
}

/// What the first `DATA_GAP` whose text contains `part` says.
fn gap(setup: &Setup, part: &str) -> String {
    let told = |seen: &[kafka::Record]| {
        let gaps = Finding::all(seen, "exfilwatch.data-gap").into_iter();
        gaps.map(|gap| gap.json.to_string()).find(|text| text.contains(part))
    };
    let mut reader = setup.reader("alerts");
    told(reader.until("the gap", SOON, |seen| told(seen).is_some())).unwrap()
}

#[test]
fn records_that_an_offset_was_moved_past_by_hand_are_named() {
    let Some(kafka) = kafka::shared() else { return };
    let (setup, topic, lines) = deployment(&kafka, "skipped");
    let mut first = setup.run(&lines);
    produce(&kafka, &topic, &reads(0, 100));
    all_counted(&[&first], 100);
    assert!(first.stop().success());
    produce(&kafka, &topic, &reads(100, 150));
    kafka.commit(&setup.group("ingest"), &topic, &[150]);
    let second = setup.run(&lines);
    produce(&kafka, &topic, &reads(150, 160));
    all_counted(&[&second], 110);
    let told = gap(&setup, "moved by hand");
    assert!(told.contains("records 100 to 149"), "{told}");
}

#[test]
fn an_offset_moved_back_by_hand_counts_nothing_twice_and_is_no_gap() {
    let Some(kafka) = kafka::shared() else { return };
    let (setup, topic, lines) = deployment(&kafka, "again");
    let mut first = setup.run(&lines);
    produce(&kafka, &topic, &reads(0, 100));
    all_counted(&[&first], 100);
    assert!(first.stop().success());
    kafka.commit(&setup.group("ingest"), &topic, &[20]);
    let second = setup.run(&lines);
    let labels = [("outcome", "duplicate")];
    until("everything read again", SOON, || {
        second.metrics().sum("exfilwatch_rows_evaluated_total", &labels) == 80
    });
    all_counted(&[&second], 100);
    assert!(setup.reader("alerts").during(Duration::from_secs(1)).is_empty());
}

#[test]
fn rows_that_a_killed_reader_wrote_elsewhere_are_named_and_after_a_stop_in_order_there_are_none() {
    let Some(kafka) = kafka::shared() else { return };
    let (setup, topic, lines) = deployment(&kafka, "rerouted");
    let mut rows = 0;
    let mut committed = 0;
    for _ in 0..10 {
        let service = setup.run(&lines);
        produce(&kafka, &topic, &reads(rows, rows + 50));
        rows += 50;
        service.until("all counted", SOON, || applied(&service) >= i64::try_from(rows).unwrap());
        service.kill();
        committed = kafka.committed(&setup.group("ingest"), &topic)[0].unwrap_or(0);
        // It commits once a second, so it seldom has already.
        if committed < i64::try_from(rows).unwrap() {
            break;
        }
    }
    let aliased = format!("{lines}identity: {{aliases: {{agent-49: agent-0}}}}\n");
    let mut second = setup.run(&aliased);
    let told = gap(&setup, "may be counted twice");
    assert!(told.contains(&format!("records {committed} to at most {}", rows - 1)), "{told}");
    assert!(second.stop().success());
    let seen = setup.reader("alerts").during(Duration::from_secs(1)).len();
    let third = setup.run(&lines);
    produce(&kafka, &topic, &reads(rows, rows + 10));
    until("the new rows", SOON, || crate::steps::events_read(&third) >= 10);
    assert_eq!(setup.reader("alerts").during(Duration::from_secs(2)).len(), seen);
}

#[test]
fn an_input_made_again_is_a_data_gap_whether_or_not_anybody_reads_it() {
    let Some(kafka) = kafka::shared() else { return };
    for sleeps in [true, false] {
        let (setup, topic, lines) = deployment(&kafka, "remade");
        let mut service = setup.run(&lines);
        produce(&kafka, &topic, &reads(0, 100));
        all_counted(&[&service], 100);
        if sleeps {
            assert!(service.stop().success());
        }
        kafka.replace_topic(&topic, 1);
        produce(&kafka, &topic, &reads(100, 120));
        if sleeps {
            service = setup.run(&lines);
        }
        until("what is in the new topic", NOTICED, || applied(&service) >= 120);
        let told = gap(&setup, "deleted and made again");
        assert!(told.contains(&topic), "{told}");
    }
}
