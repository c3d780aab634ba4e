//! An engine as bytes, and back (D2).
//!
//! [`Engine::save`] gives a checkpoint: *chunks* of whole values that changed since the last one
//! and the next part of a slow walk over all values (so that old chunks can be let go), and a
//! *head*, which holds everything small and the shapes of the tables. [`Restoring`] takes a head
//! and all chunks since the start of the last whole walk, in their order. Never here: where they
//! are kept, which of them are needed (`checkpoint`), a clock.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    alert::Alert,
    event::{GroupBy, batch::Position, batch::SourcePartition},
    offsets::Applied,
    rules::{RuleSet, compile, written::WrittenRule},
    window::{Array, Budget, BudgetCounts, Bytes, Damaged, ENTRY_HEAD_BYTES, Table, write_head},
};

use super::{
    Engine, EngineOptions, Stats,
    contexts::Contexts,
    dedup::{Dedup, DedupShape, RestoringDedup},
    episodes::{Episode, EpisodeKey, Episodes},
    evidence::{Near, NearKey, Seen},
    meters::{LanesShape, MeterState},
    outbox::Outbox,
    system::Conditions,
    time::{PartitionTime, SavedTime},
};

/// Bytes after which a chunk is full; one value more may go in.
pub const CHUNK_BYTES: usize = if cfg!(test) { 1024 } else { 512 * 1024 };
/// A walk over all values takes at most this many checkpoints.
pub const WALK_PARTS: usize = 32;
/// Bytes of the walk that a checkpoint writes at least: a small state is written whole each time.
/// In tests so little that a walk takes several checkpoints.
const WALK_BYTES_MIN: usize = if cfg!(test) { 512 } else { 64 * 1024 };
/// Code of evidence in entries, after those of [`Array`].
const NEAR_CODE: u8 = 3;
/// About what an entry of evidence takes.
const NEAR_BYTES: usize = if cfg!(test) { 256 } else { 2048 };
/// Code of what is remembered of sources that retry.
const DEDUP_CODE: u8 = 4;

/// One checkpoint of an engine.
#[derive(Debug)]
pub struct Saved {
    /// Entries, each chunk whole in itself.
    pub chunks: Vec<Vec<u8>>,
    /// JSON.
    pub head: Vec<u8>,
    /// The walk over all values has come to its end with these chunks.
    pub ends_walk: bool,
    /// The chunks hold every value: nothing written before them is needed.
    pub is_whole: bool,
}

/// Where the walk goes on: array of a table, or what comes after the last table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Walk {
    table: u32,
    array: u8,
    number: u32,
}

/// The table that stands in a walk for what is in none.
const NO_TABLE: u32 = u32::MAX;

#[derive(Serialize, Deserialize)]
struct Head {
    rules: Vec<WrittenRule>,
    /// By meter of those rules: identity, tables.
    meters: Vec<(String, Vec<LanesShape>)>,
    budget: BudgetCounts,
    applied: Vec<(SourcePartition, GroupBy, Position)>,
    time: SavedTime,
    episodes: Vec<(EpisodeKey, Episode)>,
    /// Entries of evidence, and the hand of their replacement.
    near: (u32, u32),
    #[serde(default)]
    dedup: DedupShape,
    outbox: Vec<Arc<Alert>>,
    conditions: Conditions,
    stats: Stats,
    walk: Walk,
}

/// Chunks that fill up one after the other.
#[derive(Default)]
struct Chunks {
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
}

impl Chunks {
    fn open(&mut self) -> &mut Vec<u8> {
        if self.open.len() >= CHUNK_BYTES {
            self.full.push(std::mem::take(&mut self.open));
        }
        &mut self.open
    }

    fn finish(mut self) -> Vec<Vec<u8>> {
        if !self.open.is_empty() {
            self.full.push(self.open);
        }
        self.full
    }
}

