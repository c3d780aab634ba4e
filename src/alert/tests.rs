//! Alerts against their schema, the official class, and the golden examples.
//!
//! The valid examples are what the encoder makes of the alerts below, so that a change of the
//! encoding shows as a change of a file other teams read.

use std::{fs, path::PathBuf, sync::LazyLock};

use jsonschema::Validator;
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::Value;

use super::{
    ocsf::{Encoded, Product, SCHEMA_ID, encode},
    ocsf_check::faults,
    text::{NAME_MAX, is_dangerous},
    *,
};

/// 2026-04-01T09:33:42Z.
const T0: i64 = 1_775_036_022_000;
const HOUR_MS: i64 = 3_600_000;
const PRODUCT: Product<'_> = Product { version: "0.1.0" };

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let schema = read(&root().join("alert.v1.schema.json"));
    assert!(jsonschema::meta::is_valid(&schema));
    jsonschema::validator_for(&schema).unwrap()
});

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

fn read(path: &std::path::Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn examples(kind: &str) -> Vec<(PathBuf, Value)> {
    let folder = root().join("examples/alert").join(kind);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = files.map(|path| (path.clone(), read(&path))).collect();
    all.sort_by(|one, two| one.0.cmp(&two.0));
    all
}

fn at(ms: i64) -> EventTime {
    EventTime::from_millis(ms)
}

fn reading(window_s: u64, lo: u64, hi: u64, limit: u64, severity: Severity) -> WindowReading {
    let window = WindowSpan::from_secs(window_s).unwrap();
    WindowReading { window, lo, hi, limit, severity, crossed: hi > limit }
}

fn opened() -> Alert {
    let episode = EpisodeId::of("customer-records", "jdoe", at(T0));
    let finding = RuleFinding {
        rule: "customer-records".to_owned(),
        title: "Customer records leaving the support database".to_owned(),
        revision: "9b1e0c5b7f3a2d44".to_owned(),
        key: "jdoe".to_owned(),
        group_by: GroupBy::PrincipalId,
        measure: Measure::Rows,
        actor: Some("CORP\\JDoe".to_owned()),
        windows: vec![
            reading(3600, 498, 512, 500, Severity::Medium),
            reading(86_400, 1101, 1101, 1500, Severity::High),
            reading(2_592_000, 6200, 6950, 10_000, Severity::Critical),
        ],
        crossed_at: at(T0),
        records_so_far: 6320,
        counting_since: at(T0 - 30 * 24 * HOUR_MS),
        evidence: Evidence {
            since: at(T0 - HOUR_MS / 2),
            objects: vec![
                ("crm.public.customers".to_owned(), 480),
                ("crm.public.addresses".to_owned(), 32),
            ],
            client_addresses: vec!["192.0.2.17".to_owned()],
            query_ids: vec!["q-1".to_owned(), "q-2".to_owned()],
            first_event_id: Some("e-1".to_owned()),
            last_event_id: Some("e-2".to_owned()),
            events: 64,
            upper_bound_events: 1,
            unknown_events: 2,
            estimated: false,
        },
    };
    Alert {
        episode,
        message: MessageId::of(episode, Activity::Create, 0),
        activity: Activity::Create,
        reason: Reason::Crossed,
        subject: Subject::Rule(Box::new(finding)),
        severity: Severity::Medium,
        time: at(T0 + 1200),
        first_seen: at(T0 - HOUR_MS / 2),
        last_seen: at(T0),
    }
}

fn rule_of(alert: &mut Alert) -> &mut RuleFinding {
    let Subject::Rule(finding) = &mut alert.subject else { panic!("not of a rule") };
    finding
}

fn escalated() -> Alert {
    let mut alert = opened();
    alert.message = MessageId::of(alert.episode, Activity::Update, 1);
    (alert.activity, alert.reason) = (Activity::Update, Reason::Escalated);
    (alert.severity, alert.time) = (Severity::Critical, at(T0 + 50 * HOUR_MS));
    alert.last_seen = at(T0 + 50 * HOUR_MS - 900);
    let finding = rule_of(&mut alert);
    finding.windows[1] = reading(86_400, 1700, 1701, 1500, Severity::High);
    finding.windows[2] = reading(2_592_000, 10_004, 10_350, 10_000, Severity::Critical);
    finding.records_so_far = 10_124;
    alert
}

fn closed() -> Alert {
    let mut alert = opened();
    alert.message = MessageId::of(alert.episode, Activity::Close, 2);
    (alert.activity, alert.reason) = (Activity::Close, Reason::FellBack);
    alert.time = at(T0 + 3 * HOUR_MS);
    let finding = rule_of(&mut alert);
    finding.windows[0] = reading(3600, 0, 0, 500, Severity::Medium);
    finding.windows[0].crossed = true;
    alert
}

fn system() -> Alert {
    let episode = EpisodeId::of("exfilwatch.degraded", "exfilwatch/events-3", at(T0));
    let finding = SystemFinding {
        kind: SystemKind::Degraded,
        scope: "events-3".to_owned(),
        message: "partition 3 is at its memory ceiling; small keys are estimated".to_owned(),
        details: vec![
            ("partition".into(), "3".to_owned()),
            ("memory_limit_bytes".into(), "1048576".to_owned()),
        ],
    };
    Alert {
        episode,
        message: MessageId::of(episode, Activity::Create, 0),
        activity: Activity::Create,
        reason: Reason::Crossed,
        subject: Subject::System(finding),
        severity: Severity::High,
        time: at(T0),
        first_seen: at(T0),
        last_seen: at(T0),
    }
}

fn body(alert: &Alert) -> Value {
    serde_json::from_slice(&encode(alert, &PRODUCT).payload).unwrap()
}

fn message(alert: &Alert) -> String {
    body(alert)["message"].as_str().unwrap().to_owned()
}

#[test]
fn golden_alerts_are_the_valid_examples() {
    let folder = root().join("examples/alert/valid");
    for (name, alert) in [
        ("opened", opened()),
        ("escalated", escalated()),
        ("closed", closed()),
        ("system", system()),
    ] {
        let path = folder.join(format!("{name}.json"));
        if std::env::var_os("EXFILWATCH_BLESS").is_some() {
            let text = serde_json::to_string_pretty(&body(&alert)).unwrap();
            fs::write(&path, text + "\n").unwrap();
        }
        let hint = "to accept it: EXFILWATCH_BLESS=1 cargo test --lib alert";
        assert_eq!(read(&path), body(&alert), "{name} has changed; {hint}");
    }
}

#[test]
fn every_valid_example_passes_the_schema_and_the_official_class() {
    for (path, example) in examples("valid") {
        let errors: Vec<_> = SCHEMA.iter_errors(&example).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        assert_eq!(faults(&example), Vec::<String>::new(), "{}", path.display());
    }
}

#[test]
fn every_invalid_example_fails_the_schema() {
    let all = examples("invalid");
    assert!(all.len() >= 10);
    for (path, example) in all {
        assert!(!SCHEMA.is_valid(&example), "{} passes", path.display());
    }
}

#[test]
fn official_check_finds_each_trap_of_the_class() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 9] = [
        (".metadata.version is required", |a| drop(remove(&mut a["metadata"], "version"))),
        (".finding_info.uid is required", |a| drop(remove(&mut a["finding_info"], "uid"))),
        (".time does not fit", |a| a["time"] = (T0 / 1000).into()),
        ("needs the profile host", |a| drop(remove(&mut a["metadata"], "profiles"))),
        ("type_uid is not", |a| a["type_uid"] = 200_402.into()),
        (".severity_id does not fit", |a| a["severity"] = "Low".into()),
        (".evidences[0].query is not", |a| a["evidences"][0]["query"] = "select".into()),
        (".message does not fit", |a| a["message"] = 7.into()),
        (".evidences[0] is empty", |a| drop(remove(&mut a["evidences"][0], "data"))),
    ];
    for (expected, change) in changes {
        let mut alert = body(&opened());
        change(&mut alert);
        let found = faults(&alert);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{expected}: {found:?}");
    }
}

