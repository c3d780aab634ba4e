//! The event schema, its examples and the decoder say the same.

use std::{fs, path::PathBuf};

use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::Value;

use super::testing::{arb_event, event, mutated, refusal, to_json};
use super::{
    Event, Format, GroupBy, Outcome, SourceDefaults,
    batch::{Batch, SourcePartition, SourceRef},
    catalog::Catalog,
    identity::{Identity, IdentitySpec},
    route::{Router, RouterSpec},
};
use crate::units::Offset;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

fn schema() -> Validator {
    let text = fs::read_to_string(root().join("event.v1.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

fn examples(kind: &str) -> Vec<(String, Vec<u8>)> {
    let folder = root().join("examples/event").join(kind);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
}

#[test]
fn valid_examples_fit_the_schema_and_are_events() {
    let schema = schema();
    let examples = examples("valid");
    assert_eq!(examples.len(), 9);
    for (name, record) in examples {
        let value: Value = serde_json::from_slice(&record).unwrap();
        assert!(schema.is_valid(&value), "{name}: {:?}", schema.validate(&value));
        event(Format::Canonical, &record, |event| assert_eq!(event.principal.id, "mkeller"));
    }
}

#[test]
fn invalid_examples_break_the_schema_and_are_refused() {
    let schema = schema();
    let examples = examples("invalid");
    assert_eq!(examples.len(), 25);
    for (name, record) in examples {
        let value: Value = serde_json::from_slice(&record).unwrap();
        assert!(!schema.is_valid(&value), "{name} fits the schema");
        let message = refusal(Format::Canonical, &record).to_string();
        assert!(!message.is_empty(), "{name}");
    }
}

#[test]
fn an_event_whose_objects_inherit_too_much_is_refused() {
    let objects: Vec<String> = (0..1000).map(|n| format!("t{n}")).collect();
    let record = |database: usize| {
        serde_json::json!({
            "event_time": 0, "principal": "mkeller", "rows": 1, "objects": objects,
            "source": {"kind": "x", "database": "\u{1}".repeat(database)},
        })
        .to_string()
    };
    event(Format::Canonical, record(200).as_bytes(), |event| assert_eq!(event.objects.len(), 1000));
    let error = refusal(Format::Canonical, record(4096).as_bytes());
    assert_eq!(error.code(), "too_large");
}

proptest! {
    #[test]
    fn whatever_an_event_can_mean_fits_the_schema(
        events in prop::collection::vec(arb_event(), 16)
    ) {
        let schema = schema();
        for event in &events {
            let event: &Event<'_> = event;
            let value: Value = serde_json::from_str(&to_json(event).to_string()).unwrap();
            prop_assert!(schema.is_valid(&value), "{value}: {:?}", schema.validate(&value));
        }
    }
}

fn router() -> Router {
    Router::new(RouterSpec {
        routes: vec![GroupBy::PrincipalId],
        partitions: 1,
        seed: (1, 2),
        identity: Identity::new(&IdentitySpec::default()),
        catalog: Catalog::new(Vec::new()),
    })
}

#[test]
fn a_message_says_which_of_its_sources_may_send_an_event_again() {
    let mut router = router();
    let source = |partition| SourcePartition { partition, ..SourcePartition::default() };
    let ids = [router.source(&source(0)), router.source_that_retries(&source(1))];
    let record = fs::read(root().join("examples/event/valid/every_member.json")).unwrap();
    event(Format::Canonical, &record, |event| {
        for id in ids {
            router.push(id, Offset(0), 0, event);
        }
    });
    let mut out = Vec::new();
    router.flush(&mut out).unwrap();
    let batch = Batch::decode(&out[0].payload).unwrap();
    assert_eq!((batch.retries(0), batch.retries(1)), (false, true));
}

#[test]
fn a_source_of_an_older_message_is_one_that_sends_every_event_once() {
    let old = r#"{"cluster":"c","topic":"t","partition":1,"previous":-1}"#;
    let source: SourceRef = serde_json::from_str(old).unwrap();
    assert!(!source.retries);
    assert_eq!(serde_json::to_string(&source).unwrap(), old, "older readers read it as well");
}

/// A message of the internal format with a few rows.
fn message() -> Vec<u8> {
    let mut router = router();
    let id = router.source(&SourcePartition::default());
    let record = fs::read(root().join("examples/event/valid/every_member.json")).unwrap();
    let mut decoder = Format::Canonical.decoder();
    for offset in 0..5 {
        let mut sink = |row, outcome: Outcome<'_, '_>| match outcome {
            Outcome::Event(event) => router.push(id, Offset(offset), row, event),
            other => panic!("{other:?}"),
        };
        decoder.decode(&record, &SourceDefaults::default(), &mut sink).unwrap();
    }
    let mut out = Vec::new();
    router.flush(&mut out).unwrap();
    out.remove(0).payload
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_damage_to_a_message_makes_its_reader_panic(payload in mutated(Just(message()))) {
        let _ = Batch::decode(&payload);
    }
}
