//! Canonical JSON: one object a record (DESIGN 3; `schemas/event.v1.schema.json` is the truth).
//!
//! Short forms: `principal` as text, an object as its full name, `client_address` as text beside
//! `client`. Unknown fields are passed over; null is the same as absent; a field written twice with
//! two values is refused. Which counts are known is decided in [`super::draft`].

use super::draft::{
    self, Draft, GROUPS_MAX, Groups, LABELS_MAX, OBJECTS_MAX, Objects, at_most, put,
};
use super::json::shapes::{Fill, Shapes};
use super::json::{Fields, Refused, Scalar, Value};
use super::{
    DecodeError, Decoder, Destination, Object, Outcome, RowsQuality, SourceDefaults, Text,
};

/// Longest canonical record, in bytes: ten times what a record with every field needs.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// Decodes canonical JSON.
#[derive(Debug, Default)]
pub struct CanonicalDecoder {
    shapes: Shapes,
}

impl Decoder for CanonicalDecoder {
    fn decode(
        &mut self,
        payload: &[u8],
        defaults: &SourceDefaults,
        sink: &mut dyn FnMut(u32, Outcome<'_, '_>),
    ) -> Result<(), DecodeError> {
        at_most("record in bytes", payload.len(), RECORD_BYTES_MAX)?;
        let mut draft = Draft::default();
        self.shapes.read(payload, &mut draft)?;
        // An event is large; `?` would copy it.
        let event = draft.finish(defaults);
        if let Ok(event) = &event {
            sink(0, Outcome::Event(event));
        }
        event.map(drop)
    }

    fn take_resets(&mut self) -> u64 {
        std::mem::take(&mut self.shapes.resets)
    }
}

type Read<T> = Result<Option<T>, DecodeError>;

/// Reads a scalar as `$read` does into `$slot` of the draft.
macro_rules! into {
    ($slot:ident, $field:literal, $read:expr) => {
        |draft, scalar| put(&mut draft.$slot, $read(scalar, $field)?, $field)
    };
}

/// The record itself.
impl<'a> Fields<'a> for Draft<'a> {
    const EXPECTED: &'static str = "a JSON object";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        let fill: Fill = match key {
            "event_id" => into!(event_id, "event_id", Scalar::note),
            "event_time" => into!(event_time, "event_time", Scalar::time),
            "principal" => return value.object("principal", &mut Principal(self)),
            "source" => return value.object("source", &mut Source(self)),
            "objects" => {
                let open =
                    |draft: &mut Self| put(&mut draft.objects, Some(Objects::new()), "objects");
                return value.each(("objects", OBJECTS_MAX), self, open, object);
            }
            "operation" => into!(operation, "operation", Scalar::text),
            "destination" => into!(destination, "destination", destination),
            "rows" => into!(rows, "rows", Scalar::count),
            "rows_quality" => into!(rows_quality, "rows_quality", rows_quality),
            "rows_written" => into!(rows_written, "rows_written", Scalar::count),
            "bytes" => into!(bytes, "bytes", Scalar::count),
            "client" => return value.object("client", &mut Client(self)),
            "client_address" => into!(client_address, "client_address", Scalar::note),
            "query" => return value.object("query", &mut Query(self)),
            "success" => into!(success, "success", Scalar::flag),
            _ => return value.skip(),
        };
        value.fill(self, fill)
    }
}

fn destination(scalar: Scalar<'_>, field: &'static str) -> Read<Destination> {
    scalar.name(field, draft::destination)
}

fn rows_quality(scalar: Scalar<'_>, field: &'static str) -> Read<RowsQuality> {
    scalar.name(field, draft::rows_quality)
}

/// `principal`, or the id alone.
struct Principal<'r, 'a>(&'r mut Draft<'a>);

