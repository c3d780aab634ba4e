//! Decoding one record of each format: time, and bytes a second.
//!
//! `cargo bench --bench decode --no-default-features`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exfilwatch::event::{Format, SourceDefaults};

/// Every field of the schema, about 500 bytes, as a bridge would write it.
const CANONICAL: &str = concat!(
    r#"{"event_id":"20260401_093342_00012_pzafy","#,
    r#""event_time":"2026-04-01T09:33:42.123Z","principal":{"id":"jdoe","type":"user","#,
    r#""groups":["support-l1"],"tenant":"acme"},"source":{"kind":"postgresql","#,
    r#""instance":"crm-db-1","database":"crm"},"objects":[{"schema":"public","#,
    r#""name":"customers","labels":["pii"],"row_count":12000000}],"operation":"select","#,
    r#""destination":"client","rows":120,"rows_quality":"exact","rows_written":0,"#,
    r#""bytes":48213,"client":{"address":"127.0.0.1","application":"support-console"},"#,
    r#""query":{"id":"q-1","fingerprint":"a9f0"},"success":true}"#,
);

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
}

criterion_group!(benches, formats);
criterion_main!(benches);
