//! Trino's event listener: query-completed events in the Kafka wrapper or bare, as over HTTP.
//!
//! Trino promises no compatibility between versions, so what is absent is accepted, what is unknown
//! passed over, and what is large (plans, operator summaries) never looked into. The query text is
//! never read. Only completed queries count; created and split events are ignored by what they
//! contain, since nothing names their kind.
//!
//! - The read is charged to whom Trino authenticated (`principal`), else to who the session began
//!   as (`originalUser`), else to `user`; an event with none of them is refused.
//! - `outputRows` went to the client. What was written (`writtenRows`) or scanned did not. An
//!   INSERT delivers one row, its own count, and has the destination `table`.
//! - The instance is the configured one, else Trino's `environment`, which outlives a coordinator's
//!   address.
//! - A retried HTTP post repeats its `queryId`; it is kept as the event's id, compared in `engine`.

use std::borrow::Cow;

use super::draft::{Draft, GROUPS_MAX, Groups, OBJECTS_MAX, Objects, at_most};
use super::json::{self, Fields, Refused, Scalar, Value};
use super::{
    DecodeError, Decoder, Destination, IgnoreReason, Object, Outcome, RowsQuality, SourceDefaults,
    Text, time,
};
use crate::units::EventTime;

/// Longest Trino record, in bytes: the listener itself stops at 5 MB unless told otherwise.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// From here on a whole number is milliseconds; as seconds it would lie beyond the year 5000.
const SECONDS_END: u64 = 100_000_000_000;

/// Statements that write to a table, by `queryType` or `updateType`, in lower case.
const WRITES: [&str; 7] = [
    "insert",
    "update",
    "delete",
    "merge",
    "create table",
    "alter_table_execute",
    "create table as select",
];

/// Decodes Trino's event listener records.
#[derive(Debug, Default)]
pub struct TrinoDecoder {}

impl Decoder for TrinoDecoder {
    fn decode(
        &mut self,
        payload: &[u8],
        defaults: &SourceDefaults,
        sink: &mut dyn FnMut(u32, Outcome<'_, '_>),
    ) -> Result<(), DecodeError> {
        at_most("record in bytes", payload.len(), RECORD_BYTES_MAX)?;
        let mut record = Record::default();
        json::read(payload, &mut Wrapper(&mut record))?;
        if record.is_completed()? {
            sink(0, Outcome::Event(&record.into_draft(defaults).finish(defaults)?));
        } else {
            sink(0, Outcome::Ignored(IgnoreReason::OtherKind));
        }
        Ok(())
    }
}

/// What is read of one event, whatever its kind.
#[derive(Default)]
struct Record<'a> {
    draft: Draft<'a>,
    /// `context` or `metadata` has at least one field.
    is_query: bool,
    /// `statistics` has at least one field.
    is_measured: bool,
    /// `stageId` or `taskId`: no query has them.
    is_split: bool,
    create_time: Option<EventTime>,
    start_time: Option<EventTime>,
    end_time: Option<EventTime>,
    failed: Option<()>,
    state: Option<Text<'a>>,
    query_type: Option<Text<'a>>,
    update_type: Option<Text<'a>>,
    principal: Option<Text<'a>>,
    original_user: Option<Text<'a>>,
    user: Option<Text<'a>>,
    environment: Option<Text<'a>>,
    server: Option<Text<'a>>,
    application: Option<Text<'a>>,
    user_agent: Option<Text<'a>>,
    roles: Option<Groups<'a>>,
    output: Option<()>,
    inputs: Option<Objects<'a>>,
    tables: Option<Objects<'a>>,
}

impl<'a> Record<'a> {
    /// True for a completed query, false for another event of Trino.
    fn is_completed(&self) -> Result<bool, DecodeError> {
        let ended = matches!(self.state.as_deref(), Some("FINISHED" | "FAILED"));
        if self.is_split {
            Ok(false)
        } else if self.end_time.is_some() || self.is_measured || ended {
            Ok(true)
        } else if self.is_query {
            Ok(false)
        } else {
            let expected =
                "an event of Trino's listener: query created or completed, split completed";
            Err(DecodeError::Missing { field: "eventPayload", expected })
        }
    }

