//! What is found: thefts among ordinary work, in every format and layout, and nothing else.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::producer::Producer as _;

use crate::{
    arrow,
    events::{
        HOUR_MS, MINUTE_MS, Read, exact, now_ms, ordinary_hour, rows_by_principal, spread, theft,
    },
    findings::{CLOSE, Finding, OPEN, RULE, UPDATE, openings},
    kafka::{self, Compression},
    service::{RULES, Service, Setup, said},
    steps::{SOON, all_counted, all_read, applied, events_read, one_input, produce},
};

/// The offline fold's answer: principals above 500, which is the lowest limit of the rule.
fn guilty(reads: &[Read]) -> BTreeMap<String, u64> {
    rows_by_principal(reads).into_iter().filter(|(_, rows)| *rows > 500).collect()
}

#[test]
fn a_theft_spread_over_three_formats_and_many_partitions_is_found_and_nothing_else() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "formats");
    let (json, trino) = (setup.input("json", 3), setup.input("trino", 2));
    let columns = setup.input("arrow", 2);
    let end = now_ms() - 10 * MINUTE_MS;
    let mut reads = ordinary_hour(20, 30, end);
    reads.extend(theft("insider", 180, end));
    reads.sort_by_key(|read| read.at_ms);
    // Every third read of everyone goes to another topic, so that no topic alone shows the theft.
    let share = |n| reads.iter().skip(n).step_by(3);
    kafka.produce(&json, Compression::Lz4, spread(share(0).map(Read::canonical), 3));
    kafka.produce(&trino, Compression::Zstd, spread(share(1).map(Read::trino), 2));
    let rest: Vec<Read> = share(2).cloned().collect();
    let messages = rest.chunks(40).map(|reads| arrow::message(reads, 16));
    kafka.produce(&columns, Compression::None, spread(messages, 2));
    let service = setup.run(&format!(
        "inputs:
  - topic: {json}
  - {{topic: {trino}, format: trino, source: {{instance: lake-1}}}}
  - {{topic: {columns}, format: arrow}}"
    ));
    all_counted(&[&service], reads.len());
    all_read(&[&service], reads.len());
    let mut reader = setup.reader("alerts");
    let records = reader.until("an alert of the theft", SOON, |seen| !openings(seen).is_empty());
    let found = openings(records);
    assert_eq!(found.keys().collect::<Vec<_>>(), guilty(&reads).keys().collect::<Vec<_>>());
    // 7 records a read: the first count above 500 is 504, whatever the order of the partitions.
    let opening = &found["insider"];
    assert_eq!(opening.counts(500), (504, 504));
    assert_eq!(opening.json["actor"]["user"]["uid"], "insider");
    assert_eq!(opening.json["unmapped"]["exfilwatch"]["records_so_far"], 504);
    let evidence = opening.json.to_string();
    assert!(evidence.contains("crm.public.customers"), "no object in {evidence}");
    assert!(!evidence.contains("SELECT 1"), "query text in {evidence}");
}

#[test]
fn a_key_at_the_limit_never_alerts_and_one_record_more_does() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "bound");
    let topic = setup.input("json", 1);
    let at = now_ms() - 10 * MINUTE_MS;
    let reads = [Read::of("at-the-limit", at, 500), Read::of("one-more", at, 501)];
    produce(&kafka, &topic, &reads);
    let service = setup.run(&one_input(&topic));
    all_counted(&[&service], 2);
    let mut reader = setup.reader("alerts");
    reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    let found = openings(reader.during(Duration::from_millis(500)));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["one-more"]);
    assert_eq!(found["one-more"].counts(500), (501, 501));
}

