//! The internal format: canonical rows of one route and one events partition as an Arrow IPC
//! stream, one self-contained stream a message.
//!
//! What repeats is a dictionary: keys, principals, addresses, and the whole `Context` as JSON
//! text, so that detect decides filters once per distinct value. Rows keep the order in which they
//! were routed, and each names its origin (D1). A message without rows is a time mark (W6).
//! Never here: deciding what a row means.

use arrow::{
    array::{
        Array, ArrayRef, AsArray, DictionaryArray, PrimitiveArray, RecordBatch, StringArray,
        UInt64Array,
    },
    buffer::{Buffer, ScalarBuffer},
    datatypes::{ArrowPrimitiveType, Int64Type, UInt16Type, UInt32Type, UInt64Type},
    ipc::reader::StreamDecoder,
};
use serde::{Deserialize, Serialize};

use crate::units::{EventTime, KeyHash, Offset, Partition};

use super::{GroupBy, ipc};

/// Version of the format; a reader refuses a newer one.
pub const VERSION: u32 = 1;
/// Key of the schema metadata that holds [`Header`] as JSON.
pub const METADATA_KEY: &str = "exfilwatch";

/// A partition of an input topic, as rows and accounts name it (D1).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourcePartition {
    /// Kafka cluster id.
    pub cluster: String,
    /// Topic name.
    pub topic: String,
    /// Topic id, which a topic made again under the same name does not share; empty if unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub topic_id: String,
    /// Partition number.
    pub partition: i32,
}

impl SourcePartition {
    /// The partition number as a unit.
    #[must_use]
    pub const fn number(&self) -> Partition {
        Partition(self.partition)
    }
}

/// What a message says of itself, in the schema's metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// Position of the route's grouping in [`GroupBy::ALL`].
    pub route: usize,
    /// Where the rows come from; the `source` column indexes it. In a time mark: the source
    /// partitions that were at their end.
    pub sources: Vec<SourceRef>,
    /// Time mark: the time that has passed on those source partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark_ms: Option<i64>,
}

/// One source partition of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRef {
    /// Which one.
    #[serde(flatten)]
    pub source: SourcePartition,
    /// Offset of the row routed here before this message in the writer's session, -1 for none: a
    /// reader that has not applied it has a gap.
    pub previous: i64,
    /// It may send an event again, under the same id: repeats are not counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retries: bool,
}

impl SourceRef {
    /// A source partition of which nothing was routed before.
    #[must_use]
    pub const fn new(source: SourcePartition, retries: bool) -> Self {
        Self { source, previous: -1, retries }
    }
}

/// A decoded message.
#[derive(Debug)]
pub struct Batch {
    header: Header,
    route: GroupBy,
    key_hash: ScalarBuffer<u64>,
    keys: Texts,
    principals: Texts,
    written: Texts,
    contexts: Texts,
    addresses: Texts,
    event_time: ScalarBuffer<i64>,
    rows: UInt64Array,
    bytes: UInt64Array,
    source: ScalarBuffer<u16>,
    offset: ScalarBuffer<i64>,
    row: ScalarBuffer<u32>,
    object: ScalarBuffer<u16>,
    event_id: StringArray,
    query_id: StringArray,
    fingerprint: StringArray,
}

/// A dictionary-encoded text column.
#[derive(Clone, Debug)]
pub struct Texts {
    column: DictionaryArray<UInt32Type>,
    values: StringArray,
}

impl Texts {
    /// Number of the row's text among [`Self::values`], `None` for null.
    #[inline]
    #[must_use]
    pub fn id(&self, row: usize) -> Option<usize> {
        self.column.keys().is_valid(row).then(|| self.column.keys().value(row) as usize)
    }

    /// The row's text.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&str> {
        self.id(row).map(|id| self.values.value(id))
    }

    /// Every distinct text.
    #[must_use]
    pub fn values(&self) -> &StringArray {
        &self.values
    }
}

