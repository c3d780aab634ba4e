//! No allocation per event, and no byte taken that is not accounted for: held by an allocator that
//! counts, which is why this is a test binary of its own (a global allocator is one a binary).
#![expect(unsafe_code, reason = "an allocator is an unsafe trait; this one only counts")]

#[path = "../benches/parts/mod.rs"]
#[allow(dead_code, reason = "the benches use more of it")]
mod parts;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
};

use exfilwatch::{
    engine::{Engine, EngineOptions},
    event::{
        Decoder as _, Outcome, SourceDefaults,
        batch::{Batch, SourcePartition},
        canonical::CanonicalDecoder,
        route::Router,
    },
    rules::{GroupBy, compile},
    units::{EventTime, KeyHash, Offset, Partition, Tick, WindowSpan},
    window::{Budget, Table, TableSpec},
};

/// Counts what its own thread allocates, so that tests do not see each other.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

/// Notes one allocation (`bytes > 0`) or one release (`bytes < 0`).
fn note(bytes: i64) {
    // A thread that ends frees its locals after they are gone; nobody counts there.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + u64::from(bytes > 0)));
    let _ = LIVE_BYTES.try_with(|live| live.set(live.get() + bytes));
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

// SAFETY: every call goes to the system's allocator with the arguments it came with; counting
// touches only plain thread-locals that never allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(signed(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(signed(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-signed(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(signed(size));
        note(-signed(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const START: u32 = 1_767_225_600;
const KEYS: u64 = 10_000;

fn table(promote_at: u64) -> Table {
    let windows = [3600, 86_400, 7 * 86_400, 30 * 86_400];
    let windows = windows.map(|span_s| WindowSpan::from_secs(span_s).ok());
    Table::new(TableSpec { windows, promote_at: [promote_at; 4] })
}

fn key(n: u64) -> KeyHash {
    KeyHash((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// One round over all keys; the odd ones are promoted in the first.
fn round(table: &mut Table, budget: &mut Budget, at: u32) {
    for n in 0..KEYS {
        table.prefetch_index(key(n));
        table.prefetch_slot(key(n));
        table.add(key(n), Tick(at), n % 2 * 100, budget);
    }
}

#[test]
fn a_million_events_of_known_keys_allocate_nothing() {
    let (mut table, mut budget) = (table(50), Budget::new(1 << 30));
    round(&mut table, &mut budget, START);
    assert_eq!(table.promoted() as u64, KEYS / 2);
    let before = CALLS.get();
    for step in 1..=100 {
        // From within a slice to past the longest window, and late by up to an hour.
        round(&mut table, &mut budget, START + step * step * 600 - step % 3 * 1800);
        assert!(table.read(key(7)).is_some() && table.above_until(key(7), 3, 0).is_some());
    }
    assert_eq!(CALLS.get() - before, 0);
}

#[test]
fn a_table_takes_no_more_than_it_says_and_no_more_than_its_budget() {
    let before = LIVE_BYTES.get();
    let limit_bytes = 16 << 20;
    let (mut table, mut budget) = (table(50), Budget::new(limit_bytes));
    for n in 0..400_000u64 {
        table.add(key(n), Tick(START), u64::from(n % 50 == 0) * 60, &mut budget);
    }
    let taken = u64::try_from(LIVE_BYTES.get() - before).unwrap();
    assert!(budget.degraded() && table.promoted() > 1000, "all three shares are in use");
    assert!(taken <= table.bytes(), "{taken} bytes taken, {} accounted for", table.bytes());
    assert!(table.bytes() <= limit_bytes);
    drop(table);
    assert_eq!(LIVE_BYTES.get(), before);
}

#[test]
fn a_flood_at_the_ceiling_allocates_nothing_once_the_sketch_is_there() {
    let (mut table, mut budget) = (table(u64::MAX), Budget::new(1 << 20));
    let mut flood = |keys: std::ops::Range<u64>| {
        for n in keys {
            table.add(key(n), Tick(START), 1, &mut budget);
        }
    };
    flood(0..50_000);
    let before = CALLS.get();
    flood(50_000..200_000);
    assert_eq!(CALLS.get() - before, 0);
}

/// An event of one of a hundred principals; every tenth of them reads enough to be near the limit.
fn json(n: u64) -> String {
    let who = n % 100;
    let rows = if who.is_multiple_of(10) { 300_000 / 64 } else { 1 };
    format!(
        concat!(
            r#"{{"event_id":"e-{n:09}","event_time":"2026-01-01T00:00:00.000Z","#,
            r#""principal":{{"id":"User-{who:05}","groups":["support"]}},"#,
            r#""source":{{"kind":"postgresql"}},"objects":[{{"schema":"public","#,
            r#""name":"customers"}}],"rows":{rows},"client":{{"address":"127.0.0.{who}"}},"#,
            r#""query":{{"id":"q-{n:09}"}}}}"#,
        ),
        n = n,
        who = who,
        rows = rows,
    )
}

/// Decodes and routes `records` of a source that retries, from an offset on.
fn route(router: &mut Router, decoder: &mut CanonicalDecoder, records: &[String], from: u64) {
    let source = router.source_that_retries(&SourcePartition::default());
    for (offset, record) in (from..).zip(records) {
        let offset = Offset(i64::try_from(offset).expect("small"));
        let whole =
            decoder.decode(record.as_bytes(), &SourceDefaults::default(), &mut |row, outcome| {
                match outcome {
                    Outcome::Event(event) => router.push(source, offset, row, event),
                    other => panic!("{other:?}"),
                }
            });
        whole.expect("a record");
    }
}

#[test]
fn the_engine_allocates_as_much_for_a_message_of_many_rows_as_for_one_of_few() {
    let (mut router, mut decoder) = (parts::router(), CanonicalDecoder::default());
    let mut from = 0;
    let mut message = |numbers: std::ops::Range<u64>| {
        let records: Vec<String> = numbers.clone().map(json).collect();
        route(&mut router, &mut decoder, &records, from);
        from += records.len() as u64;
        let mut out = Vec::new();
        router.flush(&mut out).unwrap();
        Batch::decode(&out[0].payload).unwrap()
    };
    let options = EngineOptions {
        partition: Partition(0),
        allowed_skew_ms: 0,
        memory_limit: 64 << 20,
        dedup_entries: 1024,
    };
    let mut engine = Engine::new(options, Arc::new(compile(&[parts::rule(1_000_000)])));
    let now = EventTime::from_millis(1_800_000_000_000);
    let mut cost = |batch: &Batch| {
        let before = CALLS.get();
        engine.apply(batch, now);
        CALLS.get() - before
    };
    cost(&message(0..6400));
    let (few, many) = (cost(&message(6400..6464)), cost(&message(6464..14_464)));
    assert_eq!(few, many);
    assert_eq!(cost(&message(14_400..14_464)), few, "sent again");
    assert_eq!((engine.stats().applied, engine.stats().repeated), (14_464, 64));
    assert!(engine.dedup().evicted() > 0, "what is remembered has given way to others");
    assert_eq!(engine.promoted(GroupBy::PrincipalId), 10, "evidence is part of what is measured");
}

#[test]
fn ingest_allocates_as_much_for_a_message_of_many_events_as_for_one_of_few() {
    let (mut router, mut decoder) = (parts::router(), CanonicalDecoder::default());
    let records: Vec<String> = (0..16_384).map(json).collect();
    let mut out = Vec::new();
    let mut cost = |records: &[String], from| {
        let before = CALLS.get();
        route(&mut router, &mut decoder, records, from);
        router.flush(&mut out).expect("a message");
        CALLS.get() - before
    };
    cost(&records, 0);
    let (few, many) = (cost(&records[..1024], 16_384), cost(&records, 17_408));
    // Sixteen times the events: a buffer that doubles does so four times more, and that is all.
    assert!(many - few < 128, "{few} allocations for 1,024 events and {many} for 16,384");
    assert_eq!(out.iter().map(|message| message.rows).sum::<u32>(), 2 * 16_384 + 1024);
}
