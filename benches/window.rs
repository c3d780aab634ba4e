//! Cost of counting one event in a table, and bytes a key, beside a plain hash map in the same run.
//!
//! `cargo bench --no-default-features --bench window`. The map (`u64` to four counters, keys hashed
//! already, nothing slides, nothing ages) is no alternative: it is the floor that any table has.

use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use exfilwatch::units::{KeyHash, Tick, WindowSpan};
use exfilwatch::window::{Budget, Table, TableSpec, WINDOWS_MAX};

/// Events that are prefetched together, as the engine does.
const CHUNK: usize = 64;
/// Events drawn beforehand; they are more than any cache holds.
const EVENTS: usize = 1 << 22;
/// Events a tick: with ten million keys a key's slot is rarely in the same slice twice.
const EVENTS_A_TICK: u32 = 1024;
const START: u32 = 1_767_225_600;
const KEYS: [u64; 3] = [10_000, 1_000_000, 10_000_000];

/// Which key an event is of.
#[derive(Clone, Copy)]
enum Draw {
    Uniform,
    /// Ranks with `P(rank <= r) = ln r / ln keys`: Zipf with exponent 1.
    Zipf,
}

impl Draw {
    const ALL: [(&str, Self); 2] = [("uniform", Self::Uniform), ("zipf", Self::Zipf)];

    fn events(self, keys: u64) -> Vec<KeyHash> {
        let rank = |random: u64| match self {
            Self::Uniform => random % keys,
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
            #[expect(clippy::cast_sign_loss, reason = "a rough draw is all it takes")]
            Self::Zipf => {
                (keys as f64).powf((random >> 11) as f64 / (1u64 << 53) as f64) as u64 - 1
            }
        };
        (0..EVENTS as u64).map(|n| key(rank(mix(n)))).collect()
    }
}

/// A 64-bit finaliser: spreads numbers as a keyed hash would.
fn mix(n: u64) -> u64 {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn key(n: u64) -> KeyHash {
    KeyHash(mix(n ^ 0x5bd1_e995_0000_0000))
}

/// A table that holds `keys` keys, none of them promoted.
fn filled(keys: u64) -> (Table, Budget) {
    let windows = [3600, 86_400, 7 * 86_400, 30 * 86_400];
    let windows = windows.map(|span_s| WindowSpan::from_secs(span_s).ok());
    let spec = TableSpec { windows, promote_at: [u64::MAX; WINDOWS_MAX] };
    let (mut table, mut budget) = (Table::new(spec), Budget::new(1 << 34));
    for n in 0..keys {
        table.add(key(n), Tick(START), 1, &mut budget);
    }
    (table, budget)
}

/// What the process holds in memory, as the kernel counts it; 0 where there is no `/proc`.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The key is a hash: the map need not hash it again.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("keys are u64")
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

type Map = hashbrown::HashMap<u64, [u64; WINDOWS_MAX], BuildHasherDefault<Identity>>;

fn update(c: &mut Criterion) {
    for keys in KEYS {
        let before = resident_bytes();
        let (mut table, mut budget) = filled(keys);
        let resident = resident_bytes() - before;
        let mut map = Map::default();
        map.extend((0..keys).map(|n| (key(n).0, [0; WINDOWS_MAX])));
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let per_key = |bytes: u64| bytes as f64 / keys as f64;
        let (said, resident) = (per_key(table.bytes()), per_key(resident));
        eprintln!("{keys} keys: {said:.1} bytes a key by its own account, {resident:.1} resident");
        let mut group = c.benchmark_group("window_update");
        group.throughput(Throughput::Elements(CHUNK as u64));
        let mut clock = 0u32;
        for (name, draw) in Draw::ALL {
            let events = draw.events(keys);
            let mut chunks = events.chunks_exact(CHUNK).cycle();
            group.bench_function(BenchmarkId::new(format!("table/{name}"), keys), |b| {
                b.iter(|| {
                    let Some(chunk) = chunks.next() else { return };
                    for &key in chunk {
                        table.prefetch_index(key);
                    }
                    for &key in chunk {
                        table.prefetch_slot(key);
                    }
                    for &key in chunk {
                        clock = clock.wrapping_add(1);
                        let at = Tick(START + clock / EVENTS_A_TICK);
                        black_box(table.add(key, at, 1, &mut budget));
                    }
                });
            });
            group.bench_function(BenchmarkId::new(format!("map/{name}"), keys), |b| {
                b.iter(|| {
                    let Some(chunk) = chunks.next() else { return };
                    for key in chunk {
                        let counts = map.entry(key.0).or_default();
                        for count in counts.iter_mut() {
                            *count += 1;
                        }
                        black_box(counts);
                    }
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_secs(1))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = update
}
criterion_main!(benches);
