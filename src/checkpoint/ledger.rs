//! Which records are needed, which are written next, and which can go.

use super::{Kind, Manifest, Named, Origin, seal};
use crate::engine::{CHUNK_BYTES, Saved};

/// Heads and manifests have as many keys: two are needed, one is being written.
const KEPT: u64 = 4;

/// A record to write. Without a value it deletes what has its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Kafka key.
    pub key: String,
    /// Kafka value.
    pub value: Option<Vec<u8>>,
}

/// What one owner of a state partition knows of the records in it.
#[derive(Clone, Debug)]
pub struct Ledger {
    origin: Origin,
    /// Named by the last manifest, ascending.
    chunks: Vec<Named>,
    walk_from: u64,
    next_chunk: u64,
    next_number: u64,
    /// Chunks that only the manifest before the last one may name, and those of a failed attempt.
    idle: Vec<u64>,
    /// The next checkpoint must hold every value.
    needs_all: bool,
    /// The last one that is known to be kept.
    last: Option<Manifest>,
    /// Of an attempt whose fate is not known.
    doubt: Option<Manifest>,
}

/// What became of an attempt whose fate was not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was committed after all, and with it the alerts in its transaction (D4).
    Kept,
    /// Nothing of it is there.
    Lost,
    /// Somebody else has written meanwhile, so what we count is not what is kept.
    Superseded,
}

/// A checkpoint on its way: [`Self::records`] go out first, then what [`Self::seal`] makes of
/// their offsets; [`Ledger::commit`] or [`Ledger::fail`] ends it.
#[derive(Debug)]
pub struct Draft {
    keys: Vec<String>,
    values: Vec<Vec<u8>>,
    checksums: Vec<u64>,
    /// How many of the records are chunks; the others are parts of the head.
    chunks: usize,
    manifest: Manifest,
    deleted: Vec<u64>,
}

impl Draft {
    /// Chunks and head, to be written in this order.
    pub fn records(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.keys.iter().map(String::as_str).zip(self.values.iter().map(Vec::as_slice))
    }

    /// The manifest, now that the offsets of [`Self::records`] are known, and what can be deleted.
    pub fn seal(&mut self, offsets: &[i64]) -> Vec<Record> {
        debug_assert_eq!(offsets.len(), self.values.len());
        for (at, (&offset, &checksum)) in offsets.iter().zip(&self.checksums).enumerate() {
            if at < self.chunks {
                let number = self.manifest.next_chunk - (self.chunks - at) as u64;
                self.manifest.chunks.push(Named { number, offset, checksum });
            } else {
                let number = (at - self.chunks) as u64;
                self.manifest.head.push(Named { number, offset, checksum });
            }
        }
        let partition = self.manifest.origin.partition;
        let delete = |chunk: &u64| Record { key: chunk_key(partition, *chunk), value: None };
        let mut records: Vec<Record> = self.deleted.iter().map(delete).collect();
        let place = self.manifest.number % KEPT;
        records.push(Record {
            key: format!("{partition}/manifest/{place}"),
            value: Some(self.manifest.to_record()),
        });
        records
    }

    /// Bytes of chunks and head.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.values.iter().map(Vec::len).sum()
    }
}

impl Ledger {
    /// Of a partition without a checkpoint. Numbers begin at `next`, past any that were ever used.
    #[must_use]
    pub const fn new(origin: Origin, next: u64) -> Self {
        Self {
            origin,
            chunks: Vec::new(),
            walk_from: next,
            next_chunk: next,
            next_number: next,
            idle: Vec::new(),
            needs_all: false,
            last: None,
            doubt: None,
        }
    }

    /// Goes on after a restore from `manifest`.
    #[must_use]
    pub fn after(manifest: &Manifest, origin: Origin) -> Self {
        Self {
            origin,
            chunks: manifest.chunks.clone(),
            walk_from: manifest.walk_from,
            next_chunk: manifest.next_chunk,
            next_number: manifest.number + 1,
            idle: manifest.idle.clone(),
            needs_all: false,
            last: Some(manifest.clone()),
            doubt: None,
        }
    }

    /// True after a failed attempt: the engine must save every value (`Engine::save_all_next`).
    #[must_use]
    pub const fn needs_all(&self) -> bool {
        self.needs_all
    }

