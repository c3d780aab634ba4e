//! Faulty configurations and the exact words they get; what is doubtful; what a good one becomes.

mod canary;
mod docs;
mod kafka;
mod watched;

use std::{fs, path::Path};

use proptest::prelude::*;

use super::*;
use crate::rules::Field;

const MINIMAL: &str = "\
kafka: {bootstrap_servers: '127.0.0.1:9092'}
inputs: [{topic: reads}]
rules: [{id: records, limits: [{window: 1h, above: 500}]}]
";

fn load_text(text: &str) -> Result<Loaded, Faults> {
    check_text(Path::new("exfilwatch.yaml"), text)
}

/// The faults of [`MINIMAL`] with its line of `key` replaced by `line`, or `line` added.
fn faults_with(line: &str) -> Vec<String> {
    match load_text(&minimal_with(line)) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.list.iter().map(ToString::to_string).collect(),
    }
}

fn minimal_with(line: &str) -> String {
    let key = line.split(':').next().unwrap();
    let kept = MINIMAL.lines().filter(|old| !old.starts_with(&format!("{key}:")));
    kept.chain([line]).flat_map(|text| [text, "\n"]).collect()
}

fn warnings_with(line: &str) -> Vec<String> {
    let loaded = load_text(&minimal_with(line)).unwrap_or_else(|faults| panic!("{faults}"));
    loaded.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn all_faults_of_a_file_come_in_one_report_with_place_and_hint() {
    let text = "\
kafka:
  bootstrap_servers: localhost
  properties: {group.id: mine}
inputs:
  - topic: reads
    fromat: trino
rules:
  - id: customers
    where: {object.label: pii}
    limits:
      - {window: 31d, above: 500}
    schedule: office-hours
shutdown: {drain_timeout: 45s}
";
    let expected = "\
exfilwatch.yaml: 7 problems
  exfilwatch.yaml:2:22: kafka.bootstrap_servers: \"localhost\" is no broker; expected host:port
    hint: separate several by commas: a:9092,b:9092
  exfilwatch.yaml:3:26: kafka.properties.group.id: is set by exfilwatch and cannot be passed through
    hint: use kafka.group_id
  exfilwatch.yaml:6:5: inputs[0].fromat: unknown key; allowed here: topic, format, start, \
   keyed, retries, source
    hint: did you mean `format`?
  exfilwatch.yaml:9:13: rules[0].where.object.label: unknown key; allowed here: client.address, \
client.application, destination, object, object.database, object.labels, object.name, \
object.schema, operation, principal.groups, principal.id, principal.tenant, principal.type, \
query.fingerprint, rows_quality, source.database, source.instance, source.kind, success
    hint: did you mean `object.labels`?
  exfilwatch.yaml:11:18: rules[0].limits[0].window: \"31d\" is not allowed: 2678400 s is longer \
than the 30 d of the longest window; expected a window from 1m to 30d, a multiple of 30s, such as \
90s, 1h or 30d
  exfilwatch.yaml:12:5: rules[0].schedule: is reserved: not yet supported
    hint: remove it; docs/RULES.md lists what there is
  exfilwatch.yaml:13:27: shutdown.drain_timeout: 45s must be below \
kafka.properties.session.timeout.ms (45s)
    hint: partitions go to another member before the drain can end";
    assert_eq!(load_text(text).unwrap_err().to_string(), expected);
}

#[test]
fn each_fault_says_what_was_found_and_what_is_allowed() {
    let table: &[(&str, &str)] = &[
        ("kafka: 7", "found 7; expected a mapping with bootstrap_servers, properties"),
        ("kafka: {}", "kafka.bootstrap_servers: is missing; expected text of at most 512 bytes"),
        ("kafka: {bootstrap_servers: ''}", "\"\" is empty; expected text"),
        ("kafka: {bootstrap_servers: 'a:9092,:1'}", "\":1\" is no broker; expected host:port"),
        (
            "kafka: {bootstrap_servers: 'a:1', properties: {linger.mss: 5}}",
            "kafka.properties.linger.mss: librdkafka has no such property",
        ),
        (
            "kafka: {bootstrap_servers: 'a:1', properties: {linger.ms: [5]}}",
            "kafka.properties.linger.ms: found a list; expected text, a number, true or false",
        ),
        (
            "kafka: {bootstrap_servers: 'a:1', create_topics: {partitions: 0}}",
            "create_topics.partitions: found 0; expected a whole number from 1 to 10000",
        ),
        (
            "kafka: {bootstrap_servers: 'a:1', create_topics: maybe}",
            "create_topics: found \"maybe\"; expected true or false or a mapping with partitions",
        ),
        ("topics: {events: 'a b'}", "\"a b\" is no topic name; expected 1 to 249 of"),
        ("topics: {events: x, state: x}", "topics.state: topic `x` was given before, on line 4"),
        ("inputs: []", "inputs: the list is empty; expected at least one item"),
        ("inputs: [{}]", "inputs[0].topic: is missing; expected 1 to 249 of the characters"),
        ("inputs: [reads]", "inputs[0]: found \"reads\"; expected an input with topic, format"),
        ("inputs: [{topic: a, format: jsno}]", "expected one of canonical, trino, arrow"),
        ("inputs: [{topic: a, start: now}]", "\"now\" is no place to start; expected earliest"),
        ("inputs: [{topic: a, retries: 5}]", "inputs[0].retries: found 5; expected true or false"),
        ("dedup: {entries: 1KiB}", "found \"1KiB\"; expected a whole number from 0 to 8388608"),
        ("inputs: [{topic: a, keyed: yes}]", "found \"yes\"; expected true or false"),
        ("inputs: [{topic: a}, {topic: a}]", "inputs[1].topic: topic `a` was given before"),
        (
            "inputs: [{topic: exfilwatch.events}]",
            "`exfilwatch.events` is topics.events, which exfilwatch writes itself",
        ),
        ("roles: []", "roles: the list is empty"),
        ("roles: [detect, detect]", "roles[1]: role `detect` was given before"),
        ("ingest: {max_drift: 5}", "found 5; expected a duration such as 500ms, 30s, 5m"),
        ("ingest: {max_drift: 5 m}", "\"5 m\" is no duration; expected a duration"),
        ("ingest: {max_drift: 99999999999999d}", "is a duration too large to count"),
        ("detect: {memory_limit: 63MiB}", "63MiB is out of bounds; allowed: 64MiB to 1TiB"),
        ("detect: {memory_limit: much}", "\"much\" is no size; expected a size such as 512MiB"),
        ("detect: {threads: 1025}", "found 1025; expected a whole number from 0 to 1024"),
        ("http: {listen: 9464}", "found 9464; expected an address and port such as 0.0.0.0:9464"),
        ("shutdown: {drain_timeout: 0s}", "0s is out of bounds; allowed: 1s to 10m"),
        ("catalog: [{object: 'a.*'}]", "`a.*` says nothing; expected labels, row_count or both"),
        ("catalog: [{labels: [pii]}]", "catalog[0].object: is missing; expected text of at most"),
        ("identity: {aliases: {'CORP\\a': x, 'corp\\A': y}}", "is `y` here and `x` elsewhere"),
        ("identity: {qualify_by: [team]}", "found \"team\"; expected one of tenant, source."),
        (
            "identity: {qualify_by: [tenant, tenant]}",
            "qualify_by[1]: qualifier `tenant` was given before",
        ),
        ("rules: []", "rules: the list is empty; expected at least one item"),
        ("rules: ['none/*.yaml']", "rules[0]: \"none/*.yaml\" cannot be listed: No such file"),
        ("rules: ['src/config/*.none']", "rules[0]: \"src/config/*.none\" matches no file"),
        ("rules: ['a*/b.yaml']", "rules[0]: \"a*/b.yaml\" has a glob in a folder name"),
        ("rules: [none.yaml]", "none.yaml: cannot be read: No such file"),
        ("default_rules: 1", "default_rules: found 1; expected true or false"),
        ("tests: []", "tests: is reserved: not yet supported"),
    ];
    for (line, expected) in table {
        let faults = faults_with(line);
        assert_eq!(faults.len(), 1, "{line}: {faults:?}");
        assert!(faults[0].contains(expected), "{line}:\n{}\nis not\n{expected}", faults[0]);
    }
}

#[test]
fn each_fault_of_a_rule_says_what_was_found_and_what_is_allowed() {
    let limits = "limits: [{window: 1h, above: 5}]";
    let table: &[(&str, &str)] = &[
        ("limits: [{window: 1h, above: 5}]", "rules[0].id: is missing; expected 1 to 64"),
        ("id: Big, LIMITS", "\"Big\" is no rule id; expected 1 to 64 of the characters"),
        ("id: exfilwatch.gap, LIMITS", "is a name kept for alerts about exfilwatch itself"),
        ("id: a", "rules[0].limits: is missing; expected a list of items, each a limit with"),
        ("id: a, limits: []", "limits: the list is empty"),
        ("id: a, limits: [{above: 5}]", "limits[0].window: is missing; expected a window from"),
        ("id: a, limits: [{window: 1h}]", "limits[0].above: is missing; expected a whole number"),
        ("id: a, limits: [{window: 1h, above: -1}]", "above: found -1; expected a whole number"),
        ("id: a, limits: [{window: 1h, above: 1.5}]", "found \"1.5\"; expected a whole number"),
        ("id: a, limits: [{window: 59s, above: 1}]", "59 s is shorter than the 60 s"),
        ("id: a, limits: [{window: 61s, above: 1}]", "61 s is no multiple of 30 s"),
        ("id: a, limits: [{window: 1h, above: 1}, {window: 60m, above: 1}]", "was given before"),
        ("id: a, severity: hgih, LIMITS", "hint: did you mean `high`?"),
        ("id: a, group_by: principal, LIMITS", "hint: did you mean `principal.id`?"),
        ("id: a, measure: row, LIMITS", "hint: did you mean `rows`?"),
        ("id: a, where: {destination: cleint}, LIMITS", "hint: did you mean `client`?"),
        ("id: a, unless: {success: 1}, LIMITS", "`1` can never match; the values are true, false"),
        ("id: a, where: {object: []}, LIMITS", "where.object: the list is empty"),
        ("id: a, where: {object: {}}, LIMITS", "where.object: found a mapping; expected text"),
        ("id: a, where: {object: ''}, LIMITS", "\"\" is empty; expected text"),
        ("id: a, where: [], LIMITS", "where: found a list; expected a mapping with client.address"),
        ("id: a, exceptions: [], LIMITS", "exceptions: is reserved: not yet supported"),
    ];
    for (rule, expected) in table {
        let line = format!("rules: [{{{}}}]", rule.replace("LIMITS", limits));
        let faults = faults_with(&line);
        assert_eq!(faults.len(), 1, "{line}: {faults:?}");
        assert!(faults[0].contains(expected), "{line}:\n{}\nis not\n{expected}", faults[0]);
    }
}

#[test]
fn bounds_hold_at_the_bound() {
    for good in [
        "detect: {memory_limit: 64MiB, allowed_skew: 24h, checkpoint_interval: 1h, threads: 1024}",
        "detect: {memory_limit: 1TiB, allowed_skew: 0s, checkpoint_interval: 1s}",
        "detect: {memory_limit: 67108864, queue_bytes: 1MiB}",
        "detect: {queue_bytes: 1GiB}",
        "alerts: {queue_bytes: 1MiB}",
        "alerts: {queue_bytes: 1GiB}",
        "dedup: {entries: 0}",
        "dedup: {entries: 8388608}",
        "shutdown: {drain_timeout: 44999ms}",
        "ingest: {max_drift: 30d, hold_bytes: 1GiB}",
        "dead_letter: {max_bytes: 1KiB, bytes_per_second: 1GiB}",
        "rules: [{id: a, limits: [{window: 1m, above: 0}, \
         {window: 30d, above: 18446744073709551615}]}]",
    ] {
        assert_eq!(faults_with(good), Vec::<String>::new(), "{good}");
    }
    for bad in [
        "detect: {memory_limit: 67108863}",
        "detect: {queue_bytes: 1048575}",
        "alerts: {queue_bytes: 1048575}",
        "alerts: {queue_bytes: 1073741825}",
        "detect: {queue_bytes: 1073741825}",
        "detect: {allowed_skew: 86400001ms}",
        "detect: {checkpoint_interval: 999ms}",
        "dedup: {entries: 8388609}",
        "dedup: {entries: -1}",
        "shutdown: {drain_timeout: 45s}",
        "ingest: {max_drift: 0s}",
        "ingest: {hold_bytes: 1025MiB}",
        "dead_letter: {max_bytes: 1023B}",
        "rules: [{id: a, limits: [{window: 1m, above: 18446744073709551616}]}]",
        "rules: [{id: a, limits: [{window: 43201m, above: 1}]}]",
    ] {
        assert_eq!(faults_with(bad).len(), 1, "{bad}");
    }
}

#[test]
fn trino_retries_unless_it_is_told_otherwise_and_others_only_if_told() {
    let retries = |input: &str| {
        let loaded = load_text(&minimal_with(&format!("inputs: [{{topic: a{input}}}]")));
        loaded.unwrap().config.inputs[0].retries
    };
    assert!(!retries("") && !retries(", format: arrow"));
    assert!(retries(", format: trino") && retries(", retries: true"));
    assert!(!retries(", format: trino, retries: false"));
    let most = load_text(&minimal_with("dedup: {entries: 8388608}")).unwrap().config;
    assert_eq!(most.dedup.entries, crate::engine::DEDUP_ENTRIES_MAX);
}

#[test]
fn a_session_timeout_moves_the_bound_of_the_drain() {
    let kafka = "kafka: {bootstrap_servers: 'a:1', properties: {session.timeout.ms: 10000}}";
    let text = minimal_with(kafka) + "shutdown: {drain_timeout: 10s}\n";
    let faults = load_text(&text).unwrap_err().to_string();
    assert!(faults.contains("10s must be below kafka.properties.session.timeout.ms (10s)"));
    assert!(load_text(&text.replace("timeout: 10s", "timeout: 9999ms")).is_ok());
}

#[test]
fn keyed_is_refused_unless_record_keys_are_what_is_counted() {
    assert!(load_text(&minimal_with("inputs: [{topic: a, keyed: true}]")).is_ok());
    assert!(load_text(&minimal_with("inputs: [{topic: a, keyed: true, format: arrow}]")).is_ok());
    let table = [
        ("inputs: [{topic: a, keyed: true}, {topic: b}]", "", "it is not the only input"),
        ("inputs: [{topic: a, keyed: true, format: trino}]", "", "its format is trino"),
        ("inputs: [{topic: a, keyed: true}]", "identity: {aliases: {a: b}}", "identity.aliases"),
        ("inputs: [{topic: a, keyed: true}]", "identity: {strip_domains: [x]}", "strip_domains"),
        ("inputs: [{topic: a, keyed: true}]", "identity: {qualify_by: [tenant]}", "qualify_by"),
        (
            "inputs: [{topic: a, keyed: true}]",
            "rules: [{id: a, group_by: object, limits: [{window: 1h, above: 1}]}]",
            "rule `a` groups by object",
        ),
    ];
    for (inputs, other, reason) in table {
        let kept = minimal_with(inputs);
        let text = if other.starts_with("rules") {
            kept.lines()
                .filter(|line| !line.starts_with("rules"))
                .fold(String::new(), |text, it| text + it + "\n")
        } else {
            kept
        } + other;
        let faults = load_text(&text).unwrap_err();
        assert_eq!(faults.list.len(), 1, "{faults}");
        assert!(faults.list[0].problem.contains(reason), "{faults}");
    }
}

#[test]
fn every_owned_property_is_refused_and_none_other() {
    for (property, reason) in OWNED_PROPERTIES {
        let line = format!("kafka: {{bootstrap_servers: 'a:1', properties: {{{property}: x}}}}");
        let faults = faults_with(&line);
        assert_eq!(faults.len(), 1, "{property}");
        assert!(faults[0].contains("is set by exfilwatch") && faults[0].contains(reason));
    }
    assert!(OWNED_PROPERTIES.is_sorted());
    let passed = "kafka: {bootstrap_servers: 'a:1', properties: {security.protocol: ssl, \
                  queued.max.messages.kbytes: 1024, socket.keepalive.enable: true}}";
    let config = load_text(&minimal_with(passed)).unwrap().config;
    assert_eq!(config.kafka.properties["queued.max.messages.kbytes"], "1024");
    assert_eq!(config.kafka.properties["socket.keepalive.enable"], "true");
}

#[test]
fn partitions_are_shared_out_in_ways_that_librdkafka_has() {
    let line = |value: &str| {
        let property = format!("partition.assignment.strategy: \"{value}\"");
        format!("kafka: {{bootstrap_servers: 'a:1', properties: {{{property}}}}}")
    };
    for value in ["cooperative-sticky", "range", "roundrobin", "range,roundrobin"] {
        assert!(load_text(&minimal_with(&line(value))).is_ok(), "{value}");
    }
    // Both kinds at once are one kind too many: members could not agree how to hand over.
    for value in ["sticky", "", "range,cooperative-sticky"] {
        let faults = faults_with(&line(value));
        assert_eq!(faults.len(), 1, "{value}");
        assert!(faults[0].contains("expected cooperative-sticky, range or roundrobin"));
    }
}

#[test]
fn what_is_left_out_or_left_empty_has_its_default() {
    let plain = load_text(MINIMAL).unwrap().config;
    let emptied = format!("{MINIMAL}topics:\ndetect: {{threads: }}\ncatalog:\nidentity: ~\n");
    assert_eq!(format!("{plain:?}"), format!("{:?}", load_text(&emptied).unwrap().config));
}

/// Every `default` of the schema, as a tree of keys.
fn defaults(schema: &serde_json::Value) -> Option<serde_json::Value> {
    if let Some(default) = schema.get("default") {
        return Some(default.clone());
    }
    let keys = schema.get("properties")?.as_object()?;
    let said = keys.iter().filter_map(|(key, schema)| Some((key.clone(), defaults(schema)?)));
    let said: serde_json::Map<_, _> = said.collect();
    (!said.is_empty()).then(|| said.into())
}

#[test]
fn the_defaults_the_schema_names_are_those_in_force() {
    let schema: serde_json::Value = serde_json::from_str(&config_schema()).unwrap();
    let mut written = defaults(&schema).unwrap();
    written["kafka"]["bootstrap_servers"] = "127.0.0.1:9092".into();
    let item = |list: &str| schema["properties"][list]["items"].clone();
    let mut input = defaults(&item("inputs")).unwrap();
    input["topic"] = "reads".into();
    written["inputs"] = serde_json::json!([input]);
    let rules: serde_json::Value = serde_json::from_str(&rules_schema()).unwrap();
    let mut rule = defaults(&rules["properties"]["rules"]["items"]).unwrap();
    rule["id"] = "records".into();
    rule["limits"] = serde_json::json!([{"window": "1h", "above": 500}]);
    written["rules"] = serde_json::json!([rule]);

    let spelled = load_text(&written.to_string()).unwrap_or_else(|faults| panic!("{faults}"));
    let plain = load_text(MINIMAL).unwrap();
    assert_eq!(format!("{:#?}", spelled.config), format!("{:#?}", plain.config));
}

#[test]
fn a_whole_configuration_becomes_what_it_says() {
    let text = r#"
kafka:
  bootstrap_servers: "b1:9092, b2:9092"
  group_id: watch
  create_topics: {partitions: 4}
roles: [ingest]
inputs:
  - {topic: a, format: trino, start: 2026-04-01T09:30:00Z, source: {instance: lake-1, tenant: 7}}
catalog: [{object: "crm.public.*", labels: [pii], row_count: 12000000}]
identity: {aliases: {"CORP\\jdoe": jdoe}, qualify_by: [tenant, source.instance]}
rules:
  - id: a
    title: A
    severity: high
    where: {operation: [select, copy], object.labels: pii, success: true}
    unless: {principal.groups: 007}
    measure: bytes
    limits: [{window: 90s, above: 5, severity: low}]
"#;
    let config = load_text(text).unwrap().config;
    assert_eq!(config.kafka.group_id, "watch");
    assert_eq!(config.kafka.create_topics, Some(TopicShape { partitions: 4, replication: 3 }));
    assert_eq!(config.roles, Roles { ingest: true, detect: false });
    assert_eq!(config.inputs[0].start, Start::At(EventTime::from_millis(1_775_035_800_000)));
    assert_eq!(config.inputs[0].source.tenant.as_deref(), Some("7"));
    assert_eq!(config.catalog[0].row_count, Some(12_000_000));
    assert_eq!(config.identity.aliases, [("CORP\\jdoe".to_owned(), "jdoe".to_owned())]);
    assert_eq!(config.identity.qualify_by.len(), 2);
    let rule = &config.rules[0];
    let key = |field, globs: &[&str]| (field, globs.iter().map(ToString::to_string).collect());
    let wanted: Vec<(Field, Vec<String>)> = vec![
        key(Field::ObjectLabels, &["pii"]),
        key(Field::Operation, &["select", "copy"]),
        key(Field::Success, &["true"]),
    ];
    assert_eq!(rule.wanted, wanted);
    assert_eq!(rule.unless, [key(Field::PrincipalGroups, &["007"])]);
    assert_eq!(config.rules[1].id, "exfilwatch-unknown-counts");
}

#[test]
fn the_shipped_rule_can_be_turned_off_or_replaced() {
    let ids = |text: &str| -> Vec<String> {
        load_text(text).unwrap().config.rules.into_iter().map(|rule| rule.title).collect()
    };
    assert_eq!(ids(MINIMAL).len(), 2);
    assert_eq!(ids(&minimal_with("default_rules: false")), ["records"]);
    let own = "rules: [{id: exfilwatch-unknown-counts, limits: [{window: 1h, above: 1}]}]";
    assert_eq!(ids(&minimal_with(own)), ["exfilwatch-unknown-counts"]);
}

#[test]
fn what_probably_watches_nothing_is_doubted() {
    let rule =
        |rest: &str| format!("rules: [{{id: a, {rest}, limits: [{{window: 1h, above: 5}}]}}]");
    let trino =
        |line: &str| minimal_with(line).replace("topic: reads", "topic: reads, format: trino");
    let doubts = |text: &str| -> Vec<String> {
        load_text(text).unwrap().warnings.into_iter().map(|warning| warning.problem).collect()
    };
    let labels = rule("where: {object.labels: pii}");
    assert_eq!(doubts(&minimal_with(&labels)), Vec::<String>::new());
    let never = "rule `a` wants object.labels to be pii, which no input says, so it can never fire";
    assert_eq!(doubts(&trino(&labels)), [never]);
    let catalogued = trino(&labels) + "catalog: [{object: '*', labels: [PII]}]\n";
    assert_eq!(doubts(&catalogued), Vec::<String>::new());

    let tenants = trino(&rule("group_by: principal.tenant"));
    let never = "rule `a` groups by principal.tenant, which no input says, so it can never fire";
    assert_eq!(doubts(&tenants), [never]);
    let told = tenants.replace("format: trino", "format: trino, source: {tenant: acme}");
    assert_eq!(doubts(&told), Vec::<String>::new());

    let unknown = warnings_with(&rule("where: {rows_quality: unknown}"));
    assert!(unknown[0].contains("an unknown count adds nothing to rows"), "{unknown:?}");
    let short = warnings_with(&rule("where: {object: customers}"));
    assert!(short[0].contains("`customers` matches no full name"), "{short:?}");
    assert_eq!(warnings_with(&rule("where: {object: '*customers'}")), Vec::<String>::new());
}

#[test]
fn limits_in_descending_sense_are_doubted() {
    let rule = |limits: &str| format!("rules: [{{id: a, limits: [{limits}]}}]");
    let lower = warnings_with(&rule("{window: 24h, above: 4}, {window: 1h, above: 4}"));
    let expected = "exfilwatch.yaml:3:51: rules[0].limits[1]: the limit of 4 in 1h is never the \
                    first: 4 in 24h is crossed before it\n    \
                    hint: give the longer window the higher limit";
    assert_eq!(lower, [expected]);
    let higher = rule("{window: 24h, above: 5}, {window: 1h, above: 4}");
    assert_eq!(warnings_with(&higher), Vec::<String>::new());
    let milder = rule("{window: 24h, above: 4, severity: low}, {window: 1h, above: 5}");
    assert_eq!(warnings_with(&milder), Vec::<String>::new(), "the short one escalates");
}

#[test]
fn catalogue_entries_behind_a_wider_one_are_doubted() {
    let entry = |glob: &str| format!("{{object: '{glob}', row_count: 1}}");
    let doubt = |first: &str, second: &str| {
        !warnings_with(&format!("catalog: [{}, {}]", entry(first), entry(second))).is_empty()
    };
    assert!(doubt("crm.*", "crm.public.*"));
    assert!(doubt("CRM.*", "crm.public.customers"));
    assert!(doubt("*", "a?b"));
    assert!(!doubt("crm.public.*", "crm.*"));
    assert!(!doubt("a?", "a*"));
    assert!(!doubt("a*b", "a*"));
}

#[test]
fn an_alias_of_an_alias_is_doubted() {
    let doubts = warnings_with("identity: {aliases: {a: b, b: c}}");
    assert!(doubts[0].contains("`b` is itself an alias of `c`"), "{doubts:?}");
}

fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    folder
}

