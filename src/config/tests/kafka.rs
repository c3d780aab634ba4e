//! `kafka:` beyond its plain keys: the name of a static member.

use super::*;

#[test]
fn a_name_of_a_static_member_is_what_kafka_takes() {
    let longest = "p".repeat(249);
    for good in ["exfilwatch-0", "A.b_c-9", "...", longest.as_str()] {
        assert_eq!(instance_id(good).as_deref(), Ok(good));
    }
    let longer = "p".repeat(250);
    for bad in ["", ".", "..", "$(POD_NAME)", "pod 0", "pod/0", "pöd", "pod\n", longer.as_str()] {
        let problem = instance_id(bad).unwrap_err();
        assert!(problem.contains("1 to 249 of the characters a-z A-Z 0-9 . _ -"), "{bad:?}");
    }
}

#[test]
fn a_static_member_is_named_in_one_place_only() {
    let mut config = load_text(MINIMAL).unwrap().config;
    config.set_instance_id("pod-0".to_owned()).unwrap();
    assert_eq!(config.kafka.instance_id.as_deref(), Some("pod-0"));

    let twice = minimal_with(
        "kafka: {bootstrap_servers: 'a:1', properties: {group.instance.id: from-the-file}}",
    );
    let mut config = load_text(&twice).unwrap().config;
    let faults = config.set_instance_id("pod-0".to_owned()).unwrap_err();
    assert_eq!(
        faults.to_string(),
        "exfilwatch.yaml: 1 problem\n  exfilwatch.yaml: kafka.properties.group.instance.id: is \
         also given on the command line: --instance-id pod-0\n    hint: remove it here: a file is \
         for all processes, the name for one"
    );
}

#[test]
fn a_name_from_the_command_line_is_no_change_of_the_file() {
    let mut running = load_text(MINIMAL).unwrap().config;
    let read_again = running.clone();
    running.set_instance_id("pod-0".to_owned()).unwrap();
    assert!(running.differs_in(&read_again).is_empty());
    let mut changed = read_again;
    changed.kafka.group_id = "other".to_owned();
    assert_eq!(running.differs_in(&changed), ["kafka"]);
}