impl<'a> Fields<'a> for Principal<'_, 'a> {
    const EXPECTED: &'static str = "an object with an `id`, or the id as text";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        const GROUPS: &str = "principal.groups";
        let fill: Fill = match key {
            "id" => into!(principal_id, "principal.id", Scalar::text),
            "type" => into!(principal_kind, "principal.type", Scalar::note),
            "tenant" => into!(tenant, "principal.tenant", Scalar::text),
            "groups" => {
                let open = |d: &mut Draft<'a>| put(&mut d.groups, Some(Groups::new()), GROUPS);
                return value.each((GROUPS, GROUPS_MAX), self.0, open, |draft, value| {
                    value.fill(draft, |draft, scalar| {
                        draft.groups.get_or_insert_default().push(scalar.in_list(GROUPS)?);
                        Ok(())
                    })
                });
            }
            _ => return value.skip(),
        };
        value.fill(self.0, fill)
    }

    fn short(&mut self, _: &'static str, value: Value<'_, 'a>) -> Result<(), Refused> {
        value.fill(self.0, |draft, scalar| match scalar {
            Scalar::Text(_) | Scalar::Null => {
                put(&mut draft.principal_id, scalar.text("principal.id")?, "principal.id")
            }
            other => Err(other.wrong("principal", Self::EXPECTED)),
        })
    }
}

/// `source`.
struct Source<'r, 'a>(&'r mut Draft<'a>);

impl<'a> Fields<'a> for Source<'_, 'a> {
    const EXPECTED: &'static str = "an object with a `kind`";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        let fill: Fill = match key {
            "kind" => into!(source_kind, "source.kind", Scalar::text),
            "instance" => into!(instance, "source.instance", Scalar::text),
            "database" => into!(database, "source.database", Scalar::text),
            _ => return value.skip(),
        };
        value.fill(self.0, fill)
    }
}

/// `client`.
struct Client<'r, 'a>(&'r mut Draft<'a>);

impl<'a> Fields<'a> for Client<'_, 'a> {
    const EXPECTED: &'static str = "an object";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        let fill: Fill = match key {
            "address" => into!(client_address, "client.address", Scalar::note),
            "application" => into!(client_application, "client.application", Scalar::note),
            _ => return value.skip(),
        };
        value.fill(self.0, fill)
    }
}

/// `query`.
struct Query<'r, 'a>(&'r mut Draft<'a>);

impl<'a> Fields<'a> for Query<'_, 'a> {
    const EXPECTED: &'static str = "an object";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        let fill: Fill = match key {
            "id" => into!(query_id, "query.id", Scalar::note),
            "fingerprint" => into!(query_fingerprint, "query.fingerprint", Scalar::note),
            _ => return value.skip(),
        };
        value.fill(self.0, fill)
    }
}

/// Reads one of `objects` into the draft.
fn object<'a>(draft: &mut Draft<'a>, mut value: Value<'_, 'a>) -> Result<(), Refused> {
    draft.objects.get_or_insert_default().push(Object::default());
    value.begins_object();
    value.item("objects", &mut LastObject { draft, labels: None }, |object| {
        // So that every object of a known shape has a value, with which it begins.
        if last(object.draft).name.is_empty() { Err(draft::NAMELESS) } else { Ok(()) }
    })
}

/// The object of the draft that was begun last, or its full name.
struct LastObject<'r, 'a> {
    draft: &'r mut Draft<'a>,
    /// It has a list of labels already.
    labels: Option<()>,
}

fn last<'d, 'a>(draft: &'d mut Draft<'a>) -> &'d mut Object<'a> {
    let objects = draft.objects.get_or_insert_default();
    objects.last_mut().expect("an object is begun before it is filled")
}

fn name<'a>(
    draft: &mut Draft<'a>,
    name: Option<Text<'a>>,
    field: &'static str,
) -> Result<(), DecodeError> {
    let object = last(draft);
    let mut slot = Some(std::mem::take(&mut object.name)).filter(|name| !name.is_empty());
    put(&mut slot, name, field)?;
    object.name = slot.unwrap_or_default();
    Ok(())
}

