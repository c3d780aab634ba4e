//! How far one assignment of a partition has come: kept by its worker, read by the poll thread, and
//! committed for whoever watches the group.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::kafka::group::Committed;

/// Stands beside a committed offset of which no checkpoint exists. Not the other way round: an
/// offset moved by hand, which has no note, must not hide that a checkpoint is gone.
const UNSAVED: &str = "no checkpoint yet";

/// See the module.
#[derive(Debug)]
pub(super) struct Progress {
    next: AtomicI64,
    is_saved: AtomicBool,
}

impl Progress {
    /// Reading goes on at offset `next`; `is_saved`: from a checkpoint.
    pub(super) const fn new(next: i64, is_saved: bool) -> Self {
        Self { next: AtomicI64::new(next), is_saved: AtomicBool::new(is_saved) }
    }

    /// Everything before this offset is applied.
    pub(super) fn next(&self) -> i64 {
        self.next.load(Ordering::Acquire)
    }

    /// Everything before `next` is applied.
    pub(super) fn advance_to(&self, next: i64) {
        self.next.store(next, Ordering::Release);
    }

    /// A checkpoint of the partition was kept.
    pub(super) fn saved(&self) {
        self.is_saved.store(true, Ordering::Release);
    }

    /// What the group is told.
    pub(super) fn committed(&self) -> Committed {
        let is_saved = self.is_saved.load(Ordering::Acquire);
        let note = if is_saved { String::new() } else { UNSAVED.to_owned() };
        Committed { offset: self.next(), note }
    }
}

/// A partition with this committed offset had a checkpoint once, as far as the group knows.
pub(super) fn was_saved(committed: &Committed) -> bool {
    committed.offset > 0 && committed.note != UNSAVED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_says_that_there_was_a_checkpoint_once_there_was_one() {
        let progress = Progress::new(0, false);
        progress.advance_to(7);
        assert_eq!(progress.committed().offset, 7);
        assert!(!was_saved(&progress.committed()));
        progress.saved();
        assert!(was_saved(&progress.committed()));
        assert!(was_saved(&Progress::new(7, true).committed()));
    }

    #[test]
    fn an_offset_that_was_moved_by_hand_does_not_hide_that_a_checkpoint_is_gone() {
        assert!(was_saved(&Committed { offset: 7, note: String::new() }));
    }

    #[test]
    fn a_partition_of_which_nothing_was_read_had_no_checkpoint() {
        assert!(!was_saved(&Progress::new(0, true).committed()));
    }
}