/// How a checkpoint is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveOptions {
    /// Go on with the walk. False for one between two regular ones, which holds changes only.
    pub walks: bool,
    /// Every alert taken goes out in the same transaction, so it is not kept in the outbox (D4).
    pub publishes: bool,
}

impl Engine {
    /// A checkpoint: what must be kept beside the earlier ones to restore this engine as it is.
    ///
    /// If it could not be kept, call [`Self::save_all_next`] before the next.
    pub fn save(&mut self) -> Saved {
        self.save_with(SaveOptions { walks: true, publishes: false })
    }

    /// As [`Self::save`], for a purpose.
    pub fn save_with(&mut self, options: SaveOptions) -> Saved {
        let mut chunks = Chunks::default();
        let ends_walk = options.walks && self.walk(&mut chunks);
        for (name, table) in self.meters.iter_mut().flat_map(MeterState::tables) {
            for array in Array::ALL {
                for number in table.take_changes(array) {
                    table.save_entry(name, array, number, chunks.open());
                }
            }
        }
        for place in self.near.take_changes() {
            save_near(&mut self.near, place, chunks.open());
        }
        for block in self.dedup.take_changes() {
            save_block(&mut self.dedup, block, chunks.open());
        }
        let is_whole = std::mem::take(&mut self.saves_all);
        Saved { chunks: chunks.finish(), head: self.head(options.publishes), ends_walk, is_whole }
    }

    /// The next [`Self::save`] writes every value, because an earlier one may be lost.
    pub fn save_all_next(&mut self) {
        self.meters.iter_mut().flat_map(MeterState::tables).for_each(|(_, table)| table.mark_all());
        self.near.mark_all();
        self.dedup.mark_all();
        self.walk = Walk::default();
        self.saves_all = true;
    }

    /// Writes the next part of all values; true when that was the last.
    fn walk(&mut self, chunks: &mut Chunks) -> bool {
        let bytes_of = |table: &Table, array| table.entry_bytes(array) * len(table, array);
        let tables = self.meters.iter_mut().flat_map(MeterState::tables);
        let all: usize = tables
            .map(|(_, t)| Array::ALL.map(|array| bytes_of(t, array)).iter().sum::<usize>())
            .sum();
        let all = all
            + self.near.shape().0 as usize * NEAR_BYTES
            + self.dedup.blocks() as usize * Dedup::BLOCK_BYTES;
        let mut left = (all / WALK_PARTS + 1).max(WALK_BYTES_MIN);
        let from = self.walk;
        let mut tables: Vec<_> = self.meters.iter_mut().flat_map(MeterState::tables).collect();
        tables.sort_unstable_by_key(|(name, _)| *name);
        for (name, table) in tables {
            for array in Array::ALL {
                let here = Walk { table: name, array: array.code(), number: 0 };
                let start = match (here.table, here.array).cmp(&(from.table, from.array)) {
                    std::cmp::Ordering::Less => continue,
                    std::cmp::Ordering::Equal => from.number,
                    std::cmp::Ordering::Greater => 0,
                };
                for number in start..table.array_len(array) {
                    let bytes = table.entry_bytes(array);
                    if bytes > left {
                        self.walk = Walk { number, ..here };
                        return false;
                    }
                    left -= bytes;
                    table.save_entry(name, array, number, chunks.open());
                }
            }
        }
        self.walk_on(from, left, chunks)
    }