/// Why a message of the events topic can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Not an Arrow IPC stream, or one cut short.
    #[error("message is no complete Arrow IPC stream: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// Damaged where Arrow itself does not look.
    #[error(transparent)]
    Damaged(#[from] super::DecodeError),
    /// No stream, or more than one batch in it.
    #[error("message holds {found} record batches, expected one")]
    Batches {
        /// How many there were.
        found: usize,
    },
    /// The metadata is absent or is no header.
    #[error("schema metadata `{METADATA_KEY}` is no header: {0}")]
    Header(String),
    /// Written by a newer version.
    #[error("message has format version {found}, this program reads up to {VERSION}")]
    Version {
        /// Version of the writer.
        found: u32,
    },
    /// A column is absent or of another type.
    #[error("column `{0}` is missing or of another type")]
    Column(&'static str),
    /// A row names a source partition that the header does not.
    #[error("row {row} names source {found} of {sources}")]
    Source {
        /// Index of the row.
        row: usize,
        /// What it names.
        found: u16,
        /// How many there are.
        sources: usize,
    },
}

impl Batch {
    /// Reads one message. Copies `payload` once; columns then point into that copy.
    pub fn decode(payload: &[u8]) -> Result<Self, BatchError> {
        let batches = ipc::guarded(|| {
            let mut buffer = Buffer::from(payload);
            let mut decoder = StreamDecoder::new();
            let mut batches = Vec::new();
            while !buffer.is_empty() {
                if let Some(batch) = decoder.decode(&mut buffer)? {
                    batches.push(batch);
                }
            }
            decoder.finish()?;
            Ok(batches)
        })?;
        match <[RecordBatch; 1]>::try_from(batches) {
            Ok([batch]) => Self::from_record_batch(&batch),
            Err(batches) => Err(BatchError::Batches { found: batches.len() }),
        }
    }

    /// Reads the columns of a record batch as a router built it.
    pub fn from_record_batch(batch: &RecordBatch) -> Result<Self, BatchError> {
        let metadata = batch.schema_ref().metadata().get(METADATA_KEY);
        let text = metadata.ok_or_else(|| BatchError::Header("it is absent".into()))?;
        let header: Header =
            serde_json::from_str(text).map_err(|error| BatchError::Header(error.to_string()))?;
        if header.version > VERSION {
            return Err(BatchError::Version { found: header.version });
        }
        let route = GroupBy::ALL.get(header.route).copied();
        let route = route
            .ok_or_else(|| BatchError::Header(format!("route {} is not known", header.route)))?;
        let read = Self {
            key_hash: primitive::<UInt64Type>(batch, "key_hash")?.values().clone(),
            keys: texts(batch, "key")?,
            principals: texts(batch, "principal")?,
            written: texts(batch, "written")?,
            contexts: texts(batch, "context")?,
            addresses: texts(batch, "client_address")?,
            event_time: primitive::<Int64Type>(batch, "event_time")?.values().clone(),
            rows: primitive::<UInt64Type>(batch, "rows")?.clone(),
            bytes: primitive::<UInt64Type>(batch, "bytes")?.clone(),
            source: primitive::<UInt16Type>(batch, "source")?.values().clone(),
            offset: primitive::<Int64Type>(batch, "offset")?.values().clone(),
            row: primitive::<UInt32Type>(batch, "row")?.values().clone(),
            object: primitive::<UInt16Type>(batch, "object")?.values().clone(),
            event_id: strings(batch, "event_id")?,
            query_id: strings(batch, "query_id")?,
            fingerprint: strings(batch, "query_fingerprint")?,
            header,
            route,
        };
        read.check()
    }

    /// Refuses what the accessors rely on: known sources, a key and a context on every row.
    fn check(self) -> Result<Self, BatchError> {
        let sources = self.header.sources.len();
        if let Some(row) = self.source.iter().position(|&source| usize::from(source) >= sources) {
            return Err(BatchError::Source { row, found: self.source[row], sources });
        }
        if self.keys.column.null_count() > 0 {
            return Err(BatchError::Column("key"));
        }
        if self.contexts.column.null_count() > 0 {
            return Err(BatchError::Column("context"));
        }
        Ok(self)
    }

    /// Rows in the message; 0 for a time mark.
    #[must_use]
    pub fn len(&self) -> usize {
        self.key_hash.len()
    }

    /// True for a time mark.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.key_hash.is_empty()
    }

    /// The grouping by which these rows were routed.
    #[must_use]
    pub const fn route(&self) -> GroupBy {
        self.route
    }

    /// Source partitions of the rows, or of a time mark.
    #[must_use]
    pub fn sources(&self) -> &[SourceRef] {
        &self.header.sources
    }

    /// The time mark, if this is one.
    #[must_use]
    pub fn mark(&self) -> Option<EventTime> {
        self.header.mark_ms.map(EventTime::from_millis)
    }

    /// Hash of the row's group key.
    #[inline]
    #[must_use]
    pub fn key_hash(&self, row: usize) -> KeyHash {
        KeyHash(self.key_hash[row])
    }

    /// The row's group key.
    #[must_use]
    pub fn key(&self, row: usize) -> &str {
        self.keys.get(row).unwrap_or_default()
    }

    /// The canonical principal; on the principal route it is the key.
    #[must_use]
    pub fn principal(&self, row: usize) -> &str {
        self.principals.get(row).unwrap_or_else(|| self.key(row))
    }

    /// The principal as the source wrote it.
    #[must_use]
    pub fn written_principal(&self, row: usize) -> &str {
        self.written.get(row).unwrap_or_else(|| self.principal(row))
    }

    /// Contexts as JSON, one a row.
    #[must_use]
    pub const fn contexts(&self) -> &Texts {
        &self.contexts
    }

    /// Client address.
    #[must_use]
    pub fn client_address(&self, row: usize) -> Option<&str> {
        self.addresses.get(row)
    }

    /// When the result was delivered, by the source's clock.
    #[inline]
    #[must_use]
    pub fn event_time(&self, row: usize) -> EventTime {
        EventTime::from_millis(self.event_time[row])
    }

    /// Records delivered, `None` when unknown.
    #[inline]
    #[must_use]
    pub fn rows(&self, row: usize) -> Option<u64> {
        self.rows.is_valid(row).then(|| self.rows.value(row))
    }

    /// Bytes delivered, `None` when unknown.
    #[inline]
    #[must_use]
    pub fn bytes(&self, row: usize) -> Option<u64> {
        self.bytes.is_valid(row).then(|| self.bytes.value(row))
    }

    /// Index of the row's source partition in [`Self::sources`].
    #[inline]
    #[must_use]
    pub fn source(&self, row: usize) -> usize {
        usize::from(self.source[row])
    }

    /// Whether the row's source may send an event again.
    #[inline]
    #[must_use]
    pub fn retries(&self, row: usize) -> bool {
        self.header.sources[self.source(row)].retries
    }

    /// Offset, row index and object index: with the source partition the row's identity (D1).
    #[inline]
    #[must_use]
    pub fn position(&self, row: usize) -> Position {
        Position { offset: Offset(self.offset[row]), row: self.row[row], object: self.object[row] }
    }

    /// The source's id of the event.
    #[must_use]
    pub fn event_id(&self, row: usize) -> Option<&str> {
        text_at(&self.event_id, row)
    }

    /// The source's id of the query.
    #[must_use]
    pub fn query_id(&self, row: usize) -> Option<&str> {
        text_at(&self.query_id, row)
    }

    /// Fingerprint of the query.
    #[must_use]
    pub fn query_fingerprint(&self, row: usize) -> Option<&str> {
        text_at(&self.fingerprint, row)
    }
}

