//! Cost per row of the core: routing and encoding (ingest), decoding and applying (detect).
//!
//! `cargo bench --bench engine --no-default-features`. One message of 4,096 rows a turn, event time
//! going on, at 10k and 1M principals; four windows of 1 min, 1 h, 24 h and 30 d. The last is of a
//! source that retries, its rows compared with those before and as many forgotten as remembered.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports by panic and print")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exfilwatch::{
    engine::{Engine, EngineOptions},
    event::{
        Destination, Event, Principal, RowsQuality, Source,
        batch::{Batch, SourcePartition},
        catalog::Catalog,
        identity::{Identity, IdentitySpec},
        route::{Router, RouterSpec},
    },
    rules::{
        GroupBy, Measure, RuleSet, Severity, compile,
        written::{WrittenLimit, WrittenRule},
    },
    units::{EventTime, Offset, Partition, WindowSpan},
};

const ROWS: u64 = 4096;
/// 2026-03-02T09:00:00Z, in milliseconds.
const START_MS: i64 = 1_772_442_000_000;

fn rules() -> Arc<RuleSet> {
    let limit = |span_s| WrittenLimit {
        window: WindowSpan::from_secs(span_s).unwrap(),
        above: 1_000_000,
        severity: None,
    };
    Arc::new(compile(&[WrittenRule {
        id: "bench".into(),
        title: "bench".into(),
        severity: Severity::High,
        wanted: Vec::new(),
        unless: Vec::new(),
        group_by: GroupBy::PrincipalId,
        measure: Measure::Rows,
        limits: [60, 3600, 86_400, 30 * 86_400].map(limit).to_vec(),
    }]))
}

fn event(name: &str, number: u64) -> Event<'_> {
    let at = START_MS + i64::try_from(number).unwrap();
    Event {
        event_id: Some(format!("20260302_090000_{number:09}_bench").into()),
        event_time: EventTime::from_millis(at),
        principal: Principal { id: name.into(), ..Principal::default() },
        source: Source { kind: "postgresql".into(), ..Source::default() },
        objects: smallvec::SmallVec::new(),
        operation: Some("select".into()),
        destination: Destination::Client,
        rows: Some(3),
        rows_quality: RowsQuality::Exact,
        rows_written: 0,
        bytes: None,
        client_address: Some("127.0.0.1".into()),
        client_application: Some("support-console".into()),
        query_id: Some("q-1".into()),
        query_fingerprint: None,
        success: Some(true),
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

fn router() -> Router {
    Router::new(RouterSpec {
        routes: vec![GroupBy::PrincipalId],
        partitions: 1,
        seed: (1, 2),
        identity: Identity::new(&IdentitySpec::default()),
        catalog: Catalog::new(Vec::new()),
    })
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("per row");
    group.throughput(Throughput::Elements(ROWS));
    let (mut routing, mut from) = (router(), 0);
    group.bench_function("route and encode", |bencher| {
        bencher.iter(|| {
            from += ROWS;
            black_box(message(&mut routing, from, 1_000_000))
        });
    });
    let payload = message(&mut router(), 0, 1_000_000);
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
        let mut engine = Engine::new(options, rules());
        let now = EventTime::from_millis(START_MS + 1_000_000_000_000);
        let (mut routing, mut from) = (router(), 0);
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