    /// The walk through what is in no table: evidence, then what may come again.
    fn walk_on(&mut self, from: Walk, mut left: usize, chunks: &mut Chunks) -> bool {
        let parts = [
            (NEAR_CODE, self.near.shape().0, NEAR_BYTES),
            (DEDUP_CODE, self.dedup.blocks(), Dedup::BLOCK_BYTES),
        ];
        for (array, count, bytes) in parts {
            let start = match (NO_TABLE, array).cmp(&(from.table, from.array)) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => from.number,
                std::cmp::Ordering::Greater => 0,
            };
            for number in start..count {
                if bytes > left {
                    self.walk = Walk { table: NO_TABLE, array, number };
                    return false;
                }
                left -= bytes;
                if array == NEAR_CODE {
                    save_near(&mut self.near, number, chunks.open());
                } else {
                    save_block(&mut self.dedup, number, chunks.open());
                }
            }
        }
        self.walk = Walk::default();
        true
    }

    fn head(&self, publishes: bool) -> Vec<u8> {
        let delivered = if publishes { self.outbox.taken() } else { 0 };
        let meters = self.rules.meters.iter().zip(&self.meters);
        let applied = self.applied.positions();
        let head = Head {
            rules: self.rules.written.clone(),
            meters: meters.map(|(meter, state)| (meter.identity.clone(), state.shapes())).collect(),
            budget: self.budget.counts(),
            applied: applied.map(|(source, route, at)| (source.clone(), route, at)).collect(),
            time: self.time.saved(),
            episodes: self.episodes.iter().map(|(key, episode)| (*key, episode.clone())).collect(),
            near: self.near.shape(),
            dedup: self.dedup.shape(),
            outbox: self.outbox.iter().skip(delivered).cloned().collect(),
            conditions: self.conditions.clone(),
            stats: self.stats.clone(),
            walk: self.walk,
        };
        serde_json::to_vec(&head).expect("text keys and plain values have a JSON form")
    }
}

fn len(table: &Table, array: Array) -> usize {
    table.array_len(array) as usize
}

fn save_near(near: &mut Near, place: u32, out: &mut Vec<u8>) {
    let entry = near.save(place);
    let json = serde_json::to_vec(entry).expect("text keys and plain values have a JSON form");
    write_head(out, (NEAR_CODE, 0, place), json.len());
    out.extend(json);
}

fn save_block(dedup: &mut Dedup, block: u32, out: &mut Vec<u8>) {
    let bytes = dedup.save(block);
    write_head(out, (DEDUP_CODE, 0, block), bytes.len());
    out.extend(bytes);
}

/// An engine that is being put together again.
#[derive(Debug)]
pub struct Restoring {
    engine: Engine,
    /// Meter and place in it of each table, by name.
    tables: HashMap<u32, (usize, usize)>,
    near: Vec<Option<(NearKey, Seen)>>,
    near_hand: u32,
    dedup: RestoringDedup,
}

impl Restoring {
    /// Begins with the head of the checkpoint.
    ///
    /// # Errors
    /// It is not one that this version can read.
    pub fn begin(options: EngineOptions, head: &[u8]) -> Result<Self, Damaged> {
        let head: Head =
            serde_json::from_slice(head).map_err(|error| Damaged(format!("head: {error}")))?;
        let rules = Arc::new(compile(&head.rules));
        let same = rules.meters.iter().map(|meter| &meter.identity);
        if !same.eq(head.meters.iter().map(|(identity, _)| identity)) {
            return Err(Damaged("the meters are not those of the rules".to_owned()));
        }
        // Nothing gives way while keys come back.
        let mut budget = Budget::new(u64::MAX);
        budget.restore_counts(head.budget);
        let shapes = rules.meters.iter().zip(&head.meters);
        let mut meters: Vec<MeterState> = shapes
            .map(|(meter, (_, shapes))| MeterState::of_shapes(shapes, meter, &mut budget))
            .collect();
        let mut tables = HashMap::new();
        for (meter, state) in meters.iter_mut().enumerate() {
            for (place, (name, _)) in state.tables().enumerate() {
                tables.insert(name, (meter, place));
            }
        }
        let engine = Engine {
            options,
            meters,
            budget,
            contexts: Contexts::default(),
            applied: applied(&head.applied),
            dedup: Dedup::new(0),
            near: Near::default(),
            episodes: episodes(head.episodes, &rules)?,
            outbox: Outbox::default(),
            time: PartitionTime::restore(head.time),
            stats: stats(head.stats, &rules),
            conditions: head.conditions,
            walk: head.walk,
            saves_all: false,
            context_ids: Vec::new(),
            applied_ids: Vec::new(),
            fingerprints: Vec::new(),
            rules,
        };
        let near = vec![None; head.near.0 as usize];
        let dedup = RestoringDedup::begin(head.dedup)?;
        let mut restoring = Self { engine, tables, near, near_hand: head.near.1, dedup };
        restoring.engine.outbox.restore(head.outbox);
        Ok(restoring)
    }

