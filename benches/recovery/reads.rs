//! Who reads: everybody once, then one thief after the other.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt64Array},
    ipc::writer::StreamWriter,
};
use jiff::Timestamp;
use rdkafka::{ClientConfig, producer::BaseProducer};

use crate::kafka::{Client, Message};

/// Rows in one Arrow message.
const ROWS: u64 = 4096;
/// Everybody has read in the last hour.
const SPAN_MS: u64 = 3_600_000;

/// One small read of every principal, in Arrow.
pub(crate) fn of_everybody(principals: u64) -> impl Iterator<Item = Message> {
    let now_ms = Timestamp::now().as_millisecond();
    (0..principals).step_by(usize::try_from(ROWS).unwrap()).map(move |from| {
        let numbers = from..(from + ROWS).min(principals);
        let ago =
            |number: u64| i64::try_from((principals - number) * SPAN_MS / principals).unwrap();
        let reads = numbers.map(|number| (format!("user-{number:08}"), now_ms - ago(number), 3));
        stream(&reads.collect::<Vec<_>>())
    })
}

/// One read above every limit, now.
pub(crate) fn theft(thief: &str) -> Message {
    stream(&[(thief.to_owned(), Timestamp::now().as_millisecond(), 2_000_000)])
}

/// A producer that lets nothing wait.
pub(crate) fn producer(client: &Client) -> BaseProducer {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", client.address()).set("linger.ms", "0");
    settings.create().unwrap()
}

/// Reads as one message: principal, event time in milliseconds, rows.
fn stream(reads: &[(String, i64, u64)]) -> Message {
    let texts = |text: &dyn Fn(&(String, i64, u64)) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(reads.iter().map(text)))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("event_time", Arc::new(Int64Array::from_iter_values(reads.iter().map(|read| read.1)))),
        ("principal.id", texts(&|read| read.0.clone())),
        ("source.kind", texts(&|_| "postgresql".to_owned())),
        ("rows", Arc::new(UInt64Array::from_iter_values(reads.iter().map(|read| read.2)))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    Message::new(writer.into_inner().unwrap())
}
