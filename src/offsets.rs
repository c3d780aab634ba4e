//! What is safe to commit, and what was applied already.
//!
//! [`Commits`] is ingest's: an offset may be committed once everything flushed up to it is
//! acknowledged. [`Applied`] is detect's: the highest row applied per source partition and route,
//! by which a redelivered row is known (D1). Never here: Kafka.

use std::collections::{HashMap, VecDeque};

use crate::event::{
    GroupBy,
    batch::{Position, SourcePartition},
};

/// Number of a flush: everything that was buffered then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlushId(u64);

/// Flushes under way, oldest first, each with the positions it makes safe.
///
/// Call order: [`Self::open`], [`Self::sent`] for each message of the flush, [`Self::close`], then
/// [`Self::acked`] as acknowledgements come, in any order, also before the close.
#[derive(Debug)]
pub struct Commits<S> {
    first: u64,
    open: VecDeque<Flush<S>>,
}

#[derive(Debug)]
struct Flush<S> {
    positions: S,
    pending: u64,
    closed: bool,
}

impl<S> Default for Commits<S> {
    fn default() -> Self {
        Self { first: 0, open: VecDeque::new() }
    }
}

impl<S> Commits<S> {
    /// Starts a flush after which `positions` are processed.
    pub fn open(&mut self, positions: S) -> FlushId {
        self.open.push_back(Flush { positions, pending: 0, closed: false });
        FlushId(self.first + self.open.len() as u64 - 1)
    }

    /// A message of this flush was handed to the producer.
    pub fn sent(&mut self, flush: FlushId) {
        if let Some(flush) = self.get(flush) {
            flush.pending += 1;
        }
    }

    /// No more messages will be sent for this flush.
    pub fn close(&mut self, flush: FlushId) {
        if let Some(flush) = self.get(flush) {
            flush.closed = true;
        }
    }

    /// A message of this flush was acknowledged. One of a forgotten flush changes nothing.
    pub fn acked(&mut self, flush: FlushId) {
        if let Some(flush) = self.get(flush) {
            flush.pending = flush.pending.saturating_sub(1);
        }
    }

    /// The positions of the newest flush of which it and all before it are acknowledged, once.
    pub fn safe(&mut self) -> Option<S> {
        let mut safe = None;
        while self.open.front().is_some_and(|flush| flush.closed && flush.pending == 0) {
            safe = self.open.pop_front().map(|flush| flush.positions);
            self.first += 1;
        }
        safe
    }