    /// Puts the values of one chunk back.
    ///
    /// # Errors
    /// It cannot be a chunk of this engine.
    pub fn chunk(&mut self, chunk: &[u8]) -> Result<(), Damaged> {
        let mut bytes = Bytes(chunk);
        while !bytes.0.is_empty() {
            let (code, table, number) = (bytes.u8()?, bytes.u32()?, bytes.u32()?);
            let len = bytes.u32()? as usize;
            let mut value = Bytes(bytes.take(len)?);
            if code == NEAR_CODE {
                // A place that was given up later is of no more use.
                if let Some(place) = self.near.get_mut(number as usize) {
                    let entry = serde_json::from_slice(value.0);
                    *place = Some(entry.map_err(|error| Damaged(format!("evidence: {error}")))?);
                }
                continue;
            }
            if code == DEDUP_CODE {
                self.dedup.block(number, &mut value)?;
                continue;
            }
            let array = Array::ALL.into_iter().find(|array| array.code() == code);
            let array = array.ok_or_else(|| Damaged(format!("entry of kind {code}")))?;
            // A table whose window went with a change of rules.
            let Some(&(meter, place)) = self.tables.get(&table) else { continue };
            let (_, table) = self.engine.meters[meter].tables().nth(place).expect("counted above");
            debug_assert!(
                array == Array::Cells || table.entry_bytes(array) == len + ENTRY_HEAD_BYTES
            );
            table.restore_entry(array, number, &mut value)?;
        }
        Ok(())
    }

    /// All chunks are back: the engine as it was saved.
    ///
    /// # Errors
    /// Values are missing or do not belong together.
    pub fn finish(self) -> Result<Engine, Damaged> {
        let Self { mut engine, near, near_hand, dedup, .. } = self;
        for (_, table) in engine.meters.iter_mut().flat_map(MeterState::tables) {
            table.end_restore(&mut engine.budget)?;
        }
        engine.budget.set_limit_bytes(engine.options.memory_limit);
        let meters = engine.meters.len();
        let near: Option<Vec<(NearKey, Seen)>> = near.into_iter().collect();
        let near = near.filter(|near| near.iter().all(|((meter, _), _)| *meter < meters));
        let near = near.ok_or_else(|| Damaged("evidence is missing".to_owned()))?;
        engine.near = Near::restore(near, near_hand);
        engine.dedup = dedup.finish(engine.options.dedup_entries)?;
        engine.time.set_due(engine.episodes.next_due());
        Ok(engine)
    }
}

fn applied(positions: &[(SourcePartition, GroupBy, Position)]) -> Applied {
    let mut applied = Applied::default();
    for (source, route, position) in positions {
        let id = applied.id(source, *route);
        applied.advance(id, *position);
    }
    applied
}

fn episodes(saved: Vec<(EpisodeKey, Episode)>, rules: &RuleSet) -> Result<Episodes, Damaged> {
    let mut episodes = Episodes::default();
    for (key, episode) in saved {
        let meter = rules.rules.get(key.0).map(|rule| &rules.meters[rule.meter]);
        let limits = meter.map_or(0, |meter| meter.limits.len());
        if episode.crossed.iter().any(|crossed| crossed.limit >= limits) {
            return Err(Damaged("an episode has a limit that its rule has not".to_owned()));
        }
        episodes.put(key, episode);
    }
    Ok(episodes)
}

fn stats(mut stats: Stats, rules: &RuleSet) -> Stats {
    stats.matched.resize(rules.meters.len(), 0);
    stats
}
