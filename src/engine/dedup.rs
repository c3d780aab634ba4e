//! Events that a source sent again: at another place of the log, with the same id and content.
//!
//! D1 knows a row by its place, so it cannot know these. Rows of sources that retry are compared
//! with the last [`Dedup::capacity`] of them in this partition, by fingerprints of 128 bits over
//! everything that makes a repeat. No filter that may err: a false hit would lose a read. What is
//! remembered follows the log alone and is part of every checkpoint, so it outlives its process.
//!
//! The oldest entry gives way to a new one. All memory is taken at the first row that needs it;
//! after that a row allocates nothing and costs the same however many share one id. Never here:
//! rows without an id, a clock.

mod fingerprint;
mod places;
mod save;
#[cfg(test)]
mod tests;

use crate::{units::EventTime, window::Changes};

pub(super) use fingerprint::{Fingerprint, SourceHash};
pub(super) use save::{DedupShape, RestoringDedup};

use places::Places;

/// Most entries a partition may remember.
pub const ENTRIES_MAX: usize = Places::PLACES_MAX;
/// Entries that are saved together.
const BLOCK: usize = if cfg!(test) { 4 } else { 64 };

/// What is remembered of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    fingerprint: Fingerprint,
    /// Broker time of its message.
    at: EventTime,
}

const _: () = assert!(size_of::<Entry>() == 32);

/// What a row is to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sighting {
    /// Nothing remembered has its id.
    New,
    /// The same event was there before.
    Repeated,
    /// Another event with its id was.
    Reused,
}

/// The rows of one partition that may come again.
#[derive(Debug)]
pub struct Dedup {
    capacity: usize,
    /// A ring once it is full.
    entries: Vec<Entry>,
    /// Place of the oldest entry, which gives way next, in a full ring.
    hand: usize,
    evicted: u64,
    by_content: Places,
    /// The newest entry of each id.
    by_id: Places,
    /// Blocks that changed since they were saved last.
    changes: Changes,
}

impl Dedup {
    /// One that remembers up to `capacity` rows and takes no memory yet; 0 is off.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.min(ENTRIES_MAX),
            entries: Vec::new(),
            hand: 0,
            evicted: 0,
            by_content: Places::default(),
            by_id: Places::default(),
            changes: Changes::new(),
        }
    }

    /// Starts loading what [`Self::see`] will look at for the row that comes after `before` others.
    #[inline]
    pub(super) fn prefetch(&self, fingerprint: Fingerprint, before: usize) {
        self.by_content.prefetch(fingerprint.content_hash());
        self.by_id.prefetch(fingerprint.id);
        if self.entries.len() == self.capacity {
            let gone = self.entries[(self.hand + before) % self.capacity].fingerprint;
            self.by_content.prefetch(gone.content_hash());
            self.by_id.prefetch(gone.id);
        }
    }

    /// Compares a row with those before it, and remembers it unless it is a repeat.
    pub(super) fn see(&mut self, fingerprint: Fingerprint, at: EventTime) -> Sighting {
        debug_assert!(self.capacity > 0, "the engine does not ask where it is off");
        if self.find(fingerprint).is_some() {
            return Sighting::Repeated;
        }
        let entry = Entry { fingerprint, at };
        let (place, gone) = if self.entries.len() < self.capacity {
            self.reserve();
            self.entries.push(entry);
            (self.entries.len() - 1, None)
        } else {
            let place = self.hand;
            let gone = self.evict(place);
            self.entries[place] = entry;
            self.hand = (place + 1) % self.capacity;
            (place, Some(gone))
        };
        let known = self.put(place);
        self.changes.mark(place / BLOCK);
        // The one that gave way was still remembered when this row came.
        let reused = known || gone.is_some_and(|gone| gone.id == fingerprint.id);
        if reused { Sighting::Reused } else { Sighting::New }
    }

    fn find(&self, fingerprint: Fingerprint) -> Option<usize> {
        let entries = &self.entries;
        let same = |place: usize| entries[place].fingerprint.content == fingerprint.content;
        self.by_content.find(fingerprint.content_hash(), same)
    }

    /// Takes all memory there is to be taken, once.
    fn reserve(&mut self) {
        if self.entries.capacity() == 0 {
            self.entries.reserve_exact(self.capacity);
            self.by_content = Places::for_entries(self.capacity);
            self.by_id = Places::for_entries(self.capacity);
            self.changes.grow(self.capacity.div_ceil(BLOCK));
        }
    }

    /// Makes the entry at `place` findable. True when another with its id was remembered.
    fn put(&mut self, place: usize) -> bool {
        let entries = &self.entries;
        let Fingerprint { id, .. } = entries[place].fingerprint;
        self.by_content.insert(entries[place].fingerprint.content_hash(), place);
        self.by_id.replace(id, place, |other| entries[other].fingerprint.id == id)
    }

    /// Forgets the entry at `place`.
    fn evict(&mut self, place: usize) -> Fingerprint {
        let gone = self.entries[place].fingerprint;
        self.by_content.remove(gone.content_hash(), place);
        // A newer entry with this id may have taken its place there.
        self.by_id.remove(gone.id, place);
        self.evicted += 1;
        gone
    }

    /// From the oldest to the newest.
    fn in_order(&self) -> impl Iterator<Item = &Entry> {
        let (newer, older) = self.entries.split_at(self.hand);
        older.iter().chain(newer)
    }

    /// How far back repeats are known at `now`, in milliseconds; `None` while nothing was
    /// forgotten, so that every repeat is known.
    #[must_use]
    pub fn horizon_ms(&self, now: EventTime) -> Option<i64> {
        let oldest = self.in_order().next().filter(|_| self.evicted > 0)?;
        Some(now.millis().saturating_sub(oldest.at.millis()).max(0))
    }

    /// Most rows remembered.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Rows remembered.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// True before the first row of a source that retries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Rows forgotten for newer ones.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Memory it takes, which no budget of windows includes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let entries = self.entries.capacity() * size_of::<Entry>();
        (entries + self.by_content.bytes() + self.by_id.bytes()) as u64
    }
}
