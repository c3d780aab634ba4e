//! Canonical JSON: one object a record (DESIGN 3; `schemas/event.v1.schema.json` is the truth).
//!
//! Short forms: `principal` as text, an object as its full name, `client_address` as text beside
//! `client`. Unknown fields are passed over; null is the same as absent; a field written twice with
//! two values is refused. Which counts are known is decided in [`super::draft`].

use super::draft::{self, Draft, GROUPS_MAX, LABELS_MAX, Labels, OBJECTS_MAX, at_most, put};
use super::json::{self, Fields, Refused, Scalar, Value};
use super::{DecodeError, Decoder, Object, Outcome, SourceDefaults};

/// Longest canonical record, in bytes: ten times what a record with every field needs.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// Decodes canonical JSON.
#[derive(Debug, Default)]
pub struct CanonicalDecoder {}

impl Decoder for CanonicalDecoder {
    fn decode(
        &mut self,
        payload: &[u8],
        defaults: &SourceDefaults,
        sink: &mut dyn FnMut(u32, Outcome<'_, '_>),
    ) -> Result<(), DecodeError> {
        at_most("record in bytes", payload.len(), RECORD_BYTES_MAX)?;
        let mut draft = Draft::default();
        json::read(payload, &mut Event(&mut draft))?;
        sink(0, Outcome::Event(&draft.finish(defaults)?));
        Ok(())
    }
}

/// The record itself.
struct Event<'r, 'a>(&'r mut Draft<'a>);

impl<'a> Fields<'a> for Event<'_, 'a> {
    const EXPECTED: &'static str = "a JSON object";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        let d = &mut *self.0;
        match key {
            "event_id" => value.put("event_id", &mut d.event_id, Scalar::note),
            "event_time" => value.put("event_time", &mut d.event_time, Scalar::time),
            "principal" => value.object("principal", &mut Principal(d)),
            "source" => value.object("source", &mut Source(d)),
            "objects" => value.list("objects", OBJECTS_MAX, &mut d.objects, ObjectItem::named),
            "operation" => value.put("operation", &mut d.operation, Scalar::text),
            "destination" => value.put("destination", &mut d.destination, |scalar, field| {
                scalar.name(field, draft::destination)
            }),
            "rows" => value.put("rows", &mut d.rows, Scalar::count),
            "rows_quality" => value.put("rows_quality", &mut d.rows_quality, |scalar, field| {
                scalar.name(field, draft::rows_quality)
            }),
            "rows_written" => value.put("rows_written", &mut d.rows_written, Scalar::count),
            "bytes" => value.put("bytes", &mut d.bytes, Scalar::count),
            "client" => value.object("client", &mut Client(d)),
            "client_address" => value.put("client_address", &mut d.client_address, Scalar::note),
            "query" => value.object("query", &mut Query(d)),
            "success" => value.put("success", &mut d.success, Scalar::flag),
            _ => value.skip(),
        }
    }
}

/// `principal`, or the id alone.
struct Principal<'r, 'a>(&'r mut Draft<'a>);

impl<'a> Fields<'a> for Principal<'_, 'a> {
    const EXPECTED: &'static str = "an object with an `id`, or the id as text";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        let d = &mut *self.0;
        match key {
            "id" => value.put("principal.id", &mut d.principal_id, Scalar::text),
            "type" => value.put("principal.type", &mut d.principal_kind, Scalar::note),
            "tenant" => value.put("principal.tenant", &mut d.tenant, Scalar::text),
            "groups" => value.texts("principal.groups", GROUPS_MAX, &mut d.groups),
            _ => value.skip(),
        }
    }

    fn short(&mut self, field: &'static str, value: Scalar<'a>) -> Result<(), DecodeError> {
        match value {
            Scalar::Text(id) => {
                put(&mut self.0.principal_id, draft::text(id, "principal.id")?, "principal.id")
            }
            other => Err(other.wrong(field, Self::EXPECTED)),
        }
    }
}

/// `source`.
struct Source<'r, 'a>(&'r mut Draft<'a>);

impl<'a> Fields<'a> for Source<'_, 'a> {
    const EXPECTED: &'static str = "an object with a `kind`";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        let d = &mut *self.0;
        match key {
            "kind" => value.put("source.kind", &mut d.source_kind, Scalar::text),
            "instance" => value.put("source.instance", &mut d.instance, Scalar::text),
            "database" => value.put("source.database", &mut d.database, Scalar::text),
            _ => value.skip(),
        }
    }
}

/// `client`.
struct Client<'r, 'a>(&'r mut Draft<'a>);

impl<'a> Fields<'a> for Client<'_, 'a> {
    const EXPECTED: &'static str = "an object";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        let d = &mut *self.0;
        match key {
            "address" => value.put("client.address", &mut d.client_address, Scalar::note),
            "application" => {
                value.put("client.application", &mut d.client_application, Scalar::note)
            }
            _ => value.skip(),
        }
    }
}

/// `query`.
struct Query<'r, 'a>(&'r mut Draft<'a>);

impl<'a> Fields<'a> for Query<'_, 'a> {
    const EXPECTED: &'static str = "an object";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        let d = &mut *self.0;
        match key {
            "id" => value.put("query.id", &mut d.query_id, Scalar::note),
            "fingerprint" => value.put("query.fingerprint", &mut d.query_fingerprint, Scalar::note),
            _ => value.skip(),
        }
    }
}

/// One of `objects`, or its full name.
#[derive(Default)]
struct ObjectItem<'a> {
    database: Option<super::Text<'a>>,
    schema: Option<super::Text<'a>>,
    name: Option<super::Text<'a>>,
    full: bool,
    labels: Option<Labels<'a>>,
    row_count: Option<u64>,
}

impl<'a> ObjectItem<'a> {
    fn named(self) -> Result<Object<'a>, DecodeError> {
        Ok(Object {
            database: self.database,
            schema: self.schema,
            name: self.name.ok_or(draft::NAMELESS)?,
            full: self.full,
            labels: self.labels.unwrap_or_default(),
            row_count: self.row_count,
        })
    }
}

impl<'a> Fields<'a> for ObjectItem<'a> {
    const EXPECTED: &'static str = "an object with a `name`, or the full name as text";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        match key {
            "database" => value.put("objects[].database", &mut self.database, Scalar::text),
            "schema" => value.put("objects[].schema", &mut self.schema, Scalar::text),
            "name" => value.put("objects[].name", &mut self.name, Scalar::text),
            "labels" => value.texts("objects[].labels", LABELS_MAX, &mut self.labels),
            "row_count" => value.put("objects[].row_count", &mut self.row_count, Scalar::count),
            _ => value.skip(),
        }
    }

    fn short(&mut self, field: &'static str, value: Scalar<'a>) -> Result<(), DecodeError> {
        match value {
            Scalar::Text(name) => {
                self.full = true;
                put(&mut self.name, draft::text(name, field)?, field)
            }
            other => Err(other.wrong(field, Self::EXPECTED)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn any_bytes_have_an_outcome(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Format::Canonical, &bytes, &mut |_| ());
        }

        #[test]
        fn any_damaged_record_has_an_outcome(
            record in mutated(arb_event().prop_map(|event| to_json(&event).to_string().into())),
        ) {
            let _ = decode(Format::Canonical, &record, &mut |_| ());
        }

        #[test]
        fn a_record_means_the_event_it_was_made_from(written in arb_event()) {
            let record = to_json(&written).to_string();
            event(Format::Canonical, record.as_bytes(), |read| assert_same(read, &written));
        }
    }
}
