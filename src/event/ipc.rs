//! Reading Arrow IPC streams that nobody vouches for.
//!
//! The whole stream is looked over before any of it is read: the framing, every buffer's place in
//! its message, the rows, and the bytes that reading it will touch. Only then does arrow build
//! arrays, validating them, and only of the columns that are wanted.
//!
//! arrow itself panics on some malformed metadata (a buffer outside its message, a union's length).
//! The look-over refuses what is known; a panic that remains is caught here, as the last resort,
//! and becomes a refusal like any other. Nothing is shared across it: the arrays are dropped
//! with it.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::try_fb_to_schema;
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use arrow::ipc::{self, Message, MessageHeader};

use super::DecodeError;
use super::decode::bounded;
use super::draft::at_most;

/// Longest stream, in bytes.
pub const STREAM_BYTES_MAX: usize = 32 << 20;
/// Most rows of one stream, over all its batches.
pub const STREAM_ROWS_MAX: usize = 1 << 17;
/// Most bytes that reading a stream may touch, and so take, after decompression. Arrow validates a
/// dictionary again for every batch and column that uses it, so many small batches on a large one
/// add up.
pub const STREAM_WORK_BYTES_MAX: usize = 256 << 20;

/// What stands before a message, since version 0.15 of the format.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// One message of a stream.
struct Part<'p> {
    message: Message<'p>,
    body: Range<usize>,
}

/// Hands every batch of `payload` to `each`, with only the top-level columns that are `wanted`.
///
/// # Errors
/// The stream is malformed or too large, or `each` refuses a batch.
pub(super) fn read_stream(
    payload: &[u8],
    wanted: impl Fn(&str) -> bool,
    mut each: impl FnMut(RecordBatch) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    at_most("stream in bytes", payload.len(), STREAM_BYTES_MAX)?;
    let parts = frames(payload)?;
    let schema = schema(&parts)?;
    let columns = schema.fields().iter().enumerate();
    let columns: Vec<usize> =
        columns.filter(|(_, field)| wanted(field.name())).map(|(index, _)| index).collect();
    look_over(payload, &parts[1..], &schema, &columns)?;

    let buffer = Buffer::from(payload);
    let mut dictionaries: HashMap<i64, ArrayRef> = HashMap::new();
    for Part { message, body } in &parts[1..] {
        let body = buffer.slice_with_length(body.start, body.len());
        let version = message.version();
        if let Some(dictionary) = message.header_as_dictionary_batch() {
            guarded(|| read_dictionary(&body, dictionary, &schema, &mut dictionaries, &version))?;
        } else if let Some(batch) = message.header_as_record_batch() {
            let schema = Arc::clone(&schema);
            let batch = guarded(|| {
                read_record_batch(&body, batch, schema, &dictionaries, Some(&columns), &version)
            })?;
            each(batch)?;
        }
    }
    Ok(())
}

/// Splits a stream into its messages. Bytes after its end would be lost without a word, so they are
/// refused; an end without its mark is how some writers end.
fn frames(payload: &[u8]) -> Result<Vec<Part<'_>>, DecodeError> {
    let mut parts = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let mut size = take(&mut rest, 4)?;
        if size == CONTINUATION {
            size = take(&mut rest, 4)?;
        }
        let size = u32::from_le_bytes([size[0], size[1], size[2], size[3]]) as usize;
        if size == 0 {
            if !rest.is_empty() {
                return Err(syntax("bytes after the end of the stream"));
            }
            break;
        }
        let message = ipc::root_as_message(take(&mut rest, size)?)
            .map_err(|error| syntax(&error.to_string()))?;
        let length = usize::try_from(message.bodyLength())
            .map_err(|_| syntax("a message has a negative length"))?;
        let start = payload.len() - rest.len();
        take(&mut rest, length)?;
        parts.push(Part { message, body: start..start + length });
    }
    Ok(parts)
}

fn take<'p>(rest: &mut &'p [u8], length: usize) -> Result<&'p [u8], DecodeError> {
    let (taken, after) =
        rest.split_at_checked(length).ok_or_else(|| syntax("the stream is cut short"))?;
    *rest = after;
    Ok(taken)
}