fn remove(value: &mut Value, name: &str) -> Option<Value> {
    value.as_object_mut().unwrap().remove(name)
}

#[test]
fn schema_id_is_what_the_headers_name() {
    assert_eq!(read(&root().join("alert.v1.schema.json"))["$id"], SCHEMA_ID);
}

#[test]
fn headers_are_those_of_cloudevents_binary_mode() {
    let Encoded { key, headers, .. } = encode(&opened(), &PRODUCT);
    let id = opened().message.to_string();
    assert_eq!(key, "jdoe");
    assert_eq!(
        headers.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>(),
        [
            ("ce_specversion", "1.0"),
            ("ce_type", "io.exfilwatch.alert.v1.opened"),
            ("ce_source", "urn:exfilwatch:detect"),
            ("ce_id", id.as_str()),
            ("ce_time", "2026-04-01T09:33:43.200Z"),
            ("ce_subject", "jdoe"),
            ("ce_dataschema", "urn:exfilwatch:schema:alert:v1"),
            ("content-type", "application/json"),
        ]
    );
    assert_eq!(encode(&system(), &PRODUCT).key, "exfilwatch/events-3");
}

#[test]
fn sentence_says_who_how_much_of_what_and_against_which_limit() {
    assert_eq!(
        message(&opened()),
        "498 to 512 records were read by jdoe in 1h, above the limit of 500; \
         most from crm.public.customers and crm.public.addresses."
    );
    assert!(message(&escalated()).starts_with(
        "Escalated to critical: 10,004 to 10,350 records were read by jdoe in 30d, \
         above the limit of 10,000;"
    ));
    assert_eq!(
        message(&closed()),
        "Closed: records read by jdoe have stayed within every limit for a full window; \
         6,320 in all."
    );
}