    /// Begins a checkpoint that covers everything before `covered`.
    #[must_use]
    pub fn draft(&self, saved: Saved, covered: i64, topic_id: &str, revision: &str) -> Draft {
        debug_assert!(saved.is_whole || !self.needs_all, "`needs_all` was not heeded");
        let partition = self.origin.partition;
        let (mut keys, mut values, mut checksums) = (Vec::new(), Vec::new(), Vec::new());
        let mut push = |key: String, kind, payload: &[u8]| {
            let (record, checksum) = seal(kind, payload);
            keys.push(key);
            values.push(record);
            checksums.push(checksum);
        };
        let first = self.next_chunk;
        let chunks = saved.chunks.len();
        // Each is let go once it is sealed: together they may be as large as the state.
        for (chunk, number) in saved.chunks.into_iter().zip(first..) {
            push(chunk_key(partition, number), Kind::Chunk, &chunk);
        }
        let place = self.next_number % KEPT;
        for (part, payload) in saved.head.chunks(CHUNK_BYTES).enumerate() {
            push(format!("{partition}/head/{place}/{part}"), Kind::Head, payload);
        }
        let next_chunk = first + chunks as u64;
        // Everything is in what was written since a whole walk began, or in this one alone.
        let needed_from = match (saved.is_whole, saved.ends_walk) {
            (true, _) => first,
            (false, true) => self.walk_from,
            (false, false) => 0,
        };
        let kept = self.chunks.iter().filter(|named| named.number >= needed_from);
        let walk_from = match (saved.is_whole, saved.ends_walk) {
            (_, true) => next_chunk,
            (true, false) => first,
            (false, false) => self.walk_from,
        };
        Draft {
            chunks,
            manifest: Manifest {
                origin: self.origin.clone(),
                topic_id: topic_id.to_owned(),
                number: self.next_number,
                covered,
                revision: revision.to_owned(),
                head: Vec::new(),
                chunks: kept.copied().collect(),
                walk_from,
                next_chunk,
                idle: self
                    .chunks
                    .iter()
                    .map(|it| it.number)
                    .filter(|it| *it < needed_from)
                    .collect(),
            },
            deleted: self.idle.clone(),
            keys,
            values,
            checksums,
        }
    }

    /// The sealed draft is committed.
    pub fn commit(&mut self, draft: Draft) {
        let manifest = draft.manifest;
        // The manifest before this one may still name them: they go with the next checkpoint.
        self.idle.clone_from(&manifest.idle);
        self.chunks.clone_from(&manifest.chunks);
        self.walk_from = manifest.walk_from;
        self.next_chunk = manifest.next_chunk;
        self.next_number = manifest.number + 1;
        self.needs_all = false;
        self.last = Some(manifest);
        self.doubt = None;
    }

    /// Nobody knows whether the draft was committed: its numbers are not used again, and nothing
    /// is deleted until a later one is committed.
    pub fn fail(&mut self, draft: &Draft) {
        let manifest = &draft.manifest;
        // Should it have been committed, these are in a manifest that is soon not of the last two.
        self.chunks.extend((self.next_chunk..manifest.next_chunk).map(|number| Named {
            number,
            offset: -1,
            checksum: 0,
        }));
        self.next_chunk = manifest.next_chunk;
        self.needs_all = true;
        self.doubt = Some(manifest.clone());
    }

    /// An attempt has failed and [`Self::resolve`] was not called since.
    #[must_use]
    pub const fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// The fate of the failed attempt. `newest` is the newest manifest, read after a claim, when
    /// nothing under way can appear or vanish any more. Its offsets tell it from that of any other
    /// attempt.
    pub fn resolve(&mut self, newest: Option<&Manifest>) -> Fate {
        if newest == self.last.as_ref() {
            self.doubt = None;
            return Fate::Lost;
        }
        // Whoever was superseded stays in doubt, so that it never writes again.
        let Some(kept) = self.doubt.take_if(|doubt| Some(&*doubt) == newest) else {
            return Fate::Superseded;
        };
        // Its number is in use. What only the manifest before it names stays for one more round:
        // nobody has seen the end of its transaction.
        self.next_number = kept.number + 1;
        self.last = Some(kept);
        Fate::Kept
    }
}

fn chunk_key(partition: i32, number: u64) -> String {
    format!("{partition}/chunk/{number}")
}
