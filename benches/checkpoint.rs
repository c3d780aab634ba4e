//! Checkpoints of the core: what a save costs and writes, and what a restore costs.
//!
//! `cargo bench --bench checkpoint --no-default-features`. One million principals, of which 1 %
//! read between two checkpoints, uniformly chosen.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports by panic and print")]

use std::{convert::Infallible, sync::Arc, time::Instant};

use exfilwatch::{
    checkpoint::{Ledger, Manifest, Origin, rebuild},
    engine::{Engine, EngineOptions, Saved},
    event::{
        Destination, Event, Principal, RowsQuality, Source,
        batch::{Batch, SourcePartition},
        catalog::Catalog,
        identity::{Identity, IdentitySpec},
        route::{Router, RouterSpec},
    },
    rules::{
        GroupBy, Measure, Severity, compile,
        written::{WrittenLimit, WrittenRule},
    },
    units::{EventTime, Offset, Partition, WindowSpan},
};

const PRINCIPALS: u64 = 1_000_000;
const MOVED: u64 = PRINCIPALS / 100;
const ROWS: u64 = 4096;
const ROUNDS: u64 = 50;
const SLOT_BYTES: u64 = 64;
/// 2026-03-02T09:00:00Z, in milliseconds.
const START_MS: i64 = 1_772_442_000_000;

struct Rig {
    router: Router,
    engine: Engine,
    offset: i64,
}

impl Rig {
    /// Reads of `count` principals chosen by `choose`, applied; seconds that applying took.
    fn read(&mut self, count: u64, choose: impl Fn(u64) -> u64) -> f64 {
        let source = self.router.source(&SourcePartition::default());
        let mut took_s = 0.0;
        for from in (0..count).step_by(usize::try_from(ROWS).unwrap()) {
            for number in from..(from + ROWS).min(count) {
                let name = format!("user-{:07}", choose(number));
                let at = EventTime::from_millis(START_MS + self.offset);
                let event = Event {
                    event_time: at,
                    principal: Principal { id: name.into(), ..Principal::default() },
                    source: Source { kind: "postgresql".into(), ..Source::default() },
                    event_id: None,
                    objects: smallvec::SmallVec::new(),
                    operation: None,
                    destination: Destination::Client,
                    rows: Some(3),
                    rows_quality: RowsQuality::Exact,
                    rows_written: 0,
                    bytes: None,
                    client_address: None,
                    client_application: None,
                    query_id: None,
                    query_fingerprint: None,
                    success: Some(true),
                };
                self.router.push(source, Offset(self.offset), 0, &event);
                self.offset += 1;
            }
            let mut messages = Vec::new();
            self.router.flush(&mut messages).unwrap();
            for message in messages {
                let batch = Batch::decode(&message.payload).unwrap();
                let now = EventTime::from_millis(START_MS + self.offset);
                let began = Instant::now();
                self.engine.apply(&batch, now);
                took_s += began.elapsed().as_secs_f64();
            }
        }
        took_s
    }
}

fn options() -> EngineOptions {
    EngineOptions {
        partition: Partition(0),
        allowed_skew_ms: 300_000,
        memory_limit: 4 << 30,
        dedup_entries: 0,
    }
}

fn rig() -> Rig {
    let limit = |span_s| WrittenLimit {
        window: WindowSpan::from_secs(span_s).unwrap(),
        above: 1_000_000,
        severity: None,
    };
    let rules = Arc::new(compile(&[WrittenRule {
        id: "bench".into(),
        title: "bench".into(),
        severity: Severity::High,
        wanted: Vec::new(),
        unless: Vec::new(),
        group_by: GroupBy::PrincipalId,
        measure: Measure::Rows,
        limits: [60, 3600, 86_400, 30 * 86_400].map(limit).to_vec(),
    }]));
    let router = Router::new(RouterSpec {
        routes: rules.routes(),
        partitions: 1,
        seed: (1, 2),
        identity: Identity::new(&IdentitySpec::default()),
        catalog: Catalog::new(Vec::new()),
    });
    Rig { router, engine: Engine::new(options(), rules), offset: 0 }
}

fn bytes(saved: &Saved) -> u64 {
    saved.chunks.iter().map(|chunk| chunk.len() as u64).sum()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn main() {
    let mut rig = rig();
    let mut state: Vec<Vec<u8>> = Vec::new();
    rig.read(PRINCIPALS, |number| number);
    let origin = Origin::default();
    let mut ledger = Ledger::new(origin.clone(), 0);
    let mut keep = |engine: &mut Engine| -> (f64, u64) {
        let began = Instant::now();
        let saved = engine.save();
        let took_s = began.elapsed().as_secs_f64();
        let written = bytes(&saved);
        let mut draft = ledger.draft(saved, 0, "", "");
        let mut offsets = Vec::new();
        for (_, value) in draft.records() {
            offsets.push(i64::try_from(state.len()).unwrap());
            state.push(value.to_vec());
        }
        for record in draft.seal(&offsets) {
            state.push(record.value.unwrap_or_default());
        }
        ledger.commit(draft);
        (took_s, written)
    };
    let (whole_s, whole) = keep(&mut rig.engine);
    println!("{PRINCIPALS} principals, {} MiB of slots", (PRINCIPALS * SLOT_BYTES) >> 20);
    println!("first checkpoint, every value: {whole_s:.3} s, {:.1} MiB", mib(whole));

    let random = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % PRINCIPALS;
    let alone_s = rig.read(ROUNDS * MOVED, random);
    keep(&mut rig.engine);
    let (mut with_s, mut saves_s, mut written) = (0.0, 0.0, 0);
    for round in 0..ROUNDS {
        with_s += rig.read(MOVED, |number| random(number + round * MOVED));
        let (took_s, bytes) = keep(&mut rig.engine);
        saves_s += took_s;
        written += bytes;
    }
    let (each, base) = (written / ROUNDS, whole / 32);
    println!(
        "{MOVED} changed between checkpoints: {:.1} ms to save, {:.2} MiB = {:.2} x the changed \
         slots + one part of 32 ({:.2} MiB)",
        1000.0 * saves_s / ROUNDS as f64,
        mib(each),
        each.saturating_sub(base) as f64 / (MOVED * SLOT_BYTES) as f64,
        mib(base)
    );
    println!(
        "applying a row: {:.0} ns without and {:.0} ns between checkpoints",
        1e9 * alone_s / (ROUNDS * MOVED) as f64,
        1e9 * with_s / (ROUNDS * MOVED) as f64
    );

    let manifest = Manifest::read(state.last().unwrap(), &origin).unwrap();
    let began = Instant::now();
    let read =
        |offset: i64| Ok::<_, Infallible>(state.get(usize::try_from(offset).unwrap()).cloned());
    let engine = rebuild(&manifest, options(), read).unwrap().unwrap();
    println!(
        "restore from memory: {:.2} s, {} records, {} principals",
        began.elapsed().as_secs_f64(),
        manifest.needed().count(),
        engine.keys(GroupBy::PrincipalId)
    );
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
