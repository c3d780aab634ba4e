//! Who reads which partitions: static members, partitions that are added, offsets that were moved.

use std::time::Duration;

use super::until;
use crate::{
    events::{Read, now_ms},
    kafka,
    service::{Service, Setup},
    steps::{SOON, all_counted, applied, one_input, produce},
};

/// Two groups have settled, or a member has noticed something, within this time.
const SETTLED: Duration = Duration::from_secs(40);

fn reads(from: usize, to: usize) -> Vec<Read> {
    (from..to).map(|n| Read::of(&format!("agent-{n}"), now_ms(), 1)).collect()
}

fn assigned(service: &Service) -> i64 {
    service.metrics().sum("exfilwatch_partitions_assigned", &[])
}

fn rebalances(service: &Service) -> i64 {
    service.metrics().sum("exfilwatch_rebalances_total", &[])
}

/// Rows that were read and known already.
fn duplicates(service: &Service) -> i64 {
    service.metrics().sum("exfilwatch_rows_evaluated_total", &[("outcome", "duplicate")])
}

#[test]
fn a_static_member_that_is_back_in_time_moves_no_partition() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "static");
    setup.property("session.timeout.ms", "30000");
    let topic = setup.input("json", 4);
    let lines = one_input(&topic);
    // Both roles are in one process: one name in two groups.
    let start = |pod: &str| {
        let service = setup.start_with(&["--instance-id", pod], &lines);
        service.ready();
        service
    };
    let (mut one, two) = (start("pod-0"), start("pod-1"));
    until("partitions shared evenly", SETTLED, || assigned(&one) == 4 && assigned(&two) == 4);
    produce(&kafka, &topic, &reads(0, 200));
    all_counted(&[&one, &two], 200);
    let before = rebalances(&two);
    // Both ways to come back: after a rollout, and after a crash.
    for crashes in [false, true] {
        if crashes {
            one.kill();
        } else {
            assert!(one.stop().success());
        }
        one = start("pod-0");
        until("its partitions", SETTLED, || assigned(&one) == 4);
    }
    produce(&kafka, &topic, &reads(200, 400));
    all_counted(&[&one, &two], 400);
    assert_eq!(rebalances(&two), before, "the other member kept what it had, unasked");
}

#[test]
fn of_two_processes_with_one_id_the_older_one_ends_and_says_why() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "twins");
    setup.property("group.instance.id", "pod-0");
    let topic = setup.input("json", 2);
    let lines = one_input(&topic);
    let mut older = setup.run(&lines);
    produce(&kafka, &topic, &reads(0, 100));
    all_counted(&[&older], 100);
    let newer = setup.start(&lines);
    assert_eq!(older.wait(SETTLED).code(), Some(1));
    let said = older.output();
    assert!(said.contains("group.instance.id") && said.contains("fenced"), "{said}");
    newer.ready();
    produce(&kafka, &topic, &reads(100, 200));
    all_counted(&[&newer], 200);
}

#[test]
fn partitions_added_to_an_input_are_read_from_their_beginning() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "added");
    setup.property("topic.metadata.refresh.interval.ms", "2000");
    let topic = setup.input("json", 2);
    // Where reading starts is for a topic that is new, not for a partition that is.
    let lines = format!("inputs:\n  - {{topic: {topic}, start: latest}}\n");
    let (one, two) = (setup.run(&lines), setup.run(&lines));
    produce(&kafka, &topic, &reads(0, 100));
    all_counted(&[&one, &two], 100);
    kafka.grow_topic(&topic, 5);
    until("new partitions", SOON, || kafka.partitions(&topic) == 5);
    produce(&kafka, &topic, &reads(100, 600));
    until("all counted", SETTLED, || applied(&one) + applied(&two) >= 600);
    all_counted(&[&one, &two], 600);
}

#[test]
fn offsets_of_detect_that_were_moved_by_hand_change_nothing() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "moved");
    setup.create_topics("{partitions: 2, replication: 1}");
    let topic = setup.input("json", 2);
    let lines = one_input(&topic);
    let (group, events) = (setup.group("detect"), setup.topic("events"));
    let mut rows = 0;
    for to_the_end in [false, true] {
        let mut service = setup.run(&lines);
        produce(&kafka, &topic, &reads(rows, rows + 200));
        rows += 200;
        all_counted(&[&service], rows);
        assert_eq!(duplicates(&service), 0);
        assert!(service.stop().success());
        // Rows that no checkpoint covers, which a wrong start would skip.
        let mut ingest = setup.run(&format!("{lines}roles: [ingest]\n"));
        produce(&kafka, &topic, &reads(rows, rows + 100));
        ingest.until("all read", SOON, || crate::steps::events_read(&ingest) == 100);
        assert!(ingest.stop().success());
        rows += 100;
        let ends = kafka.ends(&events);
        let moved = if to_the_end { ends } else { vec![0; ends.len()] };
        kafka.commit(&group, &events, &moved);
        let committed = kafka.committed(&group, &events);
        assert_eq!(committed, moved.into_iter().map(Some).collect::<Vec<_>>());
    }
    let service = setup.run(&lines);
    all_counted(&[&service], rows);
    assert_eq!(duplicates(&service), 0);
    let mut reader = setup.reader("alerts");
    assert!(reader.during(Duration::from_secs(1)).is_empty(), "there is nothing to tell");
}
