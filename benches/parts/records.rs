//! One record of each format.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt64Array},
    error::ArrowError,
    ipc::writer::StreamWriter,
};

/// Every field of the schema, about 500 bytes, as a bridge would write it.
pub(crate) const CANONICAL: &str = concat!(
    r#"{"event_id":"20260401_093342_00012_pzafy","#,
    r#""event_time":"2026-04-01T09:33:42.123Z","principal":{"id":"jdoe","type":"user","#,
    r#""groups":["support-l1"],"tenant":"acme"},"source":{"kind":"postgresql","#,
    r#""instance":"crm-db-1","database":"crm"},"objects":[{"schema":"public","#,
    r#""name":"customers","labels":["pii"],"row_count":12000000}],"operation":"select","#,
    r#""destination":"client","rows":120,"rows_quality":"exact","rows_written":0,"#,
    r#""bytes":48213,"client":{"address":"127.0.0.1","application":"support-console"},"#,
    r#""query":{"id":"q-1","fingerprint":"a9f0"},"success":true}"#,
);

/// Rows of the Arrow record.
pub(crate) const ARROW_ROWS: u32 = 4096;

/// A record of Trino's Kafka event listener, made for the tests.
pub(crate) const TRINO: &[u8] = include_bytes!("../../tests/fixtures/trino/select.json");

/// Many events in one record, eight columns of the canonical names.
pub(crate) fn arrow_stream() -> Result<Vec<u8>, ArrowError> {
    let texts = |text: fn(u32) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..ARROW_ROWS).map(text)))
    };
    let times = (0..ARROW_ROWS).map(|n| 1_775_036_022_123 + i64::from(n));
    let rows = (0..ARROW_ROWS).map(|n| u64::from(n % 9 + 1));
    let batch = RecordBatch::try_from_iter([
        ("event_id", texts(|n| format!("20260401_093342_{n:05}_pzafy"))),
        ("event_time", Arc::new(Int64Array::from_iter_values(times)) as ArrayRef),
        ("principal.id", texts(|n| format!("user-{:05}", n % 300))),
        ("source.kind", texts(|_| "postgresql".to_owned())),
        ("source.instance", texts(|_| "crm-db-1".to_owned())),
        ("operation", texts(|_| "select".to_owned())),
        ("client.address", texts(|n| format!("127.0.0.{}", n % 250))),
        ("rows", Arc::new(UInt64Array::from_iter_values(rows))),
    ])?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    writer.into_inner()
}
