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

/// A folder with the files, and the faults of a configuration beside them that reads one of them.
fn faults_of(files: &[(&str, &[u8])], kafka: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let file = folder.path().join("exfilwatch.yaml");
    let line = format!("kafka: {{bootstrap_servers: 'a:1', {kafka}}}");
    fs::write(&file, minimal_with(&line)).unwrap();
    let faults = load(&file).map(|_| ()).map_err(|faults| faults.list).err().unwrap_or_default();
    let folder = format!("{}/", folder.path().display());
    faults.iter().map(|fault| fault.to_string().replace(&folder, "")).collect()
}

fn secrets(kafka: &str, text: &str) -> Config {
    let folder = folder_with(&[("user", "watcher"), ("secret", text)]);
    let file = folder.path().join("exfilwatch.yaml");
    let line = format!("kafka: {{bootstrap_servers: 'a:1', properties_from_files: {{{kafka}}}}}");
    fs::write(&file, minimal_with(&line)).unwrap();
    load(&file).unwrap_or_else(|faults| panic!("{faults}")).config
}

#[test]
fn the_value_of_a_property_is_what_its_file_holds_but_for_one_newline() {
    for (text, value) in [
        ("hunter22", "hunter22"),
        ("hunter22\n", "hunter22"),
        ("hunter22\r\n", "hunter22"),
        ("hunter22\n\n", "hunter22\n"),
        (" hunter22 ", " hunter22 "),
    ] {
        let config = secrets("sasl.username: user, sasl.password: secret", text);
        assert_eq!(config.kafka.property("sasl.password"), Some(value), "{text:?}");
        assert_eq!(config.kafka.property("sasl.username"), Some("watcher"));
    }
    let longest = "x".repeat(64 * 1024);
    let config = secrets("sasl.password: secret", &longest);
    assert_eq!(config.kafka.property("sasl.password"), Some(longest.as_str()));
}

#[test]
fn a_secret_is_shown_nowhere() {
    let config = secrets("sasl.username: user, sasl.password: secret", "hunter22");
    let shown = format!("{config:?} {config:#?}");
    assert!(shown.contains("sasl.password") && !shown.contains("hunter22"), "{shown}");
    assert!(!shown.contains("watcher"), "{shown}");
    // What librdkafka or the checks refuse of it is not repeated either.
    for key in ["socket.timeout.ms", "partition.assignment.strategy", "client.dns.lookup"] {
        let files = format!("properties_from_files: {{{key}: secret}}");
        let faults = faults_of(&[("secret", b"hunter22")], &files);
        assert_eq!(faults.len(), 1, "{key}");
        assert!(faults[0].contains("the value in secret"), "{faults:?}");
        assert!(!faults[0].contains("hunter22"), "{faults:?}");
    }
}

#[test]
fn a_file_that_gives_no_value_is_named_with_its_key() {
    let long = vec![b'x'; 64 * 1024 + 1];
    let files: [(&str, &[u8]); 4] =
        [("none", b""), ("newline", b"\n"), ("latin", b"caf\xe9"), ("long", &long)];
    for (file, problem) in [
        ("away", "away cannot be read: No such file"),
        (".", ". cannot be read: Is a directory"),
        ("none", "none is empty"),
        ("newline", "newline is empty"),
        ("latin", "latin is no UTF-8 text"),
        ("long", "long is longer than the 65536 bytes allowed"),
    ] {
        let faults =
            faults_of(&files, &format!("properties_from_files: {{sasl.password: {file}}}"));
        assert_eq!(faults.len(), 1, "{file}: {faults:?}");
        let wanted = format!("kafka.properties_from_files.sasl.password: {problem}");
        assert!(faults[0].contains(&wanted), "{wanted} is not in {faults:?}");
        assert!(faults[0].contains("expected the value of `sasl.password`"), "{faults:?}");
    }
    let nul = faults_of(&[("nul", b"a\0b")], "properties_from_files: {sasl.password: nul}");
    assert!(nul[0].contains("nul holds a NUL character"), "{nul:?}");
}