    fn into_draft(self, defaults: &'a SourceDefaults) -> Draft<'a> {
        let mut draft = self.draft;
        let not_blank = |name: &Text<'_>| !name.trim().is_empty();
        let names = [self.principal, self.original_user, self.user];
        draft.principal_id = names.into_iter().flatten().find(not_blank);
        draft.event_time = self.end_time.or(self.start_time).or(self.create_time);
        draft.source_kind = Some(defaults.kind.as_deref().unwrap_or("trino").into());
        let configured = defaults.instance.as_deref().map(Cow::Borrowed);
        draft.instance = configured.or(self.environment).or(self.server);
        draft.client_application = self.application.or(self.user_agent);
        draft.event_id.clone_from(&draft.query_id);
        draft.success = self.state.map(|state| state == "FINISHED");
        if self.failed.is_some() {
            draft.success = Some(false);
        }
        if draft.rows.is_none() {
            // Statistics can be excluded by configuration; what was read is then unknown.
            draft.rows_quality = Some(RowsQuality::Unknown);
        }
        draft.operation = self.query_type.or(self.update_type).map(lower_case);
        let writes =
            draft.operation.as_deref().is_some_and(|operation| WRITES.contains(&operation));
        // Whatever Trino does not write, it hands to the client.
        let to_table = writes || self.output.is_some();
        draft.destination = Some(if to_table { Destination::Table } else { Destination::Client });
        // `tables` also names the views that were read, which `inputs` has resolved away.
        let mut objects = self.inputs.unwrap_or_default();
        objects.extend(self.tables.unwrap_or_default());
        objects.retain(|object| !object.name.is_empty());
        draft.objects = Some(objects);
        if let Some(roles) = self.roles {
            draft.groups.get_or_insert_default().extend(roles);
        }
        draft
    }
}

fn lower_case(text: Text<'_>) -> Text<'_> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        text
    }
}

/// A time: ISO 8601 text, decimal seconds, or whole milliseconds.
fn instant(scalar: Scalar<'_>, field: &'static str) -> Result<Option<EventTime>, DecodeError> {
    let found = match scalar {
        Scalar::Unsigned(seconds) if seconds < SECONDS_END => {
            i64::try_from(seconds * 1000).ok().and_then(time::from_millis)
        }
        Scalar::Float(seconds) if (0.0..1e11).contains(&seconds) =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "below 1e14")]
            time::from_millis((seconds * 1000.0).round() as i64)
        }
        other => return other.time(field),
    };
    Ok(found)
}

/// Whether there is a value at all.
#[expect(clippy::needless_pass_by_value, clippy::unnecessary_wraps, reason = "a reader of values")]
fn present(scalar: Scalar<'_>, _: &'static str) -> Result<Option<()>, DecodeError> {
    Ok((!matches!(scalar, Scalar::Null)).then_some(()))
}

/// The record: `{"eventPayload": .., "eventMetadata": ..}`, or the payload itself.
struct Wrapper<'r, 'a>(&'r mut Record<'a>);

impl<'a> Fields<'a> for Wrapper<'_, 'a> {
    const EXPECTED: &'static str = "a JSON object";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        match key {
            "eventPayload" => value.object("eventPayload", &mut Payload(self.0)),
            _ => Payload(self.0).field(key, value),
        }
    }
}

struct Payload<'r, 'a>(&'r mut Record<'a>);

impl<'a> Fields<'a> for Payload<'_, 'a> {
    const EXPECTED: &'static str = "an event object";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        let r = &mut *self.0;
        match key {
            "metadata" => value.object("metadata", &mut Metadata(r)),
            "statistics" => value.object("statistics", &mut Statistics(r)),
            "context" => value.object("context", &mut Context(r)),
            "ioMetadata" => value.object("ioMetadata", &mut Io(r)),
            "createTime" => value.put("createTime", &mut r.create_time, instant),
            "executionStartTime" => value.put("executionStartTime", &mut r.start_time, instant),
            "endTime" => value.put("endTime", &mut r.end_time, instant),
            "failureInfo" => value.put("failureInfo", &mut r.failed, present),
            "stageId" | "taskId" => {
                r.is_split = true;
                value.skip_unseen()
            }
            _ => value.skip_unseen(),
        }
    }
}

struct Metadata<'r, 'a>(&'r mut Record<'a>);

impl<'a> Fields<'a> for Metadata<'_, 'a> {
    const EXPECTED: &'static str = "an object";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        let r = &mut *self.0;
        r.is_query = true;
        match key {
            "queryId" => value.put("metadata.queryId", &mut r.draft.query_id, Scalar::note),
            "queryState" => value.put("metadata.queryState", &mut r.state, Scalar::note),
            "updateType" => value.put("metadata.updateType", &mut r.update_type, Scalar::text),
            "tables" => value.list("metadata.tables", OBJECTS_MAX, &mut r.tables, Table::object),
            _ => value.skip_unseen(),
        }
    }
}

