//! Collects the rows of one route and one events partition and writes them as one message.
//!
//! Dictionaries are private to a message. Memory is kept from message to message; Arrow takes the
//! column buffers, so what is allocated is allocated once a message and column, not a row.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BooleanBufferBuilder, DictionaryArray, Int64Array, PrimitiveArray, RecordBatch,
        StringBuilder, UInt16Array, UInt32Array, UInt64Array,
    },
    buffer::NullBuffer,
    datatypes::{Field, Schema, UInt32Type, UInt64Type},
    error::ArrowError,
    ipc::writer::StreamWriter,
};
use hashbrown::HashTable;

use crate::units::{EventTime, KeyHash, Offset};

use super::{
    Event, GroupBy,
    batch::{Header, METADATA_KEY, Position, SourceRef, VERSION},
};

/// Bytes of a row besides its texts, all columns together.
const ROW_BYTES: usize = 128;

/// A row on its way into a message.
pub(super) struct Row<'a, 'e> {
    pub(super) key: &'a str,
    pub(super) key_hash: KeyHash,
    /// Canonical principal and its hash, unless it is the key.
    pub(super) principal: Option<(&'a str, KeyHash)>,
    /// Principal as written, unless it is the canonical one.
    pub(super) written: Option<&'a str>,
    /// Interned context and its JSON.
    pub(super) context: (u32, &'a str),
    pub(super) source: u16,
    pub(super) position: Position,
    pub(super) event: &'a Event<'e>,
}

impl Row<'_, '_> {
    /// The most bytes that the row can add to a message.
    pub(super) fn bytes(&self) -> usize {
        let notes = [
            self.written,
            self.event.client_address.as_deref(),
            self.event.event_id.as_deref(),
            self.event.query_id.as_deref(),
            self.event.query_fingerprint.as_deref(),
        ];
        let principal = self.principal.map_or(0, |(principal, _)| principal.len());
        let notes: usize = notes.iter().flatten().map(|text| text.len()).sum();
        ROW_BYTES + self.key.len() + principal + self.context.1.len() + notes
    }
}

/// Rows of one route and one events partition.
#[derive(Debug, Default)]
pub(super) struct Builder {
    key_hash: Vec<u64>,
    keys: Dictionary,
    principals: Dictionary,
    written: Dictionary,
    contexts: Dictionary,
    addresses: Dictionary,
    event_time: Vec<i64>,
    rows: Counts,
    bytes: Counts,
    source: Vec<u16>,
    offset: Vec<i64>,
    row: Vec<u32>,
    object: Vec<u16>,
    event_id: StringBuilder,
    query_id: StringBuilder,
    fingerprint: StringBuilder,
    /// Source partitions of this message: the router's number and the offset before.
    sources: Vec<(u16, i64)>,
    /// By the router's number: the last offset routed here in this session.
    last: Vec<i64>,
    /// By the router's number: place in `sources` plus one, 0 for none.
    places: Vec<u16>,
}

impl Builder {
    pub(super) fn len(&self) -> usize {
        self.key_hash.len()
    }

    /// Bytes that the message would have now, about.
    pub(super) fn bytes(&self) -> usize {
        let dictionaries =
            [&self.keys, &self.principals, &self.written, &self.contexts, &self.addresses];
        let texts = [&self.event_id, &self.query_id, &self.fingerprint];
        self.len() * ROW_BYTES
            + dictionaries.iter().map(|dictionary| dictionary.bytes.len()).sum::<usize>()
            + texts.iter().map(|text| text.values_slice().len()).sum::<usize>()
    }

    pub(super) fn push(&mut self, row: &Row<'_, '_>) {
        let event = row.event;
        self.key_hash.push(row.key_hash.0);
        self.keys.push(row.key, row.key_hash.0);
        match row.principal {
            Some((principal, hash)) => self.principals.push(principal, hash.0),
            None => self.principals.push_null(),
        }
        self.written.push_option(row.written);
        self.contexts.push_unique(row.context.1, row.context.0);
        self.addresses.push_option(event.client_address.as_deref());
        self.event_time.push(event.event_time.millis());
        self.rows.push(event.rows);
        self.bytes.push(event.bytes);
        let place = self.place(row.source, row.position.offset);
        self.source.push(place);
        self.offset.push(row.position.offset.0);
        self.row.push(row.position.row);
        self.object.push(row.position.object);
        self.event_id.append_option(event.event_id.as_deref());
        self.query_id.append_option(event.query_id.as_deref());
        self.fingerprint.append_option(event.query_fingerprint.as_deref());
    }

    fn place(&mut self, source: u16, offset: Offset) -> u16 {
        let number = usize::from(source);
        if number >= self.places.len() {
            self.places.resize(number + 1, 0);
            self.last.resize(number + 1, -1);
        }
        if self.places[number] == 0 {
            self.sources.push((source, self.last[number]));
            self.places[number] = u16::try_from(self.sources.len()).unwrap_or(u16::MAX);
        }
        self.last[number] = offset.0;
        self.places[number] - 1
    }

    /// What was collected, for one message; the next one starts.
    pub(super) fn finish(
        &mut self,
        route: GroupBy,
        sources: &[SourceRef],
    ) -> Result<RecordBatch, ArrowError> {
        let named = self.sources.iter().map(|&(number, previous)| SourceRef {
            previous,
            ..sources[usize::from(number)].clone()
        });
        let header = header(route, named.collect(), None);
        for (number, _) in self.sources.drain(..) {
            self.places[usize::from(number)] = 0;
        }
        self.take(&header)
    }

    fn take(&mut self, header: &str) -> Result<RecordBatch, ArrowError> {
        let columns: [(&str, ArrayRef); 16] = [
            ("key_hash", Arc::new(UInt64Array::from(std::mem::take(&mut self.key_hash)))),
            ("key", Arc::new(self.keys.finish()?)),
            ("principal", Arc::new(self.principals.finish()?)),
            ("written", Arc::new(self.written.finish()?)),
            ("context", Arc::new(self.contexts.finish()?)),
            ("client_address", Arc::new(self.addresses.finish()?)),
            ("event_time", Arc::new(Int64Array::from(std::mem::take(&mut self.event_time)))),
            ("rows", Arc::new(self.rows.finish())),
            ("bytes", Arc::new(self.bytes.finish())),
            ("source", Arc::new(UInt16Array::from(std::mem::take(&mut self.source)))),
            ("offset", Arc::new(Int64Array::from(std::mem::take(&mut self.offset)))),
            ("row", Arc::new(UInt32Array::from(std::mem::take(&mut self.row)))),
            ("object", Arc::new(UInt16Array::from(std::mem::take(&mut self.object)))),
            ("event_id", Arc::new(self.event_id.finish())),
            ("query_id", Arc::new(self.query_id.finish())),
            ("query_fingerprint", Arc::new(self.fingerprint.finish())),
        ];
        batch(header, columns)
    }
}

/// A time mark: a message without rows that says how far time has come on `sources` (W6).
pub(super) fn mark(
    route: GroupBy,
    at: EventTime,
    sources: Vec<SourceRef>,
) -> Result<RecordBatch, ArrowError> {
    Builder::default().take(&header(route, sources, Some(at.millis())))
}

fn header(route: GroupBy, sources: Vec<SourceRef>, mark_ms: Option<i64>) -> String {
    let header = Header { version: VERSION, route: route as usize, sources, mark_ms };
    serde_json::to_string(&header).expect("plain strings and numbers always serialise")
}

fn batch(header: &str, columns: [(&str, ArrayRef); 16]) -> Result<RecordBatch, ArrowError> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), header.to_owned())]);
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, column)| column).collect())
}