fn schema(parts: &[Part<'_>]) -> Result<SchemaRef, DecodeError> {
    let schema = parts.first().and_then(|part| part.message.header_as_schema());
    let schema = schema.ok_or_else(|| syntax("the stream does not begin with a schema"))?;
    if !schema.endianness().equals_to_target_endianness() {
        return Err(syntax("the byte order is not this machine's"));
    }
    guarded(|| try_fb_to_schema(schema)).map(Arc::new)
}

/// Refuses what is out of place or too large before anything is built from it.
fn look_over(
    payload: &[u8],
    parts: &[Part<'_>],
    schema: &SchemaRef,
    columns: &[usize],
) -> Result<(), DecodeError> {
    let uses: usize = columns.iter().map(|&at| dictionaries(schema.field(at).data_type())).sum();
    let (mut rows, mut work, mut dictionary_bytes) = (0_usize, 0_usize, 0_usize);
    for Part { message, body } in parts {
        let body = &payload[body.clone()];
        match message.header_type() {
            MessageHeader::RecordBatch => {
                let batch = message.header_as_record_batch();
                let batch = batch.ok_or_else(|| syntax("a batch without a header"))?;
                rows = rows.saturating_add(length(batch.length())?);
                let again = dictionary_bytes.saturating_mul(uses);
                work = work.saturating_add(batch_bytes(batch, body)?).saturating_add(again);
            }
            MessageHeader::DictionaryBatch => {
                let dictionary = message.header_as_dictionary_batch();
                let batch = dictionary.and_then(|dictionary| dictionary.data());
                let batch = batch.ok_or_else(|| syntax("a dictionary without a batch"))?;
                if dictionary.is_some_and(|dictionary| dictionary.isDelta()) {
                    return Err(syntax("a dictionary in deltas; each must be written whole"));
                }
                let bytes = batch_bytes(batch, body)?;
                dictionary_bytes = dictionary_bytes.saturating_add(bytes);
                work = work.saturating_add(bytes);
            }
            MessageHeader::Schema => return Err(syntax("a second schema in one stream")),
            _ => return Err(syntax("a message that is neither a batch nor a dictionary")),
        }
        at_most("rows of one stream", rows, STREAM_ROWS_MAX)?;
        at_most("bytes touched by reading the stream", work, STREAM_WORK_BYTES_MAX)?;
    }
    Ok(())
}

/// Bytes of a batch after decompression, once every buffer is known to lie inside `body`.
fn batch_bytes(batch: ipc::RecordBatch<'_>, body: &[u8]) -> Result<usize, DecodeError> {
    for node in batch.nodes().into_iter().flatten() {
        let (values, nulls) = (length(node.length())?, length(node.null_count())?);
        if nulls > values {
            return Err(syntax("a column has more nulls than values"));
        }
    }
    let mut bytes = 0_usize;
    for place in batch.buffers().into_iter().flatten() {
        let (offset, stored) = (place.offset(), place.length());
        let buffer = usize::try_from(offset).ok().zip(usize::try_from(stored).ok());
        let buffer = buffer.and_then(|(at, stored)| body.get(at..at.checked_add(stored)?));
        let buffer = buffer.ok_or_else(|| syntax("a buffer lies outside its message"))?;
        let expanded = match buffer.first_chunk::<8>() {
            Some(prefix) if batch.compression().is_some() => match i64::from_le_bytes(*prefix) {
                -1 => buffer.len(),
                length => usize::try_from(length).map_err(|_| syntax("a negative length"))?,
            },
            _ => buffer.len(),
        };
        bytes = bytes.saturating_add(expanded);
    }
    Ok(bytes)
}

/// A length that arrow can index with.
fn length(written: i64) -> Result<usize, DecodeError> {
    i32::try_from(written)
        .ok()
        .and_then(|length| usize::try_from(length).ok())
        .ok_or_else(|| syntax("a length is out of range"))
}

/// How often columns of this type refer to a dictionary.
fn dictionaries(data_type: &DataType) -> usize {
    match data_type {
        DataType::Dictionary(..) => 1,
        DataType::Struct(fields) => fields.iter().map(|f| dictionaries(f.data_type())).sum(),
        DataType::List(field) | DataType::LargeList(field) => dictionaries(field.data_type()),
        _ => 0,
    }
}

/// Runs arrow on what was looked over; see the head of this file for the panic it may still hide.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, DecodeError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(|error| syntax(&error.to_string())),
        Err(_) => Err(syntax("the arrays contradict their description")),
    }
}

fn syntax(detail: &str) -> DecodeError {
    DecodeError::Syntax { format: "Arrow IPC", detail: bounded(detail) }
}
