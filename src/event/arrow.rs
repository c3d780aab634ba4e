//! Arrow: one self-contained IPC stream a record, many rows of the canonical columns.
//!
//! Every batch of the stream is read. Columns are matched by name, whatever their order; others are
//! passed over unread. A name is flat and dotted (`principal.id`, `source.kind`, `client.address`,
//! `query.id`) or the child of a struct column (`principal` with `id`). Accepted types:
//!
//! | columns | types |
//! | --- | --- |
//! | texts, `destination`, `rows_quality` | `Utf8`, `LargeUtf8`, `Utf8View`, dictionaries of them |
//! | `event_time` | timestamp of any unit in UTC, any integer as milliseconds, RFC 3339 text |
//! | `rows`, `rows_written`, `bytes`, `row_count` | integers of any width and sign |
//! | `success` | boolean |
//! | `principal.groups`, `labels` | `List` or `LargeList` of text |
//! | `objects` | `List` or `LargeList` of text or of structs with the fields of the schema |
//!
//! `principal` and `client_address` have their short forms here too, and a column of type `Null` is
//! absent. A row that is no event is refused and its neighbours go on; a column of a wrong type or
//! a malformed stream is refused whole, before any row is handed over.

use std::borrow::Cow;

use arrow::array::RecordBatch;
use arrow::buffer::NullBuffer;

use super::columns::{Counts, Flags, Found, Lists, Texts, Times, missing_item};
use super::draft::{self, Draft, GROUPS_MAX, LABELS_MAX, OBJECTS_MAX, Objects};
use super::ipc::read_stream;
use super::{DecodeError, Decoder, Object, Outcome, SourceDefaults};

/// Fields that are read, flat or from a struct named by what stands before the dot.
const FIELDS: [&str; 22] = [
    "event_id",
    "event_time",
    "principal.id",
    "principal.type",
    "principal.groups",
    "principal.tenant",
    "source.kind",
    "source.instance",
    "source.database",
    "objects",
    "operation",
    "destination",
    "rows",
    "rows_quality",
    "rows_written",
    "bytes",
    "client.address",
    "client.application",
    "client_address",
    "query.id",
    "query.fingerprint",
    "success",
];

fn is_read(column: &str) -> bool {
    FIELDS.iter().any(|field| *field == column || field.split('.').next() == Some(column))
}

/// Decodes Arrow IPC streams.
#[derive(Debug, Default)]
pub struct ArrowDecoder {}

impl Decoder for ArrowDecoder {
    fn decode(
        &mut self,
        payload: &[u8],
        defaults: &SourceDefaults,
        sink: &mut dyn FnMut(u32, Outcome<'_, '_>),
    ) -> Result<(), DecodeError> {
        // All of it before any row: a stream that is refused has counted nothing, so that its dead
        // letter may be sent again once it is mended.
        let mut batches = Vec::new();
        read_stream(payload, is_read, |batch| {
            batches.push(batch);
            Ok(())
        })?;
        let columns = batches.iter().map(Columns::new).collect::<Result<Vec<_>, _>>()?;
        let mut index = 0;
        for (batch, columns) in batches.iter().zip(&columns) {
            for row in 0..batch.num_rows() {
                match columns.draft(row).and_then(|draft| draft.finish(defaults)) {
                    Ok(event) => sink(index, Outcome::Event(&event)),
                    Err(error) => sink(index, Outcome::Refused(error)),
                }
                index += 1;
            }
        }
        Ok(())
    }
}

