//! The Arrow decoder against streams in every accepted shape, damaged ones and hostile ones.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int16Array, Int64Array, ListArray, ListBuilder, NullArray,
    RecordBatch, StringArray, StringBuilder, StructArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use proptest::prelude::*;

use super::super::ipc::{STREAM_BYTES_MAX, STREAM_ROWS_MAX};
use super::super::testing::{arb_event, assert_same, decode, event, mutated, refusal, to_json};
use super::super::{Event, Format};
use super::*;

/// How a stream is written.
#[derive(Clone, Debug)]
struct Shape {
    text: DataType,
    time: DataType,
    nested: bool,
    large_lists: bool,
    compression: Option<CompressionType>,
    batch_rows: usize,
}

fn dictionary(keys: DataType, values: DataType) -> DataType {
    DataType::Dictionary(Box::new(keys), Box::new(values))
}

fn arb_shape() -> impl Strategy<Value = Shape> {
    let text = prop::sample::select(vec![
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        dictionary(DataType::Int32, DataType::Utf8),
        dictionary(DataType::UInt16, DataType::LargeUtf8),
    ]);
    let time = prop::sample::select(vec![
        DataType::Int64,
        DataType::Timestamp(TimeUnit::Millisecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
    ]);
    let compression = prop::sample::select(vec![
        None,
        Some(CompressionType::LZ4_FRAME),
        Some(CompressionType::ZSTD),
    ]);
    (text, time, any::<bool>(), any::<bool>(), compression, 1..4_usize).prop_map(
        |(text, time, nested, large_lists, compression, batch_rows)| Shape {
            text,
            time,
            nested,
            large_lists,
            compression,
            batch_rows,
        },
    )
}

type Named = (String, ArrayRef);

fn batch_of(columns: Vec<Named>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)))
        .unwrap()
}