/// The message that a batch becomes.
pub(super) fn encode(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let size: usize = batch.columns().iter().map(|column| column.get_buffer_memory_size()).sum();
    let mut writer = StreamWriter::try_new(Vec::with_capacity(size + 4096), batch.schema_ref())?;
    writer.write(batch)?;
    writer.into_inner()
}

/// Optional counts of a column.
#[derive(Debug)]
struct Counts {
    values: Vec<u64>,
    valid: BooleanBufferBuilder,
}

impl Default for Counts {
    fn default() -> Self {
        Self { values: Vec::new(), valid: BooleanBufferBuilder::new(0) }
    }
}

impl Counts {
    fn push(&mut self, count: Option<u64>) {
        self.values.push(count.unwrap_or(0));
        self.valid.append(count.is_some());
    }

    fn finish(&mut self) -> PrimitiveArray<UInt64Type> {
        let valid = NullBuffer::new(self.valid.finish());
        PrimitiveArray::new(std::mem::take(&mut self.values).into(), Some(valid))
    }
}

/// Distinct texts of a column, private to a message.
#[derive(Debug, Default)]
struct Dictionary {
    ids: Vec<u32>,
    valid: Vec<bool>,
    nulls: usize,
    /// Offsets and bytes of the distinct texts.
    ends: Vec<u32>,
    bytes: String,
    table: HashTable<(u64, u32)>,
    hasher: foldhash::fast::RandomState,
}

