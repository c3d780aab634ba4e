//! Checkpoints of the core: what they write, what they cost the hot path, what a restore takes.
//!
//! `cargo bench --bench checkpoint --no-default-features`, or with `-- saves`, `-- hot-path` or
//! `-- restore` one part of it. One million principals (`EXFILWATCH_BENCH_PRINCIPALS`), of which
//! 1 % read between two checkpoints, chosen at random. Times are CPU times of the thread.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports by panic and print")]

#[path = "checkpoint/hot_path.rs"]
mod hot_path;
#[path = "parts/mod.rs"]
mod parts;
#[path = "checkpoint/restore.rs"]
mod restore;
#[path = "checkpoint/rig.rs"]
mod rig;

use std::env;

use exfilwatch::{
    checkpoint::{Ledger, Origin},
    engine::{Engine, Saved},
};
use rig::{Rig, cpu_s, random};

const SLOT_BYTES: u64 = 64;
const ROUNDS: u64 = 50;

fn main() {
    if let Some(topic) = env::var_os(restore::TOPIC_VARIABLE) {
        return restore::restore(topic.as_ref());
    }
    let principals = number("EXFILWATCH_BENCH_PRINCIPALS", 1_000_000);
    println!("{principals} principals, {} MiB of slots", (principals * SLOT_BYTES) >> 20);
    if wanted("saves") || wanted("restore") {
        saves(principals);
    }
    if wanted("hot-path") {
        hot_path::measure(principals, number("EXFILWATCH_BENCH_INTERVAL_S", 1));
    }
}

/// Whether a part of the bench was asked for; all are when none was named.
fn wanted(part: &str) -> bool {
    let mut named = env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    named.peek().is_none() || named.any(|name| name == part)
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// Writes checkpoints to a file that stands for the state partition, and has them restored.
fn saves(principals: u64) {
    let mut rig = Rig::new();
    let mut engine = rig.engine();
    let mut topic = restore::Topic::new();
    let mut ledger = Ledger::new(Origin::default(), 0);
    rig.read(principals, |number| number, |batches| rig::apply(&mut engine, batches));
    let began = cpu_s();
    let saved = engine.save();
    let took_ms = 1e3 * (cpu_s() - began);
    let whole = bytes(&saved);
    topic.keep(&mut ledger, saved);
    println!("first checkpoint, every value: {took_ms:.0} ms, {:.1} MiB", mib(whole));
    if wanted("saves") {
        changes(&mut rig, &mut engine, principals, whole, |saved| topic.keep(&mut ledger, saved));
    }
    drop(engine);
    topic.restore_in_a_child();
}

/// Prints what checkpoints of few changes take and hold.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn changes(
    rig: &mut Rig,
    engine: &mut Engine,
    principals: u64,
    whole: u64,
    mut keep: impl FnMut(Saved),
) {
    let changed = principals / 100;
    let (mut saves_s, mut written) = (0.0, 0);
    for round in 0..ROUNDS {
        let reader = |number| random(number + round * changed, principals);
        rig.read(changed, reader, |batches| rig::apply(engine, batches));
        let began = cpu_s();
        let saved = engine.save();
        saves_s += cpu_s() - began;
        written += bytes(&saved);
        keep(saved);
    }
    let (each, base) = (written / ROUNDS, whole / 32);
    println!(
        "{changed} changed between checkpoints: {:.1} ms to save, {:.2} MiB = {:.2} x the changed \
         slots + one part of 32 ({:.2} MiB)",
        1e3 * saves_s / ROUNDS as f64,
        mib(each),
        each.saturating_sub(base) as f64 / (changed * SLOT_BYTES) as f64,
        mib(base)
    );
}

fn bytes(saved: &Saved) -> u64 {
    saved.chunks.iter().map(|chunk| chunk.len() as u64).sum()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