fn stream_of(batches: &[RecordBatch], compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let schema = batches[0].schema();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

/// A stream of one batch.
fn stream(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let columns = columns.into_iter().map(|(name, array)| (name.to_owned(), array)).collect();
    stream_of(&[batch_of(columns)], None)
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// What every event needs, for `ids.len()` rows.
fn least(ids: &[&str]) -> Vec<(&'static str, ArrayRef)> {
    let times = vec![1_775_036_022_123_i64; ids.len()];
    vec![
        ("event_time", Arc::new(Int64Array::from(times)) as ArrayRef),
        ("principal", texts(ids)),
        ("source.kind", texts(&vec!["x"; ids.len()])),
    ]
}

fn with(ids: &[&str], more: Vec<(&'static str, ArrayRef)>) -> Vec<u8> {
    stream(least(ids).into_iter().chain(more).collect())
}

fn rows(values: &[i64]) -> (&'static str, ArrayRef) {
    ("rows", Arc::new(Int64Array::from(values.to_vec())))
}

fn structure(columns: Vec<Named>) -> ArrayRef {
    let fields = columns.iter().map(|(n, a)| Field::new(n, a.data_type().clone(), true));
    let fields = fields.collect::<Vec<_>>();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    Arc::new(StructArray::new(fields.into(), arrays, None))
}

fn list_of(lengths: impl Iterator<Item = usize>, items: ArrayRef, large: bool) -> ArrayRef {
    let field = Arc::new(Field::new("item", items.data_type().clone(), true));
    let list = ListArray::new(field.clone(), OffsetBuffer::from_lengths(lengths), items, None);
    let to = DataType::LargeList(field);
    if large { cast(&list, &to).unwrap() } else { Arc::new(list) }
}

/// `events` as one stream.
fn to_arrow(events: &[Event<'_>], shape: &Shape) -> Vec<u8> {
    let batches: Vec<_> = events.chunks(shape.batch_rows).map(|c| to_batch(c, shape)).collect();
    stream_of(&batches, shape.compression)
}

fn to_batch(events: &[Event<'_>], shape: &Shape) -> RecordBatch {
    let text = |get: &dyn Fn(&Event<'_>) -> Option<String>| {
        let written: StringArray = events.iter().map(get).collect();
        cast(&written, &shape.text).unwrap()
    };
    let count = |get: &dyn Fn(&Event<'_>) -> Option<u64>| -> ArrayRef {
        Arc::new(events.iter().map(get).collect::<UInt64Array>())
    };
    let own = |text: &Option<super::super::Text<'_>>| text.as_deref().map(str::to_owned);
    let times: Int64Array = events.iter().map(|e| Some(e.event_time.millis())).collect();
    let millis = cast(&times, &DataType::Timestamp(TimeUnit::Millisecond, None)).unwrap();
    let time = if shape.time == DataType::Int64 {
        Arc::new(times)
    } else {
        cast(&millis, &shape.time).unwrap()
    };
    let groups: StringArray =
        events.iter().flat_map(|e| &e.principal.groups).map(|group| Some(&**group)).collect();
    let groups = cast(&groups, &shape.text).unwrap();
    let lengths = events.iter().map(|event| event.principal.groups.len());
    let columns = vec![
        ("event_id", text(&|e| own(&e.event_id))),
        ("event_time", time),
        ("principal.id", text(&|e| Some(e.principal.id.to_string()))),
        ("principal.type", text(&|e| own(&e.principal.kind))),
        ("principal.groups", list_of(lengths, groups, shape.large_lists)),
        ("principal.tenant", text(&|e| own(&e.principal.tenant))),
        ("source.kind", text(&|e| Some(e.source.kind.to_string()))),
        ("source.instance", text(&|e| own(&e.source.instance))),
        ("source.database", text(&|e| own(&e.source.database))),
        ("objects", objects_of(events, shape)),
        ("operation", text(&|e| own(&e.operation))),
        ("destination", text(&|e| Some(e.destination.as_str().to_owned()))),
        ("rows", count(&|e| e.rows)),
        ("rows_quality", text(&|e| Some(e.rows_quality.as_str().to_owned()))),
        ("rows_written", count(&|e| Some(e.rows_written))),
        ("bytes", count(&|e| e.bytes)),
        ("client.address", text(&|e| own(&e.client_address))),
        ("client.application", text(&|e| own(&e.client_application))),
        ("query.id", text(&|e| own(&e.query_id))),
        ("query.fingerprint", text(&|e| own(&e.query_fingerprint))),
        ("success", Arc::new(events.iter().map(|e| e.success).collect::<BooleanArray>())),
        ("unknown", Arc::new(NullArray::new(events.len()))),
    ];
    let columns = columns.into_iter().map(|(name, array)| (name.to_owned(), array)).collect();
    batch_of(if shape.nested { nest(columns) } else { columns })
}

/// Flat columns with dotted names, gathered into structs.
fn nest(columns: Vec<Named>) -> Vec<Named> {
    let mut nested: Vec<(String, Vec<Named>)> = Vec::new();
    let mut out = Vec::new();
    for (name, array) in columns {
        match name.split_once('.') {
            None => out.push((name, array)),
            Some((parent, child)) => match nested.iter_mut().find(|(name, _)| name == parent) {
                Some((_, children)) => children.push((child.to_owned(), array)),
                None => nested.push((parent.to_owned(), vec![(child.to_owned(), array)])),
            },
        }
    }
    out.extend(nested.into_iter().map(|(name, children)| (name, structure(children))));
    out
}

/// As structs, so an object written as its full name is left to another test.
fn objects_of(events: &[Event<'_>], shape: &Shape) -> ArrayRef {
    let all: Vec<_> = events.iter().flat_map(|event| &event.objects).collect();
    let text = |get: &dyn Fn(&Object<'_>) -> Option<String>| {
        cast(&all.iter().map(|object| get(object)).collect::<StringArray>(), &shape.text).unwrap()
    };
    let labels: StringArray =
        all.iter().flat_map(|o| &o.labels).map(|label| Some(&**label)).collect();
    let labels = cast(&labels, &shape.text).unwrap();
    let items = structure(vec![
        ("database".into(), text(&|o| o.database.as_deref().map(str::to_owned))),
        ("schema".into(), text(&|o| o.schema.as_deref().map(str::to_owned))),
        ("name".into(), text(&|o| Some(o.name.to_string()))),
        ("labels".into(), list_of(all.iter().map(|o| o.labels.len()), labels, shape.large_lists)),
        ("row_count".into(), Arc::new(all.iter().map(|o| o.row_count).collect::<UInt64Array>())),
    ]);
    list_of(events.iter().map(|event| event.objects.len()), items, shape.large_lists)
}

fn ids_and_refusals(payload: &[u8]) -> Vec<Result<String, &'static str>> {
    let mut seen = Vec::new();
    let outcome = decode(Format::Arrow, payload, &mut |outcome| match outcome {
        Outcome::Event(event) => seen.push(Ok(event.principal.id.to_string())),
        Outcome::Refused(error) => seen.push(Err(error.code())),
        Outcome::Ignored(_) => unreachable!("no row is ignored"),
    });
    assert_eq!(outcome, Ok(u32::try_from(seen.len()).unwrap()));
    seen
}

#[test]
fn a_bad_row_is_refused_and_its_neighbours_go_on() {
    let payload = with(&["ann", "bob", "", "dan"], vec![rows(&[1, -1, 3, 4])]);
    let expected = [Ok("ann".into()), Err("invalid_field"), Err("no_identity"), Ok("dan".into())];
    assert_eq!(ids_and_refusals(&payload), expected);
}

#[test]
fn every_batch_of_a_stream_is_read_and_rows_are_numbered_through() {
    let batch = |id: &str| {
        let columns = least(&[id, id]).into_iter().chain([rows(&[1, 1])]);
        batch_of(columns.map(|(name, array)| (name.to_owned(), array)).collect())
    };
    let payload = stream_of(&[batch("ann"), batch("bob"), batch("cat")], None);
    let ids: Vec<_> = ids_and_refusals(&payload).into_iter().map(Result::unwrap).collect();
    assert_eq!(ids, ["ann", "ann", "bob", "bob", "cat", "cat"]);
}

#[test]
fn a_stream_without_rows_is_no_event_and_no_fault() {
    assert_eq!(ids_and_refusals(&with(&[], vec![])), []);
}

#[test]
fn a_null_count_is_unknown_and_never_zero() {
    let counts: ArrayRef = Arc::new(Int16Array::from(vec![None, Some(7)]));
    let bytes: ArrayRef = Arc::new(UInt64Array::from(vec![9, 9]));
    let payload = with(&["ann", "bob"], vec![("rows", counts), ("bytes", bytes)]);
    let mut counted = Vec::new();
    let mut see = |outcome: Outcome<'_, '_>| {
        let Outcome::Event(event) = outcome else { panic!("{outcome:?}") };
        counted.push((event.rows, event.rows_quality.as_str()));
    };
    decode(Format::Arrow, &payload, &mut see).unwrap();
    assert_eq!(counted, [(None, "unknown"), (Some(7), "exact")]);
}

#[test]
fn a_dictionary_without_values_has_only_nulls() {
    let empty = dictionary(DataType::Int8, DataType::Utf8);
    let nulls = arrow::array::new_null_array(&empty, 2);
    let payload = with(&["ann", "bob"], vec![rows(&[1, 2]), ("operation", nulls)]);
    assert_eq!(ids_and_refusals(&payload).len(), 2);
}

#[test]
fn objects_may_be_full_names() {
    let mut names = ListBuilder::new(StringBuilder::new());
    names.append_value([Some("crm.public.customers"), Some("crm.public.orders")]);
    let payload = with(&["ann"], vec![rows(&[1]), ("objects", Arc::new(names.finish()))]);
    event(Format::Arrow, &payload, |event| {
        assert!(event.objects[0].full && event.objects[0].name == "crm.public.customers");
        assert_eq!(event.objects.len(), 2);
    });
}

#[test]
fn a_null_struct_hides_what_its_children_hold() {
    let fields = vec![Field::new("id", DataType::Utf8, true)];
    let nulls = vec![true, false].into();
    let people = StructArray::new(fields.into(), vec![texts(&["ann", "bob"])], Some(nulls));
    let mut columns = least(&["", ""]);
    columns[1] = ("principal", Arc::new(people));
    columns.push(rows(&[1, 2]));
    assert_eq!(ids_and_refusals(&stream(columns)), [Ok("ann".into()), Err("no_identity")]);
}

#[test]
fn a_column_of_a_wrong_type_is_refused_by_its_name() {
    let wrong: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
    for field in ["rows", "event_id", "objects", "principal.groups", "source", "query.id"] {
        let error = refusal(Format::Arrow, &with(&["ann"], vec![(field, wrong.clone())]));
        assert_eq!(error.code(), "invalid_field");
        assert!(error.to_string().contains(field), "{error}");
    }
    let floats: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![1.5]));
    assert_eq!(
        refusal(Format::Arrow, &with(&["ann"], vec![("rows", floats)])).code(),
        "invalid_field"
    );
}

#[test]
fn a_column_that_is_there_twice_is_refused() {
    let twice = with(&["ann"], vec![rows(&[1]), ("principal.id", texts(&["bob"]))]);
    assert!(refusal(Format::Arrow, &twice).to_string().contains("twice"));
    let twice = with(&["ann"], vec![rows(&[1]), rows(&[100])]);
    assert!(refusal(Format::Arrow, &twice).to_string().contains("twice"));
}

#[test]
fn times_are_read_in_any_unit_and_refused_out_of_range() {
    let millis = 1_775_036_022_123_i64;
    let written = TimestampMillisecondArray::from(vec![millis, -1, i64::MAX]);
    let read = |array: ArrayRef| {
        let mut columns = least(&["a", "b", "c"]);
        columns[0] = ("event_time", array);
        columns.push(rows(&[1, 1, 1]));
        let mut times = Vec::new();
        let mut see = |outcome: Outcome<'_, '_>| match outcome {
            Outcome::Event(event) => times.push(event.event_time.millis()),
            Outcome::Refused(error) => assert_eq!(error.code(), "invalid_field"),
            Outcome::Ignored(_) => unreachable!(),
        };
        decode(Format::Arrow, &stream(columns), &mut see).unwrap();
        times
    };
    assert_eq!(read(Arc::new(written)), [millis, -1]);
    let unsigned = UInt64Array::from(vec![5, u64::MAX, 6]);
    assert_eq!(read(Arc::new(unsigned)), [5, 6]);
    let nanos = arrow::array::TimestampNanosecondArray::from(vec![1_999_999, -1, 0]);
    assert_eq!(read(Arc::new(nanos.with_timezone("UTC"))), [1, -1, 0]);
    let text = texts(&["1970-01-01T00:00:01Z", "soon", "1970-01-01T01:00:00+01:00"]);
    assert_eq!(read(text), [1000, 0]);
}

#[test]
fn what_is_no_stream_is_refused_as_bad_syntax() {
    let whole = with(&["ann"], vec![rows(&[1])]);
    let trailing = [&whole[..], b"x"].concat();
    let two = [&whole[..], &whole[..]].concat();
    let cut = &whole[..whole.len() - 20];
    for payload in [&b""[..], b"ARROW1", &[0xff; 8], cut, &trailing, &two] {
        assert_eq!(refusal(Format::Arrow, payload).code(), "syntax");
    }
}

#[test]
fn too_many_rows_or_bytes_are_refused_before_any_row_is_handed_over() {
    let nulls = |rows: usize| {
        let column: ArrayRef = Arc::new(NullArray::new(rows));
        stream(vec![("rows", column)])
    };
    let error = decode(Format::Arrow, &nulls(STREAM_ROWS_MAX + 1), &mut |_| panic!("a row"));
    assert_eq!(error.unwrap_err().code(), "too_large");
    let huge = vec![0; STREAM_BYTES_MAX + 1];
    assert_eq!(refusal(Format::Arrow, &huge).code(), "too_large");
}

#[test]
fn a_small_stream_cannot_ask_for_much_memory() {
    let names = vec!["the same name again"; 4096];
    let columns = least(&names);
    let column = |(name, array): (&str, ArrayRef)| (name.to_owned(), array);
    let batch = batch_of(columns.into_iter().map(column).collect());
    let mut payload = stream_of(&[batch], Some(CompressionType::ZSTD));
    // Every prefix that says how much a buffer expands to, made to say a terabyte.
    let plain = (4097_u64 * 4).to_le_bytes();
    let places: Vec<_> =
        (0..payload.len() - 8).filter(|&at| payload[at..at + 8] == plain).collect();
    assert!(!places.is_empty());
    for at in places {
        payload[at..at + 8].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    }
    assert_eq!(refusal(Format::Arrow, &payload).code(), "too_large");
}

#[test]
fn a_large_dictionary_cannot_be_read_once_for_each_of_many_batches() {
    let long = "x".repeat(1 << 20);
    let kind = cast(&texts(&[&long]), &dictionary(DataType::Int32, DataType::Utf8)).unwrap();
    let batch = batch_of(vec![("source.kind".to_owned(), kind)]);
    let payload = stream_of(&vec![batch; 1100], None);
    assert!(payload.len() < STREAM_BYTES_MAX);
    assert_eq!(refusal(Format::Arrow, &payload).code(), "too_large");
}

#[test]
fn columns_that_are_not_read_may_have_any_type() {
    let runs = arrow::array::RunArray::<arrow::datatypes::Int32Type>::from_iter(["a"]);
    let schema = Schema::new(vec![
        Field::new("extra", runs.data_type().clone(), true),
        Field::new("rows", DataType::Null, true),
    ]);
    let columns: Vec<ArrayRef> = vec![Arc::new(runs), Arc::new(NullArray::new(1))];
    let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
    assert_eq!(ids_and_refusals(&stream_of(&[batch], None)), [Err("missing_field")]);
}

proptest! {
    #[test]
    fn an_event_is_the_same_as_json_and_as_arrow(
        mut events in prop::collection::vec(arb_event(), 1..6),
        shape in arb_shape(),
    ) {
        for object in events.iter_mut().flat_map(|event| &mut event.objects) {
            object.full = false;
        }
        let mut at = 0;
        let mut see = |outcome: Outcome<'_, '_>| {
            let Outcome::Event(read) = outcome else { panic!("{outcome:?}") };
            assert_same(read, &events[at]);
            let json = to_json(&events[at]).to_string();
            event(Format::Canonical, json.as_bytes(), |json| assert_same(json, read));
            at += 1;
        };
        decode(Format::Arrow, &to_arrow(&events, &shape), &mut see).unwrap();
        prop_assert_eq!(at, events.len());
    }

    #[test]
    fn any_damaged_stream_has_an_outcome(
        stream in mutated(
            (prop::collection::vec(arb_event(), 1..4), arb_shape())
                .prop_map(|(events, shape)| to_arrow(&events, &shape)),
        ),
    ) {
        let _ = decode(Format::Arrow, &stream, &mut |_| ());
    }

    #[test]
    fn any_bytes_have_an_outcome(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(Format::Arrow, &bytes, &mut |_| ());
    }
}

#[test]
fn damage_to_any_one_byte_of_a_stream_has_an_outcome() {
    let lists = list_of([1].into_iter(), texts(&["pii"]), false);
    let payload = with(&["ann"], vec![rows(&[1]), ("principal.groups", lists)]);
    for at in 0..payload.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff, payload[at] ^ 4] {
            let mut damaged = payload.clone();
            damaged[at] = value;
            let _ = decode(Format::Arrow, &damaged, &mut |_| ());
        }
    }
}

#[test]
fn a_stream_that_is_refused_has_handed_over_no_row() {
    let batch = |ids: &[&str]| {
        let columns = least(ids).into_iter().chain([rows(&[1, 1])]);
        batch_of(columns.map(|(name, array)| (name.to_owned(), array)).collect())
    };
    let batches = [batch(&["a", "b"]), batch(&["c", "d"])];
    let whole = stream_of(&batches, Some(CompressionType::ZSTD));
    let mut refused = 0;
    for at in whole.len() / 2..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        let mut rows = 0;
        let outcome =
            ArrowDecoder::default()
                .decode(&damaged, &SourceDefaults::default(), &mut |_, _| rows += 1);
        assert!(outcome.is_ok() || rows == 0, "byte {at}: {rows} rows, then {outcome:?}");
        refused += usize::from(outcome.is_err());
    }
    assert!(refused > 20, "{refused} of the damaged streams were refused");
}
