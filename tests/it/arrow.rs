//! Reads as one self-contained Arrow IPC stream: many rows, many batches, one Kafka message.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
        TimestampMillisecondArray, UInt64Array,
    },
    ipc::writer::StreamWriter,
};

use crate::{events::Read, kafka::Message};

/// One message with all of `reads`, `batch_rows` to a batch.
pub(crate) fn message(reads: &[Read], batch_rows: usize) -> Message {
    let batches: Vec<RecordBatch> = reads.chunks(batch_rows).map(batch).collect();
    stream(&batches)
}

/// One message of given batches, which have one schema.
pub(crate) fn stream(batches: &[RecordBatch]) -> Message {
    let schema = batches.first().expect("at least one batch").schema();
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).expect("a schema");
    for batch in batches {
        writer.write(batch).expect("a batch");
    }
    Message::new(writer.into_inner().expect("a whole stream"))
}

/// The canonical columns of `reads`.
pub(crate) fn batch(reads: &[Read]) -> RecordBatch {
    let times = reads.iter().map(|read| read.at_ms);
    let text = |text: fn(&Read) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(reads.iter().map(text)))
    };
    let mut objects = ListBuilder::new(StringBuilder::new());
    for read in reads {
        objects.append_value([Some(format!("crm.public.{}", read.table))]);
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("event_time", Arc::new(TimestampMillisecondArray::from_iter_values(times))),
        ("principal.id", text(|read| read.principal.clone())),
        ("source.kind", text(|_| "postgresql".to_owned())),
        ("objects", Arc::new(objects.finish())),
        ("operation", text(|_| "select".to_owned())),
        ("rows", Arc::new(UInt64Array::from_iter_values(reads.iter().map(|read| read.rows)))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of equal length")
}

/// The same with signed counts, of which `negative` is the index of one below zero.
pub(crate) fn batch_with_negative_rows(reads: &[Read], negative: usize) -> RecordBatch {
    let whole = batch(reads);
    let signed = |read: &Read| i64::try_from(read.rows).expect("few rows");
    let rows: Int64Array = reads
        .iter()
        .enumerate()
        .map(|(index, read)| Some(if index == negative { -1 } else { signed(read) }))
        .collect();
    let schema = whole.schema();
    let columns = schema.fields().iter().zip(whole.columns()).map(|(field, column)| {
        let column: ArrayRef =
            if field.name() == "rows" { Arc::new(rows.clone()) } else { Arc::clone(column) };
        (field.name().clone(), column)
    });
    RecordBatch::try_from_iter(columns).expect("columns of equal length")
}