struct Statistics<'r, 'a>(&'r mut Record<'a>);

impl<'a> Fields<'a> for Statistics<'_, 'a> {
    const EXPECTED: &'static str = "an object";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        let r = &mut *self.0;
        r.is_measured = true;
        let d = &mut r.draft;
        match key {
            "outputRows" => value.put("statistics.outputRows", &mut d.rows, Scalar::count),
            "outputBytes" => value.put("statistics.outputBytes", &mut d.bytes, Scalar::count),
            "writtenRows" => {
                value.put("statistics.writtenRows", &mut d.rows_written, Scalar::count)
            }
            _ => value.skip_unseen(),
        }
    }
}

struct Context<'r, 'a>(&'r mut Record<'a>);

impl<'a> Fields<'a> for Context<'_, 'a> {
    const EXPECTED: &'static str = "an object";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        let r = &mut *self.0;
        r.is_query = true;
        let d = &mut r.draft;
        match key {
            "user" => value.put("context.user", &mut r.user, Scalar::text),
            "originalUser" => value.put("context.originalUser", &mut r.original_user, Scalar::text),
            "principal" => value.put("context.principal", &mut r.principal, Scalar::text),
            "groups" => value.texts("context.groups", GROUPS_MAX, &mut d.groups),
            "enabledRoles" => value.texts("context.enabledRoles", GROUPS_MAX, &mut r.roles),
            "remoteClientAddress" => {
                value.put("context.remoteClientAddress", &mut d.client_address, Scalar::note)
            }
            "userAgent" => value.put("context.userAgent", &mut r.user_agent, Scalar::note),
            "source" => value.put("context.source", &mut r.application, Scalar::note),
            "catalog" => value.put("context.catalog", &mut d.database, Scalar::text),
            "serverAddress" => value.put("context.serverAddress", &mut r.server, Scalar::text),
            "environment" => value.put("context.environment", &mut r.environment, Scalar::text),
            "queryType" => value.put("context.queryType", &mut r.query_type, Scalar::text),
            _ => value.skip_unseen(),
        }
    }
}

struct Io<'r, 'a>(&'r mut Record<'a>);

impl<'a> Fields<'a> for Io<'_, 'a> {
    const EXPECTED: &'static str = "an object";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        let r = &mut *self.0;
        match key {
            "inputs" => value.list("ioMetadata.inputs", OBJECTS_MAX, &mut r.inputs, Table::object),
            "output" => value.put("ioMetadata.output", &mut r.output, present),
            _ => value.skip_unseen(),
        }
    }
}

/// A table that was read, as `ioMetadata.inputs` or `metadata.tables` names it.
#[derive(Default)]
struct Table<'a> {
    catalog: Option<Text<'a>>,
    schema: Option<Text<'a>>,
    name: Option<Text<'a>>,
}

impl<'a> Table<'a> {
    /// Anonymised records leave names out; such an object has no name and is dropped later.
    fn object(self) -> Object<'a> {
        Object {
            database: self.catalog,
            schema: self.schema,
            name: self.name.unwrap_or_default(),
            ..Object::default()
        }
    }
}