#[test]
fn window_back_below_its_limit_is_not_said_to_be_above_it() {
    let mut alert = escalated();
    alert.reason = Reason::Ongoing;
    rule_of(&mut alert).windows[2].hi = 9_000;
    rule_of(&mut alert).windows[2].lo = 9_000;
    assert!(message(&alert).contains("in 24h, above the limit of 1,500"), "{}", message(&alert));
    rule_of(&mut alert).windows.iter_mut().for_each(|one| (one.lo, one.hi) = (3, 3));
    assert_eq!(message(&alert), "Still going on: 10,124 records were read by jdoe.");
}

#[test]
fn evidence_that_was_not_kept_is_left_out() {
    let mut alert = opened();
    rule_of(&mut alert).evidence = Evidence::default();
    let body = body(&alert);
    assert!(body.get("evidences").is_none() && body.get("resources").is_none());
    assert!(SCHEMA.is_valid(&body));
    assert_eq!(faults(&body), Vec::<String>::new());
}

#[test]
fn actor_is_told_only_for_rules_grouped_by_principal() {
    assert_eq!(body(&opened())["actor"]["user"]["uid"], "CORP\\JDoe");
    let mut by_address = opened();
    rule_of(&mut by_address).group_by = GroupBy::ClientAddress;
    let alert = body(&by_address);
    assert!(alert.get("actor").is_none() && alert["metadata"].get("profiles").is_none());
}

#[test]
fn confidence_is_high_only_when_the_lower_bound_passed_a_limit() {
    assert_eq!(body(&opened())["confidence_id"], 2);
    assert_eq!(body(&escalated())["confidence_id"], 3);
}

#[test]
fn hostile_key_reaches_neither_key_header_nor_payload_raw() {
    let mut alert = opened();
    rule_of(&mut alert).key = "jd\r\nce_id: forged\u{1b}[2J\u{202e}<script>".to_owned();
    let encoded = encode(&alert, &PRODUCT);
    assert_eq!(encoded.key, r"jd\u{d}\u{a}ce_id: forged\u{1b}[2J\u{202e}\u{3c}script\u{3e}");
    assert_eq!(body(&alert)["unmapped"]["exfilwatch"]["key"], encoded.key);
    assert_harmless(&encoded);
}

fn assert_harmless(encoded: &Encoded) {
    fn each(value: &Value) {
        match value {
            Value::String(text) => assert!(!text.contains(is_dangerous), "{text:?}"),
            Value::Array(all) => all.iter().for_each(each),
            Value::Object(all) => all.iter().for_each(|(name, value)| {
                assert!(!name.contains(is_dangerous), "{name:?}");
                each(value);
            }),
            _ => {}
        }
    }
    each(&serde_json::from_slice(&encoded.payload).unwrap());
    assert!(!encoded.key.contains(is_dangerous), "{:?}", encoded.key);
    for (name, value) in &encoded.headers {
        assert!(!value.contains(is_dangerous), "{name}: {value:?}");
    }
}

/// Any text at all, and texts that attack whoever shows them.
fn hostile() -> impl Strategy<Value = String> {
    let known = [
        "\r\nce_id: x",
        "\u{1b}[31m",
        "\u{202e}gnp.exe",
        "<script>alert(1)</script>",
        "&amp;",
        "\\u{1b}",
        "\"},{\"",
        "{{7*7}}",
        "\u{0}",
        "\u{2028}",
        "\u{e0041}",
        "…",
        "=1+1",
    ];
    prop_oneof![
        4 => any::<String>(),
        4 => (select(known.to_vec()), any::<String>()).prop_map(|(one, two)| format!("{one}{two}")),
        1 => "[a\u{1b}<é]{300,400}",
        4 => "[a-z.@\\\\-]{1,20}",
    ]
}