impl Dictionary {
    fn push_null(&mut self) {
        self.ids.push(0);
        self.valid.push(false);
        self.nulls += 1;
    }

    fn push_option(&mut self, text: Option<&str>) {
        match text {
            Some(text) => {
                let hash = std::hash::BuildHasher::hash_one(&self.hasher, text);
                self.push(text, hash);
            }
            None => self.push_null(),
        }
    }

    /// Appends a text whose hash the caller has already.
    fn push(&mut self, text: &str, hash: u64) {
        let (ends, bytes) = (&self.ends, &self.bytes);
        let known =
            self.table.find(hash, |&(known, id)| known == hash && text_of(ends, bytes, id) == text);
        let known = known.map(|&(_, id)| id);
        self.push_id(known, text, hash);
    }

    /// Appends a text that is known by a number of its own: equal numbers are equal texts.
    fn push_unique(&mut self, text: &str, number: u32) {
        // Spreads small numbers over the table (Fibonacci hashing, Knuth 6.4).
        let hash = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let known = self.table.find(hash, |&(known, _)| known == hash).map(|&(_, id)| id);
        self.push_id(known, text, hash);
    }

    fn push_id(&mut self, known: Option<u32>, text: &str, hash: u64) {
        let id = known.unwrap_or_else(|| {
            let id = self.append(text);
            self.table.insert_unique(hash, (hash, id), |&(hash, _)| hash);
            id
        });
        self.ids.push(id);
        self.valid.push(true);
    }

    fn append(&mut self, text: &str) -> u32 {
        self.bytes.push_str(text);
        let id = u32::try_from(self.ends.len()).expect("a message holds fewer than 2^32 rows");
        self.ends.push(u32::try_from(self.bytes.len()).expect("a message is smaller than 4 GiB"));
        id
    }

    fn finish(&mut self) -> Result<DictionaryArray<UInt32Type>, ArrowError> {
        let mut values = StringBuilder::with_capacity(self.ends.len(), self.bytes.len());
        let mut start = 0;
        for &end in &self.ends {
            values.append_value(&self.bytes[start..end as usize]);
            start = end as usize;
        }
        let nulls = (self.nulls > 0).then(|| NullBuffer::from(self.valid.as_slice()));
        let ids = UInt32Array::new(std::mem::take(&mut self.ids).into(), nulls);
        self.valid.clear();
        self.nulls = 0;
        self.ends.clear();
        self.bytes.clear();
        self.table.clear();
        DictionaryArray::try_new(ids, Arc::new(values.finish()))
    }
}

fn text_of<'a>(ends: &[u32], bytes: &'a str, id: u32) -> &'a str {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] as usize };
    &bytes[start..ends[id] as usize]
}