#[test]
fn two_members_share_the_partitions_and_count_every_event_once() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "members");
    let topic = setup.input("json", 4);
    let lines = one_input(&topic);
    let (one, two) = (setup.run(&lines), setup.run(&lines));
    let assigned = |service: &Service, role| {
        service.metrics().sum("exfilwatch_partitions_assigned", &[("role", role)])
    };
    for role in ["ingest", "detect"] {
        one.until("partitions shared evenly", SOON, || {
            assigned(&one, role) == 2 && assigned(&two, role) == 2
        });
    }
    let end = now_ms() - 10 * MINUTE_MS;
    let mut reads = ordinary_hour(20, 20, end);
    reads.extend(theft("insider", 100, end));
    produce(&kafka, &topic, &reads);
    all_counted(&[&one, &two], reads.len());
    all_read(&[&one, &two], reads.len());
    for service in [&one, &two] {
        assert!(events_read(service) > 0, "each member reads");
        assert!(applied(service) > 0, "each member counts");
    }
    let mut reader = setup.reader("alerts");
    let records = reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    assert_eq!(openings(records)["insider"].counts(500), (504, 504));
}

#[test]
fn roles_in_processes_of_their_own_find_the_same() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "roles");
    let topic = setup.input("json", 2);
    let end = now_ms() - 10 * MINUTE_MS;
    let mut reads = ordinary_hour(10, 20, end);
    reads.extend(theft("insider", 100, end));
    produce(&kafka, &topic, &reads);
    let lines = one_input(&topic);
    let ingest = setup.run(&format!("roles: [ingest]\n{lines}"));
    let detect = setup.run(&format!("roles: [detect]\n{lines}"));
    all_counted(&[&detect], reads.len());
    assert_eq!(events_read(&detect), 0);
    assert_eq!(applied(&ingest), 0);
    all_read(&[&ingest], reads.len());
    let mut reader = setup.reader("alerts");
    let records = reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    assert_eq!(openings(records)["insider"].counts(500), (504, 504));
}

#[test]
fn a_higher_limit_escalates_the_episode_and_a_quiet_window_closes_it() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "episode");
    setup.rules(
        "rules.yaml",
        "rules:
  - id: customer-records
    severity: medium
    group_by: principal.id
    measure: rows
    limits:
      - {window: 1m, above: 100}
      - {window: 2m, above: 150, severity: critical}
",
    );
    let topic = setup.input("json", 1);
    let service = setup.run(&one_input(&topic));
    let start = now_ms() - 40 * MINUTE_MS;
    let mut reads: Vec<Read> =
        (0..20).map(|n| Read::of("insider", start + n * 2_000, 10)).collect();
    // Half an hour later: both windows have long been empty.
    reads.push(Read::of("insider", start + 30 * MINUTE_MS, 1));
    produce(&kafka, &topic, &reads);
    all_counted(&[&service], reads.len());
    let closed = |seen: &[kafka::Record]| {
        Finding::all(seen, RULE).iter().any(|finding| finding.activity == CLOSE)
    };
    let mut reader = setup.reader("alerts");
    let found = Finding::all(reader.until("a closing", SOON, closed), RULE);
    let (first, last) = (found.first().unwrap(), found.last().unwrap());
    assert_eq!((first.activity, first.severity), (OPEN, 3));
    assert_eq!(first.counts(100), (110, 110));
    let critical = |f: &&Finding| f.activity == UPDATE && f.severity == 5;
    let escalation = found.iter().find(critical).expect("an escalation");
    assert_eq!(escalation.counts(150), (160, 160));
    assert_eq!(last.activity, CLOSE);
    assert!(found.iter().all(|finding| finding.episode == first.episode), "one episode");
    let mut messages: Vec<&String> = found.iter().map(|finding| &finding.message).collect();
    messages.sort();
    messages.dedup();
    assert_eq!(messages.len(), found.len(), "each message has an id of its own");
    assert!(found.len() <= 4, "repeats are folded: {}", found.len());
}

#[test]
fn silence_alone_closes_an_episode() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "silence");
    setup.rules("rules.yaml", &RULES.replace("1h", "1m").replace("24h", "2m"));
    let topic = setup.input("json", 1);
    produce(&kafka, &topic, &[Read::of("insider", now_ms() - 30 * MINUTE_MS, 501)]);
    let _service = setup.run(&one_input(&topic));
    let mut reader = setup.reader("alerts");
    // Ingest marks the time when its inputs have been at their end for ten seconds.
    let found = reader.until("a closing", Duration::from_secs(20), |seen| {
        Finding::all(seen, RULE).last().is_some_and(|finding| finding.activity == CLOSE)
    });
    let activities: Vec<u64> = Finding::all(found, RULE).iter().map(|f| f.activity).collect();
    assert_eq!(activities, [OPEN, CLOSE]);
}