const ONE: &str = "rules: [{id: one, limits: [{window: 1h, above: 1}]}]";
const TWO: &str = "rules: [{id: two, limits: [{window: 1h, above: 1}]}]";

#[test]
fn rule_files_are_found_beside_the_configuration_in_the_order_of_their_names() {
    let text = minimal_with("rules: ['rules/*.yaml', rules/a.yaml]");
    let folder = folder_with(&[
        ("exfilwatch.yaml", &text),
        ("rules/b.yaml", ONE),
        ("rules/a.yaml", TWO),
        ("rules/..hidden.yaml", "no yaml: ["),
        ("rules/readme.txt", "no yaml: ["),
    ]);
    let config = Config::load(&folder.path().join("exfilwatch.yaml")).unwrap();
    let ids: Vec<&str> = config.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids, ["two", "one", "exfilwatch-unknown-counts"]);
    assert_eq!(config.rule_paths.len(), 3);
}

#[test]
fn faults_of_rule_files_name_the_file_and_stand_after_those_of_the_configuration() {
    let text = minimal_with("rules: ['*.rules']") + "htpp: 1\n";
    let broken = "rules: [{id: one, limits: [{window: 1h}]}]\nother: 1\n";
    let folder = folder_with(&[
        ("exfilwatch.yaml", &text),
        ("a.rules", broken),
        ("b.rules", ONE),
        ("c.rules", ONE),
    ]);
    let faults = Config::load(&folder.path().join("exfilwatch.yaml")).unwrap_err().to_string();
    let place = format!("{}/", folder.path().display());
    let lines: Vec<String> = faults.replace(&place, "").lines().map(str::to_owned).collect();
    let starts = [
        "exfilwatch.yaml: 5 problems",
        "  exfilwatch.yaml:4:1: htpp: unknown key",
        "    hint: did you mean `http`?",
        "  a.rules:1:28: rules[0].limits[0].above: is missing",
        "  a.rules:2:1: other: unknown key; allowed here: rules",
        "  b.rules:1:14: rules[0].id: rule `one` was given before, at a.rules:1",
    ];
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}\nis not\n{start}");
    }
}

