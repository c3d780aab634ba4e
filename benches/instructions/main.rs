//! Instructions that the stages of the hot path take, counted by valgrind's callgrind: the same on
//! every machine and in every run, so that CI can hold them.
//!
//! `cargo bench --bench instructions`; it needs valgrind, and `gungraun-runner` of the same version
//! as the crate gungraun. What takes over 5 % more than [`baseline`] says fails.
#![allow(missing_docs, reason = "gungraun's macros make public items")]
#![allow(clippy::must_use_candidate, reason = "gungraun calls them")]
#![expect(clippy::unwrap_used, reason = "a bench reports by panic")]

mod baseline;
#[path = "../parts/mod.rs"]
mod parts;
#[path = "../parts/records.rs"]
mod records;

use std::{hint::black_box, sync::Arc};

use exfilwatch::{
    engine::{Engine, EngineOptions},
    event::{
        Decoder, Format, SourceDefaults,
        batch::{Batch, SourcePartition},
        route::{Router, SourceId},
    },
    rules::compile,
    units::{EventTime, KeyHash, Offset, Partition, Tick, WindowSpan},
    window::{Budget, Table, TableSpec, WINDOWS_MAX},
};
use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};

/// Records of one event that are decoded at a time.
const RECORDS: usize = 100;
/// Rows of a message.
const ROWS: u32 = 4096;
/// 2026-03-02T09:00:00Z, in milliseconds.
const START_MS: i64 = 1_772_442_000_000;

/// At most so many instructions as the baseline allows.
fn held(stage: &str) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, baseline::limit(stage))]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

/// A decoder that has decoded before, and what it decodes.
struct Decoding {
    decoder: Box<dyn Decoder>,
    payload: Vec<u8>,
}

impl Decoding {
    fn of(format: Format, payload: Vec<u8>) -> Self {
        let mut warm = Self { decoder: format.decoder(), payload };
        warm.run();
        warm
    }

    fn run(&mut self) {
        let mut see = |_: u32, outcome: exfilwatch::event::Outcome<'_, '_>| {
            black_box(&outcome);
        };
        self.decoder.decode(&self.payload, &SourceDefaults::default(), &mut see).unwrap();
    }
}

fn canonical() -> Decoding {
    Decoding::of(Format::Canonical, records::CANONICAL.into())
}

/// Of a decoder that has met no record yet.
fn unmet() -> Decoding {
    Decoding { decoder: Format::Canonical.decoder(), payload: records::CANONICAL.into() }
}

fn trino() -> Decoding {
    Decoding::of(Format::Trino, records::TRINO.into())
}

fn arrow() -> Decoding {
    Decoding::of(Format::Arrow, records::arrow_stream().unwrap())
}

#[library_benchmark(config = held("decode_canonical"), setup = canonical)]
#[bench::records()]
fn decode_canonical(mut decoding: Decoding) -> Decoding {
    (0..RECORDS).for_each(|_| decoding.run());
    decoding
}

#[library_benchmark(config = held("decode_first"), setup = unmet)]
#[bench::record()]
fn decode_first(mut decoding: Decoding) -> Decoding {
    decoding.run();
    decoding
}

#[library_benchmark(config = held("decode_trino"), setup = trino)]
#[bench::records()]
fn decode_trino(mut decoding: Decoding) -> Decoding {
    (0..RECORDS).for_each(|_| decoding.run());
    decoding
}

#[library_benchmark(config = held("decode_arrow"), setup = arrow)]
#[bench::rows()]
fn decode_arrow(mut decoding: Decoding) -> Decoding {
    decoding.run();
    decoding
}

/// A router that has made a message before, its source, and the names of the next one's rows.
struct Routing {
    router: Router,
    source: SourceId,
    names: Vec<String>,
    next: i64,
}

impl Routing {
    fn push(&mut self) {
        for name in &self.names {
            let at = EventTime::from_millis(START_MS + self.next);
            self.router.push(self.source, Offset(self.next), 0, &parts::event(name.as_str(), at));
            self.next += 1;
        }
    }

    fn message(&mut self) -> Vec<u8> {
        self.push();
        let mut out = Vec::new();
        self.router.flush(&mut out).unwrap();
        out.remove(0).payload
    }
}

fn routing() -> Routing {
    let mut router = parts::router();
    let source = router.source(&SourcePartition::default());
    // A multiplicative step, so that neighbours in a message are not neighbours by name.
    let name = |n: u32| format!("user-{:07}", n.wrapping_mul(2_654_435_761) % 1_000_000);
    let mut warm = Routing { router, source, names: (0..ROWS).map(name).collect(), next: 0 };
    warm.message();
    warm
}

#[library_benchmark(config = held("route_and_encode"), setup = routing)]
#[bench::rows()]
fn route_and_encode(mut routing: Routing) -> (Routing, Vec<u8>) {
    let message = routing.message();
    (routing, message)
}

fn message() -> Vec<u8> {
    routing().message()
}

#[library_benchmark(config = held("read_message"), setup = message)]
#[bench::rows()]
fn read_message(message: Vec<u8>) -> (Vec<u8>, Batch) {
    let batch = Batch::decode(&message).unwrap();
    (message, batch)
}

/// An engine that knows everybody in the next message.
fn engine() -> (Engine, Batch) {
    let options = EngineOptions {
        partition: Partition(0),
        allowed_skew_ms: 0,
        memory_limit: 1 << 30,
        dedup_entries: 0,
    };
    let mut engine = Engine::new(options, Arc::new(compile(&[parts::rule(1_000_000)])));
    let mut routing = routing();
    engine.apply(&Batch::decode(&routing.message()).unwrap(), EventTime::from_millis(START_MS));
    (engine, Batch::decode(&routing.message()).unwrap())
}

#[library_benchmark(config = held("apply_message"), setup = engine)]
#[bench::rows()]
fn apply_message((mut engine, batch): (Engine, Batch)) -> (Engine, Batch) {
    engine.apply(&batch, EventTime::from_millis(START_MS + 60_000));
    (engine, batch)
}

/// A table of four windows that holds every key.
fn table() -> (Table, Budget) {
    let windows = [60, 3600, 86_400, 30 * 86_400].map(|span_s| WindowSpan::from_secs(span_s).ok());
    let spec = TableSpec { windows, promote_at: [u64::MAX; WINDOWS_MAX] };
    let (mut table, mut budget) = (Table::new(spec), Budget::new(1 << 30));
    (0..ROWS).for_each(|n| add(&mut table, &mut budget, n, 0));
    (table, budget)
}

fn add(table: &mut Table, budget: &mut Budget, n: u32, later_s: u32) {
    // Spreads numbers as a keyed hash would (Fibonacci hashing, Knuth 6.4).
    let key = KeyHash((u64::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let at = Tick(u32::try_from(START_MS / 1000).unwrap() + later_s);
    black_box(table.add(key, at, 1, budget));
}

#[library_benchmark(config = held("update_slots"), setup = table)]
#[bench::keys()]
fn update_slots((mut table, mut budget): (Table, Budget)) -> (Table, Budget) {
    (0..ROWS).for_each(|n| add(&mut table, &mut budget, n, 7));
    (table, budget)
}

library_benchmark_group!(
    name = stages,
    benchmarks = [
        decode_canonical,
        decode_first,
        decode_trino,
        decode_arrow,
        route_and_encode,
        read_message,
        update_slots,
        apply_message
    ]
);
main!(library_benchmark_groups = stages);