#[test]
fn a_trickle_of_old_events_is_no_silence() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "trickle");
    setup.rules("rules.yaml", &RULES.replace("1h", "1m").replace("24h", "2m"));
    let topic = setup.input("json", 1);
    let then = now_ms() - 30 * MINUTE_MS;
    produce(&kafka, &topic, &[Read::of("insider", then, 501)]);
    let service = setup.run(&one_input(&topic));
    let mut reader = setup.reader("alerts");
    reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    // Each is taken at once, so the input is at its end whenever somebody looks, for 14 seconds.
    for n in 0..70 {
        produce(&kafka, &topic, &[Read::of(&format!("colleague-{n}"), then, 1)]);
        std::thread::sleep(Duration::from_millis(200));
    }
    all_counted(&[&service], 71);
    let found = Finding::all(reader.during(Duration::from_millis(500)), RULE);
    assert!(found.iter().all(|finding| finding.activity != CLOSE), "closed in mid-stream");
}

#[test]
fn counts_of_a_sliding_window_enclose_the_exact_count() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "bounds");
    let topic = setup.input("json", 1);
    // Six hours of 2 to 6 rows a minute, slowly rising: the hour crosses 500 somewhere inside.
    let start = now_ms() - 7 * HOUR_MS;
    let reads: Vec<Read> = (0..1080)
        .map(|n| {
            let rows = u64::try_from(2 + n * 7 / 1080 + n % 3).unwrap();
            Read::of("insider", start + n * 20_000, rows)
        })
        .collect();
    produce(&kafka, &topic, &reads);
    let service = setup.run(&one_input(&topic));
    all_counted(&[&service], reads.len());
    let mut reader = setup.reader("alerts");
    reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    let records = reader.during(Duration::from_secs(1));
    let findings = Finding::all(records, RULE);
    for (above, window) in [(500, HOUR_MS), (1500, 24 * HOUR_MS)] {
        for finding in findings.iter().filter(|finding| finding.activity != CLOSE) {
            let (lo, hi) = finding.counts(above);
            let last = finding.last_seen_ms();
            let within = exact(&reads, "insider", window, last);
            assert!(lo <= within && within <= hi, "{lo} <= {within} <= {hi} for {above}");
            let wider = exact(&reads, "insider", window + window / 5, last);
            assert!(hi <= wider, "{hi} is more than {wider}, the exact count over W + W/5");
        }
    }
    let ever = |limit, window| {
        reads.iter().any(|read| exact(&reads, "insider", window, read.at_ms) > limit)
    };
    assert!(ever(500, HOUR_MS), "the exact count passes the limit, or this test shows nothing");
}

#[test]
fn a_keyed_topic_is_read_by_detect_alone() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "keyed");
    let topic = setup.topic("json");
    let stamped = [("message.timestamp.type", "LogAppendTime")];
    kafka.create_topic(&topic, 3, &stamped);
    let end = now_ms() - 10 * MINUTE_MS;
    let mut reads = ordinary_hour(9, 20, end);
    reads.extend(theft("insider", 100, end));
    let keyed = reads.iter().map(|read| {
        let partition = i32::from(read.principal.as_bytes()[read.principal.len() - 1] % 3);
        read.canonical().key(read.principal.as_str()).to(partition)
    });
    kafka.produce(&topic, Compression::Lz4, keyed);
    let service = setup.run(&format!("inputs:\n  - {{topic: {topic}, keyed: true}}\n"));
    all_counted(&[&service], reads.len());
    assert_eq!(kafka.ends(&setup.topic("events")).iter().sum::<i64>(), 0, "one hop less");
    let mut reader = setup.reader("alerts");
    let records = reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    assert_eq!(openings(records)["insider"].counts(500), (504, 504));
}

