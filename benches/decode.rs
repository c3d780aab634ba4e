//! Decoding one record of each format: time, and bytes a second.
//!
//! `cargo bench --bench decode --no-default-features`

#[path = "parts/records.rs"]
mod records;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exfilwatch::event::{Format, SourceDefaults};

use records::{ARROW_ROWS, CANONICAL, TRINO, arrow_stream};

fn decode(c: &mut Criterion, name: &str, format: Format, payload: &[u8], rows: u32) {
    let mut group = c.benchmark_group("decode");
    let defaults = SourceDefaults::default();
    let mut decoder = format.decoder();
    let mut run = move |payload: &[u8]| {
        let mut seen = 0;
        decoder.decode(payload, &defaults, &mut |_, outcome| {
            black_box(&outcome);
            seen += 1;
        })?;
        Ok::<u32, exfilwatch::event::DecodeError>(seen)
    };
    assert_eq!(run(payload), Ok(rows));
    group.throughput(Throughput::Bytes(payload.len() as u64));
    group.bench_function(name, |b| b.iter(|| run(black_box(payload))));
}

fn formats(c: &mut Criterion) {
    decode(c, "canonical", Format::Canonical, CANONICAL.as_bytes(), 1);
    let short = concat!(
        r#"{"event_time":1775036022123,"principal":"jdoe","source":{"kind":"postgresql"},"#,
        r#""objects":["crm.public.customers"],"rows":120}"#,
    );
    decode(c, "canonical_short", Format::Canonical, short.as_bytes(), 1);
    decode(c, "trino", Format::Trino, TRINO, 1);
    match arrow_stream() {
        Ok(stream) => decode(c, "arrow_4096_rows", Format::Arrow, &stream, ARROW_ROWS),
        Err(error) => panic!("{error}"),
    }
}

criterion_group!(benches, formats);
criterion_main!(benches);