    /// Flushes that are not safe yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.open.len()
    }

    /// Forgets every flush, after a failed delivery: what was read since is read again.
    pub fn reset(&mut self) {
        self.first += self.open.len() as u64;
        self.open.clear();
    }

    fn get(&mut self, flush: FlushId) -> Option<&mut Flush<S>> {
        let index = flush.0.checked_sub(self.first)?;
        self.open.get_mut(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
thread_local! {
    static IGNORES_DUPLICATES: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
}

/// Switches a guard of this thread off and on, so that a simulation can show that it is missed.
#[cfg(test)]
pub(crate) fn ignore_duplicates(on: bool) {
    IGNORES_DUPLICATES.set(on);
}

/// The highest row applied per source partition and route.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    ids: HashMap<(SourcePartition, GroupBy), usize>,
    highest: Vec<Option<Position>>,
}

impl Applied {
    /// A number for this source partition on this route, good for the life of this table.
    pub fn id(&mut self, source: &SourcePartition, route: GroupBy) -> usize {
        let next = self.highest.len();
        let id = *self.ids.entry((source.clone(), route)).or_insert(next);
        if id == next {
            self.highest.push(None);
        }
        id
    }

    /// Whether [`Self::id`] has given out a number for it.
    #[must_use]
    pub fn knows(&self, source: &SourcePartition, route: GroupBy) -> bool {
        self.ids.contains_key(&(source.clone(), route))
    }

    /// Another topic of the same name, which was there before, and the highest row applied of its
    /// partition on any route.
    #[must_use]
    pub fn namesake(&self, source: &SourcePartition) -> Option<(&SourcePartition, Position)> {
        let former = |known: &SourcePartition| {
            (&known.cluster, &known.topic, known.partition)
                == (&source.cluster, &source.topic, source.partition)
                && known.topic_id != source.topic_id
        };
        let known = self.positions().filter(|(known, _, _)| former(known));
        known.map(|(known, _, highest)| (known, highest)).max_by_key(|(_, highest)| *highest)
    }

    /// True the first time a row comes; false for a row at or before one that came already.
    #[inline]
    pub fn advance(&mut self, id: usize, position: Position) -> bool {
        let highest = &mut self.highest[id];
        let new = highest.is_none_or(|highest| position > highest);
        #[cfg(test)]
        let new = new || !IGNORES_DUPLICATES.get();
        if new {
            *highest = Some(position);
        }
        new
    }

    /// The highest row applied of a number given out by [`Self::id`].
    #[must_use]
    pub fn highest(&self, id: usize) -> Option<Position> {
        self.highest[id]
    }

    /// The highest row applied, per source partition and route.
    pub fn positions(&self) -> impl Iterator<Item = (&SourcePartition, GroupBy, Position)> {
        self.ids.iter().filter_map(|((source, route), &id)| {
            self.highest[id].map(|position| (source, *route, position))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Offset;

    #[test]
    fn a_position_is_safe_only_when_all_before_it_is_acknowledged() {
        let mut commits = Commits::default();
        let first = commits.open("a");
        commits.sent(first);
        commits.close(first);
        let second = commits.open("b");
        commits.sent(second);
        commits.close(second);
        commits.acked(second);
        assert_eq!(commits.safe(), None);
        commits.acked(first);
        assert_eq!(commits.safe(), Some("b"));
        assert_eq!(commits.safe(), None);
    }

    #[test]
    fn an_acknowledgement_before_the_close_does_not_make_the_flush_safe() {
        let mut commits = Commits::default();
        let flush = commits.open(());
        commits.sent(flush);
        commits.acked(flush);
        assert_eq!(commits.safe(), None);
        commits.close(flush);
        assert_eq!(commits.safe(), Some(()));
    }

    #[test]
    fn an_acknowledgement_from_before_a_reset_makes_nothing_safe() {
        let mut commits = Commits::default();
        let lost = commits.open(1);
        commits.sent(lost);
        commits.close(lost);
        commits.reset();
        let next = commits.open(2);
        commits.sent(next);
        commits.close(next);
        commits.acked(lost);
        assert_eq!(commits.safe(), None);
        commits.acked(next);
        assert_eq!(commits.safe(), Some(2));
    }

    fn at(offset: i64, row: u32, object: u16) -> Position {
        Position { offset: Offset(offset), row, object }
    }

    #[test]
    fn a_row_is_new_once_and_every_part_of_its_position_counts() {
        let mut applied = Applied::default();
        let source = SourcePartition::default();
        let id = applied.id(&source, GroupBy::Object);
        for position in [at(0, 0, 0), at(0, 0, 1), at(0, 1, 0), at(1, 0, 0)] {
            assert!(applied.advance(id, position));
            assert!(!applied.advance(id, position));
        }
        assert!(!applied.advance(id, at(0, 1, 0)));
    }

    #[test]
    fn routes_and_source_partitions_are_remembered_apart() {
        let mut applied = Applied::default();
        let source = SourcePartition::default();
        let other = SourcePartition { partition: 1, ..source.clone() };
        let ids = [
            applied.id(&source, GroupBy::Object),
            applied.id(&source, GroupBy::PrincipalId),
            applied.id(&other, GroupBy::Object),
        ];
        assert!(ids.iter().all(|&id| applied.advance(id, at(5, 0, 0))));
        assert_eq!(applied.id(&source, GroupBy::Object), ids[0]);
        assert_eq!(applied.positions().count(), 3);
    }
}
