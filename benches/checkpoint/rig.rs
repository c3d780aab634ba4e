//! Batches as ingest writes them, engines as detect keeps them, and a clock of CPU time.

use std::{fs, sync::Arc, thread};

use exfilwatch::{
    engine::{Engine, EngineOptions},
    event::{
        batch::{Batch, SourcePartition},
        route::Router,
    },
    rules::{RuleSet, compile},
    units::{EventTime, Offset, Partition},
};

use crate::parts;

/// Rows of one message.
const ROWS: u64 = 4096;
/// Rows that are made before any of them is applied.
pub(crate) const PORTION_ROWS: u64 = 16 * ROWS;
/// 2026-03-02T09:00:00Z, in milliseconds.
const START_MS: i64 = 1_772_442_000_000;

/// Makes batches; their offsets ascend over all of them.
pub(crate) struct Rig {
    rules: Arc<RuleSet>,
    router: Router,
    offset: i64,
}

impl Rig {
    /// One rule with four windows that nobody comes near to.
    pub(crate) fn new() -> Self {
        let rules = Arc::new(compile(&[parts::rule(1_000_000_000)]));
        Self { rules, router: parts::router(), offset: 0 }
    }

    /// An engine that has seen nothing.
    pub(crate) fn engine(&self) -> Engine {
        Engine::new(options(), Arc::clone(&self.rules))
    }

    /// Hands reads of `count` principals chosen by `choose` to `apply`, in portions.
    pub(crate) fn read(
        &mut self,
        count: u64,
        choose: impl Fn(u64) -> u64,
        mut apply: impl FnMut(&[(Batch, EventTime)]),
    ) {
        for from in (0..count).step_by(usize::try_from(PORTION_ROWS).unwrap()) {
            let until = (from + PORTION_ROWS).min(count);
            let messages = (from..until).step_by(usize::try_from(ROWS).unwrap());
            let batches: Vec<(Batch, EventTime)> = messages
                .map(|start| self.message((start..(start + ROWS).min(until)).map(&choose)))
                .collect();
            apply(&batches);
        }
    }

    fn message(&mut self, principals: impl Iterator<Item = u64>) -> (Batch, EventTime) {
        let source = self.router.source(&SourcePartition::default());
        for principal in principals {
            let at = EventTime::from_millis(START_MS + self.offset / 100);
            let event = parts::event(format!("user-{principal:07}"), at);
            self.router.push(source, Offset(self.offset), 0, &event);
            self.offset += 1;
        }
        let mut messages = Vec::new();
        self.router.flush(&mut messages).unwrap();
        assert_eq!(messages.len(), 1, "one route and one partition");
        let batch = Batch::decode(&messages[0].payload).unwrap();
        (batch, EventTime::from_millis(START_MS + self.offset / 100))
    }
}

/// Of every engine here.
pub(crate) fn options() -> EngineOptions {
    EngineOptions {
        partition: Partition(0),
        allowed_skew_ms: 300_000,
        memory_limit: 4 << 30,
        dedup_entries: 0,
    }
}

/// Applies batches to an engine.
pub(crate) fn apply(engine: &mut Engine, batches: &[(Batch, EventTime)]) {
    for (batch, now) in batches {
        engine.apply(batch, *now);
    }
}

/// A number below `limit` that looks random (`SplitMix64`).
pub(crate) fn random(number: u64, limit: u64) -> u64 {
    let z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % limit
}

/// Seconds this thread has been on a CPU. The kernel brings the figure up to date when it looks
/// for somebody else to run, so it is asked to.
pub(crate) fn cpu_s() -> f64 {
    thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let ns: u64 = text.split(' ').next().unwrap().parse().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a difference is taken")]
    let s = ns as f64 / 1e9;
    s
}
