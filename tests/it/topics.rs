//! `topics create`: what is missing is made as a run would make it, what is there is left alone.

use serde_json::Value;

use crate::{
    kafka::{self, Client},
    service::{Setup, said},
    steps::one_input,
};

/// Exit code, and what was said of each topic.
fn create(setup: &Setup, lines: &str) -> (Option<i32>, Vec<Value>) {
    let output = setup.command(&["topics", "create", "--output=json"], lines);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code(), lines)
}

fn results(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["result"].as_str().unwrap()).collect()
}

#[test]
fn topics_create_makes_what_a_run_needs_and_does_nothing_the_second_time() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "prepared");
    setup.create_topics("{partitions: 3, replication: 1}");
    // Inputs need not be there yet.
    let topic = setup.topic("json");
    let lines = one_input(&topic);
    let (code, told) = create(&setup, &lines);
    assert_eq!((code, results(&told)), (Some(0), vec!["created"; 4]), "{told:?}");
    let names: Vec<&str> = told.iter().map(|line| line["topic"].as_str().unwrap()).collect();
    assert_eq!(names, ["events", "state", "alerts", "dead"].map(|name| setup.topic(name)));
    assert_eq!(kafka.partitions(&setup.topic("state")), 3);
    assert_eq!(kafka.topic_config(&setup.topic("state"), "cleanup.policy"), "compact");
    let stamps = kafka.topic_config(&setup.topic("events"), "message.timestamp.type");
    assert_eq!(stamps, "LogAppendTime");
    assert_eq!(kafka.partitions(&topic), 0, "an input is not ours to make");
    let (code, told) = create(&setup, &lines);
    assert_eq!((code, results(&told)), (Some(0), vec!["exists"; 4]), "{told:?}");
    // A run that may make nothing finds all it needs.
    setup.create_topics("false");
    kafka.create_topic(&topic, 1, &[]);
    assert!(setup.run(&lines).stop().success());
}

#[test]
fn topics_create_tells_how_a_topic_differs_and_leaves_it_so() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "differing");
    setup.create_topics("{partitions: 2, replication: 1}");
    kafka.create_topic(&setup.topic("events"), 4, &[("max.message.bytes", "20000000")]);
    kafka.create_topic(&setup.topic("alerts"), 2, &[("retention.ms", "60000")]);
    let (code, told) = create(&setup, &one_input("raw"));
    assert_eq!(code, Some(0), "{told:?}");
    assert_eq!(results(&told), ["differs", "created", "differs", "created"]);
    let differences = |line: &Value| {
        let all = line["differences"].as_array().unwrap().clone();
        all.iter().map(|it| it["what"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let events = differences(&told[0]);
    assert!(events.contains(&"partitions=4, but 2 is wanted".to_owned()), "{events:?}");
    assert!(events.iter().any(|it| it.starts_with("message.timestamp.type=CreateTime")));
    assert!(!events.iter().any(|it| it.contains("max.message.bytes")), "more room does no harm");
    let alerts = differences(&told[2]);
    assert_eq!(alerts, ["retention.ms=60000, but 2592000000 is wanted"]);
    assert!(told[2]["differences"][0]["hint"].as_str().unwrap().starts_with("kafka-configs.sh"));
    assert_eq!(told[1]["partitions"], 4, "as many as the events topic has");
    assert_eq!(kafka.topic_config(&setup.topic("alerts"), "retention.ms"), "60000");
    let output = setup.command(&["topics", "create", "--output=human"], &one_input("raw"));
    let text = said(&output);
    assert!(text.contains(&format!("exists: {}, 4 partitions, 1 replica", setup.topic("state"))));
    assert!(text.contains("  retention.ms=60000, but 2592000000 is wanted\n    hint: "), "{text}");
}

#[test]
fn topics_create_ends_with_1_where_the_broker_refuses() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "refused");
    setup.create_topics("{partitions: 2, replication: 3}");
    let (code, told) = create(&setup, &one_input("raw"));
    assert_eq!((code, results(&told)), (Some(1), vec!["refused"; 4]), "{told:?}");
    assert!(told[0]["problem"].as_str().unwrap().to_lowercase().contains("replication"));
    // How many partitions the state needs cannot be known.
    setup.create_topics("{partitions: 2, replication: 1}");
    let keyed = format!("inputs: [{{topic: {}, keyed: true}}]", setup.topic("away"));
    let (code, told) = create(&setup, &keyed);
    assert_eq!(code, Some(1), "{told:?}");
    assert_eq!(results(&told), ["created", "refused", "created", "created"]);
    assert!(told[1]["problem"].as_str().unwrap().contains(&setup.topic("away")));
}

#[test]
fn topics_create_ends_with_1_where_no_broker_answers() {
    let setup = Setup::new(&Client::new("127.0.0.1:1"), "nobody");
    let output = setup.command(&["topics", "create"], &one_input("raw"));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let sentence = "no broker answered within 10 s; tried 127.0.0.1:1";
    assert!(said(&output).contains(sentence), "{}", said(&output));
}