/// A row's place within its source partition. Rows of one source partition are routed in this
/// order, so the highest one applied tells whether a row was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Offset of the record.
    pub offset: Offset,
    /// Row within the record.
    pub row: u32,
    /// Object within the event, for the object route; 0 otherwise.
    pub object: u16,
}

fn text_at(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

fn column<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<&'a ArrayRef, BatchError> {
    batch.column_by_name(name).ok_or(BatchError::Column(name))
}

fn primitive<'a, T: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &'static str,
) -> Result<&'a PrimitiveArray<T>, BatchError> {
    column(batch, name)?.as_primitive_opt::<T>().ok_or(BatchError::Column(name))
}

fn strings(batch: &RecordBatch, name: &'static str) -> Result<StringArray, BatchError> {
    column(batch, name)?.as_string_opt::<i32>().cloned().ok_or(BatchError::Column(name))
}

fn texts(batch: &RecordBatch, name: &'static str) -> Result<Texts, BatchError> {
    let column = column(batch, name)?.as_dictionary_opt::<UInt32Type>();
    let column = column.ok_or(BatchError::Column(name))?.clone();
    let values = column.values().as_string_opt::<i32>().ok_or(BatchError::Column(name))?.clone();
    if values.null_count() > 0 {
        return Err(BatchError::Column(name));
    }
    Ok(Texts { column, values })
}