impl<'a> Fields<'a> for LastObject<'_, 'a> {
    const EXPECTED: &'static str = "an object with a `name`, or the full name as text";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        const LABELS: &str = "objects[].labels";
        let fill: Fill = match key {
            "database" => |draft, scalar| {
                const FIELD: &str = "objects[].database";
                put(&mut last(draft).database, scalar.text(FIELD)?, FIELD)
            },
            "schema" => |draft, scalar| {
                const FIELD: &str = "objects[].schema";
                put(&mut last(draft).schema, scalar.text(FIELD)?, FIELD)
            },
            "name" => |draft, scalar| name(draft, scalar.text("objects[].name")?, "objects[].name"),
            "labels" => {
                let open = |object: &mut Self| put(&mut object.labels, Some(()), LABELS);
                return value.each((LABELS, LABELS_MAX), self, open, |object, value| {
                    value.fill(object.draft, |draft, scalar| {
                        last(draft).labels.push(scalar.in_list(LABELS)?);
                        Ok(())
                    })
                });
            }
            "row_count" => |draft, scalar| {
                const FIELD: &str = "objects[].row_count";
                put(&mut last(draft).row_count, scalar.count(FIELD)?, FIELD)
            },
            _ => return value.skip(),
        };
        value.fill(self.draft, fill)
    }

    fn short(&mut self, _: &'static str, value: Value<'_, 'a>) -> Result<(), Refused> {
        value.fill(self.draft, |draft, scalar| match scalar {
            Scalar::Text(_) => {
                last(draft).full = true;
                name(draft, scalar.text("objects")?, "objects")
            }
            other => Err(other.wrong("objects", Self::EXPECTED)),
        })
    }
}
#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use serde_json::{Value as Json, json};

    use super::super::json::DEPTH_MAX;
    use super::super::testing::{arb_event, assert_same, decode, event, mutated, refusal, to_json};
    use super::super::{Destination, Event, Format, RowsQuality};
    use super::*;

    const FULL: &str = r#"{
        "event_id": "20260401_093342_00012_pzafy",
        "event_time": "2026-04-01T09:33:42.123Z",
        "principal": {"id": "jdoe", "type": "user", "groups": ["support-l1"], "tenant": "acme"},
        "source": {"kind": "postgresql", "instance": "crm-db-1", "database": "crm"},
        "objects": [{"schema": "public", "name": "customers", "labels": ["pii"], "row_count": 9}],
        "operation": "select", "destination": "client",
        "rows": 120, "rows_quality": "exact", "rows_written": 3, "bytes": 48213,
        "client": {"address": "127.0.0.1", "application": "support-console"},
        "query": {"id": "q-1", "fingerprint": "a9f0"},
        "record_keys": {"sketch": "hll", "data": "base64"},
        "success": true, "later": [{"unknown": [1, null, "x"]}]
    }"#;

    /// The least record with `field` put in front, so that it is read before what it repeats.
    fn with(field: &str) -> String {
        let comma = if field.is_empty() { "" } else { ", " };
        format!(
            r#"{{{field}{comma}"event_time": 0, "principal": "jdoe", "source": {{"kind": "x"}}}}"#
        )
    }

    fn read<T>(record: &str, see: impl Fn(&Event<'_>) -> T) -> T {
        event(Format::Canonical, record.as_bytes(), see)
    }

    fn refused(record: &str) -> (&'static str, String) {
        let error = refusal(Format::Canonical, record.as_bytes());
        (error.code(), error.to_string())
    }

    #[test]
    fn every_field_of_a_full_record_arrives_and_nothing_is_copied() {
        read(FULL, |event| {
            assert_eq!(event.event_time.millis(), 1_775_036_022_123);
            assert_eq!(event.principal.groups.as_slice(), ["support-l1"]);
            assert_eq!(event.principal.tenant.as_deref(), Some("acme"));
            assert_eq!(event.source.instance.as_deref(), Some("crm-db-1"));
            assert_eq!(event.objects[0].labels.as_slice(), ["pii"]);
            assert_eq!(event.objects[0].row_count, Some(9));
            assert_eq!(event.destination, Destination::Client);
            assert_eq!((event.rows, event.rows_quality), (Some(120), RowsQuality::Exact));
            assert_eq!((event.rows_written, event.bytes), (3, Some(48213)));
            assert_eq!(event.client_address.as_deref(), Some("127.0.0.1"));
            assert_eq!(event.query_fingerprint.as_deref(), Some("a9f0"));
            assert_eq!(event.success, Some(true));
            assert!(matches!(event.principal.id, std::borrow::Cow::Borrowed("jdoe")));
        });
    }

    #[test]
    fn short_forms_mean_what_the_long_forms_mean() {
        let short = r#"{"event_time": 1775036022123, "principal": "jdoe",
            "source": {"kind": "x"}, "objects": ["crm.public.customers"],
            "client_address": "10.0.0.9", "rows": 1}"#;
        read(short, |event| {
            assert_eq!(event.event_time.millis(), 1_775_036_022_123);
            assert_eq!(event.principal.id, "jdoe");
            assert!(event.objects[0].full && event.objects[0].name == "crm.public.customers");
            assert_eq!(event.client_address.as_deref(), Some("10.0.0.9"));
        });
    }

    #[test]
    fn a_count_is_exact_to_the_last_of_64_bits() {
        let rows = |text: &str| read(&with(&format!(r#""rows": {text}"#)), |event| event.rows);
        assert_eq!(rows("18446744073709551615"), Some(u64::MAX));
        assert_eq!(rows("120.0"), Some(120));
        assert_eq!(rows("1e3"), Some(1000));
        assert_eq!(rows("0"), Some(0));
    }

    #[test]
    fn a_count_that_is_none_is_refused_and_never_zero() {
        let wrong =
            ["-1", "-9223372036854775809", "1.5", "18446744073709551616", "1e30", "\"5\"", "true"];
        for field in ["rows", "rows_written", "bytes"] {
            for text in wrong {
                let (code, message) = refused(&with(&format!(r#""{field}": {text}"#)));
                assert_eq!(code, "invalid_field", "{field}: {text}");
                assert!(message.contains(field), "{message}");
            }
        }
        let (code, _) = refused(&with(r#""objects": [{"name": "t", "row_count": -1}]"#));
        assert_eq!(code, "invalid_field");
    }

    #[test]
    fn a_null_in_a_list_of_texts_is_an_empty_text() {
        let record = with(r#""rows": 1, "objects": [{"name": "t", "labels": ["pii", null]}]"#);
        read(&record, |event| assert_eq!(event.objects[0].labels.as_slice(), ["pii", ""]));
    }

    #[test]
    fn a_value_after_white_space_is_looked_into_whatever_was_decoded_before_it() {
        let mut decoder = Format::Canonical.decoder();
        let record = |value: &str| with(&format!(r#""rows": 1, "x":{value}"#));
        assert!(outcome(&mut *decoder, record("1").as_bytes()).contains("Event"));
        let deep = format!(" {}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        for value in [&*deep, r#" {"k": "\ud800"}"#, " {\"k\": \"\u{1}\"}"] {
            let refused = outcome(&mut *decoder, record(value).as_bytes());
            assert_eq!(
                refused,
                outcome(&mut *Format::Canonical.decoder(), record(value).as_bytes())
            );
            assert!(refused.contains("Err"), "{value}: {refused}");
        }
    }

    #[test]
    fn a_list_of_texts_with_something_else_in_it_is_refused() {
        for item in ["{}", "[]", "7", "true"] {
            let groups =
                format!(r#""rows": 1, "principal": {{"id": "a", "groups": ["b", {item}]}}"#);
            let record = format!(r#"{{{groups}, "event_time": 0, "source": {{"kind": "x"}}}}"#);
            assert_eq!(refused(&record).0, "invalid_field", "{item}");
            let labels = format!(r#""rows": 1, "objects": [{{"name": "t", "labels": [{item}]}}]"#);
            assert_eq!(refused(&with(&labels)).0, "invalid_field", "{item}");
        }
    }

    #[test]
    fn an_object_without_a_value_is_refused_each_time_it_comes() {
        let mut decoder = Format::Canonical.decoder();
        for object in ["{}", r#"{"labels": []}"#, r#"{"name": ""}"#, r#""""#] {
            let record = with(&format!(r#""rows": 1, "objects": ["a", {object}, "b"]"#));
            let refused = outcome(&mut *Format::Canonical.decoder(), record.as_bytes());
            assert!(refused.contains("Missing"), "{refused}");
            (0..2).for_each(|_| assert_eq!(outcome(&mut *decoder, record.as_bytes()), refused));
        }
    }

    #[test]
    fn null_is_the_same_as_absent() {
        let nulls = r#""rows": null, "rows_quality": "unknown", "bytes": null, "objects": null,
            "client": null, "query": {"id": null}, "operation": null, "success": null"#;
        read(&with(nulls), |event| {
            assert_eq!((event.rows, event.rows_quality), (None, RowsQuality::Unknown));
            assert!(event.objects.is_empty() && event.query_id.is_none());
        });
        assert_eq!(refused(&with(r#""rows": null"#)).0, "missing_field");
        assert_eq!(refused(&with("")).0, "missing_field");
    }

    #[test]
    fn a_field_written_twice_is_refused() {
        let twice = [
            r#""rows": 1, "rows": 100000"#,
            r#""rows": 1, "principal": {"id": "somebody-else"}"#,
            r#""rows": 1, "client": {"address": "a"}, "client_address": "b""#,
            r#""rows": 1, "objects": [], "objects": ["t"]"#,
        ];
        for fields in twice {
            let (code, message) = refused(&with(fields));
            assert!(code == "invalid_field" && message.contains("twice"), "{message}");
        }
    }

    #[test]
    fn what_is_no_record_is_refused_as_bad_syntax() {
        let cut = &FULL[..FULL.len() - 1];
        for record in ["", "{", cut, r#"{"rows": 01}"#, r#"{"a": "\ud800"}"#, "{} {}"] {
            assert_eq!(refused(record).0, "syntax", "{record}");
        }
        let not_utf8 = b"{\"principal\": \"\xff\"}";
        assert_eq!(refusal(Format::Canonical, not_utf8).code(), "syntax");
        for record in ["null", "7", "[]", "\"jdoe\""] {
            assert_eq!(refused(record).0, "invalid_field", "{record}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused_at_its_limit() {
        let nested = |depth: usize| {
            with(&format!(r#""rows": 1, "x": {}{}"#, "[".repeat(depth), "]".repeat(depth)))
        };
        read(&nested(DEPTH_MAX - 1), |_| ());
        assert_eq!(refused(&nested(DEPTH_MAX)).0, "too_large");
        assert_eq!(refused(&nested(400_000)).0, "too_large");
        let objects = |count: usize| {
            with(&format!(r#""rows": 1, "objects": [{}"x"]"#, r#""x","#.repeat(count - 1)))
        };
        read(&objects(OBJECTS_MAX), |event| assert_eq!(event.objects.len(), 1));
        assert_eq!(refused(&objects(OBJECTS_MAX + 1)).0, "too_large");
        let padded = |bytes: usize| {
            let record = with(r#""rows": 1"#);
            format!("{}{record}", " ".repeat(bytes - record.len()))
        };
        read(&padded(RECORD_BYTES_MAX), |_| ());
        assert_eq!(refused(&padded(RECORD_BYTES_MAX + 1)).0, "too_large");
    }

    #[test]
    fn brackets_of_a_known_field_are_refused_without_recursion() {
        let refused_as = [("principal", "invalid_field"), ("objects", "invalid_field")];
        for (field, code) in refused_as.into_iter().chain([("rows", "syntax")]) {
            let deep = format!(r#"{{"{field}": {}"#, "[".repeat(500_000));
            assert_eq!(refused(&deep).0, code, "{field}");
        }
    }

    /// Everything in a record that is no list and no object.
    fn add_leaves<'j>(json: &'j mut Json, leaves: &mut Vec<&'j mut Json>) {
        match json {
            Json::Object(members) => {
                members.values_mut().for_each(|value| add_leaves(value, leaves));
            }
            Json::Array(items) => items.iter_mut().for_each(|item| add_leaves(item, leaves)),
            leaf => leaves.push(leaf),
        }
    }

    fn values() -> Vec<Json> {
        let long = |bytes| "x".repeat(bytes);
        let texts = ["", "a", "é\"\\", "exact", "2026-04-01T09:33:42Z"].map(Json::from);
        let long = [long(600), long(5000)].map(Json::from);
        let others = [Json::Null, true.into(), 7.into(), (-7).into(), 1.5.into(), 1e3.into()];
        let nested = [json!([]), json!({}), json!(["a"]), json!({"id": "a", "name": "b"})];
        texts.into_iter().chain(long).chain(others).chain(nested).collect()
    }

    fn written(record: &Json, pretty: bool) -> Vec<u8> {
        let write = if pretty { serde_json::to_vec_pretty } else { serde_json::to_vec };
        write(record).unwrap()
    }

    fn outcome(decoder: &mut dyn Decoder, record: &[u8]) -> String {
        let mut seen = Vec::new();
        let mut sink = |row: u32, outcome: Outcome<'_, '_>| seen.push(format!("{row} {outcome:?}"));
        let result = decoder.decode(record, &SourceDefaults::default(), &mut sink);
        format!("{seen:?} {result:?}")
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_outcome(bytes in vec(any::<u8>(), 0..200)) {
            let _ = decode(Format::Canonical, &bytes, &mut |_| ());
        }

        #[test]
        fn any_damaged_record_has_an_outcome(
            record in mutated(arb_event().prop_map(|event| to_json(&event).to_string().into())),
        ) {
            let _ = decode(Format::Canonical, &record, &mut |_| ());
        }

        #[test]
        fn a_record_means_the_same_whatever_was_decoded_before_it(
            records in vec(arb_event().prop_map(|event| to_json(&event)), 1..4),
            changes in vec(any::<[Index; 3]>(), 0..20),
            damaged in mutated(arb_event().prop_map(|event| to_json(&event).to_string().into())),
        ) {
            let changed = changes.iter().map(|[record, leaf, value]| {
                let mut record = record.get(&records).clone();
                let mut leaves = Vec::new();
                add_leaves(&mut record, &mut leaves);
                let at = leaf.index(leaves.len());
                *leaves.swap_remove(at) = value.get(&values()).clone();
                written(&record, value.index(2) == 0)
            });
            let all = records.iter().enumerate().map(|(at, record)| written(record, at > 1));
            let all: Vec<Vec<u8>> = all.chain(changed).chain([damaged]).collect();
            let mut decoder = Format::Canonical.decoder();
            for record in &all {
                let alone = outcome(&mut *Format::Canonical.decoder(), record);
                // The second time, its shape is known.
                prop_assert_eq!(&outcome(&mut *decoder, record), &alone);
                prop_assert_eq!(&outcome(&mut *decoder, record), &alone);
            }
        }

        #[test]
        fn a_record_means_the_event_it_was_made_from(written in arb_event()) {
            let record = to_json(&written).to_string();
            event(Format::Canonical, record.as_bytes(), |read| assert_same(read, &written));
        }
    }
}