#[test]
fn a_property_has_one_value_and_is_not_ours_to_be_read_from_a_file() {
    let files: [(&str, &[u8]); 1] = [("secret", b"hunter22")];
    for (kafka, problem) in [
        (
            "properties: {sasl.password: x}, properties_from_files: {sasl.password: secret}",
            "secret is also in kafka.properties: expected one of the two",
        ),
        ("properties_from_files: {group.id: secret}", "is set by exfilwatch"),
        ("properties_from_files: {enable.auto.commit: secret}", "is set by exfilwatch"),
        ("properties_from_files: {sasl.pasword: secret}", "librdkafka has no such property"),
        ("properties_from_files: {sasl.password: 7}", "expected the path of a file"),
    ] {
        let faults = faults_of(&files, kafka);
        assert_eq!(faults.len(), 1, "{kafka}: {faults:?}");
        assert!(faults[0].contains(problem), "{problem} is not in {faults:?}");
        assert!(faults[0].contains("kafka.properties_from_files"), "{faults:?}");
        assert!(!faults[0].contains("hunter22"), "{faults:?}");
    }
}

#[test]
fn checks_of_properties_see_those_from_files() {
    let files = "properties_from_files: {session.timeout.ms: session}";
    let faults = faults_of(&[("session", b"20000\n")], files);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("session.timeout.ms of kafka.properties_from_files"), "{faults:?}");
    let mut config = secrets("group.instance.id: secret", "pod-0");
    let faults = config.set_instance_id("pod-0".to_owned()).unwrap_err().to_string();
    assert!(faults.contains("kafka.properties_from_files.group.instance.id"), "{faults}");
}

#[test]
fn a_token_needs_a_protocol_with_sasl_and_no_other_mechanism() {
    let with = |properties: &str| {
        faults_of(&[], &format!("oauth_token_file: token, properties: {{{properties}}}"))
    };
    for good in [
        "security.protocol: sasl_ssl",
        "security.protocol: SASL_PLAINTEXT",
        "security.protocol: sasl_ssl, sasl.mechanism: OAUTHBEARER",
        "security.protocol: sasl_ssl, sasl.mechanisms: OAUTHBEARER",
    ] {
        assert_eq!(with(good), Vec::<String>::new(), "{good}; the file need not be there yet");
    }
    for (bad, problem) in [
        ("client.id: x", "no token would be sent; expected sasl_ssl or sasl_plaintext"),
        ("security.protocol: ssl", "no token would be sent"),
        ("security.protocol: sasl_ssl, sasl.mechanism: PLAIN", "`sasl.mechanism` is another"),
        ("security.protocol: sasl_ssl, sasl.mechanisms: PLAIN", "`sasl.mechanisms` is another"),
        ("security.protocol: sasl_ssl, sasl.mechanism: oauthbearer", "`sasl.mechanism` is another"),
        (
            "security.protocol: sasl_ssl, enable.sasl.oauthbearer.unsecure.jwt: true",
            "makes tokens of its own",
        ),
    ] {
        let faults = with(bad);
        assert_eq!(faults.len(), 1, "{bad}: {faults:?}");
        assert!(faults[0].contains("kafka.oauth_token_file"), "{faults:?}");
        assert!(faults[0].contains(problem), "{problem} is not in {faults:?}");
    }
}

#[test]
fn the_path_of_a_token_is_from_the_folder_of_the_configuration() {
    let line = "kafka: {bootstrap_servers: 'a:1', oauth_token_file: secrets/token, \
                properties: {security.protocol: sasl_ssl}}";
    let text = minimal_with(line);
    let loaded = check_text(Path::new("/etc/exfilwatch/exfilwatch.yaml"), &text).unwrap();
    let file = loaded.config.kafka.oauth_token_file.unwrap();
    assert_eq!(file, Path::new("/etc/exfilwatch/secrets/token"));
}
