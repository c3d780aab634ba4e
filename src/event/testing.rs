//! For the tests of the decoders: arbitrary events, their JSON, and what became of a record.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{
    DecodeError, Destination, Event, Format, Object, Outcome, Principal, RowsQuality, Source,
    SourceDefaults,
};
use crate::units::EventTime;

/// Decodes `payload` and checks what every decoder owes its caller: rows in order, from 0.
pub(super) fn decode(
    format: Format,
    payload: &[u8],
    see: &mut dyn FnMut(Outcome<'_, '_>),
) -> Result<u32, DecodeError> {
    let mut rows = 0;
    let mut sink = |row: u32, outcome: Outcome<'_, '_>| {
        assert_eq!(row, rows, "rows come in order");
        if let Outcome::Event(event) = &outcome {
            assert!(!event.principal.id.trim().is_empty());
            assert!(event.rows.is_some() || event.rows_quality == RowsQuality::Unknown);
        }
        rows += 1;
        see(outcome);
    };
    format.decoder().decode(payload, &SourceDefaults::default(), &mut sink)?;
    Ok(rows)
}

/// Hands the one event of `payload` to `see`.
pub(super) fn event<T>(format: Format, payload: &[u8], mut see: impl FnMut(&Event<'_>) -> T) -> T {
    let mut seen = None;
    let mut one = |outcome: Outcome<'_, '_>| match outcome {
        Outcome::Event(event) => seen = Some(see(event)),
        other => panic!("no event: {other:?}"),
    };
    assert_eq!(decode(format, payload, &mut one), Ok(1));
    seen.expect("the one event")
}

/// Why `payload`, or its one row, was refused.
pub(super) fn refusal(format: Format, payload: &[u8]) -> DecodeError {
    let mut refused = None;
    let outcome = decode(format, payload, &mut |outcome| match outcome {
        Outcome::Refused(error) => refused = Some(error),
        other => panic!("not refused: {other:?}"),
    });
    outcome.err().or(refused).expect("one refusal")
}

/// Equal, whatever they borrow from (an [`Event`] is invariant, so `==` wants one lifetime).
pub(super) fn assert_same(one: &Event<'_>, other: &Event<'_>) {
    assert_eq!(format!("{one:#?}"), format!("{other:#?}"));
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9._@ -]{0,11}[a-z\"\\\\\u{e4}\u{4e00}\u{1f600}]"
}

fn arb_object() -> impl Strategy<Value = Object<'static>> {
    let size = of(any::<u64>());
    (of(name()), of(name()), name(), any::<bool>(), vec(name(), 0..3), size).prop_map(
        |(database, schema, name, full, labels, row_count)| Object {
            database: database.filter(|_| !full).map(Into::into),
            schema: schema.filter(|_| !full).map(Into::into),
            name: name.into(),
            full,
            labels: if full { vec![] } else { labels }.into_iter().map(Into::into).collect(),
            row_count: row_count.filter(|_| !full),
        },
    )
}

fn arb_principal() -> impl Strategy<Value = Principal<'static>> {
    (name(), of(name()), vec(name(), 0..6), of(name())).prop_map(|(id, kind, groups, tenant)| {
        Principal {
            id: id.into(),
            kind: kind.map(Into::into),
            groups: groups.into_iter().map(Into::into).collect(),
            tenant: tenant.map(Into::into),
        }
    })
}

fn arb_counts() -> impl Strategy<Value = (Option<u64>, RowsQuality)> {
    prop_oneof![
        Just((None, RowsQuality::Unknown)),
        any::<u64>().prop_map(|rows| (Some(rows), RowsQuality::Exact)),
        any::<u64>().prop_map(|rows| (Some(rows), RowsQuality::UpperBound)),
        (1..u64::MAX).prop_map(|rows| (Some(rows), RowsQuality::Unknown)),
    ]
}

const DESTINATIONS: [Destination; 4] =
    [Destination::Client, Destination::Table, Destination::File, Destination::Unknown];

prop_compose! {
    /// Any event that a record can mean.
    pub(super) fn arb_event()(
        millis in -super::time::EVENT_TIME_MAX_MS..=super::time::EVENT_TIME_MAX_MS,
        principal in arb_principal(),
        (kind, instance, database) in (name(), of(name()), of(name())),
        mut objects in vec(arb_object(), 0..4),
        (rows, rows_quality) in arb_counts(),
        (rows_written, bytes) in (any::<u64>(), of(any::<u64>())),
        [event_id, operation, address, application, query_id, fingerprint] in
            proptest::array::uniform6(of(name())),
        (destination, success) in (0..4_usize, of(any::<bool>())),
    ) -> Event<'static> {
        // Names made unique, because repeats of one object are merged.
        for (at, object) in objects.iter_mut().enumerate() {
            object.name = format!("{}{at}", object.name).into();
        }
        Event {
            event_id: event_id.map(Into::into),
            event_time: EventTime::from_millis(millis),
            principal,
            source: Source {
                kind: kind.into(),
                instance: instance.map(Into::into),
                database: database.map(Into::into),
            },
            objects: objects.into(),
            operation: operation.map(Into::into),
            destination: DESTINATIONS[destination],
            rows,
            rows_quality,
            rows_written,
            bytes,
            client_address: address.map(Into::into),
            client_application: application.map(Into::into),
            query_id: query_id.map(Into::into),
            query_fingerprint: fingerprint.map(Into::into),
            success,
        }
    }
}

/// `event` as a canonical record; its time as milliseconds.
pub(super) fn to_json(event: &Event<'_>) -> Value {
    let objects = event.objects.iter().map(|object| {
        if object.full {
            return json!(object.name);
        }
        without_nulls(json!({
            "database": object.database,
            "schema": object.schema,
            "name": object.name,
            "labels": object.labels.as_slice(),
            "row_count": object.row_count,
        }))
    });
    without_nulls(json!({
        "event_id": event.event_id,
        "event_time": event.event_time.millis(),
        "principal": without_nulls(json!({
            "id": event.principal.id,
            "type": event.principal.kind,
            "groups": event.principal.groups.as_slice(),
            "tenant": event.principal.tenant,
        })),
        "source": without_nulls(json!({
            "kind": event.source.kind,
            "instance": event.source.instance,
            "database": event.source.database,
        })),
        "objects": objects.collect::<Vec<_>>(),
        "operation": event.operation,
        "destination": event.destination.as_str(),
        "rows": event.rows,
        "rows_quality": event.rows_quality.as_str(),
        "rows_written": event.rows_written,
        "bytes": event.bytes,
        "client": {"address": event.client_address, "application": event.client_application},
        "query": {"id": event.query_id, "fingerprint": event.query_fingerprint},
        "success": event.success,
    }))
}

fn without_nulls(value: Value) -> Value {
    let Value::Object(fields) = value else { return value };
    Value::Object(fields.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
}

/// A record with a few of its bytes replaced, dropped or doubled.
pub(super) fn mutated(records: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    (records, vec(change, 1..6)).prop_map(|(mut record, changes)| {
        for (at, byte, how) in changes {
            if record.is_empty() {
                break;
            }
            let at = at.index(record.len());
            match how {
                0 => record[at] = byte,
                1 => record[at] ^= 1 << (byte % 8),
                2 => drop(record.remove(at)),
                _ => record.truncate(at),
            }
        }
        record
    })
}
