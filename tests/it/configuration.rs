//! Configuration: refused with every fault at once, or explained against the live topics.

use crate::{
    events::{MINUTE_MS, Read, now_ms},
    kafka::{self, Client, Compression},
    service::{RULES, Setup, exfilwatch, said},
    steps::{one_input, produce},
};

/// A deployment whose broker is never asked.
fn offline(name: &str) -> Setup {
    Setup::new(&Client::new("127.0.0.1:1"), name)
}

const FIVE_FAULTS: &str = "kafka:
  bootstrap_server: \"127.0.0.1:9092\"
  group_id: exfilwatch
inputs:
  - topic: query-events
    format: parquet
ingest: {max_drift: soon}
http: {listen: \"nowhere\"}
rules:
  - id: r
    group_by: principal.name
    measure: rows
    limits: [{window: 1h, above: 500}]
";

#[test]
fn five_faults_are_told_in_one_run_with_their_places_and_hints() {
    let setup = offline("faults");
    let path = setup.path("five.yaml");
    std::fs::write(&path, FIVE_FAULTS).unwrap();
    let faults = [
        (2, "bootstrap_server"),
        (6, "parquet"),
        (7, "soon"),
        (8, "nowhere"),
        (11, "principal.name"),
    ];
    for command in [["check", "--output=human"].as_slice(), &["run"]] {
        let output = exfilwatch().args(command).arg("-c").arg(&path).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(78), "{said}");
        for (line, found) in faults {
            assert!(said.contains(found), "`{found}` is not in:\n{said}");
            assert!(said.contains(&format!("five.yaml:{line}:")), "line {line} is not in:\n{said}");
        }
        assert!(said.contains("did you mean `bootstrap_servers`"), "no suggestion in:\n{said}");
    }
    // Programs get the same as one JSON object a line.
    let output = exfilwatch().args(["check", "-c"]).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let told: Vec<serde_json::Value> =
        said(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (line, _) in faults {
        assert!(told.iter().any(|fault| fault["line"] == line), "line {line} is not in {told:?}");
    }
}

#[test]
fn a_sound_configuration_passes_and_a_missing_one_does_not() {
    let setup = offline("sound");
    let output = setup.command(&["check"], &one_input("raw"));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let output = exfilwatch().args(["check", "-c", "/nowhere/exfilwatch.yaml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains("/nowhere/exfilwatch.yaml"));
    let output = exfilwatch().args(["check", "--no-such-flag"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[test]
fn settings_that_would_lose_events_are_refused_by_name() {
    let setup = offline("owned");
    for property in ["enable.auto.commit", "auto.offset.reset", "group.id", "message.timeout.ms"] {
        let path = setup.path("owned.yaml");
        let text = format!(
            "kafka: {{bootstrap_servers: \"127.0.0.1:1\", properties: {{{property}: \"x\"}}}}
inputs: [{{topic: raw}}]
rules: [\"rules/*.yaml\"]
"
        );
        std::fs::write(&path, text).unwrap();
        let output = exfilwatch().args(["check", "-c"]).arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{property}: {}", said(&output));
        assert!(said(&output).contains(property), "{}", said(&output));
    }
}

#[test]
fn a_static_member_that_is_named_twice_is_refused() {
    let setup = offline("named");
    setup.property("group.instance.id", "from-the-file");
    let output = setup.command(&["run", "--instance-id=pod-0"], &one_input("raw"));
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    for word in ["kafka.properties.group.instance.id", "--instance-id pod-0"] {
        assert!(said(&output).contains(word), "{word}: {}", said(&output));
    }
}

#[test]
fn a_keyed_input_is_refused_where_counts_would_be_split() {
    let setup = offline("keyed");
    let keyed = "inputs: [{topic: raw, keyed: true}]";
    let two = "inputs: [{topic: raw, keyed: true}, {topic: more}]";
    let aliases = format!("{keyed}\nidentity: {{aliases: {{a: b}}}}");
    for lines in [two, aliases.as_str()] {
        let output = setup.command(&["check"], lines);
        assert_eq!(output.status.code(), Some(78), "{lines}: {}", said(&output));
        assert!(said(&output).contains("keyed"), "{}", said(&output));
    }
    setup.rules("rules.yaml", &RULES.replace("principal.id", "principal.tenant"));
    let output = setup.command(&["check"], keyed);
    assert_eq!(output.status.code(), Some(78), "by tenant: {}", said(&output));
}

#[test]
fn check_online_shows_what_is_understood_and_which_rules_match() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "online");
    setup.rules(
        "typo.yaml",
        "rules:
  - id: never-fires
    where: {object: \"crm.public.costumers\"}
    group_by: principal.id
    limits: [{window: 1h, above: 10}]
",
    );
    let topic = setup.input("json", 2);
    let at = now_ms() - 10 * MINUTE_MS;
    let reads: Vec<Read> = (0..20).map(|n| Read::of("jdoe", at + n, 3)).collect();
    produce(&kafka, &topic, &reads);
    kafka.produce(&topic, Compression::None, [kafka::Message::new("poison")]);
    let output = setup.command(&["check", "--online"], &one_input(&topic));
    let said = said(&output);
    for expected in
        [topic.as_str(), "jdoe", "crm.public.customers", "customer-records", "never-fires"]
    {
        assert!(said.contains(expected), "`{expected}` is not in:\n{said}");
    }
    assert_eq!(kafka.committed(&setup.group("ingest"), &topic), [None, None], "it only looks");
}

#[test]
fn check_online_demands_that_the_broker_stamps_what_detect_reads() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "unstamped");
    kafka.create_topic(&setup.topic("events"), 2, &[("max.message.bytes", "9000000")]);
    let topic = setup.input("json", 1);
    let output = setup.command(&["check", "--online"], &one_input(&topic));
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains("message.timestamp.type=CreateTime"), "{}", said(&output));
}

#[test]
fn check_online_refuses_other_partitions_than_are_reckoned_with() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "partitions");
    let topic = setup.input("json", 1);
    let check = |partitions: &str| {
        let output = setup.command(&["check", "--online", partitions], &one_input(&topic));
        (output.status.code(), said(&output))
    };
    let (code, said) = check("--partitions=16");
    assert_eq!(code, Some(0), "nothing is there that could differ: {said}");
    let settings = [("max.message.bytes", "9000000"), ("message.timestamp.type", "LogAppendTime")];
    kafka.create_topic(&setup.topic("events"), 2, &settings);
    let (code, said) = check("--partitions=16");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("has 2 partitions, but 16 are reckoned with"), "{said}");
    let (code, said) = check("--partitions=2");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn check_online_of_inputs_needs_no_topics_of_ours() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "early");
    setup.create_topics("false");
    let topic = setup.input("json", 1);
    produce(&kafka, &topic, &[Read::of("jdoe", now_ms() - MINUTE_MS, 3)]);
    let output = setup.command(&["check", "--online=inputs"], &one_input(&topic));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    for expected in [topic.as_str(), "jdoe", "topics that exfilwatch writes"] {
        assert!(said(&output).contains(expected), "`{expected}` is not in {}", said(&output));
    }
    for all in ["--online", "--online=all"] {
        let output = setup.command(&["check", all], &one_input(&topic));
        assert_eq!(output.status.code(), Some(78), "{}", said(&output));
        assert!(said(&output).contains(&setup.topic("events")), "{}", said(&output));
    }
    let output = setup.command(&["check", "--online=inputs"], &one_input(&setup.topic("none")));
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains("does not exist"), "{}", said(&output));
}

#[test]
fn check_online_without_a_broker_says_where_it_looked_and_for_how_long() {
    let setup = offline("dark");
    for online in ["--online", "--online=inputs"] {
        let output = setup.command(&["check", online, "--timeout=2s"], &one_input("raw"));
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let sentence = "no broker answered within 2 s; tried 127.0.0.1:1; the last that went wrong";
        assert!(said(&output).contains(sentence), "{}", said(&output));
    }
}