#[test]
fn rule_files_are_linted_alone() {
    let folder = folder_with(&[
        ("a.yaml", ONE),
        ("b.yaml", "rules: [{id: two, where: {object: x}, limits: [{window: 1h, above: 1}]}]"),
        ("bad.yaml", "rules: 1"),
    ]);
    let file = |name: &str| folder.path().join(name);
    let (rules, findings) = lint_rules(&[file("a.yaml"), file("b.yaml")]).unwrap();
    assert_eq!((rules.len(), findings.len()), (2, 1));
    assert_eq!(findings[0].file, file("b.yaml"));
    assert_eq!(lint_rules(&[file("a.yaml"), file("bad.yaml")]).unwrap_err().list.len(), 1);
}

#[test]
fn files_are_bounded_and_must_be_text() {
    let exact = format!(
        "{MINIMAL}#{}\n",
        "x".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() - MINIMAL.len() - 2)
    );
    let folder = folder_with(&[("exact.yaml", &exact), ("over.yaml", &format!("{exact}\n"))]);
    assert!(Config::load(&folder.path().join("exact.yaml")).is_ok());
    let over = Config::load(&folder.path().join("over.yaml")).unwrap_err().to_string();
    assert!(over.contains("is longer than the 1048576 bytes a file may have"), "{over}");
    fs::write(folder.path().join("latin.yaml"), b"a: \xe9").unwrap();
    let latin = Config::load(&folder.path().join("latin.yaml")).unwrap_err().to_string();
    assert!(latin.contains("is no UTF-8 text from byte 3 on"), "{latin}");
    let gone = Config::load(&folder.path().join("gone.yaml")).unwrap_err();
    assert_eq!(gone.list[0].problem, "cannot be read: No such file or directory (os error 2)");
}