/// The columns of one batch.
struct Columns<'b> {
    event_id: Option<Texts<'b>>,
    event_time: Option<Times<'b>>,
    principal_id: Option<Texts<'b>>,
    principal_kind: Option<Texts<'b>>,
    groups: Option<Lists<Texts<'b>>>,
    tenant: Option<Texts<'b>>,
    source_kind: Option<Texts<'b>>,
    instance: Option<Texts<'b>>,
    database: Option<Texts<'b>>,
    objects: Option<Lists<ObjectItems<'b>>>,
    operation: Option<Texts<'b>>,
    destination: Option<Texts<'b>>,
    rows: Option<Counts>,
    rows_quality: Option<Texts<'b>>,
    rows_written: Option<Counts>,
    bytes: Option<Counts>,
    client_address: Option<Texts<'b>>,
    client_application: Option<Texts<'b>>,
    query_id: Option<Texts<'b>>,
    query_fingerprint: Option<Texts<'b>>,
    success: Option<Flags<'b>>,
}

impl<'b> Columns<'b> {
    fn new(batch: &'b RecordBatch) -> Result<Self, DecodeError> {
        for parent in ["source", "client", "query"] {
            if let Some(found) = Found::in_batch(batch, parent)? {
                found.struct_or_null(parent)?;
            }
        }
        let text = |field| column(batch, field, Texts::new);
        let count = |field| column(batch, field, Counts::new);
        let mut principal_id = text("principal.id")?;
        if let Some(short) = Found::in_batch(batch, "principal")?
            && !short.is_struct()
        {
            let short = Texts::new(&short, "principal")?;
            draft::put(&mut principal_id, Some(short), "principal.id")?;
        }
        let mut client_address = text("client.address")?;
        draft::put(&mut client_address, text("client_address")?, "client.address")?;
        Ok(Self {
            event_id: text("event_id")?,
            event_time: column(batch, "event_time", Times::new)?,
            principal_id,
            principal_kind: text("principal.type")?,
            groups: lists(
                Found::in_batch(batch, "principal.groups")?,
                "principal.groups",
                GROUPS_MAX,
            )?,
            tenant: text("principal.tenant")?,
            source_kind: text("source.kind")?,
            instance: text("source.instance")?,
            database: text("source.database")?,
            objects: match Found::in_batch(batch, "objects")? {
                Some(found) => Lists::new(&found, "objects", OBJECTS_MAX, ObjectItems::new)?,
                None => None,
            },
            operation: text("operation")?,
            destination: text("destination")?,
            rows: count("rows")?,
            rows_quality: text("rows_quality")?,
            rows_written: count("rows_written")?,
            bytes: count("bytes")?,
            client_address,
            client_application: text("client.application")?,
            query_id: text("query.id")?,
            query_fingerprint: text("query.fingerprint")?,
            success: column(batch, "success", Flags::new)?,
        })
    }

    /// One row, borrowed from the batch.
    fn draft(&self, row: usize) -> Result<Draft<'b>, DecodeError> {
        let text =
            |column: &Option<Texts<'b>>| column.as_ref().map_or(Ok(None), |texts| texts.text(row));
        let note = |column: &Option<Texts<'b>>| column.as_ref().and_then(|texts| texts.note(row));
        let name = |column: &Option<Texts<'b>>| column.as_ref().and_then(|texts| texts.get(row));
        let count = |column: &Option<Counts>| column.as_ref().map_or(Ok(None), |c| c.get(row));
        let destination = name(&self.destination);
        let quality = name(&self.rows_quality);
        Ok(Draft {
            event_id: note(&self.event_id),
            event_time: self.event_time.as_ref().map_or(Ok(None), |times| times.get(row))?,
            principal_id: text(&self.principal_id)?,
            principal_kind: note(&self.principal_kind),
            groups: self.groups.as_ref().map_or(Ok(None), |lists| lists.texts(row))?,
            tenant: text(&self.tenant)?,
            source_kind: text(&self.source_kind)?,
            instance: text(&self.instance)?,
            database: text(&self.database)?,
            objects: self.objects.as_ref().map_or(Ok(None), |lists| objects(lists, row))?,
            operation: text(&self.operation)?,
            destination: destination.map_or(Ok(None), |t| draft::destination(t, "destination"))?,
            rows: count(&self.rows)?,
            rows_quality: quality.map_or(Ok(None), |t| draft::rows_quality(t, "rows_quality"))?,
            rows_written: count(&self.rows_written)?,
            bytes: count(&self.bytes)?,
            client_address: note(&self.client_address),
            client_application: note(&self.client_application),
            query_id: note(&self.query_id),
            query_fingerprint: note(&self.query_fingerprint),
            success: self.success.as_ref().and_then(|flags| flags.get(row)),
        })
    }
}