#[test]
fn a_keyed_topic_of_arrow_is_read_by_detect_alone_and_every_row_is_held_to_the_key() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "keyed-arrow");
    let topic = setup.topic("arrow");
    kafka.create_topic(&topic, 2, &[("message.timestamp.type", "LogAppendTime")]);
    let of = |name: &str, count: i64| -> Vec<Read> {
        let at = |n: i64| now_ms() - 10 * MINUTE_MS + n;
        (0..count).map(|n| Read::of(name, at(n), 1)).collect()
    };
    let (thief, agent) = (of("insider", 501), of("agent", 200));
    let messages = [(0, "insider", &thief), (1, "agent", &agent)];
    let messages = messages.map(|(to, key, reads)| arrow::message(reads, 100).key(key).to(to));
    kafka.produce(&topic, Compression::Lz4, messages);
    let lines = format!("inputs:\n  - {{topic: {topic}, format: arrow, keyed: true}}\n");
    let service = setup.run(&lines);
    all_counted(&[&service], 701);
    assert_eq!(kafka.ends(&setup.topic("events")).iter().sum::<i64>(), 0, "one hop less");
    let mut reader = setup.reader("alerts");
    let records = reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    assert_eq!(openings(records)["insider"].counts(500), (501, 501));
    let miskeyed = |seen: &[kafka::Record]| Finding::all(seen, "exfilwatch.miskeyed-input");
    assert_eq!(miskeyed(records), [], "all is as it should be");
    let output = setup.command(&["check", "--online"], &lines);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // One row among many is of somebody else.
    let mut mixed = of("agent", 50);
    mixed.insert(20, Read::of("guest", now_ms() - 10 * MINUTE_MS, 1));
    let message = arrow::message(&mixed, 100).key("agent").to(1);
    kafka.produce(&topic, Compression::Lz4, [message]);
    let records = reader.until("the alarm", SOON, |seen| !miskeyed(seen).is_empty());
    let alarm = miskeyed(records)[0].json.to_string();
    assert!(alarm.contains("guest") && alarm.contains("record key"), "{alarm}");
    all_counted(&[&service], 752);
    let output = setup.command(&["check", "--online"], &lines);
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains("events have a record key that is not"), "{}", said(&output));
}

#[test]
fn a_keyed_topic_whose_keys_are_not_the_principals_is_alarmed_on() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "miskeyed");
    let topic = setup.topic("json");
    kafka.create_topic(&topic, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let read = Read::of("ann", now_ms() - 10 * MINUTE_MS, 1);
    kafka.produce(&topic, Compression::None, [read.canonical().key("Ann").to(0)]);
    let lines = format!("inputs:\n  - {{topic: {topic}, keyed: true}}\n");
    let service = setup.run(&lines);
    all_counted(&[&service], 1);
    let mut reader = setup.reader("alerts");
    let records = reader.until("the alert", SOON, |seen| {
        !Finding::all(seen, "exfilwatch.miskeyed-input").is_empty()
    });
    let alert = &Finding::all(records, "exfilwatch.miskeyed-input")[0];
    assert!(alert.json.to_string().contains("record key"), "{}", alert.json);
    let output = setup.command(&["check", "--online"], &lines);
    assert_eq!(output.status.code(), Some(78), "and before a run, by its samples");
    assert!(said(&output).contains("1 of 1 events have a record key"), "{}", said(&output));
}

#[test]
fn a_keyed_topic_of_a_transactional_producer_is_caught_up_with() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "transactions");
    let topic = setup.topic("json");
    kafka.create_topic(&topic, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let producer = kafka.transaction(&topic);
    let read = Read::of("ann", now_ms() - 10 * MINUTE_MS, 1);
    producer.begin_transaction().unwrap();
    kafka::send(&producer, &topic, &read.canonical().key("ann").to(0));
    producer.commit_transaction(SOON).unwrap();
    assert_eq!(kafka.ends(&topic), [2], "the marker of the transaction takes an offset");
    // Returns only once the service says that it is ready.
    let service = setup.run(&format!("inputs:\n  - {{topic: {topic}, keyed: true}}\n"));
    all_counted(&[&service], 1);
    service.metrics_until("no lag", SOON, |metrics| {
        metrics.sum("exfilwatch_consumer_lag_records", &[("role", "detect")]) == 0
    });
}

