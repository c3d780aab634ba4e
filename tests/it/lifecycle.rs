//! Start and stop: with everything in place, with topics missing, and without a broker.

use crate::{
    events::{MINUTE_MS, Read, now_ms, ordinary_hour},
    kafka,
    service::{STOP_MAX, Service, Setup},
    steps::{SOON, all_counted, applied, one_input, produce},
};

#[test]
fn asked_to_stop_it_commits_what_it_read_leaves_the_group_and_exits_0() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "stop");
    let topic = setup.input("json", 3);
    let lines = one_input(&topic);
    let reads = ordinary_hour(20, 100, now_ms() - 10 * MINUTE_MS);
    produce(&kafka, &topic, &reads);
    let mut first = setup.run(&lines);
    first.until("some rows counted", SOON, || applied(&first) > 0);
    assert!(first.stop().success(), "exit code 0");
    // Whatever it read before the signal is in the events topic and committed: a second process
    // reads the rest, and nothing twice.
    let second = setup.run(&lines);
    all_counted(&[&second], reads.len());
    let duplicate = [("outcome", "duplicate")];
    assert_eq!(second.metrics().sum("exfilwatch_rows_evaluated_total", &duplicate), 0);
}

#[test]
fn control_c_stops_it_the_same_way() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "interrupt");
    let topic = setup.input("json", 2);
    produce(&kafka, &topic, &ordinary_hour(5, 10, now_ms() - 10 * MINUTE_MS));
    let mut service = setup.run(&one_input(&topic));
    all_counted(&[&service], 50);
    service.signal("INT");
    assert!(service.wait(STOP_MAX).success(), "exit code 0");
    let committed = kafka.committed(&setup.group("ingest"), &topic);
    let ends: Vec<Option<i64>> = kafka.ends(&topic).into_iter().map(Some).collect();
    assert_eq!(committed, ends);
}

fn why_not_ready(service: &Service) -> Option<String> {
    service.get("/readyz").filter(|(status, _)| *status == 503).map(|(_, why)| why)
}

#[test]
fn without_a_broker_it_says_so_waits_and_recovers_when_the_broker_comes() {
    let Some(mut broker) = kafka::private() else { return };
    let kafka = broker.client();
    let setup = Setup::new(&kafka, "absent");
    let topic = setup.input("json", 1);
    produce(&kafka, &topic, &[Read::of("agent", now_ms() - MINUTE_MS, 1)]);
    broker.stop();
    let service = setup.start(&one_input(&topic));
    service.until("a reason why it is not ready", SOON, || {
        why_not_ready(&service).is_some_and(|why| why.to_lowercase().contains("broker"))
    });
    assert_eq!(service.get("/healthz").map(|(status, _)| status), Some(200));
    let (status, why) = service.get("/startupz").unwrap();
    assert_eq!(status, 503);
    assert!(why.contains(r#""started":false"#) && why.contains("broker"), "{why}");
    service.until("a line that names the broker", SOON, || {
        service.output().contains(broker.address().as_str())
    });
    broker.restart();
    service.ready();
    assert_eq!(service.get("/startupz").map(|(status, _)| status), Some(200));
    all_counted(&[&service], 1);
}

#[test]
fn a_broker_that_goes_away_and_comes_back_costs_nothing_but_time() {
    let Some(mut broker) = kafka::private() else { return };
    let kafka = broker.client();
    let setup = Setup::new(&kafka, "away");
    let topic = setup.input("json", 2);
    let reads = ordinary_hour(5, 20, now_ms() - 10 * MINUTE_MS);
    let service = setup.run(&one_input(&topic));
    produce(&kafka, &topic, &reads[..50]);
    all_counted(&[&service], 50);
    broker.stop();
    service.until("no readiness without a broker", SOON, || why_not_ready(&service).is_some());
    assert_eq!(service.get("/startupz").map(|(status, _)| status), Some(200), "it has started");
    broker.restart();
    produce(&kafka, &topic, &reads[50..]);
    service.ready();
    all_counted(&[&service], 100);
}

#[test]
fn without_a_broker_it_still_stops_within_its_time() {
    let setup = Setup::new(&kafka::Client::new("127.0.0.1:1"), "nowhere");
    let mut service = setup.start(&one_input("raw"));
    service.until("a sign of life", SOON, || service.get("/healthz").is_some());
    service.stop();
}

#[test]
fn missing_topics_are_named_with_the_command_that_creates_them() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "missing");
    setup.create_topics("false");
    let input = setup.topic("never-made");
    let service = setup.start(&one_input(&input));
    service.until("every missing topic in the output", SOON, || {
        let output = service.output();
        ["events", "state", "alerts", "dead"].iter().all(|name| output.contains(&setup.topic(name)))
            && output.contains(&input)
            && output.contains("kafka-topics.sh")
            && output.contains("--create")
    });
    assert_ne!(service.get("/readyz").map(|(status, _)| status), Some(200));
    assert_eq!(kafka.partitions(&setup.topic("events")), 0, "nothing was created");
}

#[test]
fn topics_it_creates_have_the_shape_their_use_demands() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "shape");
    setup.create_topics("{partitions: 3, replication: 1}");
    let topic = setup.input("json", 1);
    let _service = setup.run(&one_input(&topic));
    let config = |name: &str, key: &str| kafka.topic_config(&setup.topic(name), key);
    let day_ms: i64 = 24 * 3600 * 1000;
    assert_eq!(kafka.partitions(&setup.topic("events")), 3);
    assert_eq!(kafka.partitions(&setup.topic("state")), 3, "one for one with events");
    assert_eq!(config("events", "message.timestamp.type"), "LogAppendTime");
    assert_eq!(config("events", "cleanup.policy"), "delete");
    assert_eq!(config("events", "retention.ms"), (7 * day_ms).to_string());
    assert_eq!(config("state", "cleanup.policy"), "compact");
    assert_eq!(config("state", "segment.bytes"), (64 << 20).to_string());
    assert_eq!(config("state", "min.cleanable.dirty.ratio"), "0.1");
    assert_eq!(config("alerts", "cleanup.policy"), "delete");
    assert_eq!(config("alerts", "retention.ms"), (30 * day_ms).to_string());
    assert_eq!(config("dead", "cleanup.policy"), "delete");
    assert_eq!(config("dead", "retention.ms"), (7 * day_ms).to_string());
}

#[test]
fn the_state_topic_gets_as_many_partitions_as_the_events_topic_has() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "beside");
    let shape = [("max.message.bytes", "9000000"), ("message.timestamp.type", "LogAppendTime")];
    kafka.create_topic(&setup.topic("events"), 2, &shape);
    let topic = setup.input("json", 1);
    let service = setup.run(&one_input(&topic));
    assert_eq!(kafka.ends(&setup.topic("state")).len(), 2, "{}", service.output());
}

#[test]
fn an_events_topic_without_log_append_time_is_pointed_out() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "stamps");
    let large = [("max.message.bytes", "9000000")];
    kafka.create_topic(&setup.topic("events"), 2, &large);
    kafka.create_topic(&setup.topic("state"), 2, &[("cleanup.policy", "compact")]);
    let topic = setup.input("json", 1);
    let service = setup.start(&one_input(&topic));
    service.until("the setting that is wrong", SOON, || {
        service.output().contains("LogAppendTime") && service.output().contains("kafka-configs.sh")
    });
}
