//! Cost per row of the core: routing and encoding (ingest), decoding and applying (detect).
//!
//! `cargo bench --bench engine --no-default-features`. One message of 4,096 rows a turn, event time
//! going on, at 10k and 1M principals; four windows of 1 min, 1 h, 24 h and 30 d. The last is of a
//! source that retries, its rows compared with those before and as many forgotten as remembered.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports by panic and print")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

mod parts;

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exfilwatch::{
    engine::{Engine, EngineOptions},
    event::{
        Event,
        batch::{Batch, SourcePartition},
        route::Router,
    },
    rules::compile,
    units::{EventTime, Offset, Partition},
};

const ROWS: u64 = 4096;
/// 2026-03-02T09:00:00Z, in milliseconds.
const START_MS: i64 = 1_772_442_000_000;

/// A read with what evidence keeps of it.
fn event(name: &str, number: u64) -> Event<'_> {
    let at = EventTime::from_millis(START_MS + i64::try_from(number).unwrap());
    Event {
        event_id: Some(format!("20260302_090000_{number:09}_bench").into()),
        operation: Some("select".into()),
        client_address: Some("127.0.0.1".into()),
        client_application: Some("support-console".into()),
        query_id: Some("q-1".into()),
        ..parts::event(name, at)
    }
}

/// Routes the next message; keys are uniform over `principals`.
fn message(router: &mut Router, from: u64, principals: u64) -> Vec<u8> {
    let source = router.source_that_retries(&SourcePartition::default());
    for number in from..from + ROWS {
        let principal = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % principals;
        let name = format!("user-{principal:07}");
        let offset = Offset(i64::try_from(number).unwrap());
        router.push(source, offset, 0, &event(&name, number));
    }
    let mut out = Vec::new();
    router.flush(&mut out).unwrap();
    out.remove(0).payload
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("per row");
    group.throughput(Throughput::Elements(ROWS));
    let (mut routing, mut from) = (parts::router(), 0);
    group.bench_function("route and encode", |bencher| {
        bencher.iter(|| {
            from += ROWS;
            black_box(message(&mut routing, from, 1_000_000))
        });
    });
    let payload = message(&mut parts::router(), 0, 1_000_000);
    group.bench_function("decode", |bencher| {
        bencher.iter(|| Batch::decode(black_box(&payload)).unwrap());
    });
    for (principals, remembered) in [(10_000, 0), (1_000_000, 0), (1_000_000, 1 << 18)] {
        let options = EngineOptions {
            partition: Partition(0),
            allowed_skew_ms: 0,
            memory_limit: 2 << 30,
            dedup_entries: remembered,
        };
        let rules = Arc::new(compile(&[parts::rule(1_000_000)]));
        let mut engine = Engine::new(options, rules);
        let now = EventTime::from_millis(START_MS + 1_000_000_000_000);
        let (mut routing, mut from) = (parts::router(), 0);
        let mut next = || {
            from += ROWS;
            Batch::decode(&message(&mut routing, from, principals)).unwrap()
        };
        for _ in 0..2 * principals / ROWS {
            engine.apply(&next(), now);
        }
        group.bench_function(
            format!("apply, {principals} principals, {remembered} rows remembered"),
            |bencher| {
                bencher.iter_batched_ref(
                    &mut next,
                    |batch| engine.apply(batch, now),
                    criterion::BatchSize::NumIterations(16),
                );
            },
        );
        engine.save_all_next();
        let saved: usize = engine.save().chunks.iter().map(Vec::len).sum();
        println!("{} bytes for {} rows remembered", engine.dedup().bytes(), engine.dedup().len());
        println!("{saved} bytes to save everything");
    }
}

criterion_group!(all, benches);
criterion_main!(all);