#[test]
fn each_group_by_and_measure_in_use_counts_by_itself() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "groups");
    let rule = |id: &str, group_by: &str, measure: &str, above: u64| {
        format!(
            "  - {{id: {id}, group_by: {group_by}, measure: {measure}, \
             limits: [{{window: 1h, above: {above}}}]}}\n"
        )
    };
    let rules = [
        rule("tenant-rows", "principal.tenant", "rows", 59),
        rule("address-queries", "client.address", "queries", 29),
        rule("object-rows", "object", "rows", 59),
        rule("instance-rows", "source.instance", "rows", 59),
        rule("principal-rows", "principal.id", "rows", 59),
    ];
    setup.rules("rules.yaml", &format!("rules:\n{}", rules.concat()));
    let topic = setup.input("json", 2);
    let at = now_ms() - 10 * MINUTE_MS;
    // Thirty principals with two rows each: only what they have in common passes a limit.
    let reads: Vec<Read> =
        (0..30).map(|n| Read::of(&format!("agent-{n}"), at + n * 1000, 2)).collect();
    produce(&kafka, &topic, &reads);
    let _service = setup.run(&one_input(&topic));
    let expected = [
        ("address-queries", "127.0.0.9", 29, 30),
        ("instance-rows", "crm-db-1", 59, 60),
        ("object-rows", "crm.public.customers", 59, 60),
        ("tenant-rows", "acme", 59, 60),
    ];
    let mut reader = setup.reader("alerts");
    reader.until("four alerts", SOON, |seen| seen.len() >= expected.len());
    let records = reader.during(Duration::from_millis(500));
    assert!(Finding::all(records, "principal-rows").is_empty());
    for (rule, key, above, count) in expected {
        let found = Finding::all(records, rule);
        assert_eq!(found.len(), 1, "alerts of {rule}");
        assert_eq!((found[0].key.as_str(), found[0].counts(above)), (key, (count, count)));
    }
}

#[test]
fn names_of_one_person_are_one_principal_and_labels_come_from_the_catalogue() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "identity");
    let by_object = "{object: \"crm.public.customers\"}";
    setup.rules("rules.yaml", &RULES.replace(by_object, "{object.labels: [pii]}"));
    let topic = setup.input("json", 2);
    let at = now_ms() - 10 * MINUTE_MS;
    let names = ["JDoe", "jdoe", "CORP\\jdoe"];
    let reads: Vec<Read> = (0..3).map(|n| Read::of(names[n], at, 167)).collect();
    produce(&kafka, &topic, &reads);
    let _service = setup.run(&format!(
        "catalog:
  - {{object: \"crm.public.customers*\", labels: [pii], row_count: 12000000}}
identity:
  aliases: {{\"CORP\\\\jdoe\": jdoe}}
{}",
        one_input(&topic)
    ));
    let mut reader = setup.reader("alerts");
    let records = reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    assert_eq!(openings(records)["jdoe"].counts(500), (501, 501));
}

#[test]
fn reads_whose_counts_are_lost_alert_without_a_rule_of_ones_own() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "unknown");
    let topic = setup.input("json", 1);
    let at = now_ms() - 30 * MINUTE_MS;
    let copies = (0..25).map(|n| {
        let mut event = Read::of("exporter", at + n * 1000, 0).json();
        event["rows"] = serde_json::Value::Null;
        event["rows_quality"] = "unknown".into();
        kafka::Message::new(event.to_string())
    });
    kafka.produce(&topic, Compression::None, copies);
    let _service = setup.run(&one_input(&topic));
    let mut reader = setup.reader("alerts");
    let records = reader.until("an alert", SOON, |seen| !seen.is_empty());
    let finding = Finding::of(&records[0]);
    assert_eq!((finding.key.as_str(), finding.activity), ("exporter", OPEN));
    assert_eq!(finding.counts(20), (21, 21));
}