#[test]
fn a_report_is_bounded() {
    let keys = (0..150).map(|number| format!("key{number}: 1\n")).collect::<Vec<_>>().concat();
    let report = load_text(&format!("{MINIMAL}{keys}")).unwrap_err().to_string();
    assert!(report.starts_with("exfilwatch.yaml: 150 problems\n"));
    assert!(report.ends_with("\n  and 50 more"));
}

#[test]
fn the_schemas_in_the_repository_are_the_generated_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    for (name, text) in [("config", config_schema()), ("rules", rules_schema())] {
        let file = folder.join(format!("{name}.v1.schema.json"));
        let kept = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            kept == text,
            "{} is not in step; refresh it with\n  \
             cargo run -- schema {name} > schemas/{name}.v1.schema.json",
            file.display()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_the_loader_panic(text in "\\PC{0,200}") {
        let _ = load_text(&text);
    }

    #[test]
    fn no_change_of_a_good_file_makes_the_loader_panic(
        at in 0usize..MINIMAL.len(),
        cut in 0usize..20,
        piece in "[a-z0-9 \n:,*&!?'\"{}\\[\\]-]{0,12}",
    ) {
        let end = (at + cut).min(MINIMAL.len());
        let _ = load_text(&format!("{}{piece}{}", &MINIMAL[..at], &MINIMAL[end..]));
    }
}