impl<'a> Fields<'a> for Table<'a> {
    const EXPECTED: &'static str = "an object with a `table`";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        match key {
            "catalogName" | "catalog" => value.put("catalogName", &mut self.catalog, Scalar::text),
            "schema" => value.put("schema", &mut self.schema, Scalar::text),
            "table" => value.put("table", &mut self.name, Scalar::text),
            _ => value.skip_unseen(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::super::testing::{decode, event, mutated, refusal};
    use super::super::{Event, Format};
    use super::*;

    const SELECT: &[u8] = include_bytes!("../../tests/fixtures/trino/select.json");
    const INSERT: &[u8] = include_bytes!("../../tests/fixtures/trino/insert.json");
    const FAILED: &[u8] = include_bytes!("../../tests/fixtures/trino/failed.json");
    const CREATED: &[u8] = include_bytes!("../../tests/fixtures/trino/created.json");
    const SPLIT: &[u8] = include_bytes!("../../tests/fixtures/trino/split.json");
    const ANONYMISED: &[u8] = include_bytes!("../../tests/fixtures/trino/anonymised.json");

    fn read<T>(record: &[u8], see: impl FnMut(&Event<'_>) -> T) -> T {
        event(Format::Trino, record, see)
    }

    /// The fixture with `change` made to it.
    fn changed(record: &[u8], change: impl Fn(&mut Json)) -> Vec<u8> {
        let mut json: Json = serde_json::from_slice(record).unwrap();
        change(&mut json);
        json.to_string().into_bytes()
    }

    fn ignored(record: &[u8]) -> bool {
        let mut ignored = false;
        let mut see =
            |o: Outcome<'_, '_>| ignored = matches!(o, Outcome::Ignored(IgnoreReason::OtherKind));
        assert_eq!(decode(Format::Trino, record, &mut see), Ok(1));
        ignored
    }

    #[test]
    fn a_completed_query_in_the_kafka_wrapper_is_an_event() {
        read(SELECT, |event| {
            assert_eq!(event.event_id.as_deref(), Some("20260309_101500_00042_kq3xw"));
            assert_eq!(event.query_id, event.event_id);
            assert_eq!(
                (&*event.source.kind, event.operation.as_deref()),
                ("trino", Some("select"))
            );
            assert_eq!(event.source.instance.as_deref(), Some("lake"));
            assert_eq!(event.source.database.as_deref(), Some("shop"));
            assert_eq!(event.principal.groups.as_slice(), ["support", "emea", "reader"]);
            assert_eq!(event.client_address.as_deref(), Some("192.0.2.17"));
            assert_eq!(event.client_application.as_deref(), Some("support-desk"));
            assert_eq!((event.rows, event.bytes), (Some(640), Some(51200)));
            assert_eq!((event.destination, event.success), (Destination::Client, Some(true)));
        });
    }

    #[test]
    fn the_bare_form_of_the_http_listener_means_the_same() {
        let bare = changed(SELECT, |json| *json = json["eventPayload"].take());
        let show = |event: &Event<'_>| format!("{event:?}");
        assert_eq!(read(&bare, show), read(SELECT, show));
    }

    #[test]
    fn objects_are_the_tables_read_and_the_views_they_were_read_through() {
        let name = |object: &Object<'_>| {
            let part = |part: &Option<Text<'_>>| part.as_deref().unwrap_or_default().to_owned();
            format!("{}.{}.{}", part(&object.database), part(&object.schema), object.name)
        };
        let names = read(SELECT, |event| event.objects.iter().map(name).collect::<Vec<_>>());
        assert_eq!(names, ["shop.public.members", "erp.sales.orders", "shop.public.v_members"]);
    }

    #[test]
    fn trap_1_an_insert_delivers_its_count_and_moves_its_rows_to_a_table() {
        read(INSERT, |event| {
            assert_eq!((event.rows, event.rows_written), (Some(1), 200_000));
            assert_eq!(event.destination, Destination::Table);
        });
        let without_output = changed(INSERT, |json| json["ioMetadata"] = Json::Null);
        read(&without_output, |event| assert_eq!(event.destination, Destination::Table));
    }

    #[test]
    fn trap_2_rows_that_were_scanned_are_not_rows_delivered() {
        assert_eq!(read(SELECT, |event| event.rows), Some(640));
        let scanned_only = changed(SELECT, |json| {
            json["eventPayload"]["statistics"]["outputRows"].take();
            json["eventPayload"]["statistics"]["outputBytes"].take();
        });
        // No bytes either, so that nothing but the quality says that something was read.
        assert_eq!(
            read(&scanned_only, |event| (event.rows, event.rows_quality)),
            (None, RowsQuality::Unknown)
        );
    }

    #[test]
    fn trap_3_the_authenticated_identity_is_charged_before_the_one_it_took_on() {
        let id = |record: &[u8]| read(record, |event| event.principal.id.to_string());
        assert_eq!(id(SELECT), "mira@SHOP.EXAMPLE");
        assert_eq!(id(FAILED), "lena");
        assert_eq!(
            id(&changed(FAILED, |json| json["context"]["originalUser"] = json!(""))),
            "report"
        );
        let impersonated = changed(INSERT, |json| json["context"]["user"] = json!("somebody"));
        assert_eq!(id(&impersonated), "etl");
    }

    #[test]
    fn trap_4_an_event_without_an_identity_is_refused_loudly() {
        assert_eq!(refusal(Format::Trino, ANONYMISED).code(), "no_identity");
        let no_context = changed(ANONYMISED, |json| json["context"] = Json::Null);
        assert_eq!(refusal(Format::Trino, &no_context).code(), "no_identity");
    }

    #[test]
    fn trap_4_an_event_without_its_statistics_has_an_unknown_count() {
        let excluded = changed(SELECT, |json| {
            json["eventPayload"]["statistics"] = Json::Null;
            json["eventPayload"]["ioMetadata"] = Json::Null;
            json["eventPayload"]["metadata"]["tables"] = Json::Null;
        });
        read(&excluded, |event| {
            assert_eq!((event.rows, event.rows_quality), (None, RowsQuality::Unknown));
            assert!(event.objects.is_empty());
        });
    }

    #[test]
    fn trap_5_a_record_of_many_megabytes_of_plans_is_read_and_a_larger_one_refused() {
        let plans = |bytes: usize| {
            let record = changed(SELECT, |json| {
                json["eventPayload"]["metadata"]["plan"] = json!("x\n".repeat(bytes / 3));
                json["eventPayload"]["statistics"]["operatorSummaries"] = json!("DEEP");
            });
            let deep = "[".repeat(100_000) + &"]".repeat(100_000);
            String::from_utf8(record).unwrap().replace("\"DEEP\"", &deep).into_bytes()
        };
        assert_eq!(read(&plans(6 << 20), |event| event.rows), Some(640));
        assert_eq!(refusal(Format::Trino, &plans(17 << 20)).code(), "too_large");
    }

    #[test]
    fn trap_6_a_post_that_is_tried_again_can_be_known_by_its_query_id() {
        assert!(Format::Trino.retries());
        let ids = |event: &Event<'_>| (event.event_id.is_some(), event.event_id == event.query_id);
        for record in [SELECT, INSERT, FAILED] {
            assert_eq!(read(record, ids), (true, true));
        }
    }

    #[test]
    fn trap_7_the_time_is_when_the_query_ended() {
        let millis = |record: &[u8]| read(record, |event| event.event_time.millis());
        assert_eq!(millis(SELECT), time::parse("2026-03-09T10:15:12.131Z").unwrap().millis());
        let no_end = changed(SELECT, |json| json["eventPayload"]["endTime"] = Json::Null);
        assert_eq!(millis(&no_end), time::parse("2026-03-09T10:15:00.25Z").unwrap().millis());
    }

    #[test]
    fn trap_9_times_may_be_seconds_and_durations_are_no_counts() {
        let millis = |end: Json| {
            let record = changed(INSERT, |json| json["endTime"] = end.clone());
            read(&record, |event| event.event_time.millis())
        };
        assert_eq!(millis(json!(1_773_054_031)), 1_773_054_031_000);
        assert_eq!(millis(json!(1_773_054_031.5)), 1_773_054_031_500);
        assert_eq!(millis(json!(1_773_054_031_500_u64)), 1_773_054_031_500);
        assert_eq!(
            refusal(Format::Trino, &changed(INSERT, |json| json["endTime"] = json!("soon"))).code(),
            "invalid_field"
        );
    }

    #[test]
    fn a_failed_query_is_charged_for_what_it_delivered() {
        read(FAILED, |event| {
            assert_eq!((event.rows, event.success), (Some(90), Some(false)));
            assert_eq!(event.source.instance.as_deref(), Some("192.0.2.1"));
        });
    }

    #[test]
    fn created_and_split_events_are_ignored_and_what_trino_never_sends_is_refused() {
        assert!(ignored(CREATED) && ignored(SPLIT));
        for record in [&b"{}"[..], br#"{"eventPayload": null}"#, br#"{"principal": "jdoe"}"#] {
            assert_eq!(refusal(Format::Trino, record).code(), "missing_field");
        }
        assert_eq!(refusal(Format::Trino, br#"{"eventPayload": []}"#).code(), "invalid_field");
    }

    #[test]
    fn the_configured_instance_stands_before_the_name_trino_has_for_itself() {
        let defaults = SourceDefaults { instance: Some("lake-1".into()), ..Default::default() };
        let mut see = |_, outcome: Outcome<'_, '_>| match outcome {
            Outcome::Event(event) => assert_eq!(event.source.instance.as_deref(), Some("lake-1")),
            other => panic!("{other:?}"),
        };
        TrinoDecoder::default().decode(SELECT, &defaults, &mut see).unwrap();
    }

    proptest! {
        #[test]
        fn any_damaged_record_has_an_outcome(
            record in mutated(
                prop::sample::select(vec![SELECT, INSERT, FAILED, SPLIT]).prop_map(Vec::from)
            ),
        ) {
            let _ = decode(Format::Trino, &record, &mut |_| ());
        }

        #[test]
        fn any_bytes_have_an_outcome(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Format::Trino, &bytes, &mut |_| ());
        }
    }
}