fn column<'b, T>(
    batch: &'b RecordBatch,
    field: &'static str,
    make: impl FnOnce(&Found<'b>, &'static str) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    Found::in_batch(batch, field)?.map(|found| make(&found, field)).transpose()
}

/// A column of lists of texts.
fn lists<'b>(
    found: Option<Found<'b>>,
    field: &'static str,
    max: usize,
) -> Result<Option<Lists<Texts<'b>>>, DecodeError> {
    match found {
        Some(found) => Lists::new(&found, field, max, |items| Texts::new(items, field)),
        None => Ok(None),
    }
}

/// The items of all lists of `objects`.
enum ObjectItems<'b> {
    /// Full names.
    Names(Texts<'b>),
    /// Structs.
    Structs(Box<ObjectColumns<'b>>),
}

struct ObjectColumns<'b> {
    nulls: Option<NullBuffer>,
    database: Option<Texts<'b>>,
    schema: Option<Texts<'b>>,
    name: Option<Texts<'b>>,
    labels: Option<Lists<Texts<'b>>>,
    row_count: Option<Counts>,
}

impl<'b> ObjectItems<'b> {
    fn new(found: &Found<'b>) -> Result<Self, DecodeError> {
        if !found.is_struct() {
            return Texts::new(found, "objects").map(Self::Names);
        }
        let child = |name, field| {
            found.child(name, field)?.map(|child| Texts::new(&child, field)).transpose()
        };
        let row_count = found.child("row_count", "objects[].row_count")?;
        Ok(Self::Structs(Box::new(ObjectColumns {
            nulls: found.nulls(),
            database: child("database", "objects[].database")?,
            schema: child("schema", "objects[].schema")?,
            name: child("name", "objects[].name")?,
            labels: lists(found.child("labels", LABELS)?, LABELS, LABELS_MAX)?,
            row_count: row_count.map(|c| Counts::new(&c, "objects[].row_count")).transpose()?,
        })))
    }

    fn object(&self, at: usize) -> Result<Object<'b>, DecodeError> {
        let columns = match self {
            Self::Names(names) => {
                let name = names.get(at).ok_or_else(|| missing_item("objects"))?;
                let name = draft::text(Cow::Borrowed(name), "objects")?.ok_or(draft::NAMELESS)?;
                return Ok(Object { name, full: true, ..Object::default() });
            }
            Self::Structs(columns) => columns,
        };
        if columns.nulls.as_ref().is_some_and(|nulls| nulls.is_null(at)) {
            return Err(missing_item("objects"));
        }
        let text =
            |column: &Option<Texts<'b>>| column.as_ref().map_or(Ok(None), |texts| texts.text(at));
        Ok(Object {
            database: text(&columns.database)?,
            schema: text(&columns.schema)?,
            name: text(&columns.name)?.ok_or(draft::NAMELESS)?,
            full: false,
            labels: columns.labels.as_ref().map_or(Ok(None), |l| l.texts(at))?.unwrap_or_default(),
            row_count: columns.row_count.as_ref().map_or(Ok(None), |counts| counts.get(at))?,
        })
    }
}

const LABELS: &str = "objects[].labels";

fn objects<'b>(
    lists: &Lists<ObjectItems<'b>>,
    row: usize,
) -> Result<Option<Objects<'b>>, DecodeError> {
    let Some(range) = lists.range(row)? else { return Ok(None) };
    range.map(|at| lists.items.object(at)).collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests;