fn named() -> impl Strategy<Value = String> {
    hostile().prop_filter("names are never empty", |name| !name.is_empty())
}

fn time() -> impl Strategy<Value = EventTime> {
    (1_000_000_000_000_i64..4_000_000_000_000).prop_map(EventTime::from_millis)
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let lists = (vec((named(), any::<u64>()), 0..15), vec(hostile(), 0..15), vec(hostile(), 0..15));
    let ids = (option::of(hostile()), option::of(hostile()));
    (time(), lists, ids, any::<[u64; 3]>(), any::<bool>()).prop_map(
        |(since, (objects, client_addresses, query_ids), ids, counts, estimated)| Evidence {
            since,
            objects,
            client_addresses,
            query_ids,
            first_event_id: ids.0,
            last_event_id: ids.1,
            events: counts[0],
            upper_bound_events: counts[1],
            unknown_events: counts[2],
            estimated,
        },
    )
}

fn rule_finding() -> impl Strategy<Value = RuleFinding> {
    let window = (2u64..86_400, any::<[u64; 3]>(), select(&Severity::ALL[..])).prop_map(
        |(steps, [lo, hi, limit], severity)| {
            reading(steps * 30, lo.min(hi), lo.max(hi), limit, severity)
        },
    );
    let names = (named(), named(), named(), option::of(named()));
    let kinds = (select(&GroupBy::ALL[..]), select(&Measure::ALL[..]));
    (names, kinds, vec(window, 1..6), (time(), time(), any::<u64>()), evidence()).prop_map(
        |((rule, title, key, actor), (group_by, measure), windows, times, evidence)| RuleFinding {
            rule,
            title,
            revision: "9b1e0c5b7f3a2d44".to_owned(),
            key,
            group_by,
            measure,
            actor,
            windows,
            crossed_at: times.0,
            records_so_far: times.2,
            counting_since: times.1,
            evidence,
        },
    )
}

fn system_finding() -> impl Strategy<Value = SystemFinding> {
    let details = vec((select(vec!["topic", "partition", "reason"]), hostile()), 0..3);
    (select(&SystemKind::ALL[..]), hostile(), named(), details).prop_map(
        |(kind, scope, message, details)| {
            let details = details.into_iter().map(|(name, value)| (name.into(), value)).collect();
            SystemFinding { kind, scope, message, details }
        },
    )
}

fn any_alert() -> impl Strategy<Value = Alert> {
    use Reason::{Crossed, Doubled, Escalated, FellBack, Ongoing, RuleRemoved};
    let lives = vec![
        (Activity::Create, Crossed),
        (Activity::Update, Escalated),
        (Activity::Update, Doubled),
        (Activity::Update, Ongoing),
        (Activity::Close, FellBack),
        (Activity::Close, RuleRemoved),
    ];
    let subject = prop_oneof![
        3 => rule_finding().prop_map(|finding| Subject::Rule(Box::new(finding))),
        1 => system_finding().prop_map(Subject::System),
    ];
    let ids = (any::<u128>(), any::<u128>());
    (ids, select(lives), subject, select(&Severity::ALL[..]), (time(), time(), time())).prop_map(
        |(ids, (activity, reason), subject, severity, times)| Alert {
            episode: EpisodeId(ids.0),
            message: MessageId(ids.1),
            activity,
            reason,
            subject,
            severity,
            time: times.0,
            first_seen: times.1,
            last_seen: times.2,
        },
    )
}

proptest! {
    #[test]
    fn every_alert_is_valid_official_bounded_and_harmless(alert in any_alert()) {
        let encoded = encode(&alert, &PRODUCT);
        let body: Value = serde_json::from_slice(&encoded.payload).unwrap();
        let errors: Vec<_> = SCHEMA.iter_errors(&body).map(|e| e.to_string()).collect();
        prop_assert!(errors.is_empty(), "{:#?}\n{:#}", errors, body);
        prop_assert_eq!(faults(&body), Vec::<String>::new());
        assert_harmless(&encoded);
        prop_assert!(encoded.key.chars().count() <= NAME_MAX);
        prop_assert!(encoded.payload.len() < 64 * 1024, "{}", encoded.payload.len());
    }
}
